//! One thread of a hammer, and what others may see of it.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use nix::errno::Errno;
use nix::sys::eventfd::EventFd;
use nix::unistd::gettid;
use plugstorm_wire::{HammerSpec, Operation, Sharing};

use super::count::{Counters, Failure};
use super::descriptors::{Descriptors, Scratch};
use super::{pause, share};
use crate::clock::tsc;
use crate::priority;

/// The thread is in none of its operations: it pauses, or closes.
const NO_OPERATION: u32 = 0;

/// What a thread shows of itself. It writes, others read; nothing here makes it wait.
#[derive(Debug)]
pub(super) struct ThreadState {
    tid: AtomicU32,
    begun_tsc: AtomicU64,
    /// One more than the position of its operation among the hammer's; [`NO_OPERATION`] for none.
    current: AtomicU32,
    since_tsc: AtomicU64,
    last_end_tsc: AtomicU64,
    finished: AtomicBool,
    /// What it did.
    pub(super) counters: Counters,
}

impl ThreadState {
    /// Of a thread that has not begun.
    pub(super) fn new(operations: &[Operation]) -> Self {
        Self {
            tid: AtomicU32::new(0),
            begun_tsc: AtomicU64::new(0),
            current: AtomicU32::new(NO_OPERATION),
            since_tsc: AtomicU64::new(0),
            last_end_tsc: AtomicU64::new(0),
            finished: AtomicBool::new(false),
            counters: Counters::new(operations),
        }
    }

    /// Its thread id, and when it began; nothing if it has not.
    pub(super) fn begun(&self) -> Option<(u32, u64)> {
        match self.tid.load(Acquire) {
            0 => None,
            tid => Some((tid, self.begun_tsc.load(Relaxed))),
        }
    }

    /// Whether it has ended, with its descriptors closed.
    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Acquire)
    }

    /// Takes note that the calling thread works from now on.
    pub(super) fn begin(&self, now_tsc: u64) {
        self.begun_tsc.store(now_tsc, Relaxed);
        self.since_tsc.store(now_tsc, Relaxed);
        self.tid.store(u32::try_from(gettid().as_raw()).unwrap_or(0), Release);
    }

    /// Takes note that the thread has ended.
    pub(super) fn finish(&self) {
        self.finished.store(true, Release);
    }

    /// The operation that it is in, and since when; or since when it has been in none.
    pub(super) fn position(&self, operations: &[Operation]) -> (Option<Operation>, u64) {
        let current = usize::try_from(self.current.load(Acquire)).unwrap_or(0);
        let operation = current.checked_sub(1).and_then(|index| operations.get(index)).copied();
        (operation, self.since_tsc.load(Relaxed))
    }

    /// When its last call ended; now, if it is in one.
    pub(super) fn last_end_tsc(&self) -> u64 {
        if self.current.load(Acquire) == NO_OPERATION { self.last_end_tsc.load(Relaxed) } else { tsc() }
    }

    fn enter(&self, index: usize, now_tsc: u64) {
        self.since_tsc.store(now_tsc, Relaxed);
        self.current.store(u32::try_from(index).unwrap_or(u32::MAX - 1) + 1, Release);
    }

    fn leave(&self, now_tsc: u64) {
        self.last_end_tsc.store(now_tsc, Relaxed);
        self.since_tsc.store(now_tsc, Relaxed);
        self.current.store(NO_OPERATION, Release);
    }
}

/// All that a thread needs to work.
#[derive(Debug)]
pub(super) struct Worker {
    /// Its number in the hammer, from 0.
    pub(super) index: u32,
    /// What to do.
    pub(super) spec: Arc<HammerSpec>,
    /// The run's seed.
    pub(super) seed: u64,
    /// What it shows of itself.
    pub(super) state: Arc<ThreadState>,
    /// Its descriptors.
    pub(super) descriptors: Arc<Descriptors>,
    /// Set when it is to end.
    pub(super) stop: Arc<AtomicBool>,
    /// Rung when it has begun and when it has ended.
    pub(super) bell: Arc<EventFd>,
}

