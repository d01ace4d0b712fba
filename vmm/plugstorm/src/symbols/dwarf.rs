//! Debug information (DWARF 2 to 5), and what it says of an address.
//!
//! `gimli` reads the format; finding the unit, the function and what is inlined there is done here, and not by the crate
//! `addr2line`, for two reasons. That one enters a call for each level of nesting, and a file may have as many levels as
//! it has bytes. And it keeps tables of everything it has met, which pays for profilers: a report asks for a hundred
//! addresses once.

use std::time::{Duration, Instant};

use gimli::{DebugInfoOffset, EndianSlice, LittleEndian, SectionId, UnitRef};

use super::SymbolError;
use super::elf::{Elf, Kind};
use super::relocate::{Values, relocate};
use super::{inlined, lines};

pub(super) type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// The sections that are read.
const SECTIONS: [SectionId; 9] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
];
/// How long all units are looked through, and one address is looked up. No file of a kernel comes near; one in which every
/// entry refers to the same endless list would take years.
const MAX_INDEXING: Duration = Duration::from_secs(60);
const MAX_LOOKING: Duration = Duration::from_secs(5);

/// Until when something may go on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience(Option<Instant>);

impl Patience {
    pub(super) fn new(time: Duration) -> Self {
        Self(Instant::now().checked_add(time))
    }

    /// Fails when it is over.
    pub(super) fn check(self) -> gimli::Result<()> {
        match self.0 {
            Some(end) if Instant::now() > end => Err(gimli::Error::UnexpectedEof(gimli::ReaderOffsetId(0))),
            _ => Ok(()),
        }
    }
}

/// Where code is from. All of it is the file's word.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RawFrame {
    pub(super) function: Option<String>,
    /// With its folders as far as they are known.
    pub(super) file: Option<String>,
    pub(super) line: Option<u64>,
}

/// Addresses of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    begin: u64,
    end: u64,
    /// The unit's place in `.debug_info`.
    unit: usize,
    /// The furthest end of this one and all before it.
    reach: u64,
}

/// Debug information of a file.
#[derive(Debug)]
pub(super) struct Dwarf {
    content: Vec<(SectionId, Vec<u8>)>,
    /// By their beginnings.
    spans: Vec<Span>,
    /// The places of all units, in order.
    units: Vec<usize>,
    /// The folder that units were compiled in, of the first one that says so.
    pub(super) folder: Option<String>,
    /// What the units' own files have in common that are named by a path from the root, if any are.
    pub(super) sources: Option<String>,
}

impl Dwarf {
    /// Reads the sections, and which addresses each unit has.
    pub(super) fn read(elf: &Elf) -> Result<Self, SymbolError> {
        let values = match elf.kind {
            Kind::Vmlinux => None,
            Kind::Module => Some(Values::read(elf)?),
        };
        let mut content = Vec::new();
        for id in SECTIONS {
            let Some((index, section)) = elf.section(id.name()) else { continue };
            let mut bytes = elf.content(section)?;
            if let Some(values) = &values {
                relocate(elf, index, &mut bytes, values)?;
            }
            content.push((id, bytes));
        }
        let mut this = Self { content, spans: Vec::new(), units: Vec::new(), folder: None, sources: None };
        this.index().map_err(|error| elf.damaged(&format!(".debug_info: {error}")))?;
        Ok(this)
    }

