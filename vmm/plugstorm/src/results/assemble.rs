//! From a run to its `result.json`.

use std::time::{SystemTime, UNIX_EPOCH};

use plugstorm_observe::timing::{Summary, TimingReport};

use super::model::{
    ConsoleTotals, Cycles, DeviceFacts, EndedBy, FirstEvents, GuestFacts, HostFacts, HostKind, PointFacts, RunResult,
    Slowdown, VERSION, Verdict,
};
use crate::host::{HostProbe, nested};
use crate::scenario::{Driver, Scenario};
use crate::storm::Outcome;

impl HostFacts {
    /// Of the host that this process runs on.
    #[must_use]
    pub fn of(probe: &HostProbe) -> Self {
        Self {
            kind: if nested::is_inside() { HostKind::Nested } else { HostKind::Kvm },
            loop_rounds_per_second: probe.rounds_per_second,
            exits_per_second: probe.exits_per_second,
        }
    }
}

/// The result of a run that has not ended: what stands in the folder should it be killed.
#[must_use]
pub fn running(scenario: &Scenario, seed: u64, kernel: &str, host: HostFacts, host_slowdown: f64) -> RunResult {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    RunResult {
        version: VERSION,
        plugstorm: env!("CARGO_PKG_VERSION").to_owned(),
        verdict: Verdict::Running,
        reason: None,
        scenario: scenario.name.clone(),
        about: scenario.about.clone(),
        seed,
        origin: None,
        started_unix_s: started.as_secs(),
        duration_ns: 0,
        ended_by: EndedBy::Itself,
        host,
        holdings: None,
        guest: GuestFacts {
            kernel: kernel.to_owned(),
            snapshot: None,
            release: None,
            hz: None,
            preemption: None,
            cpu: scenario.guest.cpu,
            cpus: scenario.guest.cpus,
            memory_bytes: scenario.guest.memory_bytes,
            append: scenario.guest.append.clone(),
            gone_reads: scenario.guest.gone_reads,
            modules: Vec::new(),
            probes_failed: Vec::new(),
        },
        devices: scenario.devices.iter().map(device).collect(),
        points: scenario.points.iter().map(|at| point(scenario, at)).collect(),
        slowdown: Slowdown { host: host_slowdown, guest: 0.0, used: host_slowdown.max(1.0) },
        cycles: Cycles { asked: scenario.cycles, completed: 0, boots: 0, forks: 0, migrations: 0 },
        hammers: Vec::new(),
        removals: Vec::new(),
        adds: None,
        boots: None,
        forks: None,
        first_events: FirstEvents::default(),
        timings: TimingReport::default(),
        leaks_looked_for: 0,
        findings: Vec::new(),
        findings_left_out: 0,
        console: ConsoleTotals::default(),
        channel: super::ChannelTotals::default(),
        warnings: scenario.warnings.clone(),
    }
}

fn device(device: &crate::scenario::Device) -> DeviceFacts {
    let (driver, design) = match device.driver {
        Driver::GpioVirtio => ("gpio-virtio", None),
        Driver::Plugstorm(design) => ("plugstorm", Some(design)),
        Driver::Other { .. } => ("other", None),
    };
    DeviceFacts { name: device.name.clone(), driver: driver.to_owned(), design, lines: device.lines }
}

fn point(scenario: &Scenario, point: &crate::scenario::Point) -> PointFacts {
    let delay_ns = point.delay.map(|delay| u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX));
    let concerned = scenario.concerned_by(point);
    PointFacts { name: point.name.clone(), delay_ns, every: point.every, hits: None, turns: 0, concerned }
}

/// The result of a run that has ended. `begun` is what [`running`] gave.
#[must_use]
pub fn ended(
    begun: RunResult,
    scenario: &Scenario,
    outcome: Outcome,
    console_dropped_bytes: u64,
    verdict: (Verdict, Option<String>),
) -> RunResult {
    let record = outcome.record;
    let (verdict, reason) = verdict;
    RunResult {
        verdict,
        reason,
        duration_ns: outcome.duration_ns,
        ended_by: outcome.ending.ended_by(),
        slowdown: Slowdown { guest: record.guest_slowdown, used: outcome.slowdown, ..begun.slowdown },
        cycles: Cycles {
            asked: scenario.cycles,
            completed: record.completed,
            boots: record.boots,
            forks: record.forks,
            migrations: record.migrations,
        },
        holdings: record.holdings,
        hammers: record.hammer_totals(scenario),
        points: begun
            .points
            .into_iter()
            .zip(&record.points)
            .map(|(point, record)| PointFacts { hits: record.hits, turns: record.turns, ..point })
            .collect(),
        removals: record.removal_totals(),
        adds: Summary::of(record.adds_ns.iter().copied()),
        boots: Summary::of(record.boots_ns.iter().copied()),
        forks: Summary::of(record.forks_ns.iter().copied()),
        first_events: FirstEvents {
            booted: Summary::of(record.first_events_booted_ns.iter().copied()),
            forked: Summary::of(record.first_events_forked_ns.iter().copied()),
        },
        timings: outcome.timings,
        leaks_looked_for: record.leaks_looked_for,
        findings: record.findings,
        findings_left_out: record.findings_left_out,
        console: ConsoleTotals { bytes: record.console_bytes, dropped_bytes: console_dropped_bytes },
        channel: record.channel,
        warnings: begun.warnings.into_iter().chain(record.warnings).collect(),
        guest: GuestFacts {
            snapshot: record.snapshot,
            release: record.release,
            hz: record.hz,
            preemption: record.preemption,
            modules: record.modules,
            probes_failed: record.probes_failed,
            ..begun.guest
        },
        ..begun
    }
}
