//! Runs for the tests of reports.

use plugstorm_observe::hang::{
    Doing, DomainBalance, Executed, HangReport, HeldLock, Holder, LockHolder, Movement, Processor, ProcessorReport,
    Wait, WaitKind, Waiter,
};
use plugstorm_observe::symbol::Symbol;
use plugstorm_observe::timing::{GracePeriodMode, GracePeriods, SpanSummary, Summary};
use plugstorm_observe::trace::Span;
use plugstorm_wire::{ErrnoCount, Operation, Sharing};

use super::{Gathered, Report, Run};
use crate::results::{
    Cycles, Finding, FindingKind, HammerTotals, HostFacts, HostKind, OperationTotals, Origin, RemovalTotals, RunResult,
    Verdict, running,
};
use crate::scenario::{Design, How, Until, parse};

const SCENARIO: &str = include_str!("../../../../fixtures/scenarios/lab/sleeping-reader-own.toml");
/// The title of the hang of [`hang_and_splat`].
pub(crate) const HANG: &str =
    "removal never ends: stack_token_revoke waits in synchronize_srcu for plugstorm_event_wait";
/// A report of KASAN.
const KASAN: &str = include_str!("sample/kasan.txt");
/// The events of a run that hangs.
pub(crate) const EVENTS: &str = include_str!("sample/events.jsonl");

fn base(name: &str, seed: u64) -> RunResult {
    let mut scenario = parse(SCENARIO, "file", name).unwrap();
    scenario.override_design(Design::StackToken).unwrap();
    scenario.override_cycles(20).unwrap();
    let host =
        HostFacts { kind: HostKind::Nested, loop_rounds_per_second: Some(2.2e8), exits_per_second: Some(15_000.0) };
    let mut result = running(&scenario, seed, "debian-6.12", host, 13.0);
    result.plugstorm = "0.1.0".into();
    result.scenario = name.into();
    result.started_unix_s = 1_795_414_666;
    result.duration_ns = 15_901_942_392;
    result.guest.release = Some("6.12.117+deb12-amd64".into());
    (result.guest.hz, result.guest.preemption) = (Some(250), Some("voluntary".into()));
    result.cycles = Cycles { asked: 20, completed: 20, boots: 1, forks: 0, migrations: 0 };
    result.origin = Some(Origin {
        file: format!("fixtures/scenarios/lab/{name}.toml"),
        digest: "267c0b52328c0422677c13bfbdd3242d".into(),
        text: Some(SCENARIO.into()),
        design: Some(Design::StackToken),
        cycles: Some(20),
        until: Some(Until::FirstFinding),
    });
    result.hammers = vec![HammerTotals {
        name: "reader".into(),
        device: "gpio".into(),
        threads: 1,
        sharing: Sharing::Shared,
        runs: 20,
        idle_runs: 0,
        active_ns: 3_000_000_000,
        operations: vec![OperationTotals {
            operation: Operation::ReadEvent,
            calls: 1234,
            succeeded: 1100,
            errors: vec![ErrnoCount { errno: 19, name: "ENODEV".into(), count: 134 }],
            exits: Vec::new(),
            longest_ns: 4_200_000,
            calls_per_second: 411.3,
        }],
    }];
    result.removals = vec![RemovalTotals {
        how: How::Surprise,
        asked: 20,
        seen: 20,
        finished: 20,
        stuck: 0,
        seen_after: Summary::of((0..20).map(|index| 700_000 + index * 9000)),
        finished_after: Summary::of((0..20).map(|index| 20_000_000 + index * 900_000)),
    }];
    let times = |first: u64, step: u64| Summary::of((0..20).map(move |index| first + index * step)).unwrap();
    result.timings.spans = vec![
        SpanSummary { span: Span::SlotEvent, summary: times(90_000_000, 4_000_000) },
        SpanSummary { span: Span::Revoke, summary: times(3_000_000, 700_000) },
    ];
    let grace_period = |mode, summary| GracePeriods {
        caller: Symbol::parse("stack_token_revoke+0x37/0x60 [plugstorm]"),
        mode,
        summary,
    };
    result.timings.grace_periods = vec![
        grace_period(GracePeriodMode::Expedited, times(40_000, 2_000)),
        grace_period(
            GracePeriodMode::Ordinary,
            Summary::of([9_000, 11_000, 10_200_000, 11_000_000, 15_900_000]).unwrap(),
        ),
    ];
    result
}

