//! From registers to the calls that led there, as `unwind_next_frame()` of arch/x86/kernel/unwind_orc.c does it.

use super::memory::Memory;
use super::orc::{Base, Entry, Kind};

/// Frames of a stack. The kernel's own dumps have 64.
pub const MOST_FRAMES: usize = 64;
/// Words of a stack that are looked at where the tables do not help: 16 KiB, the kernel's (`THREAD_SIZE`).
const MOST_SCANNED_WORDS: u64 = 2048;
/// Return addresses that such a look gives.
const MOST_GUESSED: usize = 24;
/// Addresses below are the user's (canonical lower half).
pub(super) const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;

/// Offsets in `struct pt_regs` (arch/x86/include/asm/ptrace.h).
const PT_R13: u64 = 16;
const PT_BP: u64 = 32;
const PT_R10: u64 = 56;
const PT_DX: u64 = 96;
const PT_DI: u64 = 112;
const PT_IP: u64 = 128;
/// Offsets in what the processor pushes at an interrupt.
const FRAME_CS: u64 = 8;
const FRAME_SP: u64 = 24;

/// The registers that a stack can be told by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Registers {
    /// RIP.
    pub ip: u64,
    /// RSP.
    pub sp: u64,
    /// RBP.
    pub bp: u64,
    /// RDX.
    pub dx: u64,
    /// RDI.
    pub di: u64,
    /// R10.
    pub r10: u64,
    /// R13.
    pub r13: u64,
}

/// A place in a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The instruction: where it was interrupted, or the one after the call.
    pub address: u64,
    /// It was interrupted there, or is there now: `address` belongs to the function.
    pub interrupted: bool,
    /// Found by the tables. If not, it is a word on the stack that looks like a return address, as `?` in the kernel's own
    /// dumps.
    pub reliable: bool,
}

/// What unwinding has to know of the kernel's text.
pub(super) trait Text {
    /// The entry for an address.
    fn orc(&self, address: u64) -> Option<Entry>;
    /// Whether an address is in the text of the kernel or of a module.
    fn is_text(&self, address: u64) -> bool;
    /// The return address that was in `slot` before a return probe put its own there; the one that is there, if none did. Nothing
    /// if it is not known.
    fn returned_to(&self, slot: u64, address: u64) -> Option<u64>;
}

/// Where registers other than `bp` are known from.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// The processor's.
    Live(Registers),
    /// Saved by an entry: `struct pt_regs` at this address.
    Saved(u64),
    /// The caller's are lost.
    Lost,
}

struct State {
    ip: u64,
    sp: u64,
    bp: u64,
    known: Known,
    /// `ip` is not behind a call.
    interrupted: bool,
    /// The processor was in user mode.
    user: bool,
}

/// The stack of whoever has these registers, innermost first. `interrupted`: they are a processor's and not those that a
/// function left behind when it called another. Ends where user mode begins, at the outermost frame, or where the memory does not
/// hold what the tables say; what is beyond that is guessed.
pub(super) fn unwind(memory: &dyn Memory, text: &dyn Text, registers: &Registers, interrupted: bool) -> Vec<Frame> {
    let known = if interrupted { Known::Live(*registers) } else { Known::Lost };
    let mut state = State { ip: registers.ip, sp: registers.sp, bp: registers.bp, known, interrupted, user: false };
    let mut frames = Vec::new();
    // At 0 it is where the kernel has called a pointer that was null.
    while frames.len() < MOST_FRAMES && (state.ip >= KERNEL_HALF || state.ip == 0) {
        frames.push(Frame { address: state.ip, interrupted: state.interrupted, reliable: true });
        match next(memory, text, &state) {
            Next::Frame(next) => state = next,
            Next::End => break,
            Next::Unknown => {
                guess(memory, text, state.sp, &mut frames);
                break;
            }
        }
    }
    frames
}

enum Next {
    Frame(State),
    End,
    Unknown,
}

