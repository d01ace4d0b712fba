//! Getting a thread out of a call that can be interrupted: a signal whose handler does nothing.
#![allow(unsafe_code, reason = "sigaction() is unsafe in nix, and nix has no tgkill()")]

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

extern "C" fn do_nothing(_signal: libc::c_int) {}

/// Makes SIGUSR1 end blocking calls with `EINTR`: without `SA_RESTART`, so that they do not begin again.
pub(super) fn install() -> nix::Result<()> {
    let action = SigAction::new(SigHandler::Handler(do_nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so there is nothing in it that may not be done in a handler; and nothing else in
    // the process of a hammer uses SIGUSR1.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.map(drop)
}

/// Sends the signal to a thread of this process. One that has ended is passed over.
///
/// One that is just about to enter its call does not notice: send again until it has come back.
pub(super) fn send(tid: u32) {
    // SAFETY: takes three numbers, touches no memory. tgkill(2) refuses a thread id of another process, so that one
    // that the kernel gave away anew cannot be hit.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), tid, libc::SIGUSR1) };
    match Errno::result(result) {
        Ok(_) | Err(_) => {}
    }
}
