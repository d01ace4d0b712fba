//! Model-specific registers of a vCPU.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use super::registers::{SetupError, refused};

/// The time-stamp counter.
pub(crate) const TSC: u32 = 0x10;
/// What they are called in an error.
pub(crate) const WHAT: &str = "model-specific registers";

/// Registers with their values, as KVM takes them.
///
/// # Errors
/// They are more than KVM takes at once.
pub(crate) fn list(registers: impl IntoIterator<Item = (u32, u64)>) -> Result<Msrs, SetupError> {
    let entry = |(index, data)| kvm_msr_entry { index, data, ..Default::default() };
    let entries: Vec<_> = registers.into_iter().map(entry).collect();
    Msrs::from_entries(&entries).map_err(|error| SetupError { what: WHAT, reason: format!("{error:?}") })
}

/// Reads one. Nothing if this processor does not have it.
///
/// # Errors
/// KVM's reason.
pub(crate) fn read(vcpu: &VcpuFd, index: u32) -> Result<Option<u64>, SetupError> {
    let mut msrs = list([(index, 0)])?;
    let read = vcpu.get_msrs(&mut msrs).map_err(refused(WHAT))?;
    Ok(msrs.as_slice().first().filter(|_| read == 1).map(|msr| msr.data))
}
