//! A kernel made up: memory with the tables that a real one has, as scripts/kallsyms.c, objtool and pahole lay them out.

use std::collections::BTreeMap;

use super::{Memory, Registers};

pub(super) const BASE: u64 = 0xffff_ffff_8120_0000;
/// Where the text begins, and what addresses are counted from.
const TEXT: u64 = BASE - 0x1000;
pub(super) const SYSTEM_CALL: u64 = BASE + 0x40_0080;
pub(super) const TRAMPOLINE: u64 = BASE + 0x41_0000;
/// Functions `work_0`, `work_1`, … are at this distance from each other, from `BASE` on.
pub(super) const APART: u64 = 0x40;
pub(super) const FUNCTIONS: u64 = 700;
const RODATA: u64 = BASE + 0x60_0000;
const TABLES: u64 = BASE + 0x80_0000;
pub(super) const STACK: u64 = 0xffff_c900_0000_4000;

/// Memory in pages; what nobody wrote is not there.
#[derive(Default, Clone)]
pub(super) struct Pages(pub(super) BTreeMap<u64, Vec<u8>>);

impl Pages {
    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) {
        for (at, byte) in (address..).zip(bytes) {
            let page = self.0.entry(at >> 12).or_insert_with(|| vec![0; 4096]);
            page[(at & 0xfff) as usize] = *byte;
        }
    }

    pub(super) fn words(&mut self, address: u64, words: &[u64]) {
        self.write(address, &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>());
    }
}

impl Memory for Pages {
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        let (mut at, mut rest) = (Some(address), bytes);
        while !rest.is_empty() {
            let Some((page, within)) = at.map(|at| (at >> 12, (at & 0xfff) as usize)) else { return false };
            let (now, later) = rest.split_at_mut(rest.len().min(4096 - within));
            let Some(page) = self.0.get(&page) else { return false };
            now.copy_from_slice(&page[within..within + now.len()]);
            at = at.and_then(|at| at.checked_add(now.len() as u64));
            rest = later;
        }
        true
    }
}

/// In which order kallsyms has its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Before64,
    Since64,
}

/// Symbols of the kernel, its own variables last.
pub(super) fn symbols() -> Vec<(u64, String)> {
    let mut symbols = vec![(0, "Afixed_percpu_data".to_owned()), (0x2_1440, "Dpcpu_hot".to_owned())];
    symbols.push((TEXT, "T_stext".to_owned()));
    symbols.extend((0..FUNCTIONS).map(|number| (BASE + number * APART, format!("twork_{number}"))));
    symbols.push((SYSTEM_CALL, "Tentry_SYSCALL_64".to_owned()));
    symbols.push((SYSTEM_CALL, "Tan_alias_of_it".to_owned()));
    symbols.push((TRAMPOLINE, "Tarch_rethook_trampoline".to_owned()));
    symbols.push((BASE + 0x50_0000, "T_etext".to_owned()));
    for (number, name) in [
        "__start_orc_unwind_ip",
        "__stop_orc_unwind_ip",
        "__start_orc_unwind",
        "__start_BTF",
        "__stop_BTF",
        "init_task",
    ]
    .iter()
    .enumerate()
    {
        symbols.push((table(number), format!("D{name}")));
    }
    symbols.push((table(6), "djiffies_64".to_owned()));
    symbols.push((table(7), "dmodules".to_owned()));
    symbols.push((table(8), "R__start_orc_header".to_owned()));
    // The end of the table of places is where the tests have put it.
    symbols.retain(|(_, name)| name != "D__stop_orc_unwind_ip");
    symbols.push((table(0) + 4 * ORC.len() as u64, "D__stop_orc_unwind_ip".to_owned()));
    symbols.sort_by_key(|(address, _)| *address);
    symbols
}

pub(super) fn table(number: usize) -> u64 {
    TABLES + 0x1_0000 * number as u64
}

/// Places and their entries, as they are since 6.4: sp_offset, bp_offset, registers, type.
pub(super) const ORC: [(u64, i16, i16, u8, u8); 5] = [
    // A function that has pushed bp (and has it at -16 from the caller's stack) and 8 bytes more.
    (BASE, 24, -16, 0x15, 2),
    // A leaf.
    (BASE + APART, 8, 0, 0x05, 2),
    // An interrupt's entry, with all registers saved.
    (BASE + 2 * APART, 0, 0, 0x05, 3),
    // Outermost.
    (BASE + 3 * APART, 0, 0, 0x00, 1),
    (BASE + 4 * APART, 0, 0, 0x00, 0),
];

