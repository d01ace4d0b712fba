//! The function that an address is in, and what is inlined there.

use gimli::{AttributeValue, DebugInfoOffset, EntriesRaw, UnitOffset, UnitRef};

use super::dwarf::{Names, Patience, Reader};
use super::lines;

/// References from an entry to the one that has its name: an inlined function's to what was inlined, that one's to its
/// declaration. More than a few are a circle.
const MAX_REFERENCES: usize = 8;
/// Functions inlined in each other at one address.
const MAX_CHAIN: usize = 64;
/// Entries read between two looks at the clock.
const ENTRIES_A_LOOK: u32 = 4096;

/// A function, or one inlined in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) function: Option<String>,
    /// Where it was called, for one that is inlined: the file's number in the unit's line table.
    pub(super) file: Option<u64>,
    pub(super) line: Option<u64>,
}

/// What of an entry's attributes matters here.
#[derive(Debug, Default)]
struct Entry<'d> {
    low: Option<u64>,
    high: Option<u64>,
    bytes: Option<u64>,
    ranges: Option<AttributeValue<Reader<'d>>>,
    name: Option<AttributeValue<Reader<'d>>>,
    origin: Option<AttributeValue<Reader<'d>>>,
    file: Option<u64>,
    line: Option<u64>,
}

impl<'d> Entry<'d> {
    fn read(
        unit: UnitRef<'_, Reader<'d>>,
        entries: &mut EntriesRaw<'_, Reader<'d>>,
        abbreviation: &gimli::Abbreviation,
    ) -> gimli::Result<Self> {
        let mut this = Self::default();
        for &specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(specification)?;
            let value = attribute.value();
            match attribute.name() {
                gimli::DW_AT_low_pc => this.low = unit.attr_address(value)?,
                gimli::DW_AT_high_pc => match value {
                    AttributeValue::Udata(bytes) => this.bytes = Some(bytes),
                    value => this.high = unit.attr_address(value)?,
                },
                gimli::DW_AT_ranges => this.ranges = Some(value),
                gimli::DW_AT_name => this.name = Some(value),
                gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => this.origin = Some(value),
                gimli::DW_AT_call_file => {
                    this.file = match value {
                        AttributeValue::FileIndex(file) => Some(file),
                        value => value.udata_value(),
                    };
                }
                gimli::DW_AT_call_line => this.line = value.udata_value(),
                _ => {}
            }
        }
        Ok(this)
    }

    /// Hands over its pieces until `take` has had enough. Whether it had.
    fn pieces(
        &self,
        unit: UnitRef<'_, Reader<'d>>,
        patience: Patience,
        mut take: impl FnMut(u64, u64) -> bool,
    ) -> gimli::Result<bool> {
        // Code that the linker has thrown away is at 0, or at the end of all addresses.
        let mut piece = |begin: u64, end: u64| begin != 0 && begin < end && take(begin, end);
        if let Some(value) = self.ranges
            && let Some(offset) = unit.attr_ranges_offset(value)?
        {
            let mut ranges = unit.ranges(offset)?;
            let mut count = 0_u32;
            while let Some(range) = ranges.next()? {
                count = count.wrapping_add(1);
                if count.is_multiple_of(ENTRIES_A_LOOK) {
                    patience.check()?;
                }
                if piece(range.begin, range.end) {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        let Some(low) = self.low else { return Ok(false) };
        let high = self.bytes.map_or(self.high, |bytes| low.checked_add(bytes));
        Ok(high.is_some_and(|high| piece(low, high)))
    }

    fn is_at(&self, unit: UnitRef<'_, Reader<'d>>, address: u64, patience: Patience) -> gimli::Result<bool> {
        self.pieces(unit, patience, |begin, end| (begin..end).contains(&address))
    }
}

/// Hands over the addresses of a unit.
pub(super) fn root_ranges<'d>(
    unit: UnitRef<'_, Reader<'d>>,
    patience: Patience,
    mut take: impl FnMut(u64, u64),
) -> gimli::Result<()> {
    let mut entries = unit.entries_raw(None)?;
    if let Some(abbreviation) = entries.read_abbreviation()? {
        Entry::read(unit, &mut entries, abbreviation)?.pieces(unit, patience, |begin, end| {
            take(begin, end);
            false
        })?;
    }
    Ok(())
}

/// The function at an address, and what is inlined there, from without to within. Nothing if the unit has no function
/// there.
///
/// Goes through the unit's entries in the order in which they lie there. How deep they are nested is of no account.
pub(super) fn chain<'d>(
    unit: UnitRef<'_, Reader<'d>>,
    address: u64,
    names: &Names<'_, 'd>,
    patience: Patience,
) -> gimli::Result<Vec<Call>> {
    let mut entries = unit.entries_raw(None)?;
    let mut chain: Vec<(isize, Entry<'d>)> = Vec::new();
    let mut count = 0_u32;
    while !entries.is_empty() && chain.len() < MAX_CHAIN {
        count = count.wrapping_add(1);
        if count.is_multiple_of(ENTRIES_A_LOOK) {
            patience.check()?;
        }
        let depth = entries.next_depth();
        // What is inlined in a function is below it, and only one of several side by side can be at the address.
        if chain.last().is_some_and(|(last, _)| depth <= *last) {
            break;
        }
        let Some(abbreviation) = entries.read_abbreviation()? else { continue };
        let wanted = if chain.is_empty() { gimli::DW_TAG_subprogram } else { gimli::DW_TAG_inlined_subroutine };
        if abbreviation.tag() != wanted {
            entries.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        let entry = Entry::read(unit, &mut entries, abbreviation)?;
        if entry.is_at(unit, address, patience)? {
            chain.push((depth, entry));
        }
    }
    Ok(chain
        .into_iter()
        .map(|(_, entry)| Call {
            function: name(unit, &entry, names, MAX_REFERENCES),
            file: entry.file,
            line: entry.line,
        })
        .collect())
}

/// The function's name: its own, or that of what it refers to.
fn name<'d>(
    unit: UnitRef<'_, Reader<'d>>,
    entry: &Entry<'d>,
    names: &Names<'_, 'd>,
    references: usize,
) -> Option<String> {
    if let Some(name) = entry.name {
        return Some(lines::text(&unit.attr_string(name).ok()?));
    }
    let references = references.checked_sub(1)?;
    match entry.origin? {
        AttributeValue::UnitRef(offset) => name(unit, &entry_at(unit, offset)?, names, references),
        AttributeValue::DebugInfoRef(offset) => {
            let other = names.unit_around(offset).ok()?;
            let other = names.unit_ref(&other);
            name(other, &entry_at(other, within(other, offset)?)?, names, references)
        }
        _ => None,
    }
}

fn within(unit: UnitRef<'_, Reader<'_>>, offset: DebugInfoOffset) -> Option<UnitOffset> {
    offset.to_unit_offset(&unit.header)
}

fn entry_at<'d>(unit: UnitRef<'_, Reader<'d>>, offset: UnitOffset) -> Option<Entry<'d>> {
    let mut entries = unit.entries_raw(Some(offset)).ok()?;
    let abbreviation = entries.read_abbreviation().ok()??;
    Entry::read(unit, &mut entries, abbreviation).ok()
}
