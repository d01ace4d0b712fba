//! Taking what the guest says: every event is written down, and kept where a wait will look for it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use plugstorm_observe::splat::{Splat, SplatKind, interrupted_while_off};
use plugstorm_observe::trace::{Role, Span, parse_line, parse_lost, probe};
use plugstorm_wire::FromGuest;

use super::engine::{Origin, Present, Storm, Trouble, last_words};
use super::guest::{EndCause, GuestEvent, SlotChange, Stamped};
use super::record::Record;
use super::sign::sign_of;
use crate::results::{CONSOLE_CAP_BYTES, EventKind, FindingKind, Source};

/// How often a wait looks whether the user wants it to end, in nanoseconds.
const SLICE_NS: u64 = 100_000_000;
/// After a panic a kernel restarts the machine. If it does not within this time, it is not waited for, in nanoseconds.
const LAST_WORDS_NS: u64 = 10_000_000_000;
/// Events taken after the end of a guest.
const MOST_LATE_EVENTS: usize = 100_000;
/// Lines that are no messages, and answers to nothing, that are put up with from one guest.
const MOST_CHANNEL_FAULTS: u64 = 16;
/// Guests of one run whose silent end is laid to the emulator.
const MOST_EMULATION_FAULTS: u32 = 10;
/// What an emulator may have done to a guest, as a clause about it: a guest that was lost.
const TRIPLE_FAULT: &str = "ended with a triple fault and no report";
/// The same: an interrupt that was none of the machine's.
const INTERRUPTED: &str = "was interrupted while it had interrupts off, which no processor does";
/// A guest's text is cut here before it is written down, in bytes.
const TEXT_BYTES: usize = 4096;
/// Of the panic's message (arch/x86/kernel/nmi.c, unknown_nmi_error).
const NMI_PANIC: &str = "NMI: Not continuing";
/// A splat's text is cut here, in bytes.
const SPLAT_BYTES: usize = 16 * 1024;

