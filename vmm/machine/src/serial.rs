//! The serial port (a 16550, COM1): early output, panics, and the terminal of `plugstorm run`.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial};
use vmm_sys_util::eventfd::EventFd;

use crate::virtio::console::ConsoleSink;

/// COM1.
pub const PORT: u16 = 0x3f8;
/// How many ports it has.
pub const PORTS: u8 = 8;
/// Its interrupt.
pub const GSI: u32 = 4;

/// COM1 with its sink.
pub struct SerialPort {
    device: Mutex<Serial<InterruptLine, NoEvents, SinkWriter>>,
}

/// An irqfd: writing to it raises the interrupt inside KVM.
struct InterruptLine(EventFd);

impl Trigger for InterruptLine {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// What `vm-superio` writes to.
struct SinkWriter(Box<dyn ConsoleSink>);

impl Write for SinkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SerialPort {
    /// A port that writes to `sink` and interrupts through `interrupt`, an irqfd of [`GSI`].
    #[must_use]
    pub fn new(interrupt: EventFd, sink: Box<dyn ConsoleSink>) -> Self {
        Self { device: Mutex::new(Serial::new(InterruptLine(interrupt), SinkWriter(sink))) }
    }

    /// The guest reads a register. `offset` is below [`PORTS`].
    pub fn read(&self, offset: u8, data: &mut [u8]) {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in data {
            *byte = device.read(offset);
        }
    }

    /// The guest writes a register; a string instruction writes the same one several times.
    pub fn write(&self, offset: u8, data: &[u8]) {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        for &byte in data {
            // It fails only where the interrupt could not be raised: the guest then polls, as on hardware.
            let _ = device.write(offset, byte);
        }
    }

    /// Input from the user. Gives how many bytes the receive buffer took; the rest may be offered again later.
    pub fn input(&self, bytes: &[u8]) -> usize {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        let room = device.fifo_capacity().min(bytes.len());
        device.enqueue_raw_bytes(bytes.get(..room).unwrap_or_default()).unwrap_or(0)
    }
}

impl fmt::Debug for SerialPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SerialPort").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl ConsoleSink for Kept {
        fn write(&mut self, bytes: &[u8]) {
            self.0.lock().unwrap().extend_from_slice(bytes);
        }
    }

    #[test]
    fn output_reaches_the_sink_and_input_the_guest() {
        let kept = Kept::default();
        let port = SerialPort::new(EventFd::new(0).unwrap(), Box::new(kept.clone()));
        port.write(0, b"hi");
        assert_eq!(*kept.0.lock().unwrap(), b"hi");
        assert_eq!(port.input(b"x"), 1);
        let mut byte = [0];
        port.read(0, &mut byte);
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn input_beyond_the_receive_buffer_is_refused_not_kept() {
        let port = SerialPort::new(EventFd::new(0).unwrap(), Box::new(Kept::default()));
        let taken = port.input(&[b'x'; 1000]);
        assert!(taken < 1000);
        assert_eq!(port.input(b"more"), 0);
    }
}
