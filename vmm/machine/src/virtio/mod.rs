//! Virtio devices on PCI (virtio 1.2), modern only.
//!
//! A notification is handled in the vCPU's exit that carries it: when the guest's kick returns, the device has done
//! what it was asked. The host's side of a device is a handle; handle and bus share one lock a function.
//!
//! Everything a driver can write is untrusted. One call takes at most as many chains as the queue is long, a device
//! never holds more descriptors than the queue has, and no buffer's length turns into an allocation.

mod chain;
mod common;
pub mod console;
mod device;
pub mod gpio;
mod layout;
mod ring;
mod transport;

#[cfg(test)]
pub(crate) mod test_driver;
#[cfg(test)]
mod tests;

pub use chain::{Chain, ChainError, ChainState, Segment};
pub use common::{CommonState, FEATURE_VERSION_1, status};
pub use device::VirtioDevice;
pub use ring::{RingState, Rings};
pub use transport::{Attachment, FunctionState, Subsystem, VirtioPci};

use crate::pci::ConfigError;

/// Why a virtio device could not be made. All of these are mistakes of the caller, not of the guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VirtioError {
    /// A console has one port at least.
    #[error("a console with {ports} ports cannot be made; give it 1 to {most}")]
    PortCount {
        /// Ports asked for.
        ports: usize,
        /// The greatest number.
        most: usize,
    },
    /// A port's name is what the guest finds it by.
    #[error("port {port} cannot be named {name:?}; give each port after the first a name of its own, 1 to 64 bytes")]
    PortName {
        /// Number of the port.
        port: usize,
        /// The name given.
        name: String,
    },
    /// A gpio device has one line at least.
    #[error("a gpio device with {lines} lines cannot be made; give it 1 to {most}")]
    LineCount {
        /// Lines asked for.
        lines: u16,
        /// The greatest number.
        most: u16,
    },
    /// Names of lines are 7-bit ASCII and unique (virtio 1.2, 5.18.6.1).
    #[error(
        "line {line} cannot be named {name:?}; use printable ASCII, up to 63 bytes, each name once, one a line at most"
    )]
    LineName {
        /// Number of the line.
        line: usize,
        /// The name given.
        name: String,
    },
    /// There is no such line.
    #[error("there is no line {line}; the device has lines 0 to {last}")]
    NoSuchLine {
        /// The line asked for.
        line: u16,
        /// The last line.
        last: u16,
    },
    /// The capabilities of the function do not fit.
    #[error("the function's configuration space cannot be laid out: {0}")]
    Config(#[from] ConfigError),
    /// A queue's size is not one that a queue can have.
    #[error("queue {queue} cannot have {size} entries ({source}); use a power of two up to 32768")]
    QueueSize {
        /// Number of the queue.
        queue: usize,
        /// The size asked for.
        size: u16,
        /// What the crate says.
        source: virtio_queue::Error,
    },
    /// Notification addresses and vectors are laid out for a limited number of queues.
    #[error("a device with {queues} queues cannot be made; the transport has room for {most}")]
    QueueCount {
        /// Queues asked for.
        queues: usize,
        /// The greatest number.
        most: usize,
    },
}
