//! The state of all devices of a machine: saved, and devices made from it again.
//!
//! ```text
//! Machine::save      no vCPU runs; then
//!                    DevicesState::save(bus, console, gpios, || irqchip and memory) -> (DevicesState, what that gave)
//! Machine::restore   memory and irqchip have their state, the serial port's irqfd is attached; then
//!                    DevicesState::restore(surroundings) -> Devices { bus, console, gpios }
//! ```
//!
//! The host may move lines and send to ports while a machine is being saved, and that writes guest memory and sends
//! interrupts. So [`DevicesState::save`] holds all devices still while its caller saves the rest: memory, irqchip and
//! devices are then of one moment, and a call of a handle comes wholly before it or wholly after.
//!
//! Nothing is lost and nothing doubled: an event that waits for the guest waits on, an interrupt that was sent is in the
//! irqchip's state. The observer of the slots and the sinks of the ports are told nothing by a restore.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use crate::bus::Bus;
use crate::interrupt::MsiSink;
use crate::memory::GuestRam;
use crate::pci::{ConfigState, GoneReads, LegacyConfigPorts, RootComplex, SlotObserver};
use crate::serial::{SerialPort, SerialState};
use crate::state::StateError;
use crate::stop::StopLatch;
use crate::virtio::console::{self, ConsoleHandle, ConsoleSink, ConsoleState, PortConfig};
use crate::virtio::gpio::{self, GpioHandle, GpioState};

/// All devices as plain data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicesState {
    /// COM1.
    pub serial: SerialState,
    /// What the address port of configuration mechanism #1 holds.
    pub config_address: u32,
    /// Registers of the host bridge.
    pub host_bridge: ConfigState,
    /// The root ports with their slots, in their order: as many as the machine has.
    pub slots: Vec<SlotState>,
    /// The virtio console, if the machine has one.
    pub console: Option<ConsoleState>,
}

/// A root port with its slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotState {
    /// Registers of the root port.
    pub registers: ConfigState,
    /// The gpio controller in the slot, reachable or not; none if the slot is empty.
    pub gpio: Option<GpioState>,
}

/// What restored devices are connected to, and what of a machine is its owner's choice at each start.
pub struct Surroundings {
    /// The guest's memory, as it was.
    pub memory: GuestRam,
    /// Where messages go.
    pub msi: Arc<dyn MsiSink>,
    /// Set by the ports that end the machine.
    pub stop: Arc<StopLatch>,
    /// An irqfd of [`crate::serial::GSI`].
    pub serial_interrupt: EventFd,
    /// Where the serial port writes to.
    pub serial: Box<dyn ConsoleSink>,
    /// The ports of the virtio console, the nameless first one included; none for a machine without.
    pub ports: Vec<PortConfig>,
    /// What a device that has gone reads as.
    pub gone_reads: GoneReads,
    /// Is told what happens at the slots.
    pub slot_observer: Arc<dyn SlotObserver>,
}

/// Devices that go on where others were saved.
#[derive(Debug)]
pub struct Devices {
    /// What a vCPU reaches them by.
    pub bus: Bus,
    /// The host's side of the console.
    pub console: Option<ConsoleHandle>,
    /// The host's side of what is in the slots, by slot.
    pub gpios: BTreeMap<u8, GpioHandle>,
}

impl DevicesState {
    /// Saves all devices, and with them whatever `still` saves: while it runs no virtio device changes, touches guest memory
    /// or sends a message, for all are locked; so `still` must not call their handles. The serial port has no part in
    /// memory and repeats its interrupt at the restore, and is not. No vCPU may run, and nobody plug or remove. `gpios` has
    /// the controllers by their slots.
    ///
    /// # Errors
    /// If `gpios` are not what the slots hold; `still` has not been called then.
    pub fn save<R>(
        bus: &Bus,
        console: Option<&ConsoleHandle>,
        gpios: &BTreeMap<u8, GpioHandle>,
        still: impl FnOnce() -> R,
    ) -> Result<(Self, R), StateError> {
        // Nobody else holds two functions' locks, so their order is no matter.
        let console = console.map(ConsoleHandle::lock);
        let gpios: BTreeMap<u8, _> = gpios.iter().map(|(&slot, handle)| (slot, handle.lock())).collect();
        let mut slots = Vec::new();
        for slot in bus.pci.slots() {
            let (registers, occupied) = slot.registers();
            let gpio = gpios.get(&slot.index()).map(|function| GpioState::of(function));
            if occupied != gpio.is_some() {
                let holds = if occupied { "something" } else { "nothing" };
                let reason = format!("slot {} holds {holds}, which is not what was plugged in", slot.index());
                return Err(StateError::new("slot", reason));
            }
            slots.push(SlotState { registers, gpio });
        }
        let state = Self {
            serial: bus.serial.state(),
            config_address: bus.config_ports.address(),
            host_bridge: bus.pci.host_bridge(),
            slots,
            console: console.as_ref().map(|function| ConsoleState::of(function)),
        };
        Ok((state, still()))
    }

    /// Makes the devices again. Guest memory must be as it was, and the irqchip have its state: the serial port may raise
    /// its interrupt.
    ///
    /// # Errors
    /// If a state is not one that such a device can be in, or these are not the console's ports.
    pub fn restore(&self, surroundings: Surroundings) -> Result<Devices, StateError> {
        let Surroundings { memory, msi, stop, serial_interrupt, serial, ports, gone_reads, slot_observer } =
            surroundings;
        let pci_error = |error: crate::pci::PciError| StateError::new("root complex", error.to_string());
        let root_ports = u8::try_from(self.slots.len()).unwrap_or(u8::MAX);
        let pci = RootComplex::new(root_ports, gone_reads, Arc::clone(&msi), slot_observer).map_err(pci_error)?;
        pci.restore_host_bridge(&self.host_bridge)?;
        let console = match &self.console {
            Some(state) => {
                let (function, handle) = console::console_from_state(ports, state, memory.clone(), Arc::clone(&msi))?;
                pci.add_integrated(function).map_err(pci_error)?;
                Some(handle)
            }
            None if ports.is_empty() => None,
            None => return Err(StateError::new("console", "it has none, and there are ports for one")),
        };
        let mut gpios = BTreeMap::new();
        for (slot, state) in pci.slots().zip(&self.slots) {
            let at_slot =
                |StateError { what, reason }| StateError::new(what, format!("at slot {}, {reason}", slot.index()));
            let mut card = None;
            if let Some(state) = &state.gpio {
                let restored = gpio::gpio_from_state(state, memory.clone(), Arc::clone(&msi));
                let (function, handle) = restored.map_err(at_slot)?;
                gpios.insert(slot.index(), handle);
                card = Some(function);
            }
            slot.restore(&state.registers, card).map_err(at_slot)?;
        }
        let pci = Arc::new(pci);
        let config_ports = LegacyConfigPorts::new(Arc::clone(&pci));
        config_ports.restore_address(self.config_address)?;
        // The last, since it may interrupt: no interrupt for a machine that there will not be.
        let serial = SerialPort::from_state(&self.serial, serial_interrupt, serial)?;
        Ok(Devices { bus: Bus { serial, pci, config_ports, stop }, console, gpios })
    }
}

#[cfg(test)]
mod tests;
