//! An ELF file of a kernel, read piece by piece.
//!
//! Read and not mapped: these files belong to whoever builds kernels, and a build that cuts one short while it is mapped ends
//! the process that looks at it (`SIGBUS`). What is read is what is needed: the tables at once, names and debug sections
//! when somebody asks.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use object::LittleEndian as Le;
use object::elf;
use object::read::elf::{FileHeader, SectionHeader};
use object::read::{CompressedData, CompressionFormat, ReadCache};

use super::SymbolError;

/// The most that one section may have, as it is in the file and as it is unpacked. `.debug_info` of a kernel with everything
/// in it has some 600 MB.
const MAX_SECTION_BYTES: u64 = 2 << 30;
/// The most sections. A module by `-ffunction-sections` has ten thousands.
const MAX_SECTIONS: usize = 1 << 18;
/// zlib makes nothing smaller than by this (RFC 1951: 258 bytes from 2 bits); what zstd could do more of, DWARF is not.
const MAX_RATIO: u64 = 1032;
/// An ELF64 header of compressed data: `ch_type`, padding, `ch_size`, `ch_addralign`.
const COMPRESSION_HEADER_BYTES: usize = 24;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Linked: its addresses are the kernel's.
    Vmlinux,
    /// `ET_REL`: its sections are placed when it is loaded, and its debug information has to be.
    Module,
}

/// A section, as its header has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: String,
    kind: elf::SectionType,
    flags: u64,
    /// Where it is: by the file's word, or where we have placed it.
    pub(super) address: u64,
    offset: u64,
    pub(super) bytes: u64,
    /// Of relocations: the section they are for.
    pub(super) info: u32,
    align: u64,
}

impl Section {
    /// Whether it has code.
    pub(super) fn is_code(&self) -> bool {
        self.is_loaded() && self.flags & elf::SHF_EXECINSTR.0 != 0
    }

    /// Whether it is in the kernel's memory.
    pub(super) fn is_loaded(&self) -> bool {
        self.flags & elf::SHF_ALLOC.0 != 0
    }

    /// Whether it has relocations with addends.
    pub(super) fn is_rela(&self) -> bool {
        self.kind == elf::SHT_RELA
    }
}

/// An ELF file with debug information.
#[derive(Debug)]
pub(super) struct Elf {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) sections: Vec<Section>,
    file: File,
    length: u64,
}

