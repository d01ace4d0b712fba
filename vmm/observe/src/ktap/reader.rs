//! Which test a line belongs to, and what is missing.

use super::line::{Kind, ResultLine, parse};
use super::{Event, MAX_DEPTH, MAX_NAME_BYTES, MAX_NOTE_BYTES, MAX_NOTES, Outcome, Test, Totals};
use crate::splat::line::{Line, Splitter};

/// Lines that follow a note and belong to it are indented by as much at least: KUnit's continuations.
const CONTINUATION: &str = "    ";

/// Reads a log that comes in pieces.
///
/// Reads each byte once, and takes nothing of what it reads for granted. Holds a line, [`MAX_DEPTH`] names and
/// [`MAX_NOTES`] notes.
#[derive(Debug, Default)]
pub struct Reader {
    splitter: Splitter,
    state: State,
}

/// Tests of one test, or of a report.
#[derive(Debug, Default)]
struct Level {
    indent: usize,
    /// The test they are of; nothing for a report's, or where it was not told.
    name: Option<String>,
    plan: Option<u64>,
    results: u64,
    /// The highest number of a result.
    highest: u64,
    failed: u64,
}

#[derive(Debug, Default)]
struct State {
    /// The outermost first; each is indented further than the one before.
    levels: Vec<Level>,
    totals: Totals,
    notes: Vec<String>,
    /// The line before was a note, or belonged to one.
    in_note: bool,
    /// The line after the last one that was about another test.
    first_line: u64,
}

impl Reader {
    /// A reader at the beginning of a log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes, and hands over what is said in them.
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Event)) {
        let Self { splitter, state } = self;
        splitter.push(bytes, |line| state.line(&line, &mut sink));
    }

    /// The log has ended: hands over what is missing. All there is to count.
    pub fn finish(mut self, mut sink: impl FnMut(Event)) -> Totals {
        let Self { splitter, state } = &mut self;
        splitter.finish(|line| state.line(&line, &mut sink));
        state.close_from(0, &mut sink);
        self.state.totals
    }

    /// A report's plan has been kept to its last result. Another report may follow.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        match self.state.levels.as_slice() {
            [report] => report.plan.is_some_and(|plan| plan > 0 && report.results >= plan),
            _ => false,
        }
    }

    /// What there is to count so far, without what is missing.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.state.totals
    }
}

impl State {
    fn line(&mut self, line: &Line, sink: &mut impl FnMut(Event)) {
        let Some((indent, kind)) = parse(&line.text) else {
            self.in_note &= line.text.starts_with(CONTINUATION);
            if self.in_note {
                self.note(line.text.trim(), sink);
            }
            return;
        };
        self.in_note = false;
        match kind {
            Kind::Note(text) => {
                self.in_note = true;
                self.note(text, sink);
                return;
            }
            Kind::Version => self.version(indent, sink),
            Kind::Plan(plan) => {
                let level = self.level(indent, sink);
                if let Some(level) = level.filter(|level| level.plan.is_none() && level.results == 0) {
                    level.plan = Some(plan);
                }
            }
            Kind::Subtest(name) => {
                let name = cut(name, MAX_NAME_BYTES);
                if let Some(level) = self.level(indent, sink) {
                    level.name = Some(name);
                }
            }
            Kind::Result(result) => self.result(indent, result, line.number, sink),
            Kind::BailOut(reason) => {
                self.totals.bailed_out.get_or_insert_with(|| cut(reason, MAX_NOTE_BYTES));
            }
        }
        sink(Event::Line(line.text.clone()));
        self.first_line = line.number.saturating_add(1);
        if !matches!(kind, Kind::Result(_)) {
            // What was said before belongs to nobody.
            self.notes.clear();
        }
    }

    fn note(&mut self, text: &str, sink: &mut impl FnMut(Event)) {
        let indent = self.levels.last().map_or(0, |level| level.indent);
        sink(Event::Line(format!("{:indent$}# {text}", "")));
        if self.notes.len() < MAX_NOTES {
            self.notes.push(cut(text, MAX_NOTE_BYTES));
        }
    }

    /// A report begins, or the tests of a test.
    fn version(&mut self, indent: usize, sink: &mut impl FnMut(Event)) {
        let kept = self.levels.iter().take_while(|level| level.indent < indent).count();
        self.close_from(kept, sink);
        self.open(indent);
    }

