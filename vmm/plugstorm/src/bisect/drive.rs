//! From two commits to the first bad one.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::came::{Came, Counts, MOST_VAIN, Ran, Target};
use super::error::Unfit;
use super::folder::FolderError;
use super::history::{History, Next, Remaining};
use super::model::{Bisection, Outcome, Step, Verdict};
use super::probe::{Built, Errand, Keeper, Prober, Taker, Watcher};
use super::rate::Plan;
use crate::git::GitError;

/// Why a bisection did not come to its end.
#[derive(Debug)]
pub enum Halt<F> {
    /// Whoever builds and storms gave up.
    Prober(F),
    /// The user's two commits are none to bisect between.
    Unfit(Box<Unfit>),
    /// git failed.
    Git(GitError),
    /// Nothing more can be kept.
    Keep(FolderError),
}

impl<F> From<GitError> for Halt<F> {
    fn from(error: GitError) -> Self {
        Self::Git(error)
    }
}

impl<F> From<FolderError> for Halt<F> {
    fn from(error: FolderError) -> Self {
        Self::Keep(error)
    }
}

/// Which commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Bad,
    Good,
    Step(usize),
}

/// What is to be done about a commit.
enum Standing {
    /// So many more runs.
    Open(u32),
    Decided(Verdict),
}

/// Goes on with a bisection, from wherever it is, to its end. `history` is at its beginning.
///
/// # Errors
/// [`Halt`]. What was done so far has been kept.
pub fn drive<P: Prober>(
    bisection: &mut Bisection,
    history: &mut dyn History,
    prober: &mut P,
    keeper: &dyn Keeper,
    watcher: &dyn Watcher,
) -> Result<(), Halt<P::Failure>> {
    for step in &bisection.steps {
        if let Some(verdict) = &step.verdict {
            history.mark(&step.commit, verdict)?;
        }
    }
    let log = history.log()?;
    let mut driver = Driver { bisection, history, prober, keeper, watcher, log };
    driver.keep()?;
    driver.bad()?;
    driver.good()?;
    driver.between()
}

struct Driver<'a, P> {
    bisection: &'a mut Bisection,
    history: &'a mut dyn History,
    prober: &'a mut P,
    keeper: &'a dyn Keeper,
    watcher: &'a dyn Watcher,
    /// git's, as it was last.
    log: String,
}

