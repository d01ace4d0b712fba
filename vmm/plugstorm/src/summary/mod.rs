//! The result for people: the verdict first, then what it rests on.

mod timings;

use std::fmt::{self, Write as _};

use plugstorm_observe::hang::{Doing, HangReport, Processor};
use plugstorm_observe::timing::Summary;
use plugstorm_wire::{Operation, Sharing};

use crate::results::{Cycles, Finding, HammerTotals, RunResult, Verdict};
use crate::scenario::{Cpu, operation_name};

/// Frames of a stack that are shown.
const FRAMES: usize = 12;
/// Console lines that are shown with a finding.
const CONSOLE_LINES: usize = 8;
/// Lines of a splat that are shown; the result has it all.
const SPLAT_LINES: usize = 30;

/// Renders a result. Plain text, no control characters of the guest's.
#[must_use]
pub fn render(result: &RunResult) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, result);
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

fn write(text: &mut String, result: &RunResult) -> fmt::Result {
    let verdict = match result.verdict {
        Verdict::Running => "RUNNING",
        Verdict::Clean => "CLEAN",
        Verdict::Found => "FOUND",
        Verdict::Inconclusive => "INCONCLUSIVE",
        Verdict::Interrupted => "INTERRUPTED",
    };
    write!(text, "{verdict}  {}", result.scenario)?;
    match &result.reason {
        Some(reason) => writeln!(text, ": {reason}")?,
        None => writeln!(text, ": nothing found, and the evidence is complete")?,
    }
    writeln!(text, "  host      {}", result.host.kind.describe())?;
    let guest = &result.guest;
    write!(
        text,
        "  guest     {} ({}), {} CPUs, {} MiB, gone reads {}",
        guest.release.as_deref().unwrap_or("never told its kernel"),
        guest.kernel,
        guest.cpus,
        guest.memory_bytes >> 20,
        match guest.gone_reads {
            crate::scenario::GoneReads::Zeroes => "zeroes",
            crate::scenario::GoneReads::AllOnes => "all-ones",
        }
    )?;
    if guest.cpu == Cpu::Host {
        write!(text, ", cpu host")?;
    }
    if let Some(hz) = guest.hz {
        write!(text, ", HZ {hz}")?;
    }
    if let Some(model) = &guest.preemption {
        write!(text, ", preemption {model}")?;
    }
    writeln!(text)?;
    writeln!(
        text,
        "  cycles    {} of {} completed, seed {}, {}, {} in all, slowdown {:.1}",
        result.cycles.completed,
        result.cycles.asked,
        result.seed,
        guests(&result.cycles),
        duration(result.duration_ns),
        result.slowdown.used
    )?;
    if result.leaks_looked_for > 0 {
        writeln!(text, "  leaks     looked for in {}", count(u64::from(result.leaks_looked_for), "guest"))?;
    }
    write_starts(text, result)?;
    for hammer in &result.hammers {
        write_hammer(text, hammer)?;
    }
    write_points(text, result)?;
    write_removals(text, result)?;
    timings::write(text, result)?;
    for (finding, number) in result.findings.iter().zip(1..) {
        write_finding(text, finding, number)?;
    }
    for warning in &result.warnings {
        writeln!(text, "\nnote: {warning}")?;
    }
    Ok(())
}

/// How long it took until guests could be stormed, where there were several to compare.
fn write_starts(text: &mut String, result: &RunResult) -> fmt::Result {
    if result.cycles.boots + result.cycles.forks < 2 {
        return Ok(());
    }
    writeln!(text, "\nguests, from their beginning")?;
    write_percentiles(text, "boot to the agent's hello", result.boots.as_ref())?;
    write_percentiles(text, "fork to ready", result.forks.as_ref())?;
    write_percentiles(text, "boot to first hot-plug event", result.first_events.booted.as_ref())?;
    write_percentiles(text, "fork to first hot-plug event", result.first_events.forked.as_ref())
}

/// How often each point was reached. Those of other designs than the devices' cannot be, and are left out.
fn write_points(text: &mut String, result: &RunResult) -> fmt::Result {
    let concerned = || result.points.iter().filter(|point| point.concerned);
    if concerned().next().is_none() {
        return Ok(());
    }
    writeln!(text, "\npoints")?;
    for point in concerned() {
        let how = point.delay_ns.map_or_else(|| "knob".to_owned(), duration);
        match point.hits {
            Some(hits) => writeln!(
                text,
                "  {:<40} {how:>9}, every {:<6} {hits:>10} hits, {} in turn",
                point.name, point.every, point.turns
            )?,
            None => writeln!(text, "  {:<40} {how:>9}, every {:<6}   hits not told", point.name, point.every)?,
        }
    }
    Ok(())
}

