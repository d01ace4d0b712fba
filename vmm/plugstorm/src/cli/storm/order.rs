//! What a process in a nested machine is told of the runs that it is to carry out, and what it says of them: a JSON object on
//! each line of its standard output.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

use super::Instead;
use crate::scenario::{Design, Until};

/// A line is thrown away beyond this, in bytes: a summary has some thousand.
const MOST_LINE_BYTES: usize = 4 << 20;

/// A run. Paths mean the same inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// The scenario.
    pub(super) file: OsString,
    /// Its name, as the user gave it.
    pub(super) named: String,
    /// Of what it says: one that was changed meanwhile is not run.
    pub(super) digest: String,
    /// Of kernel and initramfs, if others are not wanted.
    pub(super) guest_digest: Option<String>,
    /// A name in the cache, or a file.
    pub(super) kernel: OsString,
    pub(super) design: Option<Design>,
    pub(super) cycles: Option<u32>,
    pub(super) until: Option<Until>,
    pub(super) seed: u64,
    /// Where its results go.
    pub(super) out: OsString,
}

impl Order {
    pub(super) fn instead(&self) -> Instead {
        Instead { design: self.design, cycles: self.cycles, until: self.until }
    }
}

/// How runs come along, each by its place among the orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Said {
    /// A run is begun.
    Began {
        /// Which.
        run: usize,
    },
    /// What a person is to read of one that has ended.
    Shown {
        /// Which.
        run: usize,
        /// That.
        text: String,
    },
    /// A run has ended, and its results are on disk.
    Ended {
        /// Which.
        run: usize,
        /// Its exit code.
        code: u8,
    },
}

impl Said {
    /// As a line.
    pub(super) fn line(&self) -> String {
        // Numbers and text can be written.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

/// Puts lines together.
#[derive(Debug, Default)]
pub(super) struct Listener {
    line: Vec<u8>,
    is_too_long: bool,
}

impl Listener {
    /// Takes a piece of what was written. What is none of ours is given as it is: whoever wrote it wanted it read.
    pub(super) fn hear(&mut self, bytes: &[u8], mut said: impl FnMut(Result<Said, &[u8]>)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.is_too_long |= self.line.len().saturating_add(piece.len()) > MOST_LINE_BYTES;
            if !self.is_too_long {
                self.line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                if !self.is_too_long {
                    said(serde_json::from_slice(&self.line).map_err(|_| self.line.as_slice()));
                }
                (self.line, self.is_too_long) = (Vec::new(), false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(pieces: &[&[u8]]) -> Vec<Result<Said, Vec<u8>>> {
        let (mut listener, mut heard) = (Listener::default(), Vec::new());
        for piece in pieces {
            listener.hear(piece, |said| heard.push(said.map_err(<[u8]>::to_vec)));
        }
        heard
    }

    #[test]
    fn what_is_said_is_heard_however_it_is_cut() {
        let said = [
            Said::Began { run: 3 },
            Said::Shown { run: 3, text: "CLEAN\n  \"x\"\n".into() },
            Said::Ended { run: 3, code: 1 },
        ];
        let text: String = said.iter().map(Said::line).collect();
        assert_eq!(text.lines().count(), 3);
        for size in [1, 7, 1000] {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(heard(&pieces), said.clone().map(Ok));
        }
    }

    #[test]
    fn other_lines_are_handed_on_and_endless_ones_are_not_kept() {
        assert_eq!(
            heard(&[b"thread panicked\n{\"began\":", b"{\"run\":0}}\n"]),
            [Err(b"thread panicked\n".to_vec()), Ok(Said::Began { run: 0 })]
        );
        let endless = vec![b'x'; MOST_LINE_BYTES + 1];
        let ended = Said::Ended { run: 0, code: 0 };
        assert_eq!(heard(&[&endless, b"\n", ended.line().as_bytes()]), [Ok(ended)]);
    }
}
