//! What of the host's processor decides whether a saved machine can go on there.

use crate::cpu::CpuTemplate;
use crate::kvm::{KvmError, VirtualMachine};
use crate::memory::{self, LEAST_MEMORY_BYTES};

/// The processor that guests of one template see on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCpu {
    /// CPUID of the first vCPU, leaf by leaf, as bytes: equal on hosts whose guests see the same processor.
    pub cpuid: Vec<u8>,
    /// Rate of a guest's time-stamp counter, in kHz; 0 where KVM tells none.
    pub tsc_khz: u32,
}

/// Asks KVM, by a machine that never runs.
///
/// # Errors
/// [`KvmError`]: no machine can be had here.
pub fn host_cpu(template: CpuTemplate, cpus: u8) -> Result<HostCpu, KvmError> {
    let memory = memory::map(LEAST_MEMORY_BYTES)
        .map_err(|error| KvmError::Refused { what: "be asked for its processor", reason: error.to_string() })?;
    let vm = VirtualMachine::new(&memory)?;
    let vcpu = vm.vcpu(0, cpus, template)?;
    let registers = |entry: &kvm_bindings::kvm_cpuid_entry2| {
        [entry.function, entry.index, entry.flags, entry.eax, entry.ebx, entry.ecx, entry.edx]
    };
    let cpuid = vm.cpuid(0, cpus, template);
    let words = cpuid.as_slice().iter().flat_map(registers);
    Ok(HostCpu { cpuid: words.flat_map(u32::to_le_bytes).collect(), tsc_khz: vcpu.get_tsc_khz().unwrap_or(0) })
}
