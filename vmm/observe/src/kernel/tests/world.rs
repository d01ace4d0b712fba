//! A kernel made up: memory with the tables that a real one has, as scripts/kallsyms.c, objtool and pahole lay them out.

use std::collections::BTreeMap;

use super::super::Memory;

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
        for (offset, byte) in (0..).zip(bytes) {
            let Some(at) = address.checked_add(offset) else { return false };
            let Some(page) = self.0.get(&(at >> 12)) else { return false };
            *byte = page[(at & 0xfff) as usize];
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
