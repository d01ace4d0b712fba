//! What a run's evidence amounts to. Clean is what has been shown to be so, not what nobody complained of.

use std::process::ExitCode;

use plugstorm_wire::Operation;

use crate::known::accepted;
use crate::results::{EndedBy, FindingKind, HammerTotals, OperationTotals, RemovalTotals, RunResult, Verdict};
use crate::scenario::{Point, Scenario};
use crate::storm::{Ending, Outcome, PointRecord};

/// The exit code of nothing found.
pub const EXIT_CLEAN: u8 = 0;
/// The exit code of something found.
pub const EXIT_FOUND: u8 = 1;
/// The exit code of the user's errors.
pub const EXIT_USER: u8 = 2;
/// The exit code of the machine's errors, and of runs that prove nothing.
pub const EXIT_MACHINE: u8 = 3;
/// The exit code of runs that a signal ended (128 + SIGINT, as shells have it).
pub const EXIT_INTERRUPTED: u8 = 130;

/// The exit code by which `git bisect run` skips a commit.
pub const EXIT_SKIP: u8 = 125;
/// The exit code by which it ends, whatever the commit.
pub const EXIT_ABORT: u8 = 128;

/// Errors that say that the hammer asked for what cannot be, or had no descriptor: such calls test nothing.
const VAIN: [&str; 7] = ["EBADF", "EINVAL", "ENOTTY", "EFAULT", "EPERM", "ENOSYS", "EOPNOTSUPP"];

/// The verdict, and why.
#[must_use]
pub fn judge(scenario: &Scenario, outcome: &Outcome) -> (Verdict, Option<String>) {
    let record = &outcome.record;
    // What was found stands, whatever ended the run.
    // The removal that hangs says more than what the kernel says of it.
    let stuck = record.findings.iter().find(|finding| finding.kind == FindingKind::RemovalStuck);
    if let Some(first) = stuck.or(record.findings.first()) {
        let more = match record.findings.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let then = match &outcome.ending {
            Ending::Failed(reason) | Ending::Host(reason) | Ending::User(reason) => format!("; then {reason}"),
            Ending::Interrupted => "; then a signal ended the run".to_owned(),
            Ending::Output(error) => format!("; then the results could not be written any further: {error}"),
            Ending::Done => String::new(),
        };
        return (Verdict::Found, Some(format!("{}{more}{then}", first.title)));
    }
    let reason = match &outcome.ending {
        Ending::Interrupted => return (Verdict::Interrupted, Some("a signal ended the run".into())),
        Ending::Failed(reason) | Ending::Host(reason) | Ending::User(reason) => Some(reason.clone()),
        Ending::Output(error) => {
            Some(format!("the results could not be written any further: {error}; what was written is kept"))
        }
        Ending::Done => gap(scenario, outcome),
    };
    match reason {
        Some(reason) => (Verdict::Inconclusive, Some(reason)),
        None => (Verdict::Clean, None),
    }
}

/// What is missing in the evidence for a clean run.
fn gap(scenario: &Scenario, outcome: &Outcome) -> Option<String> {
    let record = &outcome.record;
    if record.completed != scenario.cycles {
        return Some(format!("{} of {} cycles completed", record.completed, scenario.cycles));
    }
    let hammers = || {
        let totals = record.hammer_totals(scenario);
        scenario.hammers.iter().zip(&totals).find_map(|(hammer, total)| hammer_gap(&hammer.operations, total))
    };
    let points = || {
        let mut concerned =
            scenario.points.iter().zip(&record.points).filter(|(point, _)| scenario.concerned_by(point));
        concerned.find_map(|(point, hits)| point_gap(point, *hits))
    };
    record.removal_totals().iter().find_map(removal_gap).or_else(hammers).or_else(points)
}

/// A point widens a race; where nobody came to it, that race was not tried as the scenario says.
fn point_gap(point: &Point, record: PointRecord) -> Option<String> {
    match record.hits {
        Some(0) => Some(format!("point `{}` was armed and never reached, so it proves nothing", point.name)),
        Some(hits) if record.turns == 0 => Some(format!(
            "point `{}` was reached {hits} times and held nobody, since each guest holds each {}th that comes: lower `every`",
            point.name, point.every
        )),
        None => Some(format!("no guest told whether point `{}`, which was armed, was ever reached", point.name)),
        Some(_) => None,
    }
}

fn removal_gap(removal: &RemovalTotals) -> Option<String> {
    let how = removal.how.name();
    if removal.finished != removal.asked {
        return Some(format!("{} of {} removals ({how}) are known to have finished", removal.finished, removal.asked));
    }
    (removal.seen < removal.asked)
        .then(|| format!("the guest is known to have seen {} of {} removals ({how})", removal.seen, removal.asked))
}

fn hammer_gap(asked: &[Operation], hammer: &HammerTotals) -> Option<String> {
    if hammer.runs == 0 {
        return Some(format!("hammer `{}` never ran, so it proves nothing", hammer.name));
    }
    if hammer.idle_runs > 0 {
        return Some(format!(
            "hammer `{}` made no call on a device that was there in {} of its {} runs, so these prove nothing; lengthen the pause after its \
             start",
            hammer.name, hammer.idle_runs, hammer.runs
        ));
    }
    let called =
        |operation: &Operation| hammer.operations.iter().any(|total| total.operation == *operation && total.calls > 0);
    if let Some(untried) = asked.iter().find(|operation| !called(operation)) {
        return Some(format!(
            "hammer `{}` never came to call `{}`: nothing is known of it",
            hammer.name,
            crate::scenario::operation_name(*untried)
        ));
    }
    let vain = hammer.operations.iter().find(|operation| is_vain(operation))?;
    let errno = vain.errors.first().map_or("an error", |error| error.name.as_str());
    Some(format!(
        "every call `{}` of hammer `{}` failed with {errno}: it does not test what it is for",
        crate::scenario::operation_name(vain.operation),
        hammer.name
    ))
}

