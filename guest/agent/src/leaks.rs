//! Memory that nobody points to any more, where the kernel looks for it (CONFIG_DEBUG_KMEMLEAK; mm/kmemleak.c,
//! Documentation/dev-tools/kmemleak.rst).

use std::path::Path;
use std::thread;
use std::time::Duration;

use plugstorm_wire::{FromGuest, MAX_LEAKS_BYTES};

use crate::clock::tsc;
use crate::sysfs::{self, KernelFileError};

const FILE: &str = "/sys/kernel/debug/kmemleak";
/// An object is reported if it is at least so old (`MSECS_MIN_AGE`, 5 s, in ticks), and was as it is at the scan before: the
/// first one only takes its checksum.
const LEAST_AGE: Duration = Duration::from_millis(5100);
/// The first line of a report (`print_unreferenced`).
const BEGINS: &str = "unreferenced object ";

/// Whether this kernel looks for leaks. If so, it does from here on when it is told to and at no other time, and what it has
/// lost while it started is not told later.
///
/// # Errors
/// One sentence: it could, and refuses. It switches itself off where it has no memory for its own records.
pub(crate) fn begin() -> Result<bool, String> {
    let file = Path::new(FILE);
    if !file.exists() {
        return Ok(false);
    }
    let begun = sysfs::write(file, "scan=off").and_then(|()| scan(file)).and_then(|()| sysfs::write(file, "clear"));
    begun.map(|()| true).map_err(|error| format!("leaks will not be looked for: {error}"))
}

/// Answers [`plugstorm_wire::ToGuest::FindLeaks`].
pub(crate) fn find(id: u64) -> FromGuest {
    let began_tsc = tsc();
    let file = Path::new(FILE);
    match scan(file).and_then(|()| sysfs::read(file)) {
        Ok(text) => {
            let (reports, left_out) = cut(&text, MAX_LEAKS_BYTES);
            FromGuest::Leaks { id, began_tsc, ended_tsc: tsc(), reports, left_out }
        }
        Err(error) => FromGuest::Done { id, began_tsc, ended_tsc: tsc(), error: Some(error.to_string()) },
    }
}

/// Two scans, as far apart as an object must be old.
fn scan(file: &Path) -> Result<(), KernelFileError> {
    sysfs::write(file, "scan")?;
    thread::sleep(LEAST_AGE);
    sysfs::write(file, "scan")
}

/// The reports in what the kernel says, as many as fit into so many bytes, and how many are left out.
fn cut(text: &str, most_bytes: usize) -> (Vec<String>, u64) {
    let (mut reports, mut bytes, mut left_out) = (Vec::<String>::new(), 0, 0);
    let mut fits = false;
    for line in text.lines() {
        if line.starts_with(BEGINS) {
            fits = bytes < most_bytes;
            if fits {
                reports.push(String::new());
            } else {
                left_out += 1;
            }
        }
        // A report is some forty lines (`MAX_TRACE` frames of 16, and 32 bytes of contents).
        if let (true, Some(report)) = (fits, reports.last_mut())
            && bytes + line.len() < most_bytes
        {
            bytes += line.len() + 1;
            report.push_str(line);
            report.push('\n');
        }
    }
    (reports, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "unreferenced object 0xffff888004b3c000 (size 64):\n  comm \"a\", pid 60, jiffies 4294901234\n  backtrace (crc 0):\n    kmalloc+0x1/0x2\n";

    #[test]
    fn reports_are_told_apart() {
        assert_eq!(cut("", 100), (vec![], 0));
        assert_eq!(cut("a word before\n", 100), (vec![], 0));
        let three = ONE.repeat(3);
        assert_eq!(cut(&three, 4096), (vec![ONE.to_owned(); 3], 0));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let (reports, left_out) = cut(&ONE.repeat(100), 2 * ONE.len());
        assert_eq!((reports.len(), left_out), (2, 98));
        assert_eq!(reports[0], ONE);
        assert!(reports.iter().map(String::len).sum::<usize>() <= 2 * ONE.len());
    }
}
