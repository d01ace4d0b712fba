//! Programs that run as a step: their output is read as it comes, so that they never wait for it, and kept within bounds.

use std::io::{ErrorKind, PipeReader, Read, pipe};
use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::wait::WaitStatus;
use plugstorm_wire::{FromGuest, PROGRAM_OUTPUT_BYTES, ProgramEnd, program_label};

use crate::clock::tsc;
use crate::{priority, spawn};

/// Reads of an output in one go, of at most 16 KiB each, before others have their turn.
const READS_AT_ONCE: usize = 8;
/// Reads of what an ended program has left in its pipe: more than a pipe holds (1 MiB by /proc/sys/fs/pipe-max-size).
const LAST_READS: usize = 128;

/// The programs that run.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    running: Vec<Running>,
    next_token: u64,
}

#[derive(Debug)]
struct Running {
    token: u64,
    id: u64,
    pid: u32,
    label: String,
    began_tsc: u64,
    output: PipeReader,
    kept: Vec<u8>,
    bytes: u64,
}

impl Programs {
    /// Starts a program; gives its token, for [`Self::descriptor`] and [`Self::receive`].
    ///
    /// # Errors
    /// One sentence, to be the answer to the host.
    pub(crate) fn start(&mut self, id: u64, program: &[String]) -> Result<u64, String> {
        let name = program.first().map_or("", String::as_str);
        let failed = |error: &dyn std::fmt::Display| format!("cannot run {name} in the guest: {error}");
        let mut command = spawn::command(program).ok_or("a program to run has no name")?;
        let (output, input) = pipe().map_err(|error| failed(&error))?;
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| failed(&errno))?;
        command.stdout(input.try_clone().map_err(|error| failed(&error))?).stderr(input);
        let began_tsc = tsc();
        let child = command.spawn().map_err(|error| failed(&error))?;
        // Until here it has the agent's priority, which is before all others.
        let _ = priority::of_a_program(child.id());
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1);
        self.running.push(Running {
            token,
            id,
            pid: child.id(),
            label: program_label(program),
            began_tsc,
            output,
            kept: Vec::new(),
            bytes: 0,
        });
        // `child` is not waited for here: PID 1 reaps all processes in one place.
        Ok(token)
    }

    /// Where the output of a program comes from.
    pub(crate) fn descriptor(&self, token: u64) -> Option<BorrowedFd<'_>> {
        self.running.iter().find(|running| running.token == token).map(|running| running.output.as_fd())
    }

    /// Kills a program and forgets it: its end will be no answer to the host.
    pub(crate) fn give_up(&mut self, token: u64) {
        let Some(position) = self.running.iter().position(|running| running.token == token) else { return };
        // Not reaped yet, or it would not be among those that run: the number is still its own.
        spawn::kill_group(self.running.remove(position).pid);
    }

    /// Reads the output that is there. False if there will be no more.
    pub(crate) fn receive(&mut self, token: u64) -> bool {
        self.running.iter_mut().find(|running| running.token == token).is_some_and(|it| it.receive(READS_AT_ONCE))
    }

    /// Takes note that a process has ended; what is left of its group is killed.
    pub(crate) fn reaped(&mut self, status: WaitStatus, to_host: &mut Vec<FromGuest>) {
        let (pid, end) = match status {
            WaitStatus::Exited(pid, code) => (pid, ProgramEnd::Exited(code)),
            WaitStatus::Signaled(pid, signal, _) => (pid, ProgramEnd::Killed(signal.as_str().to_owned())),
            _ => return,
        };
        let Ok(pid) = u32::try_from(pid.as_raw()) else { return };
        let Some(position) = self.running.iter().position(|running| running.pid == pid) else { return };
        let ended_tsc = tsc();
        let mut running = self.running.remove(position);
        // Its number is given away again only after all others have been.
        spawn::kill_group(pid);
        running.receive(LAST_READS);
        to_host.push(FromGuest::ProgramEnded {
            id: running.id,
            began_tsc: running.began_tsc,
            ended_tsc,
            end,
            output: text(&running.kept),
            output_bytes: running.bytes,
        });
    }

    /// What each process of them is called.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (u32, String)> {
        self.running.iter().map(|running| (running.pid, running.label.clone()))
    }
}