impl Elf {
    /// Opens a vmlinux or a module, and sees that there is something to be had from it.
    pub(super) fn open(path: &Path, kind: Kind) -> Result<Self, SymbolError> {
        let unreadable = |source| SymbolError::Unreadable { path: path.into(), source };
        let file = File::open(path).map_err(unreadable)?;
        let about = file.metadata().map_err(unreadable)?;
        if !about.is_file() {
            return Err(unreadable(io::Error::other("it is not a file")));
        }
        let mut start = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(&file, 0x206), &mut start).map_err(unreadable)?;
        if !start.starts_with(&elf::ELFMAG) {
            return Err(SymbolError::NotElf { path: path.into(), hint: hint(&start) });
        }
        let damaged = |reason: &str| SymbolError::Damaged { path: path.into(), reason: reason.to_owned() };
        let other_machine = || SymbolError::OtherMachine { path: path.into() };
        let cache = ReadCache::new(file.try_clone().map_err(unreadable)?);
        let header = elf::FileHeader64::<Le>::parse(&cache).map_err(|_| other_machine())?;
        if header.e_machine.get(Le) != elf::EM_X86_64 {
            return Err(other_machine());
        }
        match (header.e_type.get(Le), kind) {
            (elf::ET_EXEC | elf::ET_DYN, Kind::Vmlinux) | (elf::ET_REL, Kind::Module) => {}
            (elf::ET_REL, Kind::Vmlinux) => {
                return Err(SymbolError::OtherKind { path: path.into(), is: "a module", option: "--module" });
            }
            (elf::ET_EXEC | elf::ET_DYN, Kind::Module) => {
                return Err(SymbolError::OtherKind { path: path.into(), is: "no module", option: "--vmlinux" });
            }
            _ => return Err(damaged("it is neither linked nor to be linked")),
        }
        let headers = header.section_headers(Le, &cache).map_err(|_| damaged("it has no whole table of sections"))?;
        if headers.len() > MAX_SECTIONS {
            return Err(damaged("it has too many sections"));
        }
        let names = header.section_strings(Le, &cache, headers).map_err(|_| damaged("its sections have no names"))?;
        let mut sections: Vec<Section> = headers
            .iter()
            .map(|section| Section {
                name: section
                    .name(Le, names)
                    .map(|name| String::from_utf8_lossy(name).into_owned())
                    .unwrap_or_default(),
                kind: section.sh_type.get(Le),
                flags: section.sh_flags.get(Le).0,
                address: section.sh_addr.get(Le),
                offset: section.sh_offset.get(Le),
                bytes: section.sh_size.get(Le),
                info: section.sh_info.get(Le),
                align: section.sh_addralign.get(Le),
            })
            .collect();
        if kind == Kind::Module {
            place(&mut sections);
        }
        let this = Self { path: path.into(), kind, sections, file, length: about.len() };
        if [".debug_info", ".debug_line", ".debug_abbrev"].iter().any(|name| this.section(name).is_none()) {
            return Err(SymbolError::NoDebugInfo { path: path.into() });
        }
        if this.symbol_tables().is_none() {
            return Err(SymbolError::NoSymbols { path: path.into() });
        }
        Ok(this)
    }

    /// A section with a content, by its name.
    pub(super) fn section(&self, name: &str) -> Option<(usize, &Section)> {
        let found = |section: &Section| section.kind != elf::SHT_NOBITS && section.bytes > 0 && section.name == name;
        self.sections.iter().enumerate().find(|(_, section)| found(section))
    }

    /// The table of symbols and that of their names.
    pub(super) fn symbol_tables(&self) -> Option<(&Section, &Section)> {
        let (_, symbols) = self.section(".symtab")?;
        let (_, names) = self.section(".strtab")?;
        (symbols.kind == elf::SHT_SYMTAB).then_some((symbols, names))
    }

    /// A section's content, unpacked.
    pub(super) fn content(&self, section: &Section) -> Result<Vec<u8>, SymbolError> {
        let bytes = self.piece(section, 0, section.bytes)?;
        if section.flags & elf::SHF_COMPRESSED.0 == 0 {
            return Ok(bytes);
        }
        let damaged = |reason: &str| self.damaged(&format!("{}: {reason}", section.name));
        let (header, data) =
            bytes.split_at_checked(COMPRESSION_HEADER_BYTES).ok_or_else(|| damaged("it ends in its header"))?;
        let uncompressed_size = u64_at(header, 8).unwrap_or_default();
        let format = match u32_at(header, 0).map(elf::CompressionType) {
            Some(elf::ELFCOMPRESS_ZLIB) => CompressionFormat::Zlib,
            Some(elf::ELFCOMPRESS_ZSTD) => CompressionFormat::Zstandard,
            _ => return Err(damaged("it is packed in a way that is not known")),
        };
        if uncompressed_size > MAX_SECTION_BYTES.min((data.len() as u64).saturating_mul(MAX_RATIO)) {
            return Err(damaged("it says that it is larger than it can be"));
        }
        let unpacked = CompressedData { format, data, uncompressed_size }.decompress();
        Ok(unpacked.map_err(|error| damaged(&error.to_string()))?.into_owned())
    }

    /// Part of a section's content, as it is in the file.
    pub(super) fn piece(&self, section: &Section, from: u64, bytes: u64) -> Result<Vec<u8>, SymbolError> {
        let end = |start: u64, bytes: u64| start.checked_add(bytes);
        let inside = end(from, bytes).is_some_and(|end| end <= section.bytes);
        let start = end(section.offset, from);
        let there = start.and_then(|start| end(start, bytes)).is_some_and(|end| end <= self.length);
        let length = usize::try_from(bytes).ok().filter(|_| bytes <= MAX_SECTION_BYTES);
        let (true, true, Some(start), Some(length)) = (inside, there, start, length) else {
            return Err(self.damaged(&format!("{} is not where it should be", section.name)));
        };
        let mut content = vec![0; length];
        self.file
            .read_exact_at(&mut content, start)
            .map_err(|source| SymbolError::Unreadable { path: self.path.clone(), source })?;
        Ok(content)
    }

    pub(super) fn damaged(&self, reason: &str) -> SymbolError {
        SymbolError::Damaged { path: self.path.clone(), reason: reason.to_owned() }
    }
}

/// What a file that is no ELF file seems to be.
fn hint(start: &[u8]) -> &'static str {
    let magic = |magic: &[u8]| start.starts_with(magic);
    if start.get(0x202..) == Some(b"HdrS") {
        ": it is a bzImage, and debug information is in the vmlinux that the same build has left"
    } else if magic(b"\xfd7zXZ") || magic(b"\x1f\x8b") || magic(&[0x28, 0xb5, 0x2f, 0xfd]) {
        ": it is packed; unpack it first (xz -d, gzip -d, zstd -d)"
    } else {
        ", and functions and lines are in ELF files: give a vmlinux or a .ko"
    }
}

/// Places a module's sections one after the other, as the kernel does when it loads it. Where is of no account, as long as no
/// two are in one place and none is at 0, which in DWARF stands for code that is not there.
fn place(sections: &mut [Section]) {
    let mut next = 0x1_0000_u64;
    for section in sections.iter_mut().filter(|section| section.is_loaded()) {
        let align = if section.align.is_power_of_two() { section.align.min(1 << 21) } else { 1 };
        let address = next.checked_next_multiple_of(align);
        let end = address.and_then(|address| address.checked_add(section.bytes)).and_then(|end| end.checked_add(1));
        // One that claims more than there are addresses has none.
        (section.address, next) = address.zip(end).unwrap_or((0, next));
    }
}

/// A little-endian number.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// A little-endian number.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
