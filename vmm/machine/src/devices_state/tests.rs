//! All devices of a machine at once, reached as vCPUs reach them.

mod corrupted;
mod world;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use self::world::{CONSOLE_BAR, GPIO_BAR, LINES, PORT_NAMES, World};
use crate::pci::SlotEvent;

/// Every byte of configuration space that a vCPU can read, from both ends.
fn all_config(world: &World) -> Vec<u8> {
    let mut bytes = Vec::new();
    for device in 0..8 {
        for register in (0..0x100).step_by(4) {
            bytes.extend(world.ecam_read(0, device, register, 4));
        }
    }
    for bus in 1..4 {
        bytes.extend((0..0x100).step_by(4).flat_map(|register| world.ecam_read(bus, 0, register, 4)));
    }
    bytes
}

#[test]
fn a_machine_goes_on_where_it_was() {
    let world = World::at_work();
    let copy = world.fork();
    assert_eq!(copy.devices.gpios.keys().collect::<Vec<_>>(), [&0, &1]);
    assert_eq!(all_config(&copy), all_config(&world));
    assert_eq!(copy.state(), world.state());

    // Events wait at the first slot; its guest clears them.
    copy.ecam_write(0, 1, 0x40 + 0x1a, &0x0108_u16.to_le_bytes());
    assert_eq!(copy.log.events(), [(0, SlotEvent::EventsCleared { presence: true, link: true })]);
    // The second one's link is disabled, and comes up with its card.
    assert_eq!(copy.ecam_read(3, 0, 0, 4), [0xff; 4]);
    copy.ecam_write(0, 2, 0x40 + 0x10, &[0, 0]);
    assert_eq!(copy.ecam_read(3, 0, 0, 4), [0xf4, 0x1a, 0x69, 0x10]);
    // Both cards have their handles, and the running one its guest's buffers.
    copy.log.messages();
    copy.devices.gpios[&0].set_level(1, true).unwrap();
    assert_eq!(copy.log.messages(), [2]);
    assert!(copy.devices.gpios[&1].line(LINES).is_none());
    // The console has what waits for its port.
    let console = copy.devices.console.as_ref().unwrap();
    assert_eq!(console.pending_bytes(1), 3);
    // COM1 has its byte, and the address port its address.
    let mut byte = [0];
    copy.devices.bus.port_read(0x3f8, &mut byte);
    assert_eq!(byte, [b'x']);
    let mut word = [0; 4];
    copy.devices.bus.port_read(0xcfc, &mut word);
    assert_eq!(word, [0x36, 0x1b, 0x08, 0x00]);
}

#[test]
fn nothing_moves_while_the_rest_is_saved() {
    let world = World::at_work();
    let (handle, moved) = (world.devices.gpios[&0].clone(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let saved = world.save_with(|| {
            scope.spawn(|| {
                handle.set_level(1, true).unwrap();
                moved.store(true, Ordering::SeqCst);
            });
            std::thread::sleep(Duration::from_millis(50));
            moved.load(Ordering::SeqCst)
        });
        assert!(!saved.unwrap().1);
    });
    assert!(moved.load(Ordering::SeqCst), "and goes on afterwards");
}

#[test]
fn what_is_in_the_slots_must_be_known() {
    let mut world = World::at_work();
    let known = world.devices.gpios.remove(&1).unwrap();
    let unknown = world.save_with(|| panic!("called")).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "the snapshot's slot does not fit this machine: slot 1 holds something, which is not what was plugged in"
    );
    world.devices.gpios.insert(1, known.clone());
    world.devices.gpios.insert(2, known);
    // Twice the same handle would wait for itself.
    world.devices.gpios.remove(&1);
    assert!(world.save_with(|| ()).is_err());
}

#[test]
fn surroundings_must_be_those_of_the_machine() {
    let world = World::at_work();
    let state = world.state();
    let mut none = state.clone();
    none.console = None;
    assert_eq!(world.restored(&none, &PORT_NAMES).unwrap_err().what, "console");
    assert!(world.restored(&none, &[]).is_ok());
    assert_eq!(world.restored(&state, &[]).unwrap_err().what, "console");
    let mut without_slots = state.clone();
    without_slots.slots.clear();
    assert_eq!(world.restored(&without_slots, &PORT_NAMES).unwrap_err().what, "root complex");
    let mut other_slot = state.clone();
    other_slot.slots.swap(1, 2);
    let error = world.restored(&other_slot, &PORT_NAMES).unwrap_err();
    assert_eq!(error.what, "configuration space");
    assert!(error.reason.starts_with("at slot 1, byte"), "{error}");
    let mut elsewhere = state;
    elsewhere.slots[0].gpio.as_mut().unwrap().function.rings[1].available_ring = 1 << 40;
    let error = world.restored(&elsewhere, &PORT_NAMES).unwrap_err();
    assert!(error.reason.starts_with("at slot 0, queue 1 is enabled and lies outside"), "{error}");
}

