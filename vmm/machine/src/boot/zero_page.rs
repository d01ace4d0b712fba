//! The zero page: what the boot loader tells the kernel (Documentation/arch/x86/zero-page.rst).

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::BootError;
use crate::memory::{self, GuestRam};

const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;
/// "A boot loader without an assigned id" (boot.rst, `type_of_loader`).
const LOADER_UNDEFINED: u8 = 0xff;
const BOOT_FLAG: u16 = 0xaa55;
const HEADER_MAGIC: u32 = 0x5372_6448;

/// The setup header for a vmlinux, which carries none.
pub(super) fn header_for_elf() -> setup_header {
    setup_header { boot_flag: BOOT_FLAG, header: HEADER_MAGIC, kernel_alignment: 0x100_0000, ..Default::default() }
}

/// Writes the zero page.
pub(super) fn write(
    memory: &GuestRam,
    header: setup_header,
    initrd: Option<(u64, u64)>,
    command_line_bytes: usize,
    rsdp: u64,
) -> Result<(), BootError> {
    let mut params = boot_params { hdr: header, acpi_rsdp_addr: rsdp, ..Default::default() };
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.cmd_line_ptr = low_half(memory::COMMAND_LINE);
    params.hdr.cmdline_size = u32::try_from(command_line_bytes).unwrap_or(u32::MAX);
    if let Some((address, length)) = initrd {
        params.hdr.ramdisk_image = low_half(address);
        params.hdr.ramdisk_size = low_half(length);
        params.ext_ramdisk_image = high_half(address);
        params.ext_ramdisk_size = high_half(length);
    }
    let map = memory_map(memory);
    for (entry, slot) in map.iter().zip(params.e820_table.iter_mut()) {
        *slot = *entry;
    }
    params.e820_entries = u8::try_from(map.len()).unwrap_or(u8::MAX);
    memory
        .write_obj(params, GuestAddress(memory::ZERO_PAGE))
        .map_err(|error| BootError::Memory { address: memory::ZERO_PAGE, reason: error.to_string() })
}

fn memory_map(memory: &GuestRam) -> Vec<boot_e820_entry> {
    let entry = |addr, end: u64, r#type| boot_e820_entry { addr, size: end.saturating_sub(addr), r#type };
    let mut map = vec![
        entry(0, memory::LOW_RAM_END, E820_RAM),
        // Reserved, not ACPI: the kernel may not take the tables' place after it has read them.
        entry(memory::ACPI_TABLES.start, memory::KERNEL_BASE, E820_RESERVED),
    ];
    for region in memory.iter() {
        let (start, end) = (region.start_addr().0, region.start_addr().0.saturating_add(region.len()));
        map.push(entry(start.max(memory::KERNEL_BASE), end, E820_RAM));
    }
    // Linux believes MCFG only if firmware reserved the range (arch/x86/pci/mmconfig-shared.c, pci_mmcfg_check_reserved).
    map.push(entry(memory::ECAM_BASE, memory::ECAM_BASE + memory::ECAM_BYTES, E820_RESERVED));
    map
}

fn low_half(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

fn high_half(value: u64) -> u32 {
    (value >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_map_is_sorted_ram_and_does_not_overlap() {
        let memory = memory::map(64 << 20).unwrap();
        let map = memory_map(&memory);
        let mut ranges: Vec<(u64, u64)> = map.iter().map(|entry| (entry.addr, entry.addr + entry.size)).collect();
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{ranges:x?}");
        let ram: u64 = map.iter().filter(|entry| entry.r#type == E820_RAM).map(|entry| entry.size).sum();
        assert_eq!(ram, (64 << 20) - memory::KERNEL_BASE + memory::LOW_RAM_END);
    }
}
