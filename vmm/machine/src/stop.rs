//! Why a machine ended, told once and waited for.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Why a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopCause {
    /// The guest powered itself off.
    PowerOff,
    /// The guest reset itself. A kernel that panics with `panic=-1` does so too.
    Reset(ResetPort),
    /// A vCPU met an exception that it could not deliver, three times over (`KVM_EXIT_SHUTDOWN`).
    TripleFault,
    /// KVM could not go on, with its reason and the place.
    InternalError(String),
    /// The monitor ended it.
    Stopped,
}

/// Where a reset was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResetPort {
    /// The ACPI reset register.
    Acpi,
    /// The keyboard controller.
    Keyboard,
    /// The chipset's reset control register, 0xcf9.
    Chipset,
    /// By a jump to the reset vector.
    ResetVector,
}

impl fmt::Display for StopCause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => formatter.write_str("the guest powered off"),
            Self::Reset(ResetPort::Acpi) => formatter.write_str("the guest reset itself (ACPI reset register)"),
            Self::Reset(ResetPort::Keyboard) => formatter.write_str("the guest reset itself (keyboard controller)"),
            Self::Reset(ResetPort::Chipset) => formatter.write_str("the guest reset itself (port 0xcf9)"),
            Self::Reset(ResetPort::ResetVector) => formatter.write_str("the guest reset itself (reset vector)"),
            Self::TripleFault => formatter.write_str("a triple fault"),
            Self::InternalError(reason) => write!(formatter, "KVM could not go on: {reason}"),
            Self::Stopped => formatter.write_str("the monitor ended the guest"),
        }
    }
}

/// Holds the first cause that anybody reports.
#[derive(Default)]
pub struct StopLatch {
    cause: Mutex<Option<StopCause>>,
    changed: Condvar,
    /// Called after each report.
    listener: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Follows `cause`: what vCPUs look at between two exits, without the lock.
    is_set: AtomicBool,
}

impl StopLatch {
    /// Reports a cause. Only the first counts: what follows it is the machine falling down.
    pub fn set(&self, cause: StopCause) {
        let mut slot = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(cause);
        self.is_set.store(true, Ordering::Release);
        self.changed.notify_all();
        if let Some(listener) = self.listener.get() {
            listener();
        }
    }

    /// Calls this when a cause is reported, and now if one has been: for a thread that waits for other things too. It must
    /// not report a cause itself. The first listener stays.
    pub fn listen(&self, listener: impl Fn() + Send + Sync + 'static) {
        let listener = self.listener.get_or_init(|| Box::new(listener));
        // By the lock, which `set` has held before it looked for a listener.
        if self.get().is_some() {
            listener();
        }
    }

    /// Whether there is a cause. Takes no lock.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// The cause, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<StopCause> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a cause, at most so long.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<StopCause> {
        let start = Instant::now();
        let mut slot = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        while slot.is_none() {
            let left = timeout.checked_sub(start.elapsed()).filter(|left| !left.is_zero())?;
            slot = self.changed.wait_timeout(slot, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        slot.clone()
    }
}

impl fmt::Debug for StopLatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("StopLatch").field(&self.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn a_listener_is_told_also_if_it_comes_late() {
        let calls = Arc::new(AtomicU32::new(0));
        for late in [false, true] {
            let latch = StopLatch::default();
            let counter = Arc::clone(&calls);
            let listener = move || {
                counter.fetch_add(1, Ordering::Relaxed);
            };
            if late {
                latch.set(StopCause::PowerOff);
                latch.listen(listener);
            } else {
                latch.listen(listener);
                latch.set(StopCause::PowerOff);
            }
        }
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_first_cause_counts() {
        let latch = StopLatch::default();
        assert_eq!(latch.wait(Duration::ZERO), None);
        latch.set(StopCause::TripleFault);
        latch.set(StopCause::Stopped);
        assert_eq!(latch.wait(Duration::ZERO), Some(StopCause::TripleFault));
        assert_eq!(latch.get(), Some(StopCause::TripleFault));
    }
}
