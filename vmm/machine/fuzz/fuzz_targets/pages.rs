//! Page tables: whatever is in them, a walk ends, and says the same of an address each time.
//!
//! The first sixteen bytes are CR3 and an address; the rest are the tables.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugstorm_machine::{AddressSpace, memory};
use vm_memory::{Bytes, GuestAddress};

/// Tables and pages lie within; more only takes time to map.
const MEMORY_BYTES: u64 = 1 << 20;
/// CR4: tables of five levels.
const LA57: u64 = 1 << 12;

fuzz_target!(|bytes: &[u8]| {
    let (Some(cr3), Some(address)) = (bytes.first_chunk::<8>(), bytes.get(8..16)) else { return };
    let address = u64::from_le_bytes(address.try_into().unwrap());
    let ram = memory::map(MEMORY_BYTES).unwrap();
    let tables = bytes.get(16..).unwrap_or_default();
    ram.write_slice(&tables[..tables.len().min(MEMORY_BYTES as usize)], GuestAddress(0)).unwrap();
    let cr3 = u64::from_le_bytes(*cr3);
    for space in [AddressSpace::new(cr3, 0), AddressSpace::new(cr3, LA57)] {
        for space in [space, space.of_kernel_under_isolation()] {
            let at = space.translate(&ram, address);
            let mut whole = [0; 9000];
            if space.read(&ram, address, &mut whole) {
                // By bytes it is the same memory, page after page.
                for step in (0..whole.len()).step_by(997) {
                    let mut byte = [0];
                    assert!(space.read(&ram, address.wrapping_add(step as u64), &mut byte));
                    assert_eq!(byte[0], whole[step]);
                }
                assert!(at.is_some());
            }
            let mut byte = [0];
            if space.read(&ram, address, &mut byte) {
                assert_eq!(Some(byte[0]), at.and_then(|at| ram.read_obj(GuestAddress(at)).ok()));
            }
        }
    }
});
