//! A guest's console, line by line, for what is waited for on it.

use std::collections::VecDeque;

use super::request::plain;

/// Lines that wait to be looked at; the oldest go when there are more.
const MOST_LINES: usize = 4096;
/// A longer line is cut, in bytes.
const MOST_LINE_BYTES: usize = 1024;

/// Lines that have ended and were not taken.
#[derive(Debug, Default)]
pub(super) struct Lines {
    ended: VecDeque<String>,
    line: Vec<u8>,
    last: String,
}

impl Lines {
    /// Takes the next bytes of the console.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte != b'\n' {
                if self.line.len() < MOST_LINE_BYTES {
                    self.line.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).trim_end().to_owned();
            if line.is_empty() {
                continue;
            }
            if self.ended.len() == MOST_LINES {
                self.ended.pop_front();
            }
            self.last = plain(&line);
            self.ended.push_back(line);
        }
    }

    /// The next line, in the order in which they ended.
    pub(super) fn next(&mut self) -> Option<String> {
        self.ended.pop_front()
    }

    /// Forgets those that have ended.
    pub(super) fn clear(&mut self) {
        self.ended.clear();
    }

    /// The last line that ended, as the end of a sentence; nothing if there was none.
    pub(super) fn last_words(&self) -> String {
        if self.last.is_empty() { String::new() } else { format!("; the last line of its console is: {}", self.last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_in_order_and_bounded() {
        let mut lines = Lines::default();
        assert_eq!(lines.last_words(), "");
        [&b"on"[..], b"e\r\n\ntwo\nthr", b"ee"].into_iter().for_each(|piece| lines.push(piece));
        assert_eq!([lines.next(), lines.next(), lines.next()], [Some("one".into()), Some("two".into()), None]);
        assert!(lines.last_words().ends_with("is: two"));
        lines.push(&b"x\n".repeat(3 * MOST_LINES));
        lines.push(&[b'y'; 3 * MOST_LINE_BYTES]);
        lines.push(b"\n");
        assert_eq!(lines.ended.len(), MOST_LINES);
        assert_eq!(lines.ended.back().map(String::len), Some(MOST_LINE_BYTES));
        lines.clear();
        assert_eq!(lines.next(), None);
    }
}
