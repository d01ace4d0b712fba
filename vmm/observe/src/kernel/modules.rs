//! Modules that are loaded: where their text is, how to unwind in it, and its symbols.

use std::sync::OnceLock;

use super::btf::Btf;
use super::kallsyms::Found;
use super::memory::{Memory, u16_at, u32_at, u64_at};
use super::orc::Table;

/// Modules; a stock kernel loads some hundred on a desktop.
const MOST_MODULES: usize = 512;
/// `MODULE_NAME_LEN`.
const NAME_BYTES: usize = 56;
const SYMBOL_NAME_BYTES: usize = 512;
/// Symbols of one module.
const MOST_SYMBOLS: u32 = 1 << 17;
/// Symbols of all modules; each costs a look at its name. Debian's desktop has some 0.2 million.
const MOST_SYMBOLS_OF_ALL: u32 = 1 << 20;
/// `Elf64_Sym`.
const SYMBOL_BYTES: usize = 24;
/// `MOD_TEXT` and `MOD_INIT_TEXT` of `enum mod_mem_type` (include/linux/module.h, since 6.4).
const TEXTS: [u64; 2] = [0, 4];

/// Where things are in `struct module`.
#[derive(Debug, Clone)]
struct Layout {
    list: u64,
    name: u64,
    /// Base and size of each piece of text.
    texts: Vec<(u64, u64)>,
    kallsyms: u64,
    symtab: u64,
    num_symtab: u64,
    strtab: u64,
    num_orcs: u64,
    orc_distances: u64,
    orc_entries: u64,
}

impl Layout {
    fn of(btf: &Btf) -> Option<Self> {
        let module = |path: &[&str]| btf.offset("module", path);
        let texts = match (module(&["mem"]), btf.size("module_memory")) {
            (Some(mem), Some(size)) => {
                let (base, bytes) = (btf.offset("module_memory", &["base"])?, btf.offset("module_memory", &["size"])?);
                TEXTS.iter().map(|index| mem + index * size).map(|piece| (piece + base, piece + bytes)).collect()
            }
            // Before 6.4, text is the first part of one piece.
            _ => ["core_layout", "init_layout"]
                .iter()
                .map(|layout| Some((module(&[layout, "base"])?, module(&[layout, "text_size"])?)))
                .collect::<Option<Vec<_>>>()?,
        };
        Some(Self {
            list: module(&["list"])?,
            name: module(&["name"])?,
            texts,
            kallsyms: module(&["kallsyms"])?,
            symtab: btf.offset("mod_kallsyms", &["symtab"])?,
            num_symtab: btf.offset("mod_kallsyms", &["num_symtab"])?,
            strtab: btf.offset("mod_kallsyms", &["strtab"])?,
            num_orcs: module(&["arch", "num_orcs"])?,
            orc_distances: module(&["arch", "orc_unwind_ip"])?,
            orc_entries: module(&["arch", "orc_unwind"])?,
        })
    }
}

/// A loaded module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    pub(super) name: String,
    /// Start and end of each piece of its text.
    texts: Vec<(u64, u64)>,
    pub(super) orc: Table,
    symbols: u64,
    names: u64,
    count: u32,
    /// Read when first asked for: a stack has many frames in one module.
    functions: OnceLock<Vec<Function>>,
}

/// A symbol of a module's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Function {
    address: u64,
    /// Where its name is, from the module's names on.
    name: u32,
}

/// The modules in the kernel's list `modules`, whose head is at an address. Nothing if it does not tell what a module is.
pub(super) fn modules(memory: &dyn Memory, btf: &Btf, head: u64) -> Option<Vec<Module>> {
    let layout = Layout::of(btf)?;
    let mut modules: Vec<Module> = Vec::new();
    let mut symbols_left = MOST_SYMBOLS_OF_ALL;
    let mut link = memory.u64(head);
    while let Some(at) = link.filter(|&at| at != head) {
        if modules.len() >= MOST_MODULES {
            break;
        }
        let module = at.checked_sub(layout.list).and_then(|module| read(memory, &layout, module));
        let Some(mut module) = module else { break };
        module.count = module.count.min(symbols_left);
        symbols_left -= module.count;
        modules.push(module);
        link = memory.u64(at);
    }
    Some(modules)
}

fn read(memory: &dyn Memory, layout: &Layout, module: u64) -> Option<Module> {
    let u64 = |offset| memory.u64(module.checked_add(offset)?);
    let u32 = |offset| memory.u32(module.checked_add(offset)?);
    let texts = layout.texts.iter().filter_map(|&(base, size)| {
        let start = u64(base)?;
        Some((start, start.checked_add(u64::from(u32(size)?))?))
    });
    let kallsyms = u64(layout.kallsyms)?;
    let of_kallsyms = |offset| kallsyms.checked_add(offset);
    Some(Module {
        name: memory.text(module.checked_add(layout.name)?, NAME_BYTES)?,
        texts: texts.filter(|(start, end)| start < end).collect(),
        orc: Table {
            distances: u64(layout.orc_distances)?,
            entries: u64(layout.orc_entries)?,
            count: u64::from(u32(layout.num_orcs)?),
        },
        // While a module is being loaded it has none.
        symbols: of_kallsyms(layout.symtab).and_then(|at| memory.u64(at)).unwrap_or(0),
        names: of_kallsyms(layout.strtab).and_then(|at| memory.u64(at)).unwrap_or(0),
        count: of_kallsyms(layout.num_symtab).and_then(|at| memory.u32(at)).unwrap_or(0).min(MOST_SYMBOLS),
        functions: OnceLock::new(),
    })
}

