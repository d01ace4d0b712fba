//! A kernel read out of its own memory, from outside: for guests that do not speak any more.
//!
//! All that is needed is in the memory of a running kernel: its symbols (kallsyms), the tables that its own unwinder goes by (ORC),
//! and, in stock kernels, the layout of its structures (BTF), and so its tasks and modules. So it works for any image, however it was
//! compressed and wherever it was put (KASLR), and needs no file of it.
//!
//! A guest can write anything there. Nothing here trusts it: reads are bounded, lists end, and no arithmetic on what was
//! read can fail but into "not found".

mod btf;
mod find;
mod kallsyms;
mod memory;
mod modules;
mod orc;
mod tasks;
mod unwind;

#[cfg(test)]
mod tests;

use btf::Btf;
pub use kallsyms::Symbols;
pub use memory::Memory;
use modules::Module;
use orc::{Entry, Layout, Table};
use tasks::Hook;
pub use tasks::{Task, TaskList};
pub use unwind::{Frame, MOST_FRAMES, Registers};

/// What a task leaves on its stack when it is switched away from (`struct inactive_task_frame` of
/// arch/x86/include/asm/switch_to.h): r15, r14, r13, r12, bx, bp and the return address.
const INACTIVE_BP: u64 = 40;
const INACTIVE_RETURN: u64 = 48;
const INACTIVE_BYTES: u64 = 56;

/// Where modules begin: without and with KASLR, which gives the image twice the room.
const MODULES: u64 = 0xffff_ffff_a000_0000;
const MODULES_RANDOMIZED: u64 = 0xffff_ffff_c000_0000;
const MODULES_END: u64 = 0xffff_ffff_ff00_0000;

/// A running kernel.
#[derive(Debug)]
pub struct Kernel {
    symbols: Symbols,
    /// Its own text, and that which it has thrown away after its start: the outermost frames of a CPU's idle task are there.
    texts: Vec<(u64, u64)>,
    orc: Option<(Table, Layout)>,
    /// What is left out of a task's stack: the scheduler's and the locks' own text (`in_sched_functions()`).
    scheduler: Vec<(u64, u64)>,
    /// Nothing where the kernel does not tell.
    modules: Option<Vec<Module>>,
    tasks: Option<tasks::Layout>,
    init_task: Option<u64>,
    /// `current_task` or the structure it is in, as an offset from a CPU's own data.
    current: Option<u64>,
    jiffies: Option<u64>,
    /// What return probes put in the place of return addresses.
    trampoline: Option<u64>,
}

impl Kernel {
    /// Finds the kernel whose system call entry is at this address (the register `IA32_LSTAR`). Nothing if `memory` does not show its
    /// symbols: a kernel without `CONFIG_KALLSYMS`, one that has hardly begun, or page tables of user mode.
    #[must_use]
    pub fn find(memory: &dyn Memory, system_call: u64) -> Option<Self> {
        let symbols = find::symbols(memory, system_call)?;
        let addresses = symbols.addresses(&NAMES);
        let address = |name: &str| NAMES.iter().position(|known| *known == name).and_then(|at| *addresses.get(at)?);
        let between =
            |start: &str, end: &str| Some((address(start)?, address(end)?)).filter(|(start, end)| start < end);
        let orc = between("__start_orc_unwind_ip", "__stop_orc_unwind_ip").and_then(|(start, end)| {
            let entries = address("__start_orc_unwind")?;
            let table = Table { distances: start, entries, count: (end - start) / 4 };
            // The header came with the layout that it is the checksum of.
            let layout = match address("__start_orc_header") {
                Some(_) => Layout::TypeAndSignal,
                None if table.has_fourth_flag(memory) => return None,
                None => Layout::TypeAndEnd,
            };
            Some((table, layout))
        });
        let btf = between("__start_BTF", "__stop_BTF").and_then(|(start, end)| Btf::read(memory, start, end));
        let tasks = btf.as_ref().and_then(tasks::Layout::of);
        let current = match tasks.as_ref().and_then(|layout| layout.hot_current) {
            Some(offset) => address("pcpu_hot").and_then(|hot| hot.checked_add(offset)),
            None => address("current_task"),
        };
        let modules = btf.as_ref().zip(address("modules"));
        Some(Self {
            texts: [Some(between("_stext", "_etext")?), between("_sinittext", "_einittext")]
                .into_iter()
                .flatten()
                .collect(),
            orc,
            scheduler: [
                ("__sched_text_start", "__sched_text_end"),
                ("__lock_text_start", "__lock_text_end"),
                ("__spinlock_text_start", "__spinlock_text_end"),
            ]
            .iter()
            .filter_map(|(start, end)| between(start, end))
            .collect(),
            modules: modules.and_then(|(btf, head)| modules::modules(memory, btf, head)),
            tasks,
            init_task: address("init_task"),
            current,
            jiffies: address("jiffies_64").or_else(|| address("jiffies")),
            trampoline: address("arch_rethook_trampoline"),
            symbols,
        })
    }

    /// Its symbols.
    #[must_use]
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// Whether it tells of its tasks and modules: the kernel was built with `CONFIG_DEBUG_INFO_BTF`.
    #[must_use]
    pub fn knows_its_tasks(&self) -> bool {
        self.tasks.is_some() && self.init_task.is_some()
    }

    /// Timer ticks that it has counted.
    #[must_use]
    pub fn ticks(&self, memory: &dyn Memory) -> Option<u64> {
        memory.u64(self.jiffies?)
    }

    /// All tasks but those that CPUs are idle with; none where the kernel does not tell.
    #[must_use]
    pub fn tasks(&self, memory: &dyn Memory) -> TaskList {
        match (&self.tasks, self.init_task) {
            (Some(layout), Some(init)) => tasks::all(memory, layout, init),
            _ => TaskList::default(),
        }
    }

