//! Bytes of the agent's port: the same messages for pieces as for the whole, and each survives its way back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugstorm_wire::{FromGuest, Line, LineReader, MAX_LINE_BYTES, encode, node_matches};

fn read(pieces: &[&[u8]]) -> Vec<Result<FromGuest, (String, String)>> {
    let mut lines = Vec::new();
    let mut reader = LineReader::new();
    for piece in pieces {
        reader.push::<FromGuest>(piece, |line| {
            lines.push(match line {
                Line::Message(message) => Ok(message),
                Line::Malformed { reason, excerpt } => Err((reason, excerpt)),
            });
        });
    }
    lines
}

fuzz_target!(|bytes: &[u8]| {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while let Some(&length) = rest.get(rest.len() / 2) {
        let (piece, tail) = rest.split_at(usize::from(length).clamp(1, rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    let lines = read(&[bytes]);
    assert_eq!(lines, read(&pieces));
    for message in lines.iter().flatten() {
        let encoded = encode(message).expect("a message that cannot be written");
        if encoded.len() <= MAX_LINE_BYTES {
            assert_eq!(read(&[&encoded]), [Ok(message.clone())]);
        }
        if let FromGuest::Uevent { devname: Some(name), devpath, .. } = message {
            let _ = node_matches(devpath, name);
        }
    }
    for (_, excerpt) in lines.iter().filter_map(|line| line.as_ref().err()) {
        assert!(!excerpt.contains(char::is_control));
    }
});
