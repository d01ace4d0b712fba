//! Real boots: a batch of scenarios through the command line, in one nested machine where KVM is missing, then a test for
//! each over its `result.json`.
//!
//! Wanted: the kernel debian-6.12 in the cache (`plugstorm kernel fetch debian-6.12`) and the agent beside the executable or
//! in `$PLUGSTORM_AGENT`. `PLUGSTORM_BOOT_TESTS=0` leaves these tests out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use plugstorm::results::{FindingKind, RunResult, Verdict};
use plugstorm::scenario::How;

struct Batch {
    results: HashMap<String, RunResult>,
    folder: tempfile::TempDir,
    exit_code: Option<i32>,
    said: String,
}

static BATCH: OnceLock<Option<Batch>> = OnceLock::new();

/// From what to what.
type Changes = &'static [(&'static str, &'static str)];

/// Scenarios of the fixtures, with what is changed in them to be quick.
const SCENARIOS: &[(&str, &str, Changes)] = &[
    ("steady", "steady.toml", &[("cycles = 100", "cycles = 5")]),
    ("unbind", "unbind.toml", &[("cycles = 10", "cycles = 2")]),
    ("remove", "remove.toml", &[("cycles = 10", "cycles = 2")]),
    ("sleeping-reader", "sleeping-reader.toml", &[]),
    ("sleeping-watcher", "sleeping-watcher.toml", &[]),
    ("request-in-flight", "request-in-flight.toml", &[]),
    ("shared-handle", "shared-handle.toml", &[]),
    ("stack-token", "shared-handle.toml", &[("shared-handle\"", "stack-token\""), ("cycles = 50", "cycles = 5")]),
    ("silent", "bad-guests/silent.toml", &[]),
    ("panic", "bad-guests/panic.toml", &[]),
    ("reset", "bad-guests/reset.toml", &[]),
    ("lie", "bad-guests/lie.toml", &[]),
];

fn batch() -> Option<&'static Batch> {
    BATCH.get_or_init(|| (std::env::var_os("PLUGSTORM_BOOT_TESTS").is_none_or(|value| value != "0")).then(run)).as_ref()
}

fn run() -> Batch {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/scenarios");
    // Not in /tmp: a nested machine has one of its own.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let files: Vec<PathBuf> = SCENARIOS
        .iter()
        .map(|(name, file, changes)| {
            let mut text = fs::read_to_string(fixtures.join(file)).unwrap();
            for (from, to) in *changes {
                assert!(text.contains(from), "{file}: {from}");
                text = text.replacen(from, to, 1);
            }
            let path = folder.path().join(format!("{name}.toml"));
            fs::write(&path, text).unwrap();
            path
        })
        .collect();
    let out = folder.path().join("out");
    let output = Command::new(env!("CARGO_BIN_EXE_plugstorm"))
        .args(["storm", "--kernel", "debian-6.12", "--out"])
        .arg(&out)
        .args(&files)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let results = SCENARIOS
        .iter()
        .filter_map(|(name, ..)| {
            let text = fs::read(out.join(format!("{name}-1/result.json"))).ok()?;
            Some(((*name).to_owned(), serde_json::from_slice(&text).unwrap()))
        })
        .collect();
    Batch { results, folder, exit_code: output.status.code(), said }
}

impl Batch {
    fn result(&self, name: &str) -> &RunResult {
        self.results.get(name).unwrap_or_else(|| panic!("no result of {name}: {}", self.said))
    }

    fn file(&self, name: &str, file: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join(format!("out/{name}-1/{file}"))).unwrap())
            .into_owned()
    }
}

/// A clean run with all its evidence, and these removals.
fn assert_clean(result: &RunResult, ways: &[(How, u64)]) {
    assert_eq!((result.verdict, &result.reason), (Verdict::Clean, &None), "{result:#?}");
    assert_eq!(result.cycles.completed, result.cycles.asked);
    let removals: Vec<_> = result.removals.iter().map(|removal| (removal.how, removal.finished)).collect();
    assert_eq!(removals, ways);
    for removal in &result.removals {
        assert_eq!((removal.seen, removal.stuck), (removal.asked, 0), "{removal:?}");
    }
    for hammer in &result.hammers {
        assert!(hammer.operations.iter().any(|operation| operation.calls > 0), "{hammer:?}");
    }
}

