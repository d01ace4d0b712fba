use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use crate::pci::config::{COMMAND_MEMORY, register};
use crate::pci::test_devices::{BAR_BYTES, Card, Log, WINDOW, machine, read16, read32, set_up_card, set_up_port};
use crate::pci::{BarKind, GoneReads, LegacyConfigPorts, PciError, PciFunction, RootComplex};

fn memory(root: &RootComplex, address: u64) -> [u8; 4] {
    let mut data = [0x5a; 4];
    root.memory_read(address, &mut data);
    data
}

#[test]
fn bus_0_has_a_host_bridge_ports_and_what_was_added() {
    let (root, _) = machine(2, GoneReads::AllOnes);
    assert_eq!(root.add_integrated(Card::shared()), Ok(3));
    assert_eq!(root.add_integrated(Card::shared()), Ok(4));
    let classes: Vec<u32> = (0..6).map(|device| read32(&root, 0, device, 8) >> 8).collect();
    assert_eq!(classes, [0x06_0000, 0x06_0400, 0x06_0400, 0xff_0000, 0xff_0000, 0xff_ffff]);
    for device in 0..32 {
        let mut data = [0; 4];
        root.config_read(0, device, 1, 0, &mut data);
        assert_eq!(data, [0xff; 4], "every function is alone");
    }
    root.config_read(0, 255, 0, 0, &mut [0; 4]);
}

#[test]
fn bus_0_can_be_full() {
    let (root, _) = machine(16, GoneReads::AllOnes);
    for device in 17..32 {
        assert_eq!(root.add_integrated(Card::shared()), Ok(device));
    }
    assert_eq!(root.add_integrated(Card::shared()), Err(PciError::BusFull));
    let log = Arc::new(Log::default());
    for count in [0, 17] {
        let refused = RootComplex::new(count, GoneReads::AllOnes, log.clone(), log.clone());
        assert_eq!(refused.err(), Some(PciError::RootPorts(count)));
    }
}

#[test]
fn only_device_0_is_below_a_port() {
    let (root, _) = machine(1, GoneReads::AllOnes);
    root.slot(0).unwrap().plug(Card::shared()).unwrap();
    assert_eq!(read32(&root, 1, 0, 0), u32::MAX, "no bus is numbered yet");
    set_up_port(&root, 1);
    assert_eq!(read32(&root, 2, 0, 0), 0xcafe_1234);
    for device in 1..32 {
        assert_eq!(read32(&root, 2, device, 0), u32::MAX);
    }
    let mut data = [0; 4];
    root.config_read(2, 0, 1, 0, &mut data);
    assert_eq!(data, [0xff; 4]);
    root.config_write(0, 1, 0, register::SUBORDINATE_BUS, &[5]);
    assert_eq!(read32(&root, 3, 0, 0), u32::MAX, "nothing forwards behind a card");
}

#[test]
fn below_an_empty_port_is_nothing_but_ones() {
    for gone in [GoneReads::AllOnes, GoneReads::Zeroes] {
        let (root, _) = machine(1, gone);
        set_up_port(&root, 1);
        for (device, offset) in [(0, 0), (0, 0x34), (0, 0x100), (5, 0)] {
            assert_eq!(read32(&root, 2, device, offset), u32::MAX, "configuration reads never give zero");
        }
        root.config_write(2, 0, 0, 4, &[0xff; 4]);
    }
}

#[test]
fn the_guest_may_number_its_buses_again() {
    let (root, _) = machine(2, GoneReads::AllOnes);
    root.slot(0).unwrap().plug(Card::shared()).unwrap();
    set_up_port(&root, 1);
    assert_eq!(read32(&root, 2, 0, 0), 0xcafe_1234);
    root.config_write(0, 1, 0, register::PRIMARY_BUS, &[0, 0x80, 0x80, 0xff]);
    assert_eq!(read32(&root, 0, 1, register::PRIMARY_BUS), 0x0080_8000, "the latency timer stays 0");
    assert_eq!((read32(&root, 2, 0, 0), read32(&root, 0x80, 0, 0)), (u32::MAX, 0xcafe_1234));
    root.config_write(0, 1, 0, register::SUBORDINATE_BUS, &[0x7f]);
    assert_eq!(read32(&root, 0x80, 0, 0), u32::MAX, "an empty range");
}

