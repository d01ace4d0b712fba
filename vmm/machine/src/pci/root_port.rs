//! The registers of a root port: a bridge with one hot-plug slot below it (PCIe 6.7, 7.5.3).

use super::capability::{add_express_root_port, express};
use super::config::{ConfigError, ConfigSpace, ConfigState, Identity, register};
use super::msi::MsiCapability;
use crate::interrupt::MsiMessage;
use crate::state::StateError;

/// QEMU's generic PCIe root port: Linux has no quirk for it and drives it as the class says.
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x000c,
    revision: 0,
    class: [0x06, 0x04, 0x00],
    subsystem_vendor: 0,
    subsystem_device: 0,
};

/// Events of slot status that a port can have, as bits of that register.
const EVENTS: u16 = express::PRESENCE_CHANGED | express::LINK_CHANGED;

/// What the guest wrote to one root port, and the events it has not cleared yet. Whether there is a card is not in
/// here: presence and link follow from what is in the slot, and every call that needs them is told.
#[derive(Debug, Clone)]
pub(super) struct RootPort {
    config: ConfigSpace,
    /// Offset of the PCI Express capability.
    express: u16,
    msi: MsiCapability,
}

/// What a port shows at one moment; the difference between two of them says what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PortView {
    /// Presence and link: a card, and the link not disabled.
    pub(super) link_up: bool,
    /// The guest has set Link Disable.
    pub(super) link_disabled: bool,
    /// Events not cleared, as bits of slot status.
    pub(super) events: u16,
    /// Slot control.
    pub(super) control: u16,
    /// The message of a hot-plug interrupt, while the conditions for one hold (PCIe 6.7.3.4).
    pub(super) interrupt: Option<MsiMessage>,
}

impl RootPort {
    /// A port as it is after reset. `number` is unique among ports and at least 1.
    pub(super) fn new(number: u8, prefetchable_window: bool) -> Result<Self, ConfigError> {
        let mut config = ConfigSpace::bridge(&IDENTITY);
        if prefetchable_window {
            config.add_prefetchable_window();
        }
        let express = u16::from(add_express_root_port(&mut config, number)?);
        let msi = MsiCapability::add_to(&mut config)?;
        Ok(Self { config, express, msi })
    }

    /// The registers: all there is to a port.
    pub(super) fn state(&self) -> ConfigState {
        self.config.state()
    }

    /// Takes over the registers of a port with the same number and windows; nothing changes on an error.
    pub(super) fn restore(&mut self, registers: &ConfigState) -> Result<(), StateError> {
        self.config.restore(registers)
    }

    /// Reads configuration space; `card` says whether the slot holds one.
    pub(super) fn read(&self, card: bool, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
        if !self.link_up(card) {
            return;
        }
        let (presence, link) = (express::PRESENCE_STATE, express::LINK_ACTIVE);
        for (register, bits) in [(express::SLOT_STATUS, presence), (express::LINK_STATUS, link)] {
            overlay(offset, data, self.express + register, bits);
        }
    }

    /// Writes configuration space as the guest.
    pub(super) fn write(&mut self, offset: u16, data: &[u8]) {
        self.config.write(offset, data);
    }

    /// Offset of slot control in configuration space.
    pub(super) fn slot_control(&self) -> u16 {
        self.express + express::SLOT_CONTROL
    }

    /// Whether hot-plug interrupts are enabled and there is a message for them.
    pub(super) fn is_armed(&self) -> bool {
        let control = self.config.u16_at(self.slot_control());
        control & express::HOT_PLUG_INTERRUPT_ENABLE != 0 && self.msi.message(&self.config).is_some()
    }

    /// Presence and link changed, which they do together: both bits at once, so that Linux sees one event.
    pub(super) fn set_changed(&mut self) {
        let status = self.express + express::SLOT_STATUS;
        self.config.set_u16(status, self.config.u16_at(status) | EVENTS);
    }

