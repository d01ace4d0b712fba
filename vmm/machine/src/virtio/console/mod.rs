//! A virtio console with several ports (virtio 1.2, 5.3): port 0 is the guest's console, the others have names.

mod control;
mod device;
mod handle;
mod port;

#[cfg(test)]
mod tests;

pub use control::Due;
pub use device::{ConsoleDevice, ConsoleDeviceState, MAX_PORTS};
pub use handle::{ConsoleHandle, ConsoleState, console, console_from_state};
pub use port::{ConsoleSink, PENDING_LIMIT_BYTES, PortConfig, PortState, PortStatus};
