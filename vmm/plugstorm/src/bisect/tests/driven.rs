//! The driver against histories that are made up.

use std::collections::HashMap;
use std::sync::Mutex;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::git::GitError;
use crate::results::FindingKind;

const TITLE: &str = "removal never ends: gpiochip_remove waits";

/// Commits 0 to `len - 1`, one after another; the first is good, the last bad. Halved as git does it, but for its skips: the
/// nearest that was not skipped comes next.
pub(super) struct Line {
    len: usize,
    good: usize,
    bad: usize,
    skipped: Vec<usize>,
    marks: usize,
}

impl Line {
    pub(super) fn new(len: usize) -> Self {
        Self { len, good: 0, bad: len - 1, skipped: Vec::new(), marks: 0 }
    }
}

pub(super) fn numbered(number: usize) -> Commit {
    commit(&format!("{number:04}x"))
}

pub(super) fn number(commit: &Commit) -> usize {
    commit.id.split('x').next().unwrap().parse().unwrap()
}

impl History for Line {
    fn next(&mut self) -> Result<(Next, Remaining), GitError> {
        let candidates = (self.bad - self.good) as u32;
        let remaining = Remaining { commits: candidates, steps: candidates.ilog2() };
        if self.bad - self.good == 1 {
            return Ok((Next::First(numbered(self.bad)), remaining));
        }
        let middle = usize::midpoint(self.good, self.bad);
        let open = (self.good + 1..self.bad).filter(|number| !self.skipped.contains(number));
        Ok(match open.min_by_key(|number| number.abs_diff(middle)) {
            Some(next) => (Next::Test(numbered(next)), remaining),
            None => (Next::Candidates((self.good + 1..=self.bad).map(numbered).collect()), remaining),
        })
    }

    fn mark(&mut self, commit: &Commit, verdict: &Verdict) -> Result<(), GitError> {
        let number = number(commit);
        assert!(number < self.len && !self.skipped.contains(&number));
        self.marks += 1;
        match verdict {
            Verdict::Good => self.good = self.good.max(number),
            Verdict::Bad => self.bad = self.bad.min(number),
            Verdict::Skipped { .. } => self.skipped.push(number),
        }
        Ok(())
    }

    fn log(&mut self) -> Result<String, GitError> {
        Ok(format!("{} marks\n", self.marks))
    }
}

/// What a commit is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Nature {
    /// Each run meets the finding so often.
    Shows(f64),
    DoesNotBuild,
    DoesNotBoot,
    /// Something else ends each run.
    Masked,
    /// Each run finds something else, and goes on.
    Noisy,
}

/// Knows the answer. Fails now and then, as by a signal.
pub(super) struct Oracle<F: Fn(usize) -> Nature> {
    nature: F,
    chance: ChaCha8Rng,
    /// Of each build and each run.
    fails: f64,
    /// Runs of each commit.
    runs: HashMap<usize, u32>,
    /// Runs that are carried out beside each other: all of a lot come to their end, whatever the first says.
    side_by_side: bool,
    all_cycles_asked: bool,
}

#[derive(Debug, PartialEq)]
pub(super) struct Signal;

impl<F: Fn(usize) -> Nature> Oracle<F> {
    pub(super) fn new(seed: u64, nature: F) -> Self {
        let chance = ChaCha8Rng::seed_from_u64(seed);
        Self { nature, chance, fails: 0.0, runs: HashMap::new(), side_by_side: false, all_cycles_asked: false }
    }
}

pub(super) fn ran(errand: &Errand, completed: u32, titles: &[&str], nothing: Option<&str>) -> Ran {
    let met = |title: &&str| Met {
        title: (*title).into(),
        alt_titles: Vec::new(),
        kind: FindingKind::Splat,
        cycle: completed + 1,
    };
    let findings = titles.iter().map(met).collect();
    let (run, seed) = (errand.run, errand.seed);
    Ran { run, seed, seconds: 30, completed, asked: 3, findings, nothing: nothing.map(str::to_owned) }
}

impl<F: Fn(usize) -> Nature> Prober for Oracle<F> {
    type Failure = Signal;

