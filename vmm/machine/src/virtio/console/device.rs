//! The console device: queues, configuration and the control protocol.

mod state;

pub use state::ConsoleDeviceState;

use super::control::{CONSOLE_PORT, Control, DEVICE_READY, Due, HEADER_BYTES, PORT_NAME, PORT_OPEN, PORT_READY};
use super::port::{Port, PortConfig, PortStatus};
use crate::virtio::VirtioError;
use crate::virtio::chain::Chain;
use crate::virtio::device::VirtioDevice;
use crate::virtio::ring::Rings;

/// Device type (virtio 1.2, 5.3.1).
const DEVICE_TYPE: u16 = 3;
/// `VIRTIO_CONSOLE_F_MULTIPORT` (5.3.3).
pub(super) const FEATURE_MULTIPORT: u64 = 1 << 1;
/// `VIRTIO_CONSOLE_F_EMERG_WRITE` (5.3.3).
const FEATURE_EMERGENCY_WRITE: u64 = 1 << 2;
/// `struct virtio_console_config` (5.3.4).
const CONFIG_BYTES: u32 = 12;
const CONFIG_MAX_PORTS: usize = 4;
const CONFIG_EMERGENCY_WRITE: u32 = 8;

/// All queues have this many entries; the stock driver fills the receiving ones with a page each.
const QUEUE_SIZE: u16 = 64;
/// Queues of the control protocol (5.3.2).
const CONTROL_RECEIVE: u16 = 2;
const CONTROL_TRANSMIT: u16 = 3;

/// Most ports: their queues and the vectors for these stay well inside the transport's pages.
pub const MAX_PORTS: usize = 31;
const MAX_NAME_BYTES: usize = 64;

/// A console with its ports.
#[derive(Debug)]
pub struct ConsoleDevice {
    ports: Vec<Port>,
    multiport: bool,
}

/// What a queue is for (5.3.2).
enum Use {
    Receive(usize),
    Transmit(usize),
    ControlReceive,
    ControlTransmit,
}

impl Use {
    fn of(queue: u16) -> Self {
        let pair = usize::from(queue / 2);
        match queue {
            CONTROL_RECEIVE => Self::ControlReceive,
            CONTROL_TRANSMIT => Self::ControlTransmit,
            // Pair 0 is port 0, pair 1 the control queues, pair 2 port 1 and so on.
            _ if queue.is_multiple_of(2) => Self::Receive(pair.saturating_sub(usize::from(pair > 0))),
            _ => Self::Transmit(pair.saturating_sub(usize::from(pair > 0))),
        }
    }
}

/// The receive queue of a port.
fn receive_queue(port: usize) -> u16 {
    // At most MAX_PORTS.
    u16::try_from(if port == 0 { 0 } else { (port + 1) * 2 }).unwrap_or(u16::MAX)
}

impl ConsoleDevice {
    /// A console whose port 0 is the first of `ports`.
    ///
    /// # Errors
    /// If there is no port or more than [`MAX_PORTS`], or a port beside the first has no name, one of over 64 bytes, or
    /// one that is taken.
    pub fn new(ports: Vec<PortConfig>) -> Result<Self, VirtioError> {
        if ports.is_empty() || ports.len() > MAX_PORTS {
            return Err(VirtioError::PortCount { ports: ports.len(), most: MAX_PORTS });
        }
        for (index, port) in ports.iter().enumerate().skip(1) {
            let twice = ports.iter().take(index).any(|other| other.name == port.name);
            if port.name.is_empty() || port.name.len() > MAX_NAME_BYTES || twice {
                return Err(VirtioError::PortName { port: index, name: port.name.clone() });
            }
        }
        Ok(Self { ports: ports.into_iter().map(Port::new).collect(), multiport: false })
    }

    /// Queues bytes for the guest and hands over what fits into its buffers now. Gives how many bytes were accepted; 0
    /// if there is no such port.
    pub fn send(&mut self, port: usize, bytes: &[u8], rings: &mut Rings<'_>) -> usize {
        let Some(target) = self.ports.get_mut(port) else { return 0 };
        let accepted = target.accept(bytes);
        target.deliver(receive_queue(port), rings);
        accepted
    }

    /// What a port has seen; none if there is no such port.
    #[must_use]
    pub fn port(&self, port: usize) -> Option<PortStatus> {
        self.ports.get(port).map(|port| port.status)
    }

    /// Bytes that wait for the guest at a port.
    #[must_use]
    pub fn pending_bytes(&self, port: usize) -> usize {
        self.ports.get(port).map_or(0, Port::pending_bytes)
    }

    /// Opens or closes the host's end; a program in the guest that writes to a port which the host has closed blocks.
    pub fn set_host_open(&mut self, port: usize, open: bool, rings: &mut Rings<'_>) {
        if let Some(port) = self.ports.get_mut(port) {
            port.host_open = open;
            port.due.open = port.status.ready;
            self.send_control(rings);
        }
    }

