//! What a verdict rests on, added up over runs: calls by operation, removals by way, times.

use std::collections::{BTreeMap, BTreeSet};

use plugstorm_observe::timing::{Bucket, GracePeriodMode, Summary};
use plugstorm_wire::Sharing;

use super::text::one_line;
use super::{Run, Setting};
use crate::results::{OperationTotals, RemovalTotals, RunResult};
use crate::scenario::operation_name;

/// Lines of a table: a matrix has some two thousand.
const MOST_LINES: usize = 4000;
/// Histograms: our designs have some forty callers of `synchronize_srcu`, and there may be several kernels.
const MOST_TIMES: usize = 256;
/// Buckets of a histogram: those of 64-bit numbers.
const MOST_BUCKETS: usize = 65;

/// What an operation of a hammer came to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Calls {
    pub(super) setting: String,
    pub(super) hammer: String,
    pub(super) device: String,
    pub(super) threads: u32,
    pub(super) shared: bool,
    pub(super) operation: String,
    pub(super) calls: u64,
    pub(super) succeeded: u64,
    /// Errors by errno, ends of programs by status, in the order in which they were met.
    pub(super) failed: Vec<(String, u64)>,
    pub(super) longest_ns: u64,
    /// For the rate.
    active_ns: u64,
}

impl Calls {
    /// Calls in a second of the hammer's activity.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(super) fn per_second(&self) -> Option<f64> {
        (self.active_ns > 0).then(|| self.calls as f64 * 1e9 / self.active_ns as f64)
    }

    fn add(&mut self, operation: &OperationTotals, active_ns: u64) {
        self.calls = self.calls.saturating_add(operation.calls);
        self.succeeded = self.succeeded.saturating_add(operation.succeeded);
        self.longest_ns = self.longest_ns.max(operation.longest_ns);
        self.active_ns = self.active_ns.saturating_add(active_ns);
        let errors = operation.errors.iter().map(|error| (&error.name, error.count));
        let exits = operation.exits.iter().map(|exit| (&exit.status, exit.count));
        for (name, count) in errors.chain(exits) {
            let name = one_line(name);
            if let Some((_, sum)) = self.failed.iter_mut().find(|(known, _)| *known == name) {
                *sum = sum.saturating_add(count);
            } else if self.failed.len() < MOST_LINES {
                self.failed.push((name, count));
            }
        }
    }
}

/// Removals of one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Removals {
    pub(super) setting: String,
    pub(super) how: &'static str,
    pub(super) asked: u64,
    pub(super) seen: u64,
    pub(super) finished: u64,
    pub(super) stuck: u64,
    pub(super) seen_after: Option<Times>,
    pub(super) finished_after: Option<Times>,
}

/// How long something took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) n: u64,
    pub(super) min_ns: u64,
    pub(super) max_ns: u64,
    /// p50, p90 and p99; only of one run's, since those of several cannot be added up.
    pub(super) percentiles: Option<[u64; 3]>,
    /// By upper bound, with the empty ones between.
    pub(super) buckets: Vec<Bucket>,
}

impl Times {
    fn of(summary: &Summary) -> Self {
        let mut buckets: Vec<Bucket> = summary.buckets.iter().copied().take(MOST_BUCKETS).collect();
        buckets.sort_by_key(|bucket| bucket.upto_ns);
        Self {
            n: summary.n,
            min_ns: summary.min_ns,
            max_ns: summary.max_ns,
            percentiles: Some([summary.p50_ns, summary.p90_ns, summary.p99_ns]),
            buckets,
        }
    }

    fn add(&mut self, summary: &Summary) {
        self.n = self.n.saturating_add(summary.n);
        self.min_ns = self.min_ns.min(summary.min_ns);
        self.max_ns = self.max_ns.max(summary.max_ns);
        self.percentiles = None;
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for bucket in self.buckets.iter().chain(summary.buckets.iter().take(MOST_BUCKETS)) {
            let count = counts.entry(bucket.upto_ns).or_default();
            *count = count.saturating_add(bucket.count);
        }
        self.buckets =
            counts.into_iter().take(MOST_BUCKETS).map(|(upto_ns, count)| Bucket { upto_ns, count }).collect();
        self.fill();
    }

    /// Powers of two that are missing between two others.
    fn fill(&mut self) {
        let mut filled: Vec<Bucket> = Vec::new();
        for bucket in &self.buckets {
            while let Some(last) = filled.last().copied()
                && last.upto_ns > 0
                && last.upto_ns < bucket.upto_ns / 2
                && filled.len() < MOST_BUCKETS
            {
                filled.push(Bucket { upto_ns: last.upto_ns.saturating_mul(2), count: 0 });
            }
            filled.push(*bucket);
        }
        filled.truncate(MOST_BUCKETS);
        self.buckets = filled;
    }

