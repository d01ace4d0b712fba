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
    /// As /proc/PID/status has it: R, S, D, T, t, X, Z, I; `?` for what is none of them.
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
pub(super) fn all(memory: &dyn Memory, layout: &Layout, init: u64) -> Vec<Task> {
    let mut tasks = Vec::new();
    let mut process = init;
    for _ in 0..MOST_TASKS {
        let next = process.checked_add(layout.tasks).and_then(|link| memory.u64(link));
        let Some(next) = next.and_then(|link| link.checked_sub(layout.tasks)).filter(|&next| next != init) else {
            break;
        };
        process = next;
        threads(memory, layout, process, &mut tasks);
        if tasks.len() >= MOST_TASKS {
            break;
        }
    }
    tasks
}

fn threads(memory: &dyn Memory, layout: &Layout, process: u64, tasks: &mut Vec<Task>) {
    let head = process.checked_add(layout.signal).and_then(|at| memory.u64(at)?.checked_add(layout.thread_head));
    let Some(head) = head else { return };
    let mut link = memory.u64(head);
    while let Some(at) = link.filter(|&at| at != head) {
        let task = at.checked_sub(layout.thread_node).and_then(|task| read(memory, layout, task));
        let Some(task) = task.filter(|_| tasks.len() < MOST_TASKS) else { return };
        tasks.push(task);
        link = memory.u64(at);
    }
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

/// `task_state_to_char()` of include/linux/sched.h.
fn letter(state: u32, exit_state: u32) -> char {
    const UNINTERRUPTIBLE: u32 = 0x2;
    /// Sleeps without being counted as load: `TASK_UNINTERRUPTIBLE | TASK_NOLOAD`.
    const IDLE: u32 = 0x402;
    match (exit_state, state) {
        (0x20, _) => 'Z',
        (0x10, _) => 'X',
        (_, 0) => 'R',
        (_, state) if state & IDLE == IDLE => 'I',
        (_, state) if state & 0x1 != 0 => 'S',
        (_, state) if state & UNINTERRUPTIBLE != 0 => 'D',
        (_, state) if state & 0x4 != 0 => 'T',
        (_, state) if state & 0x8 != 0 => 't',
        _ => '?',
    }
}
