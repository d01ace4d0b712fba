//! The pauses of a thread between its calls: chosen by the seed, and cut short when the hammer is told to stop.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The least pause of a thread whose device has gone: calls after a removal are part of the test, millions are not.
const GONE_PAUSE_NS: u64 = 1_000_000;

/// Below this a thread spins: a sleep takes about as long by itself (50 µs of timer slack).
const SPIN_BELOW: Duration = Duration::from_micros(60);

/// A long pause is slept in slices, so that it ends soon after the hammer has been told to stop.
const SLICE: Duration = Duration::from_millis(10);

/// The source of a thread's choices. Each thread has its own stream of the same seed, so that the number of threads does
/// not change what the first ones do.
pub(super) fn source(seed: u64, thread: u32) -> ChaCha8Rng {
    let mut source = ChaCha8Rng::seed_from_u64(seed);
    source.set_stream(u64::from(thread));
    source
}

/// The next pause in nanoseconds. Greatest below least counts as both equal to the least.
pub(super) fn choose_ns(source: &mut ChaCha8Rng, min_ns: u64, max_ns: u64, gone: bool) -> u64 {
    // Chosen before it is raised: what the seed gives must not depend on when the device went.
    let chosen_ns = source.random_range(min_ns..=max_ns.max(min_ns));
    if gone { chosen_ns.max(GONE_PAUSE_NS) } else { chosen_ns }
}

/// Waits for as long, or until `stop` is set.
pub(super) fn wait(pause_ns: u64, stop: &AtomicBool) {
    if pause_ns == 0 {
        return;
    }
    let start = Instant::now();
    let pause = Duration::from_nanos(pause_ns);
    while !stop.load(Relaxed) {
        let left = pause.saturating_sub(start.elapsed());
        if left.is_zero() {
            return;
        }
        if left < SPIN_BELOW {
            std::hint::spin_loop();
        } else {
            std::thread::sleep(left.min(SLICE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_pauses(seed: u64, thread: u32) -> Vec<u64> {
        let mut source = source(seed, thread);
        (0..20).map(|_| choose_ns(&mut source, 100, 1000, false)).collect()
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(first_pauses(1, 0), first_pauses(1, 0));
        assert_ne!(first_pauses(1, 0), first_pauses(2, 0));
        assert_ne!(first_pauses(1, 0), first_pauses(1, 1));
        assert!(first_pauses(3, 0).iter().all(|pause| (100..=1000).contains(pause)));
    }

    #[test]
    fn a_device_that_has_gone_slows_threads_but_not_the_choices() {
        let mut calm = source(1, 0);
        let mut gone = source(1, 0);
        assert_eq!(choose_ns(&mut gone, 0, 1000, true), GONE_PAUSE_NS);
        choose_ns(&mut calm, 0, 1000, false);
        assert_eq!(choose_ns(&mut calm, 0, 1000, false), choose_ns(&mut gone, 0, 1000, false));
        assert_eq!(choose_ns(&mut gone, 5, 2, false), 5);
    }

    #[test]
    fn a_stop_ends_a_long_pause() {
        let start = Instant::now();
        wait(60_000_000_000, &AtomicBool::new(true));
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
