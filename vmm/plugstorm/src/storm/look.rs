//! A guest seen from outside, while it stands still: where its vCPUs are, where its tasks are, whether it counts time. Needs
//! nothing of the guest but its memory.

use plugstorm_machine::memory::GuestRam;
use plugstorm_machine::{AddressSpace, Machine, MachineError, ProcessorState};
use plugstorm_observe::hang::{Doing, Executed, Processor, StackedTask};
use plugstorm_observe::kernel::{Kernel, Memory, Registers, Task, TaskList};

use super::guest::Sight;
use super::stuck::function;

/// The kernel's half of the addresses.
const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;
/// Sets of page tables in which a kernel is looked for.
const MOST_SPACES: usize = 4;
/// Tasks whose stacks are read.
const MOST_TASKS: usize = 1024;

/// A kernel that was found, and the page tables that showed it.
#[derive(Debug)]
pub(super) struct Known {
    space: AddressSpace,
    kernel: Kernel,
}

/// The guest's memory at virtual addresses.
struct View<'a> {
    memory: &'a GuestRam,
    space: AddressSpace,
}

impl Memory for View<'_> {
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        self.space.read(self.memory, address, bytes)
    }
}

/// Looks at a paused machine. What is `known` of its kernel is looked for only once.
///
/// # Errors
/// The machine is not paused, or KVM does not give the registers.
pub(super) fn look(machine: &Machine, known: &mut Option<Known>) -> Result<Sight, MachineError> {
    let states = machine.processors()?;
    if known.is_none() {
        *known = find(machine.memory(), &states);
    }
    let Some(Known { space, kernel }) = known else {
        let processors = (0..).zip(&states).map(|(cpu, state)| bare(cpu, state)).collect();
        return Ok(Sight { processors, ..Sight::default() });
    };
    let view = View { memory: machine.memory(), space: *space };
    let mut executed = Vec::new();
    let processors = (0..).zip(&states).map(|(cpu, state)| {
        let current = own_data(state.privilege, state.gs_bases).and_then(|base| kernel.current(&view, base));
        let mut processor = bare(cpu, state);
        if state.privilege == 0 && !state.waits_for_start {
            let frames = kernel.unwind(&view, &registers(state), current.as_ref());
            processor.stack = frames.iter().map(|frame| kernel.describe(&view, frame)).collect();
            let place = processor.stack.first().map(String::as_str);
            processor.doing = at_place(processor.doing, state.interrupts_on, place);
        }
        if let Some(task) = current {
            processor.task = Some(Executed { tid: task.tid, comm: task.comm });
            executed.push((task.address, processor.stack.clone()));
        }
        processor
    });
    let processors = processors.collect();
    // The kernel's own workers have nothing to do when they are idle.
    let TaskList { tasks, is_cut } = kernel.tasks(&view);
    let mut tasks: Vec<Task> = tasks.into_iter().filter(|task| task.state != 'I').collect();
    let left_out = tasks.len().saturating_sub(MOST_TASKS);
    tasks.truncate(MOST_TASKS);
    let tasks = tasks.into_iter().map(|task| {
        let stack = match executed.iter().find(|(address, _)| *address == task.address) {
            Some((_, stack)) => stack.clone(),
            None if task.on_cpu => Vec::new(),
            None => kernel.unwind_task(&view, &task).iter().map(|frame| kernel.describe(&view, frame)).collect(),
        };
        stacked(task, stack)
    });
    Ok(Sight {
        processors,
        tasks: tasks.collect(),
        tasks_left_out: left_out,
        task_list_is_cut: is_cut,
        ticks: kernel.ticks(&view),
        has_symbols: true,
    })
}

