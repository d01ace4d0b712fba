//! Our measures beside the kernel's own of the same thing: where they do not agree, one of us is wrong.

use std::collections::BTreeMap;

use plugstorm_observe::statistics::Bootstrap;

use super::model::{Measure, Side};
use super::numbers::digits;
use super::scale::counterpart;
use super::series::Series;
use super::summary::{Entry, Estimate, Mode, Percentile, Summary, figures};

/// Two that differ by no more agree.
const AGREED: f64 = 0.1;

/// One thing by both.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Agreement {
    pub(super) ours: Series,
    pub(super) theirs: Series,
    /// Ours by theirs in the same boot, the median over boots, by percentile.
    pub(super) ratios: BTreeMap<Percentile, Estimate>,
    /// The modes of ours and of theirs, of all boots' samples together.
    pub(super) modes: [Vec<Mode>; 2],
}

impl Agreement {
    fn new(ours: &Entry, theirs: &Entry, bootstrap: Bootstrap) -> Self {
        let ratios = [Percentile::P50, Percentile::P90].into_iter().filter_map(|percentile| {
            let [ours, theirs] = [ours, theirs].map(|entry| figures(&entry.of_boots, percentile));
            let pairs = ours.iter().filter_map(|(boot, value)| Some(value / theirs.get(boot).filter(|of| **of > 0.0)?));
            Some((percentile, Estimate::of(pairs, bootstrap)?))
        });
        Self {
            ours: ours.series.clone(),
            theirs: theirs.series.clone(),
            ratios: ratios.collect(),
            modes: [ours.modes.clone(), theirs.modes.clone()],
        }
    }

    /// Whether p50 and p90 are there, and within a tenth.
    pub(super) fn holds(&self) -> bool {
        let within = |percentile| self.ratios.get(&percentile).is_some_and(|ratio| is_near(ratio.value));
        within(Percentile::P50) && within(Percentile::P90)
    }

    /// What is said of it, in a sentence.
    pub(super) fn words(&self) -> String {
        if self.ratios.is_empty() {
            return "not compared: no boot has both".to_owned();
        }
        let holds = if self.holds() { "agree within 10 %" } else { "DISAGREE by more than 10 %" };
        let ratio = |(percentile, ratio): (&Percentile, &Estimate)| {
            let of = ratio.interval.map(|of| format!(" ({} to {})", digits(of.low), digits(of.high)));
            format!("{} {}{}", percentile.name(), digits(ratio.value), of.unwrap_or_default())
        };
        let ratios: Vec<String> = self.ratios.iter().map(ratio).collect();
        let modes = if self.holds() { String::new() } else { self.shares().unwrap_or_default() };
        format!("{holds} (ours by theirs: {}){modes}", ratios.join(", "))
    }

    /// A percentile between two modes is in one or the other by their shares, and then says nothing of either: the modes do.
    fn shares(&self) -> Option<String> {
        let [ours, theirs] = &self.modes;
        if ours.len() < 2 || ours.len() != theirs.len() {
            return None;
        }
        let ratios: Vec<String> =
            ours.iter().zip(theirs).map(|(ours, theirs)| digits(ours.p50 / theirs.p50.max(1.0))).collect();
        let shares =
            |of: &[Mode]| of.iter().map(|mode| format!("{:.0} %", mode.share * 100.0)).collect::<Vec<_>>().join(", ");
        let (own, other) = (shares(ours), shares(theirs));
        Some(format!(
            "; the {} modes are {} times theirs, with {own} of our samples and {other} of theirs",
            ours.len(),
            ratios.join(", ")
        ))
    }
}

fn is_near(ratio: f64) -> bool {
    (ratio - 1.0).abs() <= AGREED
}

/// All that both measured, of one side.
pub(super) fn agreements(summary: &Summary, side: Side, bootstrap: Bootstrap) -> Vec<Agreement> {
    let of_side = summary.entries.iter().filter(|entry| entry.side == side);
    let both = of_side.filter_map(|ours| {
        // The sizes of a measurement are no part of a series; of any size there is a counterpart.
        let mut sized = ours.series.measure.clone();
        for size in ["rounds", "loops"] {
            sized.settings.entry(size.to_owned()).or_insert_with(|| "1".to_owned());
        }
        let measure: Measure = counterpart(&sized)?;
        Some(Agreement::new(ours, summary.get(&Series::of(&measure), side)?, bootstrap))
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
        let all = agreements(&summary, Side::A, Bootstrap { draws: 100, seed: 1 });
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].theirs.name(), "refscale/nreaders=1/scale_type=srcu");
        assert!(all[0].holds() && all[0].ratios.len() == 2, "{all:?}");
        assert!(all[0].words().starts_with("agree within 10 % (ours by theirs: p50 "), "{}", all[0].words());
        let unknown = Agreement { ratios: BTreeMap::new(), ..all[0].clone() };
        assert!(!unknown.holds() && unknown.words().starts_with("not compared"), "nothing is no agreement");
    }

    #[test]
    fn a_percentile_between_modes_is_told_by_the_modes() {
        let summary = Summary::with(&simulated::small(), "stack-token", Bootstrap { draws: 100, seed: 1 });
        let one = agreements(&summary, Side::A, Bootstrap { draws: 100, seed: 1 }).remove(0);
        let modes =
            |share: f64, fast: f64| vec![Mode { share, p50: fast }, Mode { share: 1.0 - share, p50: 16_000_000.0 }];
        let far = Estimate { boots: 10, value: 40.0, interval: None };
        let bimodal = Agreement {
            ratios: [(Percentile::P50, far), (Percentile::P90, far)].into(),
            modes: [modes(0.49, 62_000.0), modes(0.58, 62_000.0)],
            ..one
        };
        insta::assert_snapshot!(bimodal.words(), @"DISAGREE by more than 10 % (ours by theirs: p50 40.0, p90 40.0); the 2 modes are 1.00, 1.00 times theirs, with 49 %, 51 % of our samples and 58 %, 42 % of theirs");
        let other = Agreement { modes: [modes(0.5, 1.0), Vec::new()], ..bimodal };
        assert!(!other.words().contains("modes"));
    }
}
