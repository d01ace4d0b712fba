//! The log of a kernel's self-tests: the same for pieces as for the whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugstorm_observe::ktap::Reader;

fuzz_target!(|bytes: &[u8]| {
    let (mut whole, mut pieces) = (Vec::new(), Vec::new());
    let mut reader = Reader::new();
    reader.push(bytes, |event| whole.push(event));
    let totals = reader.finish(|event| whole.push(event));

    let (mut reader, mut rest) = (Reader::new(), bytes);
    while let Some(&length) = rest.get(rest.len() / 2) {
        let (piece, tail) = rest.split_at(usize::from(length).clamp(1, rest.len()));
        reader.push(piece, |event| pieces.push(event));
        rest = tail;
    }
    let totals_of_pieces = reader.finish(|event| pieces.push(event));
    assert_eq!((whole, totals), (pieces, totals_of_pieces));
});
