//! A logarithmic axis.

use super::super::numbers::digits;

/// Labels of an axis at most.
const MOST_TICKS: usize = 9;

/// What an axis is labelled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    /// `10 us`.
    Time,
    /// `2x`.
    Ratio,
    /// `10 M/s`.
    Rate,
}

/// From a value to a pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    /// Decimal logarithms of its ends.
    low: f64,
    high: f64,
    /// Where these are drawn.
    from: f64,
    to: f64,
    label: Label,
}

impl Axis {
    /// An axis that holds all of these, between two pixels. None if there is none that is positive.
    pub(super) fn of(values: impl IntoIterator<Item = f64>, (from, to): (f64, f64), label: Label) -> Option<Self> {
        let logarithms = values.into_iter().filter(|value| *value > 0.0 && value.is_finite()).map(f64::log10);
        let (low, high) = logarithms.fold((f64::MAX, f64::MIN), |(low, high), of| (low.min(of), high.max(of)));
        if low > high {
            return None;
        }
        // A little room, and a factor of four at least.
        let lack = ((0.6 - (high - low)) / 2.0).max(0.04 * (high - low));
        Some(Self { low: low - lack, high: high + lack, from, to, label })
    }

    /// Where a value is drawn; what is outside, at an end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = (value.max(f64::MIN_POSITIVE).log10() - self.low) / (self.high - self.low);
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Powers of ten, and 2 and 5 times these where there is room: where they are, and what is written there.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let decades = || (self.low.floor() as i32)..=(self.high.ceil() as i32);
        let inside = |value: &f64| (self.low..=self.high).contains(&value.log10());
        let of = |times: &[f64]| -> Vec<f64> {
            let all = decades().flat_map(|power| times.iter().map(move |times| times * 10f64.powi(power)));
            all.filter(inside).collect()
        };
        let fine = of(&[1.0, 2.0, 5.0]);
        let all = if fine.len() <= MOST_TICKS { fine } else { of(&[1.0]) };
        let every = all.len().div_ceil(MOST_TICKS).max(1);
        all.into_iter().step_by(every).map(|value| (self.at(value), self.words(value))).collect()
    }

    fn words(&self, value: f64) -> String {
        let (scale, unit) = match (self.label, value) {
            (Label::Ratio, _) => (1.0, "x"),
            (Label::Time, value) if value < 1e3 => (1.0, " ns"),
            (Label::Time, value) if value < 1e6 => (1e3, " us"),
            (Label::Time, value) if value < 1e9 => (1e6, " ms"),
            (Label::Time, _) => (1e9, " s"),
            (Label::Rate, value) if value < 1e3 => (1.0, "/s"),
            (Label::Rate, value) if value < 1e6 => (1e3, " k/s"),
            (Label::Rate, _) => (1e6, " M/s"),
        };
        let text = digits(value / scale);
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        format!("{text}{unit}")
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

    fn labels(values: [f64; 2], label: Label) -> Vec<String> {
        let axis = Axis::of(values, (0.0, 100.0), label).unwrap();
        axis.ticks().into_iter().map(|(_, words)| words).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels([1e3, 2e7], Label::Time), ["1 us", "10 us", "100 us", "1 ms", "10 ms"]);
        assert_eq!(labels([0.9, 6.0], Label::Ratio), ["1x", "2x", "5x"]);
        assert_eq!(labels([3e7, 3e7], Label::Rate), ["20 M/s", "50 M/s"]);
        assert!(labels([1e-300, 1e300], Label::Ratio).len() <= MOST_TICKS);
    }

    #[test]
    fn values_lie_between_the_ends() {
        let axis = Axis::of([10.0, 1000.0, -1.0, f64::NAN], (50.0, 250.0), Label::Time).unwrap();
        assert!((axis.at(100.0) - 150.0).abs() < 1e-9);
        assert!(axis.at(10.0) > 50.0 && axis.at(1000.0) < 250.0);
        assert!((axis.at(0.0) - 50.0).abs() < 1e-9 && (axis.at(1e99) - 250.0).abs() < 1e-9);
        assert_eq!(Axis::of([0.0], (0.0, 1.0), Label::Time), None);
    }
}
