//! The ports that end a machine: ACPI sleep and reset registers, and the two older ways to reset a PC.

use crate::stop::{ResetPort, StopCause};

/// ACPI sleep control register (ACPI 6.5, 4.8.3.7).
pub const SLEEP_CONTROL_PORT: u16 = 0x600;
/// ACPI sleep status register.
pub const SLEEP_STATUS_PORT: u16 = 0x601;
/// ACPI reset register (ACPI 6.5, 4.8.3.6).
pub const RESET_PORT: u16 = 0x602;
/// What resets, written to [`RESET_PORT`].
pub const RESET_VALUE: u8 = 1;
/// What the code at the reset vector writes there.
pub const RESET_VECTOR_VALUE: u8 = 2;

/// The i8042's command port.
const I8042_COMMAND: u16 = 0x64;
/// Pulse the reset line.
const I8042_RESET: u8 = 0xfe;
/// The chipset's reset control register.
const RESET_CONTROL: u16 = 0xcf9;
/// "Reset CPU" of that register.
const RESET_CONTROL_RESET: u8 = 1 << 2;
const SLEEP_TYPE_SOFT_OFF: u8 = 5;
const SLEEP_ENABLE: u8 = 1 << 5;

/// Whether the port is one of this file.
#[must_use]
pub fn claims(port: u16) -> bool {
    matches!(port, SLEEP_CONTROL_PORT | SLEEP_STATUS_PORT | RESET_PORT | I8042_COMMAND | RESET_CONTROL)
}

/// What a write to a port ends the machine with, if it does.
#[must_use]
pub fn write(port: u16, value: u8) -> Option<StopCause> {
    match port {
        SLEEP_CONTROL_PORT if value & SLEEP_ENABLE != 0 && (value >> 2) & 7 == SLEEP_TYPE_SOFT_OFF => {
            Some(StopCause::PowerOff)
        }
        RESET_PORT if value == RESET_VALUE => Some(StopCause::Reset(ResetPort::Acpi)),
        RESET_PORT if value == RESET_VECTOR_VALUE => Some(StopCause::Reset(ResetPort::ResetVector)),
        I8042_COMMAND if value == I8042_RESET => Some(StopCause::Reset(ResetPort::Keyboard)),
        RESET_CONTROL if value & RESET_CONTROL_RESET != 0 => Some(StopCause::Reset(ResetPort::Chipset)),
        _ => None,
    }
}

/// What a read gives: nothing pending, nothing busy.
#[must_use]
pub fn read() -> u8 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_end_has_its_cause() {
        assert_eq!(write(SLEEP_CONTROL_PORT, 5 << 2 | 1 << 5), Some(StopCause::PowerOff));
        assert_eq!(write(SLEEP_CONTROL_PORT, 5 << 2), None, "sleep type without enable");
        assert_eq!(write(SLEEP_CONTROL_PORT, 3 << 2 | 1 << 5), None, "another sleep type");
        assert_eq!(write(RESET_PORT, 1), Some(StopCause::Reset(ResetPort::Acpi)));
        assert_eq!(write(0x64, 0xfe), Some(StopCause::Reset(ResetPort::Keyboard)));
        assert_eq!(write(0x64, 0xaa), None);
        assert_eq!(write(0xcf9, 6), Some(StopCause::Reset(ResetPort::Chipset)));
        assert_eq!(write(0xcf9, 2), None);
    }
}
