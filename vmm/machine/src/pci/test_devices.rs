//! What the tests of this module plug in and listen with.

use std::sync::{Arc, Mutex};

use super::config::{BarKind, COMMAND_MEMORY, ConfigSpace, Identity, register};
use super::function::PciFunction;
use super::slot::{SlotEvent, SlotObserver};
use super::{GoneReads, RootComplex};
use crate::interrupt::{MsiMessage, MsiSink};

/// Bytes of the card's BAR.
pub(super) const BAR_BYTES: u64 = 0x1000;
/// Where the tests put the window of the first port, and the BAR in it.
pub(super) const WINDOW: u64 = 0xe000_0000;

/// A card with one BAR: reads give the offset, writes and resets are counted.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) config: ConfigSpace,
    pub(super) writes: Vec<(u64, Vec<u8>)>,
    pub(super) resets: u32,
}

impl Card {
    pub(super) fn shared() -> Arc<Mutex<Self>> {
        let mut config = ConfigSpace::endpoint(&Identity {
            vendor: 0x1234,
            device: 0xcafe,
            revision: 1,
            class: [0xff, 0, 0],
            subsystem_vendor: 1,
            subsystem_device: 2,
        });
        config.add_bar(0, BarKind::Memory32, BAR_BYTES).unwrap();
        Arc::new(Mutex::new(Self { config, writes: Vec::new(), resets: 0 }))
    }
}

impl PciFunction for Card {
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        assert!(matches!(data.len(), 1 | 2 | 4) && usize::from(offset) + data.len() <= 4096);
        assert!(usize::from(offset).is_multiple_of(data.len()));
        self.config.read(offset, data);
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) {
        assert!(matches!(data.len(), 1 | 2 | 4) && usize::from(offset) + data.len() <= 4096);
        assert!(usize::from(offset).is_multiple_of(data.len()));
        self.config.write(offset, data);
    }

    fn decode(&self, address: u64) -> Option<(u8, u64)> {
        self.config.decode(address)
    }

    fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]) {
        assert!(bar == 0 && (1..=8).contains(&data.len()) && offset + data.len() as u64 <= BAR_BYTES);
        for (byte, at) in data.iter_mut().zip(offset..) {
            *byte = at.to_le_bytes()[0];
        }
    }

    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        assert!(bar == 0 && (1..=8).contains(&data.len()) && offset + data.len() as u64 <= BAR_BYTES);
        self.writes.push((offset, data.to_vec()));
    }

    fn reset(&mut self) {
        self.config.clear_guest_bits();
        self.resets += 1;
    }
}

/// What a machine's outside saw, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Event(u8, SlotEvent),
    Message(MsiMessage),
}

/// Sink and observer in one.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Vec<Seen>>);

impl Log {
    pub(super) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// How many messages were sent since the last look.
    pub(super) fn messages(&self) -> usize {
        self.take().iter().filter(|seen| matches!(seen, Seen::Message(_))).count()
    }
}

impl MsiSink for Log {
    fn signal(&self, message: MsiMessage) {
        self.0.lock().unwrap().push(Seen::Message(message));
    }
}

impl SlotObserver for Log {
    fn slot_event(&self, slot: u8, event: SlotEvent) {
        self.0.lock().unwrap().push(Seen::Event(slot, event));
    }
}

/// A root complex and what it told.
pub(super) fn machine(root_ports: u8, gone_reads: GoneReads) -> (RootComplex, Arc<Log>) {
    let log = Arc::new(Log::default());
    let root = RootComplex::new(root_ports, gone_reads, Arc::clone(&log) as _, Arc::clone(&log) as _).unwrap();
    (root, log)
}

/// Two bytes of a function on bus 0 or below.
pub(super) fn read16(root: &RootComplex, bus: u8, device: u8, offset: u16) -> u16 {
    let mut data = [0; 2];
    root.config_read(bus, device, 0, offset, &mut data);
    u16::from_le_bytes(data)
}

/// Four bytes.
pub(super) fn read32(root: &RootComplex, bus: u8, device: u8, offset: u16) -> u32 {
    let mut data = [0; 4];
    root.config_read(bus, device, 0, offset, &mut data);
    u32::from_le_bytes(data)
}

/// Offset of a capability, found as a guest finds it.
pub(super) fn find(root: &RootComplex, bus: u8, device: u8, id: u8) -> u16 {
    let mut at = read16(root, bus, device, register::CAPABILITIES) & 0xff;
    while at != 0 {
        let header = read16(root, bus, device, at);
        if header.to_le_bytes()[0] == id {
            return at;
        }
        at = header >> 8;
    }
    panic!("no capability {id:#x}");
}

/// Numbers the bus below a port `device + 1`, opens 1 MiB from [`WINDOW`] on for the first port, 1 MiB more for each
/// other.
pub(super) fn set_up_port(root: &RootComplex, device: u8) {
    let base = u16::try_from(WINDOW >> 16).unwrap() + u16::from(device - 1) * 0x10;
    root.config_write(0, device, 0, register::SECONDARY_BUS, &[device + 1]);
    root.config_write(0, device, 0, register::SUBORDINATE_BUS, &[device + 1]);
    root.config_write(0, device, 0, register::MEMORY_BASE, &base.to_le_bytes());
    root.config_write(0, device, 0, register::MEMORY_LIMIT, &base.to_le_bytes());
    root.config_write(0, device, 0, register::COMMAND, &COMMAND_MEMORY.to_le_bytes());
}

/// Places the card's BAR at the start of the first port's window and enables it.
pub(super) fn set_up_card(root: &RootComplex) {
    root.config_write(2, 0, 0, register::BAR0, &u32::try_from(WINDOW).unwrap().to_le_bytes());
    root.config_write(2, 0, 0, register::COMMAND, &COMMAND_MEMORY.to_le_bytes());
}