/// Looks for the kernel through the page tables of each vCPU: one in user mode may have tables that leave the kernel out.
fn find(memory: &GuestRam, states: &[ProcessorState]) -> Option<Known> {
    let mut tried: Vec<AddressSpace> = Vec::new();
    for state in states.iter().filter(|state| !state.waits_for_start) {
        for space in [state.space, state.space.of_kernel_under_isolation()] {
            if tried.len() >= MOST_SPACES {
                return None;
            }
            if tried.contains(&space) {
                continue;
            }
            tried.push(space);
            if let Some(kernel) = Kernel::find(&View { memory, space }, state.system_call) {
                return Some(Known { space, kernel });
            }
        }
    }
    None
}

/// Whether a function is where a CPU waits for an interrupt (arch/x86/include/asm/irqflags.h, kernel/sched/idle.c).
pub(super) fn is_idle(function: &str) -> bool {
    ["safe_halt", "default_idle", "mwait_idle"].iter().any(|idle| function.ends_with(idle))
}

/// What a processor does that is at a place of the kernel's. Taken out of the guest, it is no longer halted; its next instruction
/// tells that it was, and that an interrupt would have woken it only if it takes any.
fn at_place(doing: Doing, interrupts_on: bool, place: Option<&str>) -> Doing {
    let is_idle = place.is_some_and(|place| is_idle(function(place)));
    if is_idle && interrupts_on { Doing::Idle } else { doing }
}

/// Where a processor's own data are. In user mode GS is the program's, who may put what it likes there (`WRGSBASE`), and the kernel's
/// base is the one that `SWAPGS` would give; an entry of the kernel's may not have swapped them yet.
fn own_data(privilege: u8, [in_use, swapped]: [u64; 2]) -> Option<u64> {
    let bases = if privilege == 3 { [swapped; 2] } else { [in_use, swapped] };
    bases.into_iter().find(|&base| base >= KERNEL_HALF)
}

/// What the registers tell alone.
fn bare(cpu: u32, state: &ProcessorState) -> Processor {
    let doing = match (state.halted, state.interrupts_on, state.privilege) {
        _ if state.waits_for_start => Doing::NotStarted,
        (true, true, _) => Doing::Idle,
        (true, false, _) => Doing::HaltedForGood,
        (false, _, 3) => Doing::Program,
        (false, true, _) => Doing::Kernel,
        (false, false, _) => Doing::KernelInterruptsOff,
    };
    Processor { cpu, doing, task: None, ip: state.ip, stack: Vec::new() }
}

fn registers(state: &ProcessorState) -> Registers {
    let ProcessorState { ip, sp, bp, dx, di, r10, r13, .. } = *state;
    Registers { ip, sp, bp, dx, di, r10, r13 }
}

fn stacked(task: Task, stack: Vec<String>) -> StackedTask {
    StackedTask {
        pid: task.pid,
        tid: task.tid,
        comm: task.comm,
        state: task.state,
        switches: task.switches,
        stack,
        hammer: None,
        operation: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_does_not_choose_what_the_kernels_data_are() {
        let kernel = 0xffff_8880_1000_0000;
        let forged = 0xffff_8880_2000_0000;
        assert_eq!(own_data(3, [forged, kernel]), Some(kernel));
        assert_eq!(own_data(0, [kernel, forged]), Some(kernel));
        // In the first instructions of an entry.
        assert_eq!(own_data(0, [0x7f00_0000_0000, kernel]), Some(kernel));
        assert_eq!(own_data(3, [forged, 0]), None);
    }

    #[test]
    fn a_processor_that_takes_no_interrupts_is_not_idle() {
        let halt = Some("default_idle+0xf/0x20");
        assert_eq!(at_place(Doing::Kernel, true, halt), Doing::Idle);
        assert_eq!(at_place(Doing::HaltedForGood, false, halt), Doing::HaltedForGood);
        assert_eq!(at_place(Doing::KernelInterruptsOff, false, halt), Doing::KernelInterruptsOff);
        assert_eq!(at_place(Doing::Kernel, true, Some("gpio_ioctl+0x1/0x2")), Doing::Kernel);
        assert_eq!(at_place(Doing::Kernel, true, None), Doing::Kernel);
    }
}
