//! A made-up kernel is read as a real one is; what is wrong in one is survived.

mod doubts;
mod world;

use proptest::prelude::*;

use super::unwind::KERNEL_HALF;
use super::*;
use world::{
    APART, BASE, Order, Pages, STACK, SYSTEM_CALL, TRAMPOLINE, after_call, kernel, stacked, table, with_tasks,
};

const ORDERS: [Order; 2] = [Order::Before64, Order::Since64];

fn found(memory: &Pages) -> Kernel {
    Kernel::find(memory, SYSTEM_CALL).unwrap()
}

fn described(kernel: &Kernel, memory: &Pages, frames: &[Frame]) -> Vec<String> {
    frames.iter().map(|frame| kernel.describe(memory, frame)).collect()
}

#[test]
fn symbols_are_found_in_both_orders() {
    for order in ORDERS {
        let memory = kernel(order);
        let kernel = found(&memory);
        let symbols = kernel.symbols();
        assert_eq!(symbols.len(), world::symbols().len(), "{order:?}");
        for (address, name) in world::symbols() {
            assert_eq!(symbols.addresses(&[&name[1..]]), [Some(address)], "{order:?}");
        }
        let at = symbols.lookup(BASE + 300 * APART + 5).unwrap();
        assert_eq!((at.name.as_str(), at.offset, at.size), ("work_300", 5, APART));
        // Of two names at one address the first.
        assert_eq!(symbols.lookup(SYSTEM_CALL).unwrap().name, "entry_SYSCALL_64");
        assert_eq!(symbols.addresses(&["no_such"]), [None]);
    }
}

#[test]
fn an_address_that_is_not_the_system_call_finds_nothing() {
    let memory = kernel(Order::Since64);
    assert!(Kernel::find(&memory, SYSTEM_CALL + 1).is_none());
    assert!(Kernel::find(&memory, 0x40_1000).is_none());
    assert!(Kernel::find(&Pages::default(), SYSTEM_CALL).is_none());
    assert!(Kernel::find(&Pages::default(), u64::MAX).is_none());
}

#[test]
fn a_stack_is_followed_through_calls_and_an_interrupt() {
    let mut memory = kernel(Order::Since64);
    let registers = stacked(&mut memory);
    let kernel = found(&memory);
    let frames = kernel.unwind(&memory, &registers, None);
    let stack = described(&kernel, &memory, &frames);
    assert_eq!(
        stack,
        [
            "work_1+0x0/0x40",
            "work_0+0x15/0x40",
            "work_0+0x15/0x40",
            "work_2+0x15/0x40",
            "work_1+0x1/0x40",
            "work_3+0x15/0x40"
        ]
    );
    assert!(frames.iter().all(|frame| frame.reliable));
}

#[test]
fn where_the_tables_end_words_that_follow_a_call_are_guesses() {
    let mut memory = kernel(Order::Since64);
    // work_4 has no way out by the tables.
    memory.words(STACK, &[7, BASE + APART, after_call(1), after_call(2) + 1, after_call(3)]);
    let kernel = found(&memory);
    let registers = Registers { ip: BASE + 4 * APART + 2, sp: STACK, ..Registers::default() };
    let frames = kernel.unwind(&memory, &registers, None);
    let stack = described(&kernel, &memory, &frames);
    assert_eq!(stack, ["work_4+0x2/0x40", "? work_1+0x15/0x40", "? work_3+0x15/0x40"]);
}

#[test]
fn a_call_of_nothing_leads_back_to_its_caller() {
    let mut memory = kernel(Order::Since64);
    memory.words(STACK, &[after_call(3)]);
    let kernel = found(&memory);
    let frames = kernel.unwind(&memory, &Registers { sp: STACK, ..Registers::default() }, None);
    let stack = described(&kernel, &memory, &frames);
    assert_eq!(stack, ["0x0000000000000000", "work_3+0x15/0x40"]);
}

