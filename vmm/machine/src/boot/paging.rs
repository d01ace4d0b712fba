//! Page tables and descriptors that the 64-bit entry asks for: the low 4 GiB mapped to themselves, flat segments
//! ("64-bit Boot Protocol": kernel, zero page and command line must be mapped; CS 0x10, DS 0x18).

use kvm_bindings::kvm_segment;
use vm_memory::{Bytes, GuestAddress};

use super::BootError;
use crate::memory::{self, GuestRam};

const PAGE: u64 = 0x1000;
const PRESENT_WRITABLE: u64 = 0x3;
const LARGE_PAGE: u64 = 1 << 7;

/// The descriptor table: null, unused, code, data, task state.
pub const GDT_ENTRIES: [u64; 5] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x008f_8b00_0000_ffff];

/// `__BOOT_CS`: 64-bit code.
#[must_use]
pub fn code_segment() -> kvm_segment {
    kvm_segment { selector: 0x10, type_: 0xb, s: 1, l: 1, g: 1, present: 1, limit: 0xffff_ffff, ..Default::default() }
}

/// `__BOOT_DS`: flat data.
#[must_use]
pub fn data_segment() -> kvm_segment {
    kvm_segment { selector: 0x18, type_: 0x3, s: 1, db: 1, g: 1, present: 1, limit: 0xffff_ffff, ..Default::default() }
}

/// A busy task state segment, without which VMX refuses the entry (SDM 3C, 27.3.1.2).
#[must_use]
pub fn tss_segment() -> kvm_segment {
    kvm_segment { selector: 0x20, type_: 0xb, present: 1, limit: 0xffff, ..Default::default() }
}

/// Writes descriptor table and page tables.
pub(super) fn write(memory: &GuestRam) -> Result<(), BootError> {
    for (index, entry) in (0u64..).zip(GDT_ENTRIES) {
        put(memory, memory::GDT + index * 8, entry)?;
    }
    let (pml4, pdpt) = (memory::PAGE_TABLES, memory::PAGE_TABLES + PAGE);
    put(memory, pml4, pdpt | PRESENT_WRITABLE)?;
    for gib in 0..4 {
        let directory = pdpt + PAGE * (gib + 1);
        put(memory, pdpt + gib * 8, directory | PRESENT_WRITABLE)?;
        for entry in 0..512 {
            let target = (gib << 30) | (entry << 21);
            put(memory, directory + entry * 8, target | LARGE_PAGE | PRESENT_WRITABLE)?;
        }
    }
    Ok(())
}

fn put(memory: &GuestRam, address: u64, value: u64) -> Result<(), BootError> {
    memory
        .write_obj(value, GuestAddress(address))
        .map_err(|error| BootError::Memory { address, reason: error.to_string() })
}
