//! Many questions at once: by chance alone one in twenty is answered wrongly.

/// Holm's correction ("A simple sequentially rejective multiple test procedure", 1979): each p as it counts among all, in their
/// order. Those below a level can be called so together: that even one of them came by chance is no likelier than the level,
/// however the questions hang together. What is no number counts as 1.
#[must_use]
pub fn holm(p: &[f64]) -> Vec<f64> {
    let known = |p: f64| if p.is_nan() { 1.0 } else { p.clamp(0.0, 1.0) };
    let mut order: Vec<usize> = (0..p.len()).collect();
    let at = |index: usize| known(p.get(index).copied().unwrap_or(1.0));
    order.sort_by(|one, other| at(*one).total_cmp(&at(*other)));
    let mut adjusted = vec![1.0; p.len()];
    let mut most: f64 = 0.0;
    for (rank, index) in order.iter().enumerate() {
        // What comes after a question that is left open is left open too.
        most = most.max((at(*index) * (p.len() - rank) as f64).min(1.0));
        if let Some(of) = adjusted.get_mut(*index) {
            *of = most;
        }
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_those_of_r() {
        // By the definition, and R's documentation of p.adjust: p.adjust(c(0.01, 0.02, 0.03, 0.005), "holm").
        let adjusted = holm(&[0.01, 0.02, 0.03, 0.005]);
        let expected = [0.03, 0.04, 0.04, 0.02];
        assert!(adjusted.iter().zip(expected).all(|(one, other)| (one - other).abs() < 1e-12), "{adjusted:?}");
        assert!(holm(&[]).is_empty());
        assert_eq!(holm(&[0.4, f64::NAN, 0.9]), [1.0, 1.0, 1.0]);
    }

    proptest! {
        #[test]
        fn nothing_gets_likelier_and_order_stays(p in prop::collection::vec(0.0..=1.0f64, 1..40)) {
            let adjusted = holm(&p);
            for (one, of_one) in p.iter().zip(&adjusted) {
                prop_assert!(one <= of_one && *of_one <= 1.0);
                // Bonferroni's is never less strict.
                prop_assert!(*of_one <= (one * p.len() as f64).min(1.0) + 1e-12);
                for (other, of_other) in p.iter().zip(&adjusted) {
                    prop_assert!(one > other || of_one <= of_other);
                }
            }
        }
    }
}