fn is_vain(operation: &OperationTotals) -> bool {
    let vain = |name: &str| match operation.operation {
        // A program fails with an errno if it cannot be run at all, or is interrupted as its hammer ends.
        Operation::Run => name != "EINTR",
        // What a driver without mmap gives, and one whose device has gone.
        Operation::MmapRead => name == "ENODEV" || VAIN.contains(&name),
        _ => VAIN.contains(&name),
    };
    let failed = operation.errors.iter().filter(|error| vain(&error.name));
    operation.calls > 0 && failed.fold(0u64, |sum, error| sum.saturating_add(error.count)) >= operation.calls
}

/// The exit code of a verdict.
#[must_use]
pub fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Clean => EXIT_CLEAN,
        Verdict::Found => EXIT_FOUND,
        Verdict::Inconclusive | Verdict::Running => EXIT_MACHINE,
        Verdict::Interrupted => EXIT_INTERRUPTED,
    }
}

/// The exit code of a run. One that came to nothing because of what the user asked for is the user's; one all of whose findings
/// are known is as good as what ended it.
#[must_use]
pub fn exit_code_of(result: &RunResult) -> u8 {
    match (result.verdict, result.ended_by) {
        (Verdict::Found, EndedBy::Itself) if accepted(result) => EXIT_CLEAN,
        (Verdict::Found, EndedBy::Signal) if accepted(result) => EXIT_INTERRUPTED,
        (Verdict::Found, EndedBy::Machine | EndedBy::Host) if accepted(result) => EXIT_MACHINE,
        (Verdict::Found, EndedBy::User) if accepted(result) => EXIT_USER,
        (Verdict::Inconclusive, EndedBy::User) => EXIT_USER,
        (verdict, _) => exit_code(verdict),
    }
}

/// The exit code of a job in a nested machine. One that is none of ours, as of a job that was killed, is the machine's.
#[must_use]
pub fn exit_code_of_job(code: i32) -> u8 {
    match u8::try_from(code) {
        Ok(code @ (EXIT_CLEAN | EXIT_FOUND | EXIT_USER | EXIT_MACHINE | EXIT_INTERRUPTED)) => code,
        _ => EXIT_MACHINE,
    }
}

/// The exit code of several runs: a finding stands whatever else happened, then comes that runs are left over, then
/// what the user can mend, then what the machine failed at.
#[must_use]
pub fn worst(codes: impl IntoIterator<Item = u8>) -> u8 {
    let rank = |code: &u8| match *code {
        EXIT_CLEAN => 0,
        EXIT_USER => 2,
        EXIT_INTERRUPTED => 3,
        EXIT_FOUND => 4,
        _ => 1,
    };
    codes.into_iter().max_by_key(rank).unwrap_or(EXIT_CLEAN)
}

/// As `main` returns it.
#[must_use]
pub fn as_exit(code: u8) -> ExitCode {
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use plugstorm_wire::{ErrnoCount, ExitCount};

    use super::*;

    #[test]
    fn a_finding_outranks_everything_and_an_interruption_a_failure() {
        assert_eq!(worst([0, 3, 1, 0]), 1);
        assert_eq!(worst([0, 3]), 3);
        assert_eq!(worst([1, 130, 2]), 1);
        assert_eq!(worst([3, 130, 2]), 130);
        assert_eq!(worst([]), 0);
    }

    #[test]
    fn calls_that_all_fail_for_want_of_something_are_in_vain() {
        let calls = |operation, succeeded, errors: &[(&str, u64)]| {
            let failed = errors.iter().map(|(_, count)| count).sum::<u64>();
            let errors = errors.iter().map(|&(name, count)| ErrnoCount { errno: 1, name: name.into(), count });
            OperationTotals {
                operation,
                calls: succeeded + failed,
                succeeded,
                errors: errors.collect(),
                exits: Vec::new(),
                longest_ns: 0,
                calls_per_second: 0.0,
            }
        };
        for (operation, succeeded, errors, vain) in [
            (Operation::Ioctl, 0, &[("ENOTTY", 5)][..], true),
            (Operation::Ioctl, 1, &[("ENOTTY", 5)], false),
            (Operation::Ioctl, 0, &[("ENODEV", 5)], false),
            (Operation::MmapRead, 0, &[("ENODEV", 5)], true),
            (Operation::MmapRead, 1, &[("ENODEV", 5)], false),
            (Operation::Run, 0, &[("ENOEXEC", 5)], true),
            (Operation::Run, 0, &[("EINTR", 1)], false),
        ] {
            assert_eq!(is_vain(&calls(operation, succeeded, errors)), vain, "{operation:?} {succeeded} {errors:?}");
        }
        // One that was run and ended with something else than 0 has been tried.
        let mut run = calls(Operation::Run, 0, &[]);
        (run.calls, run.exits) = (3, vec![ExitCount { status: "exit 1".into(), count: 3 }]);
        assert!(!is_vain(&run));
    }

    #[test]
    fn a_job_that_was_killed_failed() {
        for code in [0, 1, 2, 3, 130] {
            assert_eq!(i32::from(exit_code_of_job(code)), code);
        }
        for code in [-1, 4, 101, 137, 139, 256, 257] {
            assert_eq!(exit_code_of_job(code), 3);
        }
    }
}
