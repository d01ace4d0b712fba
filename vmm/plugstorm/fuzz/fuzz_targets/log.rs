//! A log that symbols are asked for: what it says of its kernel, of any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugstorm::symbols::LogFacts;

fuzz_target!(|bytes: &[u8]| {
    let mut log = bytes;
    let facts = LogFacts::of(&mut log).expect("what is in memory can be read");
    // Prefixes and an end of line more or less change nothing.
    let mut again = [bytes, b"\n"].concat();
    again.push(b'\n');
    assert_eq!(LogFacts::of(&mut again.as_slice()).ok(), Some(facts));
});
