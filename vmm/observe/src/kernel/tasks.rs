//! The tasks of a guest and what they are about, out of its memory.

use super::btf::Btf;
use super::memory::Memory;

/// Tasks taken.
const MOST_TASKS: usize = 4096;
/// Hooked returns of a task.
const MOST_HOOKS: usize = 64;
/// `TASK_COMM_LEN`.
const COMM_BYTES: usize = 16;
/// `PF_KTHREAD` (include/linux/sched.h).
const KERNEL_THREAD: u32 = 0x0020_0000;

/// Where things are in `struct task_struct`.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    tasks: u64,
    signal: u64,
    thread_head: u64,
    thread_node: u64,
    pid: u64,
    tgid: u64,
    comm: u64,
    state: u64,
    exit_state: u64,
    flags: u64,
    on_cpu: u64,
    voluntary: u64,
    involuntary: u64,
    sp: u64,
    hooks: Option<HookLayout>,
    /// `current_task` in the structure that each CPU has, from 6.2 to 6.14; before and after it is a variable.
    pub(super) hot_current: Option<u64>,
}

/// Where things are in the list of a task's hooked returns: its head in the task, and a node of it (`struct rethook_node` of
/// include/linux/rethook.h).
#[derive(Debug, Clone)]
struct HookLayout {
    head: u64,
    link: u64,
    return_address: u64,
    frame: u64,
}

/// A return address that a return probe has put its trampoline in place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hook {
    /// Where it was on the stack.
    pub(super) slot: u64,
    /// What it was.
    pub(super) return_address: u64,
}

impl HookLayout {
    fn of(btf: &Btf) -> Option<Self> {
        let node = |member| btf.offset("rethook_node", &[member]);
        Some(Self {
            head: btf.offset("task_struct", &["rethooks"])?,
            link: node("llist")?,
            return_address: node("ret_addr")?,
            frame: node("frame")?,
        })
    }
}

impl Layout {
    pub(super) fn of(btf: &Btf) -> Option<Self> {
        let task = |path: &[&str]| btf.offset("task_struct", path);
        Some(Self {
            tasks: task(&["tasks"])?,
            signal: task(&["signal"])?,
            thread_head: btf.offset("signal_struct", &["thread_head"])?,
            thread_node: task(&["thread_node"])?,
            pid: task(&["pid"])?,
            tgid: task(&["tgid"])?,
            comm: task(&["comm"])?,
            state: task(&["__state"])?,
            exit_state: task(&["exit_state"])?,
            flags: task(&["flags"])?,
            on_cpu: task(&["on_cpu"])?,
            voluntary: task(&["nvcsw"])?,
            involuntary: task(&["nivcsw"])?,
            sp: task(&["thread", "sp"])?,
            hooks: HookLayout::of(btf),
            hot_current: btf.offset("pcpu_hot", &["current_task"]),
        })
    }
}

/// A task of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Where its `struct task_struct` is.
    pub address: u64,
    /// Thread group.
    pub pid: u32,
    /// Thread; 0 for the one that a CPU runs when there is nothing to do.
    pub tid: u32,
    /// Name.
    pub comm: String,
    /// As /proc/PID/status has it: R, S, D, T, t, X, Z, P, I.
    pub state: char,
    /// Context switches so far.
    pub switches: u64,
    /// A CPU is executing it.
    pub on_cpu: bool,
    /// It never leaves the kernel.
    pub is_kernel_thread: bool,
    /// Its stack pointer as it was switched away from.
    pub(super) sp: u64,
}

/// The tasks of a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskList {
    /// In the kernel's order: processes as they began, each with its threads.
    pub tasks: Vec<Task>,
    /// There are more: the list breaks off where memory does not hold the next, or has more than are taken.
    pub is_cut: bool,
}

impl IntoIterator for TaskList {
    type Item = Task;
    type IntoIter = std::vec::IntoIter<Task>;

    fn into_iter(self) -> Self::IntoIter {
        self.tasks.into_iter()
    }
}

/// One task.
pub(super) fn read(memory: &dyn Memory, layout: &Layout, task: u64) -> Option<Task> {
    let u32 = |offset| memory.u32(task.checked_add(offset)?);
    let u64 = |offset| memory.u64(task.checked_add(offset)?);
    Some(Task {
        address: task,
        pid: u32(layout.tgid)?,
        tid: u32(layout.pid)?,
        comm: memory.text(task.checked_add(layout.comm)?, COMM_BYTES)?,
        state: letter(u32(layout.state)?, u32(layout.exit_state)?),
        switches: u64(layout.voluntary)?.wrapping_add(u64(layout.involuntary)?),
        on_cpu: u32(layout.on_cpu)? != 0,
        is_kernel_thread: u32(layout.flags)? & KERNEL_THREAD != 0,
        sp: u64(layout.sp)?,
    })
}

