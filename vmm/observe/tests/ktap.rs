//! The console of a guest that ran the designs' self-tests: KASAN's reports and a revoke that hangs between the results.

use plugstorm_observe::ktap::{Event, Reader};

const CONSOLE: &[u8] = include_bytes!("ktap/designs-6.12.log");

#[test]
fn the_report_of_a_real_guest_is_read() {
    let (mut suites, mut reader) = (0, Reader::new());
    for piece in CONSOLE.chunks(1000) {
        reader.push(piece, |event| suites += u32::from(matches!(event, Event::Test(test) if test.is_parent)));
    }
    assert!(reader.is_complete());
    let totals = reader.finish(|_| {});
    assert_eq!((totals.passed, totals.failed, totals.skipped), (127, 23, 4));
    assert_eq!((totals.missing, totals.unplanned, suites), (0, 0, 14));
}
