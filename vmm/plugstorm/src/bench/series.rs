//! What has one distribution: a measure, or a part of one.

use std::collections::BTreeMap;

use plugstorm_observe::statistics::Values;
use serde::Serialize;

use super::model::{BOOT, Measure, Measurement, Side};
use super::pool::Pool;
use super::surprise::SURPRISE;

/// The threads of `allocate`, in their order (guest/module/bench.h).
const LIFE: [&str; 4] = ["init", "open", "close", "destroy"];
/// Those of `surprise`: when a call was told that the device had gone, and when it had gone from its bus.
const REMOVAL: [&str; 2] = ["told", "gone"];
/// The note of `instructions`.
const LOCKED: &str = "locked";

/// A measure without the sizes of the measurement itself, and which part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Series {
    /// What was measured; its settings are without `rounds` and `loops`.
    pub measure: Measure,
    /// `init`, `open`, `close` or `destroy` of `allocate`; `told` or `gone` of `surprise`; `locked` of `instructions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<&'static str>,
}

/// What values are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Nanoseconds of an operation.
    Ns,
    /// Bytes of an object.
    Bytes,
    /// Instructions of an operation.
    Instructions,
}

impl Unit {
    /// Whether it is of a clock. Others hold under software emulation too.
    #[must_use]
    pub fn is_time(self) -> bool {
        self == Self::Ns
    }
}

impl Series {
    /// Of a whole measure.
    pub(super) fn of(measure: &Measure) -> Self {
        Self::new(measure, None)
    }

    fn new(measure: &Measure, part: Option<&'static str>) -> Self {
        let mut measure = measure.clone();
        measure.settings.retain(|key, _| !["rounds", "loops", "nruns"].contains(&key.as_str()));
        Self { measure, part }
    }

    /// Its name in files that others read: [`Measure::name`], and the part.
    #[must_use]
    pub fn name(&self) -> String {
        let part = self.part.map(|part| format!("/{part}")).unwrap_or_default();
        format!("{}{part}", self.measure.name())
    }

    /// The same without the design.
    #[must_use]
    pub fn cost(&self) -> Self {
        let measure = Measure { design: None, ..self.measure.clone() };
        Self { measure, part: self.part }
    }

    /// The same of another design.
    #[must_use]
    pub fn of_design(&self, design: &str) -> Self {
        let measure = Measure { design: Some(design.to_owned()), ..self.measure.clone() };
        Self { measure, part: self.part }
    }

    /// What its values are in.
    #[must_use]
    pub fn unit(&self) -> Unit {
        match self.measure.kind.as_str() {
            "memory" => Unit::Bytes,
            "instructions" => Unit::Instructions,
            _ => Unit::Ns,
        }
    }

    /// Whether several threads do it at once, so that there is something like throughput.
    #[must_use]
    pub fn has_throughput(&self) -> bool {
        ["access", "nothing", "primitive"].contains(&self.measure.kind.as_str())
    }

    /// A setting; nothing where it has none of this name.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.measure.settings.get(key).map(String::as_str)
    }
}

/// What one boot gave of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Boot {
    /// Its number.
    pub boot: u32,
    /// Of one operation each.
    pub values: Values,
    /// Operations a second of all threads together, the median over rounds.
    pub throughput: Option<f64>,
}

/// What a side's boots gave of a series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OfSide {
    /// By number.
    pub boots: Vec<Boot>,
    /// Why a boot gave nothing, by its number.
    pub errors: BTreeMap<u32, String>,
}

/// A pool's samples by series and side.
pub(super) fn collect(pool: &Pool) -> BTreeMap<Series, BTreeMap<Side, OfSide>> {
    // The same twice in a boot is one.
    let mut by_boot: BTreeMap<(Series, Side, u32), Vec<&Measurement>> = BTreeMap::new();
    let mut collected: BTreeMap<Series, BTreeMap<Side, OfSide>> = BTreeMap::new();
    for measurement in &pool.measurements {
        for part in parts(measurement) {
            let series = Series::new(&measurement.measure, part);
            by_boot.entry((series, measurement.side, measurement.boot)).or_default().push(measurement);
        }
    }
    for ((series, side, boot), measurements) in by_boot {
        let values = Values::of(measurements.iter().flat_map(|of| values(of, series.part)));
        let throughput = series.has_throughput().then(|| throughput(&measurements)).flatten();
        let error = measurements.iter().find_map(|of| of.error.clone());
        let of_side = collected.entry(series).or_default().entry(side).or_default();
        match values {
            Some(values) => of_side.boots.push(Boot { boot, values, throughput }),
            None => {
                let error = error.unwrap_or_else(|| "it gave no samples".to_owned());
                of_side.errors.insert(boot, error);
            }
        }
    }
    collected
}

