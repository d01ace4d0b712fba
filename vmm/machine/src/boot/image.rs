//! What kind of kernel a file is, and whether it can be one, before any of it is loaded.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Bytes of the file that are looked at.
const HEAD_BYTES: usize = 0x1000;
const ELF_CLASS_64: u8 = 2;
const ELF_MACHINE_X86_64: u16 = 62;
const ELF_EXECUTABLE: u16 = 2;
const ELF_SHARED: u16 = 3;
const ELF_PT_LOAD: u32 = 1;
/// `xloadflags`: has the 64-bit entry at 0x200 (boot protocol 2.12).
const XLF_KERNEL_64: u16 = 1 << 0;

/// A file that is a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// A bzImage with a 64-bit entry.
    BzImage {
        /// Where the kernel wants to be after it unpacked itself, plus the room it needs there.
        end: u64,
    },
    /// A 64-bit vmlinux.
    Elf {
        /// The end of its last segment in memory.
        end: u64,
    },
}

/// Why a file is no kernel for this machine.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImageError {
    /// There is no such file, or it cannot be read.
    #[error("the kernel {path} cannot be read: {reason}; check the path and its permissions")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// It is something else.
    #[error(
        "{path} is not a kernel: it is neither a bzImage nor an ELF vmlinux; give the file that the kernel's build \
             leaves in arch/x86/boot/bzImage, or /boot/vmlinuz-…"
    )]
    NotAKernel {
        /// The file.
        path: PathBuf,
    },
    /// It is a kernel for another processor or mode.
    #[error(
        "{path} is a kernel, but not a 64-bit x86 one ({what}); plugstorm boots x86-64 kernels by their 64-bit entry"
    )]
    Not64Bit {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// The end of the file is missing.
    #[error(
        "{path} is cut short: its header speaks of {expected} bytes and the file has {found}; copy or build it again"
    )]
    CutShort {
        /// The file.
        path: PathBuf,
        /// By the header.
        expected: u64,
        /// By the file system.
        found: u64,
    },
}

impl Image {
    /// Looks at a file.
    ///
    /// # Errors
    /// [`ImageError`] if no machine of ours can boot it.
    pub fn recognise(path: &Path) -> Result<Self, ImageError> {
        let unreadable =
            |error: std::io::Error| ImageError::Unreadable { path: path.to_owned(), reason: error.to_string() };
        let mut file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(ImageError::NotAKernel { path: path.to_owned() });
        }
        let mut head = Vec::new();
        file.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(unreadable)?;
        Self::from_head(path, &head, metadata.len(), |offset, bytes| {
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(bytes)
        })
    }

    /// How far up in memory the kernel reaches before it has read its memory map.
    #[must_use]
    pub fn needs_bytes(&self) -> u64 {
        match self {
            Self::BzImage { end } | Self::Elf { end } => *end,
        }
    }

    fn from_head(
        path: &Path,
        head: &[u8],
        file_bytes: u64,
        read_at: impl FnMut(u64, &mut [u8]) -> std::io::Result<()>,
    ) -> Result<Self, ImageError> {
        if head.starts_with(b"\x7fELF") {
            return Self::from_elf(path, head, file_bytes, read_at);
        }
        // "HdrS" at 0x202; 0xaa55 at 0x1fe.
        if head.get(0x202..0x206) == Some(b"HdrS") && u16_at(head, 0x1fe) == Some(0xaa55) {
            return Self::from_bzimage(path, head, file_bytes);
        }
        Err(ImageError::NotAKernel { path: path.to_owned() })
    }

    fn from_bzimage(path: &Path, head: &[u8], file_bytes: u64) -> Result<Self, ImageError> {
        let cut_short = |expected| ImageError::CutShort { path: path.to_owned(), expected, found: file_bytes };
        let field16 = |offset| u16_at(head, offset).ok_or_else(|| cut_short(HEAD_BYTES as u64));
        let field32 = |offset| u32_at(head, offset).ok_or_else(|| cut_short(HEAD_BYTES as u64));
        let version = field16(0x206)?;
        if version < 0x020c || field16(0x236)? & XLF_KERNEL_64 == 0 {
            return Err(ImageError::Not64Bit {
                path: path.to_owned(),
                what: format!("boot protocol {}.{:02} without the 64-bit entry", version >> 8, version & 0xff),
            });
        }
        let setup_sectors = match head.get(0x1f1).copied().unwrap_or(0) {
            0 => 4,
            sectors => u64::from(sectors),
        };
        // syssize counts 16-byte paragraphs of the protected-mode code.
        let expected = (setup_sectors + 1) * 512 + u64::from(field32(0x1f4)?) * 16;
        if file_bytes < expected {
            return Err(cut_short(expected));
        }
        let preferred = u64::from(field32(0x258)?) | u64::from(field32(0x25c)?) << 32;
        Ok(Self::BzImage { end: preferred.saturating_add(u64::from(field32(0x260)?)) })
    }

    fn from_elf(
        path: &Path,
        head: &[u8],
        file_bytes: u64,
        mut read_at: impl FnMut(u64, &mut [u8]) -> std::io::Result<()>,
    ) -> Result<Self, ImageError> {
        let not_64_bit = |what: &str| ImageError::Not64Bit { path: path.to_owned(), what: what.to_owned() };
        let cut_short = |expected| ImageError::CutShort { path: path.to_owned(), expected, found: file_bytes };
        if head.get(4) != Some(&ELF_CLASS_64) {
            return Err(not_64_bit("a 32-bit ELF file"));
        }
        if u16_at(head, 18) != Some(ELF_MACHINE_X86_64) {
            return Err(not_64_bit("an ELF file for another processor"));
        }
        if !matches!(u16_at(head, 16), Some(ELF_EXECUTABLE | ELF_SHARED)) {
            return Err(ImageError::NotAKernel { path: path.to_owned() });
        }
        let headers_at = u64_at(head, 32).ok_or_else(|| cut_short(64))?;
        let headers = u64::from(u16_at(head, 56).ok_or_else(|| cut_short(64))?);
        let mut end = 0;
        for index in 0..headers {
            let at = headers_at.saturating_add(index * 56);
            let mut header = [0; 56];
            if at.saturating_add(56) > file_bytes || read_at(at, &mut header).is_err() {
                return Err(cut_short(at.saturating_add(56)));
            }
            if u32_at(&header, 0) != Some(ELF_PT_LOAD) {
                continue;
            }
            let field = |offset| u64_at(&header, offset).unwrap_or(0);
            let (file_offset, address, file_size, memory_size) = (field(8), field(24), field(32), field(40));
            let segment_end = file_offset.saturating_add(file_size);
            if segment_end > file_bytes {
                return Err(cut_short(segment_end));
            }
            end = end.max(address.saturating_add(memory_size));
        }
        if end == 0 {
            return Err(ImageError::NotAKernel { path: path.to_owned() });
        }
        Ok(Self::Elf { end })
    }
}

