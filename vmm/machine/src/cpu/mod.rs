//! vCPU state: what processor the guest sees, and the registers it starts with.

mod cpuid;
pub(crate) mod msr;
mod registers;

pub use cpuid::{CpuTemplate, for_vcpu};
pub(crate) use registers::refused;
pub use registers::{SetupError, set_boot_state, set_identity};
