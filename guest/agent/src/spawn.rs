//! Processes of programs that the scenario's author has put into the guest.
#![allow(unsafe_code, reason = "a signal mask can be set only between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg, sigprocmask};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use rustix::process;

/// Where programs look for others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program as a process group of its own, in `/`, with no input and an environment that does not depend on the agent's. It
/// ends with the thread that starts it. Nothing if the program has no name.
pub(crate) fn command(program: &[String]) -> Option<Command> {
    let (path, arguments) = program.split_first()?;
    let mut command = Command::new(path);
    command.args(arguments).env_clear().env("PATH", PATH).env("HOME", "/").env("TERM", "dumb");
    command.current_dir("/").stdin(Stdio::null()).process_group(0);
    // SAFETY: what runs between fork and exec makes two system calls, and allocates nothing.
    unsafe { command.pre_exec(as_programs_begin) };
    Some(command)
}

/// The agent blocks SIGCHLD, and a program that waits for its children would inherit that.
fn as_programs_begin() -> io::Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    Ok(())
}

/// How a process ended, by the kernel's number for that; nothing if it did not. nix has no real-time signals, and loses processes
/// that one has ended: these are told as shells do, by 128 and the signal's number.
pub(crate) fn ended(pid: process::Pid, status: process::WaitStatus) -> Option<WaitStatus> {
    let pid = Pid::from_raw(pid.as_raw_nonzero().get());
    let by_signal = |number: i32| match Signal::try_from(number) {
        Ok(signal) => WaitStatus::Signaled(pid, signal, false),
        Err(_) => WaitStatus::Exited(pid, number.saturating_add(128)),
    };
    let exited = status.exit_status().map(|code| WaitStatus::Exited(pid, code));
    exited.or_else(|| status.terminating_signal().map(by_signal))
}

/// Kills what is left of a program's process group; nothing may be.
pub(crate) fn kill_group(pid: u32) {
    if let Ok(pid) = i32::try_from(pid)
        && pid > 1
    {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_begins_with_nothing_of_the_agents() {
        let program = ["/bin/sh", "-c", "grep SigBlk /proc/self/status; pwd; echo ${CARGO_MANIFEST_DIR:-none}; read x"];
        let output = command(&program.map(str::to_owned)).unwrap().output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said, "SigBlk:\t0000000000000000\n/\nnone\n");
        assert_eq!(output.status.code(), Some(1), "there is nothing to read");
        assert!(command(&[]).is_none());
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "each is reaped, by its number")]
    fn every_end_is_known() {
        for (script, code, by) in [
            ("exit 3", Some(3), None),
            ("kill -SEGV $$", None, Some(Signal::SIGSEGV)),
            ("kill -34 $$", Some(162), None),
        ] {
            let child = command(&["/bin/sh", "-c", script].map(str::to_owned)).unwrap().spawn().unwrap();
            let pid = process::Pid::from_child(&child);
            let (pid, status) = process::waitpid(Some(pid), process::WaitOptions::empty()).unwrap().unwrap();
            match ended(pid, status).unwrap() {
                WaitStatus::Exited(_, told) => assert_eq!(Some(told), code, "{script}"),
                WaitStatus::Signaled(_, signal, _) => assert_eq!(Some(signal), by, "{script}"),
                other => panic!("{script}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_group_is_killed_whole() {
        let program = ["/bin/sh", "-c", "sleep 600 & wait"].map(str::to_owned);
        let mut child = command(&program).unwrap().spawn().unwrap();
        kill_group(child.id());
        assert_eq!(child.wait().unwrap().code(), None);
        // Nobody of it is left, and that is no failure.
        kill_group(child.id());
        kill_group(0);
    }
}
