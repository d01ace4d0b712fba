//! Who sits where in the kernel: /proc/PID/task/TID/{status,stack}.

use std::collections::HashMap;
use std::path::Path;

use plugstorm_wire::{FromGuest, MAX_LINE_BYTES, Operation, TaskStack};

use crate::clock::tsc;
use crate::{points, states, sysfs};

/// Tasks in one answer.
const MAX_TASKS: usize = 512;

/// Frames of one task.
const MAX_FRAMES: usize = 64;

/// What all tasks of an answer may take, so that it fits into a line of the wire with what is around them.
const MAX_BYTES: usize = MAX_LINE_BYTES - 2 * states::MAX_BYTES - points::MAX_BYTES - 4096;

/// What the agent knows of a thread of a hammer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HammerThread {
    /// The hammer's name.
    pub(crate) hammer: String,
    /// The call that it was in when it was asked.
    pub(crate) operation: Option<Operation>,
}

/// What the agent knows of its hammers when a list of tasks is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct HammerTasks {
    /// Names of hammers by process.
    pub(crate) processes: HashMap<u32, String>,
    /// Their threads, as far as the process told of them.
    pub(crate) threads: HashMap<u32, HammerThread>,
    /// What programs that run as a step are called, by process.
    pub(crate) programs: HashMap<u32, String>,
}

impl HammerTasks {
    /// What a program of the scenario's is called: one that runs as a step, or that a hammer or another program has started.
    fn program(&self, pid: u32, parent: u32) -> Option<&String> {
        self.programs.get(&pid).or_else(|| self.processes.get(&parent)).or_else(|| self.programs.get(&parent))
    }
}

/// Lists the tasks; gives the answer to the command `id`, with the hits of the points that are armed. Reads several files for each task of the guest, and a read of a
/// stack may have to wait for the task: call it in a thread of its own.
pub(crate) fn dump(id: u64, hammers: &HammerTasks, armed: &[String]) -> FromGuest {
    let own_pid = std::process::id();
    let mut tasks: Vec<TaskStack> = all_tasks()
        .into_iter()
        .filter_map(|(pid, tid)| read_task(pid, tid, hammers))
        .filter(|(task, is_program)| if *is_program { !task.stack.is_empty() } else { is_of_interest(task, own_pid) })
        .map(|(task, _)| task)
        .collect();
    // If not all fit, those that tell most come first: hammers, then who cannot be interrupted.
    tasks.sort_by_key(|task| (task.hammer.is_none(), task.state != 'D'));
    let left_out = keep_what_fits(&mut tasks);
    // What stacks and states tell is worth having without.
    let points = points::hits(armed).unwrap_or_default();
    FromGuest::Tasks { id, tsc: tsc(), tasks, left_out, states: states::all(), points }
}

/// All pairs of thread group and thread.
fn all_tasks() -> Vec<(u32, u32)> {
    let numbers = |path: &Path| -> Vec<u32> {
        sysfs::list(path).unwrap_or_default().iter().filter_map(|name| name.parse().ok()).collect()
    };
    let mut tasks = Vec::new();
    for pid in numbers(Path::new("/proc")) {
        tasks.extend(numbers(Path::new(&format!("/proc/{pid}/task"))).into_iter().map(|tid| (pid, tid)));
    }
    tasks
}

/// A task, and whether it is one of the scenario's programs; nothing if it has ended meanwhile.
fn read_task(pid: u32, tid: u32, hammers: &HammerTasks) -> Option<(TaskStack, bool)> {
    let directory = format!("/proc/{pid}/task/{tid}");
    let status = sysfs::read(format!("{directory}/status")).ok()?;
    let mut task = read_status(&status)?;
    // Without CONFIG_STACKTRACE there is no such file; state and name are worth having all the same.
    task.stack = read_stack(&sysfs::read(format!("{directory}/stack")).unwrap_or_default());
    task.pid = pid;
    task.tid = tid;
    task.hammer = hammers.processes.get(&pid).cloned();
    if let Some(thread) = hammers.threads.get(&tid) {
        task.hammer = Some(thread.hammer.clone());
        task.operation = thread.operation;
    }
    let program = if task.hammer.is_none() { hammers.program(pid, parent_of(&status)) } else { None };
    task.hammer = task.hammer.or_else(|| program.cloned());
    Some((task, program.is_some()))
}

