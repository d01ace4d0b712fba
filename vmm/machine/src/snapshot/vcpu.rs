//! The state of one vCPU, in the order that KVM demands. The calls are described in Documentation/virt/kvm/api.rst; what they
//! do beside that is in arch/x86/kvm/x86.c, and named where the order follows from it.

#![expect(unsafe_code, reason = "KVM_SET_XSAVE takes a buffer whose length the kernel knows and the call does not")]

use kvm_bindings::{
    CpuId, KVM_MAX_MSR_ENTRIES, kvm_cpuid_entry2, kvm_debugregs, kvm_lapic_state, kvm_mp_state, kvm_regs, kvm_sregs,
    kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::VcpuFd;
use serde::{Deserialize, Serialize};

use crate::cpu::{SetupError, msr, refused};

/// When the APIC's timer fires, as a reading of the time-stamp counter.
const MSR_IA32_TSC_DEADLINE: u32 = 0x6e0;
/// Memory types: the guest's, and not in KVM's list (Intel SDM 3A, 12.11.2). Default, fixed ranges, eight variable ones.
const MTRRS: [u32; 28] = [
    0x2ff, 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x200, 0x201, 0x202, 0x203,
    0x204, 0x205, 0x206, 0x207, 0x208, 0x209, 0x20a, 0x20b, 0x20c, 0x20d, 0x20e, 0x20f,
];
/// CR4: VMX operation. EFER: SVM.
const CR4_VMXE: u64 = 1 << 13;
const EFER_SVME: u64 = 1 << 12;

/// One vCPU between two instructions.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VcpuState {
    cpuid: Vec<kvm_cpuid_entry2>,
    mp_state: kvm_mp_state,
    regs: kvm_regs,
    sregs: kvm_sregs,
    xsave: kvm_xsave,
    /// None where KVM has no XSAVE to offer.
    xcrs: Option<kvm_xcrs>,
    debugregs: kvm_debugregs,
    lapic: kvm_lapic_state,
    /// Index and value, in KVM's order; without the time-stamp counter, which is restored for all vCPUs at once (`clock.rs`), and
    /// its deadline.
    msrs: Vec<(u32, u64)>,
    tsc_deadline: u64,
    events: kvm_vcpu_events,
}

impl VcpuState {
    /// Reads the state of a vCPU that is not in `KVM_RUN` and has no access pending. `indices` is what
    /// `KVM_GET_MSR_INDEX_LIST` gave; `cpuid` what the vCPU was made with.
    ///
    /// # Errors
    /// KVM refused a part, or the guest uses nested virtualisation, of which KVM keeps more than this.
    pub(super) fn save(vcpu: &VcpuFd, cpuid: &CpuId, indices: &[u32], has_xcrs: bool) -> Result<Self, SetupError> {
        // First: it lets the local APIC take in an INIT or a start-up message that has arrived, which changes registers
        // (kvm_arch_vcpu_ioctl_get_mpstate, kvm_apic_accept_events).
        let mp_state = vcpu.get_mp_state().map_err(refused("run state"))?;
        let regs = vcpu.get_regs().map_err(refused("registers"))?;
        let sregs = vcpu.get_sregs().map_err(refused("segment registers"))?;
        if sregs.cr4 & CR4_VMXE != 0 || sregs.efer & EFER_SVME != 0 {
            let reason = "the guest itself uses VMX or SVM, and guests of guests are not saved".into();
            return Err(SetupError { what: "state of virtualisation", reason });
        }
        let xsave = vcpu.get_xsave().map_err(refused("floating-point state"))?;
        let xcrs = if has_xcrs { Some(vcpu.get_xcrs().map_err(refused("extended control registers"))?) } else { None };
        let debugregs = vcpu.get_debug_regs().map_err(refused("debug registers"))?;
        // It brings the timer's current count and the processor priority up to date before it answers
        // (kvm_apic_get_state), so the model-specific registers that speak of the timer come after it.
        let lapic = vcpu.get_lapic().map_err(refused("local APIC"))?;
        let msrs = read_msrs(vcpu, indices)?;
        let tsc_deadline = msr::read(vcpu, MSR_IA32_TSC_DEADLINE)?.unwrap_or(0);
        // Last: it moves non-maskable interrupts that others have queued meanwhile into what it tells (process_nmi), and
        // none of the calls above tells of them.
        let events = vcpu.get_vcpu_events().map_err(refused("pending events"))?;
        let cpuid = cpuid.as_slice().to_vec();
        Ok(Self { cpuid, mp_state, regs, sregs, xsave, xcrs, debugregs, lapic, msrs, tsc_deadline, events })
    }

