//! What criterion asks for, in the words of the guest's module, and the module's answer as a time.

use std::time::Duration;

use plugstorm::bench::plan::bears_readers;
use plugstorm::scenario::Design;

use crate::Measured;

/// Rounds in which the pairs of one request are timed: a round that an interrupt fell into is one of several.
const ACCESS_ROUNDS: u64 = 8;
/// Pairs in a round, at least: beside which neither readings of the clock nor one interrupt count for much. It is a millisecond in a
/// nested machine, less than asking takes.
const LEAST_LOOPS: u64 = 10_000;
/// And at most: far below a second in a nested machine, too.
const MOST_LOOPS: u64 = 100_000;
/// Revokes of one request, at most: each may take some grace periods of a guest in a nested machine.
const MOST_REVOKES: u64 = 50;
/// Quiet before a revoke that is timed, in µs: beyond the 25 µs (kernel/rcu/srcutree.c, `exp_holdoff`) below which a grace period
/// is an ordinary one, which counts timer ticks.
const GAP_US: u32 = 100;

/// What one of criterion's iterations is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Iteration {
    /// A loop of a round.
    Loop,
    /// A round.
    Round,
}

/// One benchmark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What is done, as `2 threads`.
    pub what: String,
    /// To which design; `nothing` for functions that do nothing, called in the same way.
    pub design: &'static str,
    /// The request without its size.
    request: String,
    iteration: Iteration,
}

/// Pairs of entering and leaving a protected section, from process context: by one thread, and by two on one device.
#[must_use]
pub fn access() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, threads) in [("1 thread", 1), ("2 threads", 2)] {
        let case = |design, request| Case { what: what.to_owned(), design, request, iteration: Iteration::Loop };
        cases.push(case("nothing", format!("measure=nothing threads={threads} context=process")));
        cases.extend(Design::ALL.map(Design::name).map(|design| {
            case(design, format!("measure=access design={design} threads={threads} objects=1 context=process"))
        }));
    }
    cases
}

/// Revokes of a device: that nobody uses, and that one reader enters again and again.
#[must_use]
pub fn revoke() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, readers) in [("idle", 0), ("1 reader", 1)] {
        let designs = Design::ALL.into_iter().filter(|design| readers == 0 || bears_readers(*design));
        cases.extend(designs.map(Design::name).map(|design| Case {
            what: what.to_owned(),
            design,
            request: format!("measure=revoke design={design} readers={readers} hold_us=0 gap_us={GAP_US}"),
            iteration: Iteration::Round,
        }));
    }
    cases
}

impl Case {
    /// The request for so many iterations, within bounds.
    #[must_use]
    pub fn request(&self, iterations: u64) -> String {
        let request = &self.request;
        match self.iteration {
            Iteration::Round => format!("{request} rounds={}", iterations.clamp(1, MOST_REVOKES)),
            Iteration::Loop => {
                let loops = iterations.div_ceil(ACCESS_ROUNDS).clamp(LEAST_LOOPS, MOST_LOOPS);
                format!("{request} rounds={ACCESS_ROUNDS} loops={loops}")
            }
        }
    }