#[test]
fn a_bridge_has_no_io_window_and_a_closed_memory_window() {
    let (root, _) = machine(1, GoneReads::AllOnes);
    root.config_write(0, 1, 0, 0x1c, &[0xff; 2]);
    root.config_write(0, 1, 0, 0x30, &[0xff; 4]);
    assert_eq!((read16(&root, 0, 1, 0x1c), read32(&root, 0, 1, 0x30)), (0, 0));
    root.config_write(0, 1, 0, register::PREFETCH_BASE, &[0xff; 4]);
    assert_eq!(read32(&root, 0, 1, register::PREFETCH_BASE), 0, "no prefetchable window either");
    assert!(read16(&root, 0, 1, register::MEMORY_BASE) > read16(&root, 0, 1, register::MEMORY_LIMIT));
    root.config_write(0, 1, 0, register::MEMORY_BASE, &[0xff; 4]);
    assert_eq!(read32(&root, 0, 1, register::MEMORY_BASE), 0xfff0_fff0);
}

#[test]
fn memory_goes_through_the_window_while_it_is_open() {
    let (root, _) = machine(1, GoneReads::Zeroes);
    let card = Card::shared();
    root.slot(0).unwrap().plug(card.clone()).unwrap();
    set_up_port(&root, 1);
    set_up_card(&root);
    assert_eq!(memory(&root, WINDOW + 0x10), [0x10, 0x11, 0x12, 0x13]);
    root.memory_write(WINDOW + 8, &[1, 2]);
    assert_eq!(card.lock().unwrap().writes, [(8, vec![1, 2])]);
    assert_eq!(memory(&root, WINDOW + BAR_BYTES), [0xff; 4], "in the window, claimed by nobody");
    assert_eq!(memory(&root, WINDOW + BAR_BYTES - 2), [0xff; 4], "half in the BAR");
    assert_eq!(memory(&root, WINDOW - 2), [0xff; 4], "half in the window");

    root.config_write(0, 1, 0, register::COMMAND, &[0, 0]);
    assert_eq!(memory(&root, WINDOW), [0xff; 4], "the bridge's memory space is off");
    root.config_write(0, 1, 0, register::COMMAND, &COMMAND_MEMORY.to_le_bytes());
    root.config_write(0, 1, 0, register::MEMORY_BASE, &[0xf0, 0xff, 0, 0]);
    assert_eq!(memory(&root, WINDOW), [0xff; 4], "the window is closed");
    set_up_port(&root, 1);
    root.config_write(2, 0, 0, register::COMMAND, &[0, 0]);
    assert_eq!(memory(&root, WINDOW), [0xff; 4], "the card's memory space is off");
    set_up_card(&root);
    assert_eq!(memory(&root, WINDOW), [0, 1, 2, 3], "and all is on again, bus mastering or not");
}

#[test]
fn what_has_gone_reads_as_it_was_told_to() {
    for (gone, byte) in [(GoneReads::AllOnes, 0xff), (GoneReads::Zeroes, 0)] {
        let (root, _) = machine(2, gone);
        root.slot(0).unwrap().plug(Card::shared()).unwrap();
        set_up_port(&root, 1);
        set_up_card(&root);
        let card = root.slot(0).unwrap().surprise_remove().unwrap();
        assert_eq!(memory(&root, WINDOW), [byte; 4]);
        assert_eq!(memory(&root, WINDOW + 0x10_0000), [0xff; 4], "outside the window");
        assert_eq!(memory(&root, WINDOW + 0xf_fffe), [0xff; 4], "half outside");
        root.memory_write(WINDOW, &[0]);
        root.slot(0).unwrap().plug(card).unwrap();
        assert_eq!(memory(&root, WINDOW), [0xff; 4], "it is back, and not configured");
        set_up_card(&root);
        assert_eq!(memory(&root, WINDOW), [0, 1, 2, 3]);
    }
}

