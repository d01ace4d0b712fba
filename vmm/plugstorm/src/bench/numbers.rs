//! Numbers for people: three digits, and a unit.

use plugstorm_observe::statistics::Interval;

use super::series::Unit;

/// Digits after the point that any number may have.
const MOST_AFTER: usize = 12;

/// Three digits; of what is less than a tenth, two.
pub(super) fn digits(value: f64) -> String {
    let size = value.abs();
    let after = match size {
        size if size > 0.0 && size < 0.0995 => ((1.0 - size.log10().floor()) as usize).min(MOST_AFTER),
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.after$}")
}

/// Nanoseconds with the unit that fits; bytes and instructions as they are.
pub(super) fn quantity(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ns => {
            let (scale, name) = scale(value);
            format!("{} {name}", digits(value / scale))
        }
        Unit::Bytes => format!("{} B", plain(value)),
        Unit::Instructions => plain(value),
    }
}

/// `21.3 us (20.9-21.8)`: a value, and where it lies, in one unit.
pub(super) fn with_interval(value: f64, interval: Option<Interval>, unit: Unit) -> String {
    let text = quantity(value, unit);
    let Some(Interval { low, high }) = interval else { return text };
    let scale = if unit == Unit::Ns { scale(value).0 } else { 1.0 };
    let end = |of: f64| if unit == Unit::Ns { digits(of / scale) } else { plain(of) };
    if low == high { text } else { format!("{text} ({}-{})", end(low), end(high)) }
}

/// A multiple: `1.25`, and where it lies.
pub(super) fn multiple(value: f64, interval: Option<Interval>) -> String {
    let text = digits(value);
    match interval {
        Some(Interval { low, high }) if low != high => format!("{text} ({}-{})", digits(low), digits(high)),
        _ => text,
    }
}

/// What a nanosecond is of the unit that fits.
fn scale(ns: f64) -> (f64, &'static str) {
    // What would be written as 1000 is 1.00 of the next.
    match ns.abs() {
        size if size < 999.5 => (1.0, "ns"),
        size if size < 999.5e3 => (1e3, "us"),
        size if size < 999.5e6 => (1e6, "ms"),
        _ => (1e9, "s"),
    }
}

/// A whole number where it is one.
fn plain(value: f64) -> String {
    if (value - value.round()).abs() < 0.005 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// `12 %` of 1.12; above 2 `a factor of 2.40`.
pub(super) fn percent(ratio: f64) -> String {
    if ratio >= 2.0 { format!("a factor of {}", digits(ratio)) } else { format!("{} %", change(ratio)) }
}

/// The same, of what would have been seen: never less than it is.
pub(super) fn at_most(ratio: f64) -> String {
    if ratio >= 2.0 { percent(ratio) } else { format!("{:.0} %", ((ratio - 1.0) * 100.0).ceil().max(1.0)) }
}

/// How much, either way, in percent of the base: a digit after the point where it is small.
fn change(ratio: f64) -> String {
    let percent = (ratio - 1.0).abs() * 100.0;
    if percent < 9.95 && (percent - percent.round()).abs() >= 0.05 {
        format!("{percent:.1}")
    } else {
        format!("{percent:.0}")
    }
}

/// `by 5 % (3 to 7 %; 1.00 us before, 1.05 us now)`.
pub(super) fn by(ratio: f64, interval: Option<Interval>, values: &str) -> String {
    let ends = match interval {
        // It never varies.
        Some(Interval { low, high }) if low == high => String::new(),
        // From the smaller change to the greater.
        Some(Interval { low, high }) if ratio < 1.0 => format!("{} to {} %; ", change(high), change(low)),
        Some(Interval { low, high }) if ratio >= 2.0 => format!("{} to {}; ", digits(low), digits(high)),
        Some(Interval { low, high }) => format!("{} to {} %; ", change(low), change(high)),
        None => String::new(),
    };
    format!("by {} ({ends}{values})", percent(ratio))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        let times = [0.0, 5.321, 21.34, 213.4, 999.4, 999.6, 21_340.0, 2.5e7, 3.2e9];
        assert_eq!(
            times.map(|ns| quantity(ns, Unit::Ns)),
            ["0.00 ns", "5.32 ns", "21.3 ns", "213 ns", "999 ns", "1.00 us", "21.3 us", "25.0 ms", "3.20 s"]
        );
        assert_eq!([quantity(272.0, Unit::Bytes), quantity(272.25, Unit::Bytes)], ["272 B", "272.2 B"]);
        assert_eq!(quantity(41.0, Unit::Instructions), "41");
        let interval = Some(Interval { low: 20_900.0, high: 21_800.0 });
        assert_eq!(with_interval(21_340.0, interval, Unit::Ns), "21.3 us (20.9-21.8)");
        assert_eq!(multiple(1.254, Some(Interval { low: 1.2, high: 1.3 })), "1.25 (1.20-1.30)");
    }

    #[test]
    fn what_is_small_is_not_nothing() {
        assert_eq!(
            [0.0, 0.1, 0.051, 0.000_07, 1e-300].map(digits),
            ["0.00", "0.10", "0.051", "0.000070", "0.000000000000"]
        );
    }

    #[test]
    fn changes_are_told_as_percent() {
        assert_eq!(super::by(1.091, Some(Interval { low: 1.091, high: 1.091 }), "x"), "by 9.1 % (x)");
        let by = |ratio: f64, low: f64, high: f64| by(ratio, Some(Interval { low, high }), "x");
        assert_eq!(by(1.05, 1.031, 1.07), "by 5 % (3.1 to 7 %; x)");
        assert_eq!(by(0.8, 0.75, 0.9), "by 20 % (10 to 25 %; x)");
        assert_eq!(by(2.4, 2.2, 2.6), "by a factor of 2.40 (2.20 to 2.60; x)");
        assert_eq!([at_most(1.0), at_most(1.021), at_most(3.0)], ["1 %", "3 %", "a factor of 3.00"]);
        assert_eq!(percent(1.1), "10 %");
    }
}
