//! How many runs without a finding say that it is not there.

use serde::{Deserialize, Serialize};

use crate::matrix::Interval;

/// More runs a commit are not carried out: a finding as rare as that is to be made more frequent first.
pub const MOST_RUNS: u32 = 1000;

/// What the bad commit has shown, and what follows from it for all others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Runs at the bad commit that met the finding.
    pub hits: u32,
    /// Of so many that prove something.
    pub runs: u32,
    /// Where the rate lies, with 95 % confidence (Wilson).
    pub interval: Interval,
    /// In which cycles those runs met it first, counted from 1: the earliest, the median, the latest.
    pub cycles: [u32; 3],
    /// How sure a good commit is to be, 0 to 1.
    pub confidence: f64,
    /// Runs without the finding that make a commit good.
    pub needed: u32,
}

impl Plan {
    /// From the cycles in which runs met it first, in any order, one for each run that did; `runs` is how many there were.
    ///
    /// # Errors
    /// How many runs a commit would take, if that is more than [`MOST_RUNS`] (`None`: the finding was never met).
    pub fn new(mut first_cycles: Vec<u32>, runs: u32, confidence: f64) -> Result<Self, Option<f64>> {
        first_cycles.sort_unstable();
        let hits = u32::try_from(first_cycles.len()).unwrap_or(u32::MAX);
        let (Some(first), Some(last)) = (first_cycles.first(), first_cycles.last()) else { return Err(None) };
        let median = first_cycles.get((first_cycles.len() - 1) / 2).unwrap_or(first);
        let interval = Interval::of_rate(hits, runs).ok_or(None)?;
        let wanted = wanted(interval.low, confidence);
        let needed = needed(interval.low, confidence).ok_or(Some(wanted))?;
        Ok(Self { hits, runs, interval, cycles: [*first, *median, *last], confidence, needed })
    }

    /// How likely it is that a commit with the finding passes for good with so many runs without it, if its rate there is no
    /// lower than the interval says.
    #[must_use]
    pub fn risk(&self, without: u32) -> f64 {
        (1.0 - self.interval.low).powf(f64::from(without))
    }

    /// As a sentence's part: `seen in 10 of 10 runs (72-100 %), …`.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { hits, runs, interval, cycles: [first, median, last], confidence, needed } = self;
        let cycles = if first == last {
            format!("cycle {first}")
        } else {
            format!("cycle {median} (median; {first} to {last})")
        };
        let runs_words = if *needed == 1 { "run without it makes" } else { "runs without it make" };
        format!(
            "seen in {hits} of {runs} runs ({}), first in {cycles}; {needed} {runs_words} a commit good with {} %",
            interval.percent(),
            percent(*confidence)
        )
    }
}

/// How many runs in a row without a finding, whose rate is `rate` where it is, are as unlikely there as `confidence` asks for:
/// the least n with (1 - rate)^n <= 1 - confidence. None where that is more than [`MOST_RUNS`].
#[must_use]
pub fn needed(rate: f64, confidence: f64) -> Option<u32> {
    let wanted = wanted(rate, confidence);
    // Not so if it is no number.
    let is_feasible = wanted <= f64::from(MOST_RUNS);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to MOST_RUNS")]
    is_feasible.then_some(wanted as u32)
}

fn wanted(rate: f64, confidence: f64) -> f64 {
    if rate.is_nan() || rate <= 0.0 {
        return f64::INFINITY;
    }
    // What is left over by a rounding error is no run.
    let runs = (1.0 - confidence).ln() / (1.0 - rate).ln() - 1e-9;
    runs.ceil().max(1.0)
}

/// Percent, with as many digits as say that it is not 100.
pub(super) fn percent(part: f64) -> String {
    let text = format!("{:.4}", part * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_many_as_make_it_unlikely() {
        assert_eq!(needed(1.0, 0.99), Some(1));
        assert_eq!(needed(0.5, 0.75), Some(2));
        assert_eq!(needed(0.9, 0.99), Some(2));
        assert_eq!(needed(0.5, 0.99), Some(7));
        assert_eq!(needed(0.01, 0.99), Some(459));
        assert_eq!(needed(0.001, 0.99), None);
        assert_eq!((needed(0.0, 0.99), needed(f64::NAN, 0.99)), (None, None));
    }

    #[test]
    fn what_was_seen_says_how_many() {
        let told = |cycles: &[u32], runs| Plan::new(cycles.to_vec(), runs, 0.99).map(|plan| plan.words());
        insta::assert_snapshot!(told(&[1; 5], 5).unwrap(), @"seen in 5 of 5 runs (56-100 %), first in cycle 1; 6 runs without it make a commit good with 99 %");
        insta::assert_snapshot!(told(&[1; 10], 10).unwrap(), @"seen in 10 of 10 runs (72-100 %), first in cycle 1; 4 runs without it make a commit good with 99 %");
        insta::assert_snapshot!(told(&[9, 2, 1, 3], 10).unwrap(), @"seen in 4 of 10 runs (16-69 %), first in cycle 2 (median; 1 to 9); 26 runs without it make a commit good with 99 %");
        assert_eq!(told(&[], 10), Err(None));
        let many = Plan::new(vec![1], 100, 0.99).unwrap_err().unwrap();
        assert!(many > f64::from(MOST_RUNS), "{many}");
    }

    #[test]
    fn percents_say_what_was_asked_for() {
        assert_eq!([percent(0.99), percent(0.999), percent(0.5), percent(0.0123)], ["99", "99.9", "50", "1.23"]);
    }

    proptest! {
        #[test]
        fn the_least_number_that_does(rate in 0.005f64..1.0, confidence in 0.5f64..0.9999) {
            if let Some(runs) = needed(rate, confidence) {
                let miss = |runs: u32| (1.0 - rate).powf(f64::from(runs));
                prop_assert!(miss(runs) <= (1.0 - confidence) * (1.0 + 1e-6));
                prop_assert!(runs == 1 || miss(runs - 1) > 1.0 - confidence);
            } else {
                prop_assert!(rate < 0.01);
            }
        }
    }
}
