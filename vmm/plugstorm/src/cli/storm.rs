//! `plugstorm storm`: scenarios to runs, runs to results.

pub(super) mod carry_out;
pub(super) mod guests;
mod here;
mod lots;
mod machines;
mod nested;
mod order;
mod site;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Failure, StormArgs, absolute, fit, show};
use crate::host::room::{Jobs, Size};
use crate::known::KnownFindings;
use crate::progress::Board;
use crate::report::{self, Report};
use crate::results::{ORIGIN_TEXT_BYTES, Origin, RESULT, RunFolder};
use crate::scenario::{self, Design, Scenario, Until};
use crate::snapshots::{Shelf, digest};
use crate::storm::guest::GuestError;
use guests::{GuestFiles, Pantry};

pub(super) use site::Site;

/// A run that can be begun.
pub(super) struct Ready {
    pub(super) file: PathBuf,
    /// The file, as the user named it.
    pub(super) named: String,
    /// What the file says.
    pub(super) text: Arc<str>,
    /// Of what the file says.
    pub(super) digest: String,
    /// Of kernel and initramfs, if it is to be run with these and no others: they may be replaced in the cache.
    pub(super) guest_digest: Option<String>,
    /// As it is run: with [`Self::instead`].
    pub(super) scenario: Scenario,
    pub(super) instead: Instead,
    pub(super) seed: u64,
    pub(super) guest: GuestFiles,
    pub(super) out: PathBuf,
}

/// What the command line says instead of the scenario.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Instead {
    pub(super) design: Option<Design>,
    pub(super) cycles: Option<u32>,
    pub(super) until: Option<Until>,
}

impl Ready {
    /// As its result says it.
    fn origin(&self) -> Origin {
        let Instead { design, cycles, until } = self.instead;
        let text = (self.text.len() <= ORIGIN_TEXT_BYTES).then(|| self.text.to_string());
        Origin { file: self.named.clone(), digest: self.digest.clone(), text, design, cycles, until }
    }
}

impl Instead {
    pub(super) fn apply(self, scenario: &mut Scenario) -> Result<(), Failure> {
        let failed = |sentence: String| Failure::user(&sentence);
        if let Some(design) = self.design {
            scenario.override_design(design).map_err(failed)?;
        }
        if let Some(cycles) = self.cycles {
            scenario.override_cycles(cycles).map_err(failed)?;
        }
        if let Some(until) = self.until {
            scenario.until = until;
        }
        Ok(())
    }
}

/// How runs are carried out.
pub(super) struct Way<'a> {
    pub(super) jobs: Jobs,
    pub(super) cold: bool,
    /// Neither progress nor summaries.
    pub(super) quiet: bool,
    pub(super) board: &'a Board,
    /// A folder around all output folders, if there is one that may be shared with a nested machine.
    pub(super) around: Option<&'a Path>,
    pub(super) audience: &'a dyn Audience,
    pub(super) shelf: Shelf,
    /// Findings that are accepted for now.
    pub(super) known: Option<&'a KnownFindings>,
}

/// Who is told how runs come along, by their places among those that are carried out. From any thread.
pub(super) trait Audience: Sync {
    /// A run is begun.
    fn began(&self, run: usize);

    /// What a person is to read of a run that has ended.
    fn shown(&self, run: usize, text: &str);

    /// A run has ended, with this exit code; its results are on disk.
    fn ended(&self, run: usize, code: u8);

    /// More are to be begun.
    fn wants_more(&self) -> bool {
        true
    }
}

/// Standard output.
struct Reader<'a> {
    board: &'a Board,
}

impl Audience for Reader<'_> {
    fn began(&self, _run: usize) {}

    fn shown(&self, _run: usize, text: &str) {
        self.board.aside(|| show::out(text));
    }

    fn ended(&self, _run: usize, _code: u8) {}
}

pub(super) fn main(args: &StormArgs) -> Result<u8, Failure> {
    // All that the user can mend comes first: nothing is booted for a scenario with a spelling mistake.
    let runs = prepare(args)?;
    let known = args.known.as_deref().map(KnownFindings::load).transpose()?;
    let board = Board::default();
    let audience = Reader { board: &board };
    let way = Way {
        jobs: args.jobs,
        cold: args.cold,
        quiet: args.quiet,
        board: &board,
        around: None,
        audience: &audience,
        shelf: Shelf::default(),
        known: known.as_ref(),
    };
    let before = Before::of(&runs);
    let code = Site::choose(args.host, &board)?.carry_out(&runs, &way);
    // Also of runs that a failure cut short: what was found stands.
    conclude(&runs, known.as_ref(), &before, args.quiet);
    let code = code?;
    let folders = runs.iter().map(|run| run.out.as_path());
    Ok(if args.git_bisect { fit::of_runs(code, folders, |folder| before.has_changed(folder)) } else { code })
}