fn bytes_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes_at(bytes, offset).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes_at(bytes, offset).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes_at(bytes, offset).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn bzimage(version: u16, xloadflags: u16, paragraphs: u32) -> Vec<u8> {
        let mut bytes = vec![0; 0x1000];
        bytes[0x1f1] = 1;
        bytes[0x1f4..0x1f8].copy_from_slice(&paragraphs.to_le_bytes());
        bytes[0x1fe..0x200].copy_from_slice(&0xaa55u16.to_le_bytes());
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x206..0x208].copy_from_slice(&version.to_le_bytes());
        bytes[0x236..0x238].copy_from_slice(&xloadflags.to_le_bytes());
        bytes[0x258..0x260].copy_from_slice(&0x100_0000u64.to_le_bytes());
        bytes[0x260..0x264].copy_from_slice(&0x20_0000u32.to_le_bytes());
        bytes
    }

    fn elf(class: u8, machine: u16) -> Vec<u8> {
        let mut bytes = vec![0; 0x1000];
        bytes[..4].copy_from_slice(b"\x7fELF");
        bytes[4] = class;
        bytes[16..18].copy_from_slice(&2u16.to_le_bytes());
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
        bytes[56..58].copy_from_slice(&1u16.to_le_bytes());
        bytes[64..68].copy_from_slice(&1u32.to_le_bytes());
        bytes[64 + 24..64 + 32].copy_from_slice(&0x100_0000u64.to_le_bytes());
        bytes[64 + 32..64 + 40].copy_from_slice(&0x1000u64.to_le_bytes());
        bytes[64 + 40..64 + 48].copy_from_slice(&0x3000u64.to_le_bytes());
        bytes
    }

    fn recognise(bytes: &[u8]) -> Result<Image, ImageError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Image::recognise(file.path())
    }

    #[test]
    fn kernels_are_recognised() {
        assert_eq!(recognise(&bzimage(0x020f, 1, 0xc0)).unwrap(), Image::BzImage { end: 0x120_0000 });
        assert_eq!(recognise(&elf(2, 62)).unwrap(), Image::Elf { end: 0x100_3000 });
    }

    #[test]
    fn what_is_no_kernel_is_told_apart() {
        assert!(matches!(Image::recognise(Path::new("/no/such")), Err(ImageError::Unreadable { .. })));
        assert!(matches!(Image::recognise(Path::new("/")), Err(ImageError::NotAKernel { .. })));
        assert!(matches!(recognise(b""), Err(ImageError::NotAKernel { .. })));
        assert!(matches!(recognise(b"#!/bin/sh\n"), Err(ImageError::NotAKernel { .. })));
        assert!(matches!(recognise(&bzimage(0x020f, 0, 1)), Err(ImageError::Not64Bit { .. })));
        assert!(matches!(recognise(&bzimage(0x0204, 1, 1)), Err(ImageError::Not64Bit { .. })));
        assert!(matches!(recognise(&elf(1, 3)), Err(ImageError::Not64Bit { .. })));
        assert!(matches!(recognise(&elf(2, 183)), Err(ImageError::Not64Bit { .. })));
        assert!(matches!(recognise(&bzimage(0x020f, 1, 0x1000)), Err(ImageError::CutShort { .. })));
        assert!(matches!(recognise(&elf(2, 62)[..0x800]), Err(ImageError::CutShort { .. })));
        assert!(matches!(recognise(&elf(2, 62)[..60]), Err(ImageError::CutShort { .. })));
    }

    proptest! {
        #[test]
        fn any_file_is_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..0x400), kind in 0u8..3) {
            if kind == 1 { bytes.splice(0..bytes.len().min(4), *b"\x7fELF"); }
            if kind == 2 && bytes.len() > 0x240 {
                bytes[0x1fe..0x200].copy_from_slice(&0xaa55u16.to_le_bytes());
                bytes[0x202..0x206].copy_from_slice(b"HdrS");
            }
            let _ = recognise(&bytes);
        }
    }
}
