//! A kernel's memory: changed anywhere, the kernel is found in it or not, and all that it says can be asked.
//!
//! The memory is that of the unit tests. Eight bytes of the input are a change: a page (two bytes), a place in it (two), and what
//! is put there (four).
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use plugstorm_observe::hang::{Doing, Executed, Processor, ProcessorReport, StackedTask};
use plugstorm_observe::kernel::{Kernel, MOST_FRAMES, Memory, Registers};

#[allow(dead_code)]
#[path = "../../src/kernel/tests/world.rs"]
mod world;

use world::{Order, Pages, SYSTEM_CALL, kernel, stacked, with_tasks};

/// A task has at most this much in its name (`TASK_COMM_LEN`).
const MOST_NAME_CHARS: usize = 16;

struct World {
    memory: Pages,
    pages: Vec<u64>,
    registers: Registers,
}

static WORLDS: LazyLock<[World; 2]> = LazyLock::new(|| {
    [Order::Before64, Order::Since64].map(|order| {
        let mut memory = kernel(order);
        with_tasks(&mut memory);
        let registers = stacked(&mut memory);
        // What is not there is tried by a kernel that points out of its pages.
        let pages = memory.0.keys().copied().collect();
        World { memory, pages, registers }
    })
});

fn processor(stack: Vec<String>, kernel: &Kernel, memory: &Pages, ip: u64) -> Processor {
    let task = kernel.current(memory, ip).map(|task| Executed { tid: task.tid, comm: task.comm });
    Processor { cpu: 0, doing: Doing::Kernel, task, ip, stack }
}

fuzz_target!(init: LazyLock::force(&WORLDS), |bytes: &[u8]| {
    let Some((&order, bytes)) = bytes.split_first() else { return };
    let [before, since] = &*WORLDS;
    let world = if order % 2 == 0 { before } else { since };
    let mut memory = world.memory.clone();
    let mut registers = world.registers;
    for change in bytes.chunks_exact(8) {
        let page = usize::from(u16::from_le_bytes([change[0], change[1]]));
        let within = u64::from(u16::from_le_bytes([change[2], change[3]]) % 4093);
        match world.pages.get(page % (world.pages.len() + 1)) {
            Some(page) => memory.write((page << 12) + within, &change[4..]),
            // One number more than there are pages: the registers.
            None => {
                let value = u64::from(u32::from_le_bytes([change[4], change[5], change[6], change[7]]));
                let of = [&mut registers.ip, &mut registers.sp, &mut registers.bp, &mut registers.r13, &mut registers.r10];
                let count = of.len() as u64;
                if let Some(register) = of.into_iter().nth((within % count) as usize) {
                    *register = register.wrapping_add(value);
                }
            }
        }
    }
    let Some(kernel) = Kernel::find(&memory, SYSTEM_CALL) else { return };
    let _ = (kernel.ticks(&memory), kernel.knows_its_tasks());
    let describe = |frames: Vec<_>| -> Vec<String> {
        assert!(frames.len() <= MOST_FRAMES);
        frames.iter().map(|frame| kernel.describe(&memory, frame)).collect()
    };
    let first = processor(describe(kernel.unwind(&memory, &registers, None)), &kernel, &memory, registers.ip);
    let mut tasks = Vec::new();
    for task in kernel.tasks(&memory) {
        assert!(task.comm.chars().count() <= MOST_NAME_CHARS && !task.comm.contains(char::is_control), "{:?}", task.comm);
        let _ = kernel.unwind(&memory, &registers, Some(&task));
        let stack = describe(kernel.unwind_task(&memory, &task));
        let (pid, tid, comm, state, switches) = (task.pid, task.tid, task.comm, task.state, task.switches);
        tasks.push(StackedTask { pid, tid, comm, state, switches, stack, hammer: None, operation: None });
    }
    let second = processor(tasks.first().map(|task| task.stack.clone()).unwrap_or_default(), &kernel, &memory, registers.sp);
    let report = ProcessorReport::new(vec![first], &[second], kernel.ticks(&memory), 1_000_000);
    let _ = report.busy();
});
