//! From nothing to a guest that is ready: by a boot, or from a snapshot that an earlier boot was made into.
//!
//! | | boot | fork |
//! |---|---|---|
//! | the agent says hello, the trace is set up | now | before the snapshot; what was said came with it |
//! | the snapshot is made | now, if none is there; then the guest is forked from it | |
//! | the guest begins: hammers, limits, clock, random numbers of this run | now | now |
//!
//! So a guest of a run that uses snapshots is always a fork, the first one too: all cycles begin alike.

use plugstorm_observe::timing::Timings;
use plugstorm_wire::FromGuest;

use super::Outcome;
use super::engine::{Origin, Present, Storm, Trouble};
use super::guest::Started;
use super::record::Record;
use crate::results::{EventKind, Finding};

impl Storm<'_> {
    /// Starts one guest as a storm does, and stops it: all that is left of it is what its keeper kept.
    #[must_use]
    pub fn prepare(mut self) -> Outcome {
        let started = match self.start_guest() {
            // As a cycle is repeated for it.
            Err(Trouble::Emulation) => {
                self.stop_guest();
                self.start_guest()
            }
            started => started,
        };
        let ended = match started {
            Ok(()) => {
                self.stop_guest();
                Ok(())
            }
            Err(Trouble::Emulation) => {
                Err(Trouble::Failed("the guest ended with a triple fault before it was ready".into()))
            }
            other => other,
        };
        self.end(ended)
    }

    /// Starts a guest, and a second one in its place if the first breaks before anything was plugged in and that may say
    /// nothing about its kernel: under software emulation, where one that patches its own code now and then breaks, and if it
    /// was forked from a snapshot, which may be to blame; the second is booted then. What happens twice is found.
    pub(super) fn start_guest(&mut self) -> Result<(), Trouble> {
        let before = self.record.findings.len();
        let Err(trouble) = self.start_once() else { return Ok(()) };
        let forked = self.now.origin == Origin::Fork;
        let why = match &trouble {
            Trouble::Found if forked || self.set.emulated => self.record.findings.get(before),
            Trouble::Failed(_) | Trouble::Emulation if forked => None,
            _ => return Err(trouble),
        };
        let why = match (why, &trouble) {
            (Some(finding), _) => finding.title.clone(),
            (None, Trouble::Failed(reason)) => reason.clone(),
            (None, _) => "the guest ended".to_owned(),
        };
        self.stop_guest();
        if forked {
            self.set.guest.distrust(&why);
        }
        let first: Vec<Finding> = self.record.findings.split_off(before.min(self.record.findings.len()));
        self.tainted = false;
        let second = self.start_once();
        if second.is_ok() {
            self.record.warn(format!(
                "a guest broke before anything was plugged in, and another one was booted in its place: {why} (see console.log)"
            ));
        } else {
            first.into_iter().for_each(|finding| {
                self.record.finding(finding);
            });
        }
        second
    }

    fn start_once(&mut self) -> Result<(), Trouble> {
        let began_ns = self.bring_up()?;
        if self.now.origin == Origin::Boot {
            let introduction = self.introduction(began_ns)?;
            let boot_ns = self.set.guest.now_ns().saturating_sub(began_ns);
            if self.set.guest.is_to_be_kept() && self.kept(introduction, boot_ns)? {
                // It goes on as a fork, or is booted again if that cannot be.
                self.stop_guest();
                return self.start_kept();
            }
        }
        self.begin_started(began_ns)
    }

    /// Makes a snapshot of the guest. False if the guest runs on.
    fn kept(&mut self, introduction: Vec<FromGuest>, boot_ns: u64) -> Result<bool, Trouble> {
        // The agent has nothing left to say then: a snapshot begins with silence.
        self.flush_trace()?;
        let kept = self.set.guest.keep(introduction, boot_ns)?;
        self.take_notes();
        Ok(kept)
    }

    fn start_kept(&mut self) -> Result<(), Trouble> {
        let began_ns = self.bring_up()?;
        if self.now.origin == Origin::Boot {
            self.introduction(began_ns)?;
        }
        self.begin_started(began_ns)
    }

    fn begin_started(&mut self, began_ns: u64) -> Result<(), Trouble> {
        self.begin()?;
        if self.now.origin == Origin::Fork {
            Record::sample(&mut self.record.forks_ns, self.set.guest.now_ns().saturating_sub(began_ns));
            self.set.guest.settle();
        }
        Ok(())
    }

    /// Lets a guest run; a fork is introduced. When it was begun.
    fn bring_up(&mut self) -> Result<u64, Trouble> {
        self.now = Present { nodes: vec![None; self.set.scenario.devices.len()], ..Present::default() };
        let began_ns = self.set.guest.now_ns();
        let started = self.set.guest.boot()?;
        let ns = self.set.guest.now_ns().saturating_sub(began_ns);
        self.running = true;
        self.take_notes();
        if self.record.boots + self.record.forks == 0 {
            self.timings = Timings::new(self.set.guest.tsc_khz());
        }
        match started {
            Started::Booted => {
                self.record.boots += 1;
                self.host_at(began_ns, EventKind::BootBegan { boot: self.record.boots })?;
            }
            Started::Forked { snapshot, introduction } => {
                self.record.forks += 1;
                self.now.origin = Origin::Fork;
                self.record.snapshot = Some(snapshot.clone());
                self.host_at(began_ns, EventKind::ForkBegan { fork: self.record.forks, snapshot, ns })?;
                for message in introduction {
                    match message {
                        FromGuest::Hello { .. } => self.hello_facts(&message)?,
                        FromGuest::Configured { probes_failed } => self.configured(probes_failed),
                        _ => {}
                    }
                }
            }
        }
        self.now.first_event_of = Some(began_ns);
        Ok(began_ns)
    }

    /// Takes what the guest has to tell the user.
    pub(super) fn take_notes(&mut self) {
        for note in self.set.guest.notes() {
            self.record.warn(note);
        }
    }
}
