//! Which lines belong to which report.

use std::collections::VecDeque;

use memchr::memchr;

use super::block::{Block, begins_benign_dump};
use super::line::{Caller, Line, Splitter};
use super::report::{Splat, SplatKind};
use super::rules::{Match, Note, find, quiet};

/// Reports being printed at the same time by different tasks and CPUs.
const MAX_BLOCKS: usize = 8;
/// Reports that are over while one that began earlier is not. If there are more, that one is not waited for any longer.
const MAX_HELD: usize = 16;
/// A dump that is no report has no stack before that many lines: a report in them is printed at the same time.
const DUMP_LINES: u64 = 4;

/// Finds reports in console output that comes in pieces.
///
/// Reads each byte once. Holds at most [`super::MAX_TEXT_BYTES`] for each of eight reports that may be printed at the
/// same time, and of sixteen that wait for one that began earlier, whatever it is fed.
#[derive(Debug, Default)]
pub struct Detector {
    splitter: Splitter,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    /// Reports that have begun, the oldest first.
    blocks: Vec<Block>,
    /// Reports that are over, but began after one that is not.
    held: VecDeque<Splat>,
    boot: Boot,
    /// Where a dump that is no report began last.
    dump: Option<u64>,
    /// The kernel has panicked: whatever it prints until the next starts is about that.
    panicked: bool,
    /// The kernel puts the time before its lines.
    has_clock: bool,
}

