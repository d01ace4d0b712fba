//! The user's terminal in raw mode, and back again however we end.

use std::io::IsTerminal;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// Standard input in raw mode. Dropping it restores what was before.
#[derive(Debug)]
pub(super) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Nothing if standard input is no terminal.
    pub(super) fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&stdin, SetArg::TCSANOW, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // If the terminal has gone there is nothing to restore.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.before);
    }
}

/// What typing comes to: bytes for the guest, or the end. Ctrl-A begins a command.
#[derive(Debug, Default)]
pub(super) struct Keys {
    escaped: bool,
}

/// Ctrl-A.
const ESCAPE: u8 = 1;

impl Keys {
    /// Takes bytes; adds those for the guest to `guest`. Whether the user wants to end.
    pub(super) fn take(&mut self, bytes: &[u8], guest: &mut Vec<u8>) -> bool {
        for &byte in bytes {
            match (std::mem::take(&mut self.escaped), byte) {
                (true, b'x' | b'X') => return true,
                (false, ESCAPE) => self.escaped = true,
                // Ctrl-A Ctrl-A is one Ctrl-A; Ctrl-A and anything else is nothing special.
                (_, byte) => guest.push(byte),
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_a_begins_a_command() {
        let mut keys = Keys::default();
        let mut guest = Vec::new();
        assert!(!keys.take(b"ls\x01", &mut guest));
        assert!(!keys.take(b"\x01y", &mut guest));
        assert!(keys.take(b"\x01xz", &mut guest));
        assert_eq!(guest, b"ls\x01y");
    }
}
