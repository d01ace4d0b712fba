//! From a guest's virtual addresses to its memory, as a processor in 64-bit mode would go: by the tables that CR3 names (Intel SDM
//! 3A, 4.5; AMD APM 2, 5.3).

use vm_memory::{Bytes, GuestAddress};

use crate::memory::GuestRam;

const PAGE_BYTES: u64 = 4096;
/// Bits of an entry, and of CR3, that are the address of the next table.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = 1;
/// The entry maps a page of 2 MiB or 1 GiB.
const PAGE_SIZE: u64 = 1 << 7;
/// Entries of a table, as bits of an address.
const INDEX_BITS: u32 = 9;
const PAGE_BITS: u32 = 12;
/// CR4: tables of five levels.
const CR4_LA57: u64 = 1 << 12;
/// CR3: what tells the tables of user mode from those of the kernel, where Linux keeps them apart
/// (`PTI_USER_PGTABLE_BIT` of arch/x86/include/asm/processor-flags.h).
const PTI_USER: u64 = 1 << 12;

/// Virtual addresses as one set of tables has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressSpace {
    root: u64,
    levels: u32,
}

impl AddressSpace {
    /// The one that control registers name.
    #[must_use]
    pub fn new(cr3: u64, cr4: u64) -> Self {
        Self { root: cr3 & ADDRESS, levels: if cr4 & CR4_LA57 == 0 { 4 } else { 5 } }
    }

    /// The kernel's, where this is that of user mode under page table isolation. The same under none is somewhere else in memory.
    #[must_use]
    pub fn of_kernel_under_isolation(&self) -> Self {
        Self { root: self.root & !PTI_USER, ..*self }
    }

    /// Where a virtual address is in memory. Nothing if no page is there; permissions are not looked at.
    #[must_use]
    pub fn translate(&self, memory: &GuestRam, address: u64) -> Option<u64> {
        // Bits above the highest that is translated repeat it.
        let unused = 64 - (PAGE_BITS + INDEX_BITS * self.levels);
        if ((address << unused).cast_signed() >> unused).cast_unsigned() != address {
            return None;
        }
        let mut table = self.root;
        for level in (0..self.levels).rev() {
            let bits = PAGE_BITS + INDEX_BITS * level;
            let index = address >> bits & ((1 << INDEX_BITS) - 1);
            let entry: u64 = memory.read_obj(GuestAddress(table.checked_add(index * 8)?)).ok()?;
            if entry & PRESENT == 0 {
                return None;
            }
            // Tables above those of 1 GiB pages map none.
            if level == 0 || level < 3 && entry & PAGE_SIZE != 0 {
                let within = (1 << bits) - 1;
                return Some(entry & ADDRESS & !within | address & within);
            }
            table = entry & ADDRESS;
        }
        None
    }

