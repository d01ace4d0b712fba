//! Where a kernel keeps its symbols: found by their shape, since nothing outside says where they are.
//!
//! scripts/kallsyms.c writes the parts one after the other, in an order that has changed: up to 6.3 offsets, base, number, names,
//! markers, (order by name), tokens, index; then number, names, markers, tokens, index, offsets, base, (order by name). The tokens
//! of single digits stand for themselves, one after the other, and give the table of tokens away.

use super::kallsyms::{Addresses, BLOCK, Symbols, TOKENS, Tokens, next_name, offsets};
use super::memory::{Memory, u16_at, u32_at, u64_at};

/// How much of the kernel's mapping is searched, from its system call entry upwards: its read-only data follow its text.
const SEARCHED_BYTES: u64 = 128 << 20;
/// Searched at a time.
const WINDOW_BYTES: usize = 1 << 20;
/// What is not mapped is left out by pages.
const PAGE_BYTES: usize = 4096;
/// Kernels are mapped by pages of 2 MiB at least (`CONFIG_PHYSICAL_ALIGN`).
const KERNEL_ALIGN: u64 = 2 << 20;
/// The lower end of where kernels are mapped (`__START_KERNEL_map`).
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// What is looked at before the table of tokens and after it: names take some 2.5 MiB in Debian's kernels.
const AROUND_BYTES: usize = 8 << 20;
/// The most symbols; Debian's kernels have 0.2 million.
const MOST_SYMBOLS: usize = 2 << 20;
/// The most bytes of a block of names: each has two bytes of length and 511 tokens at most.
const MOST_BLOCK_BYTES: u32 = 256 * 514;
/// The first byte of a token of one digit, and the number of the token.
const ZERO: usize = 0x30;
const DIGITS: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00";
/// The symbol that the search is checked by.
const SYSTEM_CALL: &str = "entry_SYSCALL_64";
/// Tables that may be tried. Elsewhere digits follow each other in a handful of places.
const MOST_TRIES: usize = 64;

/// Names walked in all, for whatever looks like a number of names and their markers. A real kernel's are walked once for the right
/// number, and [`STEPS_OF_A_NAME`] times by who reads them: two million steps for Debian's.
const MOST_STEPS: usize = 64 << 20;
/// What it costs to read a name, in names walked.
const STEPS_OF_A_NAME: usize = 8;

/// Looks for the symbols of the kernel whose system call entry is at this address (the register `IA32_LSTAR`). That its name is
/// found at that very address is the proof.
pub(super) fn symbols(memory: &dyn Memory, system_call: u64) -> Option<Symbols> {
    if system_call < KERNEL_MAP {
        return None;
    }
    let mut tries = 0;
    let mut steps = MOST_STEPS;
    let mut start = system_call & !(KERNEL_ALIGN - 1);
    let end = start.saturating_add(SEARCHED_BYTES);
    // What lies across two windows is in the second one too.
    let step = (WINDOW_BYTES - PAGE_BYTES) as u64;
    while start < end {
        let window = mapped(memory, start, WINDOW_BYTES).unwrap_or_default();
        for at in positions(&window, DIGITS) {
            tries += 1;
            if tries > MOST_TRIES || steps == 0 {
                return None;
            }
            let found = around(memory, start.saturating_add(at as u64));
            if let Some(symbols) = found.and_then(|parts| parts.symbols(system_call, &mut steps)) {
                return Some(symbols);
            }
        }
        start = start.checked_add(step)?;
    }
    None
}

/// So many bytes from an address on, with zeroes where nothing is mapped.
fn patched(memory: &dyn Memory, start: u64, length: usize) -> Vec<u8> {
    mapped(memory, start, length).unwrap_or_else(|| vec![0; length])
}

