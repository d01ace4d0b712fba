//! What one entering and leaving costs, by design: a mark at the median over boots, and a line where it lies.

use maud::{Markup, html};
use plugstorm_observe::statistics::Interval;

use super::super::results::Results;
use super::super::summary::{Entry, Estimate, Percentile};
use super::axis::{Axis, Label, px};
use super::{HEAD, MARGIN, NAMES, WIDTH, by_design, frame, of_kind};

/// Of a design, in pixels.
const ROW: f64 = 34.0;

pub(super) fn plot(results: &Results) -> Option<Markup> {
    let plain = |entry: &&Entry| {
        entry.series.setting("objects").is_none_or(|objects| objects == "1")
            && entry.series.setting("context").is_none_or(|context| context == "process")
    };
    let entries: Vec<&Entry> = of_kind(results, "access").into_iter().filter(plain).collect();
    let most = entries.iter().filter_map(|entry| threads(entry)).max()?;
    let rows: Vec<(String, [Option<&Estimate>; 2])> = by_design(&entries)
        .into_iter()
        .map(|(name, own)| {
            let of = |wanted: u32| {
                own.iter().find(|entry| threads(entry) == Some(wanted)).and_then(|entry| told(results, entry))
            };
            (name, [of(1), if most > 1 { of(most) } else { None }])
        })
        .collect();
    let estimates = || rows.iter().flat_map(|(_, both)| both).flatten();
    let label = if results.has_times() { Label::Time } else { Label::Ratio };
    let drawn = estimates().flat_map(|of| [ends(of).low, of.value, ends(of).high]);
    let axis = Axis::of(drawn, (NAMES, WIDTH - MARGIN), label)?;
    let height = rows.len() as f64 * ROW;
    let base = HEAD + height;
    let inside = html! {
        @for (at, words) in axis.ticks() {
            line.rule x1=(px(at)) x2=(px(at)) y1=(px(HEAD)) y2=(px(base)) {}
            text.dim x=(px(at)) y=(px(base + 17.0)) text-anchor="middle" { (words) }
        }
        line.axis x1=(px(NAMES)) x2=(px(WIDTH - MARGIN)) y1=(px(base)) y2=(px(base)) {}
        @for (at, (name, both)) in rows.iter().enumerate() {
            @let middle = HEAD + (at as f64 + 0.5) * ROW;
            text x=(px(NAMES - 10.0)) y=(px(middle + 4.0)) text-anchor="end" { (name) }
            @for (estimate, (class, up)) in both.iter().zip([("one", -6.0), ("other", 6.0)]) {
                @if let Some(estimate) = estimate {
                    @let y = middle + up;
                    @let Interval { low, high } = ends(estimate);
                    line.ends.(class) x1=(px(axis.at(low))) x2=(px(axis.at(high))) y1=(px(y)) y2=(px(y)) {}
                    @for end in [low, high] {
                        line.ends.(class) x1=(px(axis.at(end))) x2=(px(axis.at(end))) y1=(px(y - 4.0)) y2=(px(y + 4.0)) {}
                    }
                    circle.(class) cx=(px(axis.at(estimate.value))) cy=(px(y)) r="3.4" {}
                }
            }
        }
    };
    let title = if results.has_times() {
        "What entering and leaving costs (p50 of a pair, 95 % interval)".to_owned()
    } else {
        format!("What entering and leaving costs, as multiples of {}'s p50 (95 % interval)", results.summary.reference)
    };
    let several = format!("{most} threads, one object");
    let legend: Vec<(&str, &str)> =
        [("one", "1 thread"), ("other", several.as_str())].into_iter().take(if most > 1 { 2 } else { 1 }).collect();
    Some(frame(results, &title, &legend, height, &inside))
}

pub(super) fn threads(entry: &Entry) -> Option<u32> {
    entry.series.setting("threads")?.parse().ok()
}

fn told<'a>(results: &Results, entry: &'a Entry) -> Option<&'a Estimate> {
    let of = if results.has_times() { &entry.percentiles } else { &entry.relative };
    of.get(&Percentile::P50)
}

fn ends(of: &Estimate) -> Interval {
    of.interval.unwrap_or(Interval { low: of.value, high: of.value })
}