/// Of `sleeping-reader-own`: a hang, and then a report of KASAN.
pub(crate) fn hang_and_splat() -> RunResult {
    let mut result = base("sleeping-reader-own", 7);
    result.verdict = Verdict::Found;
    result.reason = Some(format!("{HANG} (and 1 more)"));
    result.cycles.completed = 0;
    let (removal, hammers) = (&mut result.removals[0], &mut result.hammers);
    (removal.asked, removal.seen, removal.finished, removal.stuck, removal.finished_after) = (1, 1, 0, 1, None);
    (hammers[0].runs, hammers[0].operations) = (0, Vec::new());
    result.findings = vec![hang(), splat()];
    result
}

fn hang() -> Finding {
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    Finding {
        hang: Some(HangReport {
            title: HANG.into(),
            explanation: String::new(),
            waiters: vec![Waiter {
                tid: 38,
                comm: "irq/25-pciehp".into(),
                removal: "pciehp_ist".into(),
                wait: Wait {
                    kind: WaitKind::Srcu,
                    function: Some("synchronize_srcu".into()),
                    caller: "stack_token_revoke".into(),
                },
                movement: Movement::Still,
                waited_ns: Some(12_367_960_688),
                stack: lines(
                    "__synchronize_srcu+0x1a4/0x2a0\nstack_token_revoke+0x37/0x60 [plugstorm]\n\
                     plugstorm_revoke+0xb9/0x250 [plugstorm]\nplugstorm_remove+0x13b/0x1c0 [plugstorm]\n\
                     virtio_dev_remove+0xaf/0x140\npciehp_ist+0x33d/0x3f0\nirq_thread_fn+0x84/0x150",
                ),
            }],
            waited_for: vec![Holder {
                tid: 51,
                comm: "reader/0".into(),
                function: "plugstorm_event_wait".into(),
                doing: "asleep in a blocking read()".into(),
                hammer: Some("reader".into()),
                operation: Some("read-event".into()),
                movement: Movement::Still,
                stack: lines(
                    "plugstorm_event_wait+0x5a4/0xc70 [plugstorm]\nplugstorm_read+0xdb/0x8b0 [plugstorm]\n\
                     vfs_read+0x191/0x500\nksys_read+0x154/0x1a0\ndo_syscall_64+0x54/0xf0",
                ),
            }],
            unbalanced: vec![DomainBalance {
                name: "plugstorm0, design stack-token".into(),
                entered: [6, 0],
                left: [5, 0],
            }],
            locks: vec![
                holds(38, "irq/25-pciehp", &["&dev->mutex", "&plugstorm->list"]),
                holds(44, "kworker/1:2", &["&dev->mutex"]),
            ],
            lock_waits: Vec::new(),
        }),
        // What every hang without a loop says.
        processors: Some(ProcessorReport::new(
            vec![processor(0, Doing::Idle, &[]), processor(1, Doing::Idle, &[])],
            &[],
            Some(128),
            512_000_000,
        )),
        device: Some("gpio".into()),
        how: Some(How::Surprise),
        explanation: "Device `gpio` was taken away (surprise) in cycle 0. The guest took note of it, and it had not ended \
                      after 6.5 s. One thread is in plugstorm_event_wait, asleep in a blocking read(): 51 (read-event of \
                      hammer reader). What it sleeps for would have to come from the removal, which waits for it: neither \
                      side can go on."
            .into(),
        kind: FindingKind::RemovalStuck,
        console: lines("[    9.439525][   T38] pcieport 0000:00:01.0: pciehp: Slot(1): Link Down"),
        ..finding(&[HANG])
    }
}

