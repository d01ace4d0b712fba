//! The host's side of a console.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_memory::GuestMemoryMmap;

use super::device::ConsoleDevice;
use super::port::{PortConfig, PortStatus};
use crate::interrupt::MsiSink;
use crate::pci::SharedFunction;
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

    /// The transport's registers, for reports and snapshots.
    #[must_use]
    pub fn state(&self) -> FunctionState {
        self.lock().state()
    }

    fn lock(&self) -> MutexGuard<'_, VirtioPci<ConsoleDevice>> {
        // The state is plain and always whole between calls; a panic elsewhere must not take the host side down.
        self.function.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
