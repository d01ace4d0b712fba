//! Debug sections of a module, put in order: in an `ET_REL` file every address in them, and every reference from one section
//! to another, is a relocation that is still to be applied.

use object::elf::{R_X86_64_32, R_X86_64_32S, R_X86_64_64, R_X86_64_NONE, RelocationType};

use super::SymbolError;
use super::elf::{Elf, u32_at, u64_at};

/// Bytes of an `Elf64_Rela`, and of an `Elf64_Sym`.
const RELA_BYTES: usize = 24;
const SYMBOL_BYTES: usize = 24;

/// Where the symbols of a module are, by index. None for one of another file.
#[derive(Debug)]
pub(super) struct Values(Vec<Option<u64>>);

impl Values {
    /// Reads the module's table of symbols.
    pub(super) fn read(elf: &Elf) -> Result<Self, SymbolError> {
        let (symbols, _) = elf.symbol_tables().ok_or_else(|| SymbolError::NoSymbols { path: elf.path.clone() })?;
        let value = |entry: &[u8]| {
            let index = usize::from(u16::from_le_bytes(entry.get(6..8)?.try_into().ok()?));
            // Section 0 is for symbols of other files. Sections that are not loaded have the address 0, as references
            // between debug sections want it.
            let section = elf.sections.get(index).filter(|_| index > 0)?;
            section.address.checked_add(u64_at(entry, 8)?)
        };
        Ok(Self(elf.content(symbols)?.chunks_exact(SYMBOL_BYTES).map(value).collect()))
    }
}

/// Applies the relocations of the section with this index to its content.
pub(super) fn relocate(elf: &Elf, index: usize, content: &mut [u8], values: &Values) -> Result<(), SymbolError> {
    for section in elf.sections.iter().filter(|section| section.is_rela() && section.info as usize == index) {
        for entry in elf.content(section)?.chunks_exact(RELA_BYTES) {
            apply(entry, content, values)
                .ok_or_else(|| elf.damaged(&format!("{} has a relocation that cannot be applied", section.name)))?;
        }
    }
    Ok(())
}

/// Applies one `Elf64_Rela`.
fn apply(entry: &[u8], content: &mut [u8], values: &Values) -> Option<()> {
    let (offset, info, addend) = (u64_at(entry, 0)?, u64_at(entry, 8)?, u64_at(entry, 16)?);
    let symbol = usize::try_from(info >> 32).ok()?;
    // The low half is the type (psABI x86-64, 4.4).
    let bytes = match RelocationType(u32_at(entry, 8)?) {
        R_X86_64_64 => 8,
        R_X86_64_32 | R_X86_64_32S => 4,
        R_X86_64_NONE => return Some(()),
        _ => return None,
    };
    let start = usize::try_from(offset).ok()?;
    let target = content.get_mut(start..start.checked_add(bytes)?)?;
    // What is elsewhere has no place here: 0, which DWARF takes for nowhere.
    let value = values.0.get(symbol)?.map_or(0, |value| value.wrapping_add(addend));
    target.copy_from_slice(value.to_le_bytes().get(..bytes)?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rela(offset: u64, symbol: u64, kind: RelocationType, addend: i64) -> Vec<u8> {
        [offset, symbol << 32 | u64::from(kind.0), addend.cast_unsigned()]
            .iter()
            .flat_map(|part| part.to_le_bytes())
            .collect()
    }

    #[test]
    fn addresses_and_references_are_written_where_they_belong() {
        let values = Values(vec![None, Some(0x1_0000)]);
        let mut content = vec![0xff; 16];
        apply(&rela(0, 1, R_X86_64_64, 0x20), &mut content, &values).unwrap();
        apply(&rela(8, 1, R_X86_64_32, -1), &mut content, &values).unwrap();
        apply(&rela(12, 0, R_X86_64_32, 5), &mut content, &values).unwrap();
        assert_eq!(content, [&0x1_0020_u64.to_le_bytes()[..], &0xffff_u32.to_le_bytes(), &[0; 4]].concat());
    }

    #[test]
    fn what_points_elsewhere_is_refused() {
        let values = Values(vec![Some(1)]);
        let mut content = vec![0; 8];
        for entry in [
            rela(1, 0, R_X86_64_64, 0),
            rela(u64::MAX, 0, R_X86_64_64, 0),
            rela(0, 1, R_X86_64_64, 0),
            rela(0, 0, RelocationType(0xffff), 0),
        ] {
            assert_eq!(apply(&entry, &mut content, &values), None);
        }
        assert_eq!(content, [0; 8]);
    }
}
