//! The processor that the guest sees: CPUID as KVM supports it, less what a template takes away.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use serde::{Deserialize, Serialize};

/// Which processor a guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CpuTemplate {
    /// Without XSAVE and what needs it (AVX and later), without nested virtualisation and performance counters: guests that
    /// differ less from host to host, and none of the `XSAVE consistency problem` warnings of software emulation.
    #[default]
    Plain,
    /// All that KVM supports here.
    Host,
}

/// One register of a CPUID leaf.
#[derive(Clone, Copy)]
enum Register {
    Ebx,
    Ecx,
    Edx,
}

/// Bits that [`CpuTemplate::Plain`] takes away: leaf, register, bits (Intel SDM 2A, CPUID; AMD APM 3, appendix E).
const PLAIN_HIDES: &[(u32, Register, u32)] = &[
    // FMA, XSAVE, OSXSAVE, AVX, F16C; MONITOR; VMX; PDCM.
    (1, Register::Ecx, 1 << 12 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29 | 1 << 3 | 1 << 5 | 1 << 15),
    // AVX2, MPX, RDT-M, RDT-A, every AVX-512 of EBX.
    (7, Register::Ebx, 1 << 5 | 1 << 12 | 1 << 14 | 1 << 15 | 0b11 << 16 | 1 << 21 | 0b111 << 26 | 0b11 << 30),
    // AVX512_VBMI, PKU, OSPKE, WAITPKG, VBMI2, CET_SS, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ.
    (7, Register::Ecx, 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 0b11_1111 << 6 | 1 << 12 | 1 << 14),
    // AVX512_4VNNIW, 4FMAPS, VP2INTERSECT, AMX-BF16, AVX512_FP16, AMX-TILE, AMX-INT8, CET_IBT.
    (7, Register::Edx, 0b11 << 2 | 1 << 8 | 1 << 20 | 0b1111 << 22),
    // SVM, XOP, LWP, FMA4, PERFCTR_CORE.
    (0x8000_0001, Register::Ecx, 1 << 2 | 1 << 11 | 1 << 15 | 1 << 16 | 1 << 23),
];

/// Leaves that [`CpuTemplate::Plain`] empties: performance counters, XSAVE, processor trace, AMX, AVX10, SVM, AMD
/// performance counters.
const PLAIN_EMPTIES: &[u32] = &[0xa, 0xd, 0x14, 0x1d, 0x1e, 0x24, 0x8000_000a, 0x8000_0022];

/// CPUID of one vCPU, from what `KVM_GET_SUPPORTED_CPUID` gave.
#[must_use]
pub fn for_vcpu(supported: &CpuId, template: CpuTemplate, index: u8, cpus: u8) -> CpuId {
    let mut cpuid = supported.clone();
    for entry in cpuid.as_mut_slice() {
        if template == CpuTemplate::Plain {
            hide(entry);
        }
        identify(entry, index, cpus);
    }
    // Whatever the host's topology is, it is not the guest's; older KVMs pass it on. Linux prefers 0x1f to 0xb.
    cpuid.retain(|entry| !matches!(entry.function, 0xb | 0x1f));
    // Without room for them the guest falls back to the legacy leaves, which are right too.
    for entry in topology(index, cpus) {
        let _ = cpuid.push(entry);
    }
    cpuid
}

