//! What a comparison would have seen.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::quantile::Values;
use super::rank::least_p;

/// The rank test needs so many times the values that Student's needs where values are normal (Lehmann, "Nonparametrics", 1975,
/// 2.4: its asymptotic relative efficiency is 3/π). Where they have longer tails it needs fewer.
const RANK_TO_STUDENT: f64 = std::f64::consts::PI / 3.0;

/// The least ratio above 1 of two medians that the rank test would call a difference at this level (two-sided) in so many of
/// such comparisons (`power`, such as 0.8), with groups as large and as scattered as these. None if groups of these sizes give
/// no p as low as the level, or a value is not positive.
///
/// An estimate: it takes the scatter of the logarithms, pooled, and Student's distribution.
#[must_use]
pub fn smallest_detectable(one: &Values, other: &Values, level: f64, power: f64) -> Option<f64> {
    let (n, m) = (one.len(), other.len());
    if least_p(n, m) > level || one.least() <= 0.0 || other.least() <= 0.0 {
        return None;
    }
    let freedom = (n + m).checked_sub(2).filter(|freedom| *freedom > 0)? as f64;
    let variance = (squares(one) + squares(other)) / freedom;
    let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
    let beyond = student.inverse_cdf(1.0 - level.clamp(0.0, 1.0) / 2.0) + student.inverse_cdf(power.clamp(0.0, 1.0));
    let each = (1.0 / n as f64 + 1.0 / m as f64) * RANK_TO_STUDENT;
    let ratio = (beyond * (variance * each).sqrt()).exp();
    (ratio.is_finite() && ratio >= 1.0).then_some(ratio)
}

/// The squared distances of the logarithms from their mean, added up.
fn squares(values: &Values) -> f64 {
    let logarithms = || values.as_slice().iter().map(|value| value.ln());
    let mean = logarithms().sum::<f64>() / values.len() as f64;
    logarithms().map(|value| (value - mean) * (value - mean)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::rank::mann_whitney;
    use super::super::simulated::log_normal;
    use super::*;

    fn values(seed: u64, n: usize, median: f64) -> Values {
        Values::of(log_normal(seed, n, median, 0.1)).unwrap()
    }

    #[test]
    fn what_is_said_to_be_seen_is_seen() {
        for (n, level) in [(8, 0.05), (12, 0.001), (30, 0.0005)] {
            // Of one comparison's own scatter; so over many of them.
            let seen = (0..600).filter(|at| {
                let (one, other) = (values(3 * at, n, 100.0), values(3 * at + 1, n, 100.0));
                let ratio = smallest_detectable(&one, &other, level, 0.8).unwrap();
                mann_whitney(&one, &values(3 * at + 2, n, 100.0 * ratio)).p <= level
            });
            let seen = seen.count();
            assert!((410..560).contains(&seen), "{seen} of 600 with {n} values at {level}");
        }
    }

    #[test]
    fn more_values_see_less() {
        let at = |n: usize| smallest_detectable(&values(1, n, 1.0), &values(2, n, 1.0), 0.01, 0.8).unwrap();
        assert!(at(10) > at(30) && at(30) > at(100) && at(100) > 1.0);
    }

    #[test]
    fn too_few_see_nothing_and_what_never_varies_shows_all() {
        assert_eq!(smallest_detectable(&values(1, 3, 1.0), &values(2, 3, 1.0), 0.05, 0.8), None);
        let same = Values::of([12.0; 6]).unwrap();
        assert_eq!(smallest_detectable(&same, &same, 0.05, 0.8), Some(1.0));
        let zero = Values::of([0.0; 6]).unwrap();
        assert_eq!(smallest_detectable(&same, &zero, 0.05, 0.8), None);
    }
}