    fn build(&mut self, commit: &Commit) -> Result<Built, Signal> {
        if self.chance.random_bool(self.fails) {
            return Err(Signal);
        }
        Ok(match (self.nature)(number(commit)) {
            Nature::DoesNotBuild => Built::Unfit("compiling failed (exit status: 2):\na.c:1: error: no".into()),
            _ => Built::Kernel("6.12-x".into()),
        })
    }

    fn storm(&mut self, commit: &Commit, errands: &[Errand], taker: &dyn Taker) -> Result<(), Signal> {
        assert!(!errands.is_empty());
        for errand in errands {
            if !taker.wants_more() && !self.side_by_side {
                break;
            }
            if self.chance.random_bool(self.fails) {
                return Err(Signal);
            }
            *self.runs.entry(number(commit)).or_default() += 1;
            self.all_cycles_asked |= errand.all_cycles;
            taker.ran(match (self.nature)(number(commit)) {
                Nature::Shows(rate) if self.chance.random_bool(rate) => ran(errand, 1, &[TITLE], None),
                Nature::Shows(_) => ran(errand, 3, &[], None),
                Nature::DoesNotBuild => panic!("there is no kernel"),
                Nature::DoesNotBoot => ran(errand, 0, &[], Some("the guest never started its agent")),
                Nature::Masked => ran(errand, 0, &["BUG: something else"], None),
                Nature::Noisy => ran(errand, 3, &["WARNING: something else"], None),
            });
        }
        Ok(())
    }
}

/// Keeps in memory, as text.
#[derive(Default)]
pub(super) struct Memory {
    kept: Mutex<String>,
    fails: bool,
    /// Nothing is looked at.
    is_blind: bool,
}

impl Keeper for Memory {
    fn keep(&self, bisection: &Bisection, _log: &str) -> Result<(), FolderError> {
        if self.fails {
            let source = std::io::ErrorKind::StorageFull.into();
            return Err(FolderError::Unwritable { path: "/full".into(), source });
        }
        if self.is_blind {
            return Ok(());
        }
        *self.kept.lock().unwrap() = serde_json::to_string(bisection).unwrap();
        Ok(())
    }
}

pub(super) struct Nobody;

impl Watcher for Nobody {
    fn begins(&self, _: &Bisection, _: &Step, _: Option<Remaining>) {}
    fn ran(&self, _: &Step, _: &Ran, _: &Came) {}
    fn planned(&self, _: &Bisection, _: &Plan) {}
    fn decided(&self, _: &Bisection, _: &Step) {}
}

fn fresh(len: usize) -> Bisection {
    Bisection::new(header(), numbered(0), numbered(len - 1))
}

/// To its end, begun again as often as it is interrupted.
fn whole<F: Fn(usize) -> Nature>(len: usize, oracle: &mut Oracle<F>) -> (Bisection, Result<(), Halt<Signal>>) {
    let memory = Memory::default();
    let mut bisection = fresh(len);
    for _ in 0..1000 {
        let ended = drive(&mut bisection, &mut Line::new(len), oracle, &memory, &Nobody);
        let kept: Bisection = serde_json::from_str(&memory.kept.lock().unwrap()).unwrap();
        // The last binary digit of a float may be lost on the way.
        assert_eq!(Bisection { plan: bisection.plan.clone(), ..kept.clone() }, bisection);
        match ended {
            Err(Halt::Prober(Signal)) => bisection = kept,
            ended => return (bisection, ended),
        }
    }
    panic!("it never ends");
}

fn unfit(ended: Result<(), Halt<Signal>>) -> String {
    match ended {
        Err(Halt::Unfit(unfit)) => unfit.to_string(),
        other => panic!("{other:?}"),
    }
}

fn step_at(first: usize) -> impl Fn(usize) -> Nature {
    move |number| Nature::Shows(if number < first { 0.0 } else { 1.0 })
}

#[test]
fn the_first_bad_commit_is_found_with_as_few_runs_as_it_takes() {
    let mut oracle = Oracle::new(1, step_at(37));
    let (bisection, ended) = whole(100, &mut oracle);
    ended.unwrap();
    assert_eq!(bisection.outcome, Some(Outcome::First(numbered(37))));
    let plan = bisection.plan.as_ref().unwrap();
    assert_eq!((plan.hits, plan.runs, plan.needed, plan.cycles), (10, 10, 4, [2; 3]));
    for (commit, runs) in &oracle.runs {
        let expected = match commit {
            99 => 10,
            37.. => 1,
            _ => 4,
        };
        assert_eq!(*runs, expected, "commit {commit}");
    }
    assert!(bisection.steps.len() <= 7, "{}", bisection.steps.len());
    let good = bisection.steps.iter().filter(|step| step.verdict == Some(Verdict::Good)).count() + 1;
    let expected = 1.0 - (1.0 - plan.risk(4)).powi(good as i32);
    assert!((bisection.risk() - expected).abs() < 1e-12 && bisection.risk() < 0.05);
}

