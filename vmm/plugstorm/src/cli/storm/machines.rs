//! Nested machines, one after another until their runs are done.

use super::{Audience, Failure, show};
use crate::host::nested::{JobState, NestedError};
use crate::verdict::{EXIT_INTERRUPTED, exit_code_of_job};

/// Nested machines started for one lot of runs at most: emulation is not perfect, and one that dies takes no verdict with it
/// but the time of the runs that it was in.
const MOST_MACHINES: usize = 4;

/// How a machine left its runs.
#[derive(Debug)]
pub(super) struct Left {
    /// How far each came, in the order in which they were given.
    pub(super) runs: Vec<JobState>,
    /// Why they did not all come to their end, if they did not.
    pub(super) failure: Option<Broken>,
}

/// Why a machine's runs did not all come to their end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The machine.
    Machine(NestedError),
    /// The process that carried them out, with this exit code.
    Process(i32),
}

/// Carries out runs in one nested machine; in another one what is left if it dies. The exit codes, and whether there may be
/// more. What those had collected that were under way when it died, `keep` puts aside, and says so.
pub(super) fn in_machines(
    lot: Vec<usize>,
    mut machine: impl FnMut(&[usize]) -> Result<Left, Failure>,
    keep: impl Fn(usize) -> String,
    audience: &dyn Audience,
) -> (Vec<u8>, bool) {
    let all = lot.len();
    let mut left = lot;
    let mut codes = Vec::new();
    for nth in 1..=MOST_MACHINES {
        let report = match machine(&left) {
            Ok(report) => report,
            // What earlier machines found stands.
            Err(failure) => {
                codes.push(failure.show());
                return (codes, false);
            }
        };
        codes.extend(report.runs.iter().filter_map(|run| run.outcome()).map(|run| exit_code_of_job(run.exit_code)));
        let (under_way, waiting) = unfinished(&left, &report.runs);
        // How a machine ends that nobody needs any more is nothing to the runs.
        if under_way.is_empty() && waiting.is_empty() {
            return (codes, true);
        }
        let (why, again) = match report.failure {
            Some(Broken::Machine(failure @ (NestedError::Died { .. } | NestedError::Silent { .. }))) => {
                (failure.to_string(), [under_way.clone(), waiting].concat())
            }
            Some(Broken::Machine(failure)) => {
                codes.push(Failure::from(failure).show());
                return (codes, false);
            }
            // It gave up, and has said why.
            Some(Broken::Process(code)) if under_way.is_empty() => {
                codes.push(exit_code_of_job(code));
                return (codes, false);
            }
            // Whatever those runs did to it, they would do again.
            Some(Broken::Process(code)) => {
                for run in &under_way {
                    codes.push(exit_code_of_job(code));
                    audience.ended(*run, exit_code_of_job(code));
                }
                let what = format!("the process that carried out runs in a nested machine ended with exit code {code}");
                (what, waiting)
            }
            None => {
                codes.push(EXIT_INTERRUPTED);
                return (codes, false);
            }
        };
        left = again;
        if left.is_empty() {
            return (codes, true);
        }
        if nth == MOST_MACHINES {
            codes.push(Failure::machine(&why).show());
            return (codes, false);
        }
        let kept: String = under_way.into_iter().map(&keep).collect();
        show::err(&format!(
            "note: {why}\nnote: {} of {all} runs are left; starting another nested machine for them{kept}\n",
            left.len()
        ));
    }
    (codes, true)
}

