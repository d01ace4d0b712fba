//! What the counter wants of KVM.

use kvm_bindings::{KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, kvm_guest_debug};
use kvm_ioctls::VcpuFd;

use super::counter::Steps;
use super::decode::{Instruction, MOST_BYTES, decode};
use crate::cpu::{SetupError, refused};
use crate::memory::GuestRam;
use crate::translate::AddressSpace;

/// Single steps with interrupts held back.
pub(super) const STEP: u32 = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ;
/// EFER: in long mode, of which 64-bit mode is what the code segment says.
const EFER_LMA: u64 = 1 << 10;
const PAGE_BYTES: u64 = 4096;

/// A vCPU that is not in `KVM_RUN`, and the memory that its instructions are in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stepper<'a> {
    /// The vCPU.
    pub(crate) vcpu: &'a VcpuFd,
    /// Its guest's memory.
    pub(crate) memory: &'a GuestRam,
}

impl Stepper<'_> {
    fn debug(&self, control: u32) -> Result<(), SetupError> {
        let debug = kvm_guest_debug { control, ..Default::default() };
        self.vcpu.set_guest_debug(&debug).map_err(refused("single steps"))
    }
}

impl Steps for Stepper<'_> {
    fn ip(&self) -> Result<u64, SetupError> {
        // In 64-bit mode, and only there is anything counted, this is also the linear address.
        Ok(self.vcpu.get_regs().map_err(refused("registers"))?.rip)
    }

    fn instruction(&self, ip: u64) -> Result<Option<Instruction>, SetupError> {
        let sregs = self.vcpu.get_sregs().map_err(refused("segment registers"))?;
        if sregs.efer & EFER_LMA == 0 || sregs.cs.l == 0 {
            return Ok(None);
        }
        let space = AddressSpace::new(sregs.cr3, sregs.cr4);
        Ok(decode_at(ip, |at, bytes| space.read(self.memory, at, bytes)))
    }

    /// Anew for each step: KVM sets the trap flag only where the instruction pointer was at this call, and forgets it when it
    /// emulates an instruction itself (__kvm_set_rflags, x86_emulate_instruction in arch/x86/kvm/x86.c).
    fn step(&self) -> Result<(), SetupError> {
        self.debug(STEP)
    }

    fn run_on(&self) -> Result<(), SetupError> {
        self.debug(0)
    }
}

/// The instruction at `ip`, of which `read` reads. What comes after it need not be there, and may be on another page.
fn decode_at(ip: u64, read: impl Fn(u64, &mut [u8]) -> bool) -> Option<Instruction> {
    let mut bytes = [0; MOST_BYTES];
    let in_page = usize::try_from(PAGE_BYTES - ip % PAGE_BYTES).unwrap_or(MOST_BYTES).min(MOST_BYTES);
    let (here, behind) = bytes.split_at_mut(in_page);
    if !read(ip, here) {
        return None;
    }
    if let Some(instruction) = decode(here) {
        return Some(instruction);
    }
    let next = ip.checked_add(in_page as u64)?;
    if read(next, behind) { decode(&bytes) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_may_go_over_the_end_of_its_page() {
        // lock incq (%rdi); hlt.
        let code = [0xf0, 0x48, 0xff, 0x07, 0xf4];
        for before in 0..=5_u64 {
            let ip = 0x5000 - before;
            let read_up_to = |end: u64| {
                move |at: u64, bytes: &mut [u8]| {
                    assert!(!bytes.is_empty() && at / PAGE_BYTES == (at + bytes.len() as u64 - 1) / PAGE_BYTES);
                    for (at, byte) in (at..).zip(&mut *bytes) {
                        *byte = code.get((at - ip) as usize).copied().unwrap_or(0x90);
                    }
                    at + bytes.len() as u64 <= end
                }
            };
            assert!(decode_at(ip, read_up_to(u64::MAX)).unwrap().locks, "{before} bytes before the end");
            // The opcode is its third byte.
            assert_eq!(decode_at(ip, read_up_to(0x5000)).is_some(), before >= 3, "{before} bytes before the end");
        }
    }

    #[test]
    fn the_last_bytes_of_all_are_survived() {
        let read = |_: u64, bytes: &mut [u8]| {
            bytes.fill(0x66);
            true
        };
        assert_eq!(decode_at(u64::MAX, read), None);
        assert_eq!(decode_at(0, |_, _| false), None);
    }
}
