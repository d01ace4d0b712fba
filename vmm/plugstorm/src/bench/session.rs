//! One booted guest that is asked for measures, one after another.
//!
//! A kernel that complains while it is measured, or a guest that dies or falls silent, ends its session: what it would have said after
//! that is no measurement.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use plugstorm_observe::splat::Detector;
use plugstorm_wire::{FromGuest, ToGuest, VERSION};
use thiserror::Error;

use super::lines::Lines;
use super::model::{Measure, SideFacts};
use super::request::{Answer, answer, plain, request};
use super::surprise;
use crate::scenario::Design;
use crate::storm::guest::{Guest, GuestError, GuestEvent, nanoseconds};
use crate::storm::{CALIBRATION_REFERENCE_NS, clamp_slowdown, entropy, ratio, watchdogs};

/// How often a signal is looked for, in nanoseconds.
const LOOK_NS: u64 = 100_000_000;
/// From its start to its agent's first word, times the slowdown, in nanoseconds.
const BOOT_NS: u64 = 30_000_000_000;
/// For an answer that takes no time of its own, times the slowdown.
pub(super) const WORD_NS: u64 = 5_000_000_000;
/// For a measure, times the slowdown. Ours are of some tenths of a second on the machine that time-outs are written for; but the module gives
/// up by itself after 60 s without progress and 20 s for its threads to end (guest/module/bench_crew.c), and what it then says is more.
const MEASURE_NS: u64 = 100_000_000_000;
/// The console of a guest is kept up to here, in bytes.
const MOST_CONSOLE_BYTES: usize = 4 << 20;

/// Why a session is over before its time.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A signal.
    #[error("a signal ended it")]
    Interrupted,
    /// The guest, or our patience: one sentence.
    #[error("{0}")]
    Cut(String),
    /// There is no guest, or no talking to it.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The console's file takes no more.
    #[error("the guest's console cannot be written down: {0}")]
    Output(#[from] io::Error),
}

/// A guest that runs, and what it said of itself.
pub struct Session<'a> {
    guest: &'a mut dyn Guest,
    interrupt: &'a AtomicBool,
    console: &'a mut dyn Write,
    console_bytes: usize,
    detector: Detector,
    lines: Lines,
    designs: &'a [Design],
    slowdown: f64,
    next_id: u64,
    facts: SideFacts,
    boot_ns: u64,
}

impl SessionError {
    pub(super) fn cut(sentence: &str) -> Self {
        Self::Cut(plain(sentence))
    }
}

impl<'a> Session<'a> {
    /// Boots a guest, until it can be asked. `facts` has what the user calls its parts; what the guest says is filled in. `designs`: of
    /// the devices that its slots have. `slowdown`: how much slower than hardware KVM the host is.
    ///
    /// # Errors
    /// [`SessionError`]; the guest is stopped then.
    pub fn begin(
        guest: &'a mut dyn Guest,
        facts: SideFacts,
        designs: &'a [Design],
        slowdown: f64,
        interrupt: &'a AtomicBool,
        console: &'a mut dyn Write,
    ) -> Result<Self, SessionError> {
        let mut session = Self {
            guest,
            interrupt,
            console,
            console_bytes: 0,
            detector: Detector::new(),
            lines: Lines::default(),
            designs,
            slowdown: clamp_slowdown(slowdown),
            next_id: 1,
            facts,
            boot_ns: 0,
        };
        session.boot()?;
        Ok(session)
    }

    /// What runs.
    #[must_use]
    pub fn facts(&self) -> &SideFacts {
        &self.facts
    }

    /// From the machine's start to the agent's first word, in nanoseconds of the host's clock.
    #[must_use]
    pub fn boot_ns(&self) -> u64 {
        self.boot_ns
    }

    /// Has one thing measured.
    ///
    /// # Errors
    /// [`SessionError`]. That this kernel or this design cannot be measured so is none, but an answer with an error.
    pub fn measure(&mut self, measure: &Measure) -> Result<Answer, SessionError> {
        match request(measure) {
            Ok(request) => self.ask(&request),
            Err(error) => Ok(Answer { error: Some(error.to_string()), ..Answer::default() }),
        }
    }

    /// The same, in the words of the module: as [`request`] makes them.
    ///
    /// # Errors
    /// As [`Self::measure`].
    pub fn ask(&mut self, request: &str) -> Result<Answer, SessionError> {
        let id = self.id();
        self.guest.send(&ToGuest::Measure { id, request: request.to_owned() })?;
        let told = self.wait(MEASURE_NS, &format!("did not answer {}", plain(request)), |message| match message {
            FromGuest::Measured { id: of, results, error, .. } if of == id => Some((results, error)),
            _ => None,
        })?;
        let (results, error) = told;
        let mut answer = answer(&results);
        if answer.error.is_none() {
            answer.error = error.map(|error| plain(&error));
        }
        if answer.error.is_none() && answer.samples.is_empty() {
            answer.error = Some("the module gave no sample".into());
        }
        Ok(answer)
    }