impl Module {
    /// Whether an address is in its text.
    pub(super) fn has(&self, address: u64) -> bool {
        self.texts.iter().any(|&(start, end)| (start..end).contains(&address))
    }

    /// The symbol that an address of its text belongs to (`find_kallsyms_symbol()` of kernel/module/kallsyms.c): of several at one
    /// address the first.
    pub(super) fn lookup(&self, memory: &dyn Memory, address: u64) -> Option<Found> {
        let &(_, end) = self.texts.iter().find(|(start, end)| (*start..*end).contains(&address))?;
        let functions = self.functions.get_or_init(|| self.functions(memory).unwrap_or_default());
        let after = functions.partition_point(|function| function.address <= address);
        let last = functions.get(after.checked_sub(1)?)?;
        let first = functions.get(functions.partition_point(|function| function.address < last.address))?;
        let name = memory.text(self.names.checked_add(u64::from(first.name))?, SYMBOL_NAME_BYTES)?;
        let next = functions.get(after).map_or(end, |next| next.address.min(end));
        Some(Found { name, offset: address - first.address, size: next - first.address })
    }

    /// All its symbols in the order of their addresses, of those at one address as the module has them.
    fn functions(&self, memory: &dyn Memory) -> Option<Vec<Function>> {
        let mut bytes = vec![0; self.count as usize * SYMBOL_BYTES];
        if !memory.read(self.symbols, &mut bytes) {
            return None;
        }
        let mut functions = Vec::new();
        for symbol in bytes.chunks_exact(SYMBOL_BYTES) {
            let (name, section, address) = (u32_at(symbol, 0)?, u16_at(symbol, 6)?, u64_at(symbol, 8)?);
            // Undefined, or nobody's.
            if section != 0 && name != 0 && self.is_function(memory, name) {
                functions.push(Function { address, name });
            }
        }
        functions.sort_by_key(|function| function.address);
        Some(functions)
    }

    /// Symbols without a name and those that only mark a place in the text are not told (`is_mapping_symbol()`).
    fn is_function(&self, memory: &dyn Memory, name: u32) -> bool {
        let first = self.names.checked_add(u64::from(name)).and_then(|at| memory.u8(at));
        first.is_some_and(|first| first != 0 && first != b'.' && first != b'$')
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const BASE: u64 = 0xffff_ffff_c000_0000;

    /// Bytes from an address on, and how many were read of them.
    struct Counted {
        bytes: Vec<u8>,
        read: Cell<usize>,
    }

    impl Memory for Counted {
        fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
            self.read.set(self.read.get() + bytes.len());
            let start = usize::try_from(address - BASE).unwrap();
            self.bytes.get(start..start + bytes.len()).map(|own| bytes.copy_from_slice(own)).is_some()
        }
    }

    /// A module with symbols: name, section, address.
    fn module(symbols: &[(&str, u16, u64)]) -> (Module, Counted) {
        let (mut table, mut names) = (Vec::new(), vec![0]);
        for (name, section, address) in symbols {
            table.extend(u32::try_from(names.len()).unwrap().to_le_bytes());
            table.extend([0, 0]);
            table.extend(section.to_le_bytes());
            table.extend(address.to_le_bytes());
            table.extend([0; 8]);
            names.extend(name.bytes());
            names.push(0);
        }
        let module = Module {
            name: "gpio_virtio".to_owned(),
            texts: vec![(BASE, BASE + 0x1000)],
            orc: Table { distances: 0, entries: 0, count: 0 },
            symbols: BASE,
            names: BASE + table.len() as u64,
            count: u32::try_from(symbols.len()).unwrap(),
            functions: OnceLock::new(),
        };
        let mut bytes = [table, names].concat();
        bytes.resize(bytes.len() + SYMBOL_NAME_BYTES, 0);
        (module, Counted { bytes, read: Cell::new(0) })
    }

    #[test]
    fn an_address_belongs_to_the_function_before_it() {
        let (module, memory) = module(&[
            ("second", 1, BASE + 0x200),
            ("undefined", 0, BASE + 0x110),
            ("first", 1, BASE + 0x100),
            ("alias", 1, BASE + 0x100),
            (".L1", 1, BASE + 0x120),
            ("data", 2, BASE + 0x2000),
        ]);
        let told = |address| module.lookup(&memory, address).map(|found| (found.name, found.offset, found.size));
        assert_eq!(told(BASE + 0x130), Some(("first".to_owned(), 0x30, 0x100)));
        assert_eq!(told(BASE + 0x200), Some(("second".to_owned(), 0, 0xe00)));
        assert_eq!([told(BASE + 0x50), told(BASE + 0x2010)], [None, None]);
    }

    #[test]
    fn a_table_of_symbols_is_read_once() {
        let names: Vec<String> = (0..5000).map(|number| format!("work_{number}")).collect();
        let symbols: Vec<_> = (0..).zip(&names).map(|(number, name)| (name.as_str(), 1, BASE + number / 2)).collect();
        let (module, memory) = module(&symbols);
        for address in 0..1000 {
            assert!(module.lookup(&memory, BASE + address).is_some());
        }
        assert!(memory.read.get() < 3 * memory.bytes.len(), "{} of {}", memory.read.get(), memory.bytes.len());
    }
}