#[test]
fn a_surprise_under_eight_threads_is_clean() {
    let Some(batch) = batch() else { return };
    let result = batch.result("steady");
    assert_clean(result, &[(How::Surprise, 5)]);
    assert_eq!(result.hammers.iter().map(|hammer| hammer.threads).sum::<u32>(), 8);
    assert!(!result.timings.grace_periods.is_empty(), "{:?}", result.timings);
    let events = batch.file("steady", "events.jsonl");
    assert_eq!(events.matches("\"event\":\"removal_finished\"").count(), 5);
    assert!(events.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn an_unbind_is_clean() {
    let Some(batch) = batch() else { return };
    assert_clean(batch.result("unbind"), &[(How::Surprise, 2), (How::Unbind, 2)]);
}

#[test]
fn a_removal_through_sysfs_is_clean() {
    let Some(batch) = batch() else { return };
    assert_clean(batch.result("remove"), &[(How::Surprise, 2), (How::Remove, 2)]);
}

/// A removal that never ends: the waiter is in one of these functions, and so is one of those it waits for, if any is named.
fn assert_stuck(result: &RunResult, waiter_in: &str, waited_for_in: Option<&str>) {
    assert_eq!(result.verdict, Verdict::Found, "{result:#?}");
    let stuck = result.findings.iter().find(|finding| finding.kind == FindingKind::RemovalStuck).unwrap();
    let hang = stuck.hang.as_ref().unwrap();
    let has = |stack: &[String], function: &str| stack.iter().any(|frame| frame.starts_with(function));
    assert!(hang.waiters.iter().any(|waiter| has(&waiter.stack, waiter_in)), "{hang:#?}");
    if let Some(function) = waited_for_in {
        assert!(hang.waited_for.iter().any(|holder| has(&holder.stack, function)), "{hang:#?}");
    }
}

#[test]
fn a_sleeping_reader_stops_the_unplug_for_ever() {
    let Some(batch) = batch() else { return };
    assert_stuck(batch.result("sleeping-reader"), "gpiochip_remove", Some("linereq_read"));
    assert_stuck(batch.result("sleeping-watcher"), "gpiochip_remove", Some("lineinfo_watch_read"));
}

#[test]
fn a_request_in_flight_stops_the_unplug_for_ever() {
    let Some(batch) = batch() else { return };
    assert_stuck(batch.result("request-in-flight"), "gpiochip_remove", Some("_virtio_gpio_req"));
}

#[test]
fn a_shared_handle_hangs_the_revoke_and_a_stack_token_does_not() {
    let Some(batch) = batch() else { return };
    let result = batch.result("shared-handle");
    assert_eq!(result.verdict, Verdict::Found, "{result:#?}");
    assert!(result.findings.iter().any(|finding| finding.kind == FindingKind::RemovalStuck), "{result:#?}");
    assert_clean(batch.result("stack-token"), &[(How::Surprise, 5)]);
}

#[test]
fn bad_guests_end_with_one_sentence() {
    let Some(batch) = batch() else { return };
    for (name, verdicts, words) in [
        ("silent", &[Verdict::Inconclusive][..], &["never started its agent"][..]),
        ("panic", &[Verdict::Found], &["panic", "sysrq", "NULL"]),
        ("reset", &[Verdict::Found], &["reset itself", "rebooted"]),
        ("lie", &[Verdict::Inconclusive], &["agent channel", "faster than"]),
    ] {
        let result = batch.result(name);
        assert!(verdicts.contains(&result.verdict), "{name}: {:?} {:?}: {}", result.verdict, result.reason, batch.said);
        let reason = result.reason.as_deref().unwrap_or_default();
        assert!(words.iter().any(|word| reason.contains(word)), "{name}: {reason}");
        assert!(!reason.contains('\n'), "{name}: {reason}");
    }
    // Of all these runs a finding is the gravest.
    assert_eq!(batch.exit_code, Some(1), "{}", batch.said);
}
