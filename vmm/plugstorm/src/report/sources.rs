//! Files and lines of a stack's frames, by the debug information that the cache has of a run's kernel.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use plugstorm_observe::place::{Role, Spot, sightings};

use super::stacks::{Line, plain};
use crate::kernels::debug_files;
use crate::results::{Finding, RunResult};
use crate::symbols::{Located, LogFacts, Symbolizer};

/// Kernels that are opened for one report: each takes some hundred MiB once it is asked.
const MOST_KERNELS: usize = 4;

/// Kernels by name and release, opened when the first of their frames is met. None: the cache has nothing of this build.
#[derive(Debug, Default)]
pub struct Sources {
    kernels: RefCell<BTreeMap<(String, String), Option<Opened>>>,
    notes: RefCell<BTreeSet<String>>,
}

#[derive(Debug)]
struct Opened {
    symbolizer: Symbolizer,
    /// The run that it was compared with: modules may have been built anew between two of them.
    compared: Option<(String, u64, u64)>,
}

impl Sources {
    /// What [`super::Annotate`] asks for. A kernel that is not in the cache, was built anew since, or has no debug information leaves
    /// lines as they are.
    #[must_use]
    pub fn lines(&self, run: &RunResult, line: &str) -> Vec<Line> {
        let Some(release) = &run.guest.release else { return plain(run, line) };
        let key = (run.guest.kernel.clone(), release.clone());
        let mut kernels = self.kernels.borrow_mut();
        if !kernels.contains_key(&key) && kernels.len() >= MOST_KERNELS {
            let note = format!("files and lines are told of {MOST_KERNELS} kernels only; report on fewer at a time");
            self.notes.borrow_mut().insert(note);
            return plain(run, line);
        }
        let opened = kernels.entry(key).or_insert_with(|| self.open(run, release));
        let located = opened.as_mut().and_then(|opened| located(self.compared(opened, run), line));
        located.unwrap_or_else(|| plain(run, line))
    }

    /// Why frames stayed without files and lines, one sentence each, as far as it was met.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let kernels = self.kernels.borrow();
        let of_files = kernels.values().flatten().flat_map(|opened| opened.symbolizer.notes());
        self.notes.borrow().iter().cloned().chain(of_files).collect()
    }

    fn open(&self, run: &RunResult, release: &str) -> Option<Opened> {
        let name = &run.guest.kernel;
        // A kernel that was given as a file, or is not there any more, is no news.
        debug_files(name).ok().filter(|files| files.release == release && files.vmlinux.is_some())?;
        match Symbolizer::for_kernel(name, &[]) {
            Ok(symbolizer) => Some(Opened { symbolizer, compared: None }),
            Err(error) => {
                self.notes.borrow_mut().insert(error.to_string());
                None
            }
        }
    }

    /// Asked for a run, it first looks whether its files are of the builds that this run had.
    fn compared<'a>(&self, opened: &'a mut Opened, run: &RunResult) -> &'a Symbolizer {
        let this = (run.scenario.clone(), run.seed, run.started_unix_s);
        if opened.compared.as_ref() != Some(&this) {
            let said: String = run.findings.iter().flat_map(told).flat_map(|line| [line, "\n"]).collect();
            // What is in memory can be read.
            let facts = LogFacts::of(&mut said.as_bytes()).unwrap_or_default();
            self.notes.borrow_mut().extend(opened.symbolizer.compare(&facts));
            opened.compared = Some(this);
        }
        &opened.symbolizer
    }
}

/// What a finding has of kernel code.
fn told(finding: &Finding) -> impl Iterator<Item = &str> {
    let stacks = finding.hang.iter().flat_map(|hang| {
        let waiters = hang.waiters.iter().map(|waiter| &waiter.stack);
        waiters.chain(hang.waited_for.iter().map(|holder| &holder.stack)).flatten().map(String::as_str)
    });
    let processors = finding.processors.iter().flat_map(|report| &report.processors);
    stacks.chain(processors.flat_map(|processor| &processor.stack).map(String::as_str)).chain(finding.splat.as_deref())
}

/// Nothing if it has no place, or that is not known.
fn located(symbolizer: &Symbolizer, line: &str) -> Option<Vec<Line>> {
    let sighting = sightings(line).into_iter().next()?;
    let Spot::Place(place) = &sighting.spot else { return None };
    let Located::Found(frames) = symbolizer.frames(place, sighting.role != Role::Pointer) else { return None };
    let (own, inlined) = frames.split_last()?;
    let named = |function: &Option<String>| function.as_deref().unwrap_or("?").to_owned();
    let inlined = inlined.iter().map(|frame| Line {
        frame: named(&frame.function),
        place: Some(frame.line_of_file()),
        inlined: true,
    });
    let own = Line { frame: line.to_owned(), place: Some(own.line_of_file()), inlined: false };
    Some(inlined.chain([own]).collect())
}
