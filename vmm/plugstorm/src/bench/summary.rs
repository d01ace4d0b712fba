//! What samples come to: of each measure and side the percentiles of each boot, and over boots their median and where it lies.
//!
//! The boot is the unit: samples of one boot share its memory layout, its timer's phase and its neighbours, and say little more
//! together than one. Times that have two modes are told by both, since no time is near their mean.

use std::collections::BTreeMap;

use plugstorm_observe::statistics::{Bootstrap, Interval, Values};
use plugstorm_observe::timing;
use serde::Serialize;

use super::model::Side;
use super::pool::Pool;
use super::series::{Boot, OfSide, Series, Unit, collect};

/// The design that others are told as a multiple of, unless the user names another.
pub const REFERENCE: &str = "stack-token";
/// A hump of less of all samples is no mode but what happens sometimes.
const LEAST_MODE_SHARE: f64 = 0.02;
/// Bins of a factor of ten.
const BINS: f64 = 16.0;
/// Bins of a distribution at most: the rest is in the last one.
const MOST_BINS: usize = 16 * 20;

/// Which percentile of a boot's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Percentile {
    /// Half of the samples took no longer.
    P50,
    /// Nine in ten.
    P90,
    /// 99 in a hundred.
    P99,
}

impl Percentile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::P50, Self::P90, Self::P99];

    /// As a share.
    #[must_use]
    pub fn share(self) -> f64 {
        match self {
            Self::P50 => 0.5,
            Self::P90 => 0.9,
            Self::P99 => 0.99,
        }
    }

    /// Samples of a boot that has one: so that one of them lies beyond it.
    #[must_use]
    pub fn least_samples(self) -> usize {
        match self {
            Self::P50 => 1,
            Self::P90 => 10,
            Self::P99 => 100,
        }
    }

    /// `p50`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
        }
    }
}

/// The median over boots, and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Boots that it is of.
    pub boots: usize,
    /// The median over them.
    pub value: f64,
    /// 95 % interval by bootstrap over boots; none of less than five of them.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "ends")]
    pub interval: Option<Interval>,
}

fn ends<S: serde::Serializer>(interval: &Option<Interval>, serializer: S) -> Result<S::Ok, S::Error> {
    interval.map(|interval| [interval.low, interval.high]).serialize(serializer)
}

impl Estimate {
    pub(super) fn of(values: impl IntoIterator<Item = f64>, bootstrap: Bootstrap) -> Option<Self> {
        let values = Values::of(values)?;
        let interval = bootstrap.median(&values);
        Some(Self { boots: values.len(), value: values.median(), interval })
    }
}

/// A hump of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mode {
    /// Which share of all samples is in it.
    pub share: f64,
    /// Their median, in nanoseconds.
    pub p50: f64,
}

/// Samples of about the same size, for plots.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Above this.
    pub from: f64,
    /// At most this.
    pub upto: f64,
    /// How many.
    pub count: u64,
}

/// One series of one side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Of which side.
    pub side: Side,
    /// What.
    #[serde(flatten)]
    pub series: Series,
    /// What its values are in.
    pub unit: Unit,
    /// Samples of all boots.
    pub samples: usize,
    /// Boots that gave samples.
    pub boots: usize,
    /// Boots that gave an error instead, and the first of these.
    pub failed: usize,
    /// See [`Self::failed`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// By percentile; none where a boot has too few samples for one ([`Percentile::least_samples`]).
    pub percentiles: BTreeMap<Percentile, Estimate>,
    /// The same as multiples of the reference design's in the same boot.
    pub relative: BTreeMap<Percentile, Estimate>,
    /// Operations a second of all threads together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput: Option<Estimate>,
    /// The humps of all boots' samples together, from short to long: of a time; two are two sorts of the same event.
    pub modes: Vec<Mode>,
    /// The distribution of all boots' samples together.
    pub bins: Vec<Bin>,
    /// What each boot gave.
    #[serde(skip)]
    pub of_boots: Vec<Boot>,
}

impl Entry {
    fn new(side: Side, series: &Series, of: &OfSide, reference: Option<&OfSide>, bootstrap: Bootstrap) -> Self {
        let mut percentiles = BTreeMap::new();
        let mut relative = BTreeMap::new();
        for percentile in Percentile::ALL {
            let estimate = Estimate::of(figures(&of.boots, percentile).into_values(), bootstrap);
            percentiles.extend(estimate.map(|estimate| (percentile, estimate)));
            let base = reference.map(|base| figures(&base.boots, percentile)).unwrap_or_default();
            let ratios = figures(&of.boots, percentile).into_iter().filter_map(|(boot, value)| {
                let base = base.get(&boot).filter(|base| **base > 0.0)?;
                Some(value / base)
            });
            relative.extend(Estimate::of(ratios, bootstrap).map(|estimate| (percentile, estimate)));
        }
        let all: Vec<f64> = of.boots.iter().flat_map(|boot| boot.values.as_slice()).copied().collect();
        let unit = series.unit();
        Self {
            side,
            series: series.clone(),
            unit,
            samples: all.len(),
            boots: of.boots.len(),
            failed: of.errors.len(),
            error: of.errors.values().next().cloned(),
            percentiles,
            relative,
            throughput: Estimate::of(of.boots.iter().filter_map(|boot| boot.throughput), bootstrap),
            modes: if unit.is_time() { modes(&all) } else { Vec::new() },
            bins: bins(&all),
            of_boots: of.boots.clone(),
        }
    }

    /// A percentile's estimate.
    #[must_use]
    pub fn at(&self, percentile: Percentile) -> Option<&Estimate> {
        self.percentiles.get(&percentile)
    }
}