/// Locks of one class are one lock.
fn holds(tid: u32, comm: &str, classes: &[&str]) -> LockHolder {
    let lock = |(at, name): (usize, &&str)| HeldLock {
        name: (*name).to_owned(),
        instance: format!("ffff8880012340{at}8"),
        taken_in: "pciehp_ist".into(),
        taken_at: "pciehp_ist+0x83/0x110".into(),
    };
    LockHolder { tid, comm: comm.into(), locks: classes.iter().enumerate().map(lock).collect() }
}

fn processor(cpu: u32, doing: Doing, stack: &[&str]) -> Processor {
    let busy = Executed { tid: 70, comm: "hammer/0".into() };
    let idle = Executed { tid: 0, comm: format!("swapper/{cpu}") };
    let task = Some(if doing == Doing::Idle { idle } else { busy });
    let stack = stack.iter().map(|&frame| frame.to_owned()).collect();
    Processor { cpu, doing, task, ip: 0xffff_ffff_8123_4567, stack }
}

/// A guest that answers nothing: its interrupt handler spins.
pub(crate) fn silent() -> RunResult {
    let spins = [
        "delay_tsc+0x2f/0x70",
        "plugstorm_point_hit+0x9c/0xf0 [plugstorm]",
        "? __pfx_plugstorm_point_hit+0x10/0x10 [plugstorm]",
        "plugstorm_event_done+0x40/0x110 [plugstorm]",
        "vring_interrupt+0x5a/0x90",
    ];
    let first =
        vec![processor(0, Doing::KernelInterruptsOff, &spins), processor(1, Doing::Idle, &["default_idle+0xf/0x20"])];
    let mut second = first.clone();
    second[0].ip += 4;
    let seen = ProcessorReport::new(first, &second, Some(0), 512_000_000);
    let mut result = base("spin-in-interrupt", 1);
    result.verdict = Verdict::Found;
    result.cycles.completed = 0;
    result.findings = vec![Finding {
        kind: FindingKind::GuestSilent,
        explanation: format!(
            "It has not ended, but its agent answers nothing. Seen from outside: {}",
            seen.explanation
        ),
        processors: Some(seen),
        console: vec!["[    8.650068][    C0] plugstorm virtio1: event".into()],
        ..finding(&["the guest stopped answering during a removal"])
    }];
    result.reason = Some(result.findings[0].title.clone());
    result
}

fn splat() -> Finding {
    Finding {
        splat: Some(KASAN.into()),
        explanation: "The kernel reported this on its console while the storm ran.".into(),
        count: 4,
        console: vec!["[    8.650068][   T52]  </TASK>".into()],
        ..finding(&["KASAN: slab-use-after-free Read in plugstorm_stay", "bad-access in plugstorm_stay"])
    }
}

/// Of another scenario: nothing found.
pub(crate) fn clean() -> RunResult {
    let mut result = base("steady", 1);
    result.verdict = Verdict::Clean;
    result
}

/// With one finding, in a setting of its own.
pub(super) fn found() -> RunResult {
    let mut result = base("timer", 1);
    result.verdict = Verdict::Found;
    result.reason = Some("a".into());
    result.findings = vec![finding(&["a"])];
    result
}

/// In the same setting, nothing found.
pub(super) fn clean_like_found() -> RunResult {
    RunResult { verdict: Verdict::Clean, findings: Vec::new(), reason: None, ..found() }
}

/// With such titles, the main one first.
pub(super) fn finding(titles: &[&str]) -> Finding {
    let (title, others) = titles.split_first().unwrap();
    Finding {
        title: (*title).into(),
        alt_titles: others.iter().map(|&title| title.to_owned()).collect(),
        kind: FindingKind::Splat,
        count: 1,
        cycle: 0,
        seed: 7,
        device: None,
        how: None,
        explanation: String::new(),
        hang: None,
        processors: None,
        splat: None,
        console: Vec::new(),
        known: false,
        known_reason: None,
        known_url: None,
    }
}

