//! The guest's two clocks, the time-stamp counter and kvmclock, stopped together and started together.
//!
//! For the guest no time passes between save and restore: its timers are where they were, and no watchdog has anything to
//! report. What its wall clock should be is not the machine's to say.

#![expect(unsafe_code, reason = "kvm-ioctls has no call for attributes of a vCPU on x86")]

use kvm_bindings::{
    KVM_CLOCK_HOST_TSC, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, KVMIO, kvm_clock_data, kvm_device_attr,
};
use kvm_ioctls::{VcpuFd, VmFd};
use serde::{Deserialize, Serialize};
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

use crate::clock::{host_tsc, midpoint};
use crate::cpu::{self, SetupError, msr};
use crate::kvm::{KvmError, refused};

/// Readings of both clocks of which the best one counts.
const TRIES: usize = 5;

// include/uapi/linux/kvm.h
ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, KVMIO, 0xe1, kvm_device_attr);

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockState {
    /// The time-stamp counter, the same on all vCPUs.
    tsc: u64,
    /// kvmclock, in nanoseconds.
    kvmclock_ns: u64,
    /// Rate of the counter as KVM gave it, in kHz; 0 if it gave none.
    tsc_khz: u32,
}

impl ClockState {
    /// Reads both clocks at one moment: the counter before and after kvmclock.
    ///
    /// # Errors
    /// KVM's reason.
    pub(super) fn save(vm: &VmFd, vcpu: &VcpuFd) -> Result<Self, KvmError> {
        let tsc_khz = vcpu.get_tsc_khz().unwrap_or(0);
        let read = || {
            let before = guest_tsc(vcpu)?;
            let clock = vm.get_clock().map_err(refused("tell its clock"))?;
            let after = guest_tsc(vcpu)?;
            let pair = Self { tsc: midpoint(before, after), kvmclock_ns: clock.clock, tsc_khz };
            Ok::<_, KvmError>((after.wrapping_sub(before), pair))
        };
        narrowest(read)
    }

    /// The counter's rate when it was saved, in kHz.
    #[must_use]
    pub fn tsc_khz(&self) -> u32 {
        self.tsc_khz
    }

    /// Lets both clocks go on. kvmclock first, since it can only be set to "now"; then the counter of every vCPU by the
    /// distance of that reading, so that both tell the same time: Linux compares them (kernel/time/clocksource.c,
    /// clocksource_watchdog), and so do we with host events. False if a counter did not go where it was told.
    ///
    /// # Errors
    /// KVM's reason.
    pub(super) fn restore(&self, vm: &VmFd, vcpus: &[VcpuFd]) -> Result<bool, KvmError> {
        // Without flags: no adjustment by the host's wall clock.
        let clock = kvm_clock_data { clock: self.kvmclock_ns, ..Default::default() };
        vm.set_clock(&clock).map_err(refused("take the saved clock"))?;
        let (host, kvmclock_ns) = read_kvmclock(vm)?;
        let gone_ns = kvmclock_ns.saturating_sub(self.kvmclock_ns);
        let gone_ticks = u128::from(gone_ns) * u128::from(self.tsc_khz) / 1_000_000;
        let tsc = self.tsc.wrapping_add(u64::try_from(gone_ticks).unwrap_or(0));
        let offset = tsc.wrapping_sub(host);
        let mut all = true;
        for vcpu in vcpus {
            all &= set_tsc(vcpu, offset)?;
        }
        Ok(all)
    }
}

/// kvmclock, and the host's counter at that moment: KVM's own pair where it gives one (api.rst, KVM_GET_CLOCK), else the
/// narrowest of a few readings.
fn read_kvmclock(vm: &VmFd) -> Result<(u64, u64), KvmError> {
    let read = || {
        let before = host_tsc();
        let clock = vm.get_clock().map_err(refused("tell its clock"))?;
        let after = host_tsc();
        if clock.flags & KVM_CLOCK_HOST_TSC != 0 {
            return Ok((0, (clock.host_tsc, clock.clock)));
        }
        Ok::<_, KvmError>((after.wrapping_sub(before), (midpoint(before, after), clock.clock)))
    };
    narrowest(read)
}

/// The best of a few readings, each with its width: this thread may be interrupted in the middle of one, and the guest would
/// see its clocks jump against each other.
fn narrowest<T>(mut read: impl FnMut() -> Result<(u64, T), KvmError>) -> Result<T, KvmError> {
    let mut best = read()?;
    for _ in 1..TRIES {
        let next = read()?;
        if next.0 < best.0 {
            best = next;
        }
    }
    Ok(best.1)
}

/// Sets a vCPU's counter by its offset to the host's: all vCPUs get the same one, whenever each is told
/// (Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_CTRL). Before Linux 5.16 by its value; KVM then takes values written
/// within a second of each other for one (kvm_synchronize_tsc). Looked at afterwards: there is a back end that takes both calls
/// and does nothing, and its guests see the gap.
fn set_tsc(vcpu: &VcpuFd, offset: u64) -> Result<bool, KvmError> {
    if set_offset(vcpu, offset) && has_offset(vcpu, offset)? {
        return Ok(true);
    }
    let msrs = msr::list([(msr::TSC, host_tsc().wrapping_add(offset))])?;
    let written = vcpu.set_msrs(&msrs).map_err(cpu::refused("time-stamp counter"))?;
    Ok(written == 1 && has_offset(vcpu, offset)?)
}

fn set_offset(vcpu: &VcpuFd, offset: u64) -> bool {
    let attribute = kvm_device_attr {
        group: KVM_VCPU_TSC_CTRL,
        attr: u64::from(KVM_VCPU_TSC_OFFSET),
        addr: &raw const offset as u64,
        flags: 0,
    };
    // SAFETY: the descriptor is a vCPU's; the attribute outlives the call, and KVM reads 8 bytes at its address, where
    // `offset` is.
    unsafe { ioctl_with_ref(vcpu, KVM_SET_DEVICE_ATTR(), &attribute) == 0 }
}

/// Whether the counter is at this distance from the host's, within the time that asking takes and a hundredth of a second.
fn has_offset(vcpu: &VcpuFd, offset: u64) -> Result<bool, KvmError> {
    let before = host_tsc();
    let guest = guest_tsc(vcpu)?;
    let after = host_tsc();
    let slack = u64::from(vcpu.get_tsc_khz().unwrap_or(0)) * 10;
    let least = before.wrapping_add(offset).wrapping_sub(slack);
    Ok(guest.wrapping_sub(least) <= after.wrapping_sub(before).saturating_add(2 * slack))
}

fn guest_tsc(vcpu: &VcpuFd) -> Result<u64, KvmError> {
    let untold = || SetupError { what: "time-stamp counter", reason: "it was not told".into() };
    Ok(msr::read(vcpu, msr::TSC)?.ok_or_else(untold)?)
}