#[test]
fn prefetchable_windows_reach_above_4_gib() {
    let log = Arc::new(Log::default());
    let root = RootComplex::with_prefetchable_windows(1, GoneReads::Zeroes, log.clone(), log).unwrap();
    let base = read32(&root, 0, 1, register::PREFETCH_BASE);
    assert_eq!(base & 0x000f_000f, 0x0001_0001, "64-bit");
    assert_eq!(memory(&root, 0x20_0000), [0xff; 4]);
    root.config_write(0, 1, 0, register::PREFETCH_BASE, &[0, 0, 0x10, 0]);
    root.config_write(0, 1, 0, register::PREFETCH_BASE_UPPER, &[0x40, 0, 0, 0, 0x40, 0, 0, 0]);
    root.config_write(0, 1, 0, register::COMMAND, &COMMAND_MEMORY.to_le_bytes());
    assert_eq!(memory(&root, 0x40_0000_0000), [0; 4], "in the window: gone");
    assert_eq!(memory(&root, 0x40_001f_fffc), [0; 4]);
    assert_eq!(memory(&root, 0x40_0020_0000), [0xff; 4]);
    assert_eq!(memory(&root, 0), [0xff; 4]);
}

#[test]
fn integrated_functions_answer_without_a_window() {
    let (root, _) = machine(1, GoneReads::AllOnes);
    assert_eq!(root.add_integrated(Card::shared()), Ok(2));
    root.config_write(0, 2, 0, register::BAR0, &0xd000_0000_u32.to_le_bytes());
    assert_eq!(memory(&root, 0xd000_0000), [0xff; 4]);
    root.config_write(0, 2, 0, register::COMMAND, &COMMAND_MEMORY.to_le_bytes());
    assert_eq!(memory(&root, 0xd000_0004), [4, 5, 6, 7]);
}

#[test]
fn an_access_across_two_bars_is_nobodys() {
    let (root, _) = machine(1, GoneReads::AllOnes);
    let card = Card::shared();
    card.lock().unwrap().config.add_bar(1, BarKind::Memory32, BAR_BYTES).unwrap();
    let addresses = [0xd000_0000_u32, 0xd000_1000].map(u32::to_le_bytes);
    card.lock().unwrap().config.write(register::BAR0, addresses.as_flattened());
    card.lock().unwrap().config.write(register::COMMAND, &COMMAND_MEMORY.to_le_bytes());
    root.add_integrated(card.clone()).unwrap();
    assert_eq!(memory(&root, 0xd000_0ffe), [0xff; 4]);
    root.memory_write(0xd000_0ffe, &[0; 4]);
    assert!(card.lock().unwrap().writes.is_empty());
    assert_eq!(memory(&root, 0xd000_0ffc), [0xfc, 0xfd, 0xfe, 0xff]);
}

#[test]
fn accesses_of_odd_shapes_give_ones_and_eight_bytes_are_split() {
    let (root, _) = machine(1, GoneReads::AllOnes);
    for (offset, bytes) in [(1, 2), (2, 4), (4, 8), (0, 3), (0, 0), (0, 16), (0x1000, 4), (0xffff, 1)] {
        let mut data = vec![0; bytes];
        root.config_read(0, 0, 0, offset, &mut data);
        assert!(data.iter().all(|&byte| byte == 0xff), "{offset:#x}, {bytes} bytes");
        root.config_write(0, 0, 0, offset, &data);
    }
    let mut data = [0; 8];
    root.config_read(0, 1, 0, 0, &mut data);
    assert_eq!(data[..4], [0x36, 0x1b, 0x0c, 0x00]);
    root.config_write(0, 1, 0, 0x18, &[0, 2, 3, 0, 0, 0, 0, 0]);
    assert_eq!(read32(&root, 0, 1, 0x18), 0x0003_0200);
}

#[test]
fn ecam_takes_addresses_apart() {
    let (root, _) = machine(16, GoneReads::AllOnes);
    root.slot(15).unwrap().plug(Card::shared()).unwrap();
    set_up_port(&root, 16);
    let mut data = [0; 4];
    root.ecam_read(17 << 20, &mut data);
    assert_eq!(data, [0x34, 0x12, 0xfe, 0xca]);
    root.ecam_read(16 << 15 | 0x18, &mut data);
    assert_eq!(data, [0, 17, 17, 0]);
    root.ecam_write(16 << 15 | 0x19, &[0x30]);
    root.ecam_read(0x30 << 20 | 0x100, &mut data);
    assert_eq!(data, [0xff; 4], "subordinate is below secondary");
    root.ecam_write(16 << 15 | 0x1a, &[0x30]);
    root.ecam_read(0x30 << 20 | 0x100, &mut data);
    assert_eq!(data, [0; 4], "extended space of a card that has none");
    for outside in [1 << 28, 1 << 32, u64::MAX] {
        root.ecam_read(outside, &mut data);
        assert_eq!(data, [0xff; 4]);
        root.ecam_write(outside, &data);
    }
}