    /// Loads a module that lies in the guest for this, and gives nothing or the guest's reason.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn load(&mut self, file: &str, parameters: &str) -> Result<Option<String>, SessionError> {
        let id = self.id();
        let (file, parameters) = (file.to_owned(), parameters.to_owned());
        let what = format!("did not load {file}");
        self.guest.send(&ToGuest::LoadModule { id, file, parameters })?;
        self.done(id, &what)
    }

    /// Removes a module, and gives nothing or the guest's reason.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn unload(&mut self, name: &str) -> Result<Option<String>, SessionError> {
        let id = self.id();
        self.guest.send(&ToGuest::UnloadModule { id, name: name.to_owned() })?;
        self.done(id, &format!("did not remove the module {name}"))
    }

    /// Reads the console until a line that `wanted` takes, and gives what it makes of it; lines before it go by. Waits for so many
    /// nanoseconds, times the slowdown.
    ///
    /// # Errors
    /// [`SessionError`]: that such a line does not come is one.
    pub fn line<T>(
        &mut self,
        patience_ns: u64,
        what: &str,
        mut wanted: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, SessionError> {
        let deadline_ns = self.deadline(patience_ns);
        loop {
            while let Some(line) = self.lines.next() {
                if let Some(found) = wanted(&line) {
                    return Ok(found);
                }
            }
            if self.step(deadline_ns)?.is_none() && self.guest.now_ns() >= deadline_ns {
                return Err(self.silence(what, patience_ns));
            }
        }
    }

    /// Lets the guest go on for so many nanoseconds of the host's, and hears it meanwhile.
    pub(super) fn let_run(&mut self, ns: u64) -> Result<(), SessionError> {
        let deadline_ns = self.guest.now_ns().saturating_add(ns);
        while self.guest.now_ns() < deadline_ns {
            self.step(deadline_ns)?;
        }
        Ok(())
    }

    /// The guest, for what is done to its machine.
    pub(super) fn guest(&mut self) -> &mut dyn Guest {
        self.guest
    }

    /// When the guest's time-stamp counter showed this, by the host's clock.
    pub(super) fn tsc_to_ns(&self, tsc: u64) -> Option<u64> {
        self.guest.tsc_to_ns(tsc)
    }

    /// The slot with a device of this design.
    pub(super) fn slot(&self, design: &str) -> Option<(usize, Design)> {
        self.designs.iter().copied().enumerate().find(|(_, known)| known.name() == design)
    }

    /// Forgets what the console has said so far, for [`Self::line`].
    pub fn from_here(&mut self) {
        self.lines.clear();
    }

    /// Ends the guest, and tells whether its kernel has complained: the title of the first report.
    ///
    /// # Errors
    /// [`SessionError::Output`].
    pub fn end(mut self) -> Result<Option<String>, SessionError> {
        self.guest.stop();
        let mut title = None;
        std::mem::take(&mut self.detector).finish(|splat| {
            title.get_or_insert(splat.title);
        });
        self.console.flush()?;
        Ok(title)
    }

    fn boot(&mut self) -> Result<(), SessionError> {
        let began_ns = self.guest.now_ns();
        self.guest.boot()?;
        let hello = self.wait(BOOT_NS, "never started its agent", |message| match message {
            FromGuest::Hello { .. } => Some(message),
            _ => None,
        })?;
        self.boot_ns = self.guest.now_ns().saturating_sub(began_ns);
        self.hello(hello)?;
        // No probe: one in a path that is measured costs more than the path.
        self.guest.send(&ToGuest::Configure { probes: Vec::new() })?;
        self.wait(WORD_NS, "took no configuration", |message| {
            matches!(message, FromGuest::Configured { .. }).then_some(())
        })?;
        let hammers = surprise::hammers(self.designs, |slot| self.guest.port(slot));
        self.guest.send(&ToGuest::Begin {
            hammers,
            realtime_ns: nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            entropy: entropy().map_err(SessionError::Cut)?,
            watchdogs: watchdogs(self.slowdown, ""),
            points: Vec::new(),
        })?;
        self.wait(WORD_NS, "did not begin", |message| matches!(message, FromGuest::Begun { .. }).then_some(()))
    }

    fn hello(&mut self, hello: FromGuest) -> Result<(), SessionError> {
        let FromGuest::Hello { version, kernel_release, cpus, calibration_ns, tick_ns, preemption, modules, .. } =
            hello
        else {
            return Ok(());
        };
        if version != VERSION {
            return Err(SessionError::Cut(format!(
                "the agent in the guest speaks version {version} of the messages and this plugstorm version {VERSION}: build \
                 both from one source"
            )));
        }
        if let Some((file, error)) = modules.iter().find_map(|module| Some((&module.file, module.error.as_ref()?))) {
            let [file, error] = [file, error].map(|text| plain(text));
            return Err(SessionError::Cut(format!("the guest could not load {file}: {error}")));
        }
        self.slowdown = clamp_slowdown(self.slowdown.max(ratio(calibration_ns, CALIBRATION_REFERENCE_NS)));
        self.facts.release = plain(&kernel_release);
        self.facts.cpus = cpus;
        self.facts.hz = 1_000_000_000_u64.checked_div(tick_ns).and_then(|hz| u32::try_from(hz).ok()).unwrap_or(0);
        self.facts.preemption = preemption.map(|word| plain(&word));
        Ok(())
    }

    /// A number for the next request.
    pub(super) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn done(&mut self, id: u64, what: &str) -> Result<Option<String>, SessionError> {
        self.wait(WORD_NS, what, |message| match message {
            FromGuest::Done { id: of, error, .. } if of == id => Some(error.map(|error| plain(&error))),
            _ => None,
        })
    }

    /// Hears the guest until it says what is wanted, for so many nanoseconds times the slowdown.
    pub(super) fn wait<T>(
        &mut self,
        patience_ns: u64,
        what: &str,
        mut wanted: impl FnMut(FromGuest) -> Option<T>,
    ) -> Result<T, SessionError> {
        let deadline_ns = self.deadline(patience_ns);
        loop {
            match self.step(deadline_ns)? {
                Some(Heard::Message(message)) => {
                    if let Some(found) = wanted(*message) {
                        return Ok(found);
                    }
                }
                Some(Heard::Other) => {}
                None if self.guest.now_ns() < deadline_ns => {}
                None => return Err(self.silence(what, patience_ns)),
            }
            // A guest that never stops talking does not lengthen the wait.
            if self.guest.now_ns() >= deadline_ns {
                return Err(self.silence(what, patience_ns));
            }
        }
    }

    /// Takes the next thing that happens, if anything does before the deadline or before it is time to look for a signal.
    fn step(&mut self, deadline_ns: u64) -> Result<Option<Heard>, SessionError> {
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(SessionError::Interrupted);
        }
        let look_ns = self.guest.now_ns().saturating_add(LOOK_NS);
        let Some(stamped) = self.guest.next_event(deadline_ns.min(look_ns)) else { return Ok(None) };
        match stamped.event {
            GuestEvent::Message(message) => Ok(Some(Heard::Message(Box::new(message)))),
            GuestEvent::Console(bytes) => self.console(&bytes).map(|()| Some(Heard::Other)),
            GuestEvent::Ended(cause) => {
                let words = cause.words();
                Err(SessionError::Cut(format!("the guest {words}{}", self.lines.last_words())))
            }
            GuestEvent::Malformed { .. } | GuestEvent::Overrun { .. } | GuestEvent::Slot { .. } => {
                Ok(Some(Heard::Other))
            }
        }
    }

    fn console(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let room = MOST_CONSOLE_BYTES.saturating_sub(self.console_bytes).min(bytes.len());
        self.console.write_all(bytes.get(..room).unwrap_or_default())?;
        self.console_bytes += room;
        self.lines.push(bytes);
        let mut title = None;
        self.detector.push(bytes, |splat| {
            title.get_or_insert(splat.title);
        });
        match title {
            None => Ok(()),
            Some(title) => {
                Err(SessionError::Cut(format!("the guest's kernel complained while it was measured: {title}")))
            }
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "some hours at most"
    )]
    fn deadline(&self, patience_ns: u64) -> u64 {
        self.guest.now_ns().saturating_add((patience_ns as f64 * self.slowdown) as u64)
    }

    fn silence(&self, what: &str, patience_ns: u64) -> SessionError {
        let seconds = patience_ns / 1_000_000_000;
        let slowdown = self.slowdown;
        let last = self.lines.last_words();
        SessionError::Cut(format!("the guest {what} within {seconds} s times the slowdown {slowdown:.1}{last}"))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.guest.stop();
    }
}

enum Heard {
    Message(Box<FromGuest>),
    Other,
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
