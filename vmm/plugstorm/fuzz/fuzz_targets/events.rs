//! `events.jsonl` of a run, which has a guest's words in it and may end anywhere: the timelines and the strip of a report are made of it.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use libfuzzer_sys::fuzz_target;
use plugstorm::plan::Plan;
use plugstorm::progress::Quiet;
use plugstorm::report::{Format, Gathered, Report, Run, plain};
use plugstorm::results::{self, HostFacts, HostKind, RunResult};
use plugstorm::scenario::parse;
use plugstorm::storm::guest;
use plugstorm::storm::{self, CALIBRATION_REFERENCE_NS, Setting};
use plugstorm::timeline;
use plugstorm::verdict::judge;
use tempfile::TempDir;

#[allow(dead_code, unused_imports)]
#[path = "../../src/storm/fake.rs"]
mod fake;

use fake::{FakeGuest, Fault, Memory};

const SCENARIO: &str = include_str!("storm.toml");

/// A run that found a hang.
fn hang() -> RunResult {
    let scenario = parse(SCENARIO, "storm.toml", "storm").unwrap();
    let plan = Plan::new(&scenario, 7);
    let outcome = storm::run(Setting {
        scenario: &scenario,
        plan: &plan,
        guest: &mut FakeGuest::new(Fault::RemovalHangs(1)),
        journal: &mut Memory::default(),
        progress: &mut Quiet,
        interrupt: &AtomicBool::new(false),
        host_slowdown: 1.0,
        emulated: false,
        kernel: "fake",
    });
    let host = HostFacts { kind: HostKind::Kvm, loop_rounds_per_second: None, exits_per_second: None };
    let begun = results::running(&scenario, 7, "fake", host, 1.0);
    let verdict = judge(&scenario, &outcome);
    results::ended(begun, &scenario, outcome, 0, verdict)
}

/// One folder for all inputs, in memory.
fn folder() -> &'static (TempDir, RunResult) {
    static FOLDER: OnceLock<(TempDir, RunResult)> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let result = hang();
        fs::write(folder.path().join("result.json"), serde_json::to_vec(&result).unwrap()).unwrap();
        (folder, result)
    })
}

fuzz_target!(|bytes: &[u8]| {
    let (folder, result) = folder();
    let folder: &Path = folder.path();
    fs::write(folder.join("events.jsonl"), bytes).unwrap();
    let (perfetto, ftrace) = (folder.join("perfetto"), folder.join("ftrace"));
    let written = timeline::write(folder, &perfetto, &ftrace).expect("a file that is there");
    let lines = bytes.split(|&byte| byte == b'\n').count() as u64;
    assert!(written.events + written.skipped <= lines);
    assert_eq!(fs::metadata(&perfetto).unwrap().len(), written.perfetto_bytes);
    assert_eq!(fs::metadata(&ftrace).unwrap().len(), written.ftrace_bytes);
    let run = Run { folder: folder.to_path_buf(), name: "run".into(), result: result.clone() };
    let mut gathered = Gathered::default();
    gathered.runs.push(run);
    let report = Report::of(gathered, None);
    let html = report.render(Format::Html, &plain, "fuzz").expect("a report that cannot be written");
    assert!(!html.contains('\u{1b}'));
});
