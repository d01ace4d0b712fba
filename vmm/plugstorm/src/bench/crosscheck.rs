//! Our measures beside the kernel's own of the same thing: where they do not agree, one of us is wrong.

use std::collections::BTreeMap;

use plugstorm_observe::statistics::Values;

use super::model::{Measure, Side};
use super::scale::counterpart;
use super::series::Series;
use super::summary::{Percentile, Summary, figures};

/// Two that differ by no more agree.
const AGREED: f64 = 0.1;

/// One thing by both.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Agreement {
    pub(super) ours: Series,
    pub(super) theirs: Series,
    /// Ours by theirs in the same boot, the median over boots, by percentile.
    pub(super) ratios: BTreeMap<Percentile, f64>,
}

impl Agreement {
    /// Whether p50 and p90 are there, and within a tenth.
    pub(super) fn holds(&self) -> bool {
        let within = |percentile| self.ratios.get(&percentile).is_some_and(|ratio: &f64| (ratio - 1.0).abs() <= AGREED);
        within(Percentile::P50) && within(Percentile::P90)
    }
}

/// All that both measured, of one side.
pub(super) fn agreements(summary: &Summary, side: Side) -> Vec<Agreement> {
    let of_side = summary.entries.iter().filter(|entry| entry.side == side);
    let both = of_side.filter_map(|ours| {
        // The sizes of a measurement are no part of a series; of any size there is a counterpart.
        let mut sized = ours.series.measure.clone();
        for size in ["rounds", "loops"] {
            sized.settings.entry(size.to_owned()).or_insert_with(|| "1".to_owned());
        }
        let measure: Measure = counterpart(&sized)?;
        let theirs = summary.get(&Series::of(&measure), side)?;
        let ratios = [Percentile::P50, Percentile::P90].into_iter().filter_map(|percentile| {
            let [ours, theirs] = [ours, theirs].map(|entry| figures(&entry.of_boots, percentile));
            let pairs = ours.iter().filter_map(|(boot, value)| Some(value / theirs.get(boot).filter(|of| **of > 0.0)?));
            Some((percentile, Values::of(pairs)?.median()))
        });
        Some(Agreement { ours: ours.series.clone(), theirs: theirs.series.clone(), ratios: ratios.collect() })
    });
    both.collect()
}

#[cfg(test)]
mod tests {
    use plugstorm_observe::statistics::Bootstrap;

    use super::super::simulated;
    use super::*;

    #[test]
    fn what_both_measured_is_found() {
        let summary = Summary::with(&simulated::small(), "stack-token", Bootstrap { draws: 100, seed: 1 });
        let all = agreements(&summary, Side::A);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].theirs.name(), "refscale/nreaders=1/scale_type=srcu");
        assert!(all[0].holds() && all[0].ratios.len() == 2, "{all:?}");
        let unknown = Agreement { ratios: BTreeMap::new(), ..all[0].clone() };
        assert!(!unknown.holds(), "nothing is no agreement");
    }
}
