//! The steps of a cycle, except the removal.

use std::time::Duration;

use plugstorm_wire::{FromGuest, PciAddress, ToGuest};

use super::engine::{Storm, Trouble, seconds};
use super::guest::nanoseconds;
use super::record::Record;
use super::stuck::Stuck;
use crate::plan::PlannedStep;
use crate::results::EventKind;

impl Storm<'_> {
    pub(super) fn step(&mut self, step: PlannedStep) -> Result<(), Trouble> {
        match step {
            PlannedStep::Add { device } => self.add(device),
            PlannedStep::Bind { device } => self.bring_back(device, "bind", |id, port| ToGuest::Bind { id, port }),
            PlannedStep::Rescan { device } => {
                self.bring_back(device, "rescan", |id, port| ToGuest::Rescan { id, port })
            }
            PlannedStep::Start { hammer, seed } => self.start(hammer, seed),
            PlannedStep::Stop { hammer } => self.stop(hammer),
            PlannedStep::Pause(pause) => {
                let ns = nanoseconds(pause);
                self.host(EventKind::Pause { cycle: self.cycle, ns })?;
                self.rest(ns)
            }
            PlannedStep::Remove { device, how, forgotten } => self.remove(device, how, forgotten),
            PlannedStep::Migrate => self.migrate(),
            PlannedStep::Run { program } => self.run_program(program),
        }
    }

    /// The guest must not notice: what is plugged in stays, and hammers work on.
    fn migrate(&mut self) -> Result<(), Trouble> {
        let began_ns = self.set.guest.now_ns();
        if !self.set.guest.migrate()? {
            return Ok(());
        }
        let ns = self.set.guest.now_ns().saturating_sub(began_ns);
        self.record.migrations += 1;
        self.host(EventKind::Migrated { cycle: self.cycle, ns })
    }

    fn add(&mut self, device: usize) -> Result<(), Trouble> {
        self.let_slots_settle()?;
        self.add_asked(device, "plug")?;
        let asked_ns = self.set.guest.now_ns();
        self.now.slot_ends_expected += 1;
        self.set.guest.plug(device)?;
        self.node(device, asked_ns)
    }

    /// Linux takes an event on an occupied slot for a removal and an add (`pciehp_handle_presence_or_link_change`): while
    /// its thread still works on the last removal, a new device would be added twice.
    fn let_slots_settle(&mut self) -> Result<(), Trouble> {
        if self.now.slot_ends_told && self.now.slot_ends_expected > self.now.slot_ends {
            let expected = self.now.slot_ends_expected;
            let settled =
                self.wait(self.scaled(Duration::from_millis(200)), |now| (now.slot_ends >= expected).then_some(()))?;
            if settled.is_none() {
                // The event was lost, or two were handled as one: do not wait for it again.
                self.now.slot_ends_expected = self.now.slot_ends;
            }
        }
        Ok(())
    }

    fn bring_back(
        &mut self,
        device: usize,
        verb: &str,
        message: impl FnOnce(u64, PciAddress) -> ToGuest,
    ) -> Result<(), Trouble> {
        self.add_asked(device, verb)?;
        let id = self.id();
        let asked_ns = self.set.guest.now_ns();
        self.set.guest.send(&message(id, self.set.guest.port(device)))?;
        let time_out_ns = self.scaled(self.set.scenario.time_outs.add);
        match self.answer(id, time_out_ns)? {
            Some((_, FromGuest::Done { error: None, .. })) => self.node(device, asked_ns),
            Some((_, FromGuest::Done { error: Some(error), .. })) => {
                let name = self.device_name(device);
                Err(Trouble::Failed(format!("the guest could not {verb} device `{name}`: {error}")))
            }
            Some(_) => Err(Trouble::Failed(format!("the agent's answer to `{verb}` belongs to another question"))),
            None => Err(self.examine(Stuck::Add { device }, time_out_ns)?),
        }
    }

    fn add_asked(&mut self, device: usize, by: &str) -> Result<(), Trouble> {
        let name = self.device_name(device);
        self.host(EventKind::AddAsked { cycle: self.cycle, device: name, by: by.to_owned() })
    }

    /// Waits for the device's node.
    fn node(&mut self, device: usize, asked_ns: u64) -> Result<(), Trouble> {
        let time_out_ns = self.scaled(self.set.scenario.time_outs.add);
        let node = self.wait(time_out_ns, |now| now.nodes.get(device).cloned().flatten())?;
        let Some((t_ns, node)) = node else {
            return Err(self.examine(Stuck::Add { device }, time_out_ns)?);
        };
        Record::sample(&mut self.record.adds_ns, t_ns.saturating_sub(asked_ns));
        let name = self.device_name(device);
        self.host(EventKind::AddFinished { cycle: self.cycle, device: name, node })
    }

    fn start(&mut self, hammer: usize, seed: u64) -> Result<(), Trouble> {
        let name = self.hammer_name(hammer);
        self.host(EventKind::HammerAsked { cycle: self.cycle, hammer: name.clone(), seed })?;
        let id = self.id();
        self.set.guest.send(&ToGuest::StartHammer { id, hammer: name.clone(), seed })?;
        let time_out_ns = self.scaled(self.set.scenario.time_outs.start);
        match self.answer(id, time_out_ns)? {
            Some((_, FromGuest::HammerStarted { tsc, node, descriptors, threads, .. })) => {
                let started = EventKind::HammerStarted { cycle: self.cycle, hammer: name, node, descriptors, threads };
                self.guest_says(started, Some(tsc))
            }
            Some((_, FromGuest::Done { error: Some(error), .. })) => {
                Err(Trouble::Failed(format!("hammer `{name}` could not start in cycle {}: {error}", self.cycle_told())))
            }
            Some(_) => {
                Err(Trouble::Failed(format!("the agent's answer to starting `{name}` belongs to another question")))
            }
            None => Err(self.examine(Stuck::Start { hammer }, time_out_ns)?),
        }
    }

    fn stop(&mut self, hammer: usize) -> Result<(), Trouble> {
        let name = self.hammer_name(hammer);
        let grace_ns = self.scaled(self.set.scenario.time_outs.stop);
        let id = self.id();
        self.set.guest.send(&ToGuest::StopHammer { id, hammer: name.clone(), grace_ms: grace_ns / 1_000_000 })?;
        // The agent gives up on its threads after the grace; what it says then takes a moment.
        let time_out_ns = grace_ns.saturating_add(self.scaled(Duration::from_secs(2)));
        let Some((_, answer)) = self.answer(id, time_out_ns)? else {
            return Err(self.examine(Stuck::Hammer { hammer, hanging: Vec::new() }, time_out_ns)?);
        };
        match answer {
            FromGuest::HammerReport { tsc, ended, active_ns, operations, hanging, .. } => {
                let since_ns = self.first_removal_ns.map(|asked_ns| self.set.guest.now_ns().saturating_sub(asked_ns));
                let calls = self.record.hammer(hammer, active_ns, &operations, since_ns);
                let (cycle, hangs) = (self.cycle, hanging.len());
                let reported =
                    EventKind::HammerReported { cycle, hammer: name, ended, calls, hanging: hangs, operations };
                self.guest_says(reported, Some(tsc))?;
                // With nobody hanging they all came back just as the agent counted them.
                if ended || hanging.is_empty() {
                    return Ok(());
                }
                Err(self.examine(Stuck::Hammer { hammer, hanging }, grace_ns)?)
            }
            FromGuest::Done { error: Some(error), .. } => Err(Trouble::Failed(format!(
                "hammer `{name}` could not be stopped in cycle {}: {error}",
                self.cycle_told()
            ))),
            _ => Err(Trouble::Failed(format!(
                "the agent did not report on hammer `{name}` within {}",
                seconds(time_out_ns)
            ))),
        }
    }
}