    /// What the port shows with or without a card.
    pub(super) fn view(&self, card: bool) -> PortView {
        let control = self.config.u16_at(self.slot_control());
        let events = self.config.u16_at(self.express + express::SLOT_STATUS) & EVENTS;
        // The enable of presence is the bit of its event (PCIe 7.5.3.10, 7.5.3.11); that of the link is another.
        let mut enabled = events & control & express::PRESENCE_CHANGED_ENABLE;
        if control & express::LINK_CHANGED_ENABLE != 0 {
            enabled |= events & express::LINK_CHANGED;
        }
        let wanted = control & express::HOT_PLUG_INTERRUPT_ENABLE != 0 && enabled != 0;
        PortView {
            link_up: self.link_up(card),
            link_disabled: self.link_disabled(),
            events,
            control,
            interrupt: if wanted { self.msi.message(&self.config) } else { None },
        }
    }

    /// Whether the card can be reached. Presence is the same: it is detected in band, so a disabled link hides the
    /// card. With presence left on, Linux would try the slot again at once and wait over a second for a link
    /// (pciehp_ctrl.c, pciehp_handle_presence_or_link_change); it clears Link Disable only for slots with a power
    /// controller.
    pub(super) fn link_up(&self, card: bool) -> bool {
        card && !self.link_disabled()
    }

    fn link_disabled(&self) -> bool {
        self.config.u16_at(self.express + express::LINK_CONTROL) & express::LINK_DISABLE != 0
    }

    /// The bus below, once the guest has numbered it.
    pub(super) fn secondary_bus(&self) -> Option<u8> {
        Some(self.config.u8_at(register::SECONDARY_BUS)).filter(|&bus| bus != 0)
    }

    /// Whether configuration accesses to this bus go through the port (PCI-to-PCI bridge 1.2, 3.1.2.1).
    pub(super) fn forwards_bus(&self, bus: u8) -> bool {
        let last = self.config.u8_at(register::SUBORDINATE_BUS);
        self.secondary_bus().is_some_and(|first| (first..=last).contains(&bus))
    }

    /// Whether all addresses from `first` to `last` lie in one of the port's windows; no window is open while memory
    /// space is disabled (PCI-to-PCI bridge 1.2, 3.2.5.8 and 3.2.5.9).
    pub(super) fn forwards_memory(&self, first: u64, last: u64) -> bool {
        let inside = |(base, limit): (u64, u64)| base <= first && first <= last && last <= limit;
        self.config.memory_enabled() && (inside(self.memory_window()) || self.prefetch_window().is_some_and(inside))
    }

    /// First and last address; closed while the first is above the last.
    fn memory_window(&self) -> (u64, u64) {
        let base = u64::from(self.config.u16_at(register::MEMORY_BASE) & 0xfff0) << 16;
        let limit = u64::from(self.config.u16_at(register::MEMORY_LIMIT) & 0xfff0) << 16;
        (base, limit | 0xf_ffff)
    }

    /// The same for the prefetchable window, if the port has one.
    fn prefetch_window(&self) -> Option<(u64, u64)> {
        let half =
            |low, high| u64::from(self.config.u32_at(high)) << 32 | u64::from(self.config.u16_at(low) & 0xfff0) << 16;
        let exists = self.config.u16_at(register::PREFETCH_BASE) & 0xf != 0;
        exists.then(|| {
            let limit = half(register::PREFETCH_LIMIT, register::PREFETCH_LIMIT_UPPER);
            (half(register::PREFETCH_BASE, register::PREFETCH_BASE_UPPER), limit | 0xf_ffff)
        })
    }
}

/// Sets the bits of a register at `register` in the part of it that was read into `data` from `offset`.
fn overlay(offset: u16, data: &mut [u8], register: u16, bits: u16) {
    for (at, byte) in (offset..).zip(data) {
        let index = at.checked_sub(register).map(usize::from);
        *byte |= index.and_then(|index| bits.to_le_bytes().get(index).copied()).unwrap_or(0);
    }
}
