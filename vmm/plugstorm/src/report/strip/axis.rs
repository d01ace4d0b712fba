//! Where a time is drawn.

/// What is left out is drawn this wide, in pixels.
const BREAK_WIDTH: f64 = 46.0;
/// Stretches that are left out, at most.
const MOST_BREAKS: usize = 4;
/// Stretches that are drawn at least: with fewer there is nothing to make room for.
const LEAST_DRAWN: usize = 3;
/// Ticks are as far apart as this at least, in pixels.
const TICK_DISTANCE: f64 = 76.0;

/// From times to pixels: by scale, but for stretches in which nothing happens.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct Axis {
    /// Of time that is drawn: from, to, and where that begins. In order; between two of them something is left out.
    pieces: Vec<Piece>,
    /// Pixels for a nanosecond.
    scale: f64,
    width: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Piece {
    from_ns: u64,
    to_ns: u64,
    x: f64,
}

/// A mark of the axis.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct Tick {
    /// Where.
    pub(in crate::report) x: f64,
    /// Before (negative) or after zero.
    pub(in crate::report) ns: i64,
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn pixels(ns: u64) -> f64 {
    ns as f64
}

impl Axis {
    /// An axis of so many pixels, for things that happen at these times. None if they are fewer than two different ones.
    pub(in crate::report) fn new(times_ns: &[u64], width: f64) -> Option<Self> {
        let mut times = times_ns.to_vec();
        times.sort_unstable();
        times.dedup();
        let (first, last) = (*times.first()?, *times.last()?);
        if first == last {
            return None;
        }
        let breaks = breaks(&times);
        let drawn = pixels(last - first) - breaks.iter().map(|(from, to)| pixels(to - from)).sum::<f64>();
        let left = width - BREAK_WIDTH * pixels(breaks.len() as u64);
        let scale = left / drawn.max(1.0);
        let mut pieces = Vec::new();
        let (mut from_ns, mut x) = (first, 0.0);
        for (begin, end) in breaks {
            pieces.push(Piece { from_ns, to_ns: begin, x });
            x += pixels(begin - from_ns) * scale + BREAK_WIDTH;
            from_ns = end;
        }
        pieces.push(Piece { from_ns, to_ns: last, x });
        Some(Self { pieces, scale, width })
    }

    /// Where a time is. One before the first is at the first, and so on.
    pub(in crate::report) fn x(&self, at_ns: u64) -> f64 {
        let Some(piece) = self.pieces.iter().rfind(|piece| piece.from_ns <= at_ns) else { return 0.0 };
        let end = piece.x + pixels(piece.to_ns - piece.from_ns) * self.scale;
        let x = piece.x + pixels(at_ns - piece.from_ns) * self.scale;
        // In what is left out: where that begins.
        x.min(end).min(self.width)
    }

    /// What is left out: from and to in pixels, and how long it is.
    pub(in crate::report) fn breaks(&self) -> impl Iterator<Item = (f64, f64, u64)> {
        self.pieces.windows(2).filter_map(|pair| match pair {
            [one, next] => Some((self.x(one.to_ns), next.x, next.from_ns - one.to_ns)),
            _ => None,
        })
    }

    /// Round times, told from zero, as many as there is room for.
    pub(in crate::report) fn ticks(&self, zero_ns: u64) -> Vec<Tick> {
        let step = step(TICK_DISTANCE / self.scale);
        let mut ticks: Vec<Tick> = Vec::new();
        for piece in &self.pieces {
            let from = i128::from(piece.from_ns) - i128::from(zero_ns);
            let to = i128::from(piece.to_ns) - i128::from(zero_ns);
            let mut at = from.div_euclid(step) * step;
            if at < from {
                at += step;
            }
            while at <= to {
                let absolute = u64::try_from(at + i128::from(zero_ns)).unwrap_or(0);
                let x = self.x(absolute);
                // Behind what is left out the next one may be near.
                if ticks.last().is_none_or(|last| x - last.x >= TICK_DISTANCE * 0.7) {
                    ticks.push(Tick { x, ns: i64::try_from(at).unwrap_or(0) });
                }
                at += step;
            }
        }
        ticks
    }
}

