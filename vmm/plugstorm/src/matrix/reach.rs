//! After how many cycles something is found, when some runs end before they find it.

use serde::Serialize;

/// Cycles until something was found.
///
/// A run that passed has not found anything *yet*: all that is known is that it would have taken more cycles than it had. Such
/// a run (right-censored, in the language of statistics) counts as later than all others, and enters no mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// By this cycle, counted from 1, half of all runs had found something. None if fewer than half did at all.
    pub median: Option<u32>,
    /// The earliest.
    pub least: u32,
    /// The latest of those that found something.
    pub most: u32,
    /// Runs that passed.
    pub passed: u32,
}

impl Reach {
    /// Of the cycles, counted from 1, in which runs found something, and the number of runs that passed all of theirs. All runs
    /// had the same number of cycles. None if nothing was found.
    #[must_use]
    pub fn of(found: &[u32], passed: u32) -> Option<Self> {
        let mut found = found.to_vec();
        found.sort_unstable();
        let runs = found.len().saturating_add(usize::try_from(passed).unwrap_or(usize::MAX));
        // The first moment at which at most half of the runs are left: Kaplan and Meier's median, always one that was seen.
        let median = found.get(runs.div_ceil(2).saturating_sub(1)).copied();
        Some(Self { median, least: *found.first()?, most: *found.last()?, passed })
    }

    /// Short, for a table: `4 (3-9)`, `>50 (12)` where the median lies beyond `cycles`.
    #[must_use]
    pub fn short(&self, cycles: u32) -> String {
        let median = self.median.map_or_else(|| format!(">{cycles}"), |median| median.to_string());
        if self.least == self.most && self.median == Some(self.least) {
            median
        } else if self.least == self.most {
            format!("{median} ({})", self.least)
        } else {
            format!("{median} ({}-{})", self.least, self.most)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn median(found: &[u32], passed: u32) -> Option<u32> {
        Reach::of(found, passed).unwrap().median
    }

    #[test]
    fn runs_that_passed_are_later_than_all_others() {
        assert_eq!(Reach::of(&[], 3), None);
        assert_eq!(median(&[7], 0), Some(7));
        assert_eq!(median(&[9, 2, 4], 0), Some(4));
        assert_eq!(median(&[9, 2, 4, 5], 0), Some(4));
        // Half of four had found it by cycle 5; of five, not even at the end.
        assert_eq!(median(&[5, 3], 2), Some(5));
        assert_eq!(median(&[5, 3], 3), None);
        let reach = Reach::of(&[5, 3], 3).unwrap();
        assert_eq!((reach.least, reach.most, reach.passed), (3, 5, 3));
    }

    #[test]
    fn a_table_has_little_room() {
        let short = |found: &[u32], passed| Reach::of(found, passed).unwrap().short(50);
        assert_eq!(short(&[4], 0), "4");
        assert_eq!(short(&[3, 4, 9], 0), "4 (3-9)");
        assert_eq!(short(&[12], 2), ">50 (12)");
        assert_eq!(short(&[12, 20], 5), ">50 (12-20)");
    }

    proptest! {
        #[test]
        fn at_least_half_had_found_it_by_the_median_and_fewer_before(
            found in prop::collection::vec(1u32..100, 1..40), passed in 0u32..40,
        ) {
            let runs = found.len() + passed as usize;
            let by = |cycle: u32| found.iter().filter(|at| **at <= cycle).count();
            match Reach::of(&found, passed).unwrap().median {
                Some(median) => {
                    prop_assert!(by(median) * 2 >= runs);
                    prop_assert!(by(median - 1) * 2 < runs);
                }
                None => prop_assert!(found.len() * 2 < runs),
            }
        }
    }
}