/// What vCPUs and the host do to a machine.
#[derive(Debug, Clone)]
enum Operation {
    Port { port: u16, data: Vec<u8> },
    Config { bus: u8, device: u8, register: u16, data: Vec<u8> },
    Memory { address: u64, data: Vec<u8> },
    Type(Vec<u8>),
    Move { slot: u8, line: u16 },
    Send { port: usize, byte: u8 },
    Plug(u8),
    Remove(u8),
}

fn operation() -> impl Strategy<Value = Operation> {
    let bytes =
        || prop_oneof![Just(1_usize), Just(2), Just(4)].prop_flat_map(|n| prop::collection::vec(any::<u8>(), n));
    let few = || prop_oneof![Just(vec![0_u8]), Just(vec![0, 0]), Just(vec![2, 0]), Just(vec![6, 4]), bytes()];
    let port = prop_oneof![2 => 0x3f8_u16..0x400, 1 => 0xcf8_u16..0xd00];
    let bar = prop_oneof![Just(GPIO_BAR), Just(CONSOLE_BAR)];
    let offset = prop_oneof![0_u64..0x40, (0_u64..6).prop_map(|queue| 0x3000 + queue * 4), 0x4000_u64..0x4070];
    prop_oneof![
        3 => (port, few()).prop_map(|(port, data)| Operation::Port { port, data }),
        1 => any::<u32>().prop_map(|address| Operation::Port { port: 0xcf8, data: address.to_le_bytes().to_vec() }),
        6 => (0_u8..4, 0_u8..5, 0_u16..0x40, few()).prop_map(|(bus, device, register, data)| {
            let device = if bus == 0 { device } else { 0 };
            Operation::Config { bus, device, register: register * 4, data }
        }),
        5 => (bar, offset, bytes()).prop_map(|(bar, offset, data)| Operation::Memory { address: bar + offset, data }),
        2 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Operation::Type),
        3 => (0_u8..3, 0_u16..LINES).prop_map(|(slot, line)| Operation::Move { slot, line }),
        2 => (0_usize..2, any::<u8>()).prop_map(|(port, byte)| Operation::Send { port, byte }),
        1 => (0_u8..3).prop_map(Operation::Plug),
        1 => (0_u8..3).prop_map(Operation::Remove),
    ]
}

impl World {
    /// Gives what can be read at once.
    fn apply(&mut self, operation: &Operation) -> Vec<u8> {
        match operation {
            &Operation::Port { port, ref data } => {
                self.devices.bus.port_write(port, data);
                let mut read = vec![0; data.len()];
                self.devices.bus.port_read(port, &mut read);
                read
            }
            &Operation::Config { bus, device, register, ref data } => {
                self.ecam_write(bus, device, register, data);
                self.ecam_read(bus, device, register, data.len())
            }
            Operation::Memory { address, data } => {
                self.devices.bus.memory_write(*address, data);
                let mut read = vec![0; data.len()];
                self.devices.bus.memory_read(*address, &mut read);
                read
            }
            Operation::Type(bytes) => vec![self.devices.bus.serial.input(bytes).to_le_bytes()[0]],
            &Operation::Move { slot, line } => {
                let moved = self.devices.gpios.get(&slot).map(|handle| handle.pulse(line).is_ok());
                vec![u8::from(moved == Some(true))]
            }
            &Operation::Send { port, byte } => {
                let console = self.devices.console.as_ref().unwrap();
                vec![console.send(port, &[byte; 9]).to_le_bytes()[0]]
            }
            &Operation::Plug(slot) => vec![u8::from(self.plug(slot))],
            &Operation::Remove(slot) => vec![u8::from(self.remove(slot))],
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restored_machine_does_what_the_original_does(
        before in prop::collection::vec(operation(), 0..60),
        after in prop::collection::vec(operation(), 0..60),
    ) {
        let mut world = World::at_work();
        for operation in &before {
            world.apply(operation);
        }
        let mut copy = world.fork();
        prop_assert_eq!(copy.state(), world.state());
        world.forget_what_was_seen();
        for operation in &after {
            prop_assert_eq!(copy.apply(operation), world.apply(operation), "{:?}", operation);
            prop_assert_eq!(copy.seen(), world.seen(), "{:?}", operation);
            prop_assert_eq!(copy.state(), world.state(), "{:?}", operation);
        }
        prop_assert!(copy.all_memory() == world.all_memory(), "guest memory differs");
    }
}
