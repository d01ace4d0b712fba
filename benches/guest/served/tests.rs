//! The client against servers that are shell scripts.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::*;

/// Longer than any of these takes.
const LONG: Duration = Duration::from_secs(120);
const LIMITS: Limits = Limits { start: LONG, measure: LONG, end: LONG };
/// What is waited for in vain.
const SHORT: Duration = Duration::from_millis(100);

const UP: &str = "echo plugstorm-bench 1; echo ready a guest of a shell;";

fn script(text: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", text]);
    command
}

fn started(text: &str, limits: Limits) -> Served {
    Served::start(script(&format!("{UP} {text}")), limits).unwrap()
}

fn refused(text: &str, limits: Limits) -> ServedError {
    Served::start(script(text), limits).map(drop).unwrap_err()
}

/// Of a process that has been waited for.
fn is_gone(pid: u32) -> bool {
    kill(Pid::from_raw(pid.cast_signed()), None) == Err(Errno::ESRCH)
}

/// The process's id, from a file that it writes; it may not have done so yet.
fn pid_in(file: &Path) -> u32 {
    loop {
        if let Some(pid) = std::fs::read_to_string(file).ok().and_then(|text| text.trim_end().parse().ok()) {
            return pid;
        }
        thread::sleep(TICK);
    }
}

#[test]
fn a_guest_answers_one_measure_after_another() {
    let mut served = started(
        "while read -r line; do case $line in \
         measure=clock*) echo sample 0 0 700 10; echo note a b; echo sample 1 0 720 10; echo done;; \
         *) echo sample 0 0 1 1; echo error this design cannot;; esac; done",
        LIMITS,
    );
    assert_eq!(served.facts(), "a guest of a shell");
    for _ in 0..3 {
        let samples = served.measure("measure=clock rounds=2 loops=10").unwrap();
        assert_eq!(samples.iter().map(|sample| sample.value).collect::<Vec<_>>(), [700, 720]);
        assert_eq!(served.measure("measure=access").unwrap_err(), "this design cannot");
        assert_eq!(served.lost(), None);
    }
}

#[test]
fn a_machine_without_a_guest_says_why() {
    let error = refused("echo plugstorm-bench 1; echo skip no kernel is in the cache; exit 3", LIMITS);
    assert!(matches!(&error, ServedError::Skipped(why) if why == "no kernel is in the cache"), "{error}");
}

#[test]
fn servers_that_are_none_are_refused() {
    assert!(matches!(refused("echo plugstorm-bench 2", LIMITS), ServedError::Version(2)));
    assert!(matches!(refused("echo ready a guest", LIMITS), ServedError::Unexpected { .. }));
    assert!(matches!(refused("echo plugstorm-bench 1; echo done", LIMITS), ServedError::Unexpected { .. }));
    assert!(matches!(refused("head -c 1000000 /dev/zero", LIMITS), ServedError::Unexpected { .. }));
    assert!(matches!(Served::start(Command::new("/no/such/server"), LIMITS), Err(ServedError::Start(_))));
    let error = refused("exit 3", LIMITS).to_string();
    assert!(error.contains("exit status: 3") && error.contains("before its guest was ready"), "{error}");
}

#[test]
fn a_server_that_says_nothing_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let limits = Limits { start: SHORT, measure: LONG, end: SHORT };
    let error = refused(&format!("echo $$ > {}; exec sleep 600", file.display()), limits);
    assert!(matches!(error, ServedError::Silent { limit: SHORT, .. }), "{error}");
}

#[test]
fn a_measure_that_does_not_end_loses_the_guest() {
    let mut served = started("read -r line; exec sleep 600", Limits { measure: SHORT, ..LIMITS });
    let lost = served.measure("measure=clock rounds=1 loops=1").unwrap_err();
    assert!(lost.contains("said nothing for 100ms while it measured"), "{lost}");
    // And it says so from then on.
    assert_eq!(served.measure("measure=clock rounds=1 loops=1"), Err(lost.clone()));
    assert_eq!(served.lost(), Some(lost));
}

#[test]
fn a_server_that_ends_or_loses_its_guest_is_not_asked_again() {
    for (text, expected) in [
        ("read -r line; exit 7", "exit status: 7"),
        ("read -r line; echo sample 0 0 1 1; echo lost the kernel panicked; exec sleep 600", "the kernel panicked"),
        ("read -r line; echo done; exec sleep 600", "Done"),
        ("read -r line; exec yes 'sample 0 0 1 1'", "Sample"),
        ("read -r line; exec tr '\\0' x < /dev/zero", "xxxx"),
        ("read -r line; echo ready again; exec sleep 600", "again"),
    ] {
        let mut served = started(text, LIMITS);
        let lost = served.measure("measure=clock rounds=1 loops=1").unwrap_err();
        assert!(lost.contains(expected) && lost.len() < 300, "{text}: {lost}");
        assert_eq!(served.lost(), Some(lost));
    }
}

#[test]
fn a_guest_lost_between_two_measures_says_why() {
    let mut served = started("echo lost the emulator ended", LIMITS);
    served.child.wait().unwrap();
    assert_eq!(served.measure("measure=clock rounds=1 loops=1").unwrap_err(), "the guest was lost: the emulator ended");
}

#[test]
fn what_is_no_request_is_not_sent() {
    let mut served = started("read -r line; exit 7", LIMITS);
    for request in ["measure=clock\nmeasure=clock".to_owned(), "x".repeat(256)] {
        assert!(served.measure(&request).unwrap_err().contains("cannot be sent"));
    }
    assert_eq!(served.lost(), None);
}

#[test]
fn the_end_of_its_input_ends_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("over");
    drop(started(&format!("while read -r line; do :; done; echo over > {}", file.display()), LIMITS));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "over\n");
}

#[test]
fn a_server_that_does_not_end_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let text = format!("echo $$ > {}; exec sleep 600", file.display());
    let served = started(&text, Limits { end: SHORT, ..LIMITS });
    let pid = pid_in(&file);
    assert!(!is_gone(pid));
    drop(served);
    assert!(is_gone(pid));
}
