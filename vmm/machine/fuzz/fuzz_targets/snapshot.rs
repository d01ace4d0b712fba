//! The saved state of a machine's devices: changed anywhere, it is refused, or it makes a machine that keeps its promises.
//!
//! The input is changes to the text of a state of the unit tests' machine: where (three bytes), how many characters go (one), how
//! many come (one), and these.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use plugstorm_machine::devices_state::DevicesState;
use plugstorm_machine::{StateError, bus, devices_state, interrupt, memory, pci, serial, stop};

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

use world::{CONSOLE_BAR, GPIO_BAR, PORT_NAMES, World};

/// What comes in place of what goes, at most.
const MOST_NEW_BYTES: u8 = 24;

fn saved() -> &'static (World, Vec<u8>) {
    static SAVED: OnceLock<(World, Vec<u8>)> = OnceLock::new();
    SAVED.get_or_init(|| {
        let world = World::at_work();
        let text = serde_json::to_vec(&world.state()).unwrap();
        (world, text)
    })
}

fuzz_target!(|bytes: &[u8]| {
    let (world, text) = saved();
    let (mut text, mut rest) = (text.clone(), bytes);
    while let Some((&[a, b, c, gone, come], after)) = rest.split_first_chunk() {
        let (new, after) = after.split_at(usize::from(come % MOST_NEW_BYTES).min(after.len()));
        let at = u32::from_le_bytes([a, b, c, 0]) as usize % (text.len() + 1);
        let end = (at + usize::from(gone)).min(text.len());
        text.splice(at..end, new.iter().copied());
        rest = after;
    }
    let Ok(state) = serde_json::from_slice::<DevicesState>(&text) else { return };
    let Ok(mut again) = world.restored(&state, &PORT_NAMES) else { return };
    assert_eq!(again.state(), state);
    for bar in [GPIO_BAR, CONSOLE_BAR] {
        for queue in 0_u16..6 {
            again.devices.bus.memory_write(bar + 0x3000 + u64::from(queue) * 4, &queue.to_le_bytes());
        }
    }
    for slot in 0..u8::try_from(again.devices.bus.pci.slots().count()).unwrap_or_default() {
        again.remove(slot);
        again.plug(slot);
    }
    let after = again.state();
    assert!(world.restored(&after, &PORT_NAMES).is_ok(), "a state that its own machine refuses");
});