/// Measures whose threads are different things.
fn of_threads(kind: &str) -> &'static [&'static str] {
    match kind {
        "allocate" => &LIFE,
        SURPRISE => &REMOVAL,
        _ => &[],
    }
}

fn parts(measurement: &Measurement) -> Vec<Option<&'static str>> {
    match measurement.measure.kind.as_str() {
        kind if !of_threads(kind).is_empty() => of_threads(kind).iter().copied().map(Some).collect(),
        "instructions" if measurement.notes.contains_key(LOCKED) => vec![None, Some(LOCKED)],
        _ => vec![None],
    }
}

fn values(measurement: &Measurement, part: Option<&'static str>) -> Vec<f64> {
    if part == Some(LOCKED) {
        let locked = measurement.notes.get(LOCKED).and_then(|note| note.parse::<u32>().ok());
        return locked.map(f64::from).into_iter().collect();
    }
    let threads = of_threads(&measurement.measure.kind);
    let thread = part.and_then(|part| threads.iter().position(|name| *name == part));
    let is_of = |of: u32| thread.is_none_or(|thread| usize::try_from(of) == Ok(thread));
    measurement.samples.iter().filter(|sample| is_of(sample.thread)).map(|sample| sample.each()).collect()
}

/// Of each round, whose threads begin together, operations a second of each thread, added up.
fn throughput(measurements: &[&Measurement]) -> Option<f64> {
    let mut rounds: BTreeMap<(usize, u32), f64> = BTreeMap::new();
    for (at, measurement) in measurements.iter().enumerate() {
        for sample in &measurement.samples {
            *rounds.entry((at, sample.round)).or_default() += 1e9 / sample.each();
        }
    }
    Some(Values::of(rounds.into_values())?.median())
}

/// Whether it is the boot itself.
pub(super) fn is_boot(series: &Series) -> bool {
    series.measure.kind == BOOT
}

#[cfg(test)]
mod tests {
    use super::super::model::Sample;
    use super::super::simulated;
    use super::*;

    fn pool(measurements: Vec<Measurement>) -> Pool {
        Pool { measurements, ..simulated::small() }
    }

    fn measurement(kind: &str, samples: &[(u32, u32, u64, u64)]) -> Measurement {
        let settings = [("rounds", "2"), ("threads", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let measure = Measure { kind: kind.into(), design: Some("rwsem".into()), settings: settings.into() };
        let samples = samples.iter().copied().map(Sample::from).collect();
        Measurement { boot: 4, side: Side::B, measure, samples, notes: BTreeMap::new(), error: None }
    }

    #[test]
    fn an_allocation_is_four_things() {
        let one = measurement("allocate", &[(0, 0, 100, 10), (0, 1, 200, 10), (0, 3, 400, 10), (1, 0, 300, 10)]);
        let collected = collect(&pool(vec![one]));
        let names: Vec<String> = collected.keys().map(Series::name).collect();
        let name = |part: &str| format!("allocate/rwsem/threads=2/{part}");
        assert_eq!(names, ["close", "destroy", "init", "open"].map(name));
        let init = &collected[collected.keys().nth(2).unwrap()][&Side::B];
        assert_eq!(init.boots[0].values.as_slice(), [10.0, 30.0]);
        let close = &collected[collected.keys().next().unwrap()][&Side::B];
        assert_eq!(close.errors[&4], "it gave no samples");
    }

    #[test]
    fn threads_of_a_round_add_up() {
        // 10 and 20 ns a pair: 100 and 50 millions a second. The other round: twice as slow.
        let one = measurement("access", &[(0, 0, 100, 10), (0, 1, 200, 10), (1, 0, 200, 10), (1, 1, 400, 10)]);
        let collected = collect(&pool(vec![one]));
        let throughput = collected.values().next().unwrap()[&Side::B].boots[0].throughput.unwrap();
        assert!((throughput - 112.5e6).abs() < 1.0, "{throughput}");
    }

    #[test]
    fn no_time_at_all_is_no_throughput() {
        let collected = collect(&pool(vec![measurement("access", &[(0, 0, 0, 10)])]));
        let boot = &collected.values().next().unwrap()[&Side::B].boots[0];
        assert_eq!((boot.values.median(), boot.throughput), (0.0, None));
    }

    #[test]
    fn locked_instructions_are_a_series_of_their_own() {
        let mut one = measurement("instructions", &[(0, 0, 31, 1)]);
        one.notes.insert("locked".into(), "2".into());
        let collected = collect(&pool(vec![one]));
        let found: Vec<(Option<&str>, f64)> =
            collected.iter().map(|(series, sides)| (series.part, sides[&Side::B].boots[0].values.median())).collect();
        assert_eq!(found, [(None, 31.0), (Some("locked"), 2.0)]);
    }
}