/// `PPid:` of `/proc/PID/status`; 0, which is nobody, if it does not say.
fn parent_of(status: &str) -> u32 {
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok()).unwrap_or(0)
}

/// Name, state and context switches from `/proc/PID/status`.
fn read_status(status: &str) -> Option<TaskStack> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let count = |name: &str| field(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Some(TaskStack {
        pid: 0,
        tid: 0,
        comm: field("Name")?.to_owned(),
        state: field("State")?.chars().next()?,
        switches: count("voluntary_ctxt_switches").saturating_add(count("nonvoluntary_ctxt_switches")),
        stack: Vec::new(),
        hammer: None,
        operation: None,
    })
}

/// Frames from `/proc/PID/stack`, without the address (`[<0>]`) before each.
fn read_stack(stack: &str) -> Vec<String> {
    stack
        .lines()
        .map(|line| line.split_once("] ").map_or(line, |(_, frame)| frame).trim())
        .filter(|frame| !frame.is_empty())
        .take(MAX_FRAMES)
        .map(ToOwned::to_owned)
        .collect()
}

/// Whether a task does more than wait for work.
fn is_of_interest(task: &TaskStack, own_pid: u32) -> bool {
    if task.operation.is_some() || task.state == 'D' {
        return true;
    }
    if task.hammer.is_some() {
        // The first thread of a hammer waits for the agent's orders.
        return task.tid != task.pid || task.state != 'S';
    }
    if task.pid == own_pid {
        // Our own: threads that write to sysfs are what this is about; the one that waits for events, the one that
        // makes this list are not.
        return task.stack.iter().any(|frame| function(frame) == "ksys_write" || function(frame) == "vfs_write");
    }
    !task.stack.is_empty() && !is_idle_kernel_thread(task)
}

/// A kernel thread sits in its own main function, with at most the entry code below: it waits for work. A worker that
/// has some has `process_one_work` on its stack, an interrupt thread its handler, and so on.
fn is_idle_kernel_thread(task: &TaskStack) -> bool {
    let functions: Vec<&str> = task.stack.iter().map(|frame| function(frame)).collect();
    let Some(entry) = functions.iter().position(|&name| name == "kthread" || name.starts_with("ret_from_fork")) else {
        return false;
    };
    let above = functions.get(..entry).unwrap_or_default();
    match task.state {
        // TASK_IDLE: the kernel itself says that it waits for work, however deep (RCU's threads do so in helpers).
        'I' => !above.contains(&"process_one_work"),
        // The one thread that waits for work in a helper of its main function (drivers/base/devtmpfs.c).
        'S' => above.len() <= 1 || above.first() == Some(&"devtmpfs_work_loop"),
        _ => false,
    }
}

/// The function's name in a frame such as `synchronize_srcu+0xa5/0xc0 [module]`.
fn function(frame: &str) -> &str {
    frame.split(['+', ' ']).next().unwrap_or(frame)
}

/// Cuts the list to [`MAX_TASKS`] and [`MAX_BYTES`]; gives the number left out.
fn keep_what_fits(tasks: &mut Vec<TaskStack>) -> u32 {
    let mut bytes = 0_usize;
    let mut kept = 0_usize;
    for task in tasks.iter().take(MAX_TASKS) {
        bytes = bytes.saturating_add(encoded_bytes(task));
        if bytes > MAX_BYTES {
            break;
        }
        kept += 1;
    }
    let left_out = tasks.len() - kept;
    tasks.truncate(kept);
    u32::try_from(left_out).unwrap_or(u32::MAX)
}

