//! The serial port (a 16550, COM1): early output, panics, and the terminal of `plugstorm run`.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use vm_superio::Trigger;
use vm_superio::serial::{self, NoEvents, Serial};
use vmm_sys_util::eventfd::EventFd;

use crate::state::{StateError, hex};
use crate::virtio::console::ConsoleSink;

/// COM1.
pub const PORT: u16 = 0x3f8;
/// How many ports it has.
pub const PORTS: u8 = 8;
/// Its interrupt.
pub const GSI: u32 = 4;

/// The registers of a 16550, and what it has received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SerialState {
    /// Divisor latch, low byte.
    pub divisor_low: u8,
    /// Divisor latch, high byte.
    pub divisor_high: u8,
    /// Interrupt enable register.
    pub interrupt_enable: u8,
    /// Interrupt identification register.
    pub interrupt_identification: u8,
    /// Line control register.
    pub line_control: u8,
    /// Line status register.
    pub line_status: u8,
    /// Modem control register.
    pub modem_control: u8,
    /// Modem status register.
    pub modem_status: u8,
    /// Scratch register.
    pub scratch: u8,
    /// Received bytes that the guest has not read, at most 64.
    #[serde(with = "hex")]
    pub received: Vec<u8>,
}

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

    /// A port that goes on where another was saved. An interrupt that the guest has not asked the reason of is raised once
    /// more: KVM passes an irqfd on from a thread of its own and may not have done so at the time, and the port would never
    /// raise another. So the irqchip must have its state already. A guest that was told finds nothing to do the second
    /// time, which its driver takes as from a shared line.
    ///
    /// # Errors
    /// If more bytes wait than the receive buffer holds, or the interrupt cannot be raised.
    pub fn from_state(state: &SerialState, interrupt: EventFd, sink: Box<dyn ConsoleSink>) -> Result<Self, StateError> {
        let registers = serial::SerialState {
            baud_divisor_low: state.divisor_low,
            baud_divisor_high: state.divisor_high,
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            in_buffer: state.received.clone(),
        };
        let device = Serial::from_state(&registers, InterruptLine(interrupt), NoEvents, SinkWriter(sink))
            .map_err(|error| StateError::new("serial port", error.to_string()))?;
        Ok(Self { device: Mutex::new(device) })
    }

    /// The registers as they are now, and what waits for the guest.
    #[must_use]
    pub fn state(&self) -> SerialState {
        let state = self.device.lock().unwrap_or_else(PoisonError::into_inner).state();
        SerialState {
            divisor_low: state.baud_divisor_low,
            divisor_high: state.baud_divisor_high,
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            received: state.in_buffer,
        }
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
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

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
    fn a_port_goes_on_where_another_was_saved() {
        let raised = EventFd::new(EFD_NONBLOCK).unwrap();
        let port = SerialPort::new(raised.try_clone().unwrap(), Box::new(Kept::default()));
        port.write(3, &[0x80]);
        port.write(0, &[1, 2]);
        port.write(3, &[0x13]);
        port.write(1, &[0x01]);
        port.write(7, &[0x5a]);
        assert_eq!(port.input(b"abc"), 3);
        assert_eq!(raised.read().unwrap(), 1);
        let text = serde_json::to_string(&port.state()).unwrap();
        let state: SerialState = serde_json::from_str(&text).unwrap();
        assert_eq!(state, port.state());
        let copy = SerialPort::from_state(&state, raised.try_clone().unwrap(), Box::new(Kept::default())).unwrap();
        assert_eq!(copy.state(), state);
        assert_eq!(raised.read().unwrap(), 1, "the guest has not asked for the reason yet");
        for offset in [2, 0, 0, 5, 0, 5, 0, 1, 2, 3, 4, 6, 7] {
            let (mut was, mut is) = ([0], [0]);
            port.read(offset, &mut was);
            copy.read(offset, &mut is);
            assert_eq!(was, is, "register {offset}");
        }
        let quiet = SerialPort::from_state(&copy.state(), raised.try_clone().unwrap(), Box::new(Kept::default()));
        assert!(quiet.is_ok() && raised.read().is_err(), "no reason, no interrupt");
    }

    #[test]
    fn a_state_with_more_than_the_receive_buffer_holds_is_refused() {
        let mut state = SerialPort::new(EventFd::new(0).unwrap(), Box::new(Kept::default())).state();
        state.received = vec![0; 65];
        let refused = SerialPort::from_state(&state, EventFd::new(0).unwrap(), Box::new(Kept::default()));
        assert_eq!(refused.err().unwrap().what, "serial port");
        let text = serde_json::to_string(&state).unwrap().replace("scratch", "itch");
        assert!(serde_json::from_str::<SerialState>(&text).is_err());
    }

    #[test]
    fn input_beyond_the_receive_buffer_is_refused_not_kept() {
        let port = SerialPort::new(EventFd::new(0).unwrap(), Box::new(Kept::default()));
        let taken = port.input(&[b'x'; 1000]);
        assert!(taken < 1000);
        assert_eq!(port.input(b"more"), 0);
    }
}
