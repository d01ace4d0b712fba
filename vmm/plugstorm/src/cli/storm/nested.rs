//! Runs as jobs of nested machines.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Failure, Ready, Way, absolute, show, sizes};
use crate::host::nested::{Batch, BatchReport, Job, JobState, NestedError, forward};
use crate::host::room::{Room, cpus_beside, nested_at_a_time, nested_mib};
use crate::own;
use crate::results::RunFolder;
use crate::scenario::Until;
use crate::verdict::{EXIT_INTERRUPTED, exit_code_of_job, worst};

/// Nested machines started for one command line at most: emulation is not perfect, and one that dies takes no verdict
/// with it but the time of the runs that it was in.
const MOST_MACHINES: usize = 4;

/// In one nested machine, all of them; in another one what is left if it dies. The exit code.
pub(in crate::cli) fn all(runs: &[Ready], way: &Way<'_>) -> u8 {
    let sizes = sizes(runs);
    let at_a_time = nested_at_a_time(way.jobs, &sizes);
    if let Some(shortage) = Room::here().nested_shortage(&sizes, at_a_time) {
        show::err(&format!("warning: {shortage}\n"));
    }
    let run_of = |number: &usize| runs.get(*number);
    worst(in_machines(
        runs.len(),
        |left| {
            let ended = |job: usize, code: u8| {
                if let Some(run) = left.get(job) {
                    (way.ended)(*run, code);
                }
            };
            let runs: Vec<_> = left.iter().filter_map(run_of).collect();
            one_machine(&runs, at_a_time, &Way { ended: &ended, ..*way })
        },
        |number| run_of(&number).map(keep_what_is_left).unwrap_or_default(),
    ))
}

/// Exit codes of so many runs. `machine` runs those that it is given; what they had collected that were under way when it
/// died, `keep` puts aside, and says so.
fn in_machines(
    runs: usize,
    mut machine: impl FnMut(&[usize]) -> Result<BatchReport, Failure>,
    keep: impl Fn(usize) -> String,
) -> Vec<u8> {
    let mut left: Vec<usize> = (0..runs).collect();
    let mut codes = Vec::new();
    for nth in 1..=MOST_MACHINES {
        let report = match machine(&left) {
            Ok(report) => report,
            // What earlier machines found stands.
            Err(failure) => {
                codes.push(failure.show());
                break;
            }
        };
        codes.extend(report.jobs.iter().filter_map(|job| job.outcome()).map(|job| exit_code_of_job(job.exit_code)));
        let (under_way, waiting) = unfinished(&left, &report.jobs);
        left = [under_way.clone(), waiting].concat();
        match report.failure {
            // How a machine ends that nobody needs any more is nothing to the runs.
            _ if left.is_empty() => break,
            Some(failure @ (NestedError::Died { .. } | NestedError::Silent { .. })) if nth < MOST_MACHINES => {
                let kept: String = under_way.into_iter().map(&keep).collect();
                show::err(&format!(
                    "note: {failure}\nnote: {} of {runs} runs are left; starting another nested machine for them{kept}\n",
                    left.len()
                ));
            }
            Some(failure) => {
                codes.push(Failure::from(failure).show());
                break;
            }
            None => {
                codes.push(EXIT_INTERRUPTED);
                break;
            }
        }
    }
    codes
}

/// Of the runs that a machine was given: those it was in when it ended, and those it had not begun.
fn unfinished(given: &[usize], jobs: &[JobState]) -> (Vec<usize>, Vec<usize>) {
    let in_state = |state: JobState| {
        let these = given.iter().zip(jobs).filter(|(_, job)| **job == state);
        these.map(|(number, _)| *number).collect()
    };
    (in_state(JobState::UnderWay), in_state(JobState::Waiting))
}

/// Of a run that its machine did not survive. As the end of a sentence.
fn keep_what_is_left(run: &Ready) -> String {
    let (name, seed) = (&run.scenario.name, run.seed);
    match RunFolder::set_aside(&run.out) {
        Ok(Some(kept)) => format!("; what {name}, seed {seed}, had collected is in {}", kept.display()),
        Ok(None) => String::new(),
        Err(error) => format!("; what {name}, seed {seed}, had collected is lost: {error}"),
    }
}

/// `way.ended` is told of the runs by their places among these.
fn one_machine(runs: &[&Ready], at_a_time: usize, way: &Way<'_>) -> Result<BatchReport, Failure> {
    let sizes = sizes(runs.iter().copied());
    // A machine after the first has fewer.
    let at_a_time = at_a_time.min(runs.len());
    let mut batch = Batch::new().memory_mib(nested_mib(&sizes, at_a_time)).parallel(at_a_time).snapshots(!way.cold);
    for (number, run) in runs.iter().enumerate() {
        let beside = cpus_beside(&sizes, number, at_a_time);
        let output = way.around.map_or_else(|| shared_out(runs, run), Path::to_path_buf);
        batch = batch.input(absolute(&run.file)?).output(output).job(job(run, beside, way)?);
        for source in own::sources(&run.scenario, &run.file) {
            batch = batch.input(absolute(&source)?);
        }
        let guest = &run.guest;
        if guest.kernel_name.contains('/') || Path::new(&guest.kernel_name) == guest.kernel.image {
            batch = batch.input(absolute(&guest.kernel.image)?);
        }
    }
    let report = batch.run_heard(&mut |output| way.board.aside(|| forward(output)), &mut |job, state| {
        if let Some(outcome) = state.outcome() {
            (way.ended)(job, exit_code_of_job(outcome.exit_code));
        }
    })?;
    for note in &report.notes {
        show::err(&format!("note: {note}\n"));
    }
    Ok(report)
}