fn align(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}

fn kallsyms(order: Order) -> Vec<u8> {
    let symbols = symbols();
    // Tokens of one character stand for themselves; the others are pairs.
    let token = |number: u8| match number {
        0x80 => "work_".to_owned(),
        number if number.is_ascii_graphic() => char::from(number).to_string(),
        number => format!("q{number:x}"),
    };
    let (mut table, mut index) = (Vec::new(), Vec::new());
    for number in 0..=255 {
        index.extend(u16::try_from(table.len()).unwrap().to_le_bytes());
        table.extend(token(number).bytes());
        table.push(0);
    }
    let (mut names, mut markers) = (Vec::new(), Vec::new());
    for (number, (_, name)) in symbols.iter().enumerate() {
        if number % 256 == 0 {
            markers.extend(u32::try_from(names.len()).unwrap().to_le_bytes());
        }
        let packed =
            name.replace("work_", "\u{1}").bytes().map(|byte| if byte == 1 { 0x80 } else { byte }).collect::<Vec<_>>();
        names.push(u8::try_from(packed.len()).unwrap());
        names.extend(packed);
    }
    let offsets = symbols.iter().flat_map(|(address, _)| {
        let offset = if *address < TEXT {
            i64::try_from(*address).unwrap()
        } else {
            -1 - i64::try_from(address - TEXT).unwrap()
        };
        i32::try_from(offset).unwrap().to_le_bytes()
    });
    let offsets: Vec<u8> = offsets.collect();
    let count = u32::try_from(symbols.len()).unwrap().to_le_bytes();
    let by_name: Vec<u8> = (0..symbols.len() * 3).map(|number| (number * 37 % 251) as u8).collect();
    let base = TEXT.to_le_bytes();
    let parts: Vec<&[u8]> = match order {
        Order::Before64 => vec![&offsets, &base, &count, &names, &markers, &by_name, &table, &index],
        Order::Since64 => vec![&count, &names, &markers, &table, &index, &offsets, &base, &by_name],
    };
    let mut bytes = b"read-only data".to_vec();
    for part in parts {
        align(&mut bytes);
        bytes.extend(part);
    }
    bytes
}

/// The kernel without tasks.
pub(super) fn kernel(order: Order) -> Pages {
    let mut pages = Pages::default();
    // Something that looks like the table of tokens and is none.
    pages.write(RODATA - 0x1000, b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00:");
    pages.write(RODATA, &kallsyms(order));
    for (number, (place, sp_offset, bp_offset, bases, kind)) in ORC.iter().enumerate() {
        let at = table(0) + 4 * number as u64;
        let distance = i32::try_from(place.wrapping_sub(at).cast_signed()).unwrap();
        pages.write(at, &distance.to_le_bytes());
        let mut entry = [sp_offset.to_le_bytes(), bp_offset.to_le_bytes()].concat();
        entry.extend([*bases, *kind]);
        pages.write(table(2) + 6 * number as u64, &entry);
    }
    pages.words(table(6), &[4_294_937_296]);
    // Text, with a call before each place that the tests return to.
    for number in 0..8 {
        pages.write(BASE + number * APART + 0x10, &[0xe8, 0, 0, 0, 0]);
    }
    pages
}

/// The address after the call in `work_N`.
pub(super) fn after_call(number: u64) -> u64 {
    BASE + number * APART + 0x15
}

/// Name, offset in bytes, number of the type.
type Member<'a> = (&'a str, u32, u32);

