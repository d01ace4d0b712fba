//! Nested machines, one after another until their runs are done.

use std::collections::HashMap;

use super::{Audience, Failure, show};
use crate::host::nested::{JobState, NestedError};
use crate::verdict::{EXIT_INTERRUPTED, EXIT_MACHINE, exit_code_of_job};

/// Machines that may die while a run is under way in them: emulation is not perfect, and one that dies takes no verdict with
/// it but the time of the runs that it was in. A run in which three did has to do with it.
const MOST_DEATHS: usize = 3;
/// Machines in a row that may die before any run is begun in them.
const MOST_VAIN: usize = 4;

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
/// more. What those had collected that were under way when it died, `keep` puts aside, and says so. `is_over` says that no
/// machine is to be started any more.
pub(super) fn in_machines(
    lot: Vec<usize>,
    mut machine: impl FnMut(&[usize]) -> Result<Left, Failure>,
    keep: impl Fn(usize) -> String,
    audience: &dyn Audience,
    is_over: &dyn Fn() -> bool,
) -> (Vec<u8>, bool) {
    let all = lot.len();
    let mut left = lot;
    let mut codes = Vec::new();
    // How many machines died of, or under, each run; and how many in a row without any.
    let mut deaths: HashMap<usize, usize> = HashMap::new();
    let mut vain = 0;
    while !left.is_empty() {
        if is_over() {
            codes.push(EXIT_INTERRUPTED);
            return (codes, false);
        }
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
        let (why, code) = match report.failure {
            Some(Broken::Machine(failure @ (NestedError::Died { .. } | NestedError::Silent { .. }))) => {
                (failure.to_string(), None)
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
            Some(Broken::Process(code)) => (
                format!("the process that carried out runs in a nested machine ended with exit code {code}"),
                Some(exit_code_of_job(code)),
            ),
            None => {
                codes.push(EXIT_INTERRUPTED);
                return (codes, false);
            }
        };
        let kept: String = under_way.iter().copied().map(&keep).collect();
        // What ended a process would end the next one too; a machine may have died by chance.
        let mut again = Vec::new();
        for run in under_way.iter().copied() {
            let times = deaths.entry(run).or_default();
            *times += 1;
            match code.or((*times >= MOST_DEATHS).then_some(EXIT_MACHINE)) {
                Some(code) => {
                    codes.push(code);
                    audience.ended(run, code);
                }
                None => again.push(run),
            }
        }
        vain = if under_way.is_empty() { vain + 1 } else { 0 };
        if vain >= MOST_VAIN {
            codes.push(Failure::machine(&why).show());
            return (codes, false);
        }
        let given_up = under_way.len() - again.len();
        left = [again, waiting].concat();
        let next = match left.len() {
            0 => String::new(),
            runs => format!("; starting another nested machine for the {runs} of {all} runs that are left"),
        };
        let lost = match given_up {
            0 => String::new(),
            runs => format!("; given up with it: {runs} of the runs that it was in"),
        };
        show::err(&format!("note: {why}\nnote: a nested machine is gone{lost}{next}{kept}\n"));
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
            &|| false,
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
    fn a_run_under_which_machines_die_is_given_up_and_the_others_are_not() {
        let again = || (vec![UNDER_WAY, WAITING], died());
        let told = told(2, vec![again(), again(), again(), (vec![ended(0)], None)]);
        assert_eq!((told.given.len(), told.kept, told.codes), (4, vec![0, 0, 0], vec![3, 0]));
        assert_eq!((told.ended, told.is_whole), (vec![(0, 3)], true));
    }

    #[test]
    fn machines_that_get_nowhere_have_an_end_and_those_that_get_on_go_on() {
        let nowhere = || (vec![WAITING], died());
        let told_of_nowhere = told(1, (0..9).map(|_| nowhere()).collect());
        assert_eq!((told_of_nowhere.given.len(), told_of_nowhere.codes), (MOST_VAIN, vec![3]));
        assert!(!told_of_nowhere.is_whole);
        // Each machine brings one run to its end and dies in the next: that is no reason to stop.
        let runs = 12;
        let machine = |left: usize| {
            let states = (0..left).map(|run| match run {
                0 => ended(0),
                1 => UNDER_WAY,
                _ => WAITING,
            });
            (states.collect::<Vec<_>>(), if left > 1 { died() } else { None })
        };
        let told = told(runs, (1..=runs).rev().map(machine).collect());
        assert_eq!((told.given.len(), told.codes, told.is_whole), (runs, vec![0; runs], true));
    }

    #[test]
    fn no_machine_is_started_after_a_signal() {
        let (codes, is_whole) = in_machines(
            vec![0, 1],
            |_| -> Result<Left, Failure> { panic!("it is over") },
            |_| String::new(),
            &Listener::default(),
            &|| true,
        );
        assert_eq!((codes, is_whole), (vec![EXIT_INTERRUPTED], false));
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
