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
            Err(Trouble::Emulation(_)) => {
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
            Err(Trouble::Emulation(what)) => Err(Trouble::Failed(format!("before it was ready the guest {what}"))),
            other => other,
        };
        self.end(ended)
    }

    /// Starts a guest, and another one in its place if it breaks before anything was plugged in and that may say nothing about
    /// its kernel: if it was forked from a snapshot, which may be to blame (guests are booted then); and, once, under software
    /// emulation, where a kernel that patches its own code now and then breaks. What happens again is found.
    pub(super) fn start_guest(&mut self) -> Result<(), Trouble> {
        let mut spared: Vec<Finding> = Vec::new();
        let mut emulated = self.set.emulated;
        // At most three times: a fork is distrusted once, and a boot spared once.
        loop {
            let before = self.record.findings.clone();
            let Err(trouble) = self.start_once() else { return Ok(()) };
            let forked = self.now.origin == Origin::Fork;
            let new = self.record.findings.iter().find(|finding| !before.contains(finding)).cloned();
            let why = match (&trouble, &new) {
                (Trouble::Found, Some(finding)) if forked || emulated => finding.title.clone(),
                (Trouble::Found, None) if forked || emulated => "its kernel reported something".to_owned(),
                (Trouble::Failed(reason) | Trouble::Host(reason), _) if forked => reason.clone(),
                (Trouble::Emulation(what), _) if forked => format!("it {what}"),
                (Trouble::Found, _) => {
                    for finding in spared {
                        self.record.finding(finding);
                    }
                    return Err(trouble);
                }
                _ => return Err(trouble),
            };
            self.stop_guest();
            if forked {
                self.set.guest.distrust(&why);
            } else {
                emulated = false;
            }
            self.record.findings = before;
            self.tainted = false;
            self.record.warn(format!(
                "a guest broke before anything was plugged in, and another one was booted in its place: {why} (see console.log)"
            ));
            spared.extend(new);
        }
    }

    fn start_once(&mut self) -> Result<(), Trouble> {
        let mut began_ns = self.bring_up()?;
        if self.now.origin == Origin::Boot {
            let introduction = self.introduction(began_ns)?;
            let boot_ns = self.set.guest.now_ns().saturating_sub(began_ns);
            // A guest that has complained says so once: its forks would not, and their runs be clean.
            if self.set.guest.is_to_be_kept() && !self.tainted && self.kept(introduction, boot_ns)? {
                // It goes on as a fork, or is booted again if that cannot be.
                self.stop_guest();
                began_ns = self.bring_up()?;
                if self.now.origin == Origin::Boot {
                    self.introduction(began_ns)?;
                }
            }
        }
        self.begin()?;
        if self.now.origin == Origin::Fork {
            // What a fork complains of before anything was done to it, the snapshot may be to blame for.
            if self.tainted {
                return Err(Trouble::Found);
            }
            Record::sample(&mut self.record.forks_ns, self.set.guest.now_ns().saturating_sub(began_ns));
            self.set.guest.settle();
        }
        Ok(())
    }

    /// Makes a snapshot of the guest. False if the guest runs on.
    fn kept(&mut self, introduction: Vec<FromGuest>, boot_ns: u64) -> Result<bool, Trouble> {
        // The agent has nothing left to say then: a snapshot begins with silence.
        self.flush_trace()?;
        self.set.guest.hold()?;
        // What it said until then is this guest's own, and nobody's after it.
        let now_ns = self.set.guest.now_ns();
        while let Some(event) = self.next_event(now_ns) {
            self.hear(event)?;
        }
        if self.finish_console()? || self.tainted {
            return Err(Trouble::Found);
        }
        let kept = self.set.guest.keep(introduction, boot_ns)?;
        self.take_notes();
        Ok(kept)
    }

    /// Lets a guest run; a fork is introduced. When it was begun.
    fn bring_up(&mut self) -> Result<u64, Trouble> {
        self.now = Present { nodes: vec![None; self.set.scenario.devices.len()], ..Present::default() };
        let began_ns = self.set.guest.now_ns();
        self.heard_ns = began_ns;
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