/// BTF for structures: name, size, members; type 1 is an integer.
pub(super) fn btf(structures: &[(&str, u32, &[Member<'_>])]) -> Vec<u8> {
    let mut strings = vec![0];
    let mut types: Vec<u8> = Vec::new();
    let mut name = |text: &str| {
        if text.is_empty() {
            return 0;
        }
        let at = u32::try_from(strings.len()).unwrap();
        strings.extend(text.bytes());
        strings.push(0);
        at
    };
    let mut put = |word: u32| types.extend(word.to_le_bytes());
    for word in [name("int"), 1 << 24, 4, 32] {
        put(word);
    }
    for (structure, size, members) in structures {
        for word in [name(structure), 4 << 24 | u32::try_from(members.len()).unwrap(), *size] {
            put(word);
        }
        for (member, offset, kind) in *members {
            for word in [name(member), *kind, offset * 8] {
                put(word);
            }
        }
    }
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    let (types_length, strings_length) = (u32::try_from(types.len()).unwrap(), u32::try_from(strings.len()).unwrap());
    for word in [24, 0, types_length, types_length, strings_length] {
        bytes.extend(u32::to_le_bytes(word));
    }
    bytes.extend(types);
    bytes.extend(strings);
    bytes
}

/// Interrupted in the leaf `work_1`, called by `work_0`, called by `work_0`, interrupted in `work_1` of an interrupt's entry, …
pub(super) fn stacked(memory: &mut Pages) -> Registers {
    let frame = STACK + 0x100;
    memory.words(STACK, &[after_call(0), 0x11, 0xb0b, after_call(0), 0x22, 0xb1b, after_call(2)]);
    // `struct pt_regs` where work_2 is returned to: r15 to orig_ax, then ip, cs, flags, sp, ss.
    let mut saved = vec![0; 16];
    saved.extend([BASE + APART + 1, 0x10, 0x202, frame, 0x18]);
    memory.words(STACK + 7 * 8, &saved);
    memory.words(frame, &[after_call(3), 0]);
    Registers { ip: BASE + APART, sp: STACK, bp: 0xb2b, ..Registers::default() }
}

/// Three tasks: what a CPU idles with, a process, and its second thread, which has been switched away from in work_1.
pub(super) fn with_tasks(memory: &mut Pages) {
    const INIT: [(&str, u32, u32); 15] = [
        ("tasks", 0, 1),
        ("signal", 16, 1),
        ("thread_node", 24, 1),
        ("pid", 40, 1),
        ("tgid", 44, 1),
        ("comm", 48, 1),
        ("__state", 64, 1),
        ("exit_state", 68, 1),
        ("flags", 72, 1),
        ("on_cpu", 76, 1),
        // Behind a structure without a name.
        ("", 80, 3),
        ("thread", 96, 4),
        ("stack", 104, 1),
        ("rethooks", 112, 1),
        ("last", 120, 1),
    ];
    let types = btf(&[
        ("task_struct", 128, &INIT),
        ("", 16, &[("nvcsw", 0, 1), ("nivcsw", 8, 1)]),
        ("thread_struct", 8, &[("sp", 0, 1)]),
        ("signal_struct", 16, &[("thread_head", 0, 1)]),
        ("pcpu_hot", 8, &[("current_task", 0, 1)]),
        ("rethook_node", 32, &[("llist", 8, 1), ("ret_addr", 16, 1), ("frame", 24, 1)]),
    ]);
    memory.write(table(3), &types);
    // What is there up to the end that kallsyms has belongs to nobody.
    for page in (table(3)..table(4)).step_by(4096) {
        memory.0.entry(page >> 12).or_insert_with(|| vec![0; 4096]);
    }
    let (init, process, thread, signal) =
        (table(5), 0xffff_8880_0000_1000, 0xffff_8880_0000_2000, 0xffff_8880_0000_3000);
    let mut task = |at: u64, next: u64, ids: [u32; 2], comm: &[u8], state: u32, node: u64, sp: u64| {
        memory.words(at, &[next, next, signal, node, 0]);
        memory.write(at + 40, &[ids[0].to_le_bytes(), ids[1].to_le_bytes()].concat());
        memory.write(at + 48, comm);
        memory.write(at + 64, &state.to_le_bytes());
        memory.words(at + 80, &[3, 4, sp]);
        memory.words(at + 104, &[0, 0, 0]);
    };
    task(init, process, [0, 0], b"swapper/0\0", 0, 0, 0);
    task(process, init, [7, 7], b"storm\x1b[2J\0", 1, thread + 24, 0);
    task(thread, 0, [8, 7], b"a name of 16 bytes", 2, signal, STACK);
    memory.words(signal, &[process + 24]);
    memory.words(STACK, &[0, 0, 0, 0, 0, 0xb0b, after_call(1), after_call(3)]);
}