impl Worker {
    /// Works until told to stop, then closes.
    pub(super) fn run(self) {
        // Refused only if it has no better priority than that already, as in tests.
        let _ = priority::of_a_hammer();
        // Without a table of its own it would test something else than it says: then the hammer does not start.
        if self.spec.sharing != Sharing::Fork || share::own_table().is_ok() {
            self.work();
        }
        let Self { state, descriptors, bell, .. } = self;
        // Of those who share descriptors the last one closes them. This may be where a defect shows, so it counts as
        // part of the thread's work.
        state.since_tsc.store(tsc(), Relaxed);
        drop(descriptors);
        state.finish();
        ring(&bell);
    }

    /// Tells, once, that the thread is in its first call: from here on the hammer is at work.
    fn tell_begun(&self, now_tsc: u64) {
        if self.state.begun().is_none() {
            self.state.begin(now_tsc);
            ring(&self.bell);
        }
    }

    fn work(&self) {
        let spec = &self.spec;
        let first = usize::try_from(self.index).unwrap_or(0);
        let mut scratch = Scratch::new(pause::source(self.seed, self.index), first);
        let mut gone = false;
        for (index, &operation) in spec.operations.iter().enumerate().cycle().skip(first % spec.operations.len().max(1))
        {
            if self.stop.load(Relaxed) {
                return;
            }
            self.state.counters.begin(operation);
            let began_tsc = tsc();
            self.state.enter(index, began_tsc);
            self.tell_begun(began_tsc);
            let result = self.descriptors.call(operation, &mut scratch);
            let ended_tsc = tsc();
            self.state.leave(ended_tsc);
            self.state.counters.end(operation, (began_tsc, ended_tsc), result);
            gone |= result == Err(Failure::Errno(Errno::ENODEV));
            let pause_ns = pause::choose_ns(&mut scratch.source, spec.pause_min_ns, spec.pause_max_ns, gone);
            pause::wait(pause_ns, &self.stop);
        }
    }
}

/// Tells whoever waits that a thread has begun or ended.
pub(super) fn ring(bell: &EventFd) {
    // It fails only if the counter is about to overflow, that is, if nobody has listened 2^64 times.
    let _ = bell.write(1);
}

#[cfg(test)]
mod tests {
    use super::super::descriptors::spec;
    use super::super::plugstorm::Plugstorm;
    use super::*;
    use plugstorm_wire::HammerTarget;
    use std::path::Path;

    #[test]
    fn a_thread_works_counts_and_ends() {
        let spec = Arc::new(spec(HammerTarget::Plugstorm, &[Operation::Read, Operation::IoctlTouch]));
        let state = Arc::new(ThreadState::new(&spec.operations));
        let stop = Arc::new(AtomicBool::new(false));
        let bell = Arc::new(EventFd::new().unwrap());
        let worker = Worker {
            index: 1,
            spec: Arc::clone(&spec),
            seed: 1,
            state: Arc::clone(&state),
            descriptors: Arc::new(Descriptors::Plugstorm(Plugstorm::open(&spec, Path::new("/dev/null"), &[]).unwrap())),
            stop: Arc::clone(&stop),
            bell: Arc::clone(&bell),
        };
        assert!(state.begun().is_none());
        let thread = std::thread::spawn(|| worker.run());
        bell.read().unwrap();
        assert!(state.begun().is_some());
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(!state.is_finished());
        stop.store(true, Relaxed);
        bell.read().unwrap();
        thread.join().unwrap();
        assert!(state.is_finished());
        assert_eq!(state.position(&spec.operations).0, None);
        let counts = super::super::count::sum([&state.counters], |ticks| ticks);
        assert!(counts.iter().all(|count| count.calls > 0));
        let touch = counts.iter().find(|count| count.operation == Operation::IoctlTouch).unwrap();
        assert_eq!(touch.errors.first().map(|error| error.name.as_str()), Some("ENOTTY"));
    }

    #[test]
    fn the_position_names_the_operation() {
        let operations = [Operation::Read, Operation::Poll];
        let state = ThreadState::new(&operations);
        state.enter(1, 77);
        assert_eq!(state.position(&operations), (Some(Operation::Poll), 77));
        state.leave(99);
        assert_eq!(state.position(&operations), (None, 99));
        assert_eq!(state.last_end_tsc(), 99);
    }
}