#[test]
fn legacy_ports_pass_linuxs_check() {
    let (root, _) = machine(1, GoneReads::AllOnes);
    let ports = LegacyConfigPorts::new(Arc::new(root));
    let mut word = [0; 4];
    ports.read(4, &mut word);
    assert_eq!(word, [0xff; 4], "not enabled");
    ports.write(3, &[1]);
    ports.write(0, &0x8000_0003_u32.to_le_bytes());
    ports.read(0, &mut word);
    assert_eq!(word, 0x8000_0000_u32.to_le_bytes());
    let mut half = [0; 2];
    ports.write(0, &0x8000_0008_u32.to_le_bytes());
    ports.read(6, &mut half);
    assert_eq!(half, [0x00, 0x06], "a host bridge");
    ports.write(0, &0x8000_0818_u32.to_le_bytes());
    ports.write(5, &[7]);
    ports.read(4, &mut word);
    assert_eq!(word, [0, 7, 0, 0]);
    for (offset, bytes) in [(0, 1), (1, 1), (2, 2), (6, 4), (8, 1), (u16::MAX, 4)] {
        let mut data = vec![0; bytes];
        ports.read(offset, &mut data);
        assert!(data.iter().all(|&byte| byte == 0xff));
        ports.write(offset, &data);
    }
}

#[test]
fn a_function_that_panicked_is_still_served() {
    let (root, _) = machine(1, GoneReads::AllOnes);
    let card = Card::shared();
    root.slot(0).unwrap().plug(card.clone()).unwrap();
    set_up_port(&root, 1);
    let poisoned = std::thread::spawn(move || {
        let _guard = card.lock().unwrap();
        panic!("on purpose");
    });
    assert!(poisoned.join().is_err());
    assert_eq!(read32(&root, 2, 0, 0), 0xcafe_1234);
    root.slot(0).unwrap().surprise_remove().unwrap();
}

#[test]
fn storms_from_several_threads_end() {
    let (root, log) = machine(4, GoneReads::AllOnes);
    let root = &root;
    std::thread::scope(|scope| {
        for device in 1..=4 {
            set_up_port(root, device);
            scope.spawn(move || {
                let slot = root.slot(device - 1).unwrap();
                for _ in 0..500 {
                    slot.plug(Card::shared()).unwrap();
                    slot.surprise_remove().unwrap();
                }
            });
            scope.spawn(move || {
                for round in 0..500_u16 {
                    root.config_write(0, device, 0, 0x50, &[0x10 * (round & 1).to_le_bytes()[0]]);
                    root.config_write(device + 1, 0, 0, 4, &[2]);
                    memory(root, WINDOW + u64::from(device) * 0x10_0000);
                }
            });
        }
    });
    log.take();
}

#[test]
fn host_bridge_and_address_port_are_restored() {
    let (root, _) = machine(1, GoneReads::AllOnes);
    root.config_write(0, 0, 0, register::COMMAND, &[0x06, 0x00]);
    let root = Arc::new(root);
    let ports = LegacyConfigPorts::new(Arc::clone(&root));
    ports.write(0, &0x8000_0004_u32.to_le_bytes());
    let (copy, _) = machine(1, GoneReads::AllOnes);
    assert!(copy.restore_host_bridge(&copy.slot(0).unwrap().registers().0).is_err());
    assert_eq!(read16(&copy, 0, 0, register::COMMAND), 0);
    copy.restore_host_bridge(&root.host_bridge()).unwrap();
    assert_eq!(copy.host_bridge(), root.host_bridge());
    let copy = LegacyConfigPorts::new(Arc::new(copy));
    assert!(copy.restore_address(0x8000_0001).is_err());
    assert_eq!(copy.address(), 0);
    copy.restore_address(ports.address()).unwrap();
    let mut command = [0; 2];
    copy.read(4, &mut command);
    assert_eq!(command, [0x06, 0x00]);
}

