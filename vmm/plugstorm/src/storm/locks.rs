//! Held locks: a kernel with lockdep lists them on its console when it is told to.

use std::time::Duration;

use plugstorm_wire::{FromGuest, ToGuest};

use super::engine::{Storm, Trouble};
use super::hearing::{cut, readable_text};
use crate::results::EventKind;

/// For the kernel to make its list, and then for the list's end to come over the console. A hundred tasks have some hundred lines.
const TIME_OUT: Duration = Duration::from_secs(5);
/// A reason of the guest's is cut here, in bytes.
const REASON_BYTES: usize = 300;

impl Storm<'_> {
    /// Has the guest's kernel list who holds which locks, and waits for that list. One that cannot is not told again: most kernels
    /// keep no account, and that is no failure.
    pub(super) fn list_locks(&mut self) -> Result<(), Trouble> {
        if self.now.lists_no_locks {
            return Ok(());
        }
        let (before, _) = self.now.console.lock_lists_ended();
        let id = self.id();
        if self.set.guest.send(&ToGuest::ShowLocks { id }).is_err() {
            return Ok(());
        }
        let time_out_ns = self.scaled(TIME_OUT);
        let problem = match self.answer(id, time_out_ns)? {
            Some((_, FromGuest::Done { error: Some(error), .. })) => Some(cut(readable_text(&error), REASON_BYTES)),
            Some(_) => {
                let ended = self.wait(time_out_ns, |now| {
                    Some(now.console.lock_lists_ended()).filter(|(ended, _)| *ended > before)
                })?;
                match ended {
                    Some((_, false)) => None,
                    Some((_, true)) => Some("lockdep is turned off, as it is after its first report".to_owned()),
                    None => Some("the list did not come to its end on the console in time".to_owned()),
                }
            }
            None => Some("the kernel did not make its list in time".to_owned()),
        };
        self.now.lists_no_locks = problem.is_some();
        self.guest_says(EventKind::LocksListed { tasks: self.now.console.locks().len(), problem }, None)
    }
}
