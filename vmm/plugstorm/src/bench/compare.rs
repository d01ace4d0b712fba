//! Two sides, measure by measure: does the second differ from the first, by how much, and what would have been seen?
//!
//! A difference is called one if two things agree: the rank test over boots, corrected for how many questions were asked at once,
//! and the interval of the ratio of medians. Whether it matters is the gate's to say.

use std::collections::BTreeMap;

use plugstorm_observe::statistics::{
    Bootstrap, Interval, LEAST_VALUES, Values, holm, least_p, mann_whitney, smallest_detectable,
};
use serde::Serialize;

use super::model::Side;
use super::pool::Pool;
use super::series::{OfSide, Series, collect, is_boot};
use super::summary::{Percentile, figures};
use crate::results::HostKind;

/// How likely even one difference may be called so by chance.
pub const LEVEL: f64 = 0.05;
/// In how many of such comparisons what is said to be seen would be.
const POWER: f64 = 0.8;
/// More boots a side are not asked for.
const MOST_BOOTS: usize = 1000;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Both sides of one benchmark, whose boots took turns.
    OneRun,
    /// Two benchmarks, at different times.
    TwoRuns,
}

/// What is to be said of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// The second side's is greater.
    Greater,
    /// It is less.
    Less,
    /// Nothing was seen.
    NotSeen,
    /// Whatever the boots gave, it could not have been told: there are too few.
    TooFew,
}

/// One percentile of one series on both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Of what.
    #[serde(flatten)]
    pub series: Series,
    /// Which percentile of a boot's samples.
    pub percentile: Percentile,
    /// Boots of the base, and of the other side.
    pub boots: [usize; 2],
    /// Medians over boots: of the base, and of the other side.
    pub values: [f64; 2],
    /// The second by the first; none if that is 0.
    pub ratio: Option<f64>,
    /// Where the ratio lies, with 95 % confidence; none of too few boots.
    #[serde(skip)]
    pub interval: Option<Interval>,
    /// The rank test's p.
    pub p: f64,
    /// The same, corrected by Holm for all that was asked with it.
    pub p_corrected: f64,
    /// The ratio that would have been seen in 8 of 10 such comparisons.
    pub detectable: Option<f64>,
    /// Whether the gate judges it.
    pub judged: bool,
    /// What is to be said of it.
    pub finding: Finding,
}

/// A series that gave errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// Of what.
    #[serde(flatten)]
    pub series: Series,
    /// Boots with an error: of the base, and of the other side.
    pub failed: [usize; 2],
    /// Boots with samples.
    pub measured: [usize; 2],
    /// The first error of the side that has more of them.
    pub error: String,
}

/// Both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Of one run or two.
    pub basis: Basis,
    /// Completed boots: of the base, and of the other side.
    pub boots: [usize; 2],
    /// Boots that came to nothing.
    pub lost: [usize; 2],
    /// In the order of series, p50 before p99.
    pub differences: Vec<Difference>,
    /// With errors on at least one side.
    pub failed: Vec<Failed>,
    /// Measured on one side only, without an error on the other: of the base, and of the other side.
    pub alone: [usize; 2],
    /// Differences that were corrected together: those the gate judges.
    pub asked: usize,
    /// Boots of each side that it takes to be told anything at all, with so many questions.
    pub needed: Option<usize>,
    /// Why times are not judged; nothing if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times_not_judged: Option<String>,
}

impl Comparison {
    /// Of both sides of one benchmark: the base is `a`. None if it has one side only.
    #[must_use]
    pub fn within(pool: &Pool, bootstrap: Bootstrap) -> Option<Self> {
        if pool.header.sides.len() < 2 {
            return None;
        }
        let (mut base, mut other) = (BTreeMap::new(), BTreeMap::new());
        for (series, mut sides) in collect(pool) {
            base.extend(sides.remove(&Side::A).map(|of| (series.clone(), of)));
            other.extend(sides.remove(&Side::B).map(|of| (series, of)));
        }
        let boots = [Side::A, Side::B].map(|side| [pool.boots(side), pool.lost(side)]);
        Some(Self::of(Basis::OneRun, boots, [&base, &other], None, bootstrap))
    }

    /// Of two benchmarks: `base` and `other`, of each the side that was measured for its own sake (`b` where there are two: `a` is
    /// what it was compared with).
    #[must_use]
    pub fn between(base: &Pool, other: &Pool, bootstrap: Bootstrap) -> Self {
        let [own, others] = [base, other].map(|pool| {
            let side = own_side(pool);
            let of_side =
                collect(pool).into_iter().filter_map(|(series, mut sides)| Some((series, sides.remove(&side)?)));
            ([pool.boots(side), pool.lost(side)], of_side.collect::<BTreeMap<_, _>>())
        });
        let times_not_judged = match [base, other].map(|pool| pool.header.host.kind) {
            [HostKind::Kvm, HostKind::Kvm] => None,
            [HostKind::Nested, HostKind::Nested] => Some(
                "both runs were made under software emulation, whose speed is another one each time: only counts of \
                 instructions and bytes are compared between two runs; measure both sides in one (--against)",
            ),
            _ => Some(
                "one of the two runs was made under software emulation and the other was not: only counts of instructions and \
                 bytes are compared",
            ),
        };
        let sides = [&own.1, &others.1];
        Self::of(Basis::TwoRuns, [own.0, others.0], sides, times_not_judged.map(str::to_owned), bootstrap)
    }

