//! A program with all that it starts, which ends when we do, however we end.

use std::fs;
use std::io;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::child::BoundChild;

/// What leads the group: `"$@"`, and its exit status. A signal for the parent's end reaches the child alone, and what that
/// starts does not inherit it (prctl(2), PR_SET_PDEATHSIG): make would be gone, and the compilers below it go on. A shell
/// that waits can pass it on to all.
const LEADER: &str = r#"trap 'kill -KILL 0' USR1; "$@" & wait $!"#;
/// The leader's signal for our end. Not one that we send ourselves.
const OUR_END: Signal = Signal::SIGUSR1;
/// What a group gets to end by itself after SIGTERM: ccache and make remove what they have half written.
const END_LIMIT: Duration = Duration::from_secs(5);

/// A process group. Dropped before it was waited for, it is ended.
#[derive(Debug)]
pub(super) struct Group {
    leader: BoundChild,
    id: Pid,
    is_waited_for: bool,
}

/// What a group has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Doing {
    /// Members that have not ended.
    pub(super) processes: usize,
    /// Processor time of all of them, and of their children that have ended, in clock ticks.
    pub(super) ticks: u64,
}

/// `program` with a leader, to be started by [`Group::start`]. Input and output are to be set on what this gives.
pub(super) fn led(program: &Command) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", LEADER, "sh"]).arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(folder) = program.get_current_dir() {
        command.current_dir(folder);
    }
    command
}

impl Group {
    /// Starts what [`led`] has made, in a process group of its own: a terminal's Ctrl-C is for us, who then end it in order.
    pub(super) fn start(command: Command) -> io::Result<Self> {
        let mut leader = BoundChild::spawn_told_by(command, OUR_END)?;
        let id = Pid::from_raw(leader.child().id().cast_signed());
        Ok(Self { leader, id, is_waited_for: false })
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.leader.child().try_wait()?;
        self.is_waited_for |= status.is_some();
        Ok(status)
    }

    /// What it has come to by now. A process that works makes this another value, as does one that starts or ends.
    pub(super) fn doing(&self) -> Doing {
        let mut doing = Doing::default();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            // Of a process that ended meanwhile there is nothing to read.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            if let Some(ticks) = ticks_of_member(&stat, self.id.as_raw()) {
                doing.processes += 1;
                doing.ticks = doing.ticks.wrapping_add(ticks);
            }
        }
        doing
    }
}

/// The processor time in a line of `/proc/PID/stat` (proc(5)), if it is of a living member of the group.
fn ticks_of_member(stat: &str, group: i32) -> Option<u64> {
    // A name may have blanks and parentheses in it; what comes after the last one has neither.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    // Counted from the state, which is field 3: pgrp is field 5, utime to cstime are 14 to 17.
    let is_living = !matches!(*fields.first()?, "Z" | "X");
    let is_member = fields.get(2)?.parse() == Ok(group);
    (is_living && is_member).then(|| (11..=14).filter_map(number).fold(0, u64::wrapping_add))
}

impl Drop for Group {
    fn drop(&mut self) {
        // Waited for, its number may be another's.
        if self.is_waited_for {
            return;
        }
        let _ = killpg(self.id, Signal::SIGTERM);
        let began = Instant::now();
        while began.elapsed() < END_LIMIT && self.doing().processes > 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = killpg(self.id, Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    fn start(script: &str) -> Group {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let mut command = led(&command);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Group::start(command).unwrap()
    }

    /// Waits for something that comes sooner or later.
    fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn its_exit_status_and_surroundings_are_the_programs() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit $((X + ${HOME:-2}))"]).env("X", "5").env_remove("HOME").current_dir("/");
        let mut group = Group::start(led(&command)).unwrap();
        let mut status = None;
        until("it ends", || {
            status = group.ended().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(7));
    }

    #[test]
    fn the_end_of_the_thread_that_started_it_ends_all_of_it() {
        let group = std::thread::spawn(|| {
            let group = start("sleep 600 & sh -c 'sleep 600; :'; wait");
            // The leader, two shells, two sleepers.
            until("all have started", || group.doing().processes == 5);
            group
        });
        let group = group.join().unwrap();
        until("all have ended", || group.doing().processes == 0);
    }

    #[test]
    fn dropping_it_ends_all_of_it_also_what_ignores_a_signal() {
        let group = start("trap '' TERM; sleep 600 & wait; sleep 600");
        until("all have started", || group.doing().processes == 3);
        let id = group.id;
        drop(group);
        until("all have ended", || killpg(id, None).is_err());
    }

    #[test]
    fn who_works_does_something_and_who_sleeps_does_not() {
        let group = start("while :; do :; done");
        let first = group.doing();
        until("it uses time", || group.doing().ticks > first.ticks);
        let line = "7 (a) b) S 1 42 42 0 -1 4194304 1 2 3 4 10 20 300 4000 20 0 1 0";
        assert_eq!(ticks_of_member(line, 42), Some(4330));
        assert_eq!(ticks_of_member(line, 43), None);
        assert_eq!(ticks_of_member(&line.replace(") S", ") Z"), 42), None);
        assert_eq!(ticks_of_member("", 42), None);
    }
}
