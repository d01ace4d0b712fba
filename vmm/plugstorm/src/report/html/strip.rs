//! The strip of what happened around a finding, as SVG, and the same as a table.

use maud::{Markup, html};

use super::histogram::px;
use super::shown;
use crate::report::strip::{Axis, Extent, Mark, Strip, Tick, Tone, Track};
use crate::summary::{count, duration};

/// Names of tracks stand left of this.
const LEFT: f64 = 104.0;
/// What is drawn on.
const WIDTH: f64 = 1000.0;
const RIGHT: f64 = 12.0;
/// Ticks, and how long what is left out is, stand above this.
const HEAD: f64 = 42.0;
const ROW: f64 = 18.0;
const BAR: f64 = 15.0;
/// Between two tracks.
const BETWEEN: f64 = 9.0;
/// Labels below each other in a track of points.
const MOST_LABEL_ROWS: usize = 5;
/// What a letter of a label takes, rather more than less.
const LETTER: f64 = 6.1;
/// A label that has room for fewer letters says nothing.
const LEAST_LETTERS: f64 = 8.0;

/// Something that has a place.
struct Placed<'a> {
    mark: &'a Mark,
    row: usize,
    from: f64,
    to: f64,
    label: Option<Label>,
}

struct Label {
    x: f64,
    anchor: &'static str,
    text: String,
}

