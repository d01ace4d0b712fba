//! One removal: asked, seen by the guest, finished or stuck.
//!
//! | way | asked | seen, whichever comes first | finished |
//! |---|---|---|---|
//! | surprise | the hardware is pulled | the guest clears the slot's event bits | uevent `remove` of the PCI device |
//! | surprise of a forgotten device | the same | the same | the same as seen: nothing is left to unbind |
//! | unbind | the agent is told | a removal function entered (trace), a uevent, the write's return | the write returned |
//! | remove | the agent is told | the same | the write returned, and the PCI device's uevent `remove` |
//!
//! All of it comes from the guest or from registers that it wrote; a removal that is only believed to have ended has not.

use plugstorm_observe::trace::Span;
use plugstorm_wire::ToGuest;

use super::engine::{Storm, Trouble};
use super::guest::SlotChange;
use super::record::Record;
use super::stuck::Stuck;
use crate::results::EventKind;
use crate::scenario::How;

/// How a wait for a removal ended.
enum Wait {
    Finished,
    Refused(String),
}

/// A removal that is being waited for.
#[derive(Debug, Clone)]
pub(super) struct RemovalWatch {
    pub(super) device: usize,
    pub(super) how: How,
    forgotten: bool,
    pub(super) asked_ns: u64,
    /// The request to the agent.
    id: Option<u64>,
    /// When, and by what the storm knows.
    pub(super) seen: Option<(u64, &'static str)>,
    gone_ns: Option<u64>,
    written_ns: Option<u64>,
    refused: Option<String>,
}

impl RemovalWatch {
    fn see(&mut self, t_ns: u64, by: &'static str) {
        self.seen.get_or_insert((t_ns.max(self.asked_ns), by));
    }

    pub(super) fn slot(&mut self, t_ns: u64, slot: u8, what: SlotChange) {
        // Events of the add before may lie in the inbox still.
        if t_ns >= self.asked_ns
            && self.how == How::Surprise
            && usize::from(slot) == self.device
            && matches!(what, SlotChange::EventsCleared { .. })
        {
            self.see(t_ns, "slot events cleared");
        }
    }

    /// `below`: path components below the port. The PCI device is the first of them.
    pub(super) fn uevent(&mut self, t_ns: u64, action: &str, subsystem: &str, below: usize) {
        // What happened before belongs to an earlier removal, and was only told late.
        if t_ns < self.asked_ns {
            return;
        }
        if action == "remove" && subsystem == "pci" && below == 1 {
            self.see(t_ns, "uevent");
            self.gone_ns.get_or_insert(t_ns.max(self.asked_ns));
        } else if self.how != How::Surprise && matches!(action, "remove" | "unbind") {
            self.see(t_ns, "uevent");
        }
    }

    pub(super) fn traced(&mut self, t_ns: u64, span: Span) {
        let removes = !matches!(span, Span::SlotEvent | Span::AddBelowPort | Span::GracePeriod);
        if self.how != How::Surprise && removes && t_ns >= self.asked_ns {
            self.see(t_ns, "trace");
        }
    }

    /// The agent's write to sysfs has returned.
    pub(super) fn written(&mut self, id: u64, began_ns: u64, ended_ns: u64, error: Option<&str>) {
        if self.id != Some(id) {
            return;
        }
        match error {
            Some(error) => self.refused = Some(error.to_owned()),
            None => {
                self.see(began_ns, "write begun");
                self.written_ns = Some(ended_ns.max(self.asked_ns));
            }
        }
    }

    /// When it ended.
    pub(super) fn finished_ns(&self) -> Option<u64> {
        match self.how {
            How::Surprise if self.forgotten => self.seen.map(|(ns, _)| ns),
            How::Surprise => self.gone_ns,
            How::Unbind => self.written_ns,
            How::Remove => {
                self.written_ns.max(self.gone_ns).filter(|_| self.written_ns.is_some() && self.gone_ns.is_some())
            }
        }
    }
}

impl Storm<'_> {
    pub(super) fn remove(&mut self, device: usize, how: How, forgotten: bool) -> Result<(), Trouble> {
        let name = self.device_name(device);
        let port = self.set.guest.port(device);
        self.host(EventKind::RemovalAsked { cycle: self.cycle, device: name.clone(), how })?;
        self.record.removals.entry(how).or_default().asked += 1;
        let id = (how != How::Surprise).then(|| self.id());
        let asked_ns = self.set.guest.now_ns();
        self.first_removal_ns.get_or_insert(asked_ns);
        // Watched before it is asked for: the guest may be quicker than this thread.
        self.now.removal = Some(RemovalWatch {
            device,
            how,
            forgotten,
            asked_ns,
            id,
            seen: None,
            gone_ns: None,
            written_ns: None,
            refused: None,
        });
        match (how, id) {
            (How::Unbind, Some(id)) => self.set.guest.send(&ToGuest::Unbind { id, port })?,
            (How::Remove, Some(id)) => self.set.guest.send(&ToGuest::Remove { id, port })?,
            _ => {
                self.now.slot_ends_expected += 1;
                self.set.guest.surprise_remove(device)?;
            }
        }
        let time_out_ns = self.scaled(self.set.scenario.time_outs.removal);
        let ended = self.wait(time_out_ns, |now| {
            let removal = now.removal.as_ref()?;
            match &removal.refused {
                Some(error) => Some(Wait::Refused(error.clone())),
                None if removal.finished_ns().is_some() => Some(Wait::Finished),
                None => None,
            }
        })?;
        self.note_seen()?;
        match ended {
            Some(Wait::Finished) => {
                self.note_finished()?;
                self.now.removal = None;
                Ok(())
            }
            Some(Wait::Refused(error)) => {
                Err(Trouble::Failed(format!("the guest could not {} device `{name}`: {error}", how.name())))
            }
            None => {
                let after_ns = self.set.guest.now_ns().saturating_sub(asked_ns).min(time_out_ns);
                Err(self.examine(Stuck::Removal, after_ns)?)
            }
        }
    }

    fn note_seen(&mut self) -> Result<(), Trouble> {
        let Some(removal) = self.now.removal.clone() else { return Ok(()) };
        let Some((seen_ns, by)) = removal.seen else { return Ok(()) };
        let record = self.record.removals.entry(removal.how).or_default();
        record.seen += 1;
        Record::sample(&mut record.seen_ns, seen_ns.saturating_sub(removal.asked_ns));
        let device = self.device_name(removal.device);
        let (by, at_ns) = (by.to_owned(), Some(seen_ns));
        self.host(EventKind::RemovalSeen { cycle: self.cycle, device, how: removal.how, by, at_ns })
    }

    pub(super) fn note_finished(&mut self) -> Result<(), Trouble> {
        let Some(removal) = self.now.removal.clone() else { return Ok(()) };
        let Some(finished_ns) = removal.finished_ns() else { return Ok(()) };
        let after_ns = finished_ns.saturating_sub(removal.asked_ns);
        let record = self.record.removals.entry(removal.how).or_default();
        record.finished += 1;
        Record::sample(&mut record.finished_ns, after_ns);
        let device = self.device_name(removal.device);
        let at_ns = Some(finished_ns);
        self.host(EventKind::RemovalFinished { cycle: self.cycle, device, how: removal.how, after_ns, at_ns })
    }
}
