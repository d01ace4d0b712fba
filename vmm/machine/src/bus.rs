//! Where a guest's accesses go: port and memory addresses to devices. Fixed for a machine's life; what comes and goes is
//! behind the PCI root complex.

use std::ops::Range;
use std::sync::Arc;

use crate::memory;
use crate::pci::RootComplex;
use crate::pci::legacy::{self, LegacyConfigPorts};
use crate::power;
use crate::serial::{self, SerialPort};
use crate::stop::StopLatch;

/// All devices a vCPU can reach.
#[derive(Debug)]
pub struct Bus {
    /// COM1.
    pub serial: SerialPort,
    /// PCI.
    pub pci: Arc<RootComplex>,
    /// Configuration access by ports 0xcf8 and 0xcfc.
    pub config_ports: LegacyConfigPorts,
    /// Set by the ports that end the machine.
    pub stop: Arc<StopLatch>,
}

const ECAM: Range<u64> = memory::ECAM_BASE..memory::ECAM_BASE + memory::ECAM_BYTES;
const SERIAL: Range<u16> = serial::PORT..serial::PORT + serial::PORTS as u16;

impl Bus {
    /// An `in` instruction. Ports of nobody read all-ones.
    pub fn port_read(&self, port: u16, data: &mut [u8]) {
        if SERIAL.contains(&port) {
            self.serial.read((port - SERIAL.start) as u8, data);
        } else if power::claims(port) {
            data.fill(power::read());
        } else if legacy::PORTS.contains(&port) {
            self.config_ports.read(port - legacy::PORTS.start(), data);
        } else {
            data.fill(0xff);
        }
    }

    /// An `out` instruction. Ports of nobody swallow it.
    pub fn port_write(&self, port: u16, data: &[u8]) {
        if SERIAL.contains(&port) {
            self.serial.write((port - SERIAL.start) as u8, data);
        } else if power::claims(port) {
            if let Some(cause) = data.first().and_then(|&value| power::write(port, value)) {
                self.stop.set(cause);
            }
        } else if legacy::PORTS.contains(&port) {
            self.config_ports.write(port - legacy::PORTS.start(), data);
        }
    }

    /// A read of memory that is not RAM. Addresses of nobody read all-ones.
    pub fn memory_read(&self, address: u64, data: &mut [u8]) {
        if ECAM.contains(&address) {
            self.pci.ecam_read(address - ECAM.start, data);
        } else if memory::PCI_WINDOW.contains(&address) {
            self.pci.memory_read(address, data);
        } else {
            data.fill(0xff);
        }
    }

    /// A write to memory that is not RAM.
    pub fn memory_write(&self, address: u64, data: &[u8]) {
        if ECAM.contains(&address) {
            self.pci.ecam_write(address - ECAM.start, data);
        } else if memory::PCI_WINDOW.contains(&address) {
            self.pci.memory_write(address, data);
        }
    }
}
