//! KCIDB's JSON, version 5.3, as `report` writes it, with a test for each figure: its `number` is the figure (the schema's "main
//! output" of a test that is DONE), and the interval is in `misc`.

use serde_json::{Value, json};

use super::super::results::Results;
use super::super::summary::Percentile;
use super::figures::{self, Figure, What};
use crate::calendar::rfc3339;
use crate::report::visible;
use crate::snapshots::digest;

pub(super) fn render(results: &Results, origin: &str) -> Result<String, serde_json::Error> {
    let header = &results.pool.header;
    let facts = header.sides.get(&results.side);
    let kernel =
        facts.map_or_else(String::new, |facts| visible(&format!("{}, {}", facts.kernel, facts.release)).into_owned());
    let id = format!("{origin}:bench:{}", digest(kernel.as_bytes()));
    let json = json!({
        "version": { "major": 5, "minor": 3 },
        "checkouts": [{ "id": id, "origin": origin, "comment": kernel, "valid": true }],
        "builds": [{
            "id": id,
            "checkout_id": id,
            "origin": origin,
            "architecture": "x86_64",
            "config_name": visible(facts.map_or("", |facts| &facts.kernel)),
            "status": "PASS",
        }],
        "tests": figures::of(results).iter().map(|figure| test(results, figure, &id, origin)).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&json)? + "\n")
}

fn test(results: &Results, figure: &Figure<'_>, build: &str, origin: &str) -> Value {
    let header = &results.pool.header;
    let name = format!("{} {}", figure.entry.series.name(), figure.what.name());
    let started = header.started_unix_s;
    let key = format!("{build} {started} {} {name}", header.seed);
    let interval = figure.interval();
    // Times in seconds, so that a reader finds the prefix itself.
    let scale = if matches!(figure.what, What::Value(_)) && figure.entry.unit.is_time() { 1e-9 } else { 1.0 };
    let mut number = json!({ "value": figure.estimate.value * scale });
    let unit = match figure.what {
        What::Value(_) if figure.entry.unit.is_time() => Some(("s", true)),
        What::Value(_) => {
            Some((if figure.entry.unit == super::super::series::Unit::Bytes { "B" } else { "instructions" }, false))
        }
        What::Throughput => Some(("operations/s", true)),
        // Without a unit it is a plain number.
        What::Relative(_) => None,
    };
    if let (Some((unit, has_prefix)), Some(map)) = (unit, number.as_object_mut()) {
        map.insert("unit".into(), json!(unit));
        if has_prefix {
            map.insert("prefix".into(), json!("metric"));
        }
    }
    json!({
        "id": format!("{origin}:bench:{}", digest(key.as_bytes())),
        "build_id": build,
        "origin": origin,
        "path": path(figure),
        "status": "DONE",
        "start_time": rfc3339(started),
        "comment": visible(&format!("{name}, {} boots", figure.estimate.boots)),
        "environment": { "comment": header.host.kind.describe() },
        "number": number,
        "misc": {
            "interval": [interval.low * scale, interval.high * scale],
            "boots": figure.estimate.boots,
            "samples": figure.entry.samples,
            "plugstorm": visible(&header.plugstorm),
        },
    })
}

/// `plugstorm_bench.revoke.rwsem.readers_2.p99`: parts of letters, digits, `_` and `-`.
fn path(figure: &Figure<'_>) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let part = |text: &str| -> String {
        let part: String = text.chars().map(|letter| if fits(letter) { letter } else { '_' }).collect();
        if part.is_empty() { "_".into() } else { part }
    };
    let name = figure.entry.series.name();
    let what = if figure.what == What::Value(Percentile::P50) { "p50" } else { figure.what.name() };
    let parts = ["plugstorm_bench"].into_iter().chain(name.split('/')).chain([what]);
    parts.map(part).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::super::super::simulated;
    use super::super::Format;
    use super::*;

    #[test]
    fn each_figure_is_a_test_with_a_number() {
        let text = simulated::results(simulated::small()).render(Format::Kcidb, 80, "plugstorm").unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let tests = json["tests"].as_array().unwrap();
        let mut ids: Vec<&str> = tests.iter().map(|test| test["id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), tests.len());
        assert!(
            tests.iter().all(|test| test["number"]["value"].is_number() && test["build_id"] == json["builds"][0]["id"])
        );
        let memory = tests.iter().find(|test| test["number"]["unit"] == "B").unwrap();
        insta::assert_snapshot!(
            serde_json::to_string_pretty(&json!([json["checkouts"], json["builds"], tests[0], memory])).unwrap()
        );
    }
}