#[test]
fn tasks_are_listed_with_their_threads_and_stacks() {
    let mut memory = kernel(Order::Since64);
    with_tasks(&mut memory);
    memory.words(0xffff_8880_1000_0000 + 0x2_1440, &[table(5)]);
    let kernel = found(&memory);
    assert!(kernel.knows_its_tasks());
    let tasks = kernel.tasks(&memory).tasks;
    let told: Vec<_> =
        tasks.iter().map(|task| (task.pid, task.tid, task.comm.as_str(), task.state, task.switches)).collect();
    assert_eq!(told, [(7, 7, "storm?[2J", 'S', 7), (7, 8, "a name of 16 byt", 'D', 7)]);
    let frames = kernel.unwind_task(&memory, &tasks[1]);
    assert_eq!(described(&kernel, &memory, &frames), ["work_1+0x15/0x40", "work_3+0x15/0x40"]);
    assert_eq!(kernel.current(&memory, 0xffff_8880_1000_0000).unwrap().comm, "swapper/0");
    assert_eq!(kernel.ticks(&memory), Some(4_294_937_296));
}

#[test]
fn returns_that_are_probed_are_found_again() {
    let mut memory = kernel(Order::Since64);
    with_tasks(&mut memory);
    let (thread, node) = (0xffff_8880_0000_2000, 0xffff_8880_0000_5000);
    // Two probes of one function: the first has the address, the second that of the first's trampoline.
    memory.words(STACK + 56, &[TRAMPOLINE]);
    memory.words(thread + 112, &[node + 8]);
    memory.words(node, &[0, node + 0x108, TRAMPOLINE, STACK + 56]);
    memory.words(node + 0x100, &[0, 0, after_call(3), STACK + 56]);
    let kernel = found(&memory);
    let tasks = kernel.tasks(&memory).tasks;
    let frames = kernel.unwind_task(&memory, &tasks[1]);
    assert_eq!(described(&kernel, &memory, &frames), ["work_1+0x15/0x40", "work_3+0x15/0x40"]);
    // Without the list it is said what is there, and no caller made up.
    memory.words(thread + 112, &[0]);
    let frames = kernel.unwind_task(&memory, &tasks[1]);
    assert_eq!(described(&kernel, &memory, &frames), ["work_1+0x15/0x40"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Bytes anywhere in it are others: it is found or not, and all that it says can be asked.
    #[test]
    fn a_kernel_that_lies_is_survived(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..4096, any::<u8>()), 0..200),
        registers in any::<[u64; 7]>(), near in any::<bool>(),
    ) {
        let mut memory = kernel(if near { Order::Since64 } else { Order::Before64 });
        with_tasks(&mut memory);
        let start = stacked(&mut memory);
        let pages: Vec<u64> = memory.0.keys().copied().collect();
        for (page, at, byte) in &changes {
            memory.write((page.get(&pages) << 12) + *at as u64, &[*byte]);
        }
        if let Some(kernel) = Kernel::find(&memory, SYSTEM_CALL) {
            let [ip, sp, bp, dx, di, r10, r13] = registers;
            let ip = if near { ip | KERNEL_HALF } else { BASE + ip % 0x1000 };
            for registers in [start, Registers { ip, sp: STACK + sp % 0x200, bp, dx, di, r10, r13 }] {
                let frames = kernel.unwind(&memory, &registers, None);
                prop_assert!(frames.len() <= MOST_FRAMES);
                described(&kernel, &memory, &frames);
            }
            for task in kernel.tasks(&memory) {
                let _ = kernel.unwind_task(&memory, &task);
            }
            let _ = kernel.current(&memory, ip);
        }
    }

    #[test]
    fn any_entry_is_decoded_or_not(bytes in any::<[u8; 6]>()) {
        for layout in [Layout::TypeAndEnd, Layout::TypeAndSignal] {
            Entry::decode(&bytes, layout);
        }
    }
}

#[test]
fn entries_of_both_layouts_are_read() {
    // sp + 16, bp at the caller's stack - 16, a call.
    let bytes = [16, 0, 0xf0, 0xff, 0x15];
    let decoded = |flags, layout| Entry::decode(&[&bytes[..], &[flags]].concat(), layout).map(|entry| entry.kind);
    let old = |flags| decoded(flags, Layout::TypeAndEnd);
    let new = |flags| decoded(flags, Layout::TypeAndSignal);
    use orc::Kind::{Call, End, InterruptFrame, Registers, Undefined};
    assert_eq!([0, 1, 2, 3, 4].map(old), [Some(Call), Some(Registers), Some(InterruptFrame), None, Some(End)]);
    assert_eq!(
        [0, 1, 2, 3, 4].map(new),
        [Some(Undefined), Some(End), Some(Call), Some(Registers), Some(InterruptFrame)]
    );
    // The bit of a signal frame changes nothing else.
    assert_eq!([new(2 | 8), new(7)], [Some(Call), None]);
}
