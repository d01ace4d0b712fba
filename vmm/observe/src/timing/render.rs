//! A histogram as plain text, for a terminal.

use std::fmt::Write as _;

use super::summary::Summary;

/// The width of the longest bar, in columns.
const BAR_COLUMNS: u64 = 40;

/// Renders a summary: a line of percentiles, a line for each bucket with a bar, and a line that says so where the times
/// have more than one mode. ASCII only; every line ends in a line feed.
#[must_use]
pub fn render_histogram(summary: &Summary) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "n {}  min {}  p50 {}  p90 {}  p99 {}  max {}",
        summary.n,
        duration(summary.min_ns),
        duration(summary.p50_ns),
        duration(summary.p90_ns),
        duration(summary.p99_ns),
        duration(summary.max_ns)
    );
    let most = summary.buckets.iter().map(|bucket| bucket.count).max().unwrap_or(0).max(1);
    let digits = most.to_string().len();
    for bucket in summary.buckets.iter().take(64) {
        let columns = u128::from(bucket.count) * u128::from(BAR_COLUMNS) / u128::from(most);
        // A bucket that is not empty shows at least a mark.
        let bar = match usize::try_from(columns).unwrap_or(0) {
            0 if bucket.count > 0 => ".".to_owned(),
            columns => "#".repeat(columns),
        };
        let line = format!("<= {:>9}  {:>digits$}  {bar}", duration(bucket.upto_ns), bucket.count);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let modes = summary.modes();
    if modes.len() > 1 {
        let each: Vec<_> = modes
            .iter()
            .map(|mode| format!("{} from {} to {}", mode.count, duration(mode.above_ns), duration(mode.upto_ns)))
            .collect();
        let _ = writeln!(text, "{} modes: {}", modes.len(), each.join("; "));
    }
    text
}

/// Nanoseconds to three digits with the unit that fits.
pub(crate) fn duration(ns: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    for (scale, unit) in UNITS {
        if ns >= scale {
            let (whole, part) = (ns / scale, ns % scale);
            return match whole {
                0..=9 => format!("{whole}.{:02} {unit}", part * 100 / scale),
                10..=99 => format!("{whole}.{} {unit}", part * 10 / scale),
                _ => format!("{whole} {unit}"),
            };
        }
    }
    format!("{ns} ns")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_modes_are_told() {
        let fast = (0..300).map(|index| 7_000 + index * 40);
        let slow = (0..100).map(|index| 15_000_000 + index * 90_000);
        let summary = Summary::of(fast.chain(slow).chain([1_200_000_000])).unwrap();
        insta::assert_snapshot!(render_histogram(&summary));
    }

    #[test]
    fn durations_have_three_digits() {
        let texts = [0, 999, 1_000, 12_345, 999_999, 1_234_567, 61_000_000_000].map(duration);
        assert_eq!(texts, ["0 ns", "999 ns", "1.00 us", "12.3 us", "999 us", "1.23 ms", "61.0 s"]);
    }
}
