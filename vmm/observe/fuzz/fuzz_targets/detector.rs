//! Console bytes: whatever they are, the detector survives them, gives the same for pieces as for the whole, and no more
//! than it promises.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugstorm_observe::splat::{Detector, MAX_TEXT_BYTES, detect, interrupted_while_off, spread_panics};

// The table of expressions is made once, which takes its time under a sanitizer: that is not the first input's.
fuzz_target!(init: drop(detect(b"BUG: ")), |bytes: &[u8]| {
    let whole = detect(bytes);
    // The bytes themselves say how they are cut.
    let (mut detector, mut pieces, mut rest) = (Detector::for_log(), Vec::new(), bytes);
    while let Some(&length) = rest.get(rest.len() / 2) {
        let (piece, tail) = rest.split_at(usize::from(length).clamp(1, rest.len()));
        detector.push(piece, |splat| pieces.push(splat));
        rest = tail;
    }
    detector.finish(|splat| pieces.push(splat));
    spread_panics(&mut pieces);
    assert_eq!(whole, pieces);

    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64 + 1;
    let mut before = 0;
    for splat in &whole {
        assert!(splat.start_line >= before && splat.start_line <= splat.end_line && splat.end_line < lines);
        before = splat.start_line;
        assert!(splat.text.len() <= MAX_TEXT_BYTES);
        assert!(!splat.title.is_empty() && splat.title.chars().count() <= 160);
        assert!(!splat.title.contains(char::is_control), "{:?}", splat.title);
        let _ = interrupted_while_off(&splat.text);
    }
});