    /// The driver's messages (5.3.6.2). Unknown ones and those about ports that don't exist are ignored.
    fn receive_control(&mut self, rings: &mut Rings<'_>) {
        while let Some(chain) = rings.pop(CONTROL_TRANSMIT) {
            let mut header = [0; HEADER_BYTES];
            if rings.read(&chain, 0, &mut header) == HEADER_BYTES {
                self.control(Control::from_bytes(header));
            }
            rings.complete(CONTROL_TRANSMIT, &chain, 0);
        }
    }

    fn control(&mut self, message: Control) {
        if message.event == DEVICE_READY {
            if message.value == 1 {
                for port in &mut self.ports {
                    // A port that exists must not be added again.
                    port.due.add = !port.status.ready;
                }
            }
            return;
        }
        let index = usize::try_from(message.port).unwrap_or(usize::MAX);
        let Some(port) = self.ports.get_mut(index) else { return };
        match message.event {
            PORT_READY => {
                port.status.ready = message.value == 1;
                if port.status.ready {
                    let named = !port.name.is_empty();
                    port.due = Due { add: false, console: index == 0, name: named, open: true };
                }
            }
            PORT_OPEN => port.set_open(message.value == 1),
            _ => {}
        }
    }

    /// Sends what the ports owe, as far as the driver gave buffers. A message that does not fit its buffer is lost; the
    /// stock driver gives pages.
    fn send_control(&mut self, rings: &mut Rings<'_>) {
        if !self.multiport {
            return;
        }
        for (index, port) in self.ports.iter_mut().enumerate() {
            while let Some(event) = port.due.first() {
                let Some(chain) = rings.pop(CONTROL_RECEIVE) else { return };
                let value = u16::from(match event {
                    PORT_OPEN => port.host_open,
                    CONSOLE_PORT | PORT_NAME => true,
                    _ => false,
                });
                let number = u32::try_from(index).unwrap_or(u32::MAX);
                let mut bytes = Control { port: number, event, value }.to_bytes().to_vec();
                if event == PORT_NAME {
                    bytes.extend(port.name.bytes());
                }
                let fits = chain.writable_bytes() >= bytes.len() as u64;
                let written = if fits { rings.write(&chain, 0, &bytes) } else { 0 };
                rings.complete(CONTROL_RECEIVE, &chain, u32::try_from(written).unwrap_or(0));
                port.due.sent(event);
            }
        }
    }
}

impl VirtioDevice for ConsoleDevice {
    fn device_type(&self) -> u16 {
        DEVICE_TYPE
    }

    fn class_code(&self) -> [u8; 3] {
        // Communication controller, other.
        [0x07, 0x80, 0x00]
    }

    fn features(&self) -> u64 {
        FEATURE_MULTIPORT | FEATURE_EMERGENCY_WRITE
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; (self.ports.len() + 1) * 2]
    }

    fn config_bytes(&self) -> u32 {
        CONFIG_BYTES
    }

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        let mut config = [0; CONFIG_BYTES as usize];
        let ports = u32::try_from(self.ports.len()).unwrap_or(u32::MAX).to_le_bytes();
        for (byte, value) in config.iter_mut().skip(CONFIG_MAX_PORTS).zip(ports) {
            *byte = value;
        }
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (byte, &value) in data.iter_mut().zip(config.iter().skip(from)) {
            *byte = value;
        }
    }

    fn write_config(&mut self, offset: u32, data: &[u8]) {
        // The lower byte is the character, feature negotiated or not (5.3.5.1).
        if let (CONFIG_EMERGENCY_WRITE, Some(&byte), Some(port)) = (offset, data.first(), self.ports.first_mut()) {
            port.emit(&[byte]);
        }
    }

    fn activate(&mut self, features: u64, rings: &mut Rings<'_>) {
        self.multiport = features & FEATURE_MULTIPORT != 0;
        if !self.multiport {
            // Without the control queues port 0 is simply there.
            if let Some(port) = self.ports.first_mut() {
                port.status.ready = true;
                port.set_open(true);
                port.deliver(receive_queue(0), rings);
            }
        }
    }

    fn notified(&mut self, queue: u16, rings: &mut Rings<'_>) {
        match Use::of(queue) {
            Use::Receive(port) => {
                if let Some(target) = self.ports.get_mut(port) {
                    target.deliver(queue, rings);
                }
            }
            Use::Transmit(port) => {
                if let Some(source) = self.ports.get_mut(port) {
                    source.drain(queue, rings);
                }
            }
            Use::ControlReceive => self.send_control(rings),
            Use::ControlTransmit => {
                self.receive_control(rings);
                self.send_control(rings);
                // A port that was just opened may have been waited for.
                for (index, port) in self.ports.iter_mut().enumerate() {
                    port.deliver(receive_queue(index), rings);
                }
            }
        }
    }

    fn held(&self) -> Vec<(u16, &Chain)> {
        // Every chain goes back in the call that takes it.
        Vec::new()
    }

    fn reset(&mut self) {
        self.multiport = false;
        self.ports.iter_mut().for_each(Port::reset);
    }

    fn severed(&mut self) {
        self.reset();
    }
}
