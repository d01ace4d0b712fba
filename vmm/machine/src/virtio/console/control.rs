//! Control messages (virtio 1.2, 5.3.6.2).

use serde::{Deserialize, Serialize};

/// Bytes of `struct virtio_console_control`; the name of a port follows it.
pub(super) const HEADER_BYTES: usize = 8;

/// `id` of a message that is about the device.
#[cfg(test)]
pub(super) const NO_PORT: u32 = u32::MAX;

pub(super) const DEVICE_READY: u16 = 0;
pub(super) const PORT_ADD: u16 = 1;
pub(super) const PORT_READY: u16 = 3;
pub(super) const CONSOLE_PORT: u16 = 4;
pub(super) const PORT_OPEN: u16 = 6;
pub(super) const PORT_NAME: u16 = 7;

/// One message without what may follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) port: u32,
    pub(super) event: u16,
    pub(super) value: u16,
}

impl Control {
    pub(super) fn from_bytes([a, b, c, d, e, f, g, h]: [u8; HEADER_BYTES]) -> Self {
        Self {
            port: u32::from_le_bytes([a, b, c, d]),
            event: u16::from_le_bytes([e, f]),
            value: u16::from_le_bytes([g, h]),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = self.port.to_le_bytes();
        let [e, f] = self.event.to_le_bytes();
        let [g, h] = self.value.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

/// Messages a port still owes the guest. A set and not a queue: a guest that asks again and again without giving
/// buffers makes nothing grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Due {
    /// The port exists.
    pub add: bool,
    /// It is a console.
    pub console: bool,
    /// Its name.
    pub name: bool,
    /// Whether the host has it open.
    pub open: bool,
}

impl Due {
    /// The message to send first: a port has to exist before anything else is said of it, and the stock driver looks at
    /// the name before it lets user space write.
    pub(super) fn first(self) -> Option<u16> {
        if self.add {
            Some(PORT_ADD)
        } else if self.console {
            Some(CONSOLE_PORT)
        } else if self.name {
            Some(PORT_NAME)
        } else if self.open {
            Some(PORT_OPEN)
        } else {
            None
        }
    }

    /// Takes a message off the set.
    pub(super) fn sent(&mut self, event: u16) {
        match event {
            PORT_ADD => self.add = false,
            CONSOLE_PORT => self.console = false,
            PORT_NAME => self.name = false,
            PORT_OPEN => self.open = false,
            _ => {}
        }
    }
}
