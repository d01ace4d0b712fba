//! Mann and Whitney's test: do two groups differ in where they lie?

use super::normal;
use super::quantile::Values;

/// Up to so many pairs of a value of each group the distribution is counted out; above, the normal one differs from it by less
/// than a percent of p where p matters.
const MOST_EXACT_PAIRS: usize = 900;

/// What the test says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankTest {
    /// Pairs of one value of each group in which the first group's is the greater; of equal ones a half.
    pub u: f64,
    /// How likely groups of one and the same distribution differ as much or more, in either direction.
    pub p: f64,
    /// Whether p was counted out, ties included. It is taken from the normal distribution, with corrections for ties and for continuity,
    /// where the groups are large.
    pub exact: bool,
}

/// The two-sided test (Mann and Whitney, "On a test of whether one of two random variables is stochastically larger than the
/// other", 1947). It asks nothing of the values' distribution.
#[must_use]
pub fn mann_whitney(one: &Values, other: &Values) -> RankTest {
    let (n, m) = (one.len(), other.len());
    let ranks = ranks(one, other);
    let u = ranks.sum - n as f64 * (n as f64 + 1.0) / 2.0;
    let pairs = n as f64 * m as f64;
    let lesser = u.min(pairs - u);
    if n.saturating_mul(m) <= MOST_EXACT_PAIRS {
        let p = if ranks.ties == 0.0 {
            // Without ties U is a whole number, and as likely on either side.
            (2.0 * at_most(lesser.round() as usize, n, m)).min(1.0)
        } else {
            tied(&ranks.doubled, n, (2.0 * ranks.sum).round() as usize)
        };
        return RankTest { u, p, exact: true };
    }
    let all = n as f64 + m as f64;
    let variance = pairs / 12.0 * ((all + 1.0) - ranks.ties / (all * (all - 1.0)));
    let beyond = pairs / 2.0 - lesser - 0.5;
    let p = if variance > 0.0 { 2.0 * normal::above(beyond / variance.sqrt()) } else { 1.0 };
    // No order of so many values is rarer, ties or not.
    RankTest { u, p: p.max(least_p(n, m)).min(1.0), exact: false }
}

/// The least p that groups of these sizes can give: that of two that do not overlap. 1 if one is empty.
#[must_use]
pub fn least_p(n: usize, m: usize) -> f64 {
    // 2 / (n + m choose n), by its factors.
    let lesser = n.min(m);
    let chance = (1..=lesser).fold(1.0, |chance, k| chance * k as f64 / (n.max(m) + k) as f64);
    (2.0 * chance).min(1.0)
}

struct Ranks {
    /// Of the first group's values among all; equal ones share the mean of their ranks.
    sum: f64,
    /// Over all sets of t equal ones, t³ - t.
    ties: f64,
    /// Twice the rank of each value of both: a whole number.
    doubled: Vec<usize>,
}

fn ranks(one: &Values, other: &Values) -> Ranks {
    let tagged = |values: &Values, first: bool| -> Vec<(f64, bool)> {
        values.as_slice().iter().map(|value| (*value, first)).collect()
    };
    let mut all = [tagged(one, true), tagged(other, false)].concat();
    all.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut ranks = Ranks { sum: 0.0, ties: 0.0, doubled: Vec::with_capacity(all.len()) };
    let mut before = 0.0;
    for equal in all.chunk_by(|left, right| left.0 == right.0) {
        let t = equal.len() as f64;
        let of_first = equal.iter().filter(|(_, first)| *first).count() as f64;
        ranks.sum += of_first * (before + (t + 1.0) / 2.0);
        ranks.ties += t * t * t - t;
        // From before + 1 to before + t, and their mean for each.
        ranks.doubled.extend(std::iter::repeat_n((2.0 * before + t + 1.0).round() as usize, equal.len()));
        before += t;
    }
    ranks
}

