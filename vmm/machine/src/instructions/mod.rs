//! Counts a vCPU's instructions: what a piece of a guest's code takes where time tells little, as on an emulated processor.
//!
//! The guest asks for it by two ports of 32 bits, and each vCPU has a counter of its own behind them:
//!
//! | instruction | |
//! |---|---|
//! | `in` of 0x5c04 | 0x504c5331 ("PLS1") if there is a counter; all-ones, as of any port of nobody, if not |
//! | `out` of 1 to 0x5c04 | a count begins with the next instruction; one under way is forgotten |
//! | `out` of 0 to 0x5c04 | it ends; this instruction is not counted |
//! | `in` of 0x5c00 | instructions of the last count that ended; all-ones if it has no result, or there was none |
//! | `out` of 2 to 0x5c04 | the next `in` of 0x5c00 gives those of them that locked: by prefix, or XCHG with memory |
//!
//! During a count the vCPU leaves the guest after each instruction (KVM_SET_GUEST_DEBUG of Documentation/virt/kvm/api.rst), which
//! takes a thousand times as long as the instruction. Interrupts, also non-maskable ones, wait until the count has ended: a
//! processor enters handlers with the trap flag clear, so KVM could not step through them. A repeated string instruction is one
//! instruction, however many rounds it takes. A MOV to SS and the instruction behind it are one, since nothing traps between.
//!
//! A count has no result, and ends at once, where steps do not tell what is executed, or the guest would wait for what waits
//! for the end of the count:
//! - after 1,000,000 steps;
//! - before HLT;
//! - at an instruction that is not of 64-bit mode, or that no page is mapped for;
//! - when the vCPU has an access to be handled, or asks for the end, elsewhere than at the instruction that is stepped over: it is
//!   in the handler of an exception or a system call, or it was reset.
//!
//! What the handler of an exception, an INT or a system call executes is not counted. A guest that looks at its flags in a
//! count finds the trap flag set there, and one that puts it back later traps itself: it saves and restores them outside. Its
//! own hardware breakpoints do not reach it in a count.

mod counter;
mod decode;
mod probe;
mod steps;

pub(crate) use counter::Counter;
pub(crate) use probe::lacking;
pub(crate) use steps::Stepper;

/// Gives the result.
pub const DATA_PORT: u16 = 0x5c00;
/// Tells that there is a counter, begins and ends counts.
pub const CONTROL_PORT: u16 = 0x5c04;
/// What [`CONTROL_PORT`] reads as: "PLS1".
pub const SIGNATURE: u32 = 0x504c_5331;
/// Written to [`CONTROL_PORT`], ends a count.
pub const STOP: u32 = 0;
/// Written to [`CONTROL_PORT`], begins a count.
pub const START: u32 = 1;
/// Written to [`CONTROL_PORT`], has [`DATA_PORT`] give the locked instructions once.
pub const SELECT_LOCKED: u32 = 2;
/// What [`DATA_PORT`] reads as where there is no result.
pub const NO_RESULT: u32 = u32::MAX;
/// Steps after which a count ends by itself.
pub const MOST_STEPS: u32 = 1_000_000;

/// Whether a machine's vCPUs have a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstructionCounter {
    /// It was not asked for.
    Absent,
    /// They have.
    Present,
    /// It was asked for, and this host's KVM lacks what it takes: the ports read all-ones.
    Lacking {
        /// What, for "KVM lacks".
        capability: &'static str,
    },
}

/// Whether the port is one of the counter's.
pub(crate) fn claims(port: u16) -> bool {
    matches!(port, DATA_PORT | CONTROL_PORT)
}
