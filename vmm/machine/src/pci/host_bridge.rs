//! The host bridge at 00:00.0: an identity, so that Linux's check of the access mechanism finds one
//! (arch/x86/pci/direct.c, pci_sanity_check), and nothing behind it.

use super::config::{ConfigSpace, ConfigState, Identity};
use super::function::PciFunction;
use crate::state::StateError;

/// QEMU's generic PCIe host bridge: Linux has no quirk for it.
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0008,
    revision: 0,
    class: [0x06, 0x00, 0x00],
    subsystem_vendor: 0x1af4,
    subsystem_device: 0x1100,
};

/// A function without BARs.
#[derive(Debug, Clone)]
pub(super) struct HostBridge {
    config: ConfigSpace,
}

impl HostBridge {
    pub(super) fn new() -> Self {
        Self { config: ConfigSpace::endpoint(&IDENTITY) }
    }

    pub(super) fn state(&self) -> ConfigState {
        self.config.state()
    }

    pub(super) fn restore(&mut self, registers: &ConfigState) -> Result<(), StateError> {
        self.config.restore(registers)
    }
}

impl PciFunction for HostBridge {
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) {
        self.config.write(offset, data);
    }

    fn decode(&self, _address: u64) -> Option<(u8, u64)> {
        None
    }

    fn bar_read(&mut self, _bar: u8, _offset: u64, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn bar_write(&mut self, _bar: u8, _offset: u64, _data: &[u8]) {}
}
