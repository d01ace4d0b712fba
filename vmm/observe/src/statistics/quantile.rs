//! Numbers in order, and their quantiles.

/// Numbers in ascending order: at least one, and all finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    sorted: Vec<f64>,
}

impl Values {
    /// Of numbers in any order. None if there are none, or one is not finite.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        if sorted.is_empty() || !sorted.iter().all(|value| value.is_finite()) {
            return None;
        }
        sorted.sort_unstable_by(f64::total_cmp);
        Some(Self { sorted })
    }

    /// In ascending order.
    #[must_use]
    pub fn as_slice(&self) -> &[f64] {
        &self.sorted
    }

    /// How many; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The least.
    #[must_use]
    pub fn least(&self) -> f64 {
        self.sorted.first().copied().unwrap_or_default()
    }

    /// The greatest.
    #[must_use]
    pub fn greatest(&self) -> f64 {
        self.sorted.last().copied().unwrap_or_default()
    }

    /// The quantile of this share, 0 to 1 (others are taken as the nearer of these), by rule 7 of Hyndman and Fan ("Sample
    /// quantiles in statistical packages", 1996): the place `share * (n - 1)`, counted from 0, and a straight line between two
    /// values. R, NumPy and Julia do so unless told otherwise.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        of_sorted(&self.sorted, share)
    }

    /// The quantile of a half.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// See [`Values::quantile`]; 0 of nothing.
pub(super) fn of_sorted(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = share.clamp(0.0, 1.0) * last as f64;
    // Not negative, and not above `last`; what is no number becomes 0.
    let below = place.floor() as usize;
    let at = |index: usize| sorted.get(index.min(last)).copied().unwrap_or_default();
    let (low, high, part) = (at(below), at(below + 1), place - place.floor());
    // So that equal neighbours give themselves, whatever the rounding, and the difference of two great numbers stays finite.
    if low == high || part == 0.0 { low } else { low * (1.0 - part) + high * part }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NINE: [f64; 9] = [3.1, 0.2, 47.0, 5.5, 5.5, 8.25, 1.0, 12.0, 9.75];

    #[test]
    fn quantiles_are_numpys() {
        // numpy.quantile(NINE, share), NumPy 2, method="linear".
        let values = Values::of(NINE).unwrap();
        for (share, expected) in
            [(0.0, 0.2), (0.1, 0.84), (0.25, 3.1), (0.5, 5.5), (0.9, 19.0), (0.99, 44.2), (1.0, 47.0)]
        {
            assert!((values.quantile(share) - expected).abs() < 1e-12, "{share}: {}", values.quantile(share));
        }
        assert!((Values::of([1.0, 2.0, 4.0, 8.0]).unwrap().median() - 3.0).abs() < f64::EPSILON);
    }

    #[test]
    fn one_value_is_all_its_quantiles() {
        let one = Values::of([7.0]).unwrap();
        assert_eq!([0.0, 0.5, 0.99, f64::NAN, 7.0].map(|share| one.quantile(share)), [7.0; 5]);
    }

    #[test]
    fn nothing_and_no_numbers_are_no_values() {
        assert_eq!(Values::of([]), None);
        assert_eq!(Values::of([1.0, f64::NAN]), None);
        assert_eq!(Values::of([f64::INFINITY]), None);
    }

    proptest! {
        #[test]
        fn quantiles_rise_stay_inside_and_know_no_order(
            mut values in prop::collection::vec(-1e300..1e300f64, 1..40),
            (one, other) in (0.0..=1.0f64, 0.0..=1.0f64),
            scale in 1e-3..1e3f64,
        ) {
            let of = Values::of(values.clone()).unwrap();
            let (low, high) = (of.quantile(one.min(other)), of.quantile(one.max(other)));
            prop_assert!(of.least() <= low && high <= of.greatest());
            prop_assert!(low <= high + 1e-12 * high.abs());
            values.reverse();
            prop_assert_eq!(&of, &Values::of(values.iter().copied()).unwrap());
            let scaled = Values::of(values.iter().map(|value| value * scale)).unwrap();
            prop_assert!((scaled.quantile(one) - of.quantile(one) * scale).abs() <= 1e-9 * of.greatest().abs().max(of.least().abs()) * scale);
        }
    }
}