fn write_hammer(text: &mut String, hammer: &HammerTotals) -> fmt::Result {
    let runs_program = hammer.operations.iter().any(|operation| operation.operation == Operation::Run);
    let descriptor = match hammer.sharing {
        _ if runs_program => "",
        Sharing::Shared => ", one descriptor",
        Sharing::Own => ", a descriptor each",
        Sharing::Dup => ", a duplicate of one descriptor each",
        Sharing::Passed => ", a duplicate of one descriptor each, passed over a socket",
        Sharing::Fork => ", one descriptor in a table of its own each, as after a fork",
    };
    let threads = count(u64::from(hammer.threads), "thread");
    writeln!(
        text,
        "\nhammer {} on {}: {threads}{descriptor}, {}",
        hammer.name,
        hammer.device,
        count(hammer.runs, "run")
    )?;
    for operation in &hammer.operations {
        write!(
            text,
            "  {:<26} {:>10} calls {:>10.0}/s {:>10} ok  longest {}",
            operation_name(operation.operation),
            operation.calls,
            operation.calls_per_second,
            operation.succeeded,
            duration(operation.longest_ns)
        )?;
        for error in &operation.errors {
            write!(text, "  {} {}", error.name, error.count)?;
        }
        for exit in &operation.exits {
            write!(text, "  {}: {}", exit.status, exit.count)?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn write_removals(text: &mut String, result: &RunResult) -> fmt::Result {
    for removal in &result.removals {
        writeln!(
            text,
            "\nremovals ({}): {} asked, {} seen by the guest, {} finished, {} stuck",
            removal.how.name(),
            removal.asked,
            removal.seen,
            removal.finished,
            removal.stuck
        )?;
        write_percentiles(text, "asked to seen", removal.seen_after.as_ref())?;
        write_percentiles(text, "asked to finished", removal.finished_after.as_ref())?;
    }
    if let Some(adds) = &result.adds {
        writeln!(text, "\nadds: {}", adds.n)?;
        write_percentiles(text, "plugged to node", Some(adds))?;
    }
    Ok(())
}

fn write_percentiles(text: &mut String, what: &str, summary: Option<&Summary>) -> fmt::Result {
    let Some(summary) = summary else { return Ok(()) };
    writeln!(
        text,
        "  {what:<34} n {:<6} p50 {:<9} p90 {:<9} p99 {:<9} max {}",
        summary.n,
        duration(summary.p50_ns),
        duration(summary.p90_ns),
        duration(summary.p99_ns),
        duration(summary.max_ns)
    )
}

fn write_finding(text: &mut String, finding: &Finding, number: usize) -> fmt::Result {
    writeln!(text, "\nfinding {number}: {}", finding.title)?;
    write!(
        text,
        "  {}, first in cycle {}, {}",
        finding.kind.name(),
        u64::from(finding.cycle) + 1,
        count(finding.count, "time")
    )?;
    if let (Some(device), Some(how)) = (&finding.device, finding.how) {
        write!(text, ", device {device} removed by {}", how.name())?;
    }
    writeln!(text)?;
    if finding.known {
        let url = finding.known_url.as_ref().map(|url| format!(" ({url})")).unwrap_or_default();
        writeln!(text, "  known, and accepted: {}{url}", finding.known_reason.as_deref().unwrap_or_default())?;
    }
    for line in finding.explanation.lines().flat_map(|line| wrapped(line, 110)) {
        writeln!(text, "  {line}")?;
    }
    if let Some(hang) = &finding.hang {
        write_stacks(text, hang)?;
    }
    for processor in finding.processors.iter().flat_map(|report| &report.processors) {
        write_processor(text, processor)?;
    }
    if let Some(splat) = &finding.splat {
        let lines = splat.lines().count();
        for line in splat.lines().take(SPLAT_LINES) {
            writeln!(text, "  | {line}")?;
        }
        if lines > SPLAT_LINES {
            writeln!(text, "  | … {} more lines in result.json", lines - SPLAT_LINES)?;
        }
    } else if !finding.console.is_empty() {
        writeln!(text, "  the console's last lines:")?;
        for line in finding.console.iter().skip(finding.console.len().saturating_sub(CONSOLE_LINES)) {
            writeln!(text, "  | {line}")?;
        }
    }
    Ok(())
}

fn write_stacks(text: &mut String, hang: &HangReport) -> fmt::Result {
    for waiter in &hang.waiters {
        let waited = waiter.waited_ns.map(|ns| format!(", for {} so far", duration(ns))).unwrap_or_default();
        writeln!(text, "  waits: {} (thread {}){waited}", waiter.comm, waiter.tid)?;
        write_stack(text, &waiter.stack)?;
    }
    for holder in hang.waited_for.iter().take(4) {
        let hammer = match (&holder.hammer, &holder.operation) {
            (Some(hammer), Some(operation)) => format!(", hammer {hammer}, in {operation}"),
            (Some(hammer), None) => format!(", hammer {hammer}"),
            _ => String::new(),
        };
        writeln!(text, "  is waited for: {} (thread {}){hammer}", holder.comm, holder.tid)?;
        write_stack(text, &holder.stack)?;
    }
    for domain in &hang.unbalanced {
        let [first, second] = domain.inside();
        writeln!(text, "  readers inside {} by its counters: {first} and {second}", domain.name)?;
    }
    Ok(())
}

/// Where a vCPU was. Of one that is idle nobody wants the stack.
fn write_processor(text: &mut String, processor: &Processor) -> fmt::Result {
    let doing = match processor.doing {
        Doing::Idle => "idle",
        Doing::HaltedForGood => "stopped with interrupts off",
        Doing::Program => "in a program",
        Doing::Kernel => "in the kernel",
        Doing::KernelInterruptsOff => "in the kernel, interrupts off",
        Doing::NotStarted => "never started",
        _ => "at work",
    };
    write!(text, "  vCPU {}: {doing}", processor.cpu)?;
    if let Some(task) = processor.task.as_ref().filter(|task| task.tid != 0) {
        write!(text, ", task {} ({})", task.comm, task.tid)?;
    }
    writeln!(text)?;
    if processor.doing == Doing::Idle { Ok(()) } else { write_stack(text, &processor.stack) }
}

fn write_stack(text: &mut String, stack: &[String]) -> fmt::Result {
    for frame in stack.iter().take(FRAMES) {
        writeln!(text, "      {frame}")?;
    }
    if stack.len() > FRAMES {
        writeln!(text, "      … {} more", stack.len() - FRAMES)?;
    }
    Ok(())
}

/// How guests came to run.
pub(crate) fn guests(cycles: &Cycles) -> String {
    let kinds = [(cycles.boots, "boot"), (cycles.forks, "fork"), (cycles.migrations, "migration")];
    let told: Vec<_> = kinds.iter().filter(|(n, _)| *n > 0).map(|(n, what)| count(u64::from(*n), what)).collect();
    if told.is_empty() { "no guest".into() } else { told.join(", ") }
}

pub(crate) fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// Breaks a line between words.
pub(crate) fn wrapped(line: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split_whitespace() {
        let Some(last) = lines.last_mut() else { break };
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

/// Nanoseconds to three digits with the unit that fits.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn duration(ns: u64) -> String {
    for (scale, unit) in [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")] {
        if ns >= scale {
            let value = ns as f64 / scale as f64;
            let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
            return format!("{value:.digits$} {unit}");
        }
    }
    format!("{ns} ns")
}

#[cfg(test)]
mod tests {
    use plugstorm_observe::hang::{Holder, Movement, Wait, WaitKind, Waiter};
    use plugstorm_observe::timing::{GracePeriodMode, GracePeriods};
    use plugstorm_wire::ErrnoCount;

    use super::*;
    use crate::results::{FindingKind, HostFacts, HostKind, OperationTotals, PointFacts, RemovalTotals, running};
    use crate::scenario::{How, parse};

    pub(super) fn base() -> RunResult {
        let text = "[[device]]\nname = \"gpio\"\ndriver = \"gpio-virtio\"\n[[step]]\ndo = \"add\"\ndevice = \"gpio\"\n\
                    [[step]]\ndo = \"remove\"\ndevice = \"gpio\"\nhow = \"surprise\"\n";
        let host =
            HostFacts { kind: HostKind::Nested, loop_rounds_per_second: Some(1e8), exits_per_second: Some(4100.0) };
        let mut result = running(&parse(text, "f", "steady").unwrap(), 7, "debian-6.12", host, 12.0);
        result.verdict = Verdict::Clean;
        result.guest.release = Some("6.12.117+deb12-amd64".into());
        result.duration_ns = 83_000_000_000;
        result.cycles = Cycles { asked: 100, completed: 100, boots: 1, forks: 0, migrations: 0 };
        result.hammers = vec![HammerTotals {
            name: "pollers".into(),
            device: "gpio".into(),
            threads: 8,
            sharing: Sharing::Shared,
            runs: 100,
            idle_runs: 0,
            active_ns: 3_000_000_000,
            operations: vec![OperationTotals {
                operation: Operation::ReadEventNonblocking,
                calls: 123_456,
                succeeded: 100,
                errors: vec![
                    ErrnoCount { errno: 11, name: "EAGAIN".into(), count: 120_000 },
                    ErrnoCount { errno: 19, name: "ENODEV".into(), count: 3_356 },
                ],
                exits: Vec::new(),
                longest_ns: 4_200_000,
                calls_per_second: 41_152.0,
            }],
        }];
        result.removals = vec![RemovalTotals {
            how: How::Surprise,
            asked: 100,
            seen: 100,
            finished: 100,
            stuck: 0,
            seen_after: Summary::of((0..100).map(|index| 100_000 + index * 1000)),
            finished_after: Summary::of((0..100).map(|index| 20_000_000 + index * 100_000)),
        }];
        result.timings.grace_periods = vec![GracePeriods {
            caller: None,
            mode: GracePeriodMode::Ordinary,
            summary: Summary::of((0..100).map(|index| 9_000_000 + index * 50_000)).unwrap(),
        }];
        result
    }

    #[test]
    fn a_clean_run() {
        insta::assert_snapshot!(render(&base()));
    }

    #[test]
    fn points_of_the_design_are_shown_with_their_hits() {
        let mut result = base();
        let point = |name: &str, delay_ns, hits, concerned| PointFacts {
            name: name.into(),
            delay_ns,
            every: 3,
            hits,
            turns: hits.unwrap_or(0) / 3,
            concerned,
        };
        result.points = vec![
            point("shared-handle.before-unlock", Some(5_000_000), Some(8714), true),
            point("driver.revoke-twice", None, None, true),
            point("by-value.cleared", Some(5_000_000), Some(0), false),
        ];
        let text = render(&result);
        assert!(text.contains("8714 hits, 2904 in turn\n") && text.contains("hits not told\n"), "{text}");
        assert!(!text.contains("by-value.cleared"), "{text}");
    }

    #[test]
    fn a_processor_that_is_not_plain_is_told() {
        let mut result = base();
        assert!(!render(&result).contains("cpu host"));
        result.guest.cpu = Cpu::Host;
        assert!(render(&result).contains("gone reads zeroes, cpu host\n"));
    }

    #[test]
    fn a_removal_that_hangs() {
        let mut result = base();
        result.verdict = Verdict::Found;
        result.reason = Some("removal never ends: gpiochip_remove waits in synchronize_srcu for linereq_read".into());
        result.cycles.completed = 0;
        let stack = |frames: &[&str]| frames.iter().map(|&frame| frame.to_owned()).collect::<Vec<_>>();
        result.findings = vec![Finding {
            title: "removal never ends: gpiochip_remove waits in synchronize_srcu for linereq_read".into(),
            alt_titles: Vec::new(),
            kind: FindingKind::RemovalStuck,
            count: 1,
            cycle: 0,
            seed: 7,
            device: Some("gpio".into()),
            how: Some(How::Surprise),
            explanation:
                "Device `gpio` was taken away (surprise) in cycle 0. The guest took note of it, and it had not ended \
                          after 24 s. A thread sleeps in a read and holds what the removal waits for."
                    .into(),
            hang: Some(HangReport {
                title: String::new(),
                explanation: String::new(),
                waiters: vec![Waiter {
                    tid: 62,
                    comm: "irq/25-pciehp".into(),
                    removal: "pciehp_ist".into(),
                    wait: Wait {
                        kind: WaitKind::Srcu,
                        function: Some("synchronize_srcu".into()),
                        caller: "gpiochip_remove".into(),
                    },
                    movement: Movement::Still,
                    waited_ns: Some(25_000_000_000),
                    stack: stack(&["__synchronize_srcu+0xa5/0xc0", "gpiochip_remove+0x66/0x160"]),
                }],
                waited_for: vec![Holder {
                    tid: 70,
                    comm: "hammer".into(),
                    function: "linereq_read".into(),
                    doing: "reads".into(),
                    hammer: Some("reader".into()),
                    operation: Some("read-event".into()),
                    movement: Movement::Still,
                    stack: stack(&["linereq_read+0x1c7/0x2f0", "vfs_read+0xb6/0x370"]),
                }],
                unbalanced: Vec::new(),
                locks: Vec::new(),
                lock_waits: Vec::new(),
            }),
            processors: None,
            splat: None,
            console: vec!["plugstorm-agent: started \u{1b}[2J".into()],
            known: false,
            known_reason: None,
            known_url: None,
        }];
        insta::assert_snapshot!(render(&result));
    }
}