/// Twice the chance of the rarer side, if n of these values are drawn as the first group and their doubled ranks add up to `sum`: the
/// permutation distribution, in which equal values stay equal. The normal one makes too little of groups that do not overlap.
fn tied(doubled: &[usize], n: usize, sum: usize) -> f64 {
    // The smaller group is counted out: its sum is low where the other's is high.
    let total: usize = doubled.iter().sum();
    let (n, sum) = if 2 * n <= doubled.len() { (n, sum) } else { (doubled.len() - n, total - sum) };
    let width = doubled.iter().rev().take(n).sum::<usize>() + 1;
    // Ways to draw so many values with such a sum.
    let mut ways = vec![vec![0.0; width]; n + 1];
    if let Some(none) = ways.first_mut().and_then(|row| row.first_mut()) {
        *none = 1.0;
    }
    for &rank in doubled {
        for drawn in (0..n).rev() {
            let (fewer, more) = ways.split_at_mut(drawn + 1);
            if let (Some(from), Some(to)) = (fewer.last(), more.first_mut()) {
                to.iter_mut().skip(rank).zip(from).for_each(|(to, from)| *to += from);
            }
        }
    }
    let of_n = ways.last().map_or(&[][..], Vec::as_slice);
    let all: f64 = of_n.iter().sum();
    let low: f64 = of_n.iter().take(sum + 1).sum();
    let high: f64 = of_n.iter().skip(sum).sum();
    (2.0 * low.min(high) / all).min(1.0)
}

