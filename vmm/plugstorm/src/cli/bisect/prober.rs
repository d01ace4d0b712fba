//! The commits of a bisection: built as `plugstorm kernel build` does, run as `plugstorm storm` does.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::super::build;
use super::super::storm::guests::{GuestFiles, Pantry};
use super::super::storm::{Audience, Instead, Ready, Site, Way};
use super::{BisectArgs, Failure, Prepared};
use crate::bisect::{BisectFolder, Built, Commit, Ends, Errand, Prober, Ran, Taker};
use crate::kernels::{BuildOptions, BuildOutcome, KernelSource, build_kernel};
use crate::progress::Board;
use crate::results::{EndedBy, RESULT, RunFolder, read_result};
use crate::scenario::Until;
use crate::snapshots::{Shelf, Store};
use crate::verdict::{EXIT_INTERRUPTED, EXIT_USER};

pub(super) struct Storms<'a> {
    args: &'a BisectArgs,
    prepared: &'a Prepared,
    ends: &'a Ends,
    folder: &'a BisectFolder,
    /// What each commit's kernel is called in the cache while it is tried.
    kernel: String,
    board: &'a Board,
    interrupt: &'a Arc<AtomicBool>,
    site: Site,
    /// Of the commit that was built last.
    guest: Option<GuestFiles>,
    /// Of the same.
    snapshots: Mutex<HashSet<String>>,
}

impl<'a> Storms<'a> {
    pub(super) fn new(
        args: &'a BisectArgs,
        prepared: &'a Prepared,
        ends: &'a Ends,
        folder: &'a BisectFolder,
        kernel: String,
        board: &'a Board,
        interrupt: &'a Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let site = Site::choose(args.host, board)?;
        let snapshots = Mutex::default();
        Ok(Self { args, prepared, ends, folder, kernel, board, interrupt, site, guest: None, snapshots })
    }

    /// Nobody will start from the snapshots of a commit that is decided.
    pub(super) fn end(&mut self) {
        let snapshots = std::mem::take(self.snapshots.get_mut().unwrap_or_else(PoisonError::into_inner));
        for name in snapshots {
            Store::here().discard(&name);
        }
    }

    fn ready(&self, commit: &Commit, errand: &Errand, guest: &GuestFiles) -> Result<Ready, Failure> {
        let until = if errand.all_cycles { Until::AllCycles } else { Until::FirstFinding };
        let instead = Instead { design: None, cycles: Some(self.prepared.scenario.cycles), until: Some(until) };
        let mut scenario = self.prepared.scenario.clone();
        instead.apply(&mut scenario)?;
        let out = self.folder.run_folder(commit, errand.run);
        // Made here: a nested machine's job begins in it.
        RunFolder::check(&out).map_err(|error| Failure::user(&error))?;
        Ok(Ready {
            file: self.prepared.file.clone(),
            named: self.args.scenario.display().to_string(),
            text: self.prepared.text.as_str().into(),
            digest: self.prepared.digest.clone(),
            guest_digest: Some(guest.digest()?),
            scenario,
            instead,
            seed: errand.seed,
            guest: guest.clone(),
            out,
        })
    }
}

