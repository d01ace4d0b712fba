//! Hears a guest out that runs the self-tests.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use plugstorm_observe::ktap::{Event, Reader, Test, Totals};
use plugstorm_observe::splat::{Detector, Splat};
use plugstorm_wire::{FromGuest, ModuleOutcome, VERSION};

use crate::storm::guest::{Guest, GuestError, GuestEvent};

/// Tests kept of one guest. Ours are some two hundred.
const MOST_TESTS: usize = 10_000;
/// Reports of the kernel's kept.
const MOST_SPLATS: usize = 500;
/// The console is kept up to here, in bytes.
const MOST_CONSOLE_BYTES: u64 = 64 << 20;
/// How often a signal is looked for, in nanoseconds.
const LOOK_NS: u64 = 100_000_000;

/// How long to wait for a guest, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From its start to the first line of a report.
    pub boot_ns: u64,
    /// From one line of a report to the next: longer than KUnit lets a case run.
    pub silence_ns: u64,
    /// From its agent's first word, which comes when all tests have ended, to its console's last.
    pub rest_ns: u64,
    /// For all of it.
    pub total_ns: u64,
}

/// Where it is written down as it comes.
pub struct Files<'a> {
    /// All that the guest's console gave.
    pub console: &'a mut dyn Write,
    /// The report, without what the kernel puts before its lines.
    pub ktap: &'a mut dyn Write,
}

/// Why listening ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The agent has spoken: the modules are loaded, and the tests they bring have ended.
    Told,
    /// A signal.
    Interrupted,
    /// The guest, or our patience: one sentence.
    Cut(String),
}

/// What a guest said.
#[derive(Debug)]
pub struct Heard {
    /// Why it says no more.
    pub end: End,
    /// Tests in the order of their results.
    pub tests: Vec<Test>,
    /// Where results are missing, and how many.
    pub missing: Vec<(Vec<String>, u64)>,
    /// All of it counted.
    pub totals: Totals,
    /// What the kernel complained of.
    pub splats: Vec<Splat>,
    /// `uname -r`.
    pub release: Option<String>,
    /// How loading each module ended.
    pub modules: Vec<ModuleOutcome>,
    /// Bytes of the console that came too fast to be read.
    pub lost_bytes: u64,
    /// Tests, reports and places where tests are missing that were too many to be kept.
    pub left_out: u64,
    /// How long it took.
    pub duration_ns: u64,
}

/// Why nothing could be heard.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// There is no guest.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// A file takes no more.
    #[error("the self-tests' results cannot be written: {0}; give another folder with --out")]
    Output(#[from] io::Error),
}

/// Boots a guest, and hears it out: until its tests have ended, it dies, or `limits` are reached. The guest is stopped then.
///
/// # Errors
/// [`ListenError`]. What a guest does wrong is none, but part of what was heard.
pub fn listen(
    guest: &mut dyn Guest,
    limits: &Limits,
    interrupt: &AtomicBool,
    files: &mut Files<'_>,
) -> Result<Heard, ListenError> {
    let began_ns = guest.now_ns();
    guest.boot()?;
    let mut ear = Ear { began_ns, ..Ear::default() };
    let end = ear.until_the_end(guest, limits, interrupt, files);
    guest.stop();
    let end = end?;
    files.console.flush()?;
    let heard = ear.heard(end, guest.now_ns().saturating_sub(began_ns), files)?;
    files.ktap.flush()?;
    Ok(heard)
}

#[derive(Debug, Default)]
struct Ear {
    began_ns: u64,
    reader: Reader,
    detector: Detector,
    kept: Kept,
    splats: Splats,
    release: Option<String>,
    modules: Vec<ModuleOutcome>,
    console_bytes: u64,
    lost_bytes: u64,
    /// When the last line of a report came.
    line_ns: Option<u64>,
    /// When the agent spoke.
    hello_ns: Option<u64>,
    /// When the console last gave anything.
    console_ns: u64,
}

/// What the reader said.
#[derive(Debug, Default)]
struct Kept {
    tests: Vec<Test>,
    missing: Vec<(Vec<String>, u64)>,
    /// Lines for the file.
    lines: String,
    /// What the file has of them, in bytes.
    written_bytes: u64,
    /// Tests, and places where some are missing, that were too many to be kept.
    left_out: u64,
}

impl Kept {
    fn take(&mut self, event: Event) {
        match event {
            Event::Line(line) => {
                self.lines.push_str(&line);
                self.lines.push('\n');
            }
            Event::Test(test) if self.tests.len() < MOST_TESTS => self.tests.push(test),
            Event::Missing { path, tests } if self.missing.len() < MOST_TESTS => self.missing.push((path, tests)),
            Event::Test(_) | Event::Missing { .. } => self.left_out += 1,
        }
    }

    /// Whether there were lines.
    fn write(&mut self, ktap: &mut dyn Write) -> io::Result<bool> {
        let lines = std::mem::take(&mut self.lines);
        // No more of it than of the console that it came on.
        self.written_bytes = self.written_bytes.saturating_add(lines.len() as u64);
        if self.written_bytes <= MOST_CONSOLE_BYTES {
            ktap.write_all(lines.as_bytes())?;
        }
        Ok(!lines.is_empty())
    }
}

