//! The signals that end a run in order.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};

/// What comes so soon after the first is no second signal: timeout(1) sends one to its child, and the same one to the child's
/// process group.
pub(crate) const ONE_SIGNAL: Duration = Duration::from_secs(1);

/// SIGINT, SIGTERM, and SIGHUP unless it was ignored when we were started: `nohup` wants us to go on.
pub(crate) fn ending() -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let all = [SIGINT, SIGTERM, SIGHUP].into_iter();
    all.filter(|signal| *signal != SIGHUP || !is_ignored(&status, SIGHUP)).collect()
}

/// What is set from here on when one of them comes. With `second_ends`, another one ends the process at once.
///
/// # Errors
/// The system's.
pub(crate) fn interrupt(second_ends: bool) -> io::Result<Arc<AtomicBool>> {
    let interrupt = Arc::new(AtomicBool::new(false));
    for signal in ending() {
        flag::register(signal, Arc::clone(&interrupt))?;
    }
    if second_ends {
        second_ends_us(&mut |_| {})?;
    }
    Ok(interrupt)
}

/// From here on the process ends at a second of the signals. Each of what was registered for that is told to `registered`, also
/// if it fails half-way; when all are unregistered it is over.
///
/// # Errors
/// The system's.
pub(crate) fn second_ends_us(registered: &mut dyn FnMut(SigId)) -> io::Result<()> {
    let armed = arm_after_first(&ending(), ONE_SIGNAL, registered)?;
    for signal in ending() {
        registered(flag::register_conditional_default(signal, Arc::clone(&armed))?);
    }
    Ok(())
}

/// What is set so long after the first of the signals.
fn arm_after_first(signals: &[i32], later: Duration, registered: &mut dyn FnMut(SigId)) -> io::Result<Arc<AtomicBool>> {
    let armed = Arc::new(AtomicBool::new(false));
    let (mut came, tells) = UnixStream::pair()?;
    for signal in signals {
        registered(low_level::pipe::register(*signal, tells.try_clone()?)?);
    }
    // Its end is that of the last registration, or of the process.
    let arms = Arc::clone(&armed);
    thread::Builder::new().name("signals".into()).spawn(move || {
        if came.read(&mut [0]).is_ok_and(|bytes| bytes > 0) {
            thread::sleep(later);
            arms.store(true, Ordering::Relaxed);
        }
    })?;
    Ok(armed)
}

/// `SigIgn:` of /proc/PID/status (proc(5)): a mask in hexadecimal, bit 0 for signal 1.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use signal_hook::consts::SIGWINCH;

    use super::*;

    #[test]
    fn a_signal_that_comes_twice_at_once_is_one() {
        let mut registered = Vec::new();
        let later = Duration::from_millis(200);
        let armed = arm_after_first(&[SIGWINCH], later, &mut |id| registered.push(id)).unwrap();
        assert!(!armed.load(Ordering::Relaxed));
        let first = Instant::now();
        for _ in 0..2 {
            low_level::raise(SIGWINCH).unwrap();
            assert!(!armed.load(Ordering::Relaxed) || first.elapsed() >= later);
        }
        while !armed.load(Ordering::Relaxed) {
            assert!(first.elapsed() < Duration::from_secs(60));
            thread::yield_now();
        }
        assert!(first.elapsed() >= later);
        assert!(registered.into_iter().all(low_level::unregister));
    }

    #[test]
    fn what_nohup_ignores_stays_ignored() {
        assert!(is_ignored("Name:\tx\nSigIgn:\t0000000000000001\n", SIGHUP));
        assert!(!is_ignored("SigIgn:\t0000000000001000\n", SIGHUP));
        assert!(!is_ignored("", SIGHUP));
    }
}
