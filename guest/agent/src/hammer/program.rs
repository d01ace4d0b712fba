//! A program that a thread runs again and again.

use std::path::Path;
use std::process::Stdio;

use nix::errno::Errno;
use nix::sys::wait::WaitStatus;
use nix::unistd::{AccessFlags, access};
use plugstorm_wire::{HammerSpec, Operation};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};

use super::count::Failure;
use super::descriptors::OpenError;
use crate::spawn;

/// A program that can be run.
#[derive(Debug)]
pub(super) struct Program {
    /// Its path and arguments.
    program: Vec<String>,
}

/// Whether a program has this operation.
pub(super) fn supports(operation: Operation) -> bool {
    operation == Operation::Run
}

impl Program {
    /// Looks whether it is there.
    pub(super) fn open(spec: &HammerSpec) -> Result<Self, OpenError> {
        let path = spec.program.first().map_or("", String::as_str);
        access(Path::new(path), AccessFlags::X_OK)
            .map_err(|errno| OpenError::Never(format!("hammer {}: cannot run {path}: {errno}", spec.name)))?;
        Ok(Self { program: spec.program.clone() })
    }

    /// Runs it to its end. What it writes is thrown away. A thread that is interrupted, since the hammer is to end, kills it.
    pub(super) fn call(&self, operation: Operation) -> Result<(), Failure> {
        if operation != Operation::Run {
            return Err(Errno::ENOTTY.into());
        }
        let mut command = spawn::command(&self.program).ok_or(Errno::ENOENT)?;
        // The hammer's own output is the agent's.
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let pid = child.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?.id();
        match wait(pid)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(_, code) => Err(Failure::Exit(code)),
            WaitStatus::Signaled(_, signal, _) => Err(Failure::Signal(signal)),
            _ => Err(Errno::ECHILD.into()),
        }
    }
}

/// Waits for a process, and kills what it has started itself: the next run is not to meet that. When a signal comes, kills it
/// too, and gives `EINTR`.
fn wait(pid: u32) -> nix::Result<WaitStatus> {
    let errno = |error: rustix::io::Errno| Errno::from_raw(error.raw_os_error());
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::ESRCH)?;
    // It is reaped last: until then its number, and that of its group, is nobody else's.
    let ended = waitid(WaitId::Pid(process), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    spawn::kill_group(pid);
    loop {
        match waitpid(Some(process), WaitOptions::empty()) {
            // One that does not end now hangs in the kernel, and so does this thread, which is how it is found.
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(errno(error)),
            Ok(status) => {
                ended.map_err(errno)?;
                return status.and_then(|(pid, status)| spawn::ended(pid, status)).ok_or(Errno::ECHILD);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::Signal;
    use plugstorm_wire::HammerTarget;

    fn program(script: &str) -> Program {
        let mut spec = super::super::descriptors::spec(HammerTarget::Program, &[Operation::Run]);
        spec.program = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        Program::open(&spec).unwrap()
    }

    #[test]
    fn each_end_has_its_name() {
        assert_eq!(program("exit 0").call(Operation::Run), Ok(()));
        assert_eq!(program("exit 7").call(Operation::Run), Err(Failure::Exit(7)));
        assert_eq!(program("kill -ABRT $$").call(Operation::Run), Err(Failure::Signal(Signal::SIGABRT)));
        // Real-time signals have no names.
        assert_eq!(program("kill -34 $$").call(Operation::Run), Err(Failure::Exit(162)));
        assert_eq!(program("exit 0").call(Operation::Read), Err(Errno::ENOTTY.into()));
    }

    #[test]
    fn a_program_that_is_not_there_is_never_run() {
        let mut spec = super::super::descriptors::spec(HammerTarget::Program, &[Operation::Run]);
        spec.program = vec!["/no/such/program".into()];
        let error = Program::open(&spec).unwrap_err();
        assert!(matches!(error, OpenError::Never(text) if text.contains("/no/such/program")));
    }

    #[test]
    fn a_thread_that_is_interrupted_ends_its_program() {
        super::super::interrupt::install().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            tell.send(u32::try_from(nix::unistd::gettid().as_raw()).unwrap()).unwrap();
            program("sleep 600").call(Operation::Run)
        });
        let tid = told.recv().unwrap();
        while !thread.is_finished() {
            super::super::interrupt::send(tid);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(thread.join().unwrap(), Err(Errno::EINTR.into()));
    }
}
