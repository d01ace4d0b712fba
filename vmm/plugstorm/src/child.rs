//! A process that ends when we do, however we end.

#![expect(unsafe_code, reason = "only between fork and exec can a process ask to be ended with its parent")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid};

/// A process that is killed and waited for when this is dropped, and sent a signal by the kernel when **the thread that
/// started it** ends without that (prctl(2), PR_SET_PDEATHSIG). What it starts itself gets neither.
#[derive(Debug)]
pub(crate) struct BoundChild {
    child: Child,
}

impl BoundChild {
    /// Starts a process that is killed at our end.
    pub(crate) fn spawn(command: Command) -> io::Result<Self> {
        Self::spawn_told_by(command, Signal::SIGKILL)
    }

    /// Starts a process that gets this signal at our end.
    pub(crate) fn spawn_told_by(mut command: Command, signal: Signal) -> io::Result<Self> {
        let parent = getpid();
        let bind = move || {
            prctl::set_pdeathsig(signal)?;
            // The parent may have ended before the line above; then the signal never comes.
            if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        };
        // A group of its own: Ctrl-C in a terminal is for us to pass on, and QEMU or make would end at once.
        command.process_group(0);
        // SAFETY: the closure runs in the forked child, where only async-signal-safe calls are sound: it makes two
        // system calls and allocates nothing.
        unsafe { command.pre_exec(bind) };
        Ok(Self { child: command.spawn()? })
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for its end, and kills it after `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        let begun = Instant::now();
        while begun.elapsed() < limit {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for BoundChild {
    fn drop(&mut self) {
        // Both do nothing for one that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use nix::sys::signal::kill;
    use nix::unistd::Pid;

    fn sleeper() -> BoundChild {
        let mut command = Command::new("sleep");
        command.arg("60");
        BoundChild::spawn(command).unwrap()
    }

    #[test]
    fn dropping_it_ends_the_process() {
        let mut child = sleeper();
        let pid = Pid::from_raw(child.child().id().cast_signed());
        drop(child);
        assert_eq!(kill(pid, None), Err(Errno::ESRCH));
    }

    #[test]
    fn the_end_of_the_thread_ends_the_process() {
        let mut child = std::thread::spawn(sleeper).join().unwrap();
        let status = child.wait(Duration::from_secs(20)).unwrap();
        assert!(!status.success());
    }

    #[test]
    fn waiting_is_bounded() {
        let begun = Instant::now();
        assert!(!sleeper().wait(Duration::from_millis(50)).unwrap().success());
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}