impl Running {
    fn receive(&mut self, reads: usize) -> bool {
        let mut buffer = [0; 16 << 10];
        for _ in 0..reads {
            match self.output.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    self.bytes = self.bytes.saturating_add(count as u64);
                    let room = PROGRAM_OUTPUT_BYTES.saturating_sub(self.kept.len()).min(count);
                    self.kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        true
    }
}

/// As text within the bound: what replaces a byte that is no UTF-8 takes three.
fn text(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    let end = (0..=PROGRAM_OUTPUT_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
    use nix::unistd::Pid;

    /// A program to its end, as the agent does it, though it may only look when the program has ended.
    fn ran(script: &str) -> FromGuest {
        let mut programs = Programs::default();
        let token = programs.start(5, &["/bin/sh".into(), "-c".into(), script.into()]).unwrap();
        let pid = programs.processes().next().unwrap().0;
        let process = Pid::from_raw(i32::try_from(pid).unwrap());
        let ends = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        let ended = std::thread::spawn(move || waitid(Id::Pid(process), ends).unwrap());
        while !ended.is_finished() {
            programs.receive(token);
        }
        let mut to_host = Vec::new();
        programs.reaped(waitpid(process, None).unwrap(), &mut to_host);
        assert!(programs.descriptor(token).is_none());
        to_host.remove(0)
    }

    fn end_of(script: &str) -> (ProgramEnd, String, u64) {
        match ran(script) {
            FromGuest::ProgramEnded { id: 5, end, output, output_bytes, .. } => (end, output, output_bytes),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_end_and_the_output_are_told() {
        assert_eq!(end_of("echo one; echo two >&2; exit 3"), (ProgramEnd::Exited(3), "one\ntwo\n".into(), 8));
        assert_eq!(end_of("kill -SEGV $$"), (ProgramEnd::Killed("SIGSEGV".into()), String::new(), 0));
    }

    #[test]
    fn a_flood_is_counted_and_cut_and_nobody_waits_for_it() {
        let (end, output, bytes) = end_of("head -c 3000000 /dev/zero");
        assert_eq!((end, output.len(), bytes), (ProgramEnd::Exited(0), PROGRAM_OUTPUT_BYTES, 3_000_000));
        assert_eq!(text(&[0xff; 9000]).len(), PROGRAM_OUTPUT_BYTES / 3 * 3);
    }

    #[test]
    fn whoever_keeps_the_pipe_open_is_not_waited_for() {
        let (end, output, _) = end_of("sleep 600 & echo done");
        assert_eq!((end, output.as_str()), (ProgramEnd::Exited(0), "done\n"));
    }

    #[test]
    fn a_program_that_is_given_up_is_killed_and_not_told_of() {
        let mut programs = Programs::default();
        let token = programs.start(5, &["/bin/sleep".into(), "600".into()]).unwrap();
        let pid = programs.processes().next().unwrap().0;
        programs.give_up(token);
        // As one that has ended meanwhile.
        programs.give_up(token);
        assert!(programs.descriptor(token).is_none());
        let mut to_host = Vec::new();
        let ended = waitpid(Pid::from_raw(i32::try_from(pid).unwrap()), None).unwrap();
        assert!(matches!(ended, WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGKILL, _)), "{ended:?}");
        programs.reaped(ended, &mut to_host);
        assert_eq!(to_host, []);
    }

    #[test]
    fn what_cannot_be_run_is_said() {
        let error = Programs::default().start(1, &["/no/such/program".into()]).unwrap_err();
        assert!(error.contains("/no/such/program"), "{error}");
        assert!(Programs::default().start(1, &[]).is_err());
    }
}
