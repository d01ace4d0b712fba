//! What a run adds up to, while it runs.

use std::collections::BTreeMap;

use plugstorm_observe::timing::Summary;
use plugstorm_wire::{ErrnoCount, ExitCount, ModuleOutcome, Operation, OperationCount, ProbeFailure};

use super::points::PointRecord;
use crate::results::{ChannelTotals, Finding, HammerTotals, Holdings, OperationTotals, RemovalTotals};
use crate::scenario::{How, Scenario, Work};

/// Findings with different titles that are kept.
const MOST_FINDINGS: usize = 200;
/// Different errnos of one operation that are kept: a guest can invent them.
const MOST_ERRNOS: usize = 64;
/// Different ends of one program that are kept, for the same reason.
const MOST_EXITS: usize = 64;
/// What is kept of the name of such an end.
const MOST_STATUS_CHARS: usize = 64;
/// Warnings that are kept: a guest can invent them.
const MOST_WARNINGS: usize = 200;
/// Samples of a duration that are kept.
const MOST_SAMPLES: usize = 1 << 20;

/// Sums over all cycles and boots.
#[derive(Debug, Default)]
pub struct Record {
    /// Cycles that ran to their end.
    pub completed: u32,
    /// Guests booted.
    pub boots: u32,
    /// Guests started from a snapshot.
    pub forks: u32,
    /// The last snapshot's name.
    pub snapshot: Option<String>,
    /// By hammer.
    pub hammers: Vec<HammerRecord>,
    /// By point of the scenario.
    pub points: Vec<PointRecord>,
    /// By way.
    pub removals: BTreeMap<How, RemovalRecord>,
    /// How often a guest was gone on with in another machine.
    pub migrations: u32,
    /// Durations of adds, in nanoseconds.
    pub adds_ns: Vec<u64>,
    /// Durations of boots, in nanoseconds.
    pub boots_ns: Vec<u64>,
    /// From the beginning of a restore to a guest that is ready, in nanoseconds.
    pub forks_ns: Vec<u64>,
    /// From the beginning of a boot to the first hot-plug event that the guest took note of, in nanoseconds.
    pub first_events_booted_ns: Vec<u64>,
    /// The same of guests that were started from a snapshot.
    pub first_events_forked_ns: Vec<u64>,
    /// What our process held after its first guest and after its last.
    pub holdings: Option<(Holdings, Holdings)>,
    /// Guests whose kernels were asked for what they had lost, and told.
    pub leaks_looked_for: u32,
    /// In the order of their first appearance.
    pub findings: Vec<Finding>,
    /// Those that came when as many as are kept were there.
    pub findings_left_out: u64,
    /// `uname -r` of the last guest.
    pub release: Option<String>,
    /// Its timer ticks a second.
    pub hz: Option<u32>,
    /// Its preemption model.
    pub preemption: Option<String>,
    /// Modules of the last guest.
    pub modules: Vec<ModuleOutcome>,
    /// Probes that the last guest did not have.
    pub probes_failed: Vec<ProbeFailure>,
    /// The slowest guest's slowdown.
    pub guest_slowdown: f64,
    /// Bytes of console output.
    pub console_bytes: u64,
    /// The agent's channel.
    pub channel: ChannelTotals,
    /// Cycles that were repeated since the emulator lost the guest.
    pub emulation_faults: u32,
    /// Notes for the user.
    pub warnings: Vec<String>,
}

/// Sums of one hammer.
#[derive(Debug, Default)]
pub struct HammerRecord {
    runs: u64,
    idle_runs: u64,
    active_ns: u64,
    operations: BTreeMap<Operation, OperationCount>,
}

/// Sums of one way of removal.
#[derive(Debug, Default)]
pub struct RemovalRecord {
    /// Asked for.
    pub asked: u64,
    /// Not ended in time.
    pub stuck: u64,
    /// From asking to the guest's taking note.
    pub seen_ns: Vec<u64>,
    /// How many the guest took note of.
    pub seen: u64,
    /// How many ended.
    pub finished: u64,
    /// From asking to the end.
    pub finished_ns: Vec<u64>,
}

