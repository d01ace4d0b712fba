use super::*;
use crate::virtio::VirtioError;
use crate::virtio::test_driver::{DEVICE, WRITE};

#[test]
fn configuration_and_reads_out_of_its_bounds() {
    let guest = Guest::new();
    assert_eq!(guest.driver.read16(DEVICE), 8);
    assert_eq!(guest.driver.read16(DEVICE + 2), 0);
    assert_eq!(guest.driver.read32(DEVICE + 4), 6 + 1 + 12 + 5);
    let mut wide = [0xee; 8];
    guest.driver.read(DEVICE + 4, &mut wide);
    assert_eq!(wide[4..], [0; 4], "the read reaches beyond the end");
    assert_eq!(guest.driver.read32(DEVICE + 8), 0);
    assert_eq!(guest.driver.read32(DEVICE + 0xffc), 0);
    guest.driver.write16(DEVICE, 9);
    assert_eq!(guest.driver.read16(DEVICE), 8, "read-only");
}

#[test]
fn names_are_one_block() {
    let mut guest = Guest::new();
    let block = b"reset\0\0card detect\0\0\0\0\0\0";
    let posted = guest.driver.post(0, &[1, 0, 0, 0, 0, 0, 0, 0], 1 + block.len());
    guest.driver.kick(0);
    assert_eq!(guest.driver.used(0), Some((posted.head, 1 + block.len() as u32)));
    let answer = guest.driver.answer(posted);
    assert_eq!((answer[0], &answer[1..]), (OK, &block[..]));
    assert_eq!(guest.ask(1, 0, 0), (ERROR, 0), "a buffer without room for the names");
    let mut unnamed = Guest::with(&GpioConfig { lines: 8, names: None, irq: true });
    assert_eq!(unnamed.driver.read32(DEVICE + 4), 0);
    assert_eq!(unnamed.ask(1, 0, 0), (ERROR, 0));
}

#[test]
fn directions_are_kept() {
    let mut guest = Guest::new();
    for direction in [0, 1, 2, 0] {
        assert_eq!(guest.ask(3, 5, direction), (OK, 0));
        assert_eq!(guest.ask(2, 5, 0), (OK, direction as u8));
    }
    assert_eq!(guest.ask(3, 5, 3), (ERROR, 0));
    assert_eq!(guest.ask(2, 4, 0), (OK, 0), "the neighbour is untouched");
}

#[test]
fn a_value_set_before_direction_out_counts_from_then_on() {
    let mut guest = Guest::new();
    assert_eq!(guest.ask(5, 1, 1), (OK, 0));
    assert_eq!(guest.handle.level(1), Some(false), "not yet on the wire");
    assert_eq!(guest.ask(4, 1, 0), (OK, 0));
    assert_eq!(guest.ask(3, 1, 1), (OK, 0));
    assert_eq!(guest.handle.level(1), Some(true));
    assert_eq!(guest.ask(4, 1, 0), (OK, 1));
    assert_eq!(guest.ask(5, 1, 2), (ERROR, 0));
}

#[test]
fn an_input_is_what_the_host_drives() {
    let mut guest = Guest::new();
    guest.ask(3, 2, 2);
    guest.handle.set_level(2, true).unwrap();
    assert_eq!(guest.ask(4, 2, 0), (OK, 1));
    guest.handle.set_level(2, false).unwrap();
    assert_eq!(guest.ask(4, 2, 0), (OK, 0));
    guest.handle.pattern(2, &[true, false, true]).unwrap();
    assert_eq!(guest.ask(4, 2, 0), (OK, 1));
}

#[test]
fn direction_none_forgets_the_line() {
    let mut guest = Guest::new();
    guest.ask(5, 1, 1);
    guest.ask(3, 1, 2);
    guest.ask(6, 1, 1);
    let buffer = guest.unmask(1);
    guest.ask(3, 1, 0);
    assert_eq!(guest.event(buffer), Some(0), "the buffer comes back as invalid");
    let line = guest.handle.line(1).unwrap();
    assert!(!line.output && !line.unmasked && !line.latched);
    assert_eq!((line.direction, line.trigger), (Direction::None, Trigger::None));
}