    /// Puts a fresh vCPU, which has never run, into this state, apart from its clock and its timer's deadline.
    ///
    /// # Errors
    /// KVM refused a part: the state is of another processor.
    pub(super) fn restore(&self, vcpu: &VcpuFd) -> Result<(), SetupError> {
        let cpuid = CpuId::from_entries(&self.cpuid)
            .map_err(|error| SetupError { what: "CPUID", reason: format!("{error:?}") })?;
        // First of all: it decides which bits of all that follows KVM accepts, and cannot change once the vCPU has run.
        vcpu.set_cpuid2(&cpuid).map_err(refused("CPUID"))?;
        // Needs the in-kernel APIC and nothing else; a processor that waits for its start-up message must not be given
        // registers that would make it runnable.
        vcpu.set_mp_state(self.mp_state).map_err(refused("run state"))?;
        // It forgets a pending exception (__set_regs), so pending events come after it.
        vcpu.set_regs(&self.regs).map_err(refused("registers"))?;
        // The base and mode of the local APIC are in here (IA32_APIC_BASE): before the APIC's own registers, whose layout
        // and meaning depend on them (kvm_apic_set_state), and before the model-specific ones.
        vcpu.set_sregs(&self.sregs).map_err(refused("segment registers"))?;
        // XCR0 before the state that it speaks of, as a guest would set them. KVM checks that state against what the host
        // supports (fpu_copy_uabi_to_guest_fpstate), so the other order would do too.
        if let Some(xcrs) = &self.xcrs {
            vcpu.set_xcrs(xcrs).map_err(refused("extended control registers"))?;
        }
        // SAFETY: KVM reads as many bytes as the guest's extended state has by the process's permissions, which are those of
        // `kvm_xsave` unless arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM) asked for more; nothing here does.
        unsafe { vcpu.set_xsave(&self.xsave) }.map_err(refused("floating-point state"))?;
        vcpu.set_debug_regs(&self.debugregs).map_err(refused("debug registers"))?;
        // After the segment registers, before the model-specific registers: a timer in deadline mode is armed by one of
        // these, and only if the APIC says that it is in that mode (kvm_set_lapic_tscdeadline_msr).
        vcpu.set_lapic(&self.lapic).map_err(refused("local APIC"))?;
        write_msrs(vcpu, &self.msrs)?;
        // After the registers, which would wipe out a pending exception, and after the APIC: an interrupt that was being
        // injected is in here and no longer there.
        vcpu.set_vcpu_events(&self.events).map_err(refused("pending events"))
    }

    /// Arms the timer. After the time-stamp counter: the deadline is a reading of it, and KVM computes the host's timer from
    /// the distance (start_sw_tscdeadline).
    ///
    /// # Errors
    /// KVM refused it.
    pub(super) fn restore_deadline(&self, vcpu: &VcpuFd) -> Result<(), SetupError> {
        write_msrs(vcpu, &[(MSR_IA32_TSC_DEADLINE, self.tsc_deadline)])
    }
}

/// All that can be read. KVM lists registers that this guest's processor may lack, and stops at the first of them.
fn read_msrs(vcpu: &VcpuFd, indices: &[u32]) -> Result<Vec<(u32, u64)>, SetupError> {
    let mut wanted: Vec<u32> =
        indices.iter().copied().filter(|index| ![msr::TSC, MSR_IA32_TSC_DEADLINE].contains(index)).collect();
    wanted.extend(MTRRS.iter().filter(|index| !indices.contains(index)));
    let mut values = Vec::with_capacity(wanted.len());
    let mut rest = wanted.as_slice();
    while !rest.is_empty() {
        let part = rest.get(..KVM_MAX_MSR_ENTRIES).unwrap_or(rest);
        let mut msrs = msr::list(part.iter().map(|&index| (index, 0)))?;
        let read = vcpu.get_msrs(&mut msrs).map_err(refused(msr::WHAT))?.min(part.len());
        values.extend(msrs.as_slice().iter().take(read).map(|msr| (msr.index, msr.data)));
        // What stopped it is left out.
        let done = if read < part.len() { read + 1 } else { read };
        rest = rest.get(done..).unwrap_or_default();
    }
    Ok(values)
}

/// Writes all of them. KVM stops at the first that it refuses; one that has its value already is only read-only.
fn write_msrs(vcpu: &VcpuFd, values: &[(u32, u64)]) -> Result<(), SetupError> {
    let mut rest = values;
    while !rest.is_empty() {
        let part = rest.get(..KVM_MAX_MSR_ENTRIES).unwrap_or(rest);
        let msrs = msr::list(part.iter().copied())?;
        let written = vcpu.set_msrs(&msrs).map_err(refused(msr::WHAT))?;
        if let Some(&(index, value)) = part.get(written)
            && msr::read(vcpu, index)? != Some(value)
        {
            return Err(SetupError {
                what: msr::WHAT,
                reason: format!("register {index:#x} does not take {value:#x}"),
            });
        }
        rest = rest.get(part.len().min(written + 1)..).unwrap_or_default();
    }
    Ok(())
}