impl Record {
    /// Nothing yet.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            hammers: scenario.hammers.iter().map(|_| HammerRecord::default()).collect(),
            points: scenario.points.iter().map(|_| PointRecord::default()).collect(),
            ..Self::default()
        }
    }

    /// Takes a hammer's report, which came so long after the cycle's first removal was asked for, if one was. The sum of its
    /// calls.
    pub fn hammer(
        &mut self,
        hammer: usize,
        active_ns: u64,
        operations: &[OperationCount],
        since_removal_ns: Option<u64>,
    ) -> u64 {
        let Some(record) = self.hammers.get_mut(hammer) else { return 0 };
        let calls = operations.iter().fold(0u64, |sum, operation| sum.saturating_add(operation.calls));
        record.runs += 1;
        // Calls on a device that has gone already test nothing of a removal by themselves.
        let gone = operations.iter().flat_map(|operation| &operation.errors).filter(|error| error.name == "ENODEV");
        let gone = gone.fold(0u64, |sum, error| sum.saturating_add(error.count));
        // A call that took longer than it is since the removal had begun before it, whatever became of it: a sleeper's.
        let longest_ns = operations.iter().map(|operation| operation.longest_ns).max().unwrap_or(0);
        let was_inside = since_removal_ns.is_some_and(|since_ns| longest_ns > since_ns);
        record.idle_runs += u64::from(calls <= gone && !was_inside);
        record.active_ns = record.active_ns.saturating_add(active_ns);
        for count in operations {
            let sum = record.operations.entry(count.operation).or_insert_with(|| OperationCount {
                operation: count.operation,
                calls: 0,
                succeeded: 0,
                errors: Vec::new(),
                exits: Vec::new(),
                longest_ns: 0,
                gone_tsc: None,
            });
            sum.calls = sum.calls.saturating_add(count.calls);
            sum.succeeded = sum.succeeded.saturating_add(count.succeeded);
            sum.longest_ns = sum.longest_ns.max(count.longest_ns);
            count.errors.iter().for_each(|error| add_errno(&mut sum.errors, error));
            count.exits.iter().for_each(|exit| add_exit(&mut sum.exits, exit));
        }
        calls
    }

    /// Takes a finding; counts it if its title, or another title of it, is known. Whether it is new.
    pub fn finding(&mut self, finding: Finding) -> bool {
        let known = self.findings.iter_mut().find(|known| known.is_same(&finding));
        if let Some(known) = known {
            known.count = known.count.saturating_add(finding.count);
            return false;
        }
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(finding);
        } else {
            self.findings_left_out = self.findings_left_out.saturating_add(1);
        }
        true
    }

    /// Takes a warning, once.
    pub fn warn(&mut self, warning: String) {
        if self.warnings.len() < MOST_WARNINGS && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Keeps a sample.
    pub fn sample(samples: &mut Vec<u64>, ns: u64) {
        if samples.len() < MOST_SAMPLES {
            samples.push(ns);
        }
    }

    /// The hammers' sums as they are reported.
    #[must_use]
    pub fn hammer_totals(&self, scenario: &Scenario) -> Vec<HammerTotals> {
        let pairs = scenario.hammers.iter().zip(&self.hammers);
        pairs
            .map(|(hammer, record)| HammerTotals {
                name: hammer.name.clone(),
                device: match (hammer.device.and_then(|device| scenario.devices.get(device)), &hammer.work) {
                    (Some(device), _) => device.name.clone(),
                    (None, Work::Node(node)) => node.pattern.clone(),
                    (None, Work::Program { program, .. }) => program.join(" "),
                    (None, Work::Device) => String::new(),
                },
                threads: hammer.threads,
                sharing: hammer.sharing,
                runs: record.runs,
                idle_runs: record.idle_runs,
                active_ns: record.active_ns,
                operations: record.operations.values().map(|count| totals(count, record.active_ns)).collect(),
            })
            .collect()
    }

    /// The removals' sums as they are reported.
    #[must_use]
    pub fn removal_totals(&self) -> Vec<RemovalTotals> {
        self.removals
            .iter()
            .map(|(how, record)| RemovalTotals {
                how: *how,
                asked: record.asked,
                seen: record.seen,
                finished: record.finished,
                stuck: record.stuck,
                seen_after: Summary::of(record.seen_ns.iter().copied()),
                finished_after: Summary::of(record.finished_ns.iter().copied()),
            })
            .collect()
    }
}