    /// The level with this indentation; deeper ones are closed. One that nobody announced begins here: KUnit of 6.1 prints
    /// the suites of a module without a report around them. Nothing if it were too deep.
    fn level(&mut self, indent: usize, sink: &mut impl FnMut(Event)) -> Option<&mut Level> {
        let kept = self.levels.iter().take_while(|level| level.indent <= indent).count();
        self.close_from(kept, sink);
        if self.levels.last().is_none_or(|level| level.indent < indent) && !self.open(indent) {
            return None;
        }
        self.levels.last_mut()
    }

    fn open(&mut self, indent: usize) -> bool {
        if self.levels.len() >= MAX_DEPTH {
            return false;
        }
        if self.levels.is_empty() {
            self.totals.reports = self.totals.reports.saturating_add(1);
        }
        self.levels.push(Level { indent, ..Level::default() });
        true
    }

    fn result(&mut self, indent: usize, result: ResultLine<'_>, number: u64, sink: &mut impl FnMut(Event)) {
        // The tests of this one end with its result.
        let kept = self.levels.iter().take_while(|level| level.indent <= indent).count();
        let own = self.levels.get(kept).map(|level| (level.results, level.failed));
        let missing_before = self.totals.missing;
        if self.level(indent, sink).is_none() {
            return;
        }
        let outcome = outcome(result.ok, result.remark);
        let is_parent = own.is_some_and(|(results, _)| results > 0);
        let blamed = own.is_some_and(|(_, failed)| failed > 0) || self.totals.missing > missing_before;
        if !is_parent || (outcome == Outcome::Failed && !blamed) {
            self.count(outcome);
        }
        let mut path: Vec<String> = self.levels.iter().filter_map(|level| level.name.clone()).collect();
        path.push(cut(result.name, MAX_NAME_BYTES));
        if let Some(level) = self.levels.last_mut() {
            level.results = level.results.saturating_add(1);
            level.highest = level.highest.max(result.number);
            level.failed = level.failed.saturating_add(u64::from(outcome == Outcome::Failed));
        }
        sink(Event::Test(Test {
            path,
            outcome,
            remark: result.remark.map(|remark| cut(remark, MAX_NOTE_BYTES)),
            notes: std::mem::take(&mut self.notes),
            is_parent,
            first_line: self.first_line.min(number),
            line: number,
        }));
    }

    fn count(&mut self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Passed => &mut self.totals.passed,
            Outcome::Failed => &mut self.totals.failed,
            Outcome::Skipped => &mut self.totals.skipped,
            Outcome::FailedAsMarked => &mut self.totals.failed_as_marked,
        };
        *count = count.saturating_add(1);
    }

    /// Closes levels, the innermost first: what they lack now does not come any more.
    fn close_from(&mut self, kept: usize, sink: &mut impl FnMut(Event)) {
        while self.levels.len() > kept {
            let path: Vec<String> = self.levels.iter().filter_map(|level| level.name.clone()).collect();
            let Some(level) = self.levels.pop() else { return };
            let planned = level.plan.unwrap_or(0);
            let tests = planned.max(level.highest).saturating_sub(level.results);
            if level.plan.is_some() {
                let more = level.results.saturating_sub(planned);
                self.totals.unplanned = self.totals.unplanned.saturating_add(more);
            }
            if tests > 0 {
                self.totals.missing = self.totals.missing.saturating_add(tests);
                sink(Event::Missing { path, tests });
            }
        }
    }
}

/// What a result means with its directive (ktap.rst, "Test case result lines"). One that is not known changes nothing.
fn outcome(ok: bool, remark: Option<&str>) -> Outcome {
    let word = remark.and_then(|remark| remark.split([' ', ':']).next()).unwrap_or_default();
    match (ok, word.to_ascii_uppercase().as_str()) {
        (_, "SKIP") => Outcome::Skipped,
        (false, "TODO" | "XFAIL") => Outcome::FailedAsMarked,
        (true, _) => Outcome::Passed,
        (false, _) => Outcome::Failed,
    }
}

/// At most so many bytes, and no control characters: it will be shown.
fn cut(text: &str, most: usize) -> String {
    let mut kept = String::new();
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        if kept.len().saturating_add(letter.len_utf8()) > most {
            break;
        }
        kept.push(letter);
    }
    kept
}

#[cfg(test)]
mod tests;
