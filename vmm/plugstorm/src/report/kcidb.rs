//! What kernel CI systems send each other: KCIDB's JSON, version 5.3 (the Python package kcidb-io has the schema).
//!
//! A kernel is a checkout and a build, since it came as it is; a run is a test; a finding is an issue, and an incident wherever a
//! run met it.

use serde_json::{Map, Value, json};

use super::text::{one_line, rates, shortened, visible};
use super::{Distinct, Report, Run, Setting, command, processors, stacks};
use crate::calendar::rfc3339;
use crate::known::accepted;
use crate::results::{RunResult, Verdict};
use crate::snapshots::digest;

/// `maxLength` of `log_excerpt`.
const MOST_EXCERPT: usize = 16_384;
/// Counted up when findings are told otherwise.
const ISSUE_VERSION: u64 = 1;

/// Refuses nothing that [`is_origin`] takes.
pub(super) fn render(report: &Report, origin: &str) -> Result<String, serde_json::Error> {
    let sender = Sender { origin };
    let mut kernels: Vec<(&str, Option<&str>)> =
        report.settings.iter().map(|setting| (setting.kernel.as_str(), setting.release.as_deref())).collect();
    kernels.sort_unstable();
    kernels.dedup();
    let tests = report.settings.iter().flat_map(|setting| {
        let runs = setting.runs.iter().filter_map(|run| report.runs.get(*run));
        runs.map(|run| sender.test(setting, run)).collect::<Vec<_>>()
    });
    let json = json!({
        "version": { "major": 5, "minor": 3 },
        "checkouts": kernels.iter().map(|kernel| sender.checkout(*kernel)).collect::<Vec<_>>(),
        "builds": kernels.iter().map(|kernel| sender.build(*kernel)).collect::<Vec<_>>(),
        "tests": tests.collect::<Vec<_>>(),
        "issues": report.findings.iter().map(|found| sender.issue(found)).collect::<Vec<_>>(),
        "incidents": report.findings.iter().flat_map(|found| sender.incidents(report, found)).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&json)? + "\n")
}

/// May a system call itself so (`origin`)?
#[must_use]
pub(crate) fn is_origin(name: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    !name.is_empty() && name.chars().all(fits)
}

struct Sender<'a> {
    origin: &'a str,
}

impl Sender<'_> {
    fn id(&self, parts: &[&str]) -> String {
        format!("{}:{}", self.origin, one_line(&parts.join(":")))
    }

    fn kernel_id(&self, (kernel, release): (&str, Option<&str>)) -> String {
        self.id(&["kernel", kernel, release.unwrap_or("unknown")])
    }

    fn test_id(&self, result: &RunResult) -> String {
        // The same scenario with another design, number of cycles or text is another test.
        let designs = result.devices.iter().filter_map(|device| device.design).map(|design| design.name());
        let text = result.origin.as_ref().map(|origin| origin.digest.as_str()).unwrap_or_default();
        let (kernel, release) = (&result.guest.kernel, result.guest.release.as_deref().unwrap_or_default());
        let designs = designs.collect::<Vec<_>>().join(" ");
        let what = format!("{designs} {} {text} {kernel} {release}", result.cycles.asked);
        let (seed, started) = (result.seed.to_string(), result.started_unix_s.to_string());
        self.id(&["run", &result.scenario, &seed, &started, &digest(what.as_bytes())])
    }

    fn issue_id(&self, found: &Distinct) -> String {
        // Not the title that most of these runs gave: another report's may give another.
        let title = found.alt_titles.iter().chain([&found.title]).min().unwrap_or(&found.title);
        self.id(&["finding", found.kind.name(), &digest(title.as_bytes())])
    }

    fn checkout(&self, kernel: (&str, Option<&str>)) -> Value {
        let (name, release) = kernel;
        json!({
            "id": self.kernel_id(kernel),
            "origin": self.origin,
            "comment": one_line(&format!("{name}, {}", release.unwrap_or("which never told its release"))),
            "valid": true,
        })
    }

    fn build(&self, kernel: (&str, Option<&str>)) -> Value {
        json!({
            "id": self.kernel_id(kernel),
            "checkout_id": self.kernel_id(kernel),
            "origin": self.origin,
            "architecture": "x86_64",
            "config_name": one_line(kernel.0),
            "status": "PASS",
        })
    }

    fn test(&self, setting: &Setting, run: &Run) -> Value {
        let result = &run.result;
        let guest = &result.guest;
        let mut test = Map::new();
        let mut put = |name: &str, value: Value| test.insert(name.to_owned(), value);
        put("id", json!(self.test_id(result)));
        put("build_id", json!(self.kernel_id((&setting.kernel, setting.release.as_deref()))));
        put("origin", json!(self.origin));
        put("path", json!(path(setting)));
        put("status", json!(status(result)));
        put("comment", json!(one_line(&format!("{}, seed {}: {}", setting.name(), result.seed, words(result)))));
        put("start_time", json!(rfc3339(result.started_unix_s)));
        put("duration", json!(seconds(result.duration_ns)));
        let comment =
            format!("{} CPUs, {} MiB, on {}", guest.cpus, guest.memory_bytes >> 20, result.host.kind.describe());
        put("environment", json!({ "comment": comment }));
        if let Some(excerpt) = excerpt(result) {
            put("log_excerpt", json!(excerpt));
        }
        let (version, seed, again) = (one_line(&result.plugstorm), result.seed.to_string(), one_line(&command(result)));
        put("misc", json!({ "plugstorm": version, "seed": seed, "again": again }));
        Value::Object(test)
    }

    fn issue(&self, found: &Distinct) -> Value {
        let mut issue = Map::new();
        issue.insert("id".into(), json!(self.issue_id(found)));
        issue.insert("version".into(), json!(ISSUE_VERSION));
        issue.insert("origin".into(), json!(self.origin));
        issue.insert("report_subject".into(), json!(one_line(&found.title)));
        issue.insert("culprit".into(), json!({ "code": true, "tool": false, "harness": false }));
        // Nothing that is of this report alone: the same version of an issue must always say the same.
        let others: Vec<String> = found.alt_titles.iter().map(|title| one_line(title)).collect();
        let misc = json!({ "kind": found.kind.name(), "alt_titles": others });
        issue.insert("misc".into(), misc);
        Value::Object(issue)
    }

    fn incidents(&self, report: &Report, found: &Distinct) -> Vec<Value> {
        let mut runs: Vec<usize> = found.seen.iter().map(|seen| seen.run).collect();
        runs.dedup();
        let known = found.known.as_ref().map(|why| format!("; known: {why}")).unwrap_or_default();
        let comment = one_line(&format!("{}{known}", rates(report, found).join("; ")));
        let incident = |run: &Run| {
            let (issue, test) = (self.issue_id(found), self.test_id(&run.result));
            json!({
                "id": self.id(&["incident", &digest(format!("{issue} {test}").as_bytes())]),
                "origin": self.origin,
                "issue_id": issue,
                "issue_version": ISSUE_VERSION,
                "test_id": test,
                "present": true,
                "comment": comment,
            })
        };
        runs.into_iter().filter_map(|run| report.runs.get(run)).map(incident).collect()
    }
}

