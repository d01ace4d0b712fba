//! How sure a rate is.

use serde::{Deserialize, Serialize};

/// The standard score of a two-sided 95 % interval.
const Z: f64 = 1.959_963_984_540_054;

/// Where a rate lies, with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// From this, 0 to 1.
    pub low: f64,
    /// To this, 0 to 1.
    pub high: f64,
}

impl Interval {
    /// Of a rate of which `hits` of `trials` are known: Wilson's score interval, which holds for few trials and for rates
    /// near 0 and 1, where the usual one does not. None without trials, and for more hits than trials.
    #[must_use]
    pub fn of_rate(hits: u32, trials: u32) -> Option<Self> {
        if trials == 0 || hits > trials {
            return None;
        }
        let (n, p) = (f64::from(trials), f64::from(hits) / f64::from(trials));
        let scale = 1.0 + Z * Z / n;
        let centre = (p + Z * Z / (2.0 * n)) / scale;
        let half = Z / scale * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        // At the ends the formula gives them, but for the last binary digit.
        let low = if hits == 0 { 0.0 } else { (centre - half).max(0.0) };
        let high = if hits == trials { 1.0 } else { (centre + half).min(1.0) };
        Some(Self { low, high })
    }

    /// In whole percent, rounded outwards: `43-100 %`.
    #[must_use]
    pub fn percent(&self) -> String {
        format!("{:.0}-{:.0} %", (self.low * 100.0).floor(), (self.high * 100.0).ceil())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(hits: u32, trials: u32) -> (f64, f64) {
        let interval = Interval::of_rate(hits, trials).unwrap();
        // Four digits, as tables have them.
        ((interval.low * 1e4).round() / 1e4, (interval.high * 1e4).round() / 1e4)
    }

    #[test]
    fn values_of_the_literature() {
        // Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        assert_eq!(of(81, 263), (0.2553, 0.3662));
        assert_eq!(of(15, 148), (0.0624, 0.1605));
        assert_eq!(of(0, 20), (0.0, 0.1611));
        assert_eq!(of(1, 29), (0.0061, 0.1718));
    }

    #[test]
    fn there_is_no_rate_of_nothing() {
        assert_eq!((Interval::of_rate(0, 0), Interval::of_rate(2, 1)), (None, None));
    }

    #[test]
    fn percent_is_never_narrower_than_the_interval() {
        assert_eq!(Interval::of_rate(3, 3).unwrap().percent(), "43-100 %");
        assert_eq!(Interval::of_rate(0, 3).unwrap().percent(), "0-57 %");
        assert_eq!(Interval::of_rate(1, 2).unwrap().percent(), "9-91 %");
    }

    proptest! {
        #[test]
        fn the_rate_is_inside_and_the_interval_within_bounds(trials in 1u32..2000, part in 0.0f64..=1.0) {
            let hits = (f64::from(trials) * part).floor() as u32;
            let interval = Interval::of_rate(hits, trials).unwrap();
            let rate = f64::from(hits) / f64::from(trials);
            prop_assert!(0.0 <= interval.low && interval.low <= rate + 1e-12);
            prop_assert!(rate - 1e-12 <= interval.high && interval.high <= 1.0);
            prop_assert!(interval.low < interval.high);
        }

        #[test]
        fn hits_and_misses_mirror_each_other(trials in 1u32..2000, part in 0.0f64..=1.0) {
            let hits = (f64::from(trials) * part).floor() as u32;
            let (one, other) =
                (Interval::of_rate(hits, trials).unwrap(), Interval::of_rate(trials - hits, trials).unwrap());
            prop_assert!((one.low - (1.0 - other.high)).abs() < 1e-9);
            prop_assert!((one.high - (1.0 - other.low)).abs() < 1e-9);
        }

        #[test]
        fn more_trials_at_the_same_rate_say_more(hits in 0u32..50, misses in 0u32..50, times in 2u32..20) {
            prop_assume!(hits + misses > 0);
            let width = |times: u32| {
                let interval = Interval::of_rate(hits * times, (hits + misses) * times).unwrap();
                interval.high - interval.low
            };
            prop_assert!(width(times) < width(1));
        }
    }
}
