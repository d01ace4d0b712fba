//! The console as it runs: reports found, and the last lines kept as evidence.

use std::collections::VecDeque;

use plugstorm_observe::hang::{LockHolder, LockReader};
use plugstorm_observe::splat::{Detector, Splat, detect};

/// Lines kept for findings.
const TAIL_LINES: usize = 40;
/// A longer line is cut.
const LINE_BYTES: usize = 400;
/// Output looked through at the end of a cycle.
const RECENT_BYTES: usize = 64 * 1024;

/// Watches the console of one guest.
#[derive(Debug)]
pub(super) struct ConsoleWatch {
    detector: Detector,
    found: Vec<Splat>,
    tail: VecDeque<String>,
    line: Vec<u8>,
    /// What came since the last report or look, as far as it fits.
    recent: Vec<u8>,
    panicked: bool,
    locks: LockReader,
}

impl Default for ConsoleWatch {
    fn default() -> Self {
        Self {
            detector: Detector::new(),
            found: Vec::new(),
            tail: VecDeque::new(),
            line: Vec::new(),
            recent: Vec::new(),
            panicked: false,
            locks: LockReader::default(),
        }
    }
}

impl ConsoleWatch {
    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = RECENT_BYTES.saturating_sub(self.recent.len()).min(bytes.len());
        self.recent.extend(bytes.iter().take(room));
        let found = &mut self.found;
        self.detector.push(bytes, |splat| found.push(splat));
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line();
            } else if self.line.len() < LINE_BYTES {
                self.line.push(*byte);
            }
        }
    }

    /// Reports that are complete.
    pub(super) fn take(&mut self) -> Vec<Splat> {
        std::mem::take(&mut self.found)
    }

    /// No more will come, or nothing has for long enough: what has begun is complete. The next bytes begin a new log.
    pub(super) fn finish(&mut self) -> Vec<Splat> {
        let found = &mut self.found;
        std::mem::take(&mut self.detector).finish(|splat| found.push(splat));
        self.recent.clear();
        self.take()
    }

    /// Whether the kernel has begun a report that [`Self::finish`] would complete. Forgets what was looked at if not.
    pub(super) fn has_begun_a_report(&mut self) -> bool {
        let begun = !detect(&self.recent).is_empty();
        if !begun {
            self.recent.clear();
        }
        begun
    }

    /// The kernel has said that it goes on no further.
    #[must_use]
    pub(super) fn panicked(&self) -> bool {
        self.panicked
    }

    /// Who holds which locks, as a kernel with lockdep has last listed it.
    #[must_use]
    pub(super) fn locks(&self) -> &[LockHolder] {
        self.locks.holders()
    }

    /// Such lists that have ended so far, and whether the last was none, as lockdep was turned off.
    #[must_use]
    pub(super) fn lock_lists_ended(&self) -> (u64, bool) {
        (self.locks.ended(), self.locks.is_off())
    }

    /// The last lines, those of lists of locks left out.
    #[must_use]
    pub(super) fn tail(&self) -> Vec<String> {
        let unfinished = (!self.line.is_empty()).then(|| readable(&self.line));
        self.tail.iter().cloned().chain(unfinished).collect()
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let text = readable(&line);
        let of_a_list = self.locks.line(&text);
        self.panicked |= text.contains("Kernel panic - not syncing");
        if !text.is_empty() && !of_a_list {
            if self.tail.len() == TAIL_LINES {
                self.tail.pop_front();
            }
            self.tail.push_back(text);
        }
    }
}

/// Without control characters: a guest must not drive the user's terminal.
fn readable(line: &[u8]) -> String {
    String::from_utf8_lossy(line)
        .chars()
        .filter(|c| !c.is_control() || *c == '\t')
        .collect::<String>()
        .trim_end()
        .into()
}