fn add_errno(errors: &mut Vec<ErrnoCount>, new: &ErrnoCount) {
    if let Some(known) = errors.iter_mut().find(|known| known.errno == new.errno) {
        known.count = known.count.saturating_add(new.count);
    } else if errors.len() < MOST_ERRNOS {
        errors.push(new.clone());
    }
}

fn add_exit(exits: &mut Vec<ExitCount>, new: &ExitCount) {
    if let Some(known) = exits.iter_mut().find(|known| known.status == new.status) {
        known.count = known.count.saturating_add(new.count);
    } else if exits.len() < MOST_EXITS {
        let status = new.status.chars().take(MOST_STATUS_CHARS).collect();
        exits.push(ExitCount { status, count: new.count });
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn totals(count: &OperationCount, active_ns: u64) -> OperationTotals {
    let rate = if active_ns == 0 { 0.0 } else { count.calls as f64 * 1e9 / active_ns as f64 };
    OperationTotals {
        operation: count.operation,
        calls: count.calls,
        succeeded: count.succeeded,
        errors: count.errors.clone(),
        exits: count.exits.clone(),
        longest_ns: count.longest_ns,
        // A whole number from a hundred on; JSON needs no more digits.
        calls_per_second: (rate * 100.0).round() / 100.0,
    }
}

#[cfg(test)]
mod tests {
    use plugstorm_wire::ErrnoCount;

    use super::*;
    use crate::scenario::parse;

    const SCENARIO: &str = "[[device]]\nname = \"gpio\"\ndriver = \"gpio-virtio\"\n[[hammer]]\nname = \"reader\"\ndevice = \"gpio\"\nthreads = 1\n\
                            operations = [\"read-event\"]\n[[step]]\ndo = \"add\"\ndevice = \"gpio\"\n[[step]]\ndo = \"start\"\n\
                            hammer = \"reader\"\n[[step]]\ndo = \"remove\"\ndevice = \"gpio\"\nhow = \"surprise\"\n[[step]]\n\
                            do = \"stop\"\nhammer = \"reader\"\n";

    /// Whether one call that failed with this counts as made on a device that was there.
    fn was_there(error: &str, longest_ns: u64, since_removal_ns: Option<u64>) -> bool {
        let scenario = parse(SCENARIO, "file", "stem").unwrap();
        let mut record = Record::new(&scenario);
        let count = OperationCount {
            operation: Operation::ReadEvent,
            calls: 1,
            succeeded: 0,
            errors: vec![ErrnoCount { errno: 1, name: error.into(), count: 1 }],
            exits: Vec::new(),
            longest_ns,
            gone_tsc: None,
        };
        record.hammer(0, 1000, &[count], since_removal_ns);
        record.hammer_totals(&scenario)[0].idle_runs == 0
    }

    #[test]
    fn a_sleeper_that_was_woken_by_the_removal_had_been_there() {
        assert!(was_there("EAGAIN", 1, Some(500)));
        assert!(!was_there("ENODEV", 1, Some(500)));
        assert!(!was_there("ENODEV", 500, Some(500)));
        assert!(was_there("ENODEV", 501, Some(500)));
        assert!(!was_there("ENODEV", 501, None));
    }
}
