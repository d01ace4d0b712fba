//! How to get from a place in the kernel's text to its caller: the ORC tables that objtool leaves in the kernel and in each
//! module (arch/x86/include/asm/orc_types.h, Documentation/arch/x86/orc-unwinder.rst).

use super::memory::{Memory, u16_at};

/// `struct orc_entry`, packed.
const ENTRY_BYTES: u64 = 6;
/// The most entries of a table; Debian's kernels have 0.3 million.
const MOST_ENTRIES: u64 = 8 << 20;
/// Read at a time where all of a table is.
const READ_ENTRIES: usize = 4096;

/// Which layout the last two bytes of an entry have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Before 6.3, which put `signal:1` before `end` and is not read: `sp_reg:4, bp_reg:4, type:2, end:1`.
    TypeAndEnd,
    /// Since 6.4, which also has a section `.orc_header`: `sp_reg:4, bp_reg:4, type:3, signal:1`.
    TypeAndSignal,
}

/// What the stack pointer of the caller is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Undefined,
    PreviousSp,
    Dx,
    Di,
    Bp,
    Sp,
    R10,
    R13,
    BpIndirect,
    SpIndirect,
}

impl Base {
    /// `ORC_REG_*`, the same in all versions.
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Undefined,
            1 => Self::PreviousSp,
            2 => Self::Dx,
            3 => Self::Di,
            4 => Self::Bp,
            5 => Self::Sp,
            6 => Self::R10,
            7 => Self::R13,
            8 => Self::BpIndirect,
            9 => Self::SpIndirect,
            _ => return None,
        })
    }
}

/// What a place in the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nobody knows.
    Undefined,
    /// The outermost frame.
    End,
    /// A function that was called: the return address is below the caller's stack.
    Call,
    /// An entry that saved all registers.
    Registers,
    /// An entry that has saved what the processor pushes, and no more.
    InterruptFrame,
}

/// A decoded `struct orc_entry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) sp_offset: i64,
    pub(super) bp_offset: i64,
    pub(super) sp: Base,
    pub(super) bp: Base,
    pub(super) kind: Kind,
}

impl Entry {
    /// For a call through a pointer that was null: the return address is all that is on the stack (`null_orc_entry` of
    /// arch/x86/kernel/unwind_orc.c).
    pub(super) const NULL_CALL: Self =
        Self { sp_offset: 8, bp_offset: 0, sp: Base::Sp, bp: Base::Undefined, kind: Kind::Call };

    /// Decodes one. Nothing for what no kernel has.
    pub(super) fn decode(bytes: &[u8], layout: Layout) -> Option<Self> {
        let offset = |at| u16_at(bytes, at).map(|offset| i64::from(offset.cast_signed()));
        let (sp_offset, bp_offset) = (offset(0)?, offset(2)?);
        let (bases, flags) = (*bytes.get(4)?, *bytes.get(5)?);
        let (sp, bp) = (Base::from_number(bases & 0xf)?, Base::from_number(bases >> 4)?);
        let kind = match layout {
            Layout::TypeAndEnd if flags & 0b100 != 0 => Kind::End,
            Layout::TypeAndEnd => match flags & 0b11 {
                0 => Kind::Call,
                1 => Kind::Registers,
                2 => Kind::InterruptFrame,
                _ => return None,
            },
            Layout::TypeAndSignal => match flags & 0b111 {
                0 => Kind::Undefined,
                1 => Kind::End,
                2 => Kind::Call,
                3 => Kind::Registers,
                4 => Kind::InterruptFrame,
                _ => return None,
            },
        };
        Some(Self { sp_offset, bp_offset, sp, bp, kind })
    }
}

/// A table in a kernel's memory: addresses in rising order, each a distance to its own place, and an entry for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    /// Where the distances are, 4 bytes each.
    pub(super) distances: u64,
    /// Where the entries are.
    pub(super) entries: u64,
    /// How many.
    pub(super) count: u64,
}

impl Table {
    /// Whether an entry has a flag that [`Layout::TypeAndEnd`] does not know: the table of a 6.3, whose outermost frames have it.
    /// True if it cannot be read.
    pub(super) fn has_fourth_flag(&self, memory: &dyn Memory) -> bool {
        let bytes = self.count.min(MOST_ENTRIES) * ENTRY_BYTES;
        let mut chunk = vec![0; READ_ENTRIES * ENTRY_BYTES as usize];
        for start in (0..bytes).step_by(chunk.len()) {
            let length = usize::try_from(bytes - start).map_or(chunk.len(), |rest| rest.min(chunk.len()));
            let Some(entries) = chunk.get_mut(..length) else { return true };
            let is_read = self.entries.checked_add(start).is_some_and(|at| memory.read(at, entries));
            let has_flag = |entry: &[u8]| entry.last().is_some_and(|flags| flags & 0b1000 != 0);
            if !is_read || entries.chunks_exact(ENTRY_BYTES as usize).any(has_flag) {
                return true;
            }
        }
        false
    }

    /// The entry for an address: that of the last place before it or at it (`__orc_find()`).
    pub(super) fn find(&self, memory: &dyn Memory, layout: Layout, address: u64) -> Option<Entry> {
        let (mut low, mut high) = (0, self.count.min(MOST_ENTRIES));
        while low < high {
            let middle = low + (high - low) / 2;
            let at = self.distances.checked_add(middle * 4)?;
            let place = at.wrapping_add_signed(i64::from(memory.u32(at)?.cast_signed()));
            if place <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let at = self.entries.checked_add(low.checked_sub(1)? * ENTRY_BYTES)?;
        let mut bytes = [0; ENTRY_BYTES as usize];
        memory.read(at, &mut bytes).then(|| Entry::decode(&bytes, layout)).flatten()
    }
}