/// How the first line of a kernel begins (`linux_banner`), and /proc/version.
const VERSION: &str = "Linux version";
/// How the first line of a log begins that begins with a boot.
const FIRST_LINES: [&str; 10] = [
    VERSION,
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

    /// Takes the next bytes and hands each report that is over to `sink`: with the first line after its end mark that is
    /// no part of it, or when lines enough have come that say nothing of it (see [`super::block`]), or when another begins.
    /// They come in the order in which they began.
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Splat)) {
        let Self { splitter, state } = self;
        let mut rest = bytes;
        while !rest.is_empty() {
            if state.is_idle() && splitter.is_between_lines() {
                let (quiet, others) = rest.split_at(quiet(rest));
                splitter.skip(quiet);
                rest = others;
            }
            let line = memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
            let (line, others) = rest.split_at(line);
            splitter.push(line, |line| state.line(&line, &mut sink));
            rest = others;
        }
    }

    /// The console has been silent for long enough: hands over reports that have begun.
    pub fn flush(&mut self, mut sink: impl FnMut(Splat)) {
        self.state.close_those(|_| true, &mut sink);
    }

    /// The console has ended: hands over what is left.
    pub fn finish(mut self, mut sink: impl FnMut(Splat)) {
        let Self { splitter, state } = &mut self;
        splitter.finish(|line| state.line(&line, &mut sink));
        state.close_those(|_| true, &mut sink);
    }

    /// Whether a report has begun and has not been handed over.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        !self.state.blocks.is_empty() || !self.state.held.is_empty()
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
            self.has_clock = line.seconds.is_some();
        }
        if line.replayed {
            // The line before was cut off and comes again; older ones are whole.
            self.blocks.retain(|block| !(block.is_one_line() && block.start_line + 1 == line.number));
            self.release(sink);
        }
        self.close_those(|block| block.is_over(line.number), sink);
        match find(&line.text) {
            Some(found) => self.found(found, line, sink),
            None => {
                if begins_benign_dump(&line.text) {
                    self.dump = Some(line.number);
                }
                self.close_those(|block| block.hears(line.caller) && block.ended_before(&line.text), sink);
                if let Some(block) = self.block_of(line.caller) {
                    block.push(line, false);
                }
            }
        }
    }

    /// A line that fits a row.
    fn found(&mut self, found: Match, line: &Line, sink: &mut impl FnMut(Splat)) {
        let (note, kind) = (found.rule.note, found.rule.kind);
        if kind == SplatKind::Reboot && self.only_tells_its_version(line) {
            return;
        }
        self.has_clock |= line.seconds.is_some();
        if note == Note::Panic {
            // Whoever panics, the machine ends with it.
            self.blocks.iter_mut().for_each(Block::panic);
        }
        if kind == SplatKind::Reboot && !self.may_start(line, sink) {
            return;
        }
        let panicked = self.panicked;
        match self.block_of(line.caller) {
            Some(block) if block.is_repeated_by(&found) => {
                block.opened_by = found;
                block.push(line, true);
            }
            Some(block) if block.takes(note, kind) => {
                if note == Note::FollowUp {
                    block.fault();
                }
                block.push(line, true);
            }
            // What follows a panic is about the panic.
            None if panicked && kind != SplatKind::Reboot => {}
            _ => {
                self.close_those(|block| block.caller == line.caller, sink);
                if self.blocks.len() >= MAX_BLOCKS {
                    self.close(0, sink);
                }
                let mut block = Block::new(found, line);
                if self.dump.is_some_and(|dump| line.number.saturating_sub(dump) <= DUMP_LINES) && line.caller.is_none()
                {
                    block.intrude();
                }
                self.blocks.push(block);
            }
        }
        self.panicked |= note == Note::Panic;
    }

    /// Whether a line is no kernel's first, but what a program read in /proc/version: a kernel whose lines have the time begins
    /// with one that has, and it is nought. What unpacks it has no clock.
    fn only_tells_its_version(&self, line: &Line) -> bool {
        self.has_clock && line.text.starts_with(VERSION) && line.seconds != Some(0)
    }

    /// A kernel starts. Whether that is a report: it was not asked for.
    fn may_start(&mut self, line: &Line, sink: &mut impl FnMut(Splat)) -> bool {
        if std::mem::take(&mut self.panicked) {
            self.boot = Boot::AfterPanic;
        }
        if !self.blocks.iter().any(Block::is_reboot) {
            self.close_those(|_| true, sink);
        }
        if self.boot == Boot::Running {
            return true;
        }
        if line.text.starts_with(VERSION) {
            self.boot = Boot::Running;
        }
        false
    }

    /// Whether a line can only matter if it fits a row.
    fn is_idle(&self) -> bool {
        self.blocks.is_empty() && self.boot != Boot::Unknown
    }

    fn block_of(&mut self, caller: Option<Caller>) -> Option<&mut Block> {
        let own = self.blocks.iter().position(|block| block.caller == caller);
        let at = own.or_else(|| self.blocks.iter().position(|block| block.hears(caller)))?;
        self.blocks.get_mut(at)
    }

    fn close(&mut self, at: usize, sink: &mut impl FnMut(Splat)) {
        self.hold(at);
        self.release(sink);
    }

    /// Takes a report as over, to be handed over in its turn.
    fn hold(&mut self, at: usize) {
        if at < self.blocks.len()
            && let Some(splat) = self.blocks.remove(at).finish()
        {
            let place = self.held.partition_point(|held| held.start_line <= splat.start_line);
            self.held.insert(place, splat);
        }
    }

    /// Hands over what no longer waits for a report that began earlier.
    fn release(&mut self, sink: &mut impl FnMut(Splat)) {
        loop {
            let oldest = self.blocks.iter().enumerate().min_by_key(|(_, block)| block.start_line);
            let oldest = oldest.map(|(at, block)| (at, block.start_line));
            let turn = |splat: &Splat| oldest.is_none_or(|(_, start_line)| splat.start_line < start_line);
            while self.held.front().is_some_and(turn) {
                self.held.pop_front().into_iter().for_each(&mut *sink);
            }
            match oldest {
                Some((at, _)) if self.held.len() > MAX_HELD => self.hold(at),
                _ => return,
            }
        }
    }

    fn close_those(&mut self, which: impl Fn(&Block) -> bool, sink: &mut impl FnMut(Splat)) {
        while let Some(at) = self.blocks.iter().position(&which) {
            self.close(at, sink);
        }
    }
}

#[cfg(test)]
mod tests;
