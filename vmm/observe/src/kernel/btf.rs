//! The layout of the kernel's structures, as the kernel describes it to itself (Documentation/bpf/btf.rst). Kernels without
//! `CONFIG_DEBUG_INFO_BTF` do not.

use super::memory::{Memory, u16_at, u32_at};

const MAGIC: u16 = 0xeb9f;
/// Debian's kernels have 6 MiB.
const MOST_BYTES: usize = 64 << 20;
/// `struct btf_type`.
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// Modifiers and names between a member and its structure that are followed, and structures without a name within each other.
const MOST_DEPTH: usize = 8;
/// Members looked at for one path; `task_struct` has some 300, those of structures without a name in it included.
const MOST_MEMBERS: usize = 1 << 16;

/// A kernel's types.
#[derive(Debug)]
pub(super) struct Btf {
    bytes: Vec<u8>,
    /// Where each type begins; the first is number 1.
    types: Vec<u32>,
    /// Where names begin and end.
    strings: (usize, usize),
}

/// A member of a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    offset: u64,
    kind: u32,
}

impl Btf {
    /// Reads it. Nothing if it is not what it should be.
    pub(super) fn read(memory: &dyn Memory, start: u64, end: u64) -> Option<Self> {
        Self::parse(memory.range(start, end, MOST_BYTES)?)
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let field = |at| u32_at(&bytes, at).and_then(|value| usize::try_from(value).ok());
        if u16_at(&bytes, 0)? != MAGIC {
            return None;
        }
        let header = field(4)?;
        let (types_at, types_end) = (header.checked_add(field(8)?)?, header.checked_add(field(8)?)? + field(12)?);
        let strings_at = header.checked_add(field(16)?)?;
        let strings = (strings_at, strings_at.checked_add(field(20)?)?);
        let mut types = Vec::new();
        let mut at = types_at;
        while at.checked_add(TYPE_BYTES)? <= types_end.min(bytes.len()) {
            types.push(u32::try_from(at).ok()?);
            let info = u32_at(&bytes, at + 4)?;
            at = at.checked_add(TYPE_BYTES)?.checked_add(extra_bytes(info)?)?;
        }
        Some(Self { bytes, types, strings })
    }

    /// Where a member is in a structure, along a path through structures within it: `["thread", "sp"]` of `task_struct`.
    pub(super) fn offset(&self, structure: &str, path: &[&str]) -> Option<u64> {
        let mut kind = self.named(structure)?;
        let mut offset: u64 = 0;
        let mut left = MOST_MEMBERS;
        for name in path {
            let member = self.member(kind, name, 0, &mut left)?;
            offset = offset.checked_add(member.offset)?;
            kind = member.kind;
        }
        Some(offset)
    }

    /// The size of a structure, in bytes.
    pub(super) fn size(&self, structure: &str) -> Option<u64> {
        let at = self.at(self.named(structure)?)?;
        u32_at(&self.bytes, at + 8).map(u64::from)
    }

    /// The number of the structure of a name. Declarations without a body are of another kind.
    fn named(&self, name: &str) -> Option<u32> {
        let number = self.types.iter().position(|&at| {
            let at = at as usize;
            u32_at(&self.bytes, at + 4).is_some_and(|info| kind(info) == STRUCT) && self.is_called(at, name)
        })?;
        u32::try_from(number + 1).ok()
    }

    fn at(&self, number: u32) -> Option<usize> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.types.get(index).map(|&at| at as usize)
    }

    /// Whether the name that stands at an offset is this.
    fn is_called(&self, at: usize, name: &str) -> bool {
        let Some(start) = u32_at(&self.bytes, at).and_then(|offset| self.strings.0.checked_add(offset as usize)) else {
            return false;
        };
        let bytes =
            start.checked_add(name.len()).and_then(|end| Some((self.bytes.get(start..end)?, self.bytes.get(end)?)));
        start < self.strings.1 && bytes == Some((name.as_bytes(), &0))
    }

    /// A member of a structure or union, also of those without a name in it, out of so many that are `left` to look at.
    fn member(&self, number: u32, name: &str, depth: usize, left: &mut usize) -> Option<Member> {
        let at = self.resolved(number)?;
        let info = u32_at(&self.bytes, at + 4)?;
        if depth > MOST_DEPTH || !matches!(kind(info), STRUCT | UNION) {
            return None;
        }
        let has_fields_of_bits = info >> 31 != 0;
        for index in 0..(info & 0xffff) as usize {
            // Structures without a name may be each in the one before, many times over.
            *left = left.checked_sub(1)?;
            let member = at + TYPE_BYTES + index * MEMBER_BYTES;
            let place = u32_at(&self.bytes, member + 8)?;
            let bits = if has_fields_of_bits { place & 0xff_ffff } else { place };
            let offset = u64::from(bits / 8);
            let kind = u32_at(&self.bytes, member + 4)?;
            if self.is_called(member, name) {
                return Some(Member { offset, kind });
            }
            if !self.is_called(member, "") {
                continue;
            }
            if let Some(inner) = self.member(kind, name, depth + 1, left) {
                return Some(Member { offset: offset.checked_add(inner.offset)?, kind: inner.kind });
            }
        }
        None
    }

    /// Where the type is that a number stands for behind typedefs, qualifiers and arrays.
    fn resolved(&self, mut number: u32) -> Option<usize> {
        for _ in 0..MOST_DEPTH {
            let at = self.at(number)?;
            number = match kind(u32_at(&self.bytes, at + 4)?) {
                // An array has its element's type after the header; the others in it.
                3 => u32_at(&self.bytes, at + TYPE_BYTES)?,
                8..=11 | 18 => u32_at(&self.bytes, at + 8)?,
                _ => return Some(at),
            };
        }
        None
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// What follows a type's header, in bytes.
fn extra_bytes(info: u32) -> Option<usize> {
    let members = (info & 0xffff) as usize;
    Some(match kind(info) {
        // Integers, variables, tags of declarations.
        1 | 14 | 17 => 4,
        // Arrays.
        3 => 12,
        // Structures, unions, sections of data, enumerations of 64 bits.
        STRUCT | UNION | 15 | 19 => members * MEMBER_BYTES,
        // Enumerations, prototypes.
        6 | 13 => members * 8,
        // Pointers, declarations, names, qualifiers, functions, floating point, tags of types.
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}
