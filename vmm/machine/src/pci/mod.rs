//! PCI Express: configuration space, the root complex, and root ports whose slots a device can vanish from.
//!
//! The topology is flat and fixed: a host bridge at 00:00.0, root ports from 00:01.0, functions integrated into the
//! root complex after them, and at most one function in the slot below each port. Only what the slots hold changes
//! while the guest runs. Every access walks that topology as the guest has configured it, so nothing has to be
//! unregistered when a function goes.
//!
//! Locks: a slot's is the innermost; a function is called with its own lock held and no other.

pub mod capability;
pub mod config;
pub mod function;
mod host_bridge;
pub mod legacy;
pub mod msi;
pub mod msix;
pub mod root_complex;
mod root_port;
pub mod slot;
#[cfg(test)]
mod test_devices;

pub use config::{BarKind, ConfigError, ConfigSpace, ConfigState, Identity};
pub use function::{PciFunction, SharedFunction};
pub use legacy::LegacyConfigPorts;
pub use msi::MsiCapability;
pub use msix::{Msix, MsixLayout, MsixState, VectorState};
pub use root_complex::RootComplex;
pub use slot::{Slot, SlotError, SlotEvent, SlotObserver};

/// What memory reads give in the window of a port whose device has gone. Configuration reads give all-ones in any case:
/// they are how software finds out (PCIe 2.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GoneReads {
    /// All-ones, as on real hardware.
    #[default]
    AllOnes,
    /// Zeroes: what lets a driver pass that polls a register until it is 0.
    Zeroes,
}

/// Why a root complex could not be put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PciError {
    /// The number of root ports.
    #[error("a machine cannot have {0} root ports; ask for 1 to 16")]
    RootPorts(u8),
    /// All 32 device numbers of bus 0 are taken.
    #[error("bus 0 has no device number left for another integrated function; ask for fewer root ports or functions")]
    BusFull,
    /// A configuration space could not be laid out.
    #[error(transparent)]
    Config(#[from] ConfigError),
}
