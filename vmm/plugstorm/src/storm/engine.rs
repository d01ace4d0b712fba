//! From boot to boot and from cycle to cycle.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

use plugstorm_observe::timing::Timings;
use plugstorm_wire::{FromGuest, ToGuest};

use super::console::ConsoleWatch;
use super::guest::{GuestError, Stamped};
use super::record::Record;
use super::removal::RemovalWatch;
use super::stuck::Stuck;
use super::{Ending, MOST_SLOWDOWN, Outcome, Setting};
use crate::results::{Event, EventKind, Finding, FindingKind, Holdings, Source};
use crate::scenario::{How, Renew, Until};

/// Why a cycle, or a boot, did not go on.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Something was found and recorded; this guest is of no further use.
    Found,
    /// The emulator did to the guest what no processor does, as it does now and then; what, as a clause about the guest.
    Emulation(&'static str),
    /// The guest, the set-up or the agent failed: one sentence.
    Failed(String),
    /// The host failed: one sentence.
    Host(String),
    /// The user asked for what cannot be had: one sentence.
    User(String),
    /// The user wants it to end.
    Interrupted,
    /// The results could not be written.
    Output(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<GuestError> for Trouble {
    fn from(error: GuestError) -> Self {
        match error {
            GuestError::User(sentence) => Self::User(sentence),
            GuestError::Guest(sentence) => Self::Failed(sentence),
            GuestError::Machine(sentence) => Self::Host(sentence),
        }
    }
}

/// Where the guest that runs now comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Origin {
    /// A boot.
    #[default]
    Boot,
    /// A snapshot.
    Fork,
}

/// What is known of the guest that runs now.
#[derive(Debug, Default)]
pub(super) struct Present {
    pub(super) origin: Origin,
    /// When it was begun, its machine included; nothing once it has taken note of a hot-plug event.
    pub(super) first_event_of: Option<u64>,
    /// It said hello, took its configuration and began.
    pub(super) ready: bool,
    /// The guest's time-stamp counter can be read as the storm's clock.
    pub(super) one_clock: bool,
    /// Requests that have not been answered.
    pub(super) outstanding: HashSet<u64>,
    /// Answers not yet taken.
    pub(super) answers: HashMap<u64, (u64, FromGuest)>,
    pub(super) hello: Option<(u64, FromGuest)>,
    pub(super) configured: Option<FromGuest>,
    /// It was told to begin and has not said that it has.
    pub(super) awaits_begun: bool,
    pub(super) begun: Option<(u64, FromGuest)>,
    /// The device nodes that are there, by device, and when they came.
    pub(super) nodes: Vec<Option<(u64, String)>>,
    /// The removal being waited for.
    pub(super) removal: Option<RemovalWatch>,
    /// Slot events that the guest's hot-plug threads have finished with.
    pub(super) slot_ends: u64,
    /// Slot events that the guest has been given so far and must finish with.
    pub(super) slot_ends_expected: u64,
    /// Whether the guest's trace tells of them.
    pub(super) slot_ends_told: bool,
    pub(super) console: ConsoleWatch,
    /// What it wrote to its console.
    pub(super) console_bytes: u64,
    pub(super) channel_faults: u64,
    /// Its kernel can look for memory that nobody points to any more.
    pub(super) finds_leaks: bool,
    /// Its kernel does not list held locks.
    pub(super) lists_no_locks: bool,
    /// The kernel says that its first process, the agent, is no more.
    pub(super) agent_ended: bool,
    /// When it panicked.
    pub(super) panicked_ns: Option<u64>,
    /// It answered nothing and was sent a non-maskable interrupt: the panic that follows is our doing.
    pub(super) nmi_sent: bool,
    /// The kernel's report of that panic.
    pub(super) nmi_report: Option<String>,
}

/// A storm under way.
pub struct Storm<'a> {
    pub(super) set: Setting<'a>,
    pub(super) record: Record,
    pub(super) timings: Timings,
    pub(super) now: Present,
    pub(super) cycle: u32,
    pub(super) slowdown: f64,
    pub(super) next_id: u64,
    /// When what is being heard came in.
    pub(super) heard_ns: u64,
    pub(super) running: bool,
    /// The cycle in which a guest last ended with a triple fault.
    pub(super) faulted_in: Option<u32>,
    /// Splats came up in this cycle: it goes on, the guest does not go on to the next.
    pub(super) tainted: bool,
    /// When the first removal of this cycle was asked for.
    pub(super) first_removal_ns: Option<u64>,
    /// What our process held after its first guest.
    first_holdings: Option<Holdings>,
}

impl<'a> Storm<'a> {
    /// A storm that has not begun.
    #[must_use]
    pub fn new(set: Setting<'a>) -> Self {
        let record = Record::new(set.scenario);
        let slowdown = clamp_slowdown(set.host_slowdown);
        Self {
            record,
            timings: Timings::new(set.guest.tsc_khz()),
            now: Present::default(),
            cycle: 0,
            slowdown,
            next_id: 1,
            heard_ns: 0,
            running: false,
            faulted_in: None,
            tainted: false,
            first_removal_ns: None,
            first_holdings: None,
            set,
        }
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        let ended = self.all_cycles();
        self.end(ended)
    }

