//! Histograms with buckets of powers of two, as the terminal shows them, but upright.

use maud::{Markup, html};

use super::shown;
use crate::report::evidence::{Evidence, Group, Measured, Times};
use crate::summary::duration;

/// Of fewer there is nothing to be seen in a histogram.
const LEAST_SAMPLES: u64 = 4;
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 74.0;
/// Below the columns, for the axis.
const FOOT: f64 = 18.0;
/// Above them, for the greatest count.
const HEAD: f64 = 14.0;

pub(super) fn section(evidence: &Evidence) -> Markup {
    if evidence.measured.is_empty() {
        return html! {};
    }
    let groups = [
        (Group::GracePeriods, "Grace periods, by who waited"),
        (Group::Parts, "Parts of adding and removing, from the guest's own trace"),
        (Group::Whole, "From asking to the end, by the host's clock"),
    ];
    html! {
        section aria-labelledby="times" {
            h2 #times { "Times" }
            @for (group, title) in groups {
                @let of_group = || evidence.measured.iter().filter(move |measured| measured.group == group);
                @let (rare, often): (Vec<&Measured>, Vec<&Measured>) = of_group().partition(|of| of.times.n < LEAST_SAMPLES);
                @if of_group().next().is_some() { h3 { (title) } }
                @if !often.is_empty() { div.charts { @for measured in often { (figure(measured)) } } }
                @if !rare.is_empty() { (few(&rare)) }
            }
            @if evidence.lost_events > 0 {
                p.note { (evidence.lost_events) " trace events were lost: the parts lack them." }
            }
        }
    }
}

/// What was measured too seldom to have a distribution.
fn few(rare: &[&Measured]) -> Markup {
    html! {
        ul.few { @for measured in rare { li { (shown(&measured.what)) ": " span.dim { (numbers(&measured.times)) } } } }
    }
}

fn figure(measured: &Measured) -> Markup {
    html! {
        figure {
            figcaption { (shown(&measured.what)) span.dim { (numbers(&measured.times)) } }
            (draw(&measured.times, &measured.what))
        }
    }
}

fn numbers(times: &Times) -> String {
    // A number and its unit stay together.
    let duration = |ns: u64| duration(ns).replace(' ', "\u{a0}");
    match times.percentiles {
        _ if times.n == 1 => duration(times.max_ns),
        _ if times.n < LEAST_SAMPLES => {
            format!("n {}, {} to {}", times.n, duration(times.min_ns), duration(times.max_ns))
        }
        Some([p50, p90, p99]) => {
            let each = [("p50", p50), ("p90", p90), ("p99", p99), ("max", times.max_ns)];
            let each: Vec<String> = each.iter().map(|(name, ns)| format!("{name}\u{a0}{}", duration(*ns))).collect();
            format!("n\u{a0}{}, {}", times.n, each.join(", "))
        }
        None => format!("n {}, {} to {}", times.n, duration(times.min_ns), duration(times.max_ns)),
    }
}

/// The binary logarithm of a time; of none that of a nanosecond.
#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn log2(ns: u64) -> f64 {
    (ns.max(1) as f64).log2()
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn draw(times: &Times, what: &str) -> Markup {
    let (Some(first), Some(last)) = (times.buckets.first(), times.buckets.last()) else { return html! {} };
    // Few buckets would make broad columns: the axis has a decade at least.
    let (low, high) = (log2(first.upto_ns / 2), log2(last.upto_ns));
    let lack = (4.0 - (high - low)).max(0.0) / 2.0;
    let (low, high) = ((low - lack).max(0.0), high + lack);
    let x = |ns: u64| ((log2(ns) - low) / (high - low) * WIDTH).clamp(0.0, WIDTH);
    let most = times.buckets.iter().map(|bucket| bucket.count).max().unwrap_or(1).max(1);
    let height = |count: u64| {
        let height = count as f64 / most as f64 * HEIGHT;
        // One that is not empty is to be seen.
        if count > 0 { height.max(1.5) } else { 0.0 }
    };
    let base = HEAD + HEIGHT;
    let columns = times.buckets.iter().filter(|bucket| bucket.count > 0).map(|bucket| {
        let (left, right) = (x(bucket.upto_ns / 2), x(bucket.upto_ns));
        let (width, tall) = ((right - left - 1.0).max(1.0), height(bucket.count));
        (left, base - tall, width, tall, bucket)
    });
    let top = times.buckets.iter().rev().max_by_key(|bucket| bucket.count).map(|bucket| {
        let middle = f64::midpoint(x(bucket.upto_ns / 2), x(bucket.upto_ns));
        (middle.clamp(12.0, WIDTH - 12.0), bucket.count)
    });
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {}", base + FOOT)) role="img" aria-label=(format!("{}: {}", shown(what), numbers(times))) {
            @for (left, up, width, tall, bucket) in columns {
                rect.column x=(px(left)) y=(px(up)) width=(px(width)) height=(px(tall)) {
                    title { (bucket.count) ", above " (duration(bucket.upto_ns / 2)) " to " (duration(bucket.upto_ns)) }
                }
            }
            @if let Some((middle, count)) = top {
                text.tick x=(px(middle)) y=(px(HEAD - 4.0)) text-anchor="middle" { (count) }
            }
            line.axis x1="0" x2=(px(WIDTH)) y1=(px(base)) y2=(px(base)) {}
            @for (ns, label) in ticks(low, high) {
                line.axis x1=(px(x(ns))) x2=(px(x(ns))) y1=(px(base)) y2=(px(base + 3.0)) {}
                text.tick x=(px(x(ns).clamp(half(&label), WIDTH - half(&label)))) y=(px(base + 14.0)) text-anchor="middle" { (label) }
            }
        }
    }
}

/// Half the room that a label takes at most: a digit of the style's font is some 6 wide, an `m` some 9.
#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn half(label: &str) -> f64 {
    label.len() as f64 * 3.5
}

/// Powers of ten, as many as there is room for.
fn ticks(low: f64, high: f64) -> Vec<(u64, String)> {
    let all: Vec<u64> =
        (0..19u32).map(|power| 10u64.pow(power)).filter(|ns| (low..=high).contains(&log2(*ns))).collect();
    let every = all.len().div_ceil(7).max(1);
    all.into_iter().step_by(every).map(|ns| (ns, round(ns))).collect()
}

/// `10 us`: a power of ten.
fn round(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} us", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{} s", ns / 1_000_000_000),
    }
}

/// Pixels, to a tenth.
pub(super) fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_powers_of_ten() {
        let labels = |low: u64, high: u64| -> Vec<String> {
            ticks(log2(low), log2(high)).into_iter().map(|(_, label)| label).collect()
        };
        assert_eq!(labels(512, 1 << 24), ["1 us", "10 us", "100 us", "1 ms", "10 ms"]);
        assert_eq!(labels(1, 1 << 40), ["1 ns", "100 ns", "10 us", "1 ms", "100 ms", "10 s", "1000 s"]);
        assert!(labels(2, 8).is_empty());
    }

    #[test]
    fn pixels_are_short() {
        assert_eq!([px(1.0), px(1.26), px(-0.04)], ["1", "1.3", "-0"]);
    }
}
