//! The host's signal on a device's line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use plugstorm_machine::{GpioHandle, let_the_monitor_first};

use super::guest::GuestError;
use crate::scenario::Signal;

/// A thread that toggles a line, until it is dropped or the device has gone.
#[derive(Debug)]
pub(super) struct Toggler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Toggler {
    /// Starts with the line going high.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(handle: GpioHandle, signal: Signal) -> Result<Self, GuestError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let toggle = move || {
            let_the_monitor_first();
            let half = signal.period / 2;
            let mut level = false;
            while !stopped.load(Ordering::Relaxed) {
                level = !level;
                if handle.set_level(signal.line, level).is_err() {
                    return;
                }
                std::thread::park_timeout(half);
            }
        };
        let thread = std::thread::Builder::new()
            .name("signal".into())
            .spawn(toggle)
            .map_err(|error| GuestError::Machine(format!("the system gave no thread for a signal: {error}")))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Lets it end, without waiting for it.
    pub(super) fn tell_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Toggler {
    fn drop(&mut self) {
        self.tell_to_stop();
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It can only have ended.
            let _ = thread.join();
        }
    }
}
