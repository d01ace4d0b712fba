//! Message-signalled interrupts, from devices to the in-kernel APICs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One message: what a device writes, and where (PCI 3.0, 6.8.1; Intel SDM 3A, 11.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MsiMessage {
    /// Message address, both halves.
    pub address: u64,
    /// Message data.
    pub data: u32,
}

/// Where messages go. The machine's own sink is the `KVM_SIGNAL_MSI` ioctl: it needs no routes, so nothing is left behind
/// when a device is pulled out; a test's sink is a vector.
pub trait MsiSink: Send + Sync + fmt::Debug {
    /// Delivers one message. A message that the irqchip refuses is lost, as on the bus.
    fn signal(&self, message: MsiMessage);
}
