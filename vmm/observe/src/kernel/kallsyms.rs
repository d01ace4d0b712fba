//! The kernel's own table of symbols, at the addresses at which it runs.
//!
//! Linux keeps it in its read-only data, compressed (scripts/kallsyms.c writes it, kernel/kallsyms.c reads it): each name is a
//! length and so many tokens out of 256; every 256th name has a marker. Addresses are offsets to a base that the kernel
//! relocates with itself, so what comes out needs no correction for KASLR.

use super::memory::{u16_at, u32_at};

/// The longest name with its type (`KSYM_NAME_LEN`).
const MOST_NAME_BYTES: usize = 512;
/// Tokens of the compression, one for each value of a byte.
pub(super) const TOKENS: usize = 256;
/// Names between two markers.
pub(super) const BLOCK: usize = 256;

/// A symbol's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name, as the kernel has it.
    pub name: String,
    /// The address asked for, less the symbol's.
    pub offset: u64,
    /// From the symbol to the next one.
    pub size: u64,
}

/// The tokens that names are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tokens(pub(super) Vec<Vec<u8>>);

impl Tokens {
    /// From `kallsyms_token_table` and `kallsyms_token_index`; nothing if they do not agree with each other.
    pub(super) fn parse(table: &[u8], index: &[u8]) -> Option<Self> {
        let mut tokens = Vec::with_capacity(TOKENS);
        let mut expected = 0;
        for number in 0..TOKENS {
            let start = usize::from(u16_at(index, number * 2)?);
            if start != expected {
                return None;
            }
            let rest = table.get(start..)?;
            let length = rest.iter().take(MOST_NAME_BYTES).position(|&byte| byte == 0)?;
            tokens.push(rest.get(..length)?.to_vec());
            expected = start + length + 1;
        }
        Some(Self(tokens))
    }
}

/// The addresses of symbols, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addresses {
    /// `kallsyms_offsets`.
    pub(super) offsets: Vec<u32>,
    /// `kallsyms_relative_base`, relocated.
    pub(super) base: u64,
    /// `CONFIG_KALLSYMS_ABSOLUTE_PERCPU`: offsets that are not negative are addresses by themselves.
    pub(super) absolute_percpu: bool,
}

impl Addresses {
    /// As `kallsyms_sym_address()` has it.
    fn get(&self, number: usize) -> Option<u64> {
        let offset = *self.offsets.get(number)?;
        if !self.absolute_percpu {
            return Some(self.base.wrapping_add(u64::from(offset)));
        }
        let signed = i64::from(offset.cast_signed());
        Some(if signed >= 0 { u64::from(offset) } else { self.base.wrapping_sub(1).wrapping_add_signed(-signed) })
    }
}

/// The symbols of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbols {
    tokens: Tokens,
    names: Vec<u8>,
    /// Where each block begins in `names`.
    blocks: Vec<usize>,
    addresses: Addresses,
}

impl Symbols {
    /// Puts the parts together; `names` begins with the first name. Nothing if there are fewer names than addresses.
    pub(super) fn new(tokens: Tokens, names: Vec<u8>, addresses: Addresses) -> Option<Self> {
        let mut blocks = Vec::new();
        let mut at = 0;
        for number in 0..addresses.offsets.len() {
            if number % BLOCK == 0 {
                blocks.push(at);
            }
            at = next_name(&names, at)?;
        }
        Some(Self { tokens, names, blocks, addresses })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.addresses.offsets.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The addresses of these symbols, in their order: of each the first that is so called.
    #[must_use]
    pub fn addresses(&self, wanted: &[&str]) -> Vec<Option<u64>> {
        let mut found = vec![None; wanted.len()];
        let mut at = 0;
        let mut name = Vec::new();
        for number in 0..self.len() {
            let Some(next) = self.expand(at, &mut name) else { break };
            at = next;
            for (wanted, found) in wanted.iter().zip(&mut found) {
                if found.is_none() && name.get(1..) == Some(wanted.as_bytes()) {
                    *found = self.addresses.get(number);
                }
            }
        }
        found
    }

    /// The symbol that an address belongs to: the last one before it, and of several at one address the first.
    #[must_use]
    pub fn lookup(&self, address: u64) -> Option<Found> {
        let after = self.position(|symbol| symbol <= address);
        let symbol = self.addresses.get(after.checked_sub(1)?)?;
        let first = self.position(|other| other < symbol);
        let end = self.addresses.get(after).unwrap_or(symbol);
        Some(Found { name: self.name(first)?, offset: address - symbol, size: end.saturating_sub(symbol) })
    }

    /// How many of the symbols, which are in the order of their addresses, come before the first that is not so.
    fn position(&self, is_before: impl Fn(u64) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.addresses.get(middle).is_some_and(&is_before) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn name(&self, number: usize) -> Option<String> {
        let mut at = *self.blocks.get(number / BLOCK)?;
        for _ in 0..number % BLOCK {
            at = next_name(&self.names, at)?;
        }
        let mut name = Vec::new();
        self.expand(at, &mut name)?;
        let readable = name.iter().skip(1).map(|&byte| if byte.is_ascii_graphic() { char::from(byte) } else { '?' });
        Some(readable.collect())
    }

    /// Writes the name at an offset, its type first, and gives where the next one begins.
    fn expand(&self, at: usize, name: &mut Vec<u8>) -> Option<usize> {
        name.clear();
        let (start, length) = name_at(&self.names, at)?;
        for &token in self.names.get(start..start + length)? {
            name.extend(self.tokens.0.get(usize::from(token))?);
            if name.len() > MOST_NAME_BYTES {
                name.truncate(MOST_NAME_BYTES);
                break;
            }
        }
        Some(start + length)
    }
}

/// Where the tokens of the name at an offset begin, and how many they are: lengths of 128 and more take two bytes.
fn name_at(names: &[u8], at: usize) -> Option<(usize, usize)> {
    let first = usize::from(*names.get(at)?);
    if first & 0x80 == 0 {
        return Some((at + 1, first));
    }
    let second = usize::from(*names.get(at + 1)?);
    Some((at + 2, first & 0x7f | second << 7))
}

/// Where the name after the one at an offset begins. A symbol has a type at least, so its length is not 0.
pub(super) fn next_name(names: &[u8], at: usize) -> Option<usize> {
    let (start, length) = name_at(names, at)?;
    let next = start.checked_add(length)?;
    (length > 0 && next <= names.len()).then_some(next)
}

/// `kallsyms_offsets` out of bytes.
pub(super) fn offsets(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).filter_map(|word| u32_at(word, 0)).collect()
}