    /// The task that a CPU executes, by the base of its own data (`GS` in kernel mode).
    #[must_use]
    pub fn current(&self, memory: &dyn Memory, own_data: u64) -> Option<Task> {
        let task = memory.u64(own_data.wrapping_add(self.current?))?;
        tasks::read(memory, self.tasks.as_ref()?, task)
    }

    /// The stack of a processor in kernel mode. `current` is the task that it executes, if that is known: without it, callers are
    /// not known of functions with return probes.
    #[must_use]
    pub fn unwind(&self, memory: &dyn Memory, registers: &Registers, current: Option<&Task>) -> Vec<Frame> {
        unwind::unwind(memory, &self.at(memory, current), registers, true)
    }

    fn at<'a>(&'a self, memory: &'a dyn Memory, task: Option<&Task>) -> At<'a> {
        let hooks = task.zip(self.tasks.as_ref()).map(|(task, layout)| tasks::hooks(memory, layout, task.address));
        At { kernel: self, memory, hooks: hooks.unwrap_or_default() }
    }

    /// The stack of a task that no processor executes, without the scheduler's own functions: as /proc/PID/stack has it.
    #[must_use]
    pub fn unwind_task(&self, memory: &dyn Memory, task: &Task) -> Vec<Frame> {
        let word = |offset| task.sp.checked_add(offset).and_then(|at| memory.u64(at));
        let (Some(bp), Some(ip)) = (word(INACTIVE_BP), word(INACTIVE_RETURN)) else { return Vec::new() };
        let Some(sp) = task.sp.checked_add(INACTIVE_BYTES) else { return Vec::new() };
        let registers = Registers { ip, sp, bp, ..Registers::default() };
        let mut frames = unwind::unwind(memory, &self.at(memory, Some(task)), &registers, false);
        frames.retain(|frame| !self.scheduler.iter().any(|(start, end)| (*start..*end).contains(&frame.address)));
        frames
    }

    /// Whether an address is where modules are put, of a kernel that does not tell which it has loaded (`MODULES_VADDR` of
    /// arch/x86/include/asm/pgtable_64_types.h).
    fn is_module_space(&self, address: u64) -> bool {
        let image_is_high = self.texts.iter().any(|(_, end)| *end > MODULES);
        let start = if image_is_high { MODULES_RANDOMIZED } else { MODULES };
        self.modules.is_none() && !self.is_own_text(address) && (start..MODULES_END).contains(&address)
    }

    /// A frame as the kernel prints it (`%pB`): `gpiochip_remove+0x66/0x160`, with the module's name after it, `? ` before it if it
    /// is a guess, and the address where there is no name (` [module?]` if it is where modules are).
    #[must_use]
    pub fn describe(&self, memory: &dyn Memory, frame: &Frame) -> String {
        let guess = if frame.reliable { "" } else { "? " };
        // A call that is the last of its function returns to the next one's address.
        let back = u64::from(!frame.interrupted);
        let address = frame.address.wrapping_sub(back);
        let (found, module) = match self.module_at(address) {
            Some(module) => (module.lookup(memory, address), Some(module.name.as_str())),
            None if self.is_own_text(address) => (self.symbols.lookup(address), None),
            None => (None, None),
        };
        let name = match found {
            Some(found) => format!("{}+{:#x}/{:#x}", found.name, found.offset.wrapping_add(back), found.size),
            None => format!("{:#018x}", frame.address),
        };
        match module.or_else(|| self.is_module_space(address).then_some("module?")) {
            Some(module) => format!("{guess}{name} [{module}]"),
            None => format!("{guess}{name}"),
        }
    }

    fn module_at(&self, address: u64) -> Option<&Module> {
        self.modules.iter().flatten().find(|module| module.has(address))
    }

    fn is_own_text(&self, address: u64) -> bool {
        self.texts.iter().any(|(start, end)| (*start..*end).contains(&address))
    }
}

/// What is looked for by name.
const NAMES: [&str; 23] = [
    "_stext",
    "_etext",
    "_sinittext",
    "_einittext",
    "__start_orc_unwind_ip",
    "__stop_orc_unwind_ip",
    "__start_orc_unwind",
    "__start_orc_header",
    "__start_BTF",
    "__stop_BTF",
    "__sched_text_start",
    "__sched_text_end",
    "__lock_text_start",
    "__lock_text_end",
    "__spinlock_text_start",
    "__spinlock_text_end",
    "init_task",
    "pcpu_hot",
    "current_task",
    "modules",
    "jiffies_64",
    "jiffies",
    "arch_rethook_trampoline",
];

/// A kernel with its memory, and one of its tasks.
struct At<'a> {
    kernel: &'a Kernel,
    memory: &'a dyn Memory,
    hooks: Vec<Hook>,
}

impl unwind::Text for At<'_> {
    fn orc(&self, address: u64) -> Option<Entry> {
        let (table, layout) = self.kernel.orc.as_ref()?;
        if self.kernel.is_own_text(address) {
            return table.find(self.memory, *layout, address);
        }
        self.kernel.module_at(address)?.orc.find(self.memory, *layout, address)
    }

    fn is_text(&self, address: u64) -> bool {
        self.kernel.is_own_text(address)
            || self.kernel.module_at(address).is_some()
            || self.kernel.is_module_space(address)
    }

    /// As `rethook_find_ret_addr()` of kernel/trace/rethook.c: of several probes at one place one has the address.
    fn returned_to(&self, slot: u64, address: u64) -> Option<u64> {
        if Some(address) != self.kernel.trampoline {
            return Some(address);
        }
        let hook = self.hooks.iter().find(|hook| hook.slot == slot && hook.return_address != address)?;
        Some(hook.return_address)
    }
}