/// How likely U is at most this, for groups of n and m of one distribution.
///
/// By the greatest of all values: with chance i / (i + j) it is the first group's, and then it is greater than j others
/// (Mann and Whitney's recurrence, as probabilities, so that nothing overflows and nothing cancels).
fn at_most(u: usize, n: usize, m: usize) -> f64 {
    let width = u + 1;
    // Of no value of the first group: U is 0.
    let none = |_| std::iter::once(1.0).chain(std::iter::repeat_n(0.0, u)).collect::<Vec<f64>>();
    let mut by_other: Vec<Vec<f64>> = (0..=m).map(none).collect();
    for i in 1..=n {
        let mut fewer: Vec<f64> = none(0);
        for (j, row) in by_other.iter_mut().enumerate() {
            if j > 0 {
                let (own, others) = (i as f64 / (i + j) as f64, j as f64 / (i + j) as f64);
                let mut next = vec![0.0; width];
                for (at, chance) in next.iter_mut().enumerate() {
                    let shifted = at.checked_sub(j).and_then(|from| row.get(from)).copied().unwrap_or_default();
                    *chance = own * shifted + others * fewer.get(at).copied().unwrap_or_default();
                }
                *row = next;
            }
            fewer.clone_from(row);
        }
    }
    by_other.last().map_or(1.0, |row| row.iter().sum::<f64>().min(1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn test(one: &[f64], other: &[f64]) -> RankTest {
        mann_whitney(&Values::of(one.iter().copied()).unwrap(), &Values::of(other.iter().copied()).unwrap())
    }

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() <= 1e-9 * other.abs().max(1e-30)
    }

    #[test]
    fn the_test_is_scipys() {
        // scipy.stats.mannwhitneyu(one, other, method="exact"), or "asymptotic" where values tie, SciPy 1.17.
        let few = test(&[19.0, 22.0, 16.0, 29.0, 24.0], &[20.0, 11.0, 17.0, 12.0]);
        assert!(few.exact && close(few.u, 17.0) && close(few.p, 0.111_111_111_111_111_1), "{few:?}");
        let one = [1.0, 1.09, 0.92, 0.77, 0.87, 0.74, 1.02, 1.49, 0.86, 0.83];
        let other = [1.64, 1.58, 1.46, 1.07, 1.41, 1.75, 0.95, 1.24, 0.8, 0.96, 0.82, 1.32];
        let more = test(&one, &other);
        assert!(more.exact && close(more.u, 30.0) && close(more.p, 0.050_324_288_714_381_6), "{more:?}");
        let one = [1.0, 2.0, 2.0, 3.0, 5.0, 5.0, 8.0, 9.0];
        let ties = test(&one, &[2.0, 4.0, 5.0, 7.0, 9.0, 10.0, 11.0, 12.0, 12.0]);
        // Counted out by itertools.combinations.
        assert!(ties.exact && close(ties.u, 15.5) && close(ties.p, 0.04853969559851913), "{ties:?}");
        let one: Vec<f64> = (0..40).map(|at| f64::from(2 * at)).collect();
        let other: Vec<f64> = one.iter().map(|value| value + 21.0).collect();
        let many = test(&one, &other);
        assert!(!many.exact && close(many.u, 435.0) && close(many.p, 0.000_452_503_486_430_153_96), "{many:?}");
    }

    #[test]
    fn the_critical_values_of_tables() {
        // Two-sided, 5 %: U of at most 23 for 10 and 10, 2 for 5 and 5, 127 for 20 and 20 (Mann and Whitney's table as it is
        // in any textbook).
        for (n, critical) in [(5, 2), (10, 23), (20, 127)] {
            assert!(2.0 * at_most(critical, n, n) <= 0.05 && 2.0 * at_most(critical + 1, n, n) > 0.05, "{n}");
        }
    }

    #[test]
    fn the_least_p_is_that_of_groups_apart() {
        for n in 1..=12 {
            let low: Vec<f64> = (0..n).map(f64::from).collect();
            let high: Vec<f64> = (100..103 + n).map(f64::from).collect();
            assert!(close(test(&low, &high).p, least_p(low.len(), high.len())), "{n}");
        }
        assert!(close(least_p(10, 10), 2.0 / 184_756.0));
        assert!(close(least_p(0, 3), 1.0));
    }

    #[test]
    fn a_tie_inside_a_group_takes_nothing_from_groups_apart() {
        let low = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 9.0];
        let high = low.map(|value| value + 100.0);
        assert!(close(test(&low, &high).p, least_p(10, 10)));
        assert!(close(test(&high, &low[..4]).p, least_p(10, 4)));
        // One that both have.
        let touching = [9.0, 102.0, 103.0, 104.0, 105.0, 106.0, 107.0, 108.0, 109.0, 109.0];
        assert!(close(test(&low, &touching).p, 2.0 * 3.0 / 184_756.0));
        // Half of one group is beyond the other, which is one value.
        let half = [3.0, 3.0, 3.0, 3.0, 3.0, 4.0, 4.0, 4.0, 4.0, 4.0];
        assert!(close(test(&[3.0; 10], &half).p, 0.032507739938080496));
    }

    #[test]
    fn values_that_are_all_equal_say_nothing() {
        assert!(close(test(&[3.0; 9], &[3.0; 7]).p, 1.0));
        // Apart, but few: not rarer than any order of them.
        assert!(close(test(&[3.0; 2], &[4.0; 2]).p, least_p(2, 2)));
    }

    #[test]
    fn the_distribution_adds_up_to_one() {
        for (n, m) in [(1, 1), (3, 7), (12, 12), (30, 30)] {
            assert!((at_most(n * m, n, m) - 1.0).abs() < 1e-12);
        }
    }

    proptest! {
        #[test]
        fn sides_exchanged_order_and_scale_change_nothing(
            mut one in prop::collection::vec(1u32..400, 1..25),
            other in prop::collection::vec(1u32..400, 1..25),
            scale in prop::sample::select(vec![0.25, 2.0, 1024.0]),
        ) {
            let floats = |values: &[u32], by: f64| -> Vec<f64> { values.iter().map(|value| f64::from(*value) * by).collect() };
            let there = test(&floats(&one, 1.0), &floats(&other, 1.0));
            let back = test(&floats(&other, 1.0), &floats(&one, 1.0));
            prop_assert!(close(there.p, back.p));
            prop_assert!(close(there.u + back.u, (one.len() * other.len()) as f64));
            one.reverse();
            prop_assert_eq!(there, test(&floats(&one, scale), &floats(&other, scale)));
            prop_assert!(there.p > 0.0 && there.p <= 1.0);
        }
    }
}
