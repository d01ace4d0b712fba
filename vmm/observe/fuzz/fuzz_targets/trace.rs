//! Lines of `trace_pipe`: read, paired into spans, reported and rendered.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugstorm_observe::timing::{Timings, render_histogram};
use plugstorm_observe::trace::{parse_line, parse_lost};

fuzz_target!(|text: &str| {
    let mut timings = Timings::new(2_000_000_u32);
    for line in text.lines() {
        if let Some(event) = parse_line(line) {
            let _ = event.caller();
            timings.push(&event);
        }
        if let Some(lost) = parse_lost(line) {
            timings.lost(lost);
        }
    }
    let _ = timings.open();
    let report = timings.report();
    for span in &report.spans {
        let _ = render_histogram(&span.summary);
    }
});
