//! Slots: what is plugged in below a root port, and what happens when that changes.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::capability::express;
use super::config::ConfigState;
use super::function::SharedFunction;
use super::root_port::{PortView, RootPort};
use crate::interrupt::MsiSink;
use crate::state::StateError;

/// Something that happened at a slot: the evidence from which a removal's progress is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlotEvent {
    /// The port sends its hot-plug interrupt.
    Interrupt,
    /// The guest cleared events: its interrupt handler has seen them (pciehp_hpc.c, pciehp_isr).
    EventsCleared {
        /// Presence detect changed was set and is not any more.
        presence: bool,
        /// Data link layer state changed was set and is not any more.
        link: bool,
    },
    /// The guest wrote to slot control; the register's new value.
    ControlWritten(u16),
    /// The guest set or cleared Link Disable.
    LinkDisabled(bool),
}

/// Who is told of the events of all slots.
pub trait SlotObserver: Send + Sync + fmt::Debug {
    /// An event at slot `slot`, counted from 0. Called with no lock held, by the thread that caused it: a vCPU's, or
    /// the one that plugs and removes. Must be quick. An interrupt is told before it is sent.
    fn slot_event(&self, slot: u8, event: SlotEvent);
}

/// Why nothing was plugged or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// There is a card in the slot.
    #[error("slot {0} already holds a device; remove that one first")]
    Occupied(u8),
    /// There is none.
    #[error("slot {0} is empty; plug a device in first")]
    Empty(u8),
}

/// Where an access goes that a port has been asked about.
#[derive(Debug)]
pub(super) enum Route {
    /// Not below this port.
    Elsewhere,
    /// Below this port, but the link is down.
    Gone,
    /// To this function.
    Function(SharedFunction),
}

/// A root port and the slot below it.
#[derive(Debug)]
pub struct Slot {
    index: u8,
    /// Offset of slot control in the port's configuration space.
    control: u16,
    state: Mutex<PortAndCard>,
    msi: Arc<dyn MsiSink>,
    observer: Arc<dyn SlotObserver>,
}

/// Registers and card under one lock: a guest that reads presence must not find it without its changed bit. The lock is
/// the innermost there is: nothing is called while it is held.
#[derive(Debug)]
struct PortAndCard {
    port: RootPort,
    card: Option<SharedFunction>,
}

impl PortAndCard {
    fn view(&self) -> PortView {
        self.port.view(self.card.is_some())
    }

    fn reachable(&self) -> Option<&SharedFunction> {
        self.card.as_ref().filter(|_| self.port.link_up(true))
    }
}

impl Slot {
    pub(super) fn new(index: u8, port: RootPort, msi: Arc<dyn MsiSink>, observer: Arc<dyn SlotObserver>) -> Self {
        let control = port.slot_control();
        Self { index, control, state: Mutex::new(PortAndCard { port, card: None }), msi, observer }
    }

    /// Number of the slot, from 0. The guest's own number for it, in slot capabilities, is one more.
    #[must_use]
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Device number of the root port on bus 0.
    #[must_use]
    pub fn device(&self) -> u8 {
        self.index.saturating_add(1)
    }

