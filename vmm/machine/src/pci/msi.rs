//! The MSI capability with a 64-bit address and one vector (PCI 3.0, 6.8.1).

use super::capability::ID_MSI;
use super::config::{ConfigError, ConfigSpace};
use crate::interrupt::MsiMessage;

/// Message control: enabled.
const ENABLE: u16 = 1 << 0;
/// Message control: the address has an upper half. One vector, no mask bits.
const ADDRESS_64: u16 = 1 << 7;

const CONTROL: u16 = 0x02;
const ADDRESS: u16 = 0x04;
const ADDRESS_UPPER: u16 = 0x08;
const DATA: u16 = 0x0c;
const BYTES: usize = 0x0e;

/// Where the capability is. Its state is what the guest wrote to configuration space, and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsiCapability {
    offset: u16,
}

impl MsiCapability {
    /// Adds the capability to a configuration space.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn add_to(config: &mut ConfigSpace) -> Result<Self, ConfigError> {
        let offset = u16::from(config.add_capability(ID_MSI, &[0; BYTES - 2])?);
        config.set_u16(offset + CONTROL, ADDRESS_64);
        config.set_writable(offset + CONTROL, &ENABLE.to_le_bytes());
        // Messages are 32-bit writes, so the lowest two bits of the address stay zero.
        config.set_writable(offset + ADDRESS, &[0xfc, 0xff, 0xff, 0xff]);
        config.set_writable(offset + ADDRESS_UPPER, &[0xff; 4]);
        config.set_writable(offset + DATA, &[0xff; 2]);
        Ok(Self { offset })
    }

    /// The message the guest asked for; none while it has the capability disabled.
    #[must_use]
    pub fn message(self, config: &ConfigSpace) -> Option<MsiMessage> {
        let enabled = config.u16_at(self.offset + CONTROL) & ENABLE != 0;
        enabled.then(|| MsiMessage {
            address: u64::from(config.u32_at(self.offset + ADDRESS_UPPER)) << 32
                | u64::from(config.u32_at(self.offset + ADDRESS)),
            data: u32::from(config.u16_at(self.offset + DATA)),
        })
    }
}
