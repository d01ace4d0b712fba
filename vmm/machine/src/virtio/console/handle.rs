//! The host's side of a console.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemoryMmap;

use super::device::{ConsoleDevice, ConsoleDeviceState};
use super::port::{PortConfig, PortStatus};
use crate::interrupt::MsiSink;
use crate::pci::SharedFunction;
use crate::state::StateError;
use crate::virtio::transport::{Attachment, Subsystem, VirtioPci};
use crate::virtio::{FunctionState, VirtioError};

/// A console with its ports, as a function integrated into the root complex, and the host's handle on it.
///
/// # Errors
/// If the ports are not as [`ConsoleDevice::new`] wants them.
pub fn console(
    ports: Vec<PortConfig>,
    memory: GuestMemoryMmap,
    msi: Arc<dyn MsiSink>,
    subsystem: Subsystem,
) -> Result<(SharedFunction, ConsoleHandle), VirtioError> {
    let device = ConsoleDevice::new(ports)?;
    let function = VirtioPci::new(device, memory, msi, subsystem, Attachment::RootComplex)?;
    let function = Arc::new(Mutex::new(function));
    Ok((function.clone(), ConsoleHandle { function }))
}

/// A console in its function, as plain data: what [`console_from_state`] takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleState {
    /// The subsystem ids it was made with.
    pub subsystem: Subsystem,
    /// Registers and queues.
    pub function: FunctionState,
    /// The console itself.
    pub device: ConsoleDeviceState,
}

impl ConsoleState {
    pub(crate) fn of(function: &VirtioPci<ConsoleDevice>) -> Self {
        Self { subsystem: function.subsystem(), function: function.state(), device: function.device().state() }
    }
}

/// A console that goes on where another was saved, as a function integrated into the root complex, and the host's handle
/// on it. The ports are those of the other, with sinks of their own, which are told nothing: whether the guest has a port
/// open is to be asked of [`ConsoleHandle::port`].
///
/// # Errors
/// If these are not the ports it had, or there cannot be such a console over this memory.
pub fn console_from_state(
    ports: Vec<PortConfig>,
    state: &ConsoleState,
    memory: GuestMemoryMmap,
    msi: Arc<dyn MsiSink>,
) -> Result<(SharedFunction, ConsoleHandle), StateError> {
    let device = ConsoleDevice::from_state(ports, &state.device)?;
    let attachment = Attachment::RootComplex;
    let function = VirtioPci::from_state(device, &state.function, memory, msi, state.subsystem, attachment)?;
    let function = Arc::new(Mutex::new(function));
    Ok((function.clone(), ConsoleHandle { function }))
}

/// Sends to a console's ports and asks after them. Every call takes the function's lock: not for use in a
/// [`super::ConsoleSink`].
#[derive(Debug, Clone)]
pub struct ConsoleHandle {
    function: Arc<Mutex<VirtioPci<ConsoleDevice>>>,
}

impl ConsoleHandle {
    /// Queues bytes for the guest; gives how many were accepted, which is fewer if the port's buffer of
    /// [`super::PENDING_LIMIT_BYTES`] is full, and 0 if there is no such port or the device is severed. The bytes go to
    /// the guest once it has the port open.
    #[must_use]
    pub fn send(&self, port: usize, bytes: &[u8]) -> usize {
        let mut function = self.lock();
        if function.is_severed() {
            return 0;
        }
        function.with(|device, rings| device.send(port, bytes, rings))
    }

    /// What a port has seen; none if there is no such port.
    #[must_use]
    pub fn port(&self, port: usize) -> Option<PortStatus> {
        self.lock().device().port(port)
    }

    /// Bytes that still wait for the guest at a port.
    #[must_use]
    pub fn pending_bytes(&self, port: usize) -> usize {
        self.lock().device().pending_bytes(port)
    }

    /// Opens or closes the host's end of a port; it starts open.
    pub fn set_host_open(&self, port: usize, open: bool) {
        self.lock().with(|device, rings| device.set_host_open(port, open, rings));
    }

    /// Cuts the device off: from now on it neither touches guest memory nor sends messages, whoever calls it. For ever.
    pub fn sever(&self) {
        self.lock().sever();
    }

    /// The transport's registers, for reports.
    #[must_use]
    pub fn state(&self) -> FunctionState {
        self.lock().state()
    }

    /// All of the console, of one moment.
    #[must_use]
    pub fn snapshot(&self) -> ConsoleState {
        ConsoleState::of(&self.lock())
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, VirtioPci<ConsoleDevice>> {
        // The state is plain and always whole between calls; a panic elsewhere must not take the host side down.
        self.function.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