impl Ear {
    fn until_the_end(
        &mut self,
        guest: &mut dyn Guest,
        limits: &Limits,
        interrupt: &AtomicBool,
        files: &mut Files<'_>,
    ) -> io::Result<End> {
        loop {
            if interrupt.load(Ordering::Relaxed) {
                return Ok(End::Interrupted);
            }
            let now_ns = guest.now_ns();
            let (deadline_ns, otherwise) = self.deadline(limits);
            let Some(stamped) = guest.next_event(deadline_ns.min(now_ns.saturating_add(LOOK_NS))) else {
                if guest.now_ns() >= deadline_ns {
                    return Ok(otherwise);
                }
                continue;
            };
            // What came in before the deadline counts, however late it is taken. A guest that never stops talking does not
            // lengthen the wait.
            let over = stamped.t_ns >= deadline_ns;
            match stamped.event {
                GuestEvent::Console(bytes) => self.console(&bytes, stamped.t_ns, files)?,
                GuestEvent::Overrun { bytes } => self.lost_bytes = self.lost_bytes.saturating_add(bytes),
                GuestEvent::Message(message) => {
                    if let Some(end) = self.message(message, stamped.t_ns) {
                        return Ok(end);
                    }
                }
                GuestEvent::Ended(_) if self.hello_ns.is_some() => return Ok(End::Told),
                GuestEvent::Ended(cause) => {
                    return Ok(End::Cut(format!("the guest {} before its tests had ended", cause.words())));
                }
                GuestEvent::Malformed { .. } | GuestEvent::Slot { .. } => {}
            }
            if over {
                return Ok(otherwise);
            }
        }
    }

    /// Until when to wait for the next thing, and what it means if nothing comes.
    fn deadline(&self, limits: &Limits) -> (u64, End) {
        let seconds = |ns: u64| ns / 1_000_000_000;
        let total_ns = self.began_ns.saturating_add(limits.total_ns);
        let (ns, end) = match (self.hello_ns, self.line_ns) {
            (Some(hello_ns), _) => (hello_ns.max(self.console_ns).saturating_add(limits.rest_ns), End::Told),
            (None, Some(line_ns)) => {
                let silence = seconds(limits.silence_ns);
                let sentence = format!("a test did not end: its report said nothing for {silence} s");
                (line_ns.saturating_add(limits.silence_ns), End::Cut(sentence))
            }
            (None, None) => {
                let boot = seconds(limits.boot_ns);
                let sentence = format!("the guest began no report and its agent said nothing within {boot} s");
                (self.began_ns.saturating_add(limits.boot_ns), End::Cut(sentence))
            }
        };
        if ns <= total_ns {
            return (ns, end);
        }
        (total_ns, End::Cut(format!("the tests did not end within {} s", seconds(limits.total_ns))))
    }

    fn console(&mut self, bytes: &[u8], t_ns: u64, files: &mut Files<'_>) -> io::Result<()> {
        self.console_ns = t_ns;
        let (kept, splats) = (&mut self.kept, &mut self.splats);
        self.reader.push(bytes, |event| kept.take(event));
        self.detector.push(bytes, |splat| splats.take(splat));
        if kept.write(files.ktap)? {
            self.line_ns = Some(t_ns);
        }
        let room = MOST_CONSOLE_BYTES.saturating_sub(self.console_bytes);
        let fitting = bytes.get(..usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len())).unwrap_or_default();
        self.console_bytes = self.console_bytes.saturating_add(bytes.len() as u64);
        files.console.write_all(fitting)
    }

    fn message(&mut self, message: FromGuest, t_ns: u64) -> Option<End> {
        let FromGuest::Hello { version, kernel_release, modules, .. } = message else { return None };
        if version != VERSION {
            return Some(End::Cut(format!(
                "the agent in the guest speaks version {version} of the messages and this plugstorm version {VERSION}: build \
                 both from one source"
            )));
        }
        self.release = Some(kernel_release);
        self.modules = modules;
        self.hello_ns = Some(t_ns);
        None
    }

    fn heard(mut self, end: End, duration_ns: u64, files: &mut Files<'_>) -> io::Result<Heard> {
        let (kept, splats) = (&mut self.kept, &mut self.splats);
        let totals = self.reader.finish(|event| kept.take(event));
        self.detector.finish(|splat| splats.take(splat));
        kept.write(files.ktap)?;
        Ok(Heard {
            end,
            tests: self.kept.tests,
            missing: self.kept.missing,
            totals,
            left_out: self.kept.left_out.saturating_add(self.splats.left_out),
            splats: self.splats.kept,
            release: self.release,
            modules: self.modules,
            lost_bytes: self.lost_bytes,
            duration_ns,
        })
    }
}

/// The kernel's reports.
#[derive(Debug, Default)]
struct Splats {
    kept: Vec<Splat>,
    left_out: u64,
}

impl Splats {
    fn take(&mut self, splat: Splat) {
        if self.kept.len() < MOST_SPLATS {
            self.kept.push(splat);
        } else {
            self.left_out += 1;
        }
    }
}

#[cfg(test)]
#[path = "listen_tests.rs"]
mod tests;
