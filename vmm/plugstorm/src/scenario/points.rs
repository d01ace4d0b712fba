//! Delay points: places in our module at which a scenario widens a race.

use std::collections::HashSet;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::check::within;
use super::error::Mistake;
use super::quantity::Time;
use super::{Design, Device, Driver};

/// Points that a scenario may arm.
const MOST_POINTS: usize = 64;
/// A point's name has at most so many bytes: with its numbers, the module's own reader takes a line of 96.
const LONGEST_NAME_BYTES: usize = 63;
/// The bounds of a delay, and of how rarely one is taken: the module's (`guest/module/points.h`).
const SHORTEST_DELAY: Duration = Duration::from_micros(1);
const LONGEST_DELAY: Duration = Duration::from_secs(1);
const MOST_EVERY: u32 = 1_000_000;

/// A point that the scenario arms in every guest, before anything is plugged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// `design.place`, as `/sys/kernel/debug/plugstorm/points` lists it. Only the guest knows whether there is such a one.
    pub name: String,
    /// How long who comes there is delayed. None for a knob: it is no delay.
    pub delay: Option<Duration>,
    /// Each so manieth who comes there is.
    pub every: u32,
}

/// Points of the driver itself, which is the same for all designs, are named so.
const DRIVER: &str = "driver";

impl Point {
    /// Whether a device of this design can come to it. A variant is in its design's file, and has the points of that.
    #[must_use]
    pub fn concerns(&self, design: Design) -> bool {
        let of = self.name.split('.').next().unwrap_or_default();
        of == DRIVER || of == design.name() || of == design.family().name()
    }
}

/// A `[[point]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct PointTable {
    name: Spanned<String>,
    delay: Option<Spanned<Time>>,
    every: Option<Spanned<u64>>,
}

pub(super) fn check(tables: &[PointTable], devices: &[Device], mistakes: &mut Vec<Mistake>) -> Vec<Point> {
    let ours = devices.iter().any(|device| matches!(device.driver, Driver::Plugstorm(_)));
    if let (Some(table), false) = (tables.first(), ours) {
        mistakes.push(Mistake::new(
            table.name.span(),
            "only our module has delay points, and no device here is driven by it",
            "give a device driver = \"plugstorm\", or leave the [[point]] tables out",
        ));
    }
    if let Some(table) = tables.get(MOST_POINTS) {
        mistakes.push(Mistake::new(
            table.name.span(),
            format!("this is point {}, and {MOST_POINTS} can be armed", MOST_POINTS + 1),
            "leave some out",
        ));
    }
    let mut seen = HashSet::new();
    tables
        .iter()
        .map(|table| {
            check_name(&table.name, mistakes);
            if !seen.insert(table.name.get_ref()) {
                mistakes.push(Mistake::new(
                    table.name.span(),
                    format!("the point `{}` is armed already", table.name.get_ref().escape_debug()),
                    "name each point once",
                ));
            }
            let every = within(table.every.as_ref(), 1, 1..=u64::from(MOST_EVERY), "every", mistakes);
            Point {
                name: table.name.get_ref().clone(),
                delay: table.delay.as_ref().map(|delay| check_delay(delay, mistakes)),
                every: u32::try_from(every).unwrap_or(MOST_EVERY),
            }
        })
        .collect()
}

/// What it becomes part of is a line for the kernel.
fn check_name(name: &Spanned<String>, mistakes: &mut Vec<Mistake>) {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let text = name.get_ref();
    let sound = text.len() <= LONGEST_NAME_BYTES && text.split_once('.').is_some_and(|(a, b)| is_word(a) && is_word(b));
    if !sound {
        mistakes.push(Mistake::new(
            name.span(),
            format!("`{}` cannot be the name of a point", text.escape_debug()),
            "points are named design.place, such as \"shared-handle.index-read\"; guest/module/README.md lists them",
        ));
    }
}

fn check_delay(delay: &Spanned<Time>, mistakes: &mut Vec<Mistake>) -> Duration {
    let time = delay.get_ref().0;
    if !(SHORTEST_DELAY..=LONGEST_DELAY).contains(&time) {
        mistakes.push(Mistake::new(delay.span(), "the point's `delay` is out of bounds", "give 1us to 1s"));
    }
    time
}

#[cfg(test)]
mod tests {
    use super::super::{Scenario, ScenarioError, parse};
    use super::*;

    const POINTED: &str = r#"
[[device]]
name = "gpio"
driver = "plugstorm"
design = "shared-handle"
[[point]]
name = "shared-handle.index-read"
delay = "200us"
every = 7
[[point]]
name = "driver.revoke-twice"
[[step]]
do = "add"
device = "gpio"
[[step]]
do = "remove"
device = "gpio"
how = "surprise"
"#;

    fn changed(from: &str, to: &str) -> Result<Scenario, ScenarioError> {
        assert!(POINTED.contains(from), "{from}");
        parse(&POINTED.replacen(from, to, 1), "storm.toml", "storm")
    }

    #[test]
    fn a_point_concerns_its_own_design_and_its_variants() {
        let concerns = |name: &str, design| Point { name: name.into(), delay: None, every: 1 }.concerns(design);
        assert!(concerns("by-value.cleared", Design::ByValue) && concerns("by-value.cleared", Design::ByValueCopy));
        assert!(concerns("get-put-embedded.before-free", Design::GetPutEmbedded));
        assert!(!concerns("get-put-embedded.before-free", Design::GetPut));
        assert!(!concerns("get-put.before-put", Design::ByValue) && !concerns("rwsem.locked", Design::PercpuRwsem));
        assert!(Design::ALL.into_iter().all(|design| concerns("driver.revoke-twice", design)));
    }

    #[test]
    fn points_are_taken_as_they_are_written() {
        let points = changed("every = 7", "every = 7").unwrap().points;
        let index =
            Point { name: "shared-handle.index-read".into(), delay: Some(Duration::from_micros(200)), every: 7 };
        assert_eq!(points, [index, Point { name: "driver.revoke-twice".into(), delay: None, every: 1 }]);
    }

    #[test]
    fn each_mistake_is_named() {
        for (from, to, expected) in [
            ("shared-handle.index-read", "index-read", "`index-read` cannot be the name of a point"),
            ("shared-handle.index-read", "a.b 5 1\\n", "cannot be the name of a point"),
            ("driver.revoke-twice", "shared-handle.index-read", "is armed already"),
            ("200us", "0us", "`delay` is out of bounds"),
            ("200us", "1001ms", "`delay` is out of bounds"),
            ("200us", "200", "has no unit"),
            ("every = 7", "every = 0", "`every` is 0"),
            ("every = 7", "evry = 7", "`evry` is not known"),
            ("driver = \"plugstorm\"\ndesign = \"shared-handle\"", "driver = \"gpio-virtio\"", "only our module"),
        ] {
            let ScenarioError::Wrong(wrong) = changed(from, to).unwrap_err() else { panic!("{to}") };
            assert!(wrong.mistakes.iter().any(|mistake| mistake.message.contains(expected)), "{to}: {wrong:?}");
        }
    }
}