/// The same; nothing if none of it is mapped.
fn mapped(memory: &dyn Memory, start: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut rest = bytes.as_mut_slice();
    let mut address = Some(start);
    let mut any = false;
    while let Some(at) = address.filter(|_| !rest.is_empty()) {
        let in_page = PAGE_BYTES - usize::try_from(at).map_or(0, |at| at % PAGE_BYTES);
        let (page, later) = rest.split_at_mut(in_page.min(rest.len()));
        if memory.read(at, page) {
            any = true;
        } else {
            page.fill(0);
        }
        address = at.checked_add(page.len() as u64);
        rest = later;
    }
    any.then_some(bytes)
}

fn positions<'a>(bytes: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    bytes.windows(needle.len()).enumerate().filter_map(move |(at, window)| (window == needle).then_some(at))
}

/// A table of tokens and what lies around it.
struct Parts {
    tokens: Tokens,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// The parts around a table of tokens whose digits are at an address.
fn around(memory: &dyn Memory, digits: u64) -> Option<Parts> {
    // The tokens from the digits on, then the index, which says where the table begins.
    let rest = patched(memory, digits, 64 * 1024);
    let mut at = 0;
    for _ in ZERO..TOKENS {
        at += rest.get(at..)?.iter().take(1024).position(|&byte| byte == 0)? + 1;
    }
    // The assembler may fill in some bytes before the index.
    let (index_at, table_at, tokens) = (at..at + 8).find_map(|index_at| {
        let index = rest.get(index_at..index_at + TOKENS * 2)?;
        let distance = u16_at(index, ZERO * 2)?;
        let table_at = digits.checked_sub(u64::from(distance))?;
        let table = patched(memory, table_at, usize::from(distance) + at);
        Some((index_at, table_at, Tokens::parse(&table, index)?))
    })?;
    let start = table_at.checked_sub(AROUND_BYTES as u64)? & !7;
    let before = patched(memory, start, usize::try_from(table_at - start).ok()?);
    let after_at = digits.checked_add((index_at + TOKENS * 2) as u64)?;
    // Aligned by the assembler, to 4 or 8.
    let aligned = after_at.checked_add(3)? & !3;
    Some(Parts { tokens, before, after: patched(memory, aligned, AROUND_BYTES) })
}

impl Parts {
    /// The symbols, if among these parts all is where it has to be.
    fn symbols(mut self, system_call: u64, steps: &mut usize) -> Option<Symbols> {
        let names = Names::find(&self.before, steps)?;
        let text = self.before.get(names.start..names.end)?.to_vec();
        let candidates = [self.after_index(names.count), self.before_names(&names)];
        self.before = Vec::new();
        candidates.into_iter().flatten().find_map(|addresses| {
            *steps = steps.saturating_sub(names.count * STEPS_OF_A_NAME);
            let symbols = Symbols::new(self.tokens.clone(), text.clone(), addresses)?;
            (symbols.addresses(&[SYSTEM_CALL]) == [Some(system_call)]).then_some(symbols)
        })
    }

    /// Offsets and base after the index of tokens.
    fn after_index(&self, count: usize) -> Option<Addresses> {
        // Each is aligned to 8, and `after` to 4.
        let places = [(0, 0), (0, 4), (4, 0), (4, 4)];
        places.into_iter().find_map(|(start, padding)| {
            let end = start + count * 4;
            addresses(self.after.get(start..end)?, u64_at(&self.after, end + padding)?)
        })
    }

    /// Offsets and base before the number of names.
    fn before_names(&self, names: &Names) -> Option<Addresses> {
        let base_at = names.count_at.checked_sub(8)? & !7;
        let start = base_at.checked_sub((names.count * 4).next_multiple_of(8))?;
        addresses(self.before.get(start..start + names.count * 4)?, u64_at(&self.before, base_at)?)
    }
}

fn addresses(bytes: &[u8], base: u64) -> Option<Addresses> {
    let offsets = offsets(bytes);
    let absolute_percpu = offsets.iter().any(|offset| offset.cast_signed() < 0);
    (base >= KERNEL_MAP && base.is_multiple_of(4096)).then_some(Addresses { offsets, base, absolute_percpu })
}

/// Where names are.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    start: usize,
    end: usize,
    count: usize,
    /// Where their number stands.
    count_at: usize,
}

