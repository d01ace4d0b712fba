//! The signals that end a run in order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

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
        if second_ends {
            // Before the one that sets it: then it is set by the first, and looked at by the second.
            flag::register_conditional_default(signal, Arc::clone(&interrupt))?;
        }
        flag::register(signal, Arc::clone(&interrupt))?;
    }
    Ok(interrupt)
}

/// `SigIgn:` of /proc/PID/status (proc(5)): a mask in hexadecimal, bit 0 for signal 1.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_ignores_stays_ignored() {
        assert!(is_ignored("Name:\tx\nSigIgn:\t0000000000000001\n", SIGHUP));
        assert!(!is_ignored("SigIgn:\t0000000000001000\n", SIGHUP));
        assert!(!is_ignored("", SIGHUP));
    }
}