    /// Ends it, for this reason if it is one.
    pub(super) fn end(mut self, ended: Result<(), Trouble>) -> Outcome {
        // What goes wrong with a guest is often told by its kernel, in a report that is not complete yet.
        if matches!(ended, Err(Trouble::Failed(_) | Trouble::Host(_) | Trouble::User(_) | Trouble::Interrupted)) {
            self.hear_the_rest();
        }
        let ending = match ended {
            Ok(()) | Err(Trouble::Found) => Ending::Done,
            Err(Trouble::Emulation(what)) => Ending::Failed(format!("after its last cycle the guest {what}")),
            Err(Trouble::Failed(reason)) => Ending::Failed(reason),
            Err(Trouble::Host(reason)) => Ending::Host(reason),
            Err(Trouble::User(reason)) => Ending::User(reason),
            Err(Trouble::Interrupted) => Ending::Interrupted,
            Err(Trouble::Output(error)) => Ending::Output(error),
        };
        // After a signal there is no time for it, and on a full disk no room.
        let publish = !matches!(ending, Ending::Interrupted | Ending::Output(_));
        self.stop_guest();
        let duration_ns = self.set.guest.now_ns();
        if publish {
            self.set.guest.publish();
        }
        self.take_notes();
        self.record.channel.events_dropped = self.set.journal.events_dropped();
        self.set.progress.end();
        Outcome { timings: self.timings.report(), ending, duration_ns, slowdown: self.slowdown, record: self.record }
    }

    fn all_cycles(&mut self) -> Result<(), Trouble> {
        let scenario = self.set.scenario;
        self.host(EventKind::RunBegan {
            scenario: scenario.name.clone(),
            seed: self.set.plan.seed(),
            cycles: scenario.cycles,
            kernel: self.set.kernel.to_owned(),
        })?;
        self.set.guest.prepare();
        for cycle in 0..self.set.plan.cycles() {
            self.cycle = cycle;
            let ended = match self.one_cycle() {
                Err(Trouble::Emulation(what)) => self.cycle_again(what),
                other => other,
            };
            match ended {
                Ok(()) if !self.tainted => continue,
                // The cycle ended, and the guest has complained: it is no longer a guest like the others.
                Ok(()) | Err(Trouble::Found) => self.stop_guest(),
                Err(other) => return Err(other),
            }
            if scenario.until == Until::FirstFinding {
                return Ok(());
            }
        }
        self.collect_last()
    }

    /// The same cycle in a new guest. What an emulator did to one guest it does not do to the next at the same place; what
    /// the guest's own kernel did it will do again, and then it is found.
    fn cycle_again(&mut self, what: &str) -> Result<(), Trouble> {
        self.stop_guest();
        self.record.emulation_faults += 1;
        // The removal that was under way was none of this run's: it is asked for again.
        if let Some(removal) = self.now.removal.take() {
            let record = self.record.removals.entry(removal.how).or_default();
            record.asked = record.asked.saturating_sub(1);
        }
        self.record.warnings.push(format!(
            "in cycle {} the guest {what}, as it happens under software emulation now and then; the cycle was repeated in a new \
             one (twice at the same cycle would be a finding)",
            self.cycle_told()
        ));
        self.one_cycle()
    }

    fn one_cycle(&mut self) -> Result<(), Trouble> {
        self.tainted = false;
        self.first_removal_ns = None;
        if !self.running {
            self.start_guest()?;
        }
        self.host(EventKind::CycleBegan { cycle: self.cycle })?;
        for step in self.set.plan.cycle(self.cycle) {
            self.show_progress();
            self.step(step)?;
        }
        self.settle_console()?;
        self.ask_for_points()?;
        if self.set.scenario.renew == Renew::EachCycle {
            self.collect_last()?;
        }
        self.record.completed += 1;
        self.host(EventKind::CycleCompleted { cycle: self.cycle })
    }

    /// Ends a guest in order: the trace of its last cycle may still be on its way.
    fn collect_last(&mut self) -> Result<(), Trouble> {
        if !self.running {
            return Ok(());
        }
        self.flush_trace()?;
        self.find_leaks()?;
        self.finish_console()?;
        self.stop_guest();
        Ok(())
    }

    /// Hears the guest's trace to its end.
    pub(super) fn flush_trace(&mut self) -> Result<(), Trouble> {
        let id = self.id();
        self.set.guest.send(&ToGuest::FlushTrace { id })?;
        let time_out_ns = self.scaled(Duration::from_secs(5));
        if self.answer(id, time_out_ns)?.is_none() {
            return Err(self.examine(Stuck::End, time_out_ns)?);
        }
        Ok(())
    }

