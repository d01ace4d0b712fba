//! A machine without vCPUs: all root ports set up as Linux does, and a gpio controller at work in the first slot.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plugstorm_machine::bus::Bus;
use plugstorm_machine::interrupt::{MsiMessage, MsiSink};
use plugstorm_machine::memory::{ECAM_BASE, GuestRam};
use plugstorm_machine::pci::{
    GoneReads, LegacyConfigPorts, RootComplex, SharedFunction, Slot, SlotEvent, SlotObserver,
};
use plugstorm_machine::serial::SerialPort;
use plugstorm_machine::stop::StopLatch;
use plugstorm_machine::virtio::FEATURE_VERSION_1;
use plugstorm_machine::virtio::gpio::gpio;
use plugstorm_machine::{ConsoleSink, GpioConfig, GpioHandle, ROOT_PORTS};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::test_driver::{Driver, Messages, NOTIFY, SUBSYSTEM, memory};

/// Root ports of a machine: as many as it can have, since every access to a bus but the first asks port after port.
pub(crate) const PORTS: u8 = *ROOT_PORTS.end();
/// Lines of each controller.
pub(crate) const LINES: u16 = 8;
/// `VIRTIO_GPIO_F_IRQ` (virtio 1.2, 5.18.3).
const FEATURE_IRQ: u64 = 1;
/// Where the BAR of the controller in the first slot is, in the window of its port.
const BAR: u32 = 0xd000_0000;

/// Slot control of a root port, whose PCI Express capability is the first (PCIe 7.5.3.10), and slot status (7.5.3.11).
pub(crate) const SLOT_CONTROL: u16 = 0x40 + 0x18;
pub(crate) const SLOT_STATUS: u16 = 0x40 + 0x1a;
/// What pciehp enables (pciehp_hpc.c, pcie_enable_notification): presence, the link's state, and the interrupt.
pub(crate) const EVENTS_ENABLED: u16 = 1 << 3 | 1 << 12 | 1 << 5;
/// Presence and the link's state have changed: what pciehp clears.
pub(crate) const EVENTS: u16 = 1 << 3 | 1 << 8;

/// Counts what the machine tells, and keeps nothing: a benchmark asks millions of times.
#[derive(Debug, Default)]
pub(crate) struct Told {
    messages: AtomicU64,
    slots: AtomicU64,
}

impl Told {
    /// Interrupts sent so far.
    pub(crate) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Events of slots so far.
    pub(crate) fn slots(&self) -> u64 {
        self.slots.load(Ordering::Relaxed)
    }
}

impl MsiSink for Told {
    fn signal(&self, _message: MsiMessage) {
        self.messages.fetch_add(1, Ordering::Relaxed);
    }
}

impl SlotObserver for Told {
    fn slot_event(&self, _slot: u8, _event: SlotEvent) {
        self.slots.fetch_add(1, Ordering::Relaxed);
    }
}

/// The serial port's other end.
struct Nobody;

impl ConsoleSink for Nobody {
    fn write(&mut self, _bytes: &[u8]) {}
}

/// The machine.
pub(crate) struct Board {
    pub(crate) bus: Bus,
    pub(crate) told: Arc<Told>,
    memory: GuestRam,
}

/// A controller that its driver has started.
pub(crate) struct Card {
    pub(crate) function: SharedFunction,
    pub(crate) handle: GpioHandle,
    pub(crate) driver: Driver,
}

impl Board {
    /// Root ports with bus numbers and hot-plug interrupts, a window for the first, and all slots empty.
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        let told = Arc::new(Told::default());
        let pci = Arc::new(RootComplex::new(PORTS, GoneReads::AllOnes, told.clone(), told.clone())?);
        let bus = Bus {
            serial: SerialPort::new(EventFd::new(EFD_NONBLOCK)?, Box::new(Nobody)),
            config_ports: LegacyConfigPorts::new(Arc::clone(&pci)),
            pci,
            stop: Arc::new(StopLatch::default()),
        };
        let board = Self { bus, told, memory: memory() };
        for device in 1..=PORTS {
            let write = |register, data: &[u8]| board.bus.memory_write(ecam(0, device, register), data);
            // Command: memory and bus master. Bus numbers: primary, and the one below.
            write(0x04, &[6, 0]);
            for (register, bus) in (0x18..).zip([0, device, device]) {
                write(register, &[bus]);
            }
            // MSI, behind the 60 bytes of the other capability: address, data, enable.
            write(0x80, &0xfee0_2000_u32.to_le_bytes());
            write(0x88, &[0x30, 0]);
            write(0x7e, &[1, 0]);
            write(SLOT_CONTROL, &EVENTS_ENABLED.to_le_bytes());
        }
        board.bus.memory_write(ecam(0, 1, 0x20), &[0x00, 0xd0, 0x00, 0xd0]);
        Ok(board)
    }

    /// The slot below a port.
    pub(crate) fn slot(&self, index: u8) -> Result<&Slot, Box<dyn Error>> {
        self.bus.pci.slot(index).ok_or_else(|| format!("there is no slot {index}").into())
    }

    /// A controller as it comes, with nobody who drives it.
    pub(crate) fn controller(&self) -> Result<(SharedFunction, GpioHandle), Box<dyn Error>> {
        let config = GpioConfig { lines: LINES, names: None, irq: true };
        Ok(gpio(&config, self.memory.clone(), self.told.clone(), SUBSYSTEM)?)
    }

    /// A controller that a driver has started, with its BAR in the window of the first port.
    pub(crate) fn card(&self) -> Result<Card, Box<dyn Error>> {
        let (function, handle) = self.controller()?;
        let mut driver = Driver::new(function.clone(), self.memory.clone(), Arc::new(Messages::default()));
        driver.start(FEATURE_VERSION_1 | FEATURE_IRQ);
        driver.config_write(0x10, &BAR.to_le_bytes());
        Ok(Card { function, handle, driver })
    }

    /// The machine with such a controller in its first slot, of whose coming the guest has taken note.
    pub(crate) fn with_card() -> Result<(Self, Card), Box<dyn Error>> {
        let board = Self::new()?;
        let card = board.card()?;
        board.slot(0)?.plug(card.function.clone())?;
        board.clear_events(1);
        Ok((board, card))
    }

    /// What pciehp's interrupt handler does first.
    pub(crate) fn clear_events(&self, device: u8) {
        self.bus.memory_write(ecam(0, device, SLOT_STATUS), &EVENTS.to_le_bytes());
    }

    /// Rings a queue of the controller in the first slot.
    pub(crate) fn kick(&self, queue: u16) {
        self.bus.memory_write(u64::from(BAR) + NOTIFY + u64::from(queue) * 4, &queue.to_le_bytes());
    }
}

/// Where ECAM has a register (PCIe 7.2.2).
pub(crate) fn ecam(bus: u8, device: u8, register: u16) -> u64 {
    ECAM_BASE + (u64::from(bus) << 20 | u64::from(device) << 15 | u64::from(register))
}
