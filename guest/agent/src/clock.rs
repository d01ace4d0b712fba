//! The guest's clocks, and how slow this guest is.
#![allow(unsafe_code, reason = "the time-stamp counter is read by an intrinsic that the compiler calls unsafe")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_getres, clock_gettime, clock_settime};
use plugstorm_wire::CALIBRATION_ROUNDS;

/// How often the calibration loop is timed. The middle one counts: what else runs on the machine belongs to its slowdown,
/// one interruption does not.
const CALIBRATION_RUNS: usize = 3;

/// What a run of the short calibration has of [`CALIBRATION_ROUNDS`]: a run takes a tenth of a millisecond at 1 GHz.
const SHORT_CALIBRATION_PART: u64 = 100;

/// The time-stamp counter now.
pub(crate) fn tsc() -> u64 {
    // SAFETY: RDTSC touches no memory, and every x86-64 CPU has it; CR4.TSD, which would make it fault, is clear in
    // Linux for tasks that did not ask for it (PR_SET_TSC).
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Nanoseconds since the kernel's start (`CLOCK_BOOTTIME`); 0 if the kernel has no such clock.
pub(crate) fn since_boot_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| nanoseconds(Duration::from(time)))
}

/// Length of a timer tick, in nanoseconds; 0 if the kernel does not tell. Its coarse clocks are as fine as that
/// (kernel/time/posix-timers.c, posix_get_coarse_res).
pub(crate) fn tick_ns() -> u64 {
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |time| nanoseconds(Duration::from(time)))
}

/// Sets `CLOCK_REALTIME`, in nanoseconds since 1970. No other clock follows it.
///
/// # Errors
/// One sentence.
pub(crate) fn set_realtime(realtime_ns: u64) -> Result<(), String> {
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from(Duration::from_nanos(realtime_ns)))
        .map_err(|errno| format!("cannot set the wall clock: {errno}"))
}

/// How long [`CALIBRATION_ROUNDS`] dependent additions take here, in nanoseconds of the guest's clock.
pub(crate) fn calibrate_ns() -> u64 {
    calibrate_by_ns(CALIBRATION_ROUNDS)
}

/// The same, by so few of them that it is over within milliseconds, even on a slow machine. What gets in between counts for
/// more.
pub(crate) fn calibrate_briefly_ns() -> u64 {
    calibrate_by_ns(CALIBRATION_ROUNDS / SHORT_CALIBRATION_PART).saturating_mul(SHORT_CALIBRATION_PART)
}

fn calibrate_by_ns(rounds: u64) -> u64 {
    let mut runs: [u64; CALIBRATION_RUNS] = std::array::from_fn(|_| one_calibration_ns(rounds));
    runs.sort_unstable();
    runs.get(CALIBRATION_RUNS / 2).copied().unwrap_or(0)
}

/// Each round passes its sum through [`black_box`], so that each addition waits for the one before it.
fn one_calibration_ns(rounds: u64) -> u64 {
    let start = Instant::now();
    let mut sum = black_box(0_u64);
    for _ in 0..rounds {
        sum = black_box(sum.wrapping_add(1));
    }
    black_box(sum);
    nanoseconds(start.elapsed())
}

/// A duration in nanoseconds, at most `u64::MAX`.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// One moment on both clocks. Two of them give the length of a tick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    instant: Instant,
    tsc: u64,
}

impl Moment {
    /// This moment.
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), tsc: tsc() }
    }

    /// Turns ticks into nanoseconds by what passed on both clocks between `self` and `later`; 0 if nothing did.
    pub(crate) fn ticks_to_ns(&self, later: &Self, ticks: u64) -> u64 {
        let elapsed_ns = u128::from(nanoseconds(later.instant.saturating_duration_since(self.instant)));
        let elapsed_ticks = u128::from(later.tsc.saturating_sub(self.tsc));
        let scaled = u128::from(ticks).saturating_mul(elapsed_ns).checked_div(elapsed_ticks).unwrap_or(0);
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_scaled_by_what_passed_on_both_clocks() {
        let start = Moment { instant: Instant::now(), tsc: 1000 };
        let later = Moment { instant: start.instant + Duration::from_nanos(500), tsc: 2000 };
        assert_eq!(start.ticks_to_ns(&later, 10), 5);
        assert_eq!(start.ticks_to_ns(&start, 10), 0);
        assert_eq!(later.ticks_to_ns(&start, 10), 0);
    }

    #[test]
    fn the_short_calibration_is_scaled() {
        assert_eq!(CALIBRATION_ROUNDS % SHORT_CALIBRATION_PART, 0);
        let start = Instant::now();
        let calibration_ns = calibrate_briefly_ns();
        let took_ns = nanoseconds(start.elapsed());
        // The middle one of three runs: two of them took no less.
        assert!(
            calibration_ns > 0 && calibration_ns <= took_ns * SHORT_CALIBRATION_PART / 2,
            "{calibration_ns} {took_ns}"
        );
    }

    #[test]
    fn the_counter_rises() {
        let before = tsc();
        assert!(tsc() >= before);
    }
}