    pub(super) fn stop_guest(&mut self) {
        self.set.guest.stop();
        if std::mem::take(&mut self.running)
            && let Some(now) = self.set.guest.holdings()
        {
            // A second guest may find things ready that the first had to make; from then on nothing more may be held.
            let first = *self.first_holdings.get_or_insert(now);
            if self.record.boots + self.record.forks > 1 {
                self.record.holdings = Some((first, now));
            }
        }
        self.timings.forget_open();
    }

    /// A time-out of the scenario on this machine, in nanoseconds.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "hours times a hundred, in nanoseconds"
    )]
    pub(super) fn scaled(&self, time_out: Duration) -> u64 {
        (time_out.as_secs_f64() * self.slowdown * 1e9) as u64
    }

    pub(super) fn id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.now.outstanding.insert(id);
        id
    }

    pub(super) fn device_name(&self, device: usize) -> String {
        self.set.scenario.devices.get(device).map(|device| device.name.clone()).unwrap_or_default()
    }

    pub(super) fn hammer_name(&self, hammer: usize) -> String {
        self.set.scenario.hammers.get(hammer).map(|hammer| hammer.name.clone()).unwrap_or_default()
    }

    /// Writes down what the storm does.
    pub(super) fn host(&mut self, kind: EventKind) -> Result<(), Trouble> {
        let t_ns = self.set.guest.now_ns();
        Ok(self.set.journal.event(&Event { t_ns, source: Source::Host, guest_t_ns: None, kind })?)
    }

    /// Writes down what the storm did at another moment.
    pub(super) fn host_at(&mut self, t_ns: u64, kind: EventKind) -> Result<(), Trouble> {
        Ok(self.set.journal.event(&Event { t_ns, source: Source::Host, guest_t_ns: None, kind })?)
    }

    /// Writes down what the guest says. `tsc` is its own time of it.
    pub(super) fn guest_says(&mut self, kind: EventKind, tsc: Option<u64>) -> Result<(), Trouble> {
        self.journal(Source::Guest, kind, tsc)
    }

    /// Writes down what was heard, with the time at which it came in.
    pub(super) fn journal(&mut self, source: Source, kind: EventKind, tsc: Option<u64>) -> Result<(), Trouble> {
        let guest_t_ns = tsc.filter(|_| self.now.one_clock).and_then(|tsc| self.set.guest.tsc_to_ns(tsc));
        Ok(self.set.journal.event(&Event { t_ns: self.heard_ns, source, guest_t_ns, kind })?)
    }

    /// The cycle, as people count: from 1, as a matrix does. Files count from 0.
    pub(super) fn cycle_told(&self) -> u64 {
        u64::from(self.cycle) + 1
    }

    /// Takes a finding. Gives [`Trouble::Found`], so that the caller can end with it.
    pub(super) fn found(&mut self, finding: Finding) -> Result<Trouble, Trouble> {
        let told = EventKind::Found { cycle: self.cycle, kind: finding.kind, title: finding.title.clone() };
        // Before it is written down: a full disk must not lose it.
        self.record.finding(finding);
        self.host(told)?;
        self.show_progress();
        Ok(Trouble::Found)
    }

    /// A finding of this cycle, with the console's last lines.
    pub(super) fn finding(&self, kind: FindingKind, title: String, explanation: String) -> Finding {
        let removal = self.now.removal.as_ref();
        Finding {
            title,
            alt_titles: Vec::new(),
            kind,
            count: 1,
            cycle: self.cycle,
            seed: self.set.plan.seed(),
            device: removal.map(|removal| self.device_name(removal.device)),
            how: removal.map(|removal: &RemovalWatch| -> How { removal.how }),
            explanation,
            hang: None,
            processors: None,
            splat: None,
            console: self.now.console.tail(),
            known: false,
            known_reason: None,
            known_url: None,
        }
    }

    pub(super) fn show_progress(&mut self) {
        let status = crate::progress::Status {
            scenario: &self.set.scenario.name,
            cycle: self.cycle,
            cycles: self.set.plan.cycles(),
            boots: self.record.boots,
            removals: self.record.removals.values().map(|removal| removal.finished).sum(),
            findings: self.record.findings.len(),
            ready: self.now.ready,
        };
        self.set.progress.show(&status);
    }

    pub(super) fn next_event(&mut self, deadline_ns: u64) -> Option<Stamped> {
        self.set.guest.next_event(deadline_ns)
    }
}

pub(crate) fn clamp_slowdown(slowdown: f64) -> f64 {
    if slowdown.is_finite() { slowdown.clamp(1.0, MOST_SLOWDOWN) } else { MOST_SLOWDOWN }
}

#[expect(clippy::cast_precision_loss, reason = "a factor")]
pub(crate) fn ratio(value: u64, reference: u64) -> f64 {
    value as f64 / reference as f64
}

/// Nanoseconds as people read them.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(super) fn seconds(ns: u64) -> String {
    let seconds = ns as f64 / 1e9;
    if seconds < 10.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}

/// The end of a console, as the end of a sentence.
pub(super) fn last_words(tail: &[String]) -> String {
    tail.last().map(|line| format!("; the last line of its console is: {line}")).unwrap_or_default()
}