/// Where a test is among all tests: its parts are of letters, digits, `_` and `-`.
fn path(setting: &Setting) -> String {
    let part = |text: &str| -> String {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
        let part: String = text.chars().map(|letter| if fits(letter) { letter } else { '_' }).collect();
        if part.is_empty() { "_".into() } else { part }
    };
    let designs = setting.designs.iter().map(|design| part(design.name()));
    let parts = ["plugstorm".to_owned(), part(&setting.scenario)].into_iter().chain(designs);
    parts.collect::<Vec<_>>().join(".")
}

fn status(result: &RunResult) -> &'static str {
    match result.verdict {
        Verdict::Clean => "PASS",
        // Known or not: who reads the database knows other things.
        Verdict::Found => "FAIL",
        Verdict::Inconclusive => "ERROR",
        Verdict::Interrupted | Verdict::Running => "MISS",
    }
}

fn words(result: &RunResult) -> String {
    let known = if accepted(result) { " (all of it is known)" } else { "" };
    format!("{}{known}", result.reason.as_deref().unwrap_or("nothing found"))
}

/// What a person wants to see first.
fn excerpt(result: &RunResult) -> Option<String> {
    let finding = result.findings.first()?;
    let mut text = format!("{}\n\n{}\n", finding.title, finding.explanation);
    if let Some(said) = processors::paragraph(finding) {
        text.push_str(&format!("{said}\n"));
    }
    for stack in stacks::beside_report(finding) {
        text.push_str(&format!("\n{}: {}\n  {}\n", stack.role, stack.whose, stack.frames.join("\n  ")));
    }
    match &finding.splat {
        Some(splat) => text.push_str(&format!("\n{splat}")),
        None => text.push_str(&format!("\n{}\n", finding.console.join("\n"))),
    }
    // A schema counts characters; bytes are no fewer.
    Some(shortened(&visible(&text), MOST_EXCERPT))
}

#[expect(clippy::cast_precision_loss, reason = "seconds for people")]
fn seconds(ns: u64) -> f64 {
    (ns / 1_000_000) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample;
    use super::*;

    #[test]
    fn reports() {
        let [_, many] = sample::reports();
        insta::assert_snapshot!(render(&many, "plugstorm").unwrap());
    }

    #[test]
    fn names_of_senders() {
        assert!(["plugstorm", "my_ci_2"].iter().all(|name| is_origin(name)));
        assert!(["", "My", "a-b", "é", "a b"].iter().all(|name| !is_origin(name)));
    }

    proptest! {
        /// The schema's patterns, as far as a guest's words come near them.
        #[test]
        fn whatever_a_guest_says_links_hold_and_paths_are_paths(said in "[\\x00-\\x7f\u{85}é]{0,60}") {
            let report = sample::report([sample::hostile(&said), sample::clean()]);
            let text = render(&report, "plugstorm").unwrap();
            prop_assert!(!text.contains("\\u0000"));
            let json: Value = serde_json::from_str(&text).unwrap();
            let ids = |list: &str| -> Vec<Value> {
                json[list].as_array().unwrap().iter().map(|object| object["id"].clone()).collect()
            };
            for test in json["tests"].as_array().unwrap() {
                prop_assert!(ids("builds").contains(&test["build_id"]));
                let path = test["path"].as_str().unwrap();
                let fits = |part: &str| {
                    !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
                };
                prop_assert!(path.split('.').all(fits), "{}", path);
            }
            for incident in json["incidents"].as_array().unwrap() {
                prop_assert!(ids("issues").contains(&incident["issue_id"]));
                prop_assert!(ids("tests").contains(&incident["test_id"]));
            }
            let mut all = ids("tests");
            all.dedup();
            prop_assert_eq!(all.len(), 2);
        }
    }
}
