//! Bencher's Metric Format (bencher.dev/docs/reference/bencher-metric-format): `{benchmark: {measure: {value, lower_value,
//! upper_value}}}`, where a measure is a slug: `latency` and `throughput` are Bencher's own, in ns and operations a second.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::results::Results;
use super::super::series::Unit;
use super::super::summary::Percentile;
use super::figures::{self, What};
use crate::report::visible;

pub(super) fn render(results: &Results) -> Result<String, serde_json::Error> {
    let mut benchmarks: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for figure in figures::of(results) {
        let interval = figure.interval();
        let metric =
            json!({ "value": figure.estimate.value, "lower_value": interval.low, "upper_value": interval.high });
        let name = visible(&figure.entry.series.name()).into_owned();
        benchmarks.entry(name).or_default().insert(measure(figure.what, figure.entry.unit), metric);
    }
    Ok(serde_json::to_string_pretty(&benchmarks)? + "\n")
}

fn measure(what: What, unit: Unit) -> String {
    match (what, unit) {
        (What::Value(Percentile::P50), Unit::Ns) => "latency".to_owned(),
        (What::Value(percentile), Unit::Ns) => format!("latency-{}", percentile.name()),
        (What::Value(_), Unit::Bytes) => "bytes".to_owned(),
        (What::Value(_), Unit::Instructions) => "instructions".to_owned(),
        (What::Relative(_) | What::Throughput, _) => what.name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::simulated;
    use super::super::Format;
    use super::*;

    #[test]
    fn each_figure_has_three_values() {
        let text = simulated::results(simulated::small()).render(Format::Bencher, 80, "x").unwrap();
        let json: BTreeMap<String, BTreeMap<String, BTreeMap<String, f64>>> = serde_json::from_str(&text).unwrap();
        let revoke = &json["revoke/rwsem/gap_us=2000/hold_us=0/readers=0"];
        assert_eq!(revoke.keys().collect::<Vec<_>>(), ["latency", "latency-p90", "latency-p99"]);
        let access = &json["access/rwsem/context=process/objects=1/threads=2"];
        assert_eq!(access.keys().collect::<Vec<_>>(), ["latency", "latency-p90", "throughput"]);
        assert_eq!(json["memory/rwsem/objects=256"]["bytes"]["value"], 96.0);
        for metric in json.values().flat_map(BTreeMap::values) {
            assert!(metric["lower_value"] <= metric["value"] && metric["value"] <= metric["upper_value"]);
        }
    }

    #[test]
    fn of_emulated_times_there_are_ratios_alone() {
        let text = simulated::results(simulated::nested()).render(Format::Bencher, 80, "x").unwrap();
        let json: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_str(&text).unwrap();
        let mut measures: Vec<&String> = json.values().flat_map(BTreeMap::keys).collect();
        measures.sort_unstable();
        measures.dedup();
        assert_eq!(measures, ["bytes", "instructions", "p50-relative", "p90-relative", "p99-relative"]);
    }
}