#[derive(Debug, Clone)]
enum Access {
    Config { bus: u8, device: u8, function: u8, offset: u16, data: Vec<u8> },
    Ecam { offset: u64, data: Vec<u8> },
    Memory { address: u64, data: Vec<u8> },
    Plug(u8),
    Remove(u8),
}

fn access() -> impl Strategy<Value = Access> {
    let data = || prop::collection::vec(any::<u8>(), 0..10);
    let address = prop_oneof![any::<u64>(), 0..0x1_0000_0000_u64, WINDOW - 8..WINDOW + 0x2000, Just(u64::MAX)];
    prop_oneof![
        6 => (0_u8..4, 0_u8..5, 0_u8..2, 0_u16..0x104, data()).prop_map(|(bus, device, function, offset, data)| {
            Access::Config { bus, device, function, offset, data }
        }),
        1 => (any::<u8>(), any::<u8>(), any::<u8>(), any::<u16>(), data()).prop_map(
            |(bus, device, function, offset, data)| Access::Config { bus, device, function, offset, data }
        ),
        1 => (any::<u64>(), data()).prop_map(|(offset, data)| Access::Ecam { offset, data }),
        4 => (address, data()).prop_map(|(address, data)| Access::Memory { address, data }),
        1 => (0_u8..3).prop_map(Access::Plug),
        1 => (0_u8..3).prop_map(Access::Remove),
    ]
}

proptest! {
    #[test]
    fn no_access_panics_and_nothing_read_only_changes(accesses in prop::collection::vec(access(), 1..200)) {
        let (root, _) = machine(2, GoneReads::AllOnes);
        let card = Card::shared();
        root.add_integrated(card.clone()).unwrap();
        set_up_port(&root, 1);
        for access in accesses {
            match access {
                Access::Config { bus, device, function, offset, mut data } => {
                    root.config_write(bus, device, function, offset, &data);
                    root.config_read(bus, device, function, offset, &mut data);
                }
                Access::Ecam { offset, mut data } => {
                    root.ecam_write(offset, &data);
                    root.ecam_read(offset, &mut data);
                }
                Access::Memory { address, mut data } => {
                    root.memory_write(address, &data);
                    root.memory_read(address, &mut data);
                }
                Access::Plug(slot) => drop(root.slot(slot).map(|slot| slot.plug(Card::shared()))),
                Access::Remove(slot) => drop(root.slot(slot).map(super::Slot::surprise_remove)),
            }
        }
        let (fresh, _) = machine(2, GoneReads::AllOnes);
        fresh.add_integrated(Arc::new(Mutex::new(Copy(card.lock().unwrap().config.clone())))).unwrap();
        for device in 0..3 {
            for offset in [0x00, 0x08, 0x0c, 0x34] {
                // All of these but the cache line size, and the type of the header with it.
                let mask = if offset == 0x0c { 0xffff_ff00 } else { u32::MAX };
                prop_assert_eq!(read32(&root, 0, device, offset) & mask, read32(&fresh, 0, device, offset) & mask);
            }
            prop_assert_eq!(read16(&root, 0, device, register::STATUS), read16(&fresh, 0, device, register::STATUS));
        }
        for device in 1..3 {
            for offset in (0x40..0x7c).step_by(4) {
                // Device, link, slot and root control and status hold the guest's bits; the rest of the capability does
                // not.
                if [0x48, 0x50, 0x58, 0x5c].contains(&offset) {
                    continue;
                }
                prop_assert_eq!(read32(&root, 0, device, offset), read32(&fresh, 0, device, offset));
            }
        }
    }
}

/// A function that only shows a configuration space.
#[derive(Debug)]
struct Copy(crate::pci::ConfigSpace);

impl PciFunction for Copy {
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.0.read(offset, data);
    }

    fn config_write(&mut self, _offset: u16, _data: &[u8]) {}

    fn decode(&self, _address: u64) -> Option<(u8, u64)> {
        None
    }

    fn bar_read(&mut self, _bar: u8, _offset: u64, _data: &mut [u8]) {}

    fn bar_write(&mut self, _bar: u8, _offset: u64, _data: &[u8]) {}
}