#[test]
fn a_line_out_of_range_is_an_error() {
    let mut guest = Guest::new();
    for line in [8, 9, 0x7fff, 0xffff] {
        for kind in 2..=6 {
            assert_eq!(guest.ask(kind, line, 0), (ERROR, 0));
        }
        let buffer = guest.unmask(line);
        assert_eq!(guest.event(buffer), Some(0));
        assert!(matches!(guest.handle.set_level(line, true), Err(VirtioError::NoSuchLine { last: 7, .. })));
        assert!(guest.handle.pulse(line).is_err());
        assert_eq!(guest.handle.level(line), None);
    }
    assert_eq!(guest.handle.counters().errors, 20);
}

#[test]
fn an_unknown_request_is_an_error() {
    let mut guest = Guest::new();
    for kind in [0, 7, 0xffff] {
        assert_eq!(guest.ask(kind, 0, 0), (ERROR, 0));
    }
    assert_eq!(guest.handle.counters().requests(RequestKind::Unknown), 3);
}

#[test]
fn a_malformed_chain_in_the_middle_of_a_batch() {
    let mut guest = Guest::new();
    let first = guest.post(3, 0, 2);
    let short = guest.driver.post(0, &[4, 0, 0, 0, 0], 2);
    let mute = guest.driver.post(0, &[4, 0, 0, 0, 0, 0, 0, 0], 0);
    let narrow = guest.driver.post(0, &[5, 0, 0, 0, 1, 0, 0, 0], 1);
    let outside = guest.driver.post_chain(0, &[(0x7fff_0000, 8, 0), (0x1000, 2, WRITE)]);
    let last = guest.post(2, 0, 0);
    guest.driver.kick(0);
    let used: Vec<_> = std::iter::from_fn(|| guest.driver.used(0)).collect();
    let expected = [(first.head, 2), (short.head, 2), (mute.head, 0), (narrow.head, 1), (outside, 0), (last.head, 2)];
    assert_eq!(used, expected);
    assert_eq!(guest.answer(short), (ERROR, 0));
    assert_eq!(guest.driver.answer(narrow), [ERROR]);
    assert_eq!(guest.answer(last), (OK, 2));
    assert!(!guest.handle.line(0).unwrap().output, "a request without room for its answer is not carried out");
    assert_eq!(guest.handle.counters().malformed, 3);
    assert_eq!(guest.handle.state().malformed_chains, 1);
}

#[test]
fn several_requests_for_one_line_are_answered_in_order() {
    let mut guest = Guest::new();
    let posted: Vec<_> =
        [(3, 1), (5, 1), (4, 0), (5, 0), (4, 0)].map(|(kind, value)| guest.post(kind, 3, value)).into();
    guest.driver.kick(0);
    for (posted, value) in posted.into_iter().zip([0, 0, 1, 0, 0]) {
        assert_eq!(guest.driver.used(0), Some((posted.head, 2)));
        assert_eq!(guest.answer(posted), (OK, value));
    }
    assert_eq!(guest.driver.messages.take(), [1], "one interrupt for all");
}

#[test]
fn requests_are_counted_by_kind() {
    let mut guest = Guest::new();
    for kind in [2, 4, 4, 5] {
        guest.ask(kind, 0, 0);
    }
    let counters = guest.handle.counters();
    assert_eq!(RequestKind::ALL.map(|kind| counters.requests(kind)), [0, 1, 0, 2, 1, 0, 0]);
    assert_eq!((counters.all_requests(), counters.answers, counters.errors), (4, 4, 0));
}

#[test]
fn refuses_lines_that_cannot_be() {
    let config = |lines, names| GpioDevice::new(&GpioConfig { lines, names, irq: true });
    assert!(matches!(config(0, None), Err(VirtioError::LineCount { .. })));
    assert!(matches!(config(MAX_LINES + 1, None), Err(VirtioError::LineCount { .. })));
    for bad in [&["a", "a"][..], &["\0"], &["é"], &["a", "b", "c"]] {
        assert!(matches!(config(2, names(bad)), Err(VirtioError::LineName { .. })), "{bad:?}");
    }
    assert!(config(2, names(&["", ""])).is_ok());
}

#[test]
fn as_many_lines_as_there_can_be() {
    let mut guest = Guest::with(&GpioConfig { lines: MAX_LINES, names: None, irq: false });
    assert_eq!(guest.driver.queues.len(), 1, "no event queue without interrupts");
    assert_eq!(guest.ask(5, MAX_LINES - 1, 1), (OK, 0));
    assert_eq!(guest.ask(6, 0, 1), (ERROR, 0), "no interrupts without the feature");
}