/// Stretches without anything that are each as long as all that is shorter together: as many as leave something to look at.
fn breaks(times: &[u64]) -> Vec<(u64, u64)> {
    let mut gaps: Vec<(u64, u64)> = times.windows(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect();
    gaps.sort_by_key(|(from, to)| std::cmp::Reverse(to - from));
    // What is drawn if this many are left out.
    let mut drawn = gaps.iter().fold(0u64, |sum, (from, to)| sum.saturating_add(to - from));
    let mut broken = 0;
    for (number, (from, to)) in (1..).zip(gaps.iter().take(MOST_BREAKS.min(gaps.len().saturating_sub(LEAST_DRAWN)))) {
        drawn = drawn.saturating_sub(to - from);
        if to - from >= drawn {
            broken = number;
        }
    }
    gaps.truncate(broken);
    gaps.sort_unstable();
    gaps
}

/// The smallest of 1, 2, 5 × 10^n that is not smaller.
fn step(least_ns: f64) -> i128 {
    let mut step: i128 = 1;
    for factor in [2, 5, 2].into_iter().cycle() {
        #[expect(clippy::cast_precision_loss, reason = "to compare")]
        if step as f64 >= least_ns || step >= 100_000_000_000_000_000_000 {
            break;
        }
        step = match factor {
            // 1, 2, 5, 10.
            5 => step / 2 * 5,
            _ => step * 2,
        };
    }
    step
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_long_wait_is_left_out() {
        let axis = Axis::new(&[0, 20 * MS, 50 * MS, 100 * MS, 12_100 * MS, 12_150 * MS], 800.0).unwrap();
        let breaks: Vec<_> = axis.breaks().collect();
        assert_eq!(breaks.len(), 1);
        let (from, to, ns) = breaks[0];
        assert_eq!((ns, to - from), (12_000 * MS, BREAK_WIDTH));
        assert!((axis.x(100 * MS) - from).abs() < 1e-9 && (axis.x(12_100 * MS) - to).abs() < 1e-9);
        assert!((axis.x(5_000 * MS) - from).abs() < 1e-9);
        assert!((axis.x(12_150 * MS) - 800.0).abs() < 1e-6);
        assert!((axis.x(99_999 * MS) - 800.0).abs() < 1e-6);
    }

    #[test]
    fn two_waits_of_one_length_are_both_left_out() {
        let axis = Axis::new(&[0, 20 * MS, 50 * MS, 6_050 * MS, 6_060 * MS, 12_000 * MS, 12_050 * MS], 800.0).unwrap();
        assert_eq!(axis.breaks().map(|(.., ns)| ns / MS).collect::<Vec<_>>(), [6_000, 5_940]);
    }

    #[test]
    fn ticks_are_round_and_told_from_zero() {
        let axis = Axis::new(&[0, 100 * MS, 300 * MS, 520 * MS, 1000 * MS], 800.0).unwrap();
        let ticks: Vec<i64> = axis.ticks(200 * MS).iter().map(|tick| tick.ns / 1_000_000).collect();
        assert_eq!(ticks, [-200, -100, 0, 100, 200, 300, 400, 500, 600, 700, 800]);
    }

    #[test]
    fn steps_are_1_2_5() {
        let steps = [0.3, 1.0, 1.5, 3.0, 6.0, 11.0, 21.0, 80_000.0].map(step);
        assert_eq!(steps, [1, 1, 2, 5, 10, 20, 50, 100_000]);
    }

    #[test]
    fn there_is_no_axis_of_one_time() {
        assert_eq!((Axis::new(&[], 800.0), Axis::new(&[5, 5], 800.0)), (None, None));
    }

    proptest! {
        #[test]
        fn later_is_never_further_left_and_all_is_inside(
            times in prop::collection::vec(any::<u64>(), 2..40), zero in any::<u64>(),
        ) {
            let mut times = times;
            let axis = Axis::new(&times, 800.0);
            times.sort_unstable();
            if let Some(axis) = axis {
                let places: Vec<f64> = times.iter().map(|at| axis.x(*at)).collect();
                prop_assert!(places.windows(2).all(|pair| pair[0] <= pair[1] + 1e-6));
                prop_assert!(places.iter().all(|x| (-1e-6..=800.0 + 1e-6).contains(x)));
                prop_assert!(axis.ticks(zero).len() < 40);
                prop_assert!(axis.breaks().count() <= MOST_BREAKS);
            }
        }
    }
}
