//! Pairs a second of all threads together, against threads: a line that does not rise is one hot counter (defect F), or a lock.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::super::results::Results;
use super::super::summary::Entry;
use super::axis::{Axis, Label, px};
use super::pair::threads;
use super::{HEAD, WIDTH, by_design, frame, of_kind};

const HEIGHT: f64 = 340.0;
/// For the axis' labels, on the left.
const LEFT: f64 = 84.0;
/// For the designs' names, at the ends of their lines.
const RIGHT: f64 = 150.0;
/// Between two names.
const APART: f64 = 15.0;

pub(super) fn plot(results: &Results) -> Option<Markup> {
    let plain = |entry: &&Entry| {
        entry.series.setting("objects").is_none_or(|objects| objects == "1")
            && entry.series.setting("context").is_none_or(|context| context == "process")
    };
    let entries: Vec<&Entry> = of_kind(results, "access").into_iter().filter(plain).collect();
    let lines: Vec<(String, BTreeMap<u32, f64>)> = by_design(&entries)
        .into_iter()
        .map(|(name, own)| (name, points(results, &own)))
        .filter(|(_, of)| of.len() > 1)
        .collect();
    let values = || lines.iter().flat_map(|(_, points)| points.values().copied());
    let all_threads: BTreeMap<u32, ()> =
        lines.iter().flat_map(|(_, points)| points.keys().map(|key| (*key, ()))).collect();
    let label = if results.has_times() { Label::Rate } else { Label::Ratio };
    let base = HEAD + HEIGHT;
    let up = Axis::of(values(), (base, HEAD), label)?;
    // Threads double.
    let (least, most) = (*all_threads.keys().next()?, *all_threads.keys().next_back()?);
    let across = |threads: u32| {
        let share = f64::from(threads.max(1)).log2() - f64::from(least.max(1)).log2();
        let whole = (f64::from(most.max(1)).log2() - f64::from(least.max(1)).log2()).max(1e-9);
        LEFT + 18.0 + share / whole * (WIDTH - LEFT - RIGHT - 36.0)
    };
    let ends: Vec<f64> =
        lines.iter().map(|(_, of)| of.values().next_back().map_or(base, |value| up.at(*value))).collect();
    let places = apart(&ends, HEAD + 6.0, base - 4.0);
    let inside = html! {
        @for (y, words) in up.ticks() {
            line.rule x1=(px(LEFT)) x2=(px(WIDTH - RIGHT)) y1=(px(y)) y2=(px(y)) {}
            text.dim x=(px(LEFT - 8.0)) y=(px(y + 4.0)) text-anchor="end" { (words) }
        }
        line.axis x1=(px(LEFT)) x2=(px(WIDTH - RIGHT)) y1=(px(base)) y2=(px(base)) {}
        @for threads in all_threads.keys() {
            @let words = if *threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
            text.dim x=(px(across(*threads))) y=(px(base + 17.0)) text-anchor="middle" { (words) }
        }
        @for (((name, points), end), place) in lines.iter().zip(&ends).zip(&places) {
            @let drawn: Vec<String> = points.iter().map(|(threads, value)| format!("{},{}", px(across(*threads)), px(up.at(*value)))).collect();
            polyline.one.line points=(drawn.join(" ")) {}
            @for (threads, value) in points {
                circle.one cx=(px(across(*threads))) cy=(px(up.at(*value))) r="2.6" {}
            }
            @let last = points.keys().next_back().map_or(LEFT, |threads| across(*threads));
            line.rule x1=(px(last + 5.0)) x2=(px(WIDTH - RIGHT + 8.0)) y1=(px(*end)) y2=(px(*place)) {}
            text x=(px(WIDTH - RIGHT + 12.0)) y=(px(place + 4.0)) { (name) }
        }
    };
    let title = if results.has_times() {
        "Pairs a second of all threads together, on one object"
    } else {
        "Pairs a second of all threads together, as a multiple of one thread's, on one object"
    };
    Some(frame(results, title, &[], HEIGHT, &inside))
}

/// By threads; as a multiple of one thread's where only ratios hold.
fn points(results: &Results, own: &[&Entry]) -> BTreeMap<u32, f64> {
    let all = own.iter().filter_map(|entry| Some((threads(entry)?, entry.throughput.as_ref()?.value)));
    let all: BTreeMap<u32, f64> = all.filter(|(_, value)| *value > 0.0 && value.is_finite()).collect();
    match (results.has_times(), all.get(&1)) {
        (true, _) => all,
        (false, Some(one)) => all.iter().map(|(threads, value)| (*threads, value / one)).collect(),
        (false, None) => BTreeMap::new(),
    }
}

/// Where names go that want to be at these heights: in the same order, none on another.
fn apart(wanted: &[f64], top: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    let of = |at: usize| wanted.get(at).copied().unwrap_or_default();
    order.sort_by(|one, other| of(*one).total_cmp(&of(*other)));
    let mut places = wanted.to_vec();
    let mut least = top;
    for at in &order {
        let place = of(*at).max(least);
        if let Some(slot) = places.get_mut(*at) {
            *slot = place;
        }
        least = place + APART;
    }
    // Back up from below what ran out of the plot.
    let mut most = bottom;
    for at in order.iter().rev() {
        if let Some(slot) = places.get_mut(*at) {
            *slot = slot.min(most);
            most = *slot - APART;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_lie_on_each_other() {
        let places = apart(&[100.0, 101.0, 300.0, 99.0], 0.0, 305.0);
        assert_eq!(places, [114.0, 129.0, 300.0, 99.0]);
        // At the foot there is room only above.
        assert_eq!(apart(&[300.0, 302.0], 0.0, 305.0), [290.0, 305.0]);
    }
}
