//! Durations and sizes as people write them.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

/// A pause between two bounds; the seed decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// The shortest.
    pub least: Duration,
    /// The longest.
    pub greatest: Duration,
}

impl Pause {
    /// No pause.
    pub const NONE: Self = Self { least: Duration::ZERO, greatest: Duration::ZERO };
}

/// Reads `30s`, `20ms`, `500us`, `10ns`, `2min`.
///
/// # Errors
/// One sentence that says what was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let unit_ns: u64 = match unit {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "min" => 60_000_000_000,
        "" => return Err(format!("the duration `{text}` has no unit: write ns, us, ms, s or min, such as `{text}ms`")),
        _ => return Err(format!("`{unit}` is no unit of time: write ns, us, ms, s or min, such as `{number}ms`")),
    };
    let ns = number.checked_mul(unit_ns).filter(|&ns| ns <= 24 * 3_600_000_000_000);
    ns.map(Duration::from_nanos).ok_or_else(|| format!("the duration `{text}` is more than a day"))
}

/// Reads `512MiB`, `1GiB`, and `512M`, `1G` for the same; the value in bytes.
///
/// # Errors
/// One sentence that says what was expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "KiB" | "K" => 10,
        "MiB" | "M" => 20,
        "GiB" | "G" => 30,
        "" => return Err(format!("the size `{text}` has no unit: write KiB, MiB or GiB, such as `{text}MiB`")),
        _ => return Err(format!("`{unit}` is no unit of memory here: write KiB, MiB or GiB, such as `{number}MiB`")),
    };
    number.checked_mul(1 << shift).ok_or_else(|| format!("the size `{text}` is out of all bounds"))
}

fn split(text: &str) -> Result<(u64, &str), String> {
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let number = number.parse().map_err(|_| {
        format!("`{text}` does not begin with a whole number: write a number and a unit, such as `20ms`")
    })?;
    Ok((number, unit.trim()))
}

/// A duration in a scenario.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time(pub(super) Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Text("a duration in quotes, such as \"20ms\"", |text| parse_duration(text).map(Time)))
    }
}

/// A size in a scenario, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size(pub(super) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text("a size in quotes, such as \"512MiB\"", |text| parse_size(text).map(Size)))
    }
}

/// A value written as text, with what to expect and how to read it.
struct Text<T>(&'static str, fn(&str) -> Result<T, String>);

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Pause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PauseVisitor)
    }
}

struct PauseVisitor;

impl<'de> Visitor<'de> for PauseVisitor {
    type Value = Pause;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration, such as \"5ms\", or its two bounds, such as [\"1ms\", \"20ms\"]")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Pause, E> {
        let pause = parse_duration(text).map_err(E::custom)?;
        Ok(Pause { least: pause, greatest: pause })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bounds: A) -> Result<Pause, A::Error> {
        let (Some(Time(least)), Some(Time(greatest)), None) =
            (bounds.next_element()?, bounds.next_element()?, bounds.next_element::<Time>()?)
        else {
            return Err(A::Error::custom("a pause has one value or two bounds, such as [\"1ms\", \"20ms\"]"));
        };
        if least > greatest {
            return Err(A::Error::custom("the first bound of a pause is greater than the second: change their order"));
        }
        Ok(Pause { least, greatest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("2min"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("0us"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("20 ms"), Ok(Duration::from_millis(20)));
        for wrong in ["", "s", "3", "3 sec", "-1s", "1.5s", "99999999999999999999s", "9999999999min"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("1G"), Ok(1 << 30));
        for wrong in ["512", "512MB", "much", "99999999999GiB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
