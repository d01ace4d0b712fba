//! `plugstorm matrix` without a guest: what it refuses, and what it leaves where there is no host to run on.

use std::fs;

use super::{Bench, SCENARIO};

/// One with a device that has a design.
fn scenario(bench: &Bench) -> String {
    let text = SCENARIO.replacen("\"gpio-virtio\"", "\"plugstorm\"\ndesign = \"unprotected\"", 1);
    bench.file("lab.toml", text.as_bytes()).display().to_string()
}

#[test]
fn matrices_that_cannot_be() {
    let bench = Bench::new();
    let lab = scenario(&bench);
    bench.refuses(&["matrix", "--designs", "stack-token,magic"], 2, "there is no such design; there are unprotected");
    bench.refuses(&["matrix", "--runs", "0"], 2, "1..=1000");
    bench.refuses(&["matrix", "--jobs", "many"], 2, "give 1 to 64, or auto");
    bench.refuses(&["matrix", "--expect", "missing.toml"], 2, "give a file to --expect");
    bench.file("expected.toml", b"[lab]\nstacktoken = \"clean\"\n");
    bench.refuses(&["matrix", "--expect", "expected.toml"], 2, "`stacktoken` below [lab] is no design");
    let storm = bench.scenario();
    bench.refuses(&["matrix", "--kernel", "./kernel", "--scenarios", &storm], 2, "only those have a design");
    bench.refuses(&["matrix", "--kernel", "./kernel", "--scenarios", "missing.toml"], 2, "cannot be read");
    bench.refuses(&["matrix", "--kernel", "./kernel", "--scenarios", &lab, &lab], 2, "two scenarios are called `lab`");
    bench.refuses(&["matrix", "--kernel", "./kernel", "--scenarios", &lab, "--cycles", "0"], 2, "--cycles");
    bench.refuses(&["matrix", "--kernel", "debian-6.12"], 2, "plugstorm kernel fetch debian-6.12");
    fs::create_dir(bench.path("foreign")).unwrap();
    fs::write(bench.path("foreign/thesis.tex"), "").unwrap();
    let foreign = ["matrix", "--kernel", "./kernel", "--scenarios", &lab, "--out", "foreign"];
    bench.refuses(&foreign, 2, "name another one with --out");
    assert_eq!(fs::read_dir(bench.path("foreign")).unwrap().count(), 1);
}

#[test]
fn a_matrix_without_a_host_is_begun_and_goes_on() {
    let bench = Bench::new();
    let lab = scenario(&bench);
    let run = |more: &[&str]| {
        let args = [&["matrix", "--host", "nested", "--kernel", "./kernel", "--scenarios", &lab, "--out", "out"], more];
        let output = bench.command(&args.concat()).env("PATH", bench.path("nothing")).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    // Twice the same: what it left the first time it takes for its own.
    for _ in 0..2 {
        let (code, table, said) = run(&[]);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("apt-get install qemu-system-x86") && said.contains("goes on where it was"), "{said}");
        assert!(table.contains("to do 3/3") && table.contains("unprotected"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 120), "{table}");
    }
    let json: serde_json::Value = serde_json::from_slice(&fs::read(bench.path("out/matrix.json")).unwrap()).unwrap();
    assert_eq!((&json["state"], &json["runs"]), (&"stopped".into(), &3.into()));
    assert!(bench.path("out/scenarios/lab.toml").exists() && bench.path("out/matrix.md").exists());
    let (code, _, said) = run(&["--cycles", "7"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("has another matrix") && said.contains("now for 7"), "{said}");
}

#[test]
fn help_says_what_short_is() {
    let bench = Bench::new();
    let output = bench.run(&["matrix", "--help"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0));
    for words in ["plugstorm matrix --short", "at most 10 cycles", "Exit codes", "--expect"] {
        assert!(text.split_whitespace().collect::<Vec<_>>().join(" ").contains(words), "{words}: {text}");
    }
}
