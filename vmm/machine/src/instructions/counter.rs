//! The counter of one vCPU: what it has counted, and what each exit means to it.

use super::decode::{Instruction, MOST_BYTES};
use super::{CONTROL_PORT, DATA_PORT, MOST_STEPS, NO_RESULT, SELECT_LOCKED, SIGNATURE, START, STOP};
use crate::cpu::SetupError;

/// How far the next instruction can be from one that does not jump.
const LONGEST: u64 = MOST_BYTES as u64;

/// What steps a vCPU: KVM, or a test.
pub(crate) trait Steps {
    /// The address of the instruction that is executed next.
    fn ip(&self) -> Result<u64, SetupError>;
    /// The instruction at an address. Nothing if it is not one of 64-bit mode, or cannot be read.
    fn instruction(&self, ip: u64) -> Result<Option<Instruction>, SetupError>;
    /// Has the guest execute one instruction at its next entry.
    fn step(&self) -> Result<(), SetupError>;
    /// Has it execute as many as it likes again.
    fn run_on(&self) -> Result<(), SetupError>;
}

/// The counter of one vCPU. Belongs to the vCPU's thread.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    count: Option<Count>,
    /// Of the last count that has ended. None if there was none, or it has no result.
    last: Option<Tally>,
    /// The next reading is of the locked instructions.
    gives_locked: bool,
    asked: Option<Asked>,
}

/// What the guest has asked for by an access that is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Start,
    Stop,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    instructions: u32,
    locked: u32,
}

/// A count under way.
#[derive(Debug)]
struct Count {
    /// Exits after a step; no fewer than instructions.
    steps: u32,
    tally: Tally,
    /// The instruction that the next step executes, and where it is.
    ip: u64,
    instruction: Instruction,
}

impl Counter {
    /// The guest reads one of the ports.
    pub(crate) fn read(&mut self, port: u16, data: &mut [u8]) {
        let value = match port {
            CONTROL_PORT => SIGNATURE,
            DATA_PORT if data.len() == size_of::<u32>() => {
                let locked = std::mem::take(&mut self.gives_locked);
                let of = |tally: Tally| if locked { tally.locked } else { tally.instructions };
                self.last.map_or(NO_RESULT, of)
            }
            _ => NO_RESULT,
        };
        match <&mut [u8; 4]>::try_from(&mut *data) {
            Ok(data) => *data = value.to_le_bytes(),
            // As from a port of nobody.
            Err(_) => data.fill(0xff),
        }
    }

    /// The guest writes to one of the ports. What it asks for is done by [`Self::settle`] or [`Self::start`].
    pub(crate) fn write(&mut self, port: u16, data: &[u8]) {
        let value = <[u8; 4]>::try_from(data).map(u32::from_le_bytes);
        match (port, value) {
            (CONTROL_PORT, Ok(START)) => self.asked = Some(Asked::Start),
            (CONTROL_PORT, Ok(STOP)) => self.asked = Some(Asked::Stop),
            (CONTROL_PORT, Ok(SELECT_LOCKED)) => self.gives_locked = true,
            _ => {}
        }
    }

    /// A count is under way.
    pub(crate) fn is_counting(&self) -> bool {
        self.count.is_some()
    }

    /// The guest has asked for a count. The access by which it did must be finished before [`Self::start`], so that the count
    /// does not begin with it.
    pub(crate) fn is_to_start(&self) -> bool {
        self.asked == Some(Asked::Start)
    }

    /// Forgets the count under way, if there is one.
    ///
    /// # Errors
    /// KVM's reason.
    pub(crate) fn forget(&mut self, steps: &impl Steps) -> Result<(), SetupError> {
        if self.count.is_some() { self.end(None, steps) } else { Ok(()) }
    }

    /// Begins the count that was asked for.
    ///
    /// # Errors
    /// KVM's reason.
    pub(crate) fn start(&mut self, steps: &impl Steps) -> Result<(), SetupError> {
        self.asked = None;
        self.gives_locked = false;
        self.last = None;
        let ip = steps.ip()?;
        if let Some(instruction) = steppable(steps, ip)? {
            self.count = Some(Count { steps: 0, tally: Tally::default(), ip, instruction });
            steps.step()?;
        }
        Ok(())
    }

    /// The vCPU left the guest after a step, and `ip` is the next instruction's address.
    ///
    /// # Errors
    /// KVM's reason.
    pub(crate) fn stepped(&mut self, ip: u64, steps: &impl Steps) -> Result<(), SetupError> {
        let Some(count) = &mut self.count else { return Ok(()) };
        count.steps += 1;
        let done = count.instruction;
        if !done.repeats || ip != count.ip {
            count.tally.instructions += 1;
            count.tally.locked += u32::from(done.locks);
        }
        match if count.steps < MOST_STEPS { steppable(steps, ip)? } else { None } {
            Some(next) => {
                (count.ip, count.instruction) = (ip, next);
                steps.step()
            }
            None => self.end(None, steps),
        }
    }

    /// The vCPU left the guest for another reason than a step, which was handled as far as the devices are concerned.
    ///
    /// # Errors
    /// KVM's reason.
    pub(crate) fn settle(&mut self, steps: &impl Steps) -> Result<(), SetupError> {
        let stops = self.asked == Some(Asked::Stop);
        if stops {
            self.asked = None;
        }
        let Some(count) = &self.count else { return Ok(()) };
        let ip = steps.ip()?;
        match ip.checked_sub(count.ip) {
            Some(0..=LONGEST) if stops => self.end(Some(count.tally), steps),
            // The step comes when the access is completed.
            Some(0) => Ok(()),
            // It was the instruction's last doing, and KVM stops after the next one only: "FIXME: return into emulator if
            // single-stepping" (x86_emulate_instruction and complete_emulated_mmio in arch/x86/kvm/x86.c).
            Some(..=LONGEST) => self.stepped(ip, steps),
            _ => self.end(None, steps),
        }
    }

    fn end(&mut self, result: Option<Tally>, steps: &impl Steps) -> Result<(), SetupError> {
        self.count = None;
        self.last = result;
        steps.run_on()
    }
}

/// The instruction at an address, if a count goes on with it. Not HLT, for a halted guest would wait for the interrupts that
/// wait for the end of the count. It is executed after that, for a step over it is none everywhere: a KVM that emulates it
/// leaves the guest before it looks at `halt_request`, and halts one instruction later, perhaps in a handler, for good
/// (emulator_halt and x86_emulate_instruction in arch/x86/kvm/x86.c).
fn steppable(steps: &impl Steps, ip: u64) -> Result<Option<Instruction>, SetupError> {
    Ok(steps.instruction(ip)?.filter(|instruction| !instruction.halts))
}

#[cfg(test)]
mod tests;
