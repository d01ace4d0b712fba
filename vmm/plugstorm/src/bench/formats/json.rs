//! All figures, as JSON of our own. `version` counts up when a field changes its meaning or goes; new ones may come.
//!
//! - `host`, `sides`, `seed`, `started`, `plugstorm`: what was measured where. `claims`: `times` on hardware; `ratios` under software
//!   emulation, where a time means nothing beside another run's.
//! - `measures`: a list: `side`, `measure` (`kind`, `design`, `settings`), `part`, `name`, `unit` (`ns`, `bytes`, `instructions`),
//!   `boots`, `samples`, `failed`, `error`; `percentiles` by name: `{boots, value, interval: [low, high]}`, the median over boots and its
//!   95 % interval; `relative`: the same as multiples of the reference design's in the same boot; `throughput` in operations a second;
//!   `modes`: `{share, p50}`; `bins`: `{from, upto, count}`, the distribution.
//! - `comparison` and `verdict`, where two sides are compared: `differences`, each with `values` (before, now), `ratio`, `interval`,
//!   `p`, `p_corrected` (Holm), `detectable`, `finding` (`greater`, `less`, `not-seen`, `too-few`).

use serde_json::{Map, Value, json};

use super::super::compare::Comparison;
use super::super::results::Results;
use crate::calendar::rfc3339;

const VERSION: u32 = 1;

pub(super) fn render(results: &Results) -> Result<String, serde_json::Error> {
    let header = &results.pool.header;
    let measures = results.summary.entries.iter().map(|entry| named(entry, entry.series.name()));
    let measures = measures.collect::<Result<Vec<Value>, _>>()?;
    let json = json!({
        "version": VERSION,
        "plugstorm": header.plugstorm,
        "started": rfc3339(header.started_unix_s),
        "seed": header.seed,
        "host": header.host,
        "sides": header.sides,
        "claims": if results.has_times() { "times" } else { "ratios" },
        "reference": results.summary.reference,
        "left_out": results.pool.left_out,
        "measures": measures,
        "comparison": results.comparison.as_ref().map(comparison).transpose()?,
        "gate": results.gate,
        "verdict": results.verdict,
    });
    Ok(serde_json::to_string_pretty(&json)? + "\n")
}

fn comparison(of: &Comparison) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(of)?;
    let differences = of.differences.iter().map(|difference| {
        let mut value = named(difference, difference.series.name())?;
        if let (Some(interval), Some(map)) = (difference.interval, value.as_object_mut()) {
            map.insert("interval".into(), json!([interval.low, interval.high]));
        }
        Ok(value)
    });
    let differences = differences.collect::<Result<Vec<Value>, serde_json::Error>>()?;
    if let Some(map) = value.as_object_mut() {
        map.insert("differences".into(), Value::Array(differences));
    }
    Ok(value)
}

fn named(of: &impl serde::Serialize, name: String) -> Result<Value, serde_json::Error> {
    let mut map = Map::from_iter([("name".to_owned(), Value::String(name))]);
    if let Value::Object(fields) = serde_json::to_value(of)? {
        map.extend(fields);
    }
    Ok(Value::Object(map))
}

#[cfg(test)]
mod tests {
    use super::super::super::simulated;
    use super::super::Format;
    use super::*;

    #[test]
    fn everything_is_in_it() {
        let results = simulated::results(simulated::small());
        let text = results.render(Format::Json, 80, "x").unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["measures"].as_array().unwrap().len(), results.summary.entries.len());
        let is_of = |value: &&Value, kind: &str| value["measure"]["kind"] == kind;
        let measure = json["measures"].as_array().unwrap().iter().find(|of| is_of(of, "revoke")).unwrap();
        let mut measure = measure.clone();
        measure["bins"].as_array_mut().unwrap().truncate(1);
        let differences = json["comparison"]["differences"].as_array().unwrap();
        let difference = differences.iter().find(|of| is_of(of, "access")).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&json!([measure, difference, json["verdict"]])).unwrap());
    }
}
