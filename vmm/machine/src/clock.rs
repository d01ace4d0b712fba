//! The guest's time-stamp counter, read from the host: one clock for host and guest events.

#![expect(unsafe_code, reason = "reading the time-stamp counter is an intrinsic")]

use kvm_ioctls::VcpuFd;

use crate::cpu::msr;

/// The guest's counter as an offset to the host's.
///
/// KVM gives all vCPUs of a machine the same offset. The relation holds where KVM doesn't scale the counter, which it
/// does only if it was told another frequency; we never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestClock {
    offset: u64,
    khz: u32,
}

impl GuestClock {
    /// Takes the offset of a vCPU, between two readings of the host's counter. None if KVM does not tell.
    #[must_use]
    pub fn of(vcpu: &VcpuFd) -> Option<Self> {
        let khz = vcpu.get_tsc_khz().ok()?;
        let before = host_tsc();
        let guest = msr::read(vcpu, msr::TSC).ok()??;
        let after = host_tsc();
        Some(Self { offset: guest.wrapping_sub(midpoint(before, after)), khz })
    }

    /// The guest's counter now.
    #[must_use]
    pub fn guest_tsc_now(&self) -> u64 {
        host_tsc().wrapping_add(self.offset)
    }

    /// Its frequency, in kHz.
    #[must_use]
    pub fn khz(&self) -> u32 {
        self.khz
    }
}

/// A moment between two readings of a counter; its error is at most half their distance.
pub(crate) fn midpoint(before: u64, after: u64) -> u64 {
    before.wrapping_add(after.wrapping_sub(before) / 2)
}

/// The host's counter now.
pub(crate) fn host_tsc() -> u64 {
    // SAFETY: RDTSC reads a counter and nothing else; every x86-64 processor that runs KVM has it.
    unsafe { std::arch::x86_64::_rdtsc() }
}