fn hide(entry: &mut kvm_cpuid_entry2) {
    for &(leaf, register, bits) in PLAIN_HIDES {
        if entry.function == leaf && entry.index == 0 {
            *register.of(entry) &= !bits;
        }
    }
    if PLAIN_EMPTIES.contains(&entry.function) || (entry.function == 7 && entry.index > 0) {
        (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
    }
}

/// What differs between vCPUs, and what KVM leaves to the monitor.
fn identify(entry: &mut kvm_cpuid_entry2, index: u8, cpus: u8) {
    let (id, count) = (u32::from(index), u32::from(cpus));
    match entry.function {
        1 => {
            // KVM emulates the deadline timer but never reports it (api.rst, KVM_GET_SUPPORTED_CPUID): without it Linux
            // has no high-resolution timer. Bit 31: there is a hypervisor.
            entry.ecx |= 1 << 24 | 1 << 31;
            entry.ebx = (entry.ebx & 0xffff) | count << 16 | id << 24;
            entry.edx = if cpus > 1 { entry.edx | 1 << 28 } else { entry.edx & !(1 << 28) };
        }
        // AMD memory encryption: KVM reports it where the host has it, and a guest that is not encrypted dies of reading
        // MSR_AMD64_SEV before it can take the fault (arch/x86/boot/compressed/sev.c).
        0x8000_001f => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        // KVM's own features (Documentation/virt/kvm/x86/cpuid.rst), less steal time, bit 5: KVM counts by the host's thread
        // (record_steal_time), a paused machine goes on in new ones, and Linux takes stolen time that runs backwards for a lot.
        0x4000_0001 => entry.eax &= !(1 << 5),
        // Cache leaf: how many logical processors share the package (EAX 31:26 cores, 25:14 threads).
        4 => entry.eax = (entry.eax & 0x3fff) | count.saturating_sub(1).min(63) << 26,
        // ARAT: the APIC timer never stops.
        6 => entry.eax |= 1 << 2,
        // AMD: cores in the package, and the bits of an APIC id that number them.
        0x8000_0008 => entry.ecx = (entry.ecx & !0xf0ff) | count.saturating_sub(1) | core_bits(cpus) << 12,
        0x8000_001e => {
            entry.eax = id;
            // One thread a core, one node.
            entry.ebx = id & 0xff;
            entry.ecx = 0;
        }
        _ => {}
    }
}

/// Extended topology (leaf 0xb): one thread a core, all cores in one package.
fn topology(index: u8, cpus: u8) -> [kvm_cpuid_entry2; 3] {
    let level = |number: u32, kind: u32, shift: u32, processors: u32| kvm_cpuid_entry2 {
        function: 0xb,
        index: number,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: processors,
        ecx: number | kind << 8,
        edx: u32::from(index),
        ..Default::default()
    };
    [level(0, 1, 0, 1), level(1, 2, core_bits(cpus), u32::from(cpus)), level(2, 0, 0, 0)]
}

fn core_bits(cpus: u8) -> u32 {
    u8::BITS - cpus.saturating_sub(1).leading_zeros()
}

impl Register {
    fn of(self, entry: &mut kvm_cpuid_entry2) -> &mut u32 {
        match self {
            Self::Ebx => &mut entry.ebx,
            Self::Ecx => &mut entry.ecx,
            Self::Edx => &mut entry.edx,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supported() -> CpuId {
        let all = |function, index| kvm_cpuid_entry2 {
            function,
            index,
            eax: !0,
            ebx: !0,
            ecx: !0,
            edx: !0,
            ..Default::default()
        };
        CpuId::from_entries(&[
            all(1, 0),
            all(4, 0),
            all(7, 0),
            all(7, 1),
            all(0xd, 0),
            all(0xd, 1),
            all(0x8000_0001, 0),
            all(0xb, 3),
            all(0x1f, 0),
            all(0x8000_001f, 0),
        ])
        .unwrap()
    }

    fn leaf(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        *cpuid.as_slice().iter().find(|entry| entry.function == function && entry.index == index).unwrap()
    }

    #[test]
    fn plain_has_neither_xsave_nor_avx_nor_svm() {
        let cpuid = for_vcpu(&supported(), CpuTemplate::Plain, 0, 2);
        assert_eq!(leaf(&cpuid, 1, 0).ecx & (1 << 26 | 1 << 27 | 1 << 28), 0);
        assert_eq!(leaf(&cpuid, 7, 0).ebx & (1 << 5 | 1 << 16), 0);
        assert_eq!(leaf(&cpuid, 7, 1).eax, 0);
        assert_eq!(leaf(&cpuid, 0xd, 1).eax, 0);
        assert_eq!(leaf(&cpuid, 0x8000_0001, 0).ecx & (1 << 2), 0);
    }

    #[test]
    fn neither_the_hosts_topology_nor_its_memory_encryption_shows() {
        for template in [CpuTemplate::Plain, CpuTemplate::Host] {
            let cpuid = for_vcpu(&supported(), template, 1, 2);
            assert!(cpuid.as_slice().iter().all(|entry| entry.function != 0x1f));
            assert_eq!(cpuid.as_slice().iter().filter(|entry| entry.function == 0xb).count(), 3);
            assert_eq!(leaf(&cpuid, 0x8000_001f, 0).eax, 0);
        }
    }

    #[test]
    fn the_deadline_timer_is_always_there() {
        for template in [CpuTemplate::Plain, CpuTemplate::Host] {
            assert_ne!(leaf(&for_vcpu(&supported(), template, 0, 1), 1, 0).ecx & 1 << 24, 0);
        }
    }

    #[test]
    fn each_vcpu_has_its_own_apic_id_everywhere() {
        for cpus in 1..=16 {
            for index in 0..cpus {
                let cpuid = for_vcpu(&supported(), CpuTemplate::Plain, index, cpus);
                assert_eq!(leaf(&cpuid, 1, 0).ebx >> 24, u32::from(index));
                assert_eq!(leaf(&cpuid, 0xb, 0).edx, u32::from(index));
                assert_eq!(leaf(&cpuid, 0xb, 1).ebx, u32::from(cpus));
                assert!(u32::from(cpus) <= 1 << leaf(&cpuid, 0xb, 1).eax);
            }
        }
        assert_eq!((core_bits(1), core_bits(2), core_bits(3), core_bits(16)), (0, 1, 2, 4));
    }
}