impl Prober for Storms<'_> {
    type Failure = Failure;

    fn build(&mut self, commit: &Commit) -> Result<Built, Failure> {
        self.end();
        self.guest = None;
        let options = BuildOptions {
            source: KernelSource::Commit { repository: self.ends.repository.clone(), commit: commit.id.clone() },
            configs: self.args.config.clone(),
            no_base: false,
            patches: self.args.patch.clone(),
            no_fixups: self.args.no_fixups,
            jobs: thread::available_parallelism().map_or(1, usize::from),
            packages: None,
            check: false,
        };
        let mut shown = build::Shown::new(std::io::stderr().is_terminal());
        let outcome = build_kernel(&self.kernel, &options, self.interrupt, &mut |step| shown.step(step));
        shown.end();
        let kernel = match outcome {
            Ok(BuildOutcome::Kernel(kernel)) => *kernel,
            Ok(_) => return Err(Failure::machine(&"a kernel was looked at and not built")),
            Err(error) if error.is_sources() => return Ok(Built::Unfit(error.to_string())),
            Err(error) => return Err(build::failure(&error)),
        };
        let (file, scenario) = (&self.prepared.file, &self.prepared.scenario);
        match Pantry::default().guest(file, scenario, Some(&self.kernel)) {
            Ok(guest) => self.guest = Some(guest),
            // A kernel that no machine can load, a module that is not for it: another commit's may be.
            Err(Failure::Sentence(reason, EXIT_USER)) => return Ok(Built::Unfit(reason)),
            Err(failure) => return Err(failure),
        }
        Ok(Built::Kernel(kernel.release.unwrap_or(kernel.name)))
    }

    fn storm(&mut self, commit: &Commit, errands: &[Errand], taker: &dyn Taker) -> Result<(), Failure> {
        let guest = self.guest.as_ref().ok_or_else(|| Failure::machine(&"there is no kernel to run"))?;
        let runs = errands.iter().map(|errand| self.ready(commit, errand, guest)).collect::<Result<Vec<_>, _>>()?;
        let listener = Listener {
            runs: &runs,
            errands,
            taker,
            snapshots: &self.snapshots,
            ended: AtomicUsize::new(0),
            failed: Mutex::new(None),
        };
        let way = Way {
            jobs: self.args.jobs,
            cold: self.args.cold,
            quiet: true,
            board: self.board,
            // One folder: a nested machine takes only so many.
            around: Some(self.folder.path()),
            audience: &listener,
            shelf: Shelf::default(),
            known: None,
        };
        let code = self.site.carry_out(&runs, &way);
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(Failure::Sentence("a signal ended it".into(), EXIT_INTERRUPTED));
        }
        let code = code?;
        if let Some(reason) = listener.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(Failure::machine(&reason));
        }
        if listener.ended.into_inner() < runs.len() && taker.wants_more() {
            return Err(Failure::machine(&format!("not all runs were carried out (exit code {code})")));
        }
        Ok(())
    }
}

/// Hands on what came of runs, as their results on disk say.
struct Listener<'a> {
    runs: &'a [Ready],
    errands: &'a [Errand],
    taker: &'a dyn Taker,
    snapshots: &'a Mutex<HashSet<String>>,
    ended: AtomicUsize,
    /// Why the machine is no longer to be trusted with more, if it is not.
    failed: Mutex<Option<String>>,
}

impl Listener<'_> {
    fn fail(&self, reason: String) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }
}

impl Audience for Listener<'_> {
    fn began(&self, _run: usize) {}

    /// Of a run's own words a bisection shows none.
    fn shown(&self, _run: usize, _text: &str) {}

    fn ended(&self, run: usize, code: u8) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        let (Some(ready), Some(errand)) = (self.runs.get(run), self.errands.get(run)) else { return };
        let result = read_result(&ready.out.join(RESULT)).ok();
        let ran = result.as_ref().and_then(|result| Ran::of(errand.run, result));
        let (Some(result), Some(ran)) = (result, ran) else {
            if code != EXIT_INTERRUPTED {
                self.fail(format!("run {} ended with exit code {code} and left no result", errand.run));
            }
            return;
        };
        if let Some(snapshot) = &result.guest.snapshot {
            self.snapshots.lock().unwrap_or_else(PoisonError::into_inner).insert(snapshot.clone());
        }
        if result.ended_by == EndedBy::Host && result.findings.is_empty() {
            self.fail(format!("run {} proves nothing: {}", errand.run, result.reason.unwrap_or_default()));
        } else {
            self.taker.ran(ran);
        }
    }

    fn wants_more(&self) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_none() && self.taker.wants_more()
    }
}