    /// Reads from virtual addresses. False if a part has no page, or one with no memory behind it (a device's); `bytes` may
    /// hold anything then.
    #[must_use]
    pub fn read(&self, memory: &GuestRam, address: u64, bytes: &mut [u8]) -> bool {
        let mut address = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let in_page = PAGE_BYTES - address % PAGE_BYTES;
            let length = usize::try_from(in_page).map_or(rest.len(), |in_page| in_page.min(rest.len()));
            let (now, later) = rest.split_at_mut(length);
            let read = self.translate(memory, address).map(|at| memory.read_slice(now, GuestAddress(at)));
            let next = address.checked_add(length as u64);
            match (read, next) {
                (Some(Ok(())), Some(next)) => address = next,
                // The last byte of all ends exactly there.
                (Some(Ok(())), None) => return later.is_empty(),
                _ => return false,
            }
            rest = later;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory;

    const WRITABLE: u64 = 1 << 1;
    const NO_EXECUTE: u64 = 1 << 63;

    fn ram() -> GuestRam {
        memory::map(64 << 20).unwrap()
    }

    fn put(memory: &GuestRam, at: u64, value: u64) {
        memory.write_obj(value, GuestAddress(at)).unwrap();
    }

    /// Tables from 0x1000 on, one a level, down to `bits` of a page; the last entry maps `page`.
    fn map(memory: &GuestRam, levels: u32, address: u64, bits: u32, page: u64) {
        for level in (0..levels).rev() {
            let table = 0x1000 * u64::from(levels - level);
            let index = address >> (12 + 9 * level) & 511;
            if 12 + 9 * level == bits {
                let size = if level > 0 { PAGE_SIZE } else { 0 };
                put(memory, table + index * 8, page | PRESENT | WRITABLE | NO_EXECUTE | size);
                return;
            }
            put(memory, table + index * 8, (table + 0x1000) | PRESENT | WRITABLE);
        }
    }

    #[test]
    fn pages_of_all_sizes_are_found_with_four_levels_and_with_five() {
        for (cr4, levels, address) in [(0, 4, 0xffff_ffff_8123_4567_u64), (CR4_LA57, 5, 0xff12_3456_8123_4567)] {
            for (bits, page) in [(12, 0x80_3000_u64), (21, 0x60_0000), (30, 0)] {
                let memory = ram();
                map(&memory, levels, address, bits, page);
                // Its low bits are a process-context identifier.
                let space = AddressSpace::new(0x1fff, cr4);
                let expected = page | address & ((1 << bits) - 1);
                assert_eq!(space.translate(&memory, address), Some(expected), "{levels} levels, {bits} bits");
                assert_eq!(space.translate(&memory, address ^ 1 << bits), None);
                // Not canonical.
                assert_eq!(space.translate(&memory, address ^ 1 << 62), None);
            }
        }
    }

    #[test]
    fn a_read_goes_over_pages_and_stops_at_a_gap() {
        let memory = ram();
        let address = 0xffff_8880_0000_1000;
        map(&memory, 4, address, 12, 0x70_0000);
        map(&memory, 4, address + 0x1000, 12, 0x90_0000);
        memory.write_slice(b"abcd", GuestAddress(0x70_0ffc)).unwrap();
        memory.write_slice(b"efgh", GuestAddress(0x90_0000)).unwrap();
        let space = AddressSpace::new(0x1000, 0);
        let mut bytes = [0; 8];
        assert!(space.read(&memory, address + 0xffc, &mut bytes));
        assert_eq!(&bytes, b"abcdefgh");
        assert!(!space.read(&memory, address + 0x1ffc, &mut bytes));
        assert!(!space.read(&memory, u64::MAX - 3, &mut bytes));
    }

    #[test]
    fn tables_of_user_mode_lie_beside_the_kernels() {
        let user = AddressSpace::new(0x3000, 0);
        assert_eq!(user.of_kernel_under_isolation(), AddressSpace::new(0x2000, 0));
        assert_eq!(AddressSpace::new(0x2000, 0).of_kernel_under_isolation(), AddressSpace::new(0x2000, 0));
    }

    proptest! {
        #[test]
        fn any_tables_are_survived(
            entries in proptest::collection::vec((0u64..0x4000, any::<u64>()), 0..64),
            cr3: u64, cr4: u64, addresses in proptest::collection::vec(any::<u64>(), 1..8),
        ) {
            let memory = memory::map(16 << 20).unwrap();
            for (at, entry) in entries {
                // Half of them point to where there is memory.
                let entry = if entry & 2 == 0 { entry } else { entry & 0xff_ffff | 1 };
                put(&memory, at * 8, entry);
            }
            for root in [cr3, cr3 & 0xf000] {
                for address in &addresses {
                    let space = AddressSpace::new(root, cr4);
                    let mut bytes = [0; 16];
                    let read = space.read(&memory, *address, &mut bytes);
                    prop_assert!(!read || space.translate(&memory, *address).is_some());
                }
            }
        }
    }
}