impl Storm<'_> {
    /// Hears the guest until `look` finds something, at most so long.
    pub(super) fn wait<T>(
        &mut self,
        time_out_ns: u64,
        mut look: impl FnMut(&mut Present) -> Option<T>,
    ) -> Result<Option<T>, Trouble> {
        let deadline_ns = self.set.guest.now_ns().saturating_add(time_out_ns);
        loop {
            if let Some(found) = look(&mut self.now) {
                return Ok(Some(found));
            }
            if self.set.interrupt.load(Ordering::Relaxed) {
                return Err(Trouble::Interrupted);
            }
            let now_ns = self.set.guest.now_ns();
            let mut event = self.next_event(now_ns);
            if event.is_none() {
                self.set.journal.flush()?;
                event = self.next_event(deadline_ns.min(now_ns.saturating_add(SLICE_NS)));
            }
            if event.is_none() && self.now.panicked_ns.is_some_and(|ns| ns.saturating_add(LAST_WORDS_NS) < now_ns) {
                return Err(self.guest_ended(&EndCause::Panicked)?);
            }
            // What came in before the deadline counts, however late it is taken: a host that stalls must not blame the guest.
            // A guest that never stops talking does not lengthen the wait.
            let over = event.as_ref().map_or(now_ns, |event| event.t_ns) >= deadline_ns;
            if let Some(event) = event {
                self.hear(event)?;
            }
            if over {
                return Ok(look(&mut self.now));
            }
            self.show_progress();
        }
    }

    /// The answer to a request.
    pub(super) fn answer(&mut self, id: u64, time_out_ns: u64) -> Result<Option<(u64, FromGuest)>, Trouble> {
        self.wait(time_out_ns, |now| now.answers.remove(&id))
    }

    /// Lets time pass.
    pub(super) fn rest(&mut self, ns: u64) -> Result<(), Trouble> {
        self.wait(ns, |_| None::<()>).map(|_| ())
    }

    pub(super) fn hear(&mut self, stamped: Stamped) -> Result<(), Trouble> {
        let Stamped { t_ns, event } = stamped;
        self.heard_ns = t_ns;
        match event {
            GuestEvent::Message(message) => {
                self.record.channel.messages += 1;
                self.message(t_ns, message)
            }
            GuestEvent::Malformed { reason, excerpt } => {
                self.record.channel.malformed += 1;
                self.channel_fault(reason, excerpt)
            }
            GuestEvent::Console(bytes) => self.console(&bytes),
            GuestEvent::Overrun { bytes } => Err(Trouble::Failed(format!(
                "the guest wrote faster than the host could read, and {bytes} bytes were lost: too much to judge it by"
            ))),
            GuestEvent::Slot { slot, what } => {
                if let Some(removal) = &mut self.now.removal {
                    removal.slot(t_ns, slot, what);
                }
                self.slot(slot, what)
            }
            GuestEvent::Ended(cause) => Err(self.guest_ended(&cause)?),
        }
    }

    fn slot(&mut self, slot: u8, what: SlotChange) -> Result<(), Trouble> {
        if matches!(what, SlotChange::EventsCleared { .. })
            && let Some(began_ns) = self.now.first_event_of.take()
        {
            let samples = match self.now.origin {
                Origin::Boot => &mut self.record.first_events_booted_ns,
                Origin::Fork => &mut self.record.first_events_forked_ns,
            };
            Record::sample(samples, self.heard_ns.saturating_sub(began_ns));
        }
        let what = match what {
            SlotChange::Interrupt => "interrupt".to_owned(),
            SlotChange::EventsCleared { presence, link } => {
                let bits = [(presence, "presence"), (link, "link")];
                let bits: Vec<_> = bits.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
                format!("events cleared: {}", bits.join(", "))
            }
            SlotChange::ControlWritten(value) => format!("control written: {value:#06x}"),
            SlotChange::LinkDisabled(disabled) => format!("link {}", if disabled { "disabled" } else { "enabled" }),
        };
        self.journal(Source::Host, EventKind::Slot { slot, what }, None)
    }

    fn message(&mut self, t_ns: u64, message: FromGuest) -> Result<(), Trouble> {
        match message {
            FromGuest::Begun { .. } if self.now.awaits_begun => {
                self.now.awaits_begun = false;
                self.now.begun = Some((t_ns, message));
            }
            FromGuest::Begun { .. } => {
                return self.unexpected("the agent began a second time, or before it was told to");
            }
            FromGuest::Hello { .. } | FromGuest::Configured { .. } if self.now.awaits_begun => {
                return self.unexpected("the agent introduced itself a second time");
            }
            FromGuest::Hello { .. } if self.now.hello.is_none() && self.now.configured.is_none() && !self.now.ready => {
                self.now.hello = Some((t_ns, message));
            }
            FromGuest::Configured { .. } if self.now.configured.is_none() && !self.now.ready => {
                self.now.configured = Some(message);
            }
            FromGuest::Hello { .. } | FromGuest::Configured { .. } => {
                return self.unexpected("the agent introduced itself a second time");
            }
            FromGuest::HammerStarted { id, .. }
            | FromGuest::HammerReport { id, .. }
            | FromGuest::ProgramEnded { id, .. }
            | FromGuest::Points { id, .. }
            | FromGuest::Leaks { id, .. }
            | FromGuest::Done { id, .. }
            | FromGuest::Tasks { id, .. } => {
                if !self.now.outstanding.remove(&id) {
                    return self.unexpected("the agent answered what it was not asked");
                }
                if let FromGuest::Done { began_tsc, ended_tsc, error, .. } = &message {
                    let (began_ns, ended_ns) = (self.happened(t_ns, *began_tsc), self.happened(t_ns, *ended_tsc));
                    if let Some(removal) = &mut self.now.removal {
                        removal.written(id, began_ns, ended_ns, error.as_deref());
                    }
                }
                self.now.answers.insert(id, (t_ns, message));
            }
            FromGuest::Uevent { tsc, action, devpath, subsystem, driver: _, devname } => {
                self.uevent(t_ns, tsc, action, devpath, subsystem, devname)?;
            }
            FromGuest::Trace { lines, lost } => self.trace(t_ns, &lines, lost)?,
            FromGuest::Note { tsc, text } => {
                self.guest_says(EventKind::Note { text: cut(text, TEXT_BYTES) }, Some(tsc))?;
            }
            _ => return self.unexpected("the agent sent a message that this plugstorm does not know"),
        }
        Ok(())
    }

    fn unexpected(&mut self, reason: &str) -> Result<(), Trouble> {
        self.record.channel.unexpected += 1;
        self.channel_fault(reason.to_owned(), String::new())
    }

    fn channel_fault(&mut self, reason: String, excerpt: String) -> Result<(), Trouble> {
        self.now.channel_faults += 1;
        let sentence = (self.now.channel_faults > MOST_CHANNEL_FAULTS).then(|| {
            format!(
                "the agent channel cannot be trusted: {} lines in one boot were no messages or answers to nothing, the last \
                 because {reason}; what the guest said is in events.jsonl",
                self.now.channel_faults
            )
        });
        self.guest_says(EventKind::ChannelFault { reason: cut(reason, TEXT_BYTES), excerpt }, None)?;
        sentence.map_or(Ok(()), |sentence| Err(Trouble::Failed(sentence)))
    }

    fn uevent(
        &mut self,
        t_ns: u64,
        tsc: u64,
        action: String,
        devpath: String,
        subsystem: String,
        devname: Option<String>,
    ) -> Result<(), Trouble> {
        let Some((device, below)) = self.below_port(&devpath) else { return Ok(()) };
        let happened_ns = self.happened(t_ns, tsc);
        if let Some(removal) = self.now.removal.as_mut().filter(|removal| removal.device == device) {
            removal.uevent(happened_ns, &action, &subsystem, below);
        }
        let spec = self.set.scenario.devices.get(device);
        let sign = spec.and_then(|spec| sign_of(spec, &action, &devpath, &subsystem, devname.as_deref()));
        if let (Some(sign), Some(slot)) = (sign, self.now.nodes.get_mut(device)) {
            *slot = sign.map(|name| (happened_ns, cut(name, 64)));
        }
        let (action, devpath) = (cut(action, 64), cut(devpath, TEXT_BYTES));
        let (subsystem, devname) = (cut(subsystem, 64), devname.map(|name| cut(name, 64)));
        self.guest_says(EventKind::Uevent { action, devpath, subsystem, devname }, Some(tsc))
    }

    /// The device of the scenario that this path is below, and how many components below its port.
    fn below_port(&self, devpath: &str) -> Option<(usize, usize)> {
        (0..self.set.scenario.devices.len()).find_map(|device| {
            let port = self.set.guest.port(device).0;
            let mut components = devpath.split('/');
            components.by_ref().find(|component| *component == port)?;
            Some((device, components.count())).filter(|(_, below)| *below > 0)
        })
    }

    /// When something happened: as the guest says if that can be so, else when the host heard of it.
    pub(super) fn happened(&self, t_ns: u64, tsc: u64) -> u64 {
        let known = self.now.one_clock.then(|| self.set.guest.tsc_to_ns(tsc)).flatten();
        known.filter(|ns| *ns <= t_ns).unwrap_or(t_ns)
    }

    fn trace(&mut self, t_ns: u64, lines: &[String], lost: u64) -> Result<(), Trouble> {
        let mut lost = lost;
        for line in lines {
            if let Some(told) = parse_lost(line) {
                lost = lost.saturating_add(told.events.unwrap_or(1));
            }
            let Some(event) = parse_line(line) else { continue };
            self.timings.push(&event);
            match probe(&event.name).map(|probe| probe.role) {
                Some(Role::End(Span::SlotEvent)) => self.now.slot_ends += 1,
                Some(Role::Begin(span)) => {
                    let happened_ns = self.happened(t_ns, event.clock_ticks);
                    if let Some(removal) = &mut self.now.removal {
                        removal.traced(happened_ns, span);
                    }
                }
                _ => {}
            }
            let ticks = event.clock_ticks;
            self.guest_says(EventKind::Trace { trace: event }, Some(ticks))?;
        }
        if lost > 0 {
            self.timings.lost_many(lost);
            self.guest_says(EventKind::TraceLost { events: lost }, None)?;
        }
        Ok(())
    }

    fn console(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.record.console_bytes = self.record.console_bytes.saturating_add(bytes.len() as u64);
        self.now.console_bytes = self.now.console_bytes.saturating_add(bytes.len() as u64);
        self.set.journal.console(bytes)?;
        self.now.console.push(bytes);
        if self.now.console.panicked() && self.now.panicked_ns.is_none() {
            self.now.panicked_ns = Some(self.heard_ns);
        }
        let splats = self.now.console.take();
        self.splats(splats)?;
        if self.now.console_bytes > CONSOLE_CAP_BYTES {
            self.finish_console()?;
            return Err(Trouble::Failed(format!(
                "the guest flooded its console with more than {} MiB; make it quieter (`quiet`, `loglevel=`), or see \
                 console.log for what it repeats",
                CONSOLE_CAP_BYTES >> 20
            )));
        }
        Ok(())
    }

    /// Takes the kernel's reports as findings. Whether there were any, apart from the panic over an agent that ended.
    fn splats(&mut self, splats: Vec<Splat>) -> Result<bool, Trouble> {
        let mut any = false;
        for splat in splats {
            // Every kernel begins with the line by which the detector knows a reboot.
            if splat.kind == SplatKind::Reboot && !self.now.ready {
                continue;
            }
            self.guest_says(EventKind::Splat { title: splat.title.clone() }, None)?;
            // Our command line makes a panic of it: without that it would have been a line on the console.
            if splat.title.contains(NMI_PANIC) {
                if !self.now.nmi_sent {
                    return Err(Trouble::Failed(
                        "the guest got a non-maskable interrupt that plugstorm did not send, and panicked as its command line \
                         says"
                            .into(),
                    ));
                }
                self.now.nmi_report = Some(readable_text(&splat.text));
                continue;
            }
            // PID 1 is the agent: its end is our failure, or follows from an earlier report.
            if splat.title.contains("Attempted to kill init") {
                self.now.agent_ended = true;
                continue;
            }
            // Before the finding: neither it nor what follows from it is the kernel's.
            if interrupted_while_off(&splat.text) && self.may_be_the_emulators() {
                return Err(Trouble::Emulation(INTERRUPTED));
            }
            any = true;
            self.tainted = true;
            let mut finding = self.finding(
                FindingKind::Splat,
                splat.title.clone(),
                "The kernel reported this on its console while the storm ran.".into(),
            );
            finding.alt_titles = splat.alt_titles;
            finding.splat = Some(readable_text(&splat.text));
            self.found(finding)?;
        }
        Ok(any)
    }

    /// Nothing more will come: what has begun on the console is complete. Whether there were reports.
    pub(super) fn finish_console(&mut self) -> Result<bool, Trouble> {
        let splats = self.now.console.finish();
        self.splats(splats)
    }

    /// Takes what has come in and not been heard, where the run ends for another reason: only findings count any more.
    pub(super) fn hear_the_rest(&mut self) {
        let now_ns = self.set.guest.now_ns();
        for _ in 0..MOST_LATE_EVENTS {
            match self.next_event(now_ns) {
                Some(Stamped { event: GuestEvent::Ended(_), .. }) => {}
                // The reason for the end is known, and is not replaced by a later one. A guest that never stops talking is
                // not listened to any longer.
                Some(event) if event.t_ns <= now_ns => drop(self.hear(event)),
                _ => break,
            }
        }
        drop(self.finish_console());
    }

    /// At the end of a cycle: if the kernel is in the middle of a report, lets it finish.
    pub(super) fn settle_console(&mut self) -> Result<(), Trouble> {
        if !self.now.console.has_begun_a_report() {
            return Ok(());
        }
        self.rest(self.scaled(Duration::from_millis(100)).min(1_000_000_000))?;
        self.finish_console().map(|_| ())
    }

    /// What has happened under software emulation may be its doing: the first in its cycle, and not one of many.
    fn may_be_the_emulators(&mut self) -> bool {
        let first = self.faulted_in != Some(self.cycle);
        self.faulted_in = Some(self.cycle);
        self.set.emulated && first && self.record.emulation_faults < MOST_EMULATION_FAULTS
    }

    fn guest_ended(&mut self, cause: &EndCause) -> Result<Trouble, Trouble> {
        // What the other vCPUs still said.
        let now_ns = self.set.guest.now_ns();
        for _ in 0..MOST_LATE_EVENTS {
            match self.next_event(now_ns) {
                Some(Stamped { event: GuestEvent::Ended(_), .. }) => {}
                Some(event) => self.hear(event)?,
                None => break,
            }
        }
        let words = cause.words();
        self.guest_says(EventKind::GuestEnded { cause: words.clone() }, None)?;
        let tail = self.now.console.tail();
        let splats = self.finish_console()? || self.tainted;
        let agent_ended = self.now.agent_ended || tail.iter().any(|line| line.contains("Attempted to kill init"));
        match cause {
            EndCause::Machine(_) => Ok(Trouble::Failed(format!("the guest {words}"))),
            _ if agent_ended && !splats => Ok(agent_ended_trouble()),
            // Whoever sent it waits for this, and makes the finding.
            _ if self.now.nmi_sent || splats => Ok(Trouble::Found),
            EndCause::TripleFault if self.may_be_the_emulators() => Ok(Trouble::Emulation(TRIPLE_FAULT)),
            _ if !self.now.ready => {
                Ok(Trouble::Failed(format!("the guest {words} before its agent was ready{}", last_words(&tail))))
            }
            _ => {
                let during = match &self.now.removal {
                    Some(removal) => format!(" during a removal ({})", removal.how.name()),
                    None => String::new(),
                };
                let explanation = format!(
                    "Nobody asked for it, and the kernel printed no report that plugstorm knows. Its last lines are below, if \
                     it wrote any{}.",
                    last_words(&tail)
                );
                let finding = self.finding(FindingKind::GuestDied, format!("the guest {words}{during}"), explanation);
                self.found(finding)
            }
        }
    }
}

/// Says nothing about the kernel: it follows from a mistake of the agent's, or from what was found before.
pub(super) fn agent_ended_trouble() -> Trouble {
    Trouble::Failed("the agent in the guest ended, and the kernel cannot go on without its first process".into())
}

/// A report of bounded length and without control characters: a guest must not drive the user's terminal.
pub(super) fn readable_text(text: &str) -> String {
    let kept = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    cut(text.chars().filter(kept).collect(), SPLAT_BYTES)
}

/// A text of the guest's, of bounded length.
pub(super) fn cut(mut text: String, most_bytes: usize) -> String {
    if text.len() > most_bytes {
        let end = (0..=most_bytes).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
