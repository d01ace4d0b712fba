//! The functions of a file, by name and by address, as the kernel's own table of symbols would have them.

use object::elf::{STT_FILE, STT_SECTION, SymbolType};

use super::SymbolError;
use super::elf::{Elf, Kind, Section, u32_at, u64_at};

/// Bytes of an entry of an ELF64 symbol table.
const SYMBOL_BYTES: usize = 24;

/// A function's address and extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Function {
    pub(super) address: u64,
    /// Where its name is.
    name: u32,
    /// What its own entry says, 0 for a label.
    own_bytes: u64,
    /// Bytes to the next function, or to the end of the section.
    gap: u64,
    /// There is none behind it in its section. What the kernel takes for the next one is in another section, or where its
    /// memory ends.
    is_last: bool,
}

impl Function {
    /// Whether the kernel would print this size for it. The kernel has no sizes: it goes to the next symbol
    /// (kernel/kallsyms.c, `get_symbol_pos()`; kernel/module/kallsyms.c, `find_kallsyms_symbol()`).
    pub(super) fn fits(&self, size: Option<u64>) -> bool {
        size.is_none_or(|size| size == self.gap || self.is_last && size >= self.own_bytes.max(1))
    }

    /// Whether there is something this far into it. The address that a call at its very end returns to is.
    pub(super) fn reaches(&self, offset: u64) -> bool {
        offset <= self.gap
    }
}

/// All functions of a file.
#[derive(Debug)]
pub(super) struct Functions {
    /// `.strtab`.
    names: Vec<u8>,
    by_address: Vec<Function>,
    /// Indices of the same, by name.
    by_name: Vec<u32>,
}

impl Functions {
    /// Reads the file's table of symbols.
    pub(super) fn read(elf: &Elf) -> Result<Self, SymbolError> {
        let (symbols, names) = elf.symbol_tables().ok_or_else(|| SymbolError::NoSymbols { path: elf.path.clone() })?;
        let (symbols, names) = (elf.content(symbols)?, elf.content(names)?);
        let mut found: Vec<(usize, Function)> =
            symbols.chunks_exact(SYMBOL_BYTES).filter_map(|entry| function(entry, &names, elf)).collect();
        found.sort_unstable();
        found.dedup();
        measure(&mut found, &elf.sections);
        let mut by_address: Vec<Function> = found.into_iter().map(|(_, function)| function).collect();
        // Sections of one file do not lie in each other, but its word for it is all we have.
        by_address.sort_unstable();
        let mut by_name: Vec<u32> = (0..u32::try_from(by_address.len()).unwrap_or(u32::MAX)).collect();
        let mut this = Self { names, by_address, by_name: Vec::new() };
        by_name.sort_by_cached_key(|&index| this.at(index).map(|function| this.name(function).to_vec()));
        this.by_name = by_name;
        Ok(this)
    }

    /// The address of a symbol of any sort, of a file whose functions are of no interest yet.
    pub(super) fn any_symbol(elf: &Elf, name: &[u8]) -> Option<u64> {
        let (symbols, names) = elf.symbol_tables()?;
        let (symbols, names) = (elf.content(symbols).ok()?, elf.content(names).ok()?);
        let mut entries = symbols.chunks_exact(SYMBOL_BYTES);
        let found = entries.find(|entry| u32_at(entry, 0).is_some_and(|at| string(&names, at) == name))?;
        u64_at(found, 8)
    }

    /// All functions of this name.
    pub(super) fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Function> {
        let key = |&index: &u32| self.at(index).map(|function| self.name(function));
        let start = self.by_name.partition_point(|index| key(index) < Some(name.as_bytes()));
        let rest = self.by_name.get(start..).unwrap_or_default().iter();
        rest.take_while(move |index| key(index) == Some(name.as_bytes())).filter_map(|&index| self.at(index))
    }

    /// The function that an address is in, and how far.
    pub(super) fn around(&self, address: u64) -> Option<(String, u64)> {
        let after = self.by_address.partition_point(|function| function.address <= address);
        let function = self.by_address.get(after.checked_sub(1)?)?;
        let offset = address - function.address;
        (offset < function.gap).then(|| (String::from_utf8_lossy(self.name(function)).into_owned(), offset))
    }

    fn at(&self, index: u32) -> Option<&Function> {
        self.by_address.get(index as usize)
    }

    fn name(&self, function: &Function) -> &[u8] {
        string(&self.names, function.name)
    }
}

/// Reads an entry (`Elf64_Sym`), if it is a function's: its section, and what is known of it by itself.
fn function(entry: &[u8], names: &[u8], elf: &Elf) -> Option<(usize, Function)> {
    let name = u32_at(entry, 0)?;
    let kind = SymbolType(entry.get(4)? & 0xf);
    let index = usize::from(u16::from_le_bytes(entry.get(6..8)?.try_into().ok()?));
    let section = elf.sections.get(index).filter(|section| section.is_code())?;
    let text = string(names, name);
    // What scripts/mksysmap and is_mapping_symbol() leave out: labels within functions.
    let is_label = text.is_empty() || text.starts_with(b".L") || text.starts_with(b"$");
    if is_label || matches!(kind, STT_SECTION | STT_FILE) {
        return None;
    }
    let value = u64_at(entry, 8)?;
    let address = match elf.kind {
        Kind::Vmlinux => value,
        // In a module symbols count from their section's beginning.
        Kind::Module => section.address.checked_add(value)?,
    };
    Some((index, Function { address, name, own_bytes: u64_at(entry, 16)?, gap: 0, is_last: false }))
}

/// How far each goes, of functions sorted by section and address.
fn measure(found: &mut [(usize, Function)], sections: &[Section]) {
    let mut after: Option<(usize, u64, u64)> = None;
    for (index, function) in found.iter_mut().rev() {
        let end = sections.get(*index).map_or(0, |section| section.address.saturating_add(section.bytes));
        // Several names for one address have one extent.
        let next = match after {
            Some((section, address, next)) if section == *index => {
                if address == function.address {
                    next
                } else {
                    address
                }
            }
            _ => end,
        };
        after = Some((*index, function.address, next));
        function.gap = next.saturating_sub(function.address);
        function.is_last = next == end;
    }
}

/// The string at `at` of a table, without its end.
fn string(table: &[u8], at: u32) -> &[u8] {
    let rest = table.get(at as usize..).unwrap_or_default();
    // A symbol's name has at most KSYM_NAME_LEN bytes in the kernel.
    let rest = rest.get(..512).unwrap_or(rest);
    rest.split(|&byte| byte == 0).next().unwrap_or_default()
}
