//! The registers a vCPU starts with.

use kvm_bindings::{CpuId, kvm_fpu, kvm_regs};
use kvm_ioctls::VcpuFd;
use thiserror::Error;

use super::msr;
use crate::boot::{Entry, GDT_ENTRIES, code_segment, data_segment, tss_segment};
use crate::memory;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

const MSR_IA32_MISC_ENABLE: u32 = 0x1a0;
const MISC_ENABLE_FAST_STRING: u64 = 1;
const MSR_MTRR_DEF_TYPE: u32 = 0x2ff;
/// MTRRs on, default type write-back: without it Linux takes all memory for uncached.
const MTRR_ON_WRITE_BACK: u64 = 1 << 11 | 6;

/// A state that KVM refused.
#[derive(Debug, Error)]
#[error("KVM refused the vCPU's {what}: {reason}")]
pub struct SetupError {
    /// Which part of the state.
    pub what: &'static str,
    /// The system's reason.
    pub reason: String,
}

pub(crate) fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> SetupError {
    move |error| SetupError { what, reason: error.to_string() }
}

/// What every vCPU needs, the boot processor or not.
///
/// CPUID comes first of all: it decides which other state KVM accepts.
///
/// # Errors
/// [`SetupError`] with KVM's reason.
pub fn set_identity(vcpu: &VcpuFd, cpuid: &CpuId) -> Result<(), SetupError> {
    vcpu.set_cpuid2(cpuid).map_err(refused("CPUID"))?;
    let msrs = msr::list([(MSR_MTRR_DEF_TYPE, MTRR_ON_WRITE_BACK), (MSR_IA32_MISC_ENABLE, MISC_ENABLE_FAST_STRING)])?;
    // KVM stops at the first one it refuses, and tells how many it took.
    let taken = vcpu.set_msrs(&msrs).map_err(refused(msr::WHAT))?;
    if taken == 0 {
        return Err(SetupError { what: "memory type (MTRR)", reason: "the register was not taken".into() });
    }
    // The x87 control word and MXCSR after reset (SDM 3A, table 10-1).
    let fpu = kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() };
    vcpu.set_fpu(&fpu).map_err(refused("floating-point state"))
}

/// Puts the boot processor at a kernel's 64-bit entry: long mode, flat segments, interrupts off, `rsi` at the zero page.
///
/// # Errors
/// [`SetupError`] with KVM's reason.
pub fn set_boot_state(vcpu: &VcpuFd, entry: &Entry) -> Result<(), SetupError> {
    let mut sregs = vcpu.get_sregs().map_err(refused("segment registers"))?;
    sregs.cs = code_segment();
    let data = data_segment();
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = tss_segment();
    sregs.gdt.base = memory::GDT;
    sregs.gdt.limit = u16::try_from(GDT_ENTRIES.len() * 8 - 1).unwrap_or(u16::MAX);
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
    sregs.cr3 = entry.page_tables;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_LME | EFER_LMA;
    vcpu.set_sregs(&sregs).map_err(refused("segment registers"))?;
    // Bit 1 of the flags is always set; the stack is only for what runs before the kernel has its own.
    let regs =
        kvm_regs { rflags: 2, rip: entry.rip, rsi: entry.zero_page, rsp: memory::ZERO_PAGE, ..Default::default() };
    vcpu.set_regs(&regs).map_err(refused("registers"))
}
