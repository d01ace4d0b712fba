//! What a log says of the kernel that printed it.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read};

use plugstorm_observe::place::{Place, Spot, sightings};

/// Different places that are kept of a log. A report has some hundreds.
const MAX_PLACES: usize = 10_000;
/// Different kernels that are kept of a log.
const MAX_KERNELS: usize = 16;
/// A longer line is read in pieces.
const MAX_LINE_BYTES: u64 = 4096;
/// The banner's beginning (init/version-timestamp.c, `linux_banner`).
pub(super) const BANNER: &str = "Linux version ";
/// Hexadecimal digits of a build id by SHA-1, as `CONFIG_STACKTRACE_BUILD_ID` has it printed.
const BUILD_ID_DIGITS: usize = 40;

/// How far a kernel was moved when it started (KASLR).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slide(pub(super) u64);

/// What a log says of its kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFacts {
    /// Lines `Linux version …`, each once.
    pub(super) banners: BTreeSet<String>,
    /// `6.12.117-debug-60fd0722` of lines `CPU: 1 UID: 0 PID: 51 Comm: … Not tainted 6.12.117-debug-60fd0722 #1`.
    pub(super) releases: BTreeSet<String>,
    /// Build ids of the kernel itself, in hexadecimal.
    pub(super) build_ids: BTreeSet<String>,
    /// Of lines `Kernel Offset: …`, each once: a log of several boots has several.
    pub(super) slides: BTreeSet<Slide>,
    /// Functions with offsets and sizes.
    pub(super) places: BTreeSet<Place>,
    /// Those that an address stands beside.
    pub(super) addressed: Vec<(u64, Place)>,
}

impl LogFacts {
    /// Reads a log, raw or with its prefixes taken off.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(log: &mut impl BufRead) -> io::Result<Self> {
        let mut facts = Self::default();
        let mut line = Vec::new();
        // A longer line comes in pieces.
        while log.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? > 0 {
            facts.line(&String::from_utf8_lossy(&line));
            line.clear();
        }
        Ok(facts)
    }

    /// The places of one module, or of the kernel itself.
    pub(super) fn of_module(&self, module: Option<&str>) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(move |place| place.module.as_deref() == module)
    }

    fn line(&mut self, line: &str) {
        if let Some(at) = line.find(BANNER) {
            keep(&mut self.banners, line.get(at..).unwrap_or_default().trim_end());
        }
        if line.contains("CPU: ") && line.contains(" Comm: ") {
            self.kernel_of_report(line);
        }
        if let Some((_, rest)) = line.split_once("Kernel Offset: ") {
            self.slides.extend(slide(rest).filter(|_| self.slides.len() < MAX_KERNELS));
        }
        for sighting in sightings(line) {
            let Spot::Place(place) = sighting.spot else { continue };
            if let Some(address) = sighting.address.filter(|_| self.addressed.len() < MAX_KERNELS) {
                self.addressed.push((address, place.clone()));
            }
            if self.places.len() < MAX_PLACES && place.size.is_some() {
                self.places.insert(place);
            }
        }
    }

    /// `… Not tainted 6.12.117-debug-60fd0722 #1 544e001392145ae8ef0830ddcc03f98dc3098b9f` (lib/dump_stack.c,
    /// `dump_stack_print_info()`): the word before the build's number is the release.
    fn kernel_of_report(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_number =
            |word: &str| word.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let Some(number) = words.iter().rposition(|word| is_number(word)) else { return };
        let release = number.checked_sub(1).and_then(|at| words.get(at));
        if let Some(release) = release.filter(|word| word.starts_with(|first: char| first.is_ascii_digit())) {
            keep(&mut self.releases, release);
        }
        let is_id = |word: &&&str| word.len() == BUILD_ID_DIGITS && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(id) = words.last().filter(is_id) {
            keep(&mut self.build_ids, id);
        }
    }
}

fn keep(set: &mut BTreeSet<String>, text: &str) {
    if set.len() < MAX_KERNELS {
        set.insert(text.to_owned());
    }
}

/// `0x1e600000 from 0xffffffff81000000 (relocation range: …)`, `disabled` (arch/x86/kernel/setup.c, `dump_kernel_offset()`).
fn slide(text: &str) -> Option<Slide> {
    if text.starts_with("disabled") {
        return Some(Slide(0));
    }
    let digits = text.split_whitespace().next()?.strip_prefix("0x")?;
    u64::from_str_radix(digits, 16).ok().map(Slide)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(log: &str) -> LogFacts {
        LogFacts::of(&mut log.as_bytes()).unwrap()
    }

    #[test]
    fn a_log_tells_which_kernel_it_is_of() {
        let facts = read(
            "[    0.000000] Linux version 6.12.117 (me@here) (gcc 12, ld 2.40) #1 SMP Mon Nov 23\r\n\
             [    8.594747][   T51] CPU: 1 UID: 0 PID: 51 Comm: a #2 Tainted: G    O   6.12.117-debug-60fd0722 #1 \n\
             [    8.594747][   T51] CPU: 1 UID: 0 PID: 51 Comm: b Not tainted 6.12.117 #1 544e001392145ae8ef0830ddcc03f98dc3098b9f\n\
             [    9.1] Kernel Offset: 0x1e600000 from 0xffffffff81000000 (relocation range: 0xffffffff80000000-0xffffffffbfffffff)\n\
             [    9.2] [<ffffffff9f690469>] f+0x1/0x2\n[    9.2]  g+0x1/0x2 [m]\n",
        );
        assert_eq!(
            facts.banners.into_iter().collect::<Vec<_>>(),
            ["Linux version 6.12.117 (me@here) (gcc 12, ld 2.40) #1 SMP Mon Nov 23"]
        );
        assert_eq!(facts.releases.into_iter().collect::<Vec<_>>(), ["6.12.117", "6.12.117-debug-60fd0722"]);
        assert_eq!(facts.build_ids.into_iter().collect::<Vec<_>>(), ["544e001392145ae8ef0830ddcc03f98dc3098b9f"]);
        assert_eq!(facts.slides.iter().collect::<Vec<_>>(), [&Slide(0x1e60_0000)]);
        assert_eq!(facts.places.len(), 2);
        assert_eq!(facts.addressed.first().map(|(address, _)| *address), Some(0xffff_ffff_9f69_0469));
        assert_eq!(read("Kernel Offset: disabled").slides.first(), Some(&Slide(0)));
    }

    #[test]
    fn a_log_that_never_ends_is_kept_in_part() {
        let mut log = String::new();
        for number in 0..20_000 {
            log.push_str(&format!("Linux version {number}\n[<ffffffff9f690469>] f{number}+0x1/0x2\n"));
        }
        let facts = read(&log);
        assert_eq!(
            (facts.banners.len(), facts.places.len(), facts.addressed.len()),
            (MAX_KERNELS, MAX_PLACES, MAX_KERNELS)
        );
    }
}
