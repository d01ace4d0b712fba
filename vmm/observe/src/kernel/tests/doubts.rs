//! Tables and stacks that mislead whoever believes them.

use super::super::btf::Btf;
use super::super::orc::Table;
use super::world::{ORC, btf};
use super::*;

#[test]
fn structures_without_a_name_in_each_other_are_not_followed_for_ever() {
    let members = [("", 0, 2); 300];
    let bytes = btf(&[("bomb", 8, &members)]);
    let mut memory = Pages::default();
    memory.write(table(3), &bytes);
    let types = Btf::read(&memory, table(3), table(3) + bytes.len() as u64).unwrap();
    assert_eq!(types.offset("bomb", &["x"]), None);
}

#[test]
fn a_stack_at_the_end_of_all_addresses_has_nothing_above_it() {
    let mut memory = kernel(Order::Since64);
    with_tasks(&mut memory);
    let mut page = vec![0; 4096];
    page[4088..].copy_from_slice(&after_call(1).to_le_bytes());
    memory.0.insert(u64::MAX >> 12, page);
    memory.words(0xffff_8880_0000_2000 + 96, &[u64::MAX - 55]);
    let kernel = found(&memory);
    let tasks = kernel.tasks(&memory).tasks;
    assert!(kernel.unwind_task(&memory, &tasks[1]).is_empty());
}

/// What the interrupt's entry in `work_2` has saved: where it came from, and with which privilege.
fn interrupted_at(memory: &mut Pages, ip: u64, cs: u64) -> Vec<String> {
    let registers = stacked(memory);
    memory.words(STACK + (7 + 16) * 8, &[ip, cs]);
    let kernel = found(memory);
    described(&kernel, memory, &kernel.unwind(memory, &registers, None)).split_off(3)
}

#[test]
fn a_call_of_nothing_below_an_exception_leads_back_to_its_caller() {
    let mut memory = kernel(Order::Since64);
    assert_eq!(interrupted_at(&mut memory, 0, 0x10), ["work_2+0x15/0x40", "0x0000000000000000", "work_3+0x15/0x40"]);
}

#[test]
fn user_mode_ends_a_stack_and_a_low_address_of_the_kernel_does_not() {
    let mut memory = kernel(Order::Since64);
    assert_eq!(interrupted_at(&mut memory, 0x40_1000, 0x33), ["work_2+0x15/0x40"]);
    assert_eq!(interrupted_at(&mut memory, 0x40_1000, 0x10), ["work_2+0x15/0x40", "? work_3+0x15/0x40"]);
    // Nobody is there with user's privilege.
    assert_eq!(interrupted_at(&mut memory, BASE + APART, 0x33), ["work_2+0x15/0x40"]);
}

#[test]
fn the_layout_of_6_3_is_not_taken_for_that_of_6_1() {
    let mut memory = Pages::default();
    let table = Table { distances: 0, entries: table(2), count: 5000 };
    memory.write(table.entries, &[0, 0, 0, 0, 0x15, 0b100].repeat(5000));
    assert!(!table.has_fourth_flag(&memory));
    // The last entry's end, where 6.3 has it.
    memory.write(table.entries + 4999 * 6 + 5, &[0b1000]);
    assert!(table.has_fourth_flag(&memory));
    let beyond = Table { count: ORC.len() as u64 + (1 << 20), ..table };
    assert!(beyond.has_fourth_flag(&memory), "what cannot be read");
}

/// `struct module` and what is in it, so that the kernel tells of its modules; their list is empty.
fn with_no_module(memory: &mut Pages) {
    const MODULE: [(&str, u32, u32); 5] =
        [("list", 0, 1), ("name", 16, 1), ("mem", 72, 3), ("kallsyms", 200, 1), ("arch", 208, 5)];
    let types = btf(&[
        ("module", 256, &MODULE),
        ("module_memory", 16, &[("base", 0, 1), ("size", 8, 1)]),
        ("mod_kallsyms", 24, &[("symtab", 0, 1), ("num_symtab", 8, 1), ("strtab", 16, 1)]),
        ("mod_arch_specific", 24, &[("num_orcs", 0, 1), ("orc_unwind_ip", 8, 1), ("orc_unwind", 16, 1)]),
    ]);
    memory.write(table(3), &types);
    for page in (table(3)..table(4)).step_by(4096) {
        memory.0.entry(page >> 12).or_insert_with(|| vec![0; 4096]);
    }
    memory.words(table(7), &[table(7), table(7)]);
}

#[test]
fn a_kernel_without_modules_is_not_one_that_does_not_tell() {
    let frame = Frame { address: 0xffff_ffff_c012_3456, interrupted: true, reliable: true };
    let mut memory = kernel(Order::Since64);
    let silent = found(&memory);
    assert_eq!(silent.describe(&memory, &frame), "0xffffffffc0123456 [module?]");
    with_no_module(&mut memory);
    let told = found(&memory);
    assert_eq!(told.describe(&memory, &frame), "0xffffffffc0123456");
}

#[test]
fn a_list_of_tasks_that_breaks_off_is_said_to() {
    let mut memory = kernel(Order::Since64);
    with_tasks(&mut memory);
    assert!(!found(&memory).tasks(&memory).is_cut);
    // The process's link to the next.
    memory.words(0xffff_8880_0000_1000, &[0x1000]);
    let list = found(&memory).tasks(&memory);
    assert_eq!((list.tasks.len(), list.is_cut), (2, true));
    // To itself.
    memory.words(0xffff_8880_0000_1000, &[0xffff_8880_0000_1000]);
    let list = found(&memory).tasks(&memory);
    assert_eq!((list.tasks.len(), list.is_cut), (4096, true));
}
