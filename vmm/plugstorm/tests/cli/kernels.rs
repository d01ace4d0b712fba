//! What the command line says of building kernels.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Bench;

/// A source tree whose configuring never ends.
fn tree(bench: &Bench) {
    for folder in ["tree/scripts/kconfig", "tree/arch/x86"] {
        fs::create_dir_all(bench.path(folder)).unwrap();
    }
    bench.file("tree/Kconfig", b"config A\n\tbool \"a\"\n");
    bench.file("tree/Makefile", b"mrproper:\nallnoconfig:\n\t@echo begun\n\t@sleep 60\n");
    bench.file("mine.config", b"CONFIG_A=y\n");
}

#[test]
fn builds_that_cannot_be() {
    let bench = Bench::new();
    tree(&bench);
    let build = |more: &[&'static str]| [&["kernel", "build", "mine"][..], more].concat();
    bench.refuses(&["kernel", "build", "debian-6.12"], 2, "`plugstorm kernel fetch` brings");
    bench.refuses(&["kernel", "build", "../x"], 2, "cannot be a built kernel's name");
    bench.refuses(&build(&["--source", "debian:sid"]), 2, "\"debian:sid\" is no source of a kernel");
    bench.refuses(&build(&["--source", "./none"]), 2, "\"./none\" is no source of a kernel");
    bench.refuses(&build(&["--source", "."]), 2, "not the top of a kernel's source: it has no Makefile");
    bench.refuses(&build(&["--config", "debugg"]), 2, "that plugstorm has: base, debug");
    bench.file("broken.config", b"CONFIG_A=y\nCONFIG_B y\n");
    bench.refuses(&build(&["--config", "broken.config"]), 2, "broken.config, line 2: \"CONFIG_B y\" sets no option");
    bench.refuses(&build(&["--patch", "none.mbox"]), 2, "the patch none.mbox cannot be read");
    bench.file("letter.mbox", b"Subject: hello\n\nno diff\n");
    bench.refuses(&build(&["--patch", "letter.mbox"]), 2, "letter.mbox has no diff in it");
    bench.refuses(&build(&["--jobs", "0"]), 2, "not in 1..=512");
    bench.refuses(&build(&["--from", "."]), 3, "has no package file for linux-source-6.12");
    assert!(!bench.path("cache/kernels").exists());
}

#[test]
fn a_signal_ends_a_build_and_leaves_nothing() {
    let bench = Bench::new();
    tree(&bench);
    let args = ["kernel", "build", "mine", "--source", "tree", "--no-base", "--config", "mine.config"];
    let child = bench.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let log = bench.path("cache/logs/kernel-mine.log");
    let limit = Instant::now() + Duration::from_secs(30);
    while !fs::read_to_string(&log).unwrap_or_default().contains("begun") {
        assert!(Instant::now() < limit, "it did not get as far as configuring");
        std::thread::sleep(Duration::from_millis(50));
    }
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted: nothing of it is in the cache"), "{said}");
    assert!(Instant::now() < limit);
    assert!(!bench.path("cache/kernels").exists());
    assert_eq!(fs::read_dir(bench.path("cache/builds")).unwrap().count(), 0);
}

#[test]
fn help_says_what_can_be_built() {
    let bench = Bench::new();
    let help = bench.command(&["kernel", "build", "--help"]).env_remove("COLUMNS").output().unwrap();
    insta::assert_snapshot!(String::from_utf8_lossy(&help.stdout));
}