/// An upper bound of what a task takes in JSON: its names may be escaped, `\u00xx` for each byte.
fn encoded_bytes(task: &TaskStack) -> usize {
    let frames: usize = task.stack.iter().map(|frame| frame.len() + 8).sum();
    let hammer = task.hammer.as_ref().map_or(0, |name| name.len() * 6);
    256 + task.comm.len() * 6 + frames + hammer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(state: char, stack: &[&str]) -> TaskStack {
        TaskStack {
            pid: 50,
            tid: 50,
            comm: "x".into(),
            state,
            switches: 0,
            stack: stack.iter().map(|&frame| frame.into()).collect(),
            hammer: None,
            operation: None,
        }
    }

    #[test]
    fn programs_and_their_children_are_known() {
        let hammers = HammerTasks {
            processes: HashMap::from([(50, "runs".into())]),
            programs: HashMap::from([(60, "program /bin/x".into())]),
            ..HammerTasks::default()
        };
        let name = |pid, parent| hammers.program(pid, parent).map(String::as_str);
        assert_eq!(name(60, 1), Some("program /bin/x"));
        assert_eq!(name(61, 60), Some("program /bin/x"));
        assert_eq!(name(51, 50), Some("runs"));
        assert_eq!(name(51, 1), None);
        assert_eq!(parent_of("Pid:\t5\nPPid:\t61\n"), 61);
        assert_eq!(parent_of(""), 0);
    }

    #[test]
    fn status_is_read() {
        let status = "Name:\tirq/24-pciehp\nUmask:\t0000\nState:\tD (disk sleep)\nTgid:\t61\n\
            voluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        let read = read_status(status).unwrap();
        assert_eq!((read.comm.as_str(), read.state, read.switches), ("irq/24-pciehp", 'D', 15));
        assert_eq!(read_status("Name:\tx\n"), None);
    }

    #[test]
    fn stacks_are_read_within_bounds() {
        let stack = "[<0>] __synchronize_srcu.part.0+0x9e/0xd0\n[<0>] gpiochip_remove+0xa5/0x1e0\n";
        assert_eq!(read_stack(stack), ["__synchronize_srcu.part.0+0x9e/0xd0", "gpiochip_remove+0xa5/0x1e0"]);
        assert_eq!(read_stack(&"[<0>] f+0x1/0x2\n".repeat(1000)).len(), MAX_FRAMES);
        assert!(read_stack("").is_empty());
    }

    #[test]
    fn idle_threads_are_left_out() {
        let tail = ["kthread+0xd2/0x100", "ret_from_fork+0x34/0x50", "ret_from_fork_asm+0x1a/0x30"];
        let with = |frames: &[&str]| -> Vec<&'static str> {
            let mut all: Vec<&'static str> = Vec::new();
            for frame in frames {
                all.push(String::from(*frame).leak());
            }
            all.extend(tail);
            all
        };
        assert!(!is_of_interest(&task('I', &with(&["worker_thread+0x1/0x2"])), 1));
        assert!(!is_of_interest(&task('I', &with(&["rcu_gp_fqs_loop+0x1/0x2", "rcu_gp_kthread+0x1/0x2"])), 1));
        assert!(!is_of_interest(&task('S', &with(&["irq_thread+0x1/0x2"])), 1));
        assert!(is_of_interest(&task('D', &with(&["worker_thread+0x1/0x2"])), 1));
        let busy = ["wait_for_completion+0x1/0x2", "process_one_work+0x1/0x2", "worker_thread+0x1/0x2"];
        assert!(is_of_interest(&task('I', &with(&busy)), 1));
        let removing = ["gpiochip_remove+0x1/0x2", "pciehp_ist+0x1/0x2", "irq_thread+0x1/0x2"];
        assert!(is_of_interest(&task('S', &with(&removing)), 1));
        assert!(!is_of_interest(&task('I', &[]), 1));
    }

    #[test]
    fn hammers_and_our_own_writers_are_kept() {
        let mut thread = task('S', &["lineinfo_watch_read+0x1/0x2", "vfs_read+0x1/0x2"]);
        thread.hammer = Some("r".into());
        thread.tid = 51;
        assert!(is_of_interest(&thread, 1));
        thread.tid = 50;
        assert!(!is_of_interest(&thread, 1));
        assert!(!is_of_interest(&task('S', &["do_epoll_wait+0x1/0x2"]), 50));
        assert!(is_of_interest(&task('S', &["unbind_store+0x1/0x2", "vfs_write+0x1/0x2"]), 50));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let frame = "a_function_with_quite_a_long_name_to_be_sure+0x10/0x20";
        let mut tasks = vec![task('D', &[frame; MAX_FRAMES]); 600];
        let left_out = keep_what_fits(&mut tasks);
        assert_eq!(tasks.len() + left_out as usize, 600);
        let line = plugstorm_wire::encode(&FromGuest::Tasks {
            id: u64::MAX,
            tsc: u64::MAX,
            tasks,
            left_out,
            states: Vec::new(),
            points: points::most(),
        })
        .unwrap();
        assert!(line.len() <= MAX_LINE_BYTES && line.len() > MAX_LINE_BYTES / 2);
        let mut small = vec![task('D', &["f+0x1/0x2"]); 600];
        assert_eq!((keep_what_fits(&mut small), small.len()), (88, MAX_TASKS));
    }
}
