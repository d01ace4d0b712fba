//! Boots guests, one after another, and has each measured.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::journal::{Journal, JournalError};
use super::model::{BOOT, Measure, Measurement, Sample, Side, SideFacts};
use super::session::{Session, SessionError};
use super::surprise::{self, SURPRISE};
use super::{plan, scale};
use crate::scenario::Design;
use crate::storm::guest::Guest;

/// Boots that come to nothing, one after another: what is wrong then is wrong with all.
const MOST_FAILURES: u32 = 3;

/// Where guests come from.
pub trait Guests {
    /// A new guest of a side; nothing if there is no such side. The one before it has been stopped.
    fn guest(&mut self, side: Side) -> Option<Box<dyn Guest>>;

    /// What the user calls it.
    fn facts(&self, side: Side) -> Option<SideFacts>;
}

/// What is to be done.
#[derive(Debug)]
pub struct Setting<'a> {
    /// Boots, by number.
    pub boots: &'a [(u32, Side)],
    /// Of the devices that guests' slots have.
    pub designs: &'a [Design],
    /// What each of them measures, in any order.
    pub measures: &'a [Measure],
    /// Decides in which.
    pub seed: u64,
    /// How much slower than hardware KVM the host is.
    pub slowdown: f64,
    /// Set when the user wants it to end.
    pub interrupt: &'a AtomicBool,
}

/// How it ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Boots that are in the journal now.
    pub completed: u32,
    /// Why the others are not, a sentence each.
    pub failures: Vec<String>,
    /// A signal ended it.
    pub interrupted: bool,
}

/// Carries the boots out. One that fails is left out, and told; three in a row end it. `progress` is given a line for a person after each.
///
/// # Errors
/// That the results cannot be written.
pub fn run(
    setting: &Setting<'_>,
    guests: &mut dyn Guests,
    journal: &mut Journal,
    progress: &mut dyn FnMut(&str),
) -> Result<Ran, JournalError> {
    let mut ran = Ran::default();
    let mut in_a_row = 0;
    for &(boot, side) in setting.boots {
        let began = Instant::now();
        match one(setting, guests, journal, boot, side) {
            Ok((facts, measurements)) => {
                let refused = measurements.iter().filter(|one| one.error.is_some()).count();
                let measures = measurements.len().saturating_sub(1);
                journal.add(facts, measurements)?;
                ran.completed += 1;
                in_a_row = 0;
                let seconds = began.elapsed().as_secs();
                let cannot = if refused == 0 { String::new() } else { format!(", {refused} of which it cannot do") };
                progress(&format!(
                    "boot {} of side {}: {measures} measures{cannot}, {seconds} s",
                    boot + 1,
                    side.letter()
                ));
            }
            Err(OneError::Session(SessionError::Interrupted)) => {
                ran.interrupted = true;
                return Ok(ran);
            }
            Err(OneError::Session(error)) => {
                let sentence = format!("boot {} of side {} came to nothing: {error}", boot + 1, side.letter());
                progress(&sentence);
                // What the host could not do says nothing of the guest.
                if let SessionError::Cut(why) = error {
                    journal.add_lost(boot, side, why)?;
                }
                ran.failures.push(sentence);
                in_a_row += 1;
                if in_a_row == MOST_FAILURES {
                    return Ok(ran);
                }
            }
            Err(OneError::Journal(error)) => return Err(error),
        }
    }
    Ok(ran)
}

enum OneError {
    Session(SessionError),
    Journal(JournalError),
}

impl From<SessionError> for OneError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

/// One boot.
fn one(
    setting: &Setting<'_>,
    guests: &mut dyn Guests,
    journal: &Journal,
    boot: u32,
    side: Side,
) -> Result<(SideFacts, Vec<Measurement>), OneError> {
    let path = journal.console();
    let open = OpenOptions::new().create(true).append(true).open(&path);
    let mut console =
        open.map(BufWriter::new).map_err(|source| OneError::Journal(JournalError::Unwritable { path, source }))?;
    writeln!(console, "== boot {} of side {} ==", boot + 1, side.letter()).map_err(SessionError::Output)?;
    let (Some(mut guest), Some(facts)) = (guests.guest(side), guests.facts(side)) else {
        return Err(SessionError::Cut(format!("there is no side {}", side.letter())).into());
    };
    let mut session =
        Session::begin(&mut *guest, facts, setting.designs, setting.slowdown, setting.interrupt, &mut console)?;
    let mut measurements = Vec::new();
    for measure in plan::order(setting.measures.to_vec(), setting.seed, boot) {
        let answer = match measure.kind.as_str() {
            SURPRISE => surprise::measure(&mut session, &measure)?,
            _ if scale::is_of_the_kernel(&measure) => scale::measure(&mut session, &measure)?,
            _ => session.measure(&measure)?,
        };
        // Half of a measurement would pass for a whole one.
        let samples = if answer.error.is_some() { Vec::new() } else { answer.samples };
        let (notes, error) = (answer.notes, answer.error);
        measurements.push(Measurement { boot, side, measure, samples, notes, error });
    }
    let (facts, boot_ns) = (session.facts().clone(), session.boot_ns());
    if let Some(title) = session.end()? {
        return Err(SessionError::Cut(format!("the guest's kernel complained at its end: {title}")).into());
    }
    measurements.push(Measurement {
        boot,
        side,
        measure: Measure { kind: BOOT.into(), design: None, settings: [].into() },
        samples: vec![Sample { round: 0, thread: 0, value: boot_ns, count: 1 }],
        notes: [].into(),
        error: None,
    });
    Ok((facts, measurements))
}