/// All tasks but those that CPUs are idle with. `init` is the first of those: the list of processes begins there
/// (`for_each_process_thread()`).
pub(super) fn all(memory: &dyn Memory, layout: &Layout, init: u64) -> TaskList {
    let mut list = TaskList::default();
    let mut process = init;
    // Whatever a list of threads is like, each step is a process more.
    for _ in 0..MOST_TASKS {
        let next = process.checked_add(layout.tasks).and_then(|link| memory.u64(link));
        match next.and_then(|link| link.checked_sub(layout.tasks)) {
            Some(next) if next == init => return list,
            Some(next) => process = next,
            None => break,
        }
        list.is_cut |= threads(memory, layout, process, &mut list.tasks).is_none();
    }
    list.is_cut = true;
    list
}

/// Nothing if the list breaks off.
fn threads(memory: &dyn Memory, layout: &Layout, process: u64, tasks: &mut Vec<Task>) -> Option<()> {
    let head = memory.u64(process.checked_add(layout.signal)?)?.checked_add(layout.thread_head)?;
    let mut at = memory.u64(head)?;
    while at != head {
        let task = read(memory, layout, at.checked_sub(layout.thread_node)?)?;
        if tasks.len() >= MOST_TASKS {
            return None;
        }
        tasks.push(task);
        at = memory.u64(at)?;
    }
    Some(())
}

/// The hooked returns of a task, the latest first.
pub(super) fn hooks(memory: &dyn Memory, layout: &Layout, task: u64) -> Vec<Hook> {
    let mut hooks = Vec::new();
    let Some(layout) = &layout.hooks else { return hooks };
    let mut link = task.checked_add(layout.head).and_then(|head| memory.u64(head));
    while let Some(node) = link.and_then(|at| at.checked_sub(layout.link)).filter(|_| hooks.len() < MOST_HOOKS) {
        let field = |offset: u64| node.checked_add(offset).and_then(|at| memory.u64(at));
        let (Some(slot), Some(return_address)) = (field(layout.frame), field(layout.return_address)) else { break };
        hooks.push(Hook { slot, return_address });
        link = field(layout.link).filter(|&next| next != 0);
    }
    hooks
}

/// `task_state_to_char()` of include/linux/sched.h: the highest of the bits that are told (`TASK_REPORT`).
fn letter(state: u32, exit_state: u32) -> char {
    const UNINTERRUPTIBLE: u32 = 0x2;
    /// Sleeps without being counted as load: `TASK_UNINTERRUPTIBLE | TASK_NOLOAD`.
    const IDLE: u32 = 0x402;
    /// On a lock that sleeps on a real-time kernel, or frozen: both are told as `TASK_UNINTERRUPTIBLE`.
    const RTLOCK_WAIT_OR_FROZEN: u32 = 0x1000 | 0x8000;
    const LETTERS: [(u32, char); 7] =
        [(0x40, 'P'), (0x20, 'Z'), (0x10, 'X'), (0x8, 't'), (0x4, 'T'), (UNINTERRUPTIBLE, 'D'), (0x1, 'S')];
    if state & RTLOCK_WAIT_OR_FROZEN != 0 {
        return 'D';
    }
    if state & IDLE == IDLE {
        return 'I';
    }
    let bits = state | exit_state;
    LETTERS.iter().find(|(bit, _)| bits & bit != 0).map_or('R', |(_, letter)| *letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_kernels_letters() {
        for (state, exit_state, expected) in [
            (0, 0, 'R'),
            (0x1, 0, 'S'),
            (0x2, 0, 'D'),
            // TASK_KILLABLE, TASK_FREEZABLE.
            (0x102, 0, 'D'),
            (0x2001, 0, 'S'),
            (0x402, 0, 'I'),
            (0x104, 0, 'T'),
            (0x108, 0, 't'),
            (0x40, 0, 'P'),
            (0x1000, 0, 'D'),
            (0x8000, 0, 'D'),
            // TASK_DEAD, as a zombie, and on its way to be none (EXIT_TRACE).
            (0x80, 0x20, 'Z'),
            (0x80, 0x10, 'X'),
            (0x80, 0x30, 'Z'),
            // TASK_NEW.
            (0x800, 0, 'R'),
        ] {
            assert_eq!(letter(state, exit_state), expected, "{state:#x} {exit_state:#x}");
        }
    }
}