    /// The root port as sysfs writes it, such as `0000:00:01.0`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("0000:00:{:02x}.0", self.device())
    }

    /// Plugs a function in: presence and link come up, both with their changed bits, then one interrupt if the guest
    /// wants it. If the guest has disabled the link, the card is there and shows when the link is enabled again.
    ///
    /// # Errors
    /// If there is a card in the slot.
    pub fn plug(&self, function: SharedFunction) -> Result<(), SlotError> {
        self.change(false, |state| {
            if state.card.is_some() {
                return Err(SlotError::Occupied(self.index));
            }
            state.card = Some(function);
            Ok(())
        })
    }

    /// Pulls the function out without a word: link and presence drop, both with their changed bits, then one interrupt
    /// if the guest wants it. The function has been reset when this returns; an access that a vCPU had begun before is
    /// finished. Must not be called with the function's lock held.
    ///
    /// # Errors
    /// If the slot is empty.
    pub fn surprise_remove(&self) -> Result<SharedFunction, SlotError> {
        self.change(false, |state| state.card.take().ok_or(SlotError::Empty(self.index)))
    }

    /// Whether there is a card, reachable or not.
    #[must_use]
    pub fn is_occupied(&self) -> bool {
        self.lock().card.is_some()
    }

    /// The bus number that the guest gave the bus below; none before it has.
    #[must_use]
    pub fn secondary_bus(&self) -> Option<u8> {
        self.lock().port.secondary_bus()
    }

    /// Whether the guest's driver listens: hot-plug interrupts are enabled and can be delivered. A card plugged earlier
    /// is found by the scan at boot, or when the driver starts.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.lock().port.is_armed()
    }

    /// The port's registers, and whether there was a card at that moment. Events that are not cleared are among the
    /// registers; presence and link are not, they follow from the card.
    #[must_use]
    pub fn registers(&self) -> (ConfigState, bool) {
        let state = self.lock();
        (state.port.state(), state.card.is_some())
    }

    /// Puts a slot that nothing has happened to yet into the state that another was in. Nobody is told: neither the guest,
    /// for which nothing changes, nor the observer.
    ///
    /// # Errors
    /// If there is a card already, or the registers are not those of this port; nothing has changed then.
    pub fn restore(&self, registers: &ConfigState, card: Option<SharedFunction>) -> Result<(), StateError> {
        let mut state = self.lock();
        if state.card.is_some() {
            return Err(StateError::new("slot", format!("slot {} holds a device already", self.index)));
        }
        state.port.restore(registers)?;
        state.card = card;
        Ok(())
    }

    pub(super) fn config_read(&self, offset: u16, data: &mut [u8]) {
        let state = self.lock();
        state.port.read(state.card.is_some(), offset, data);
    }

    pub(super) fn config_write(&self, offset: u16, data: &[u8]) {
        let (start, control) = (usize::from(offset), usize::from(self.control));
        let control_written = start < control + 2 && control < start.saturating_add(data.len());
        self.change(control_written, |state| state.port.write(offset, data));
    }

    /// Where a configuration access to this bus, device and function goes. The port turns accesses to the bus right
    /// below into type 0, and only device 0 can be there (PCIe 7.3.1); a card here has one function and nothing behind
    /// it.
    pub(super) fn route_config(&self, bus: u8, device: u8, function: u8) -> Route {
        let state = self.lock();
        if !state.port.forwards_bus(bus) {
            return Route::Elsewhere;
        }
        let there = state.port.secondary_bus() == Some(bus) && device == 0 && function == 0;
        state.reachable().filter(|_| there).map_or(Route::Gone, |card| Route::Function(Arc::clone(card)))
    }

    /// Where an access to the memory from `first` to `last` goes.
    pub(super) fn route_memory(&self, first: u64, last: u64) -> Route {
        let state = self.lock();
        if !state.port.forwards_memory(first, last) {
            return Route::Elsewhere;
        }
        state.reachable().map_or(Route::Gone, |card| Route::Function(Arc::clone(card)))
    }

    /// Changes the state and does what follows from the difference, in the order of hardware: the card loses its link,
    /// the port has an event, the interrupt leaves. Nothing but the change itself happens under the lock.
    /// `control_written` says that the change is a write to slot control.
    fn change<R>(&self, control_written: bool, act: impl FnOnce(&mut PortAndCard) -> R) -> R {
        let mut state = self.lock();
        let before = state.view();
        let card = state.reachable().map(Arc::clone);
        let result = act(&mut state);
        if state.view().link_up != before.link_up {
            state.port.set_changed();
        }
        let after = state.view();
        drop(state);

        if let Some(card) = card.filter(|_| !after.link_up) {
            card.lock().unwrap_or_else(PoisonError::into_inner).reset();
        }
        let cleared = before.events & !after.events;
        if cleared != 0 {
            let (presence, link) = (cleared & express::PRESENCE_CHANGED != 0, cleared & express::LINK_CHANGED != 0);
            self.observer.slot_event(self.index, SlotEvent::EventsCleared { presence, link });
        }
        if control_written {
            self.observer.slot_event(self.index, SlotEvent::ControlWritten(after.control));
        }
        if before.link_disabled != after.link_disabled {
            self.observer.slot_event(self.index, SlotEvent::LinkDisabled(after.link_disabled));
        }
        // An edge, not a level: the next message only after all conditions have been false (PCIe 6.7.3.4).
        if let (None, Some(message)) = (before.interrupt, after.interrupt) {
            self.observer.slot_event(self.index, SlotEvent::Interrupt);
            self.msi.signal(message);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, PortAndCard> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