#[test]
fn what_does_not_build_or_boot_is_skipped_with_its_reason() {
    let nature = |number| match number {
        50 => Nature::DoesNotBuild,
        49 | 51 => Nature::DoesNotBoot,
        number => step_at(60)(number),
    };
    let mut oracle = Oracle::new(1, nature);
    let (bisection, ended) = whole(101, &mut oracle);
    ended.unwrap();
    assert_eq!(bisection.outcome, Some(Outcome::First(numbered(60))));
    let reasons = |number: usize| {
        bisection.steps.iter().find_map(|step| match &step.verdict {
            Some(Verdict::Skipped { reason }) if step.commit == numbered(number) => Some(reason.clone()),
            _ => None,
        })
    };
    assert!(reasons(50).unwrap().contains("a.c:1: error"));
    assert_eq!(oracle.runs.get(&50), None);
    let boot = reasons(49).or(reasons(51)).unwrap();
    assert_eq!(boot, "3 of its runs prove nothing, the last because the guest never started its agent");
}

#[test]
fn where_only_skipped_commits_are_left_they_are_told() {
    let nature = |number| if (3..=6).contains(&number) { Nature::DoesNotBuild } else { step_at(5)(number) };
    let (bisection, ended) = whole(10, &mut Oracle::new(1, nature));
    ended.unwrap();
    let Some(Outcome::Candidates(candidates)) = &bisection.outcome else { panic!("{:?}", bisection.outcome) };
    assert_eq!(candidates.iter().map(number).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
    insta::assert_snapshot!(log_text(&bisection));
}

#[test]
fn another_finding_is_neither_good_nor_bad() {
    // What finds something else and goes on counts as without.
    let mut oracle = Oracle::new(1, |number| if number == 2 { Nature::Noisy } else { step_at(4)(number) });
    let (bisection, ended) = whole(6, &mut oracle);
    ended.unwrap();
    assert_eq!(bisection.outcome, Some(Outcome::First(numbered(4))));
    assert!(log_text(&bisection).contains("WARNING: something else (0002x"), "{}", log_text(&bisection));
    // What is ended by something else is asked to go on, and skipped if that is of no use.
    let mut oracle = Oracle::new(1, |number| if number == 2 { Nature::Masked } else { step_at(4)(number) });
    let (bisection, ended) = whole(6, &mut oracle);
    ended.unwrap();
    assert_eq!(bisection.outcome, Some(Outcome::First(numbered(4))));
    assert!(oracle.all_cycles_asked && oracle.runs[&2] == 3, "{} {:?}", oracle.all_cycles_asked, oracle.runs);
    let step = bisection.steps.iter().find(|step| step.commit == numbered(2)).unwrap();
    assert!(matches!(&step.verdict, Some(Verdict::Skipped { reason }) if reason.contains("something else came first")));
}

#[test]
fn ends_that_are_none() {
    let told = |nature: &dyn Fn(usize) -> Nature| unfit(whole(10, &mut Oracle::new(1, nature)).1);
    let except =
        |number: usize, nature: Nature| told(&move |commit| if commit == number { nature } else { step_at(5)(commit) });
    insta::assert_snapshot!(
        [
            except(9, Nature::Shows(0.0)),
            except(9, Nature::DoesNotBuild),
            except(9, Nature::DoesNotBoot),
            except(0, Nature::Shows(1.0)),
            except(0, Nature::DoesNotBuild),
            except(0, Nature::DoesNotBoot),
            except(0, Nature::Masked),
        ]
        .join("\n")
    );
}

#[test]
fn a_finding_that_is_too_rare_is_refused() {
    let mut bisection = fresh(10);
    (bisection.header.runs, bisection.header.confidence) = (50, 0.999_999);
    let mut oracle = Oracle::new(4, |_| Nature::Shows(0.02));
    let ended = drive(&mut bisection, &mut Line::new(10), &mut oracle, &Memory::default(), &Nobody);
    let sentence = unfit(ended);
    assert!(sentence.contains("1000 are the most"), "{sentence}");
    // Nothing stays that would be taken for known the next time.
    assert!(bisection.bad.runs.is_empty() && bisection.bad.verdict.is_none() && bisection.target.is_none());
}

#[test]
fn a_full_disk_ends_it() {
    let memory = Memory { fails: true, ..Memory::default() };
    let ended = drive(&mut fresh(10), &mut Line::new(10), &mut Oracle::new(1, step_at(5)), &memory, &Nobody);
    assert!(matches!(ended, Err(Halt::Keep(_))), "{ended:?}");
}

#[test]
fn what_is_complete_stays_so() {
    let mut oracle = Oracle::new(1, step_at(5));
    let (mut bisection, _) = whole(10, &mut oracle);
    let runs = oracle.runs.clone();
    let before = bisection.clone();
    drive(&mut bisection, &mut Line::new(10), &mut oracle, &Memory::default(), &Nobody).unwrap();
    assert_eq!((bisection, oracle.runs), (before, runs));
}

/// Of so many bisections with a finding that comes at `rate`, where it comes: in how many the planted commit was missed, and what
/// was said of that before, on average.
fn missed(rate: f64, times: u64) -> (f64, f64) {
    let (mut wrong, mut told) = (0.0, 0.0);
    for seed in 0..times {
        let first = 1 + (seed as usize * 7) % 62;
        let nature = |number| Nature::Shows(if number < first { 0.0 } else { rate });
        let memory = Memory { is_blind: true, ..Memory::default() };
        let mut bisection = fresh(64);
        let ended = drive(&mut bisection, &mut Line::new(64), &mut Oracle::new(seed, nature), &memory, &Nobody);
        if matches!(&ended, Err(Halt::Unfit(unfit)) if matches!(**unfit, Unfit::NeverSeen { .. })) {
            // Nothing is claimed then.
            continue;
        }
        ended.unwrap();
        wrong += f64::from(u8::from(bisection.outcome != Some(Outcome::First(numbered(first)))));
        told += bisection.risk();
    }
    (wrong / times as f64, told / times as f64)
}

#[test]
fn a_flaky_finding_is_missed_no_more_often_than_said() {
    for rate in [0.9, 0.7, 0.5] {
        let (wrong, told) = missed(rate, 400);
        // The rate is taken from the lower end of its interval, so that it is mostly missed far less often.
        assert!(wrong <= told && told < 0.08, "rate {rate}: missed in {wrong}, told {told}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Interruptions, skips and what is carried out side by side change nothing of what is found.
    #[test]
    fn the_planted_commit_is_found_however_it_goes(
        len in 3usize..60,
        place in 0.0f64..1.0,
        skips in prop::collection::vec(1usize..59, 0..8),
        fails in 0.0f64..0.3,
        side_by_side: bool,
        seed: u64,
    ) {
        let first = 1 + ((len - 1) as f64 * place) as usize;
        let nature = |number| match skips.contains(&number) && number + 1 < len {
            true if number % 2 == 0 => Nature::DoesNotBuild,
            true => Nature::DoesNotBoot,
            false => step_at(first)(number),
        };
        let mut oracle = Oracle::new(seed, nature);
        (oracle.fails, oracle.side_by_side) = (fails, side_by_side);
        let (bisection, ended) = whole(len, &mut oracle);
        ended.unwrap();
        match bisection.outcome.unwrap() {
            Outcome::First(found) => prop_assert_eq!(number(&found), first),
            Outcome::Candidates(candidates) => {
                let candidates: Vec<usize> = candidates.iter().map(number).collect();
                prop_assert!(candidates.contains(&first), "{:?} without {}", candidates, first);
                // All but the last are such as cannot be told.
                prop_assert!(candidates.split_last().unwrap().1.iter().all(|number| skips.contains(number)));
            }
        }
        // Each commit once.
        let mut tried: Vec<&str> = bisection.steps.iter().map(|step| step.commit.id.as_str()).collect();
        let all = tried.len();
        tried.sort_unstable();
        tried.dedup();
        prop_assert_eq!(tried.len(), all);
    }
}
