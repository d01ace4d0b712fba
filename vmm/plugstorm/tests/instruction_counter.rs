//! The machine's instruction counter on a real KVM, by the command line: in a nested machine where this host's is missing or
//! too slow. vmm/machine/tests/instruction_counter.rs has the cases.
//!
//! Wanted: a kernel for the nested host in the cache (`plugstorm kernel fetch debian-6.12`). `PLUGSTORM_BOOT_TESTS=0` leaves
//! this out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

#[path = "../../machine/tests/tiny/mod.rs"]
mod tiny;

use std::process::{Command, Stdio};

/// Counts 1000 rounds with two locked instructions each, and writes both results to the serial port.
#[rustfmt::skip]
const GUEST: &[u8] = &[
    0xba, 0x04, 0x5c, 0, 0, 0xb8, 1, 0, 0, 0, 0xef, // mov edx, 0x5c04; mov eax, 1; out dx, eax
    0xb9, 0xe8, 0x03, 0, 0,                         // mov ecx, 1000
    0xf0, 0x01, 0x0c, 0x25, 0, 0, 0x30, 0,          // round: lock add [0x300000], ecx
    0x87, 0x1c, 0x25, 0x08, 0, 0x30, 0,             // xchg [0x300008], ebx
    0xff, 0xc9, 0x75, 0xed,                         // dec ecx; jnz round
    0x31, 0xc0, 0xef,                               // xor eax, eax; out dx, eax
    0xbe, 2, 0, 0, 0,                               // mov esi, 2
    0xba, 0x00, 0x5c, 0, 0, 0xed,                   // word: mov edx, 0x5c00; in eax, dx
    0xba, 0xf8, 0x03, 0, 0, 0xb9, 4, 0, 0, 0,       // mov edx, 0x3f8; mov ecx, 4
    0xee, 0xc1, 0xe8, 8, 0xff, 0xc9, 0x75, 0xf8,    // byte: out dx, al; shr eax, 8; dec ecx; jnz byte
    0xba, 0x04, 0x5c, 0, 0, 0xb8, 2, 0, 0, 0, 0xef, // mov edx, 0x5c04; mov eax, 2; out dx, eax
    0xff, 0xce, 0x75, 0xd9,                         // dec esi; jnz word
];

#[test]
fn a_guest_counts_what_it_executes() {
    if std::env::var_os("PLUGSTORM_BOOT_TESTS").is_some_and(|value| value == "0") {
        return;
    }
    let (_folder, kernel) = tiny::elf(&[GUEST, &tiny::out(0x600, 5 << 2 | 1 << 5)].concat());
    let mut command = Command::new(env!("CARGO_BIN_EXE_plugstorm"));
    command.args(["run", "--instruction-counter", "--kernel"]).arg(&kernel).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let [instructions, locked] = [1 + 4 * 1000 + 1, 2 * 1000_u32].map(u32::to_le_bytes);
    assert_eq!(output.stdout, [instructions, locked].concat(), "{said}");
}
