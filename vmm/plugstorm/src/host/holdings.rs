//! What this process holds of the host, by its own entries in /proc (proc(5)): to show that a guest leaves nothing behind.

use std::fs;

use crate::results::Holdings;

/// Now; nothing where the system does not tell.
#[must_use]
pub fn holdings() -> Option<Holdings> {
    let entries = |folder: &str| Some(fs::read_dir(folder).ok()?.count() as u64);
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(Holdings {
        // Less the one by which the folder is read.
        descriptors: entries("/proc/self/fd")?.saturating_sub(1),
        threads: entries("/proc/self/task")?,
        mappings: fs::read_to_string("/proc/self/maps").ok()?.lines().count() as u64,
        resident_bytes: pages * 4096,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_and_started_shows() {
        let before = holdings().unwrap();
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || held.recv());
        let with = holdings().unwrap();
        // Other tests run beside this one.
        assert!(with.descriptors >= before.descriptors + 40 && with.threads >= 2, "{before:?} {with:?}");
        drop((hold, files));
        assert!(thread.join().is_ok());
    }
}
