//! Plots as SVG, each a file that stands by itself: readable on light and on dark pages, by their own style.
//!
//! Drawn as the HTML report's strips are. A plotting library writes its colours into each element, which is one page's and not the
//! other's.

mod axis;
mod distribution;
mod pair;
mod throughput;

use maud::{Markup, PreEscaped, html};

use super::results::Results;
use super::summary::Entry;
use crate::report::visible;
use crate::scenario::Design;
use axis::px;

/// Of all plots.
const WIDTH: f64 = 760.0;
/// For the names of designs, on the left.
const NAMES: f64 = 130.0;
/// For what is at the right edge.
const MARGIN: f64 = 24.0;
/// For the title.
const HEAD: f64 = 62.0;
/// For the axis, and the sentence below it.
const FOOT: f64 = 74.0;
/// Designs of a plot: more are none of the module's.
const MOST_DESIGNS: usize = 40;

const STYLE: &str = "
:root { color-scheme: light dark; --paper: #ffffff; --rule: #d5dae0; --ink: #1b1f24; --dim: #57606b; --one: #2f6fb0; --other: #b05a1e; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171a; --rule: #363d45; --ink: #e3e6ea; --dim: #9da7b3; --one: #6ba6e0; --other: #e0955a; }
}
.paper { fill: var(--paper); }
text { font: 12px system-ui, \"Segoe UI\", \"Liberation Sans\", Arial, sans-serif; fill: var(--ink); }
.title { font-size: 15px; font-weight: 600; }
.dim { fill: var(--dim); }
.rule { stroke: var(--rule); } .axis { stroke: var(--dim); }
.one { fill: var(--one); stroke: var(--one); } .other { fill: var(--other); stroke: var(--other); }
.line { fill: none; stroke-width: 1.6; } .bar { stroke: none; } .ends { stroke-width: 1.4; }
";

/// Those for which there are figures: a file's name, and what is in it.
pub(super) fn all(results: &Results) -> Vec<(&'static str, String)> {
    let plots = [
        ("revoke-latency.svg", distribution::plot(results)),
        ("pair-cost.svg", pair::plot(results)),
        ("throughput.svg", throughput::plot(results)),
    ];
    plots.into_iter().filter_map(|(file, plot)| Some((file, plot?.into_string() + "\n"))).collect()
}

/// A whole plot of so many pixels between head and foot.
fn frame(results: &Results, title: &str, legend: &[(&str, &str)], height: f64, inside: &Markup) -> Markup {
    let whole = HEAD + height + FOOT;
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {}", px(whole))) width=(WIDTH) height=(px(whole)) role="img" aria-label=(title) {
            style { (PreEscaped(STYLE)) }
            rect.paper x="0" y="0" width=(WIDTH) height=(px(whole)) {}
            text.title x="16" y="25" { (title) }
            @for (at, (class, words)) in legend.iter().enumerate() {
                @let left = 16.0 + at as f64 * 270.0;
                rect.bar.(class) x=(px(left)) y="37" width="11" height="11" rx="2" {}
                text x=(px(left + 17.0)) y="47" { (words) }
            }
            (inside)
            @for (at, line) in foot(results).iter().enumerate() {
                text.dim x="16" y=(px(whole - 26.0 + 16.0 * at as f64)) { (line) }
            }
        }
    }
}

/// What it was measured on.
fn foot(results: &Results) -> [String; 2] {
    let header = &results.pool.header;
    let facts = header.sides.get(&results.side);
    let guest = facts.map_or_else(String::new, |facts| {
        let hz = if facts.hz > 0 { format!(", HZ {}", facts.hz) } else { String::new() };
        let model = facts.preemption.as_ref().map(|model| format!(", preemption {model}")).unwrap_or_default();
        format!("Linux {}{hz}{model}, {} CPUs, {} boots", facts.release, facts.cpus, results.pool.boots(results.side))
    });
    let host = if results.has_times() {
        "guests on this host's own KVM".to_owned()
    } else {
        format!("under QEMU's software emulation: ratios to {} hold, times do not", results.summary.reference)
    };
    [guest, host].map(|line| shown(&line))
}

/// The designs of these entries, in the module's order, each with its own.
fn by_design<'a>(entries: &[&'a Entry]) -> Vec<(String, Vec<&'a Entry>)> {
    let mut designs: Vec<&str> = entries.iter().filter_map(|entry| entry.series.measure.design.as_deref()).collect();
    let place = |name: &str| Design::ALL.iter().position(|design| design.name() == name).unwrap_or(usize::MAX);
    designs.sort_by_key(|name| (place(name), *name));
    designs.dedup();
    designs.truncate(MOST_DESIGNS);
    let own = |name: &str| {
        let is_of = |entry: &&&Entry| entry.series.measure.design.as_deref() == Some(name);
        entries.iter().filter(is_of).copied().collect()
    };
    designs.into_iter().map(|name| (shown(name), own(name))).collect()
}

/// The entries of a kind that are of a design, of the side that was measured for its own sake.
fn of_kind<'a>(results: &'a Results, kind: &str) -> Vec<&'a Entry> {
    let is_of = |entry: &&Entry| {
        entry.side == results.side && entry.series.measure.kind == kind && entry.series.measure.design.is_some()
    };
    results.summary.entries.iter().filter(is_of).collect()
}

fn shown(text: &str) -> String {
    visible(text).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::super::simulated;

    #[test]
    fn plots_of_times() {
        let plots = simulated::results(simulated::small()).plots();
        let names: Vec<&str> = plots.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["revoke-latency.svg", "pair-cost.svg", "throughput.svg"]);
        for (name, plot) in plots {
            insta::assert_snapshot!(name, plot);
        }
    }

    #[test]
    fn under_emulation_no_time_is_drawn() {
        for (name, plot) in simulated::results(simulated::nested()).plots() {
            assert!(plot.contains("software emulation"), "{name}");
            for unit in [" ns<", " us<", " ms<", "M/s<"] {
                assert!(!plot.contains(unit), "{name}: {unit}");
            }
        }
    }

    #[test]
    fn without_figures_there_are_no_plots() {
        let mut pool = simulated::small();
        pool.measurements.retain(|of| of.measure.kind == "memory");
        assert!(simulated::results(pool).plots().is_empty());
    }
}
