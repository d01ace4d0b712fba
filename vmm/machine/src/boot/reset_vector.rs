//! What stands where a PC's firmware would: code for a kernel that resets by jumping there.
//!
//! Linux does so on hardware-reduced ACPI without EFI: `reboot_init` (arch/x86/kernel/reboot.c) prefers EFI, there is none,
//! and the next way is `machine_real_restart`, a jump to F000:FFF0 in real mode. Without this the guest would spin there.

use vm_memory::{Bytes, GuestAddress};

use super::BootError;
use crate::memory::{self, GuestRam};
use crate::power;

/// `mov dx, port; mov al, value; out dx, al; hlt`, and the halt again.
fn code() -> [u8; 9] {
    let [low, high] = power::RESET_PORT.to_le_bytes();
    [0xba, low, high, 0xb0, power::RESET_VECTOR_VALUE, 0xee, 0xf4, 0xeb, 0xfd]
}

/// Writes the code.
pub(super) fn write(memory: &GuestRam) -> Result<(), BootError> {
    memory
        .write_slice(&code(), GuestAddress(memory::RESET_VECTOR))
        .map_err(|error| BootError::Memory { address: memory::RESET_VECTOR, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::{ResetPort, StopCause};

    #[test]
    fn the_code_fits_and_resets() {
        assert!(memory::RESET_VECTOR + code().len() as u64 <= 0x10_0000);
        let [.., port_low, port_high, _, value, _, _, _, _] = code();
        let port = u16::from_le_bytes([port_low, port_high]);
        assert_eq!(power::write(port, value), Some(StopCause::Reset(ResetPort::ResetVector)));
    }
}
