//! The figures that dashboards follow: what may be claimed of the host, each with a name that stays.

use plugstorm_observe::statistics::Interval;

use super::super::results::Results;
use super::super::series::{Unit, is_boot};
use super::super::summary::{Entry, Estimate, Percentile};

/// One number to follow over time.
pub(super) struct Figure<'a> {
    /// Of what.
    pub(super) entry: &'a Entry,
    /// What of it.
    pub(super) what: What,
    /// The number.
    pub(super) estimate: &'a Estimate,
}

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A percentile, in the series' unit.
    Value(Percentile),
    /// A percentile as a multiple of the reference design's.
    Relative(Percentile),
    /// Operations a second.
    Throughput,
}

impl What {
    /// `p50`, `p50-relative`, `throughput`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Value(percentile) => percentile.name(),
            Self::Relative(Percentile::P50) => "p50-relative",
            Self::Relative(Percentile::P90) => "p90-relative",
            Self::Relative(Percentile::P99) => "p99-relative",
            Self::Throughput => "throughput",
        }
    }

    /// As others write it.
    pub(super) fn unit(self, unit: Unit) -> &'static str {
        match (self, unit) {
            (Self::Value(_), Unit::Ns) => "ns",
            (Self::Value(_), Unit::Bytes) => "bytes",
            (Self::Value(_), Unit::Instructions) => "instructions",
            (Self::Relative(_), _) => "ratio",
            (Self::Throughput, _) => "operations/s",
        }
    }
}

impl Figure<'_> {
    /// Where it lies; itself where that is not known.
    pub(super) fn interval(&self) -> Interval {
        self.estimate.interval.unwrap_or(Interval { low: self.estimate.value, high: self.estimate.value })
    }
}

/// Of the side that was measured for its own sake. Of a time under software emulation only the ratio to the reference is given: it
/// holds, the time does not.
pub(super) fn of(results: &Results) -> Vec<Figure<'_>> {
    let entries = results.summary.entries.iter().filter(|entry| entry.side == results.side && !is_boot(&entry.series));
    entries.flat_map(|entry| of_entry(entry, results)).collect()
}

fn of_entry<'a>(entry: &'a Entry, results: &Results) -> Vec<Figure<'a>> {
    let figure = |what: What, estimate: &'a Estimate| Figure { entry, what, estimate };
    if !entry.unit.is_time() {
        let p50 = entry.at(Percentile::P50).map(|estimate| figure(What::Value(Percentile::P50), estimate));
        return p50.into_iter().collect();
    }
    if !results.has_times() {
        // The reference's own is always 1.
        let is_reference = entry.series.measure.design.as_ref() == Some(&results.summary.reference);
        let relative = entry.relative.iter().filter(|_| !is_reference);
        return relative.map(|(percentile, estimate)| figure(What::Relative(*percentile), estimate)).collect();
    }
    let values = entry.percentiles.iter().map(|(percentile, estimate)| figure(What::Value(*percentile), estimate));
    let throughput = entry.throughput.iter().map(|estimate| figure(What::Throughput, estimate));
    values.chain(throughput).collect()
}