/// Runs with one parent share it: a nested machine takes only so many folders.
fn shared_out(runs: &[&Ready], run: &Ready) -> PathBuf {
    let parent = run.out.parent();
    let siblings = runs.iter().filter(|other| other.out.parent() == parent).count();
    match parent {
        Some(parent) if siblings > 1 => parent.to_path_buf(),
        _ => run.out.clone(),
    }
}

/// The same run, on the KVM of the nested host, beside others with so many vCPUs.
fn job(run: &Ready, beside: u32, way: &Way<'_>) -> Result<Job, Failure> {
    let guest = &run.guest;
    let mut argv: Vec<OsString> = ["storm", "--host", "kvm", "--jobs", "1"].map(OsString::from).to_vec();
    argv.extend(["--beside".into(), beside.to_string().into(), "--seed".into(), run.seed.to_string().into()]);
    // A kernel in the cache keeps its name; the cache is shared. A file needs a path that means the same inside.
    let is_file = Path::new(&guest.kernel_name) == guest.kernel.image;
    let kernel =
        if is_file { absolute(&guest.kernel.image)?.into_os_string() } else { guest.kernel_name.clone().into() };
    argv.extend(["--kernel".into(), kernel, "--out".into(), run.out.clone().into_os_string()]);
    argv.extend(way.cold.then(|| "--cold".into()));
    argv.extend(way.quiet.then(|| "--quiet".into()));
    if let Some(design) = run.instead.design {
        argv.extend(["--design".into(), design.name().into()]);
    }
    if let Some(cycles) = run.instead.cycles {
        argv.extend(["--cycles".into(), cycles.to_string().into()]);
    }
    if let Some(until) = run.instead.until.map(Until::name) {
        argv.extend(["--until".into(), until.into()]);
    }
    argv.push(absolute(&run.file)?.into_os_string());
    let directory = run.out.clone();
    Ok(Job { argv, directory, environment: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::nested::JobOutcome;
    use std::cell::RefCell;
    use std::time::Duration;

    const WAITING: JobState = JobState::Waiting;
    const UNDER_WAY: JobState = JobState::UnderWay;

    fn ended(exit_code: i32) -> JobState {
        JobState::Ended(JobOutcome { exit_code })
    }

    fn died() -> Option<NestedError> {
        Some(NestedError::Died { status: "signal: 6".into(), evidence: String::new() })
    }

    /// What each machine was given, whose results were kept, and the exit codes.
    fn told(
        runs: usize,
        machines: Vec<(Vec<JobState>, Option<NestedError>)>,
    ) -> (Vec<Vec<usize>>, Vec<usize>, Vec<u8>) {
        let (given, kept) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let mut machines = machines.into_iter();
        let codes = in_machines(
            runs,
            |left| {
                given.borrow_mut().push(left.to_vec());
                let (jobs, failure) = machines.next().ok_or_else(|| Failure::machine(&"there is no more"))?;
                assert_eq!(jobs.len(), left.len());
                Ok(BatchReport {
                    jobs,
                    failure,
                    snapshots: Vec::new(),
                    notes: Vec::new(),
                    boot: Duration::ZERO,
                    total: Duration::ZERO,
                })
            },
            |number| {
                kept.borrow_mut().push(number);
                String::new()
            },
        );
        (given.into_inner(), kept.into_inner(), codes)
    }

    #[test]
    fn one_machine_does_for_all_if_it_lives() {
        let (given, kept, codes) = told(3, vec![(vec![ended(0), ended(1), ended(137)], None)]);
        assert_eq!((given, kept, codes), (vec![vec![0, 1, 2]], vec![], vec![0, 1, 3]));
    }

    #[test]
    fn another_machine_gets_what_is_left_with_gaps() {
        let first = vec![UNDER_WAY, ended(0), UNDER_WAY, ended(1), WAITING];
        let second = vec![ended(0), UNDER_WAY, WAITING];
        let machines = vec![(first, died()), (second, died()), (vec![ended(0), ended(3)], None)];
        let (given, kept, codes) = told(5, machines);
        // Those that were interrupted come first.
        assert_eq!(given, [vec![0, 1, 2, 3, 4], vec![0, 2, 4], vec![2, 4]]);
        assert_eq!((kept, codes), (vec![0, 2, 2], vec![0, 1, 0, 0, 3]));
    }

    #[test]
    fn there_is_an_end_to_machines() {
        let again = || (vec![UNDER_WAY, WAITING], died());
        let (given, kept, codes) = told(2, vec![again(), again(), again(), again(), again()]);
        assert_eq!((given.len(), kept, codes), (MOST_MACHINES, vec![0, 0, 0], vec![3]));
    }

    #[test]
    fn what_a_machine_found_stands_if_the_next_does_not_start() {
        let (given, _, codes) = told(2, vec![(vec![ended(1), UNDER_WAY], died())]);
        assert_eq!((given.len(), codes), (2, vec![1, 3]));
    }

    #[test]
    fn a_machine_may_die_when_all_runs_have_ended() {
        let (given, kept, codes) = told(2, vec![(vec![ended(0), ended(1)], died())]);
        assert_eq!((given.len(), kept, codes), (1, vec![], vec![0, 1]));
    }

    #[test]
    fn a_signal_ends_it_in_order() {
        let (given, kept, codes) = told(3, vec![(vec![ended(0), ended(130), WAITING], None)]);
        assert_eq!((given.len(), kept, codes), (1, vec![], vec![0, 130, EXIT_INTERRUPTED]));
        let (_, kept, codes) = told(2, vec![(vec![UNDER_WAY, WAITING], Some(NestedError::Stopped))]);
        assert_eq!((kept, codes), (vec![], vec![EXIT_INTERRUPTED]));
    }
}