    fn of(
        basis: Basis,
        boots: [[usize; 2]; 2],
        [base, other]: [&BTreeMap<Series, OfSide>; 2],
        times_not_judged: Option<String>,
        bootstrap: Bootstrap,
    ) -> Self {
        let (mut failed, mut alone) = (Vec::new(), [0, 0]);
        let (mut judged, mut told) = (Vec::new(), Vec::new());
        let nothing = OfSide::default();
        let mut all: Vec<&Series> = base.keys().chain(other.keys()).collect();
        all.sort_unstable();
        all.dedup();
        for series in all {
            let sides = [base, other].map(|of| of.get(series).unwrap_or(&nothing));
            failed.extend(errors(series, sides));
            match sides.map(|of| (of.boots.is_empty(), of.errors.is_empty())) {
                [(false, _), (true, true)] => alone[0] += 1,
                [(true, true), (false, _)] => alone[1] += 1,
                _ => {}
            }
            let pairs = percentiles(series).into_iter().filter_map(|percentile| Pair::new(series, percentile, sides));
            match is_judged(series, times_not_judged.is_none()) {
                true => judged.extend(pairs),
                false => told.extend(pairs),
            }
        }
        let asked = judged.len();
        let mut differences = [answers(&judged, true, bootstrap), answers(&told, false, bootstrap)].concat();
        differences.sort_by(|one, other| (&one.series, one.percentile).cmp(&(&other.series, other.percentile)));
        let (boots, lost) = (boots.map(|[completed, _]| completed), boots.map(|[_, lost]| lost));
        Self { basis, boots, lost, differences, failed, alone, asked, needed: needed(asked), times_not_judged }
    }
}

/// The side that a benchmark was made for.
pub(super) fn own_side(pool: &Pool) -> Side {
    pool.header.sides.keys().next_back().copied().unwrap_or(Side::A)
}

/// What never varies has no tail.
fn percentiles(series: &Series) -> Vec<Percentile> {
    if series.unit().is_time() { vec![Percentile::P50, Percentile::P99] } else { vec![Percentile::P50] }
}

/// What is of a design is judged. The rest says what measuring costs, how fast the host is, or what the kernel's own measures say.
fn is_judged(series: &Series, times: bool) -> bool {
    series.measure.design.is_some() && !is_boot(series) && (times || !series.unit().is_time())
}

/// Both sides' values of one percentile.
struct Pair {
    series: Series,
    percentile: Percentile,
    sides: [Values; 2],
}

impl Pair {
    fn new(series: &Series, percentile: Percentile, sides: [&OfSide; 2]) -> Option<Self> {
        let [base, other] = sides.map(|of| Values::of(figures(&of.boots, percentile).into_values()));
        Some(Self { series: series.clone(), percentile, sides: [base?, other?] })
    }
}

/// Questions that are asked together: each is answered as if all were one.
fn answers(pairs: &[Pair], judged: bool, bootstrap: Bootstrap) -> Vec<Difference> {
    let test = |pair: &Pair| {
        let [base, other] = &pair.sides;
        mann_whitney(base, other).p
    };
    let p: Vec<f64> = pairs.iter().map(test).collect();
    let asked = pairs.len();
    let answers = pairs.iter().zip(p.iter().zip(holm(&p)));
    answers.map(|(pair, (p, p_corrected))| answer(pair, [*p, p_corrected], asked, judged, bootstrap)).collect()
}

fn answer(pair: &Pair, [p, p_corrected]: [f64; 2], asked: usize, judged: bool, bootstrap: Bootstrap) -> Difference {
    let [base, other] = &pair.sides;
    let boots = [base.len(), other.len()];
    let values = [base.median(), other.median()];
    let interval = bootstrap.ratio(base, other);
    // What Holm asks of the first of them: no less is asked of any in a comparison without a difference.
    let level = LEVEL / asked.max(1) as f64;
    let is_seen = p_corrected <= LEVEL;
    let finding = if boots.iter().any(|n| *n < LEAST_VALUES) || (least_p(boots[0], boots[1]) > level && !is_seen) {
        Finding::TooFew
    } else if !is_seen {
        Finding::NotSeen
    } else {
        match interval {
            Some(of) if of.low > 1.0 => Finding::Greater,
            Some(of) if of.high < 1.0 => Finding::Less,
            // There is no ratio to 0: the rank test stands alone.
            None if values[0] <= 0.0 && values[1] > 0.0 => Finding::Greater,
            _ => Finding::NotSeen,
        }
    };
    Difference {
        series: pair.series.clone(),
        percentile: pair.percentile,
        boots,
        values,
        ratio: (values[0] > 0.0).then(|| values[1] / values[0]),
        interval,
        p,
        p_corrected,
        detectable: smallest_detectable(base, other, level, POWER),
        judged,
        finding,
    }
}

/// Boots of each side that it takes for the least p of all to count among so many questions.
fn needed(asked: usize) -> Option<usize> {
    (LEAST_VALUES..MOST_BOOTS).find(|n| least_p(*n, *n) * asked as f64 <= LEVEL)
}

fn errors(series: &Series, sides: [&OfSide; 2]) -> Option<Failed> {
    let failed = sides.map(|of| of.errors.len());
    let worse = if failed[1] >= failed[0] { sides[1] } else { sides[0] };
    let error = worse.errors.values().next()?.clone();
    Some(Failed { series: series.clone(), failed, measured: sides.map(|of| of.boots.len()), error })
}
