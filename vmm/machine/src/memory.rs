//! Guest-physical memory: where things are, and the mapping itself.
//!
//! ```text
//! 0x0000_0000  low RAM: boot data below 640 KiB, ACPI tables at 0xe_0000, the kernel from 1 MiB up
//! 0xc000_0000  the 32-bit hole: PCI window, then ECAM, I/O APIC, local APICs, KVM's own pages
//! 0x1_0000_0000  the RAM that did not fit below the hole
//! ```

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap};

/// The guest's memory.
pub type GuestRam = GuestMemoryMmap<()>;

/// Where low RAM ends if there is more than that.
pub const HOLE_START: u64 = 0xc000_0000;
/// Where the rest of the RAM begins.
pub const HOLE_END: u64 = 0x1_0000_0000;
/// The window that the host bridge forwards to PCI functions.
pub const PCI_WINDOW: Range<u64> = 0xc000_0000..0xe000_0000;
/// Where ECAM (PCIe 7.2.2) begins.
pub const ECAM_BASE: u64 = 0xe000_0000;
/// The highest bus number that ECAM covers.
pub const ECAM_LAST_BUS: u8 = 63;
/// One MiB a bus.
pub const ECAM_BYTES: u64 = (ECAM_LAST_BUS as u64 + 1) << 20;
/// Where the in-kernel I/O APIC is.
pub const IOAPIC_BASE: u32 = 0xfec0_0000;
/// Where the local APICs are.
pub const LAPIC_BASE: u32 = 0xfee0_0000;
/// A page for KVM on Intel (`KVM_SET_IDENTITY_MAP_ADDR`), out of the guest's way.
pub const IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages for KVM on Intel (`KVM_SET_TSS_ADDR`).
pub const TSS: usize = 0xfffb_d000;

/// The real-mode area that a kernel may use.
pub const LOW_RAM_END: u64 = 0x9_fc00;
/// The zero page (Documentation/arch/x86/boot.rst).
pub const ZERO_PAGE: u64 = 0x7000;
/// Descriptor table of the 64-bit entry.
pub const GDT: u64 = 0x500;
/// Page tables of the 64-bit entry: one PML4, one PDPT, four page directories.
pub const PAGE_TABLES: u64 = 0x9000;
/// The kernel's command line.
pub const COMMAND_LINE: u64 = 0x2_0000;
/// Longest command line with its zero byte: the 2048 of the kernel's `COMMAND_LINE_SIZE`.
pub const COMMAND_LINE_BYTES: usize = 2048;
/// Where the RSDP is looked for (ACPI 6.5, 5.2.5.1), and the tables after it.
pub const ACPI_TABLES: Range<u64> = 0xe_0000..RESET_VECTOR;
/// Where a processor begins after a reset, as real mode reaches it: F000:FFF0.
pub const RESET_VECTOR: u64 = 0xf_fff0;
/// Where a bzImage is loaded.
pub const KERNEL_BASE: u64 = 0x10_0000;

/// The least memory a machine may have: below this no stock kernel gets anywhere.
pub const LEAST_MEMORY_BYTES: u64 = 16 << 20;
/// The most memory a machine may have.
pub const MOST_MEMORY_BYTES: u64 = 1 << 40;

/// The ranges of RAM in a machine with so much memory.
#[must_use]
pub fn ranges(memory_bytes: u64) -> Vec<Range<u64>> {
    if memory_bytes <= HOLE_START {
        return vec![Range { start: 0, end: memory_bytes }];
    }
    vec![0..HOLE_START, HOLE_END..HOLE_END.saturating_add(memory_bytes - HOLE_START)]
}

/// Maps the guest's memory. It is anonymous and takes up nothing until it is used.
///
/// # Errors
/// The kernel refused the mapping: not enough address space or overcommit forbidden.
pub fn map(memory_bytes: u64) -> Result<GuestRam, vm_memory::mmap::FromRangesError> {
    let ranges: Vec<(GuestAddress, usize)> = ranges(memory_bytes)
        .into_iter()
        .map(|range| (GuestAddress(range.start), usize::try_from(range.end - range.start).unwrap_or(usize::MAX)))
        .collect();
    GuestRam::from_ranges(&ranges)
}

/// Maps a guest's memory from a file, privately: what the guest writes is its own, the rest it shares with all who map the
/// same file. Low RAM comes first in the file, high RAM right after it.
///
/// # Errors
/// The system's reason, as the end of a sentence.
pub(crate) fn map_private(file: &Arc<File>, memory_bytes: u64) -> Result<GuestRam, String> {
    let mut start = 0;
    let mut regions = Vec::new();
    for range in ranges(memory_bytes) {
        let bytes = range.end - range.start;
        let mapping = MmapRegionBuilder::new(usize::try_from(bytes).unwrap_or(usize::MAX))
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_NORESERVE)
            .with_file_offset(FileOffset::from_arc(Arc::clone(file), start))
            .build()
            .map_err(|error| error.to_string())?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(range.start))
            .ok_or_else(|| format!("{bytes} bytes at {:#x} are beyond the address space", range.start))?;
        regions.push(region);
        start += bytes;
    }
    GuestRam::from_regions(regions).map_err(|error| error.to_string())
}

/// Where low RAM ends: what is loaded for the kernel has to lie below it.
#[must_use]
pub fn low_ram_end(memory: &GuestRam) -> u64 {
    memory
        .iter()
        .filter(|region| region.start_addr().0 < HOLE_START)
        .map(|region| region.start_addr().0.saturating_add(region.len()))
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_around_the_hole() {
        assert_eq!(ranges(64 << 20), vec![0..64 << 20]);
        assert_eq!(ranges(HOLE_START), vec![0..HOLE_START]);
        assert_eq!(ranges(4 << 30), vec![0..HOLE_START, HOLE_END..HOLE_END + (1 << 30)]);
    }

    #[test]
    fn nothing_in_the_hole_overlaps() {
        let mut places = [
            PCI_WINDOW,
            ECAM_BASE..ECAM_BASE + ECAM_BYTES,
            u64::from(IOAPIC_BASE)..u64::from(IOAPIC_BASE) + 0x1000,
            u64::from(LAPIC_BASE)..u64::from(LAPIC_BASE) + 0x1000,
            IDENTITY_MAP..IDENTITY_MAP + 0x1000,
            TSS as u64..TSS as u64 + 0x3000,
        ];
        places.sort_by_key(|range| range.start);
        assert!(places.windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert!(places.iter().all(|range| range.start >= HOLE_START && range.end <= HOLE_END));
    }

    #[test]
    fn mapped_memory_has_its_size() {
        let memory = map(32 << 20).unwrap();
        assert_eq!(low_ram_end(&memory), 32 << 20);
    }
}
