//! Modules that are loaded: where their text is, how to unwind in it, and its symbols.

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
}

/// The modules in the kernel's list `modules`, whose head is at an address.
pub(super) fn modules(memory: &dyn Memory, btf: &Btf, head: u64) -> Vec<Module> {
    let Some(layout) = Layout::of(btf) else { return Vec::new() };
    let mut modules = Vec::new();
    let mut link = memory.u64(head);
    while let Some(at) = link.filter(|&at| at != head) {
        if modules.len() >= MOST_MODULES {
            break;
        }
        let Some(module) = at.checked_sub(layout.list).and_then(|module| read(memory, &layout, module)) else { break };
        modules.push(module);
        link = memory.u64(at);
    }
    modules
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
    })
}

impl Module {
    /// Whether an address is in its text.
    pub(super) fn has(&self, address: u64) -> bool {
        self.texts.iter().any(|&(start, end)| (start..end).contains(&address))
    }

    /// The symbol that an address of its text belongs to (`find_kallsyms_symbol()` of kernel/module/kallsyms.c).
    pub(super) fn lookup(&self, memory: &dyn Memory, address: u64) -> Option<Found> {
        let &(_, end) = self.texts.iter().find(|(start, end)| (*start..*end).contains(&address))?;
        let mut bytes = vec![0; self.count as usize * SYMBOL_BYTES];
        if !memory.read(self.symbols, &mut bytes) {
            return None;
        }
        let (mut best, mut next) = (None, end);
        for symbol in bytes.chunks_exact(SYMBOL_BYTES) {
            let (name, section, value) = (u32_at(symbol, 0)?, u16_at(symbol, 6)?, u64_at(symbol, 8)?);
            // Undefined, or nobody's.
            if section == 0 || name == 0 {
                continue;
            }
            if value > address {
                next = next.min(value);
            } else if best.is_none_or(|(at, _)| at < value) && self.is_function(memory, name) {
                best = Some((value, name));
            }
        }
        let (value, name) = best?;
        let name = memory.text(self.names.checked_add(u64::from(name))?, SYMBOL_NAME_BYTES)?;
        Some(Found { name, offset: address - value, size: next - value })
    }

    /// Symbols without a name and those that only mark a place in the text are not told (`is_mapping_symbol()`).
    fn is_function(&self, memory: &dyn Memory, name: u32) -> bool {
        let first = self.names.checked_add(u64::from(name)).and_then(|at| memory.u8(at));
        first.is_some_and(|first| first != 0 && first != b'.' && first != b'$')
    }
}
