//! `samples.jsonl` of a benchmark: a guest's readings, in a file that somebody gives us. It is refused in a sentence, or all that is told
//! of it can be written, in every format.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use plugstorm::bench::formats::Format;
use plugstorm::bench::pool::parse;
use plugstorm::bench::results::{Options, Results};

/// As many columns as a terminal may have.
const WIDTH: usize = 80;

fuzz_target!(|bytes: &[u8]| {
    let pool = match parse(Path::new("samples.jsonl"), bytes) {
        Ok(pool) => pool,
        Err(error) => {
            assert!(error.to_string().contains("samples.jsonl"));
            return;
        }
    };
    let options = Options { gate: Some(1.1), draws: 10, ..Options::default() };
    // Alone, or its own two sides; and against itself.
    let baseline = pool.clone();
    for baseline in [None, Some(&baseline)] {
        let results = Results::of(pool.clone(), baseline, &options);
        for format in Format::ALL {
            let text = results.render(format, WIDTH, "fuzz").expect("samples that were read");
            assert!(!text.contains('\u{1b}'));
        }
        assert!(results.plots().iter().all(|(_, svg)| !svg.contains('\u{1b}')));
    }
});
