//! All devices of a machine, reached as a guest reaches them: ports, configuration space, windows, and the memory that descriptors
//! lie in. Whatever it does, the books are right, and the machine can be saved and goes on from what was saved.
//!
//! The machine is that of the unit tests, with devices at work. Twelve bytes of the input are one thing that a guest or a host does.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use plugstorm_machine::{StateError, bus, devices_state, interrupt, memory, pci, serial, stop};
use vm_memory::{Bytes, GuestAddress};

#[allow(dead_code, unused_imports, unreachable_pub)]
#[path = "../../src/virtio/test_driver.rs"]
mod test_driver;
#[allow(dead_code)]
#[path = "../../src/devices_state/tests/world.rs"]
mod world;
/// What both use by the library's own paths.
mod virtio {
    pub(crate) use crate::test_driver;
    pub(crate) use plugstorm_machine::virtio::*;
}

use test_driver::MEMORY_BYTES;
use virtio::console::PENDING_LIMIT_BYTES;
use virtio::gpio::{Fault, FaultRule, Faults};
use world::{CONSOLE_BAR, GPIO_BAR, LINES, PORT_NAMES, World};

/// Where a guest has business: the BARs with their notifications and tables, the root ports' own registers.
const PLACES: [u64; 6] =
    [GPIO_BAR, GPIO_BAR + 0x3000, GPIO_BAR + 0x4000, CONSOLE_BAR, CONSOLE_BAR + 0x3000, memory::ECAM_BASE];
/// Where the queues of the unit tests' driver are: descriptors, available ring and used ring of each.
const QUEUES: [u64; 2] = [0x1_0000, 0x20_0000];

fuzz_target!(|bytes: &[u8]| {
    let mut world = World::at_work();
    for act in bytes.chunks_exact(12) {
        let [what, width, low, high] = [act[0], act[1], act[2], act[3]];
        let number = u64::from(u16::from_le_bytes([low, high]));
        let value = &act[4..];
        let width = [1, 2, 4, 8][usize::from(width % 4)];
        let mut data = [0; 8];
        match what % 16 {
            0 => world.devices.bus.port_read(number as u16, &mut data[..width]),
            1 => world.devices.bus.port_write(number as u16, &value[..width]),
            2 => world.devices.bus.port_write(0x3f8 + number as u16 % 8, &value[..1]),
            3 => world.devices.bus.port_write(0xcf8 + number as u16 % 8, &value[..width]),
            4 => drop(world.ecam_read(low % 8, high % 32, u16::from_le_bytes([value[0], value[1]]) % 4096, width)),
            5 => world.ecam_write(
                low % 8,
                high % 32,
                u16::from_le_bytes([value[0], value[1]]) % 4096,
                &value[8 - width..],
            ),
            6 | 7 => {
                let place = PLACES[usize::from(act[1] >> 2) % PLACES.len()];
                world.devices.bus.memory_write(place + number, &value[..width]);
            }
            8 => {
                let place = PLACES[usize::from(act[1] >> 2) % PLACES.len()];
                world.devices.bus.memory_read(place + number, &mut data[..width]);
            }
            9..=11 => {
                // Within a queue's rings, or anywhere.
                let (queue, kind) = (u64::from(act[1] >> 2 & 7), u64::from(act[1] >> 5));
                let base = QUEUES[usize::from(what % 2)] + queue * 0x2_0000;
                let at = match kind {
                    0..=2 => base + number % 0x1000,
                    3..=5 => base + 0x8000 + number % 0x200,
                    6 => base + 0x1_0000 + number,
                    _ => number << 6,
                };
                let _ = world.memory.write_slice(value, GuestAddress(at % (MEMORY_BYTES as u64 - 8)));
            }
            12 => drop(world.remove(low % 3)),
            13 => drop(world.plug(low % 3)),
            14 => gpio(&world, low, u16::from(high), value),
            _ => {
                if let Some(console) = &world.devices.console {
                    let _ = console.send(usize::from(low % 3), &[high; 3000][..usize::from(value[0]) * 8]);
                    console.set_host_open(usize::from(low % 3), high < 128);
                }
                let _ = world.devices.bus.serial.input(value);
            }
        }
        if let Some(console) = &world.devices.console {
            (0..PORT_NAMES.len()).for_each(|port| assert!(console.pending_bytes(port) <= PENDING_LIMIT_BYTES));
        }
    }
    let state = world.state();
    let functions = state.slots.iter().filter_map(|slot| slot.gpio.as_ref().map(|gpio| &gpio.function));
    for function in functions.chain(state.console.as_ref().map(|console| &console.function)) {
        assert!(function.rings.iter().all(|ring| ring.in_flight <= usize::from(ring.size)));
    }
    let again = world.restored(&state, &PORT_NAMES).expect("a state that its own machine refuses");
    assert_eq!(again.state(), state);
});

/// What the host does to the controller in the first slot.
fn gpio(world: &World, what: u8, line: u16, value: &[u8]) {
    let Some(handle) = world.devices.gpios.get(&0) else { return };
    let line = line % (LINES + 1);
    match what % 6 {
        0 => drop(handle.set_level(line, value[0] < 128)),
        1 => drop(handle.pulse(line)),
        2 => drop(handle.release_stalled()),
        3 => drop(handle.complete_due(Instant::now() + Duration::from_secs(10))),
        4 => handle.spurious_interrupt(line),
        _ => {
            let faults = [
                Fault::Stall,
                Fault::Delay(Duration::from_secs(1)),
                Fault::ShortResponse,
                Fault::LongResponse,
                Fault::DuplicateCompletion,
                Fault::SpuriousInterrupt,
                Fault::Status(value[1]),
            ];
            let fault = faults.get(usize::from(value[0]) % faults.len()).cloned();
            handle.set_faults(Faults { rules: fault.into_iter().map(FaultRule::always).collect() });
        }
    }
}