    fn of_all(into: &mut Option<Self>, summary: Option<&Summary>) {
        match (into, summary) {
            (Some(times), Some(summary)) => times.add(summary),
            (into @ None, Some(summary)) => *into = Some(Self::of(summary)),
            (_, None) => {}
        }
    }
}

/// A histogram with its title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) group: Group,
    /// What was measured.
    pub(super) what: String,
    pub(super) times: Times,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    /// Waits for the readers of an SRCU domain, by caller and mode.
    GracePeriods,
    /// Parts of adding and removing, from the guest's own trace.
    Parts,
    /// From asking to the end, by the host's clock.
    Whole,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) calls: Vec<Calls>,
    pub(super) removals: Vec<Removals>,
    pub(super) measured: Vec<Measured>,
    pub(super) lost_events: u64,
    /// Lines that were left out.
    pub(super) left_out: usize,
}

/// Calls and removals are added up over the runs of one setting, times over those of one kernel on one sort of host: nothing else
/// can be compared.
pub(super) fn of(runs: &[Run], settings: &[Setting]) -> Evidence {
    let mut evidence = Evidence::default();
    let kernels: BTreeSet<&str> = settings.iter().map(|setting| setting.kernel.as_str()).collect();
    let places: BTreeSet<String> = runs.iter().map(|run| place(&run.result)).collect();
    for setting in settings {
        let on = if kernels.len() > 1 { format!(" on {}", setting.kernel) } else { String::new() };
        let name = format!("{}{on}", setting.name());
        for run in setting.runs.iter().filter_map(|run| runs.get(*run)) {
            evidence.calls_of(&name, &run.result);
            evidence.removals_of(&name, &run.result);
        }
    }
    for run in runs {
        let place = if places.len() > 1 { format!(" ({})", place(&run.result)) } else { String::new() };
        evidence.times_of(&place, &run.result);
    }
    evidence.measured.sort_by_key(|measured| measured.group);
    evidence
}

/// Where times were measured.
fn place(result: &RunResult) -> String {
    let guest = &result.guest;
    let release = guest.release.as_deref().unwrap_or(&guest.kernel);
    let hz = guest.hz.map(|hz| format!(", HZ {hz}")).unwrap_or_default();
    one_line(&format!("{release}{hz}, {}", result.host.kind.describe()))
}

impl Evidence {
    fn calls_of(&mut self, setting: &str, result: &RunResult) {
        for hammer in &result.hammers {
            for operation in &hammer.operations {
                let name = operation_name(operation.operation);
                let is_same = |calls: &&mut Calls| {
                    calls.setting == setting && calls.hammer == hammer.name && calls.operation == name
                };
                if let Some(calls) = self.calls.iter_mut().find(is_same) {
                    calls.add(operation, hammer.active_ns);
                } else if self.calls.len() < MOST_LINES {
                    let mut calls = Calls {
                        setting: setting.to_owned(),
                        hammer: hammer.name.clone(),
                        device: hammer.device.clone(),
                        threads: hammer.threads,
                        shared: hammer.sharing != Sharing::Own,
                        operation: name,
                        calls: 0,
                        succeeded: 0,
                        failed: Vec::new(),
                        longest_ns: 0,
                        active_ns: 0,
                    };
                    calls.add(operation, hammer.active_ns);
                    self.calls.push(calls);
                } else {
                    self.left_out += 1;
                }
            }
        }
    }

    fn removals_of(&mut self, setting: &str, result: &RunResult) {
        for removal in &result.removals {
            let how = removal.how.name();
            let known = self.removals.iter().position(|known| known.setting == setting && known.how == how);
            let place = match known {
                Some(place) => place,
                None if self.removals.len() < MOST_LINES => {
                    self.removals.push(Removals::none(setting, how));
                    self.removals.len() - 1
                }
                None => {
                    self.left_out += 1;
                    continue;
                }
            };
            if let Some(removals) = self.removals.get_mut(place) {
                removals.add(removal);
            }
        }
    }

    fn times_of(&mut self, place: &str, result: &RunResult) {
        let timings = &result.timings;
        self.lost_events = self.lost_events.saturating_add(timings.lost_events);
        for grace in &timings.grace_periods {
            let caller = grace.caller.as_ref().map_or_else(|| "an unknown caller".to_owned(), ToString::to_string);
            let mode = match grace.mode {
                GracePeriodMode::Expedited => "expedited",
                GracePeriodMode::Ordinary => "ordinary",
                _ => "mode unknown",
            };
            self.measure(Group::GracePeriods, format!("{}, {mode}{place}", one_line(&caller)), &grace.summary);
        }
        for span in &timings.spans {
            self.measure(Group::Parts, format!("{}{place}", span.span.describe()), &span.summary);
        }
        for removal in &result.removals {
            let ways = [("asked to seen", &removal.seen_after), ("asked to finished", &removal.finished_after)];
            for (what, summary) in ways {
                if let Some(summary) = summary {
                    self.measure(Group::Whole, format!("removal ({}), {what}{place}", removal.how.name()), summary);
                }
            }
        }
        let others = [
            ("add, plugged to node", &result.adds),
            ("boot to the agent's hello", &result.boots),
            ("fork to ready", &result.forks),
        ];
        for (what, summary) in others {
            if let Some(summary) = summary {
                self.measure(Group::Whole, format!("{what}{place}"), summary);
            }
        }
    }