/// Of the runs that a machine was given: those it was in when it ended, and those it had not begun.
fn unfinished(given: &[usize], runs: &[JobState]) -> (Vec<usize>, Vec<usize>) {
    let in_state = |state: JobState| {
        let these = given.iter().zip(runs).filter(|(_, run)| **run == state);
        these.map(|(number, _)| *number).collect()
    };
    (in_state(JobState::UnderWay), in_state(JobState::Waiting))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::nested::JobOutcome;
    use std::cell::RefCell;
    use std::sync::Mutex;

    const WAITING: JobState = JobState::Waiting;
    const UNDER_WAY: JobState = JobState::UnderWay;

    fn ended(exit_code: i32) -> JobState {
        JobState::Ended(JobOutcome { exit_code })
    }

    fn died() -> Option<Broken> {
        Some(Broken::Machine(NestedError::Died { status: "signal: 6".into(), evidence: String::new() }))
    }

    /// Keeps which runs have ended without their process.
    #[derive(Default)]
    struct Listener(Mutex<Vec<(usize, u8)>>);

    impl Audience for Listener {
        fn began(&self, _run: usize) {}

        fn shown(&self, _run: usize, _text: &str) {}

        fn ended(&self, run: usize, code: u8) {
            self.0.lock().unwrap().push((run, code));
        }
    }

    #[derive(Debug, PartialEq)]
    struct Told {
        /// What each machine was given.
        given: Vec<Vec<usize>>,
        /// Whose results were kept.
        kept: Vec<usize>,
        codes: Vec<u8>,
        is_whole: bool,
        /// Who has ended without their process.
        ended: Vec<(usize, u8)>,
    }

    fn told(runs: usize, machines: Vec<(Vec<JobState>, Option<Broken>)>) -> Told {
        let (given, kept, listener) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()), Listener::default());
        let mut machines = machines.into_iter();
        let (codes, is_whole) = in_machines(
            (0..runs).collect(),
            |left| {
                given.borrow_mut().push(left.to_vec());
                let (runs, failure) = machines.next().ok_or_else(|| Failure::machine(&"there is no more"))?;
                assert_eq!(runs.len(), left.len());
                Ok(Left { runs, failure })
            },
            |number| {
                kept.borrow_mut().push(number);
                String::new()
            },
            &listener,
        );
        let ended = listener.0.into_inner().unwrap();
        Told { given: given.into_inner(), kept: kept.into_inner(), codes, is_whole, ended }
    }

    #[test]
    fn one_machine_does_for_all_if_it_lives() {
        let told = told(3, vec![(vec![ended(0), ended(1), ended(137)], None)]);
        assert_eq!(
            (told.given, told.kept, told.codes, told.is_whole),
            (vec![vec![0, 1, 2]], vec![], vec![0, 1, 3], true)
        );
    }

    #[test]
    fn another_machine_gets_what_is_left_with_gaps() {
        let first = vec![UNDER_WAY, ended(0), UNDER_WAY, ended(1), WAITING];
        let second = vec![ended(0), UNDER_WAY, WAITING];
        let machines = vec![(first, died()), (second, died()), (vec![ended(0), ended(3)], None)];
        let told = told(5, machines);
        // Those that were interrupted come first.
        assert_eq!(told.given, [vec![0, 1, 2, 3, 4], vec![0, 2, 4], vec![2, 4]]);
        assert_eq!((told.kept, told.codes, told.is_whole), (vec![0, 2, 2], vec![0, 1, 0, 0, 3], true));
    }

    #[test]
    fn there_is_an_end_to_machines() {
        let again = || (vec![UNDER_WAY, WAITING], died());
        let told = told(2, vec![again(), again(), again(), again(), again()]);
        assert_eq!((told.given.len(), told.kept, told.codes), (MOST_MACHINES, vec![0, 0, 0], vec![3]));
        assert!(!told.is_whole);
    }

    #[test]
    fn what_a_machine_found_stands_if_the_next_does_not_start() {
        let told = told(2, vec![(vec![ended(1), UNDER_WAY], died())]);
        assert_eq!((told.given.len(), told.codes, told.is_whole), (2, vec![1, 3], false));
    }

    #[test]
    fn a_machine_may_die_when_all_runs_have_ended() {
        let told = told(2, vec![(vec![ended(0), ended(1)], died())]);
        assert_eq!((told.given.len(), told.kept, told.codes, told.is_whole), (1, vec![], vec![0, 1], true));
    }

    #[test]
    fn a_run_that_ends_its_process_is_not_begun_again_and_the_others_are() {
        let crashed = (vec![ended(0), UNDER_WAY, WAITING], Some(Broken::Process(137)));
        let told = told(3, vec![crashed, (vec![ended(1)], None)]);
        assert_eq!((told.given, told.kept), (vec![vec![0, 1, 2], vec![2]], vec![1]));
        assert_eq!((told.codes, told.ended, told.is_whole), (vec![0, 3, 1], vec![(1, 3)], true));
    }

    #[test]
    fn a_process_that_gives_up_is_not_begun_again() {
        let told = told(3, vec![(vec![ended(3), WAITING, WAITING], Some(Broken::Process(3)))]);
        assert_eq!((told.given.len(), told.codes, told.is_whole), (1, vec![3, 3], false));
    }

    #[test]
    fn a_signal_ends_it_in_order() {
        let stopped = told(3, vec![(vec![ended(0), ended(130), WAITING], None)]);
        assert_eq!((stopped.given.len(), stopped.codes, stopped.is_whole), (1, vec![0, 130, EXIT_INTERRUPTED], false));
        let killed = told(2, vec![(vec![UNDER_WAY, WAITING], Some(Broken::Machine(NestedError::Stopped)))]);
        assert_eq!((killed.kept, killed.codes, killed.is_whole), (vec![], vec![EXIT_INTERRUPTED], false));
    }
}
