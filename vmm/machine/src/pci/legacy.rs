//! Configuration mechanism #1: an address port and a data port (PCI 3.0, 3.2.2.3.2). Linux uses it for the first 256
//! bytes even where memory-mapped configuration space exists (arch/x86/pci/common.c, raw_pci_read).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::root_complex::RootComplex;
use crate::state::StateError;

/// Ports from 0xcf8 to 0xcff.
pub const PORTS: std::ops::RangeInclusive<u16> = 0xcf8..=0xcff;

/// Address: an access to the data port goes to configuration space.
const ENABLE: u32 = 1 << 31;
/// The other bits that the address port keeps: bus, device, function, register.
const ADDRESS_BITS: u32 = 0x00ff_fffc;

/// The two ports. The guest serialises its use of the pair, so an atomic is lock enough.
#[derive(Debug)]
pub struct LegacyConfigPorts {
    address: AtomicU32,
    root: Arc<RootComplex>,
}

impl LegacyConfigPorts {
    /// The ports of this root complex.
    #[must_use]
    pub fn new(root: Arc<RootComplex>) -> Self {
        Self { address: AtomicU32::new(0), root }
    }

    /// What the address port holds: all there is to the two ports.
    #[must_use]
    pub fn address(&self) -> u32 {
        self.address.load(Ordering::Relaxed)
    }

    /// Takes over what the address port held.
    ///
    /// # Errors
    /// If it has bits that the port does not keep; nothing has changed then.
    pub fn restore_address(&self, address: u32) -> Result<(), StateError> {
        if address & !(ENABLE | ADDRESS_BITS) != 0 {
            return Err(StateError::new("configuration address port", format!("it cannot hold {address:#010x}")));
        }
        self.address.store(address, Ordering::Relaxed);
        Ok(())
    }

    /// Reads at `port_offset` from 0xcf8. The address port is one register of 32 bits; other widths there are not for
    /// it (0xcf9 is the reset control register of other machines) and read all-ones.
    pub fn read(&self, port_offset: u16, data: &mut [u8]) {
        data.fill(0xff);
        if let (0, Ok(word)) = (port_offset, <&mut [u8; 4]>::try_from(&mut *data)) {
            *word = self.address.load(Ordering::Relaxed).to_le_bytes();
        } else if let Some((bus, device, function, register)) = self.target(port_offset, data.len()) {
            self.root.config_read(bus, device, function, register, data);
        }
    }

    /// Writes at `port_offset` from 0xcf8, with the same rules.
    pub fn write(&self, port_offset: u16, data: &[u8]) {
        if let (0, Ok(&word)) = (port_offset, <&[u8; 4]>::try_from(data)) {
            self.address.store(u32::from_le_bytes(word) & (ENABLE | ADDRESS_BITS), Ordering::Relaxed);
        } else if let Some((bus, device, function, register)) = self.target(port_offset, data.len()) {
            self.root.config_write(bus, device, function, register, data);
        }
    }

    /// What an access to the data port is for; none while the address port is not enabled.
    fn target(&self, port_offset: u16, bytes: usize) -> Option<(u8, u8, u8, u16)> {
        let lane = port_offset.checked_sub(4).filter(|&lane| usize::from(lane).saturating_add(bytes) <= 4)?;
        let address = self.address.load(Ordering::Relaxed);
        let [register, devfn, bus, _] = address.to_le_bytes();
        (address & ENABLE != 0).then(|| (bus, devfn >> 3, devfn & 7, u16::from(register) + lane))
    }
}