    fn measure(&mut self, group: Group, what: String, summary: &Summary) {
        if let Some(known) = self.measured.iter_mut().find(|known| known.group == group && known.what == what) {
            known.times.add(summary);
        } else if self.measured.len() < MOST_TIMES {
            self.measured.push(Measured { group, what, times: Times::of(summary) });
        } else {
            self.left_out += 1;
        }
    }
}

impl Removals {
    fn none(setting: &str, how: &'static str) -> Self {
        let setting = setting.to_owned();
        let (seen_after, finished_after) = (None, None);
        Self { setting, how, asked: 0, seen: 0, finished: 0, stuck: 0, seen_after, finished_after }
    }

    fn add(&mut self, removal: &RemovalTotals) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.asked, removal.asked);
        add(&mut self.seen, removal.seen);
        add(&mut self.finished, removal.finished);
        add(&mut self.stuck, removal.stuck);
        Times::of_all(&mut self.seen_after, removal.seen_after.as_ref());
        Times::of_all(&mut self.finished_after, removal.finished_after.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{sample, settings};
    use super::*;
    use crate::results::HostKind;

    #[test]
    fn what_cannot_be_compared_is_not_added_up() {
        let mut other = sample::clean();
        other.guest.kernel = "mine".into();
        other.guest.release = Some("6.18.0".into());
        let mut nested = sample::clean();
        nested.host.kind = HostKind::Nested;
        let here =
            RunResult { host: crate::results::HostFacts { kind: HostKind::Kvm, ..nested.host }, ..sample::clean() };
        let runs = sample::runs([here, nested, other]);
        let evidence = of(&runs, &settings::of(&runs));
        let settings: BTreeSet<&str> = evidence.removals.iter().map(|line| line.setting.as_str()).collect();
        assert_eq!(settings.len(), 2, "{settings:?}");
        let revokes = evidence.measured.iter().filter(|measured| measured.what.starts_with("revoke (")).count();
        assert_eq!(revokes, 3, "{:?}", evidence.measured.iter().map(|measured| &measured.what).collect::<Vec<_>>());
    }

    #[test]
    fn runs_add_up() {
        let runs = sample::runs([sample::clean(), sample::clean(), sample::hang_and_splat()]);
        let evidence = of(&runs, &settings::of(&runs));
        assert_eq!(evidence.calls.len(), 1, "a hammer that never reported has no calls");
        let calls = &evidence.calls[0];
        assert_eq!((calls.calls, calls.succeeded, &calls.failed[..]), (2468, 2200, &[("ENODEV".to_owned(), 268)][..]));
        assert!((calls.per_second().unwrap() - 411.3).abs() < 0.1);
        let removals: Vec<_> = evidence.removals.iter().map(|of| (of.asked, of.finished, of.stuck)).collect();
        assert_eq!(removals, [(40, 40, 0), (1, 0, 1)]);
        let revoke = evidence.measured.iter().find(|measured| measured.what == "revoke").unwrap();
        assert_eq!((revoke.times.n, revoke.times.percentiles), (60, None));
        // Of one run they are what it says.
        let runs = sample::runs([sample::clean()]);
        let one = of(&runs, &settings::of(&runs));
        assert!(one.measured.iter().all(|measured| measured.times.percentiles.is_some()));
        assert_eq!(one.measured[0].group, Group::GracePeriods);
    }

    proptest! {
        #[test]
        fn sums_of_histograms_lose_nothing_and_have_no_holes(
            one in prop::collection::vec(1u64..1 << 40, 1..50), other in prop::collection::vec(1u64..1 << 40, 1..50),
        ) {
            let mut times = Times::of(&Summary::of(one.clone()).unwrap());
            times.add(&Summary::of(other.clone()).unwrap());
            let all = Summary::of(one.into_iter().chain(other)).unwrap();
            prop_assert_eq!((times.n, times.min_ns, times.max_ns), (all.n, all.min_ns, all.max_ns));
            prop_assert_eq!(times.buckets, all.buckets);
        }

        #[test]
        fn a_file_may_say_anything(buckets in prop::collection::vec((any::<u64>(), any::<u64>()), 0..200)) {
            let buckets = buckets.into_iter().map(|(upto_ns, count)| Bucket { upto_ns, count }).collect();
            let summary =
                Summary { n: u64::MAX, min_ns: 9, p50_ns: 1, p90_ns: 0, p99_ns: u64::MAX, max_ns: 0, buckets };
            let mut times = Times::of(&summary);
            times.add(&summary);
            prop_assert!(times.buckets.len() <= MOST_BUCKETS);
        }
    }
}
