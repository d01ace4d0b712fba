//! Loading a kernel so that a vCPU can start at its 64-bit entry (Documentation/arch/x86/boot.rst).

mod image;
mod paging;
mod reset_vector;
mod zero_page;

use std::fs::File;
use std::path::{Path, PathBuf};

use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::{BzImage, Elf, KernelLoader, KernelLoaderResult};
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress};

use crate::memory::{self, GuestRam};
pub use image::{Image, ImageError};
pub use paging::{GDT_ENTRIES, code_segment, data_segment, tss_segment};

/// A kernel, an initramfs and a command line in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where the first instruction is.
    pub rip: u64,
    /// What `rsi` points to: the zero page.
    pub zero_page: u64,
    /// What `cr3` points to.
    pub page_tables: u64,
}

/// Why a kernel could not be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BootError {
    /// The file is no kernel for this machine.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The kernel lies outside guest memory.
    #[error("the kernel {path} does not fit into {memory_mib} MiB of guest memory; give it more with --memory")]
    KernelTooLarge {
        /// The kernel.
        path: PathBuf,
        /// Guest memory.
        memory_mib: u64,
    },
    /// The loader refused the file.
    #[error("the kernel {path} cannot be loaded: {reason}")]
    Load {
        /// The kernel.
        path: PathBuf,
        /// The loader's reason.
        reason: String,
    },
    /// The initramfs lies outside guest memory.
    #[error(
        "the initramfs of {initrd_mib} MiB does not fit beside the kernel into {memory_mib} MiB of guest memory; give it \
         more with --memory"
    )]
    InitrdTooLarge {
        /// The initramfs.
        initrd_mib: u64,
        /// Guest memory.
        memory_mib: u64,
    },
    /// The command line is too long.
    #[error("the kernel command line is {bytes} bytes long and the kernel takes {most}; shorten what --append adds")]
    CommandLineTooLong {
        /// Its length.
        bytes: usize,
        /// What the kernel takes.
        most: usize,
    },
    /// Guest memory refused a write.
    #[error("guest memory at {address:#x} cannot be written: {reason}")]
    Memory {
        /// Where.
        address: u64,
        /// The reason.
        reason: String,
    },
}

/// Loads everything the 64-bit entry of a kernel needs.
///
/// # Errors
/// [`BootError`]: each is the user's to mend.
pub fn load(
    memory: &GuestRam,
    path: &Path,
    initrd: Option<&[u8]>,
    command_line: &str,
    rsdp: u64,
) -> Result<Entry, BootError> {
    let image = Image::recognise(path)?;
    let memory_bytes = memory::low_ram_end(memory);
    if image.needs_bytes() > memory_bytes {
        return Err(BootError::KernelTooLarge { path: path.to_owned(), memory_mib: memory_bytes >> 20 });
    }
    let mut file = File::open(path)
        .map_err(|error| ImageError::Unreadable { path: path.to_owned(), reason: error.to_string() })?;
    let loaded = load_image(memory, &image, path, &mut file)?;
    let (rip, header) = match image {
        // 64-bit entry: 0x200 after the load address ("64-bit Boot Protocol").
        Image::BzImage { .. } => (loaded.kernel_load.0.saturating_add(0x200), loaded.setup_header),
        Image::Elf { .. } => (loaded.kernel_load.0, None),
    };
    let header = header.unwrap_or_else(zero_page::header_for_elf);
    let initrd_at = initrd.map(|bytes| place_initrd(memory, &header, &image, loaded.kernel_end, bytes)).transpose()?;
    write_command_line(memory, command_line)?;
    zero_page::write(memory, header, initrd_at, command_line.len(), rsdp)?;
    paging::write(memory)?;
    reset_vector::write(memory)?;
    Ok(Entry { rip, zero_page: memory::ZERO_PAGE, page_tables: memory::PAGE_TABLES })
}

fn load_image(memory: &GuestRam, image: &Image, path: &Path, file: &mut File) -> Result<KernelLoaderResult, BootError> {
    let refused =
        |error: linux_loader::loader::Error| BootError::Load { path: path.to_owned(), reason: error.to_string() };
    match image {
        Image::BzImage { .. } => {
            BzImage::load(memory, Some(GuestAddress(memory::KERNEL_BASE)), file, None).map_err(refused)
        }
        Image::Elf { .. } => Elf::load(memory, None, file, Some(GuestAddress(memory::KERNEL_BASE))).map_err(refused),
    }
}

/// Puts the initramfs at the top of what the kernel can reach, so that the kernel has room to unpack itself below.
fn place_initrd(
    memory: &GuestRam,
    header: &setup_header,
    image: &Image,
    kernel_end: u64,
    bytes: &[u8],
) -> Result<(u64, u64), BootError> {
    let memory_bytes = memory::low_ram_end(memory);
    let length = bytes.len() as u64;
    let too_large =
        || BootError::InitrdTooLarge { initrd_mib: length.div_ceil(1 << 20), memory_mib: memory_bytes >> 20 };
    let reach = match header.initrd_addr_max {
        0 => memory_bytes,
        most => memory_bytes.min(u64::from(most).saturating_add(1)),
    };
    let start = reach.checked_sub(length).ok_or_else(too_large)? & !0xfff;
    if start < kernel_end.max(image.needs_bytes()) {
        return Err(too_large());
    }
    memory
        .write_slice(bytes, GuestAddress(start))
        .map_err(|error| BootError::Memory { address: start, reason: error.to_string() })?;
    Ok((start, length))
}

fn write_command_line(memory: &GuestRam, command_line: &str) -> Result<(), BootError> {
    if command_line.len() >= memory::COMMAND_LINE_BYTES {
        return Err(BootError::CommandLineTooLong { bytes: command_line.len(), most: memory::COMMAND_LINE_BYTES - 1 });
    }
    let mut bytes = command_line.as_bytes().to_vec();
    bytes.push(0);
    memory
        .write_slice(&bytes, GuestAddress(memory::COMMAND_LINE))
        .map_err(|error| BootError::Memory { address: memory::COMMAND_LINE, reason: error.to_string() })
}
