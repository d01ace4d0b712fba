//! Where a median lies, by drawing from what was measured as it was drawn from the world.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::normal;
use super::quantile::{Values, of_sorted};

/// Of fewer values there is no interval: all of four lie on one side of the median once in eight times.
pub const LEAST_VALUES: usize = 5;

/// Where something lies, with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// From this.
    pub low: f64,
    /// To this.
    pub high: f64,
}

impl Interval {
    /// Whether this is inside.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// The percentile bootstrap (Efron, "Bootstrap methods: another look at the jackknife", 1979), 95 %. The ends of a median's
/// interval are moved outwards as few values ask for (Hesterberg, "What teachers should know about the bootstrap", 2015: the
/// expanded percentile interval): as they are, they hold 93 in a hundred. Those of a ratio hold 96 without.
///
/// Not BCa: its acceleration comes from the jackknife, which fails for medians (Efron and Tibshirani, "An introduction to the
/// bootstrap", 1993, 10.6), and what is told here are medians of ten values or of sixty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    /// Draws; the same values and seed give the same interval.
    pub draws: u32,
    /// Of the generator.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        // Beyond each end lie five of them where there are six values, and 48 where there are sixty.
        Self { draws: 2000, seed: 0x706c_7567_7374 }
    }
}

impl Bootstrap {
    /// Of the median. None of less than [`LEAST_VALUES`] values.
    #[must_use]
    pub fn median(&self, values: &Values) -> Option<Interval> {
        self.of(&[values], |medians| medians.first().copied().unwrap_or_default())
    }

    /// Of the ratio of `other`'s median to that of `base`, two groups drawn apart. None if one has less than [`LEAST_VALUES`]
    /// values, or there is one in `base` that is not positive.
    #[must_use]
    pub fn ratio(&self, base: &Values, other: &Values) -> Option<Interval> {
        if base.least() <= 0.0 {
            return None;
        }
        self.of(&[base, other], |medians| match medians {
            [base, other] => other / base,
            _ => f64::NAN,
        })
    }

    fn of(&self, groups: &[&Values], figure: impl Fn(&[f64]) -> f64) -> Option<Interval> {
        if groups.iter().any(|values| values.len() < LEAST_VALUES) || self.draws == 0 {
            return None;
        }
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let mut medians = vec![0.0; groups.len()];
        let mut times: Vec<Vec<u32>> = groups.iter().map(|values| vec![0; values.len()]).collect();
        let mut figures: Vec<f64> = Vec::new();
        for _ in 0..self.draws {
            for ((values, times), median) in groups.iter().zip(&mut times).zip(&mut medians) {
                times.fill(0);
                for _ in 0..values.len() {
                    if let Some(times) = times.get_mut(random.random_range(0..values.len())) {
                        *times += 1;
                    }
                }
                *median = median_of_drawn(values.as_slice(), times);
            }
            figures.push(figure(&medians));
        }
        figures.sort_unstable_by(f64::total_cmp);
        let beyond = match groups {
            [one] => expanded(one.len()),
            _ => 0.025,
        };
        let (low, high) = (of_sorted(&figures, beyond), of_sorted(&figures, 1.0 - beyond));
        (low.is_finite() && high.is_finite()).then_some(Interval { low, high })
    }
}

/// The share of the draws that is beyond each end: 2.5 % of very many values; less of few, since what is drawn from them is
/// narrower than they are.
fn expanded(n: usize) -> f64 {
    let n = n.max(2) as f64;
    let Ok(student) = StudentsT::new(0.0, 1.0, n - 1.0) else { return 0.025 };
    normal::above((n / (n - 1.0)).sqrt() * student.inverse_cdf(0.975))
}

