//! `plugstorm bisect`, and exit codes for `git bisect run`, without a guest.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Bench;

fn git(bench: &Bench, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]).args(args).current_dir(bench.path("tree"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What looks like a kernel's tree, with a commit for each of these ways to be configured.
fn tree(bench: &Bench, ways: &[&str]) {
    for folder in ["tree/scripts/kconfig", "tree/arch/x86"] {
        fs::create_dir_all(bench.path(folder)).unwrap();
        fs::write(bench.path(folder).join("Makefile"), "").unwrap();
    }
    bench.file("tree/Kconfig", b"config A\n\tbool \"a\"\n");
    bench.file("mine.config", b"CONFIG_A=y\n");
    git(bench, &["init", "-q", "-b", "main"]);
    for way in ways {
        bench.file("tree/Makefile", format!("mrproper:\nallnoconfig:\n\t{way}\n").as_bytes());
        git(bench, &["add", "."]);
        git(bench, &["commit", "-q", "--allow-empty", "-m", way]);
    }
}

fn bisect<'a>(scenario: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let own = ["bisect", "--tree", "tree", "--config", "mine.config", "--host", "nested", scenario];
    [&own[..], more].concat()
}

#[test]
fn bisections_that_cannot_be() {
    let bench = Bench::new();
    let scenario = bench.scenario();
    tree(&bench, &["@false # one", "@false # two"]);
    let ends = ["--good", "HEAD~1", "--bad", "HEAD"];
    let refuses = |more: &[&str], sentence: &str| bench.refuses(&bisect(&scenario, more), 2, sentence);
    refuses(&["--bad", "HEAD"], "--good <REV>");
    refuses(&["--good", "v6.99", "--bad", "HEAD"], "\"v6.99\" (--good) names no commit of");
    refuses(&["--good", "--bad", "--bad", "HEAD"], "(--good) names no commit of");
    refuses(&["--good", "HEAD", "--bad", "HEAD~1"], "given the wrong way round?");
    refuses(&["--good", "HEAD", "--bad", "main"], "are the same commit");
    refuses(&[&ends[..], &["--confidence", "1"]].concat(), "give 0.5 to 0.9999");
    refuses(&[&ends[..], &["--runs", "0"]].concat(), "not in 1..=1000");
    refuses(&[&ends[..], &["--cycles", "0"]].concat(), "--cycles");
    refuses(&[&ends[..], &["--patch", "none.mbox"]].concat(), "the patch none.mbox cannot be read");
    fs::create_dir(bench.path("foreign")).unwrap();
    fs::write(bench.path("foreign/thesis.tex"), "").unwrap();
    refuses(&[&ends[..], &["--out", "foreign"]].concat(), "holds files and no bisection (thesis.tex)");
    let elsewhere = |tree: &str, sentence: &str| {
        bench.refuses(&[&["bisect", "--tree", tree, &scenario][..], &ends].concat(), 2, sentence);
    };
    elsewhere("none", "there is no folder none");
    elsewhere(".", "is not a git repository");
    elsewhere("tree/arch", "not the top of a git repository but its folder arch");
    bench.refuses(&[&["bisect", "--tree", "tree", "none.toml"][..], &ends].concat(), 2, "none.toml");
    assert!(!bench.path("plugstorm-out").exists() && !bench.path("cache").exists());
}

#[test]
fn a_bad_commit_that_is_no_kernel_is_told_and_nothing_is_left() {
    let bench = Bench::new();
    let scenario = bench.scenario();
    tree(&bench, &["@false # one", "@echo 'Kconfig:1: error: no'; false"]);
    fs::write(bench.path("tree/in-hand"), "x").unwrap();
    let before = git(&bench, &["status", "--porcelain"]);
    let args = bisect(&scenario, &["--good", "HEAD~1", "--bad", "HEAD"]);
    // Twice: the user may have mended something outside the tree.
    for _ in 0..2 {
        bench.refuses(&args, 2, "cannot be built and loaded: configuring failed (exit status: 2)");
    }
    assert_eq!(
        (git(&bench, &["status", "--porcelain"]), git(&bench, &["for-each-ref", "refs/bisect"])),
        (before, "".into())
    );
    let out = bench.path("plugstorm-out/bisect");
    let json: serde_json::Value = serde_json::from_slice(&fs::read(out.join("bisect.json")).unwrap()).unwrap();
    assert_eq!((&json["version"], &json["runs"], &json["outcome"]), (&1.into(), &10.into(), &serde_json::Value::Null));
    assert!(fs::read_to_string(out.join("bisect.log")).unwrap().contains("\ngit bisect start "));
    assert!(!out.join("git").exists());
    bench.refuses(&[&args[..], &["--runs", "5"]].concat(), 2, "has another bisection: its number of runs");
}

#[test]
fn a_signal_ends_a_bisection_which_goes_on_later() {
    let bench = Bench::new();
    let scenario = bench.scenario();
    tree(&bench, &["@false # one", "@echo begun; sleep 60"]);
    let args = bisect(&scenario, &["--good", "HEAD~1", "--bad", "HEAD"]);
    let child = bench.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    let has_begun = || {
        let logs = fs::read_dir(bench.path("cache/logs")).into_iter().flatten().flatten();
        logs.into_iter().any(|log| fs::read_to_string(log.path()).unwrap_or_default().contains("begun"))
    };
    while !has_begun() {
        assert!(Instant::now() < limit, "it did not get as far as configuring");
        std::thread::sleep(Duration::from_millis(50));
    }
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("a signal ended the bisection; the same command line goes on where it was"), "{said}");
    assert!(bench.path("plugstorm-out/bisect/bisect.json").exists());
    assert!(!bench.path("plugstorm-out/bisect/git").exists());
    assert_eq!(fs::read_dir(bench.path("cache/builds")).unwrap().count(), 0);
}

#[test]
fn exit_codes_for_git_bisect_run() {
    let bench = Bench::new();
    let scenario = bench.scenario();
    tree(&bench, &["@echo 'Kconfig:1: error: no'; false"]);
    let build = |more: &[&'static str]| {
        let own =
            ["kernel", "build", "step", "--git-bisect", "--source", "tree", "--no-base", "--config", "mine.config"];
        [&own[..], more].concat()
    };
    // It lies in the source; and what does not.
    bench.refuses(&build(&[]), 125, "configuring failed");
    bench.refuses(&build(&["--config", "none.config"]), 128, "none.config cannot be read");
    bench.refuses(&build(&["--jobs", "0"]), 128, "not in 1..=512");
    bench.refuses(&["storm", &scenario, "--git-bisect", "--kernel", "./none"], 128, "./none");
    bench.refuses(&["storm", "none.toml", "--git-bisect"], 128, "none.toml");
    bench.refuses(&["storm", "--git-bisect"], 128, "<SCENARIO>");
    bench.refuses(&["storm", "--kernel", "./none", &scenario], 2, "./none");
    // No host to run on.
    let storm = ["storm", &scenario, "--git-bisect", "--kernel", "./kernel", "--host", "nested"];
    let output = bench.command(&storm).env("PATH", bench.path("nothing")).output().unwrap();
    assert_eq!(output.status.code(), Some(128), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn help_says_how_it_is_done() {
    let bench = Bench::new();
    let help = bench.command(&["bisect", "--help"]).env_remove("COLUMNS").output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    insta::assert_snapshot!(String::from_utf8_lossy(&help.stdout));
}