fn next(memory: &dyn Memory, text: &dyn Text, state: &State) -> Next {
    // A return address may be that of the next function, if the call was the last instruction and never returns.
    let looked_up = if state.interrupted { state.ip } else { state.ip.wrapping_sub(1) };
    let entry = match text.orc(looked_up) {
        Some(entry) => entry,
        None if state.ip == 0 => Entry::NULL_CALL,
        // Generated code, or a module whose tables are not known.
        None => return Next::Unknown,
    };
    match entry.kind {
        Kind::End => Next::End,
        Kind::Undefined => Next::Unknown,
        Kind::Call | Kind::Registers | Kind::InterruptFrame => {
            match caller(memory, text, state, &entry) {
                // User mode, whose stack is not the kernel's.
                Some(next) if next.user => Next::End,
                Some(next) if text.is_text(next.ip) || next.interrupted && next.ip == 0 => Next::Frame(next),
                _ => Next::Unknown,
            }
        }
    }
}

fn caller(memory: &dyn Memory, text: &dyn Text, state: &State, entry: &Entry) -> Option<State> {
    let register = |offset, live: fn(&Registers) -> u64| match &state.known {
        Known::Live(registers) => Some(live(registers)),
        Known::Saved(at) => memory.u64(at.checked_add(offset)?),
        Known::Lost => None,
    };
    let plus = |base: u64| base.wrapping_add_signed(entry.sp_offset);
    let sp = match entry.sp {
        Base::Sp => plus(state.sp),
        Base::Bp => plus(state.bp),
        Base::SpIndirect => plus(memory.u64(state.sp)?),
        Base::BpIndirect => memory.u64(plus(state.bp))?,
        Base::R10 => register(PT_R10, |registers| registers.r10)?,
        Base::R13 => register(PT_R13, |registers| registers.r13)?,
        Base::Di => register(PT_DI, |registers| registers.di)?,
        Base::Dx => register(PT_DX, |registers| registers.dx)?,
        Base::Undefined | Base::PreviousSp => return None,
    };
    let bp = match entry.bp {
        // Whoever was interrupted has it among all the others.
        Base::Undefined if entry.kind == Kind::Registers => memory.u64(sp.checked_add(PT_BP)?)?,
        Base::Undefined => state.bp,
        Base::PreviousSp => memory.u64(sp.wrapping_add_signed(entry.bp_offset))?,
        Base::Bp => memory.u64(state.bp.wrapping_add_signed(entry.bp_offset))?,
        _ => return None,
    };
    Some(match entry.kind {
        Kind::Registers => {
            let frame = sp.checked_add(PT_IP)?;
            State { known: Known::Saved(sp), ..pushed(memory, frame, bp)? }
        }
        Kind::InterruptFrame => pushed(memory, sp, bp)?,
        _ => {
            let slot = sp.checked_sub(8)?;
            let ip = text.returned_to(slot, memory.u64(slot)?)?;
            State { ip, sp, bp, known: Known::Lost, interrupted: false, user: false }
        }
    })
}

/// What the processor has pushed: ip, cs, flags, sp, ss.
fn pushed(memory: &dyn Memory, frame: u64, bp: u64) -> Option<State> {
    let ip = memory.u64(frame)?;
    let user = memory.u64(frame.checked_add(FRAME_CS)?)? & 3 != 0;
    let sp = memory.u64(frame.checked_add(FRAME_SP)?)?;
    Some(State { ip, sp, bp, known: Known::Lost, interrupted: true, user })
}

/// Words on the stack that follow a call.
fn guess(memory: &dyn Memory, text: &dyn Text, sp: u64, frames: &mut Vec<Frame>) {
    let mut guessed = 0;
    for word in 0..MOST_SCANNED_WORDS {
        let Some(address) = (sp & !7).checked_add(word * 8).and_then(|at| memory.u64(at)) else { return };
        if frames.len() >= MOST_FRAMES || guessed >= MOST_GUESSED {
            return;
        }
        if text.is_text(address) && follows_call(memory, address) {
            frames.push(Frame { address, interrupted: false, reliable: false });
            guessed += 1;
        }
    }
}

/// Whether the instruction before an address may be a call: `e8` with 4 bytes, or `ff /2` with a register or memory.
fn follows_call(memory: &dyn Memory, address: u64) -> bool {
    let mut bytes = [0; 7];
    let Some(start) = address.checked_sub(7) else { return false };
    if !memory.read(start, &mut bytes) {
        return false;
    }
    let [a, b, near, _, c, d, e] = bytes;
    let is_call = |opcode: u8, operand: u8| opcode == 0xff && operand >> 3 & 7 == 2;
    near == 0xe8 || is_call(d, e) || is_call(c, d) || is_call(b, near) || is_call(a, b)
}
