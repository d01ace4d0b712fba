//! `report`: where it goes, what it says of itself, how it ends.

use std::fs;
use std::path::PathBuf;

use super::Bench;

/// The least that a result is: what older versions have left out is left out.
fn result(verdict: &str, findings: &str) -> String {
    format!(
        r#"{{"version":1,"plugstorm":"0.1.0","verdict":"{verdict}","reason":null,"scenario":"s","about":"","seed":3,
        "started_unix_s":1795414666,"duration_ns":1000000000,
        "host":{{"kind":"kvm","loop_rounds_per_second":null,"exits_per_second":null}},
        "guest":{{"kernel":"debian-6.12","release":"6.12","hz":null,"preemption":null,"cpu":"plain","cpus":2,
        "memory_bytes":536870912,"append":"","gone_reads":"zeroes","modules":[],"probes_failed":[]}},
        "devices":[],"slowdown":{{"host":1.0,"guest":1.0,"used":1.0}},
        "cycles":{{"asked":5,"completed":5,"boots":1}},"hammers":[],"removals":[],"adds":null,"boots":null,
        "timings":{{"grace_periods":[],"spans":[],"ends_alone":0,"lost_events":0,"left_out":0}},
        "findings":[{findings}],"console":{{"bytes":0,"dropped_bytes":0}},
        "channel":{{"messages":0,"malformed":0,"unexpected":0,"events_dropped":0}},"warnings":[]}}"#
    )
}

const FINDING: &str = r#"{"title":"WARNING in x","alt_titles":[],"kind":"splat","count":1,"cycle":2,"seed":3,"device":null,
    "how":null,"explanation":"e","hang":null,"splat":"WARNING in x","console":[]}"#;

fn run(bench: &Bench, name: &str, verdict: &str, findings: &str) -> PathBuf {
    let folder = bench.path(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("result.json"), result(verdict, findings)).unwrap();
    folder
}

#[test]
fn it_ends_as_storm_does_and_goes_where_it_is_told() {
    let bench = Bench::new();
    run(&bench, "out/s-3", "found", FINDING);
    run(&bench, "out/s-4", "clean", "");
    let report = bench.run(&["report", "out", "--format", "html,junit,ktap,kcidb,markdown"]);
    assert_eq!(report.status.code(), Some(1), "{report:?}");
    for name in ["report.html", "report.junit.xml", "report.ktap", "report.kcidb.json", "report.md"] {
        assert!(bench.path("out").join(name).is_file(), "{name}");
    }
    // What it has left does not keep a run from its folder, nor a later report.
    assert_eq!(bench.run(&["report", "out/s-4"]).status.code(), Some(0));
    assert!(bench.path("out/s-4/report.html").is_file());
    let shown = bench.run(&["report", "out", "--format", "github"]);
    assert!(String::from_utf8_lossy(&shown.stdout).starts_with("::error title=WARNING in x::"), "{shown:?}");
    let shown = bench.run(&["report", "out/s-4", "--format", "markdown", "--out", "-"]);
    assert!(String::from_utf8_lossy(&shown.stdout).starts_with("CLEAN: nothing found"), "{shown:?}");
    assert_eq!(bench.run(&["report", "out/s-4", "--out", "deep/in/page.html"]).status.code(), Some(0));
    assert!(bench.path("deep/in/page.html").is_file());
}

#[test]
fn what_is_known_is_accepted_and_told() {
    let bench = Bench::new();
    run(&bench, "out/s-3", "found", FINDING);
    let entry = |title: &str, expires: &str| {
        format!("[[known]]\ntitle = \"{title}\"\nreason = \"it is reported\"\nexpires = {expires}\n")
    };
    let report = |known: &str| {
        bench.file("known.toml", known.as_bytes());
        let output = bench.run(&["report", "out", "--known", "known.toml", "--format", "markdown", "--out", "-"]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), output.stdout)
    };
    let (code, said, text) = report(&entry("WARNING in *", "2999-01-01"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("known: accepted until 2999-01-01, in 1 of 1 runs: WARNING in *: it is reported"), "{said}");
    assert!(String::from_utf8_lossy(&text).starts_with("FOUND"), "{text:?}");
    let (code, said, _) = report(&entry("WARNING in *", "2020-01-01"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("expired on 2020-01-01, and no longer accepted"), "{said}");
    let (code, said, _) = report(&entry("BUG in y", "2999-01-01"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("matched nothing: BUG in y"), "{said}");
}

#[test]
fn mistakes_are_told() {
    let bench = Bench::new();
    let out = run(&bench, "out", "clean", "");
    fs::create_dir(bench.path("empty")).unwrap();
    bench.refuses(&["report", "empty"], 2, "there is no run in empty");
    bench.refuses(&["report", "nowhere"], 2, "nowhere cannot be read");
    bench.refuses(
        &["report", "out", "--format", "pdf"],
        2,
        "possible values: html, junit, ktap, kcidb, github, markdown",
    );
    bench.refuses(&["report", "out", "--format", "html,junit", "--out", "-"], 2, "room for one format");
    bench.refuses(&["report", "out", "--origin", "My CI"], 2, "letters a-z");
    bench.refuses(&["report", "out", "--known", "none.toml"], 2, "the known findings none.toml cannot be read");
    bench.file("known.toml", b"[[known]]\ntitel = \"x\"\nreason = \"r\"\nexpires = 2999-01-01\n");
    bench.refuses(&["report", "out", "--known", "known.toml"], 2, "the key `titel` is not known here");
    bench.refuses(
        &["storm", &bench.scenario(), "--known", "known.toml", "--kernel", "./kernel"],
        2,
        "did you mean `title`?",
    );
    bench.refuses(&["report", "out", "--out", "known.toml/x/y.html"], 2, "cannot be written");
    fs::write(out.join("result.json"), "{}").unwrap();
    bench.refuses(&["report", "out"], 2, "missing field");
}