/// The results that lay in runs' folders before: a run that is never begun leaves an earlier one's there.
struct Before(BTreeMap<PathBuf, (u64, i64, i64)>);

impl Before {
    fn of(runs: &[Ready]) -> Self {
        Self(runs.iter().filter_map(|run| Some((run.out.clone(), Self::stamp(&run.out)?))).collect())
    }

    /// A result is written as a file of its own and moved into place.
    fn stamp(folder: &Path) -> Option<(u64, i64, i64)> {
        let facts = std::fs::metadata(folder.join(RESULT)).ok()?;
        Some((facts.ino(), facts.mtime(), facts.mtime_nsec()))
    }

    fn has_changed(&self, folder: &Path) -> bool {
        Self::stamp(folder).is_some_and(|stamp| self.0.get(folder) != Some(&stamp))
    }
}

/// What all runs come to, each finding once; and what became of what is known.
fn conclude(runs: &[Ready], known: Option<&KnownFindings>, before: &Before, quiet: bool) {
    let gathered = report::of_folders(runs.iter().map(|run| &run.out), |folder| before.has_changed(folder));
    let report = Report::of(gathered, known);
    for account in &report.known {
        show::err(&format!("known: {account}\n"));
    }
    if runs.len() > 1 && !quiet {
        show::out(&report.overview());
    }
}

fn prepare(args: &StormArgs) -> Result<Vec<Ready>, Failure> {
    let mut runs: Vec<Ready> = Vec::new();
    let mut pantry = Pantry::default();
    for file in &args.scenarios {
        let text: Arc<str> = scenario::read(file)?.into();
        let mut scenario = scenario::parse_file(file, &text)?;
        let instead = Instead { design: args.design, cycles: args.cycles, until: args.until };
        instead.apply(&mut scenario)?;
        let guest = pantry.guest(file, &scenario, args.kernel.as_deref())?;
        for note in guest.kernel.notes.iter().filter(|_| !args.quiet) {
            show::err(&format!("note: {note}\n"));
        }
        let first = args.seed.unwrap_or(scenario.seed);
        for index in 0..u64::from(args.runs) {
            let seed = first.wrapping_add(index);
            let many = args.scenarios.len() > 1 || args.runs > 1;
            let out = out_folder(args, &scenario.name, seed, many, &runs)?;
            runs.push(Ready {
                file: file.clone(),
                named: file.display().to_string(),
                text: Arc::clone(&text),
                digest: digest(text.as_bytes()),
                guest_digest: None,
                scenario: scenario.clone(),
                instead,
                seed,
                guest: guest.clone(),
                out,
            });
        }
    }
    // Not after the first hour. An earlier run's results stay until there is a host to run on.
    for run in &runs {
        RunFolder::check(&run.out).map_err(|error| Failure::user(&error))?;
    }
    Ok(runs)
}

/// Where a run's results go. Without --out, a folder that is not there yet.
fn out_folder(args: &StormArgs, name: &str, seed: u64, many: bool, earlier: &[Ready]) -> Result<PathBuf, Failure> {
    let design = args.design.map(|design| format!("-{}", design.name())).unwrap_or_default();
    let own = format!("{name}{design}-{seed}");
    let parent = match &args.out {
        Some(out) if !many => return absolute(out),
        Some(out) => out.clone(),
        None => PathBuf::from("plugstorm-out"),
    };
    let parent = absolute(&parent)?;
    let taken = |path: &Path| earlier.iter().any(|run| run.out == path) || (args.out.is_none() && path.exists());
    let numbered = (2u32..).map(|number| parent.join(format!("{own}-{number}")));
    let mut candidates = std::iter::once(parent.join(&own)).chain(numbered);
    candidates.find(|path| !taken(path)).ok_or_else(|| Failure::user(&format!("{} has no room", parent.display())))
}

fn sizes<'a>(runs: impl IntoIterator<Item = &'a Ready>) -> Vec<Size> {
    let guests = runs.into_iter().map(|run| &run.scenario.guest);
    guests.map(|guest| Size::of(guest.cpus, guest.memory_bytes)).collect()
}

/// As the user sees it.
impl From<GuestError> for Failure {
    fn from(error: GuestError) -> Self {
        match error {
            GuestError::User(_) => Self::user(&error),
            GuestError::Guest(_) | GuestError::Machine(_) => Self::machine(&error),
        }
    }
}