/// A percentile of each boot that has as many samples as it takes, by the boot's number.
pub(super) fn figures(boots: &[Boot], percentile: Percentile) -> BTreeMap<u32, f64> {
    let enough = boots.iter().filter(|boot| boot.values.len() >= percentile.least_samples());
    enough.map(|boot| (boot.boot, boot.values.quantile(percentile.share()))).collect()
}

/// As `plugstorm_observe::timing` tells humps apart, without those of next to no samples.
fn modes(samples: &[f64]) -> Vec<Mode> {
    let Some(summary) = timing::Summary::of(samples.iter().map(|ns| ns.round() as u64)) else { return Vec::new() };
    let humps = summary.modes().into_iter().filter_map(|hump| {
        // The first takes what is no nanosecond too.
        let is_inside = |ns: &f64| {
            let ns = ns.round() as u64;
            ns <= hump.upto_ns && (ns > hump.above_ns || hump.above_ns == 0)
        };
        let inside = Values::of(samples.iter().copied().filter(is_inside))?;
        let share = inside.len() as f64 / samples.len() as f64;
        (share >= LEAST_MODE_SHARE).then(|| Mode { share, p50: inside.median() })
    });
    humps.collect()
}

fn bins(samples: &[f64]) -> Vec<Bin> {
    let Some(values) = Values::of(samples.iter().copied().filter(|value| *value > 0.0)) else { return Vec::new() };
    let place = |value: f64| (value.log10() * BINS).floor();
    let first = place(values.least());
    let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
    for value in values.as_slice() {
        // Not negative: none is less than the least.
        *counts.entry(((place(*value) - first) as usize).min(MOST_BINS)).or_default() += 1;
    }
    let edge = |at: usize| 10f64.powf((first + at as f64) / BINS);
    counts.into_iter().map(|(at, count)| Bin { from: edge(at), upto: edge(at + 1), count }).collect()
}

/// All that a pool comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The design that others are told as multiples of.
    pub reference: String,
    /// By series, then side.
    pub entries: Vec<Entry>,
}

impl Summary {
    /// Of a pool, with [`REFERENCE`].
    #[must_use]
    pub fn of(pool: &Pool) -> Self {
        Self::with(pool, REFERENCE, Bootstrap::default())
    }

    /// With another reference, or other draws.
    #[must_use]
    pub fn with(pool: &Pool, reference: &str, bootstrap: Bootstrap) -> Self {
        let collected = collect(pool);
        let mut entries = Vec::new();
        for (series, sides) in &collected {
            let base = series.measure.design.as_ref().and_then(|_| collected.get(&series.of_design(reference)));
            for (side, of) in sides {
                let base = base.and_then(|sides| sides.get(side));
                entries.push(Entry::new(*side, series, of, base, bootstrap));
            }
        }
        Self { reference: reference.to_owned(), entries }
    }

    /// The entry of a series and a side.
    #[must_use]
    pub fn get(&self, series: &Series, side: Side) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| (&entry.series, entry.side).cmp(&(series, side))).ok()?;
        self.entries.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{self, Shape};
    use super::*;

    #[test]
    fn the_boot_is_the_unit() {
        let summary = Summary::of(&simulated::small());
        let entry = summary.entries.iter().find(|entry| entry.series.measure.kind == "revoke").unwrap();
        assert_eq!((entry.boots, entry.samples), (8, 8 * 120));
        let p50 = entry.at(Percentile::P50).unwrap();
        assert_eq!(p50.boots, 8);
        assert!(p50.interval.unwrap().contains(p50.value));
        assert!(summary.get(&entry.series, entry.side).is_some());
    }

    #[test]
    fn a_percentile_needs_samples_beyond_it() {
        let mut pool = simulated::small();
        for measurement in &mut pool.measurements {
            measurement.samples.truncate(99);
        }
        let summary = Summary::of(&pool);
        let entry = summary.entries.iter().find(|entry| entry.series.measure.kind == "revoke").unwrap();
        assert!(entry.at(Percentile::P90).is_some() && entry.at(Percentile::P99).is_none());
    }

    #[test]
    fn ratios_are_of_the_same_boot() {
        // Boots differ by a factor that both designs share: it is not in the ratio.
        let pool = simulated::scaled_boots(8, 2.0);
        let summary = Summary::of(&pool);
        let of = |design: &str| {
            let is_of = |entry: &&Entry| entry.series.measure.design.as_deref() == Some(design);
            summary.entries.iter().find(is_of).unwrap().relative[&Percentile::P50]
        };
        assert!((of("rwsem").value - 2.0).abs() < 1e-9, "{:?}", of("rwsem"));
        let interval = of("rwsem").interval.unwrap();
        assert!(interval.high - interval.low < 1e-9);
        assert!((of("stack-token").value - 1.0).abs() < 1e-9);
    }

    #[test]
    fn two_modes_are_told_apart_and_a_stray_is_none() {
        let two: Vec<f64> = simulated::draw(5, 400, Shape::Bimodal { low: 9e3, high: 2e7, slow_share: 0.3 });
        let found = modes(&[two, vec![9e9]].concat());
        assert_eq!(found.len(), 2, "{found:?}");
        assert!((found[0].share - 0.7).abs() < 0.1 && (found[0].p50 / 9e3 - 1.0).abs() < 0.1);
        assert!((found[1].share - 0.3).abs() < 0.1 && (found[1].p50 / 2e7 - 1.0).abs() < 0.1);
    }

    #[test]
    fn bins_hold_all_samples() {
        let of = bins(&[1.0, 1.1, 50.0, 1e9, 0.0]);
        assert_eq!(of.iter().map(|bin| bin.count).sum::<u64>(), 4);
        assert!(of.iter().all(|bin| bin.from < bin.upto));
        assert!(bins(&[1e-300, 1e300]).len() == 2 && bins(&[]).is_empty());
    }
}