/// In folders that are not there.
pub(super) fn runs(results: impl IntoIterator<Item = RunResult>) -> Vec<Run> {
    let run = |(number, result): (u32, RunResult)| {
        let name = format!("{}-{number}", result.scenario);
        Run { folder: format!("/nowhere/{name}").into(), name, result }
    };
    (1..).zip(results).map(run).collect()
}

/// A report over these.
pub(super) fn report(results: impl IntoIterator<Item = RunResult>) -> Report {
    Report::of(Gathered::runs(runs(results)), None)
}

/// Of one run that found two things, and of four runs of three settings one of which proves nothing.
pub(super) fn reports() -> [Report; 2] {
    let mut inconclusive = clean();
    (inconclusive.verdict, inconclusive.seed) = (Verdict::Inconclusive, 2);
    inconclusive.reason = Some("18 of 20 cycles completed".into());
    let mut known = hang_and_splat();
    known.scenario = "timer".into();
    known.findings.truncate(1);
    known.findings[0].title = "WARNING in remove_proc_entry".into();
    (known.findings[0].known, known.findings[0].known_reason) = (true, Some("fixed in 6.2".into()));
    let mut later = hang_and_splat();
    (later.seed, later.findings[0].cycle) = (8, 4);
    later.findings.truncate(1);
    let mut many = report([hang_and_splat(), later, clean(), inconclusive, known]);
    many.known = vec!["accepted until 2027-01-01, in 1 of 5 runs: WARNING in *: fixed in 6.2".into()];
    [report([hang_and_splat()]), many]
}

/// A run whose guest said this wherever a guest can say something.
pub(super) fn hostile(said: &str) -> RunResult {
    let mut result = hang_and_splat();
    let said = || said.to_owned();
    (result.scenario, result.about, result.reason) = (said(), said(), Some(said()));
    result.guest.release = Some(said());
    result.guest.preemption = Some(said());
    (result.guest.kernel, result.guest.append) = (said(), said());
    result.warnings = vec![said()];
    result.hammers[0].name = said();
    result.hammers[0].device = said();
    result.devices[0].name = said();
    if let Some(origin) = &mut result.origin {
        (origin.file, origin.digest, origin.text) = (said(), said(), Some(said()));
    }
    for finding in &mut result.findings {
        (finding.title, finding.explanation) = (said() + &finding.title, said());
        finding.alt_titles = vec![said()];
        (finding.device, finding.known_reason, finding.known_url) = (Some(said()), Some(said()), Some(said()));
        finding.console = vec![said()];
        finding.splat = finding.splat.as_ref().map(|_| format!("{}\nCall Trace:\n f+0x1/0x2 {}\n", said(), said()));
        for waiter in finding.hang.iter_mut().flat_map(|hang| &mut hang.waiters) {
            (waiter.comm, waiter.removal, waiter.stack) = (said(), said(), vec![said(), format!("{}+0x1/0x2", said())]);
        }
        for holder in finding.hang.iter_mut().flat_map(|hang| &mut hang.waited_for) {
            (holder.comm, holder.function, holder.doing) = (said(), said(), said());
            (holder.hammer, holder.operation, holder.stack) = (Some(said()), Some(said()), vec![said()]);
        }
        for domain in finding.hang.iter_mut().flat_map(|hang| &mut hang.unbalanced) {
            domain.name = said();
        }
        for holder in finding.hang.iter_mut().flat_map(|hang| &mut hang.locks) {
            holder.comm = said();
            for lock in &mut holder.locks {
                (lock.name, lock.instance, lock.taken_in) = (said(), said(), said());
            }
        }
        let doing = finding.processors.is_some().then_some(Doing::Kernel);
        finding.processors = doing.map(|doing| {
            let task = Some(Executed { tid: 7, comm: said() });
            let stack = vec![said(), format!("? {}+0x1/0x2", said())];
            let first = vec![Processor { cpu: 0, doing, task, ip: 1, stack }];
            ProcessorReport { explanation: said() + " seen", ..ProcessorReport::new(first, &[], None, 0) }
        });
    }
    for grace in &mut result.timings.grace_periods {
        grace.caller = Some(Symbol { name: said(), module: Some(said()) });
    }
    result
}