impl<P: Prober> Driver<'_, P> {
    /// Measures how often the finding comes where it is.
    fn bad(&mut self) -> Result<(), Halt<P::Failure>> {
        if self.bisection.plan.is_some() {
            return Ok(());
        }
        self.probe(Place::Bad, None)?;
        let target = self.bisection.target.clone();
        let step = &self.bisection.bad;
        let (commit, counts) = (step.commit.clone(), step.counts(target.as_ref()));
        let runs = counts.verdicts();
        if let Some(unfit) = unfit("bad", step, &counts) {
            return Err(self.again(Place::Bad, unfit));
        }
        let plan = match Plan::new(counts.hit_cycles.clone(), runs, self.bisection.header.confidence) {
            Ok(plan) => plan,
            Err(None) => {
                let others = others(step, target.as_ref());
                let target = target.map(|target| target.name().to_owned());
                return Err(self.again(Place::Bad, Unfit::NeverSeen { commit, target, runs, others }));
            }
            Err(Some(needed)) => {
                let hits = counts.hits();
                return Err(self.again(Place::Bad, Unfit::TooRare { commit, hits, runs, needed }));
            }
        };
        self.watcher.planned(self.bisection, &plan);
        self.bisection.plan = Some(plan);
        self.keep()
    }

    /// Sees that the finding is not where it is said not to be.
    fn good(&mut self) -> Result<(), Halt<P::Failure>> {
        self.probe(Place::Good, None)?;
        let step = &self.bisection.good;
        let target = self.bisection.target.as_ref();
        let met = step.runs.iter().find_map(|ran| {
            let met = ran.findings.iter().find(|met| target.is_some_and(|target| target.is(met)))?;
            Some((ran, met))
        });
        if let Some((ran, met)) = met {
            let (commit, title) = (step.commit.clone(), met.title.clone());
            return Err(Halt::Unfit(Box::new(Unfit::GoodIsBad {
                commit,
                run: ran.run,
                seed: ran.seed,
                title,
                cycle: met.cycle,
            })));
        }
        match unfit("good", step, &step.counts(target)) {
            Some(unfit) => Err(self.again(Place::Good, unfit)),
            None => Ok(()),
        }
    }

    /// Tries what git says, until there is nothing left to try.
    fn between(&mut self) -> Result<(), Halt<P::Failure>> {
        loop {
            let (next, remaining) = self.history.next()?;
            let outcome = match next {
                Next::First(commit) => Outcome::First(commit),
                Next::Candidates(commits) => Outcome::Candidates(commits),
                Next::Test(commit) => {
                    // One that was begun goes on.
                    let begun = self.bisection.steps.iter().position(|step| step.commit.id == commit.id);
                    let index = begun.unwrap_or(self.bisection.steps.len());
                    if begun.is_none() {
                        self.bisection.steps.push(Step::new(commit.clone()));
                        self.keep()?;
                    }
                    let verdict = self.probe(Place::Step(index), Some(remaining))?;
                    self.history.mark(&commit, &verdict)?;
                    self.log = self.history.log()?;
                    self.keep()?;
                    continue;
                }
            };
            self.bisection.outcome = Some(outcome);
            return self.keep();
        }
    }

    /// Builds a commit and has runs carried out until it is decided.
    fn probe(&mut self, place: Place, remaining: Option<Remaining>) -> Result<Verdict, Halt<P::Failure>> {
        let mut is_built = false;
        loop {
            let step = step_of(self.bisection, place);
            let commit = step.commit.clone();
            let more = match standing(self.bisection, place) {
                Standing::Decided(verdict) => {
                    let is_new = step.verdict.is_none();
                    self.decide(place, verdict.clone(), is_new)?;
                    return Ok(verdict);
                }
                Standing::Open(more) => more,
            };
            if !is_built {
                self.watcher.begins(self.bisection, step, remaining);
                let begun = Instant::now();
                let built = self.prober.build(&commit).map_err(Halt::Prober)?;
                let step = step_of_mut(self.bisection, place);
                step.build_seconds = step.build_seconds.saturating_add(begun.elapsed().as_secs());
                match built {
                    Built::Kernel(release) => step.release = Some(release),
                    Built::Unfit(reason) => {
                        let verdict = Verdict::Skipped { reason };
                        self.decide(place, verdict.clone(), true)?;
                        return Ok(verdict);
                    }
                }
                is_built = true;
                self.keep()?;
            }
            let errands = errands(self.bisection, place, more);
            let (begun, before) = (Instant::now(), step_of(self.bisection, place).runs.len());
            let keeping = Keeping {
                shared: Mutex::new((&mut *self.bisection, None)),
                place,
                all_cycles: errands.iter().all(|errand| errand.all_cycles),
                keeper: self.keeper,
                watcher: self.watcher,
                log: &self.log,
            };
            let stormed = self.prober.storm(&commit, &errands, &keeping);
            let (_, failed) = keeping.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
            let step = step_of_mut(self.bisection, place);
            step.storm_seconds = step.storm_seconds.saturating_add(begun.elapsed().as_secs());
            let is_stalled = step.runs.len() == before;
            failed.map_or(Ok(()), Err)?;
            self.keep()?;
            stormed.map_err(Halt::Prober)?;
            if is_stalled {
                // It says that all is well, and nothing came of it: it would go on so for ever.
                let reason = "its runs left no result".to_owned();
                let verdict = Verdict::Skipped { reason };
                self.decide(place, verdict.clone(), true)?;
                return Ok(verdict);
            }
        }
    }

    fn decide(&mut self, place: Place, verdict: Verdict, is_new: bool) -> Result<(), Halt<P::Failure>> {
        step_of_mut(self.bisection, place).verdict = Some(verdict);
        if is_new {
            self.watcher.decided(self.bisection, step_of(self.bisection, place));
        }
        self.keep()
    }

    /// The user may mend what is wrong with an end: the next time it is tried anew.
    fn again(&mut self, place: Place, unfit: Unfit) -> Halt<P::Failure> {
        let step = step_of_mut(self.bisection, place);
        *step = Step::new(step.commit.clone());
        if place == Place::Bad {
            self.bisection.target = self.bisection.header.title.clone().map(Target::Pattern);
        }
        match self.keep() {
            Ok(()) => Halt::Unfit(Box::new(unfit)),
            Err(halt) => halt,
        }
    }

    fn keep(&self) -> Result<(), Halt<P::Failure>> {
        Ok(self.keeper.keep(self.bisection, &self.log)?)
    }
}

fn step_of(bisection: &Bisection, place: Place) -> &Step {
    match place {
        Place::Bad => &bisection.bad,
        Place::Good => &bisection.good,
        // An index is of a step that was pushed, and none is ever taken out.
        Place::Step(index) => bisection.steps.get(index).unwrap_or(&bisection.bad),
    }
}

fn step_of_mut(bisection: &mut Bisection, place: Place) -> &mut Step {
    match place {
        Place::Bad => &mut bisection.bad,
        Place::Good => &mut bisection.good,
        Place::Step(index) => bisection.steps.get_mut(index).unwrap_or(&mut bisection.bad),
    }
}

