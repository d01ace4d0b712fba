//! What github-action-benchmark reads with `tool: customSmallerIsBetter`: `[{name, unit, value, range, extra}]`.

use serde_json::{Value, json};

use super::super::results::Results;
use super::figures::{self, Figure, What};
use crate::report::visible;

pub(super) fn render(results: &Results) -> Result<String, serde_json::Error> {
    // There is no place to say that more is better.
    let figures = figures::of(results).into_iter().filter(|figure| figure.what != What::Throughput);
    let list: Vec<Value> = figures.map(|figure| value(&figure)).collect();
    Ok(serde_json::to_string_pretty(&list)? + "\n")
}

fn value(figure: &Figure<'_>) -> Value {
    let (interval, value) = (figure.interval(), figure.estimate.value);
    // One number: the greater side of the interval, so that the value's lies in it.
    let half = (interval.high - value).max(value - interval.low);
    json!({
        "name": visible(&format!("{} {}", figure.entry.series.name(), figure.what.name())),
        "unit": figure.what.unit(figure.entry.unit),
        "value": value,
        "range": format!("± {}", super::super::numbers::digits(half)),
        "extra": format!("{} boots, {} samples", figure.estimate.boots, figure.entry.samples),
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::simulated;
    use super::super::Format;
    use super::*;

    #[test]
    fn names_are_unique_and_fields_are_those_of_its_schema() {
        let text = simulated::results(simulated::small()).render(Format::GithubActionBenchmark, 80, "x").unwrap();
        let list: Vec<Value> = serde_json::from_str(&text).unwrap();
        let mut names: Vec<&str> = list.iter().map(|one| one["name"].as_str().unwrap()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        for one in &list {
            assert!(one["value"].is_number() && one["unit"].is_string() && one["range"].is_string(), "{one}");
        }
        insta::assert_snapshot!(serde_json::to_string_pretty(&list[..4]).unwrap());
    }
}