    /// How long so many iterations take by the guest's clock: measured for as many as a request is of, and in proportion. Of
    /// several threads, what one of them takes. At least 1 ns: criterion makes nothing of a time that is none.
    ///
    /// # Errors
    /// One sentence, if it could not be measured.
    pub fn time(&self, measured: &mut dyn Measured, iterations: u64) -> Result<Duration, String> {
        let request = self.request(iterations);
        let samples = measured.measure(&request)?;
        let (ns, count) = samples.iter().fold((0_u128, 0_u128), |(ns, count), sample| {
            (ns + u128::from(sample.value), count + u128::from(sample.count))
        });
        let scaled = ns.checked_mul(iterations.into()).and_then(|ns| ns.checked_div(count));
        let scaled = scaled.and_then(|ns| u64::try_from(ns).ok()).map(|ns| Duration::from_nanos(ns.max(1)));
        scaled.ok_or_else(|| format!("`{request}` gave {ns} ns for {count} operations, which is no time"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use plugstorm::bench::model::Sample;
    use proptest::prelude::*;

    use super::*;
    use crate::Rehearsal;

    /// Gives the same answer to everything.
    struct Always(Vec<Sample>);

    impl Measured for Always {
        fn measure(&mut self, _request: &str) -> Result<Vec<Sample>, String> {
            Ok(self.0.clone())
        }
    }

    fn one(value: u64, count: u64) -> Vec<Sample> {
        vec![Sample { round: 0, thread: 0, value, count }]
    }

    /// A word of a request.
    fn number(request: &str, key: &str) -> u64 {
        let word = request.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        word.unwrap().parse().unwrap()
    }

    #[test]
    fn every_design_is_measured_in_each_way_that_it_bears() {
        let all = Design::ALL.len();
        let bear_readers = Design::ALL.into_iter().filter(|design| bears_readers(*design)).count();
        for (cases, expected) in [(access(), 2 * all + 2), (revoke(), all + bear_readers)] {
            assert_eq!(cases.len(), expected);
            let names: BTreeSet<_> = cases.iter().map(|case| (&case.what, case.design)).collect();
            assert_eq!(names.len(), cases.len());
        }
    }

    #[test]
    fn requests_are_in_the_words_of_the_module() {
        let access = access();
        assert_eq!(access[0].request(1), "measure=nothing threads=1 context=process rounds=8 loops=10000");
        assert_eq!(
            access[1].request(160_001),
            "measure=access design=unprotected threads=1 objects=1 context=process rounds=8 loops=20001"
        );
        assert_eq!(revoke()[0].request(7), "measure=revoke design=unprotected readers=0 hold_us=0 gap_us=100 rounds=7");
    }

    #[test]
    fn a_time_is_in_proportion_and_never_nothing() {
        let case = &access()[0];
        let time = |samples, iterations| case.time(&mut Always(samples), iterations);
        assert_eq!(time(one(500, 100), 1_000_000), Ok(Duration::from_millis(5)));
        assert_eq!(time([one(300, 10), one(700, 10)].concat(), 2), Ok(Duration::from_nanos(100)));
        assert_eq!(time(one(0, 100), 1), Ok(Duration::from_nanos(1)));
        assert!(time(Vec::new(), 1).unwrap_err().contains("which is no time"));
        assert!(time(one(u64::MAX, 1), u64::MAX).unwrap_err().contains("which is no time"));
    }

    proptest! {
        #[test]
        fn requests_are_as_long_as_asked_for_within_bounds(iterations in 1_u64..) {
            for case in access() {
                let request = case.request(iterations);
                let (rounds, loops) = (number(&request, "rounds"), number(&request, "loops"));
                prop_assert!((LEAST_LOOPS..=MOST_LOOPS).contains(&loops));
                prop_assert!(rounds * loops >= iterations.min(ACCESS_ROUNDS * MOST_LOOPS));
                prop_assert!(loops == LEAST_LOOPS || rounds * loops < iterations.saturating_add(ACCESS_ROUNDS));
                prop_assert!(request.len() <= 255);
            }
            for case in revoke() {
                prop_assert_eq!(number(&case.request(iterations), "rounds"), iterations.min(MOST_REVOKES));
            }
        }

        #[test]
        fn any_answer_is_survived(values in proptest::collection::vec((any::<u64>(), 1_u64..), 0..20), iterations: u64) {
            let samples = values.into_iter().map(|(value, count)| Sample { round: 0, thread: 0, value, count }).collect();
            let _ = revoke()[0].time(&mut Always(samples), iterations);
        }

        #[test]
        fn a_rehearsal_knows_every_request(iterations in 1_u64..10_000_000) {
            for case in access().iter().chain(&revoke()) {
                let time = case.time(&mut Rehearsal, iterations).unwrap();
                prop_assert!(time >= Duration::from_nanos(iterations));
            }
        }
    }
}