    fn dwarf(&self) -> gimli::Dwarf<Reader<'_>> {
        let section = |id| {
            let found = self.content.iter().find(|(other, _)| *other == id);
            EndianSlice::new(found.map_or(&[][..], |(_, bytes)| bytes), LittleEndian)
        };
        // The closure does not fail.
        gimli::Dwarf::load(|id| Ok::<_, gimli::Error>(section(id))).unwrap_or_default()
    }

    fn index(&mut self) -> gimli::Result<()> {
        let patience = Patience::new(MAX_INDEXING);
        let (mut spans, mut offsets) = (Vec::new(), Vec::new());
        let (mut folder, mut sources) = (None, None);
        let dwarf = self.dwarf();
        let mut units = dwarf.units();
        while let Some(header) = units.next()? {
            patience.check()?;
            let Some(DebugInfoOffset(offset)) = header.debug_info_offset() else { continue };
            offsets.push(offset);
            // A unit that cannot be read is no reason to do without the others.
            let Ok(unit) = dwarf.unit(header) else { continue };
            let unit = unit.unit_ref(&dwarf);
            let _ = inlined::root_ranges(unit, patience, |begin, end| {
                spans.push(Span { begin, end, unit: offset, reach: 0 });
            });
            let text = |reader: Option<Reader<'_>>| reader.map(|reader| lines::text(&reader));
            folder = folder.or_else(|| text(unit.comp_dir));
            if let Some(name) = text(unit.name) {
                lines::common_folder(&mut sources, &name, folder.as_deref());
            }
        }
        spans.sort_unstable();
        let mut reach = 0;
        for span in &mut spans {
            reach = span.end.max(reach);
            span.reach = reach;
        }
        (self.spans, self.units, self.folder, self.sources) = (spans, offsets, folder, sources);
        Ok(())
    }

    /// What is at an address: the innermost of the functions inlined there first, the function itself last. Nothing if the
    /// file does not say.
    pub(super) fn frames(&self, address: u64) -> Vec<RawFrame> {
        let dwarf = self.dwarf();
        let patience = Patience::new(MAX_LOOKING);
        let after = self.spans.partition_point(|span| span.begin <= address);
        let before = self.spans.get(..after).unwrap_or_default().iter().rev();
        // Units lie in each other where one gives a single range for several pieces.
        let around = before.take_while(|span| span.reach > address).filter(|span| span.end > address);
        for span in around {
            if patience.check().is_err() {
                break;
            }
            let found = self.in_unit(&dwarf, span.unit, address, patience).unwrap_or_default();
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    fn in_unit(
        &self,
        dwarf: &gimli::Dwarf<Reader<'_>>,
        offset: usize,
        address: u64,
        patience: Patience,
    ) -> gimli::Result<Vec<RawFrame>> {
        let unit = dwarf.unit(dwarf.unit_header(DebugInfoOffset(offset))?)?;
        let unit = unit.unit_ref(dwarf);
        let names = Names { dwarf, units: &self.units };
        let chain = inlined::chain(unit, address, &names, patience)?;
        let mut at = lines::find(unit, address)?;
        if chain.is_empty() {
            // Assembler has lines and no functions.
            let (file, line) = at.unwrap_or_default();
            return Ok(match file {
                Some(file) => vec![RawFrame { function: None, file: Some(file), line }],
                None => Vec::new(),
            });
        }
        let mut frames = Vec::new();
        // The line table has where the innermost one is; where each of the others is, the one within it says.
        for call in chain.into_iter().rev() {
            let (file, line) = at.take().unwrap_or_default();
            frames.push(RawFrame { function: call.function, file, line });
            at = Some((call.file.and_then(|file| lines::file(unit, file)), call.line));
        }
        Ok(frames)
    }
}

/// Finds what a reference to another unit is to.
pub(super) struct Names<'a, 'd> {
    dwarf: &'a gimli::Dwarf<Reader<'d>>,
    units: &'a [usize],
}

impl<'d> Names<'_, 'd> {
    /// The unit that a place in `.debug_info` is in.
    pub(super) fn unit_around(
        &self,
        DebugInfoOffset(offset): DebugInfoOffset,
    ) -> gimli::Result<gimli::Unit<Reader<'d>>> {
        let after = self.units.partition_point(|&unit| unit <= offset);
        let missing = gimli::Error::NoEntryAtGivenOffset(offset as u64);
        let start = after.checked_sub(1).and_then(|index| self.units.get(index)).ok_or(missing)?;
        self.dwarf.unit(self.dwarf.unit_header(DebugInfoOffset(*start))?)
    }

    pub(super) fn unit_ref<'a>(&'a self, unit: &'a gimli::Unit<Reader<'d>>) -> UnitRef<'a, Reader<'d>> {
        unit.unit_ref(self.dwarf)
    }
}
