//! Which lines belong to which report.

use super::block::Block;
use super::line::{Caller, Line, Splitter};
use super::report::{Splat, SplatKind};
use super::rules::{Note, find};

/// Reports being printed at the same time by different tasks and CPUs.
const MAX_BLOCKS: usize = 8;

/// Finds reports in console output that comes in pieces.
///
/// Reads each byte once. Holds at most [`super::MAX_TEXT_BYTES`] for each of eight reports that may be printed at the
/// same time, whatever it is fed.
#[derive(Debug, Default)]
pub struct Detector {
    splitter: Splitter,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    /// Reports that have begun, the oldest first.
    blocks: Vec<Block>,
    boot: Boot,
}

/// How the first line of a log begins that begins with a boot.
const FIRST_LINES: [&str; 10] = [
    "Linux version",
    "Booting Linux",
    "Booting the kernel",
    "early console in",
    "Decompressing Linux",
    "SeaBIOS",
    "UEFI firmware",
    "BdsDxe:",
    "U-Boot",
    "EFI stub:",
];

/// What the next line of a kernel that starts means.
#[derive(Debug, Default, PartialEq, Eq)]
enum Boot {
    /// The machine was just switched on.
    #[default]
    Expected,
    /// The first line will tell: it is a boot's, or a kernel runs.
    Unknown,
    /// A kernel runs: nobody asked for another.
    Running,
    /// A kernel has panicked and starts again, as it was told to.
    AfterPanic,
}

impl Detector {
    /// A detector for the console of a machine that was just switched on: one kernel may start, a second one is a report.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A detector for a saved log. If it does not begin with a boot, a kernel was running and any boot in it is a report.
    #[must_use]
    pub fn for_log() -> Self {
        Self { state: State { boot: Boot::Unknown, ..State::default() }, ..Self::default() }
    }

    /// Takes the next bytes and hands each report that is complete to `sink`. A report is complete when another one
    /// begins, or [`Detector::flush`] or [`Detector::finish`] says so: the kernel does not say where a report ends.
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Splat)) {
        let Self { splitter, state } = self;
        splitter.push(bytes, |line| state.line(&line, &mut sink));
    }

    /// The console has been silent for long enough: hands over reports that have begun.
    pub fn flush(&mut self, mut sink: impl FnMut(Splat)) {
        self.state.close_all(&mut sink);
    }

    /// The console has ended: hands over what is left.
    pub fn finish(mut self, mut sink: impl FnMut(Splat)) {
        let Self { splitter, state } = &mut self;
        splitter.finish(|line| state.line(&line, &mut sink));
        state.close_all(&mut sink);
    }

    /// Whether a report has begun and has not been handed over.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        !self.state.blocks.is_empty()
    }

    /// Lines read so far.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.splitter.lines()
    }
}

impl State {
    fn line(&mut self, line: &Line, sink: &mut impl FnMut(Splat)) {
        if self.boot == Boot::Unknown && !line.text.is_empty() {
            let begins = FIRST_LINES.iter().any(|first| line.text.starts_with(first));
            self.boot = if begins { Boot::Expected } else { Boot::Running };
        }
        if line.replayed {
            // The line before was cut off and comes again.
            self.blocks.retain(|block| !block.is_one_line());
        }
        let at = self.block_of(line.caller);
        let found = find(&line.text);
        if found.as_ref().is_some_and(|found| found.rule.note == Note::Panic) {
            // Whoever panics, the machine ends with it.
            self.blocks.iter_mut().for_each(|block| block.panicked = true);
        }
        if found.as_ref().is_some_and(|found| found.rule.kind == SplatKind::Reboot) {
            let after_panic = self.blocks.iter().any(|block| block.panicked);
            if after_panic {
                self.boot = Boot::AfterPanic;
            }
            if !self.blocks.iter().any(Block::is_reboot) {
                self.close_all(sink);
            }
            if self.boot != Boot::Running {
                if line.text.starts_with("Linux version") {
                    self.boot = Boot::Running;
                }
                return;
            }
        }
        match (found, at) {
            (Some(found), None) => {
                if self.blocks.len() >= MAX_BLOCKS {
                    self.close(0, sink);
                }
                self.blocks.push(Block::new(found, line));
            }
            (Some(found), Some(at)) => {
                if let Some(block) = self.blocks.get_mut(at) {
                    if found.rule.note == Note::Panic {
                        block.panicked = true;
                        block.push(line);
                    } else if found.rule.note == Note::Continued && block.takes_faults() {
                        block.push(line);
                    } else if belongs(block, found.rule.note) || block.is_cut_by_fault(found.rule.kind) {
                        if found.rule.note == Note::FollowUp {
                            block.intrude();
                        }
                        block.push(line);
                    } else {
                        self.close(at, sink);
                        self.blocks.push(Block::new(found, line));
                    }
                }
            }
            (None, Some(at)) => {
                if let Some(block) = self.blocks.get_mut(at) {
                    block.push(line);
                }
            }
            (None, None) => {}
        }
    }

    fn block_of(&self, caller: Option<Caller>) -> Option<usize> {
        self.blocks.iter().position(|block| block.caller == caller)
    }

    fn close(&mut self, at: usize, sink: &mut impl FnMut(Splat)) {
        if at < self.blocks.len() {
            self.blocks.remove(at).finish().into_iter().for_each(sink);
        }
    }

    fn close_all(&mut self, sink: &mut impl FnMut(Splat)) {
        while !self.blocks.is_empty() {
            self.close(0, sink);
        }
    }
}

/// Whether a line that could begin a report is part of the one that has begun.
fn belongs(block: &Block, note: Note) -> bool {
    block.panicked
        || block.is_reboot() && note == Note::NoStack
        || note == Note::FollowUp && block.takes_faults()
        || block.rule_note() == Note::Panic
}