/// The median of values of which each was drawn so many times, and as many in all as there are.
fn median_of_drawn(sorted: &[f64], times: &[u32]) -> f64 {
    let (lower, upper) = ((sorted.len() - 1) / 2, sorted.len() / 2);
    let (mut drawn, mut low) = (0, None);
    for (value, times) in sorted.iter().zip(times) {
        drawn += *times as usize;
        if drawn > lower && low.is_none() {
            low = Some(*value);
        }
        if drawn > upper {
            return low.map_or(*value, |low| low / 2.0 + value / 2.0);
        }
    }
    sorted.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::simulated::log_normal;
    use super::*;

    #[test]
    fn the_median_of_what_was_drawn() {
        assert!((median_of_drawn(&[1.0, 2.0, 9.0], &[0, 3, 0]) - 2.0).abs() < f64::EPSILON);
        assert!((median_of_drawn(&[1.0, 2.0, 9.0], &[1, 0, 2]) - 9.0).abs() < f64::EPSILON);
        assert!((median_of_drawn(&[1.0, 2.0, 9.0, 11.0], &[2, 0, 1, 1]) - 5.0).abs() < f64::EPSILON);
        assert!((median_of_drawn(&[1.0, 2.0, 9.0, 11.0], &[0, 1, 3, 0]) - 9.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_ends_move_outwards() {
        // scipy.stats.norm.cdf(-sqrt(n / (n - 1)) * scipy.stats.t.ppf(0.975, n - 1)), SciPy 1.17.
        for (n, expected) in [
            (5, 0.000_954_100_551_882_490_7),
            (10, 0.008_550_639_024_406_366),
            (20, 0.015_880_829_920_347_974),
            (1000, 0.024_804_305_904_565_303),
        ] {
            assert!((expanded(n) / expected - 1.0).abs() < 1e-6, "{n}: {}", expanded(n));
        }
    }

    #[test]
    fn the_interval_is_scipys() {
        // scipy.stats.bootstrap(…, numpy.median, n_resamples=200000, method="percentile"), SciPy 1.17, with the expanded
        // level: 1.0 to 12.0; of the ratio of medians, (one, other) vectorized, 0.728205… to 7.7. The ends are values, or ratios of values, so they meet.
        let one = Values::of([3.1, 0.2, 47.0, 5.5, 5.5, 8.25, 1.0, 12.0, 9.75]).unwrap();
        let other = Values::of([6.2, 7.1, 5.9, 8.8, 30.0, 14.5, 2.2, 10.1, 7.7, 9.3, 11.6]).unwrap();
        let bootstrap = Bootstrap { draws: 50_000, ..Bootstrap::default() };
        assert_eq!(bootstrap.median(&one), Some(Interval { low: 1.0, high: 12.0 }));
        let ratio = bootstrap.ratio(&one, &other).unwrap();
        assert!((ratio.low - 0.728_205_128_205).abs() < 0.02 && (ratio.high - 7.7).abs() < 0.2, "{ratio:?}");
        // Drawn differently, so only about the same.
        let back = bootstrap.ratio(&other, &one).unwrap();
        assert!((back.low * 7.7 - 1.0).abs() < 0.03 && (back.high * 0.728_205_128_205 - 1.0).abs() < 0.03, "{back:?}");
    }

    #[test]
    fn too_few_have_no_interval() {
        let values = |n: u32| Values::of((0..n).map(|at| 1.0 + f64::from(at))).unwrap();
        let bootstrap = Bootstrap::default();
        assert_eq!(bootstrap.median(&values(4)), None);
        assert_eq!((bootstrap.ratio(&values(5), &values(4)), bootstrap.ratio(&values(4), &values(5))), (None, None));
        assert!(bootstrap.ratio(&values(5), &values(5)).is_some());
        let zero = Values::of([0.0, 1.0, 1.0, 1.0, 1.0]).unwrap();
        assert_eq!(bootstrap.ratio(&zero, &values(5)), None);
    }

    #[test]
    fn what_never_varies_is_known() {
        let twelve = Values::of([12.0; 7]).unwrap();
        assert_eq!(Bootstrap::default().median(&twelve), Some(Interval { low: 12.0, high: 12.0 }));
        assert_eq!(Bootstrap::default().ratio(&twelve, &twelve), Some(Interval { low: 1.0, high: 1.0 }));
    }

    #[test]
    fn it_covers_what_it_should() {
        // Log-normal values of which the median is known: in how many of a thousand is it inside?
        let bootstrap = |seed: u64| Bootstrap { draws: 600, seed };
        for n in [5, 6, 10, 20, 31] {
            let draw = |trial: u64| Values::of(log_normal(trial, n, 100.0, 0.1)).unwrap();
            let inside = (0..1000).filter(|at| bootstrap(*at).median(&draw(*at)).unwrap().contains(100.0)).count();
            assert!((925..985).contains(&inside), "{inside} of 1000 medians of {n}");
            let ratio = |at: u64| bootstrap(at).ratio(&draw(2 * at), &draw(2 * at + 1)).unwrap();
            let inside = (0..1000).filter(|at| ratio(*at).contains(1.0)).count();
            assert!((935..985).contains(&inside), "{inside} of 1000 ratios of {n}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn order_and_scale_change_nothing(
            mut values in prop::collection::vec(1e-3..1e9f64, 5..20),
            scale in prop::sample::select(vec![0.25, 2.0, 1024.0]),
        ) {
            let bootstrap = Bootstrap { draws: 200, seed: 3 };
            let of = |values: &[f64]| Values::of(values.iter().copied()).unwrap();
            let there = bootstrap.median(&of(&values)).unwrap();
            prop_assert!(of(&values).least() <= there.low && there.low <= there.high);
            prop_assert!(there.high <= of(&values).greatest());
            values.reverse();
            prop_assert_eq!(Some(there), bootstrap.median(&of(&values)));
            let scaled: Vec<f64> = values.iter().map(|value| value * scale).collect();
            let expected = Interval { low: there.low * scale, high: there.high * scale };
            prop_assert_eq!(Some(expected), bootstrap.median(&of(&scaled)));
            let ratio = bootstrap.ratio(&of(&values), &of(&scaled)).unwrap();
            prop_assert_eq!(Some(ratio), bootstrap.ratio(&of(&scaled), &of(&scaled)).map(|own| Interval { low: own.low * scale, high: own.high * scale }));
        }

        #[test]
        fn the_ratio_turned_over_has_the_interval_turned_over(
            one in prop::collection::vec(1.0..2.0f64, 5..12),
            other in prop::collection::vec(1.0..2.0f64, 5..12),
        ) {
            // Of the same draws, so exactly: where medians lie apart, a few draws more on one side of 2.5 % move an end from one
            // value to the next. Of 4001 figures the 101st from each end is its, and nothing between two of them.
            let bootstrap = Bootstrap { draws: 4001, seed: 3 };
            let (one, other) = (Values::of(one).unwrap(), Values::of(other).unwrap());
            let there = bootstrap.ratio(&one, &other).unwrap();
            let back = bootstrap.of(&[&one, &other], |medians| medians[0] / medians[1]).unwrap();
            prop_assert!((there.low * back.high - 1.0).abs() < 1e-9, "{there:?} {back:?}");
            prop_assert!((there.high * back.low - 1.0).abs() < 1e-9, "{there:?} {back:?}");
        }
    }
}