/// What is to be done about a commit, by what is known of it.
fn standing(bisection: &Bisection, place: Place) -> Standing {
    let step = step_of(bisection, place);
    if let Some(verdict) = &step.verdict {
        return Standing::Decided(verdict.clone());
    }
    let counts = step.counts(bisection.target.as_ref());
    let (known, wanted) = match place {
        // All of them: they say how often it comes.
        Place::Bad => (counts.verdicts(), bisection.header.runs),
        Place::Good | Place::Step(_) => {
            if counts.hits() > 0 {
                return Standing::Decided(Verdict::Bad);
            }
            (counts.without, bisection.plan.as_ref().map_or(1, |plan| plan.needed))
        }
    };
    if known >= wanted {
        return Standing::Decided(if counts.hits() > 0 { Verdict::Bad } else { Verdict::Good });
    }
    if counts.nothing >= MOST_VAIN {
        let reason = counts.reason.unwrap_or_default();
        let reason = format!("{} of its runs prove nothing, the last because {reason}", counts.nothing);
        return Standing::Decided(Verdict::Skipped { reason });
    }
    Standing::Open(wanted - known)
}

/// The next so many runs of a commit. Their numbers, and so their seeds, are the same for each commit.
fn errands(bisection: &Bisection, place: Place, more: u32) -> Vec<Errand> {
    let done: HashSet<u32> = step_of(bisection, place).runs.iter().map(|ran| ran.run).collect();
    let all_cycles = is_masked(bisection, place);
    let free = (1..).filter(|run| !done.contains(run));
    let errand = |run: u32| Errand { run, seed: bisection.header.seed.wrapping_add(u64::from(run) - 1), all_cycles };
    free.take(more as usize).map(errand).collect()
}

/// Whether a run of this commit, or of the bad one, was ended by something else than what is looked for.
fn is_masked(bisection: &Bisection, place: Place) -> bool {
    let Some(target) = &bisection.target else { return false };
    let mut runs = step_of(bisection, place).runs.iter().chain(&bisection.bad.runs);
    runs.any(|ran| !ran.findings.is_empty() && matches!(ran.came(target), Came::Nothing { .. }))
}

/// Why nothing can be said of an end, if nothing can.
fn unfit(end: &'static str, step: &Step, counts: &Counts) -> Option<Unfit> {
    let Some(Verdict::Skipped { reason }) = &step.verdict else { return None };
    let (commit, reason) = (step.commit.clone(), reason.clone());
    Some(match &counts.reason {
        Some(reason) => Unfit::ProvesNothing { end, commit, nothing: counts.nothing, reason: reason.clone() },
        None => Unfit::NotBuilt { end, commit, reason },
    })
}

/// What else was found, as the end of a clause.
fn others(step: &Step, target: Option<&Target>) -> String {
    let mut titles: Vec<&str> = step
        .runs
        .iter()
        .flat_map(|ran| &ran.findings)
        .filter(|met| target.is_none_or(|target| !target.is(met)))
        .map(|met| met.title.as_str())
        .collect();
    titles.sort_unstable();
    titles.dedup();
    if titles.is_empty() { String::new() } else { format!(", but {titles:?} were") }
}

/// Takes what comes of the runs of one commit.
struct Keeping<'a, 'b> {
    /// And why it cannot be kept any more, if it cannot.
    shared: Mutex<(&'a mut Bisection, Option<FolderError>)>,
    place: Place,
    /// The runs that are under way go on after a finding.
    all_cycles: bool,
    keeper: &'b dyn Keeper,
    watcher: &'b dyn Watcher,
    log: &'b str,
}

impl Taker for Keeping<'_, '_> {
    fn ran(&self, ran: Ran) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let (bisection, failed) = &mut *shared;
        if bisection.target.is_none()
            && let Some(first) = ran.findings.first()
        {
            bisection.target = Some(Target::like(first));
        }
        let came = ran.came(bisection.target.as_ref().unwrap_or(&Target::nothing()));
        step_of_mut(bisection, self.place).runs.push(ran);
        let step = step_of(bisection, self.place);
        if let Some(ran) = step.runs.last() {
            self.watcher.ran(step, ran, &came);
        }
        if let Err(error) = self.keeper.keep(bisection, self.log) {
            failed.get_or_insert(error);
        }
    }

    fn wants_more(&self) -> bool {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let (bisection, failed) = &*shared;
        failed.is_none()
            && matches!(standing(bisection, self.place), Standing::Open(_))
            // The next ones are to go on after a finding.
            && (self.all_cycles || !is_masked(bisection, self.place))
    }
}
