//! Where a vCPU is: the registers that tell, read while it is out of the guest.

use kvm_bindings::{
    KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_SIPI_RECEIVED, KVM_MP_STATE_UNINITIALIZED,
};
use kvm_ioctls::VcpuFd;

use crate::cpu::{SetupError, msr, refused};
use crate::kvm::KvmError;
use crate::machine::{Machine, MachineError};
use crate::memory::GuestRam;
use crate::translate::AddressSpace;

/// Where `SYSCALL` goes: the kernel's own address for its entry, wherever it was put.
const MSR_IA32_LSTAR: u32 = 0xc000_0082;
/// What `SWAPGS` exchanges the base of GS with.
const MSR_IA32_KERNEL_GS_BASE: u32 = 0xc000_0102;
/// RFLAGS: interrupts are taken.
const RFLAGS_IF: u64 = 1 << 9;

/// A vCPU between two instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessorState {
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
    /// RFLAGS.IF: it takes interrupts.
    pub interrupts_on: bool,
    /// Its privilege level: 0 the kernel's, 3 a program's.
    pub privilege: u8,
    /// It executed HLT and waits for an interrupt.
    pub halted: bool,
    /// It has not been started by another one.
    pub waits_for_start: bool,
    /// Its page tables.
    pub space: AddressSpace,
    /// Where `SYSCALL` goes (`IA32_LSTAR`).
    pub system_call: u64,
    /// The bases of GS: the one in use, and the one that `SWAPGS` would give.
    pub gs_bases: [u64; 2],
}

impl ProcessorState {
    /// # Errors
    /// KVM's reason.
    fn read(vcpu: &VcpuFd) -> Result<Self, SetupError> {
        // First: it takes in an INIT or a start-up message that has arrived, which changes registers.
        let run = vcpu.get_mp_state().map_err(refused("run state"))?.mp_state;
        let regs = vcpu.get_regs().map_err(refused("registers"))?;
        let sregs = vcpu.get_sregs().map_err(refused("segment registers"))?;
        let waiting = [KVM_MP_STATE_UNINITIALIZED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_SIPI_RECEIVED];
        Ok(Self {
            ip: regs.rip,
            sp: regs.rsp,
            bp: regs.rbp,
            dx: regs.rdx,
            di: regs.rdi,
            r10: regs.r10,
            r13: regs.r13,
            interrupts_on: regs.rflags & RFLAGS_IF != 0,
            // In 64-bit mode the level is that of CS as well as of SS.
            privilege: (sregs.cs.selector & 3) as u8,
            halted: run == KVM_MP_STATE_HALTED,
            waits_for_start: waiting.contains(&run),
            space: AddressSpace::new(sregs.cr3, sregs.cr4),
            system_call: msr::read(vcpu, MSR_IA32_LSTAR)?.unwrap_or(0),
            gs_bases: [sregs.gs.base, msr::read(vcpu, MSR_IA32_KERNEL_GS_BASE)?.unwrap_or(0)],
        })
    }
}

impl Machine {
    /// Where the vCPUs of a paused machine are, in the order of their numbers. Changes nothing that the guest could notice.
    ///
    /// # Errors
    /// [`MachineError::NotPaused`], or KVM refused.
    pub fn processors(&self) -> Result<Vec<ProcessorState>, MachineError> {
        if self.waiting.len() != usize::from(self.shape.cpus) {
            return Err(MachineError::NotPaused);
        }
        let states = self.waiting.iter().map(|vcpu| ProcessorState::read(&vcpu.fd)).collect::<Result<Vec<_>, _>>();
        Ok(states.map_err(KvmError::from)?)
    }

    /// The guest's memory, to be read with an [`AddressSpace`].
    #[must_use]
    pub fn memory(&self) -> &GuestRam {
        &self.memory
    }
}