impl Names {
    /// Looks for them backwards from the end: markers are an array that begins with 0 and rises, a block of names at a step.
    fn find(before: &[u8], steps: &mut usize) -> Option<Self> {
        let mut tries = 0;
        for markers_at in (0..before.len().saturating_sub(8) & !3).rev().step_by(4).map(|at| at & !3) {
            if u32_at(before, markers_at) != Some(0) || !is_block(0, u32_at(before, markers_at + 4)?) {
                continue;
            }
            tries += 1;
            if tries > MOST_TRIES || *steps == 0 {
                return None;
            }
            let markers = rising(before, markers_at);
            // What follows the markers may look like one more.
            for extra in 0..3.min(markers.len()) {
                let markers = markers.get(..markers.len() - extra)?;
                if let Some(names) = Self::before_markers(before, markers_at, markers, steps) {
                    return Some(names);
                }
            }
        }
        None
    }

    /// Names that end where the markers begin, up to what the assembler fills in, and agree with them.
    fn before_markers(before: &[u8], markers_at: usize, markers: &[u32], steps: &mut usize) -> Option<Self> {
        let last = usize::try_from(*markers.last()?).ok()?;
        let most = markers_at.checked_sub(last)?;
        let least = most.saturating_sub(MOST_BLOCK_BYTES as usize + 8) & !3;
        (least..most).step_by(4).find_map(|start| {
            [4, 8].into_iter().find_map(|distance| {
                let count_at = start.checked_sub(distance)?;
                let count = usize::try_from(u32_at(before, count_at)?).ok()?;
                if count.div_ceil(BLOCK) != markers.len() || count > MOST_SYMBOLS {
                    return None;
                }
                let names = before.get(start..markers_at)?;
                let mut at = 0;
                for number in 0..count {
                    // Each start has all names after it: where every word is a number, that is the square of them.
                    *steps = steps.checked_sub(1)?;
                    if number % BLOCK == 0 && markers.get(number / BLOCK).map(|&marker| marker as usize) != Some(at) {
                        return None;
                    }
                    at = next_name(names, at)?;
                }
                (names.len() - at < 8).then_some(Self { start, end: start + at, count, count_at })
            })
        })
    }
}

/// The numbers from an offset on, as long as each is a block of names more than the one before.
fn rising(before: &[u8], start: usize) -> Vec<u32> {
    let mut numbers: Vec<u32> = Vec::new();
    for at in (start..before.len()).step_by(4) {
        let Some(number) = u32_at(before, at) else { break };
        if numbers.last().is_some_and(|&last| !is_block(last, number)) || numbers.len() > MOST_SYMBOLS / BLOCK {
            break;
        }
        numbers.push(number);
    }
    numbers
}

/// Two markers that follow each other: 256 names of two bytes at least.
fn is_block(marker: u32, next: u32) -> bool {
    next.checked_sub(marker).is_some_and(|bytes| (512..=MOST_BLOCK_BYTES).contains(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each word may be the number of names that fit 512 markers, and names of two bytes from it on.
    #[test]
    fn words_that_each_may_be_a_number_of_names_are_not_all_tried() {
        let mut before = 0x0001_ff01_u32.to_le_bytes().repeat(AROUND_BYTES / 4);
        for end in [2 << 20, 4 << 20, 6 << 20, 8 << 20] {
            for number in 0..512 {
                let at = end - 4096 + number * 4;
                before[at..at + 4].copy_from_slice(&u32::try_from(number * 512).unwrap().to_le_bytes());
            }
        }
        let mut steps = MOST_STEPS;
        assert_eq!(Names::find(&before, &mut steps), None);
        assert_eq!(steps, 0);
    }
}