pub(super) fn draw(strip: &Strip, id: &str) -> Markup {
    let marks = || strip.tracks.iter().flat_map(|track| &track.marks);
    let times: Vec<u64> = marks()
        .flat_map(|mark| [mark.at_ns, mark.end_ns(strip.end_ns)])
        .chain([strip.zero.at_ns, strip.begin_ns, strip.end_ns])
        .collect();
    let Some(axis) = Axis::new(&times, WIDTH) else { return html! {} };
    let mut top = HEAD;
    let tracks: Vec<(&Track, f64, Vec<Placed<'_>>)> = strip
        .tracks
        .iter()
        .filter(|track| !track.marks.is_empty())
        .map(|track| {
            let placed = place(track, &axis, strip.end_ns);
            let rows = placed.iter().map(|placed| placed.row + 1).max().unwrap_or(1);
            let at = top;
            top += as_pixels(rows) * ROW + BETWEEN;
            (track, at, placed)
        })
        .collect();
    let zero = axis.x(strip.zero.at_ns);
    let words =
        format!("What happened around the finding, in order; 0 is {}. The table below has the same.", strip.zero.what);
    html! {
        p.kind { "Time is told from " (shown(&strip.zero.what)) "; where nothing happened it is left out." }
        div.scroll.strip tabindex="0" role="region" aria-label="Timeline" {
            svg viewBox=(format!("0 0 {} {}", LEFT + WIDTH + RIGHT, px(top))) role="img" aria-label=(shown(&words)) {
                g transform=(format!("translate({LEFT} 0)")) {
                    (scale(&axis, strip, top))
                    line.zero x1=(px(zero)) x2=(px(zero)) y1=(px(HEAD - 6.0)) y2=(px(top)) {}
                    @for (track, at, placed) in &tracks {
                        text.name x="-10" y=(px(at + 12.0)) text-anchor="end" { (track.name) }
                        line.rule x1=(px(-LEFT)) x2=(px(WIDTH)) y1=(px(at - BETWEEN / 2.0)) y2=(px(at - BETWEEN / 2.0)) {}
                        @for placed in placed { (mark(track, placed, *at)) }
                    }
                }
            }
        }
        (table(strip, id))
    }
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn as_pixels(number: usize) -> f64 {
    number as f64
}

/// What a text takes.
fn width_of(text: &str) -> f64 {
    as_pixels(text.chars().count()) * LETTER
}

/// Ticks, and what is left out.
fn scale(axis: &Axis, strip: &Strip, bottom: f64) -> Markup {
    let ticks: Vec<Tick> = axis.ticks(strip.zero.at_ns);
    html! {
        @for (from, to, ns) in axis.breaks() {
            rect.gap x=(px(from + 6.0)) y=(px(HEAD - 8.0)) width=(px(to - from - 12.0)) height=(px(bottom - HEAD + 8.0)) {}
            text.tick x=(px(f64::midpoint(from, to))) y="10" text-anchor="middle" { (duration(ns)) }
            @for x in [from + 6.0, to - 6.0] {
                path.zigzag d=(format!("M{} {} l4 3 l-8 6 l4 3", px(x), px(HEAD - 8.0))) {}
            }
        }
        @for tick in &ticks {
            line.axis x1=(px(tick.x)) x2=(px(tick.x)) y1=(px(HEAD - 10.0)) y2=(px(HEAD - 6.0)) {}
            text.tick x=(px(tick.x)) y=(px(HEAD - 14.0)) text-anchor="middle" { (from_zero(tick.ns)) }
        }
        line.axis x1="0" x2=(px(WIDTH)) y1=(px(HEAD - 6.0)) y2=(px(HEAD - 6.0)) {}
    }
}

/// `-200 ms`, `0`, `+211.05 s`: as many digits as it has, since ticks are round.
fn from_zero(ns: i64) -> String {
    let magnitude = ns.unsigned_abs();
    let units = [(1_000_000_000, 9, "s"), (1_000_000, 6, "ms"), (1_000, 3, "us")];
    let text = match units.into_iter().find(|(scale, ..)| magnitude >= *scale) {
        None => format!("{magnitude} ns"),
        Some((scale, digits, unit)) => {
            let number = format!("{}.{:0digits$}", magnitude / scale, magnitude % scale);
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
    };
    signed(ns.into(), &text)
}

/// With what it is from zero.
fn signed(ns: i128, text: &str) -> String {
    match ns {
        0 => "0".into(),
        1.. => format!("+{text}"),
        _ => format!("\u{2212}{text}"),
    }
}

fn place<'a>(track: &'a Track, axis: &Axis, end_ns: u64) -> Vec<Placed<'a>> {
    let mut placed: Vec<Placed<'a>> = Vec::new();
    // Where each row is free from.
    let mut free: Vec<f64> = Vec::new();
    let mut rows: Vec<usize> =
        track.marks.iter().filter(|mark| mark.extent != Extent::Point).map(|mark| mark.row).collect();
    rows.sort_unstable();
    rows.dedup();
    for (at, mark) in track.marks.iter().enumerate() {
        let (from, to) = (axis.x(mark.at_ns), axis.x(mark.end_ns(end_ns)));
        match mark.extent {
            Extent::Point => {
                let (row, label) = point(&mut free, from, &mark.text);
                placed.push(Placed { mark, row, from, to, label });
            }
            Extent::Until(_) | Extent::Open => {
                let row = rows.iter().position(|row| *row == mark.row).unwrap_or_default();
                let beside = |marks: &'a [Mark]| marks.iter().filter(|other| other.row == mark.row);
                let after = beside(track.marks.get(at + 1..).unwrap_or_default()).next();
                let before = beside(track.marks.get(..at).unwrap_or_default()).map(|other| other.end_ns(end_ns)).max();
                let free = (before.map_or(0.0, |ns| axis.x(ns)), after.map_or(WIDTH, |next| axis.x(next.at_ns)));
                let label = bar_label(mark, (from, to), free);
                placed.push(Placed { mark, row, from, to, label });
            }
        }
    }
    placed
}

/// The row of a point, and its label: right of it, or left of it where that is the end.
fn point(free: &mut Vec<f64>, x: f64, text: &str) -> (usize, Option<Label>) {
    let room = width_of(text) + 9.0;
    let is_right = x + room <= WIDTH;
    let from = if is_right { x - 4.0 } else { x - room };
    let row = match free.iter().position(|until| *until < from) {
        Some(row) => row,
        None if free.len() < MOST_LABEL_ROWS => {
            free.push(0.0);
            free.len() - 1
        }
        None => return (0, None),
    };
    let label = if is_right {
        Label { x: x + 7.0, anchor: "start", text: text.to_owned() }
    } else {
        Label { x: x - 7.0, anchor: "end", text: text.to_owned() }
    };
    if let Some(until) = free.get_mut(row) {
        *until = if is_right { x + room } else { x + 5.0 };
    }
    (row, Some(label))
}

/// In the bar, else right of it, else left of it, else as much of it as there is room for. `free` is what no other bar of the
/// row takes.
fn bar_label(mark: &Mark, (from, to): (f64, f64), free: (f64, f64)) -> Option<Label> {
    let ended = mark.extent != Extent::Open || mark.tone != Tone::Bad;
    let text = if ended { mark.text.clone() } else { format!("{}, not ended", mark.text) };
    let (room, inside, right, left) = (width_of(&text), to - from - 8.0, free.1 - to - 8.0, from - free.0 - 8.0);
    let at = |x: f64, anchor: &'static str, text: String| Some(Label { x, anchor, text });
    if room <= inside {
        return at(from + 5.0, "start", text);
    }
    if room <= right {
        return at(to + 5.0, "start", text);
    }
    if room <= left {
        return at(from - 5.0, "end", text);
    }
    let letters = (inside.max(right) / LETTER).floor();
    if letters < LEAST_LETTERS {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 8 and the width in letters")]
    let short: String = text.chars().take(letters as usize - 1).chain(['…']).collect();
    at(if inside >= right { from + 5.0 } else { to + 5.0 }, "start", short)
}

fn mark(track: &Track, placed: &Placed<'_>, top: f64) -> Markup {
    let y = top + as_pixels(placed.row) * ROW;
    let mark = placed.mark;
    let tone = match mark.tone {
        Tone::Plain => "",
        Tone::Asked => "asked",
        Tone::Bad => "bad",
    };
    let bar = match (mark.extent, mark.tone, track.name) {
        (Extent::Open, Tone::Bad, _) => "bar open",
        (.., "hammers") => "bar hammers",
        (.., "grace periods") => "bar grace",
        _ => "bar",
    };
    html! {
        @if mark.extent == Extent::Point {
            @if mark.tone == Tone::Plain {
                circle.dot cx=(px(placed.from)) cy=(px(y + 8.0)) r="3" { title { (mark.text) } }
            } @else {
                rect class=(tone) x=(px(placed.from - 3.5)) y=(px(y + 4.5)) width="7" height="7" { title { (mark.text) } }
            }
        } @else {
            rect class=(bar) x=(px(placed.from)) y=(px(y)) width=(px((placed.to - placed.from).max(2.0))) height=(px(BAR)) {
                title { (mark.text) }
            }
        }
        @if let Some(label) = &placed.label {
            text class=[(!tone.is_empty() && mark.extent == Extent::Point).then_some(tone)]
                x=(px(label.x)) y=(px(y + 11.5)) text-anchor=[(label.anchor != "start").then_some(label.anchor)] { (label.text) }
        }
    }
}

/// The same in words, for who cannot see it, and to copy from.
fn table(strip: &Strip, id: &str) -> Markup {
    let mut lines: Vec<(&Track, &Mark)> =
        strip.tracks.iter().flat_map(|track| track.marks.iter().map(move |mark| (track, mark))).collect();
    lines.sort_by_key(|(_, mark)| mark.at_ns);
    let when = |ns: u64| roughly_from_zero(i128::from(ns) - i128::from(strip.zero.at_ns));
    html! {
        details {
            summary { "The same as a table, " (count(lines.len() as u64, "line")) }
            div.scroll tabindex="0" role="region" aria-labelledby={ (id) "-events" } {
                table {
                    caption id={ (id) "-events" } { "Events around the finding" }
                    thead { tr { th.n scope="col" { "at" } th.n scope="col" { "for" } th scope="col" { "who" } th scope="col" { "what" } } }
                    tbody {
                        @for (track, mark) in lines {
                            tr {
                                td.n { (when(mark.at_ns)) }
                                td.n {
                                    @match mark.extent {
                                        Extent::Point => {}
                                        Extent::Until(end) => { (duration(end.saturating_sub(mark.at_ns))) }
                                        Extent::Open => { "not ended" }
                                    }
                                }
                                td { (track.name) }
                                td { (mark.text) }
                            }
                        }
                    }
                }
            }
            @if strip.left_out > 0 { p.dim { (count(strip.left_out as u64, "mark")) " left out." } }
        }
    }
}

/// To three digits.
fn roughly_from_zero(ns: i128) -> String {
    signed(ns, &duration(u64::try_from(ns.unsigned_abs()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_from_zero() {
        assert_eq!(
            [0, 200_000_000, -500_000_000, 1_500_000_000, 211_050_000_000, 40_000_000_000, -7].map(from_zero),
            ["0", "+200 ms", "\u{2212}500 ms", "+1.5 s", "+211.05 s", "+40 s", "\u{2212}7 ns"]
        );
        assert_eq!(roughly_from_zero(-1_234_567), "\u{2212}1.23 ms");
    }

    #[test]
    fn labels_do_not_meet() {
        let mut free = Vec::new();
        let rows: Vec<usize> = [0.0, 3.0, 6.0, 400.0].map(|x| point(&mut free, x, "uevent add").0).to_vec();
        assert_eq!(rows, [0, 1, 2, 0]);
        // At the end it stands on the other side.
        let (_, label) = point(&mut free, 995.0, "uevent add");
        assert_eq!(label.map(|label| label.anchor), Some("end"));
        // Without room there is none.
        let mut full = vec![f64::MAX; MOST_LABEL_ROWS];
        assert!(point(&mut full, 5.0, "uevent add").1.is_none());
    }
}
