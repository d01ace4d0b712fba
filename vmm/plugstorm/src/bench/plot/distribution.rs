//! How long a revoke takes, all samples: above each design's line those without readers, below it those under readers. A mode is a
//! hill of its own.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::super::results::Results;
use super::super::summary::{Entry, Percentile};
use super::axis::{Axis, Label, px};
use super::{HEAD, MARGIN, NAMES, WIDTH, by_design, frame, of_kind};

/// Of a design, in pixels: half of it up, half down.
const ROW: f64 = 46.0;
/// Of the highest hill.
const HILL: f64 = 20.0;

/// A bar: from, to, and which share of the samples.
type Bars = Vec<(f64, f64, f64)>;

pub(super) fn plot(results: &Results) -> Option<Markup> {
    // Long sections make every revoke as long as they are.
    let entries: Vec<&Entry> = of_kind(results, "revoke")
        .into_iter()
        .filter(|entry| entry.series.setting("hold_us").is_none_or(|hold| hold == "0"))
        .collect();
    let unit = unit(results, &entries)?;
    let designs = by_design(&entries);
    let is_idle = |entry: &&&Entry| entry.series.setting("readers").is_none_or(|readers| readers == "0");
    let rows: Vec<(String, [Bars; 2])> = designs
        .iter()
        .map(|(name, own)| {
            let (idle, under): (Vec<&Entry>, Vec<&Entry>) = own.iter().partition(|entry| is_idle(entry));
            (name.clone(), [bars(&idle, unit), bars(&under, unit)])
        })
        .collect();
    let ends = rows.iter().flat_map(|(_, sides)| sides).flatten().flat_map(|(from, upto, _)| [*from, *upto]);
    let label = if results.has_times() { Label::Time } else { Label::Ratio };
    let axis = Axis::of(ends, (NAMES, WIDTH - MARGIN), label)?;
    let height = rows.len() as f64 * ROW;
    let base = HEAD + height;
    let inside = html! {
        @for (at, words) in axis.ticks() {
            line.rule x1=(px(at)) x2=(px(at)) y1=(px(HEAD)) y2=(px(base)) {}
            text.dim x=(px(at)) y=(px(base + 17.0)) text-anchor="middle" { (words) }
        }
        @for (at, (name, sides)) in rows.iter().enumerate() {
            @let middle = HEAD + (at as f64 + 0.5) * ROW;
            text x=(px(NAMES - 10.0)) y=(px(middle + 4.0)) text-anchor="end" { (name) }
            @for (side, class) in sides.iter().zip(["one", "other"]) {
                @let most = side.iter().map(|(.., share)| *share).fold(0.0, f64::max);
                @for (from, upto, share) in side {
                    @let (left, right) = (axis.at(*from), axis.at(*upto));
                    // One that is not empty is to be seen.
                    @let tall = (share / most * HILL).max(1.0);
                    @let top = if class == "one" { middle - tall } else { middle };
                    rect.bar.(class) x=(px(left)) y=(px(top)) width=(px((right - left).max(1.0))) height=(px(tall)) {
                        title { (format!("{:.1} %", share * 100.0)) }
                    }
                }
            }
            line.axis x1=(px(NAMES)) x2=(px(WIDTH - MARGIN)) y1=(px(middle)) y2=(px(middle)) {}
        }
    };
    let legend = [("one", "no readers (above the line)"), ("other", "under readers (below)")];
    let title = if results.has_times() {
        "How long a revoke takes: all samples".to_owned()
    } else {
        format!("How long a revoke takes, as multiples of {}'s p50 without readers", results.summary.reference)
    };
    Some(frame(results, &title, &legend, height, &inside))
}

/// What times are told by: nanoseconds; where only ratios hold, the reference's p50 after the longest rest without readers. None if it
/// was not measured.
fn unit(results: &Results, entries: &[&Entry]) -> Option<f64> {
    if results.has_times() {
        return Some(1.0);
    }
    let is_of = |entry: &&&Entry| {
        entry.series.measure.design.as_ref() == Some(&results.summary.reference)
            && entry.series.setting("readers") == Some("0")
    };
    let gap = |entry: &&&Entry| entry.series.setting("gap_us").and_then(|gap| gap.parse::<u64>().ok());
    let p50 = entries.iter().filter(is_of).max_by_key(gap)?.at(Percentile::P50)?.value;
    (p50 > 0.0).then_some(p50)
}

/// The samples of several measures together.
fn bars(entries: &[&Entry], unit: f64) -> Bars {
    // By a thousandth of a decade, so that bins of one edge meet.
    let mut together: BTreeMap<i64, (f64, f64, f64)> = BTreeMap::new();
    let all: u64 = entries.iter().flat_map(|entry| &entry.bins).map(|bin| bin.count).sum();
    for entry in entries {
        for bin in &entry.bins {
            let (from, upto) = (bin.from / unit, bin.upto / unit);
            let bar = together.entry((from.log10() * 1e3).round() as i64).or_insert((from, upto, 0.0));
            bar.2 += bin.count as f64 / all.max(1) as f64;
        }
    }
    together.into_values().collect()
}
