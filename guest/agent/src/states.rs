//! What our module tells of its devices: /sys/kernel/debug/plugstorm/N/state. It stays readable while a removal hangs.

use plugstorm_wire::DeviceState;

use crate::sysfs;

const FOLDER: &str = "/sys/kernel/debug/plugstorm";

/// Devices in one answer.
const MAX_DEVICES: usize = 8;

/// The text of one device, in bytes.
const MAX_TEXT_BYTES: usize = 4096;

/// What all devices of an answer may take.
pub(crate) const MAX_BYTES: usize = MAX_DEVICES * (MAX_TEXT_BYTES + 64);

/// All devices of our module; none where it is not loaded.
pub(crate) fn all() -> Vec<DeviceState> {
    let mut numbers: Vec<u32> =
        sysfs::list(FOLDER).unwrap_or_default().iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.truncate(MAX_DEVICES);
    let read = |number| {
        let mut text = sysfs::read(format!("{FOLDER}/{number}/state")).ok()?;
        let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        Some(DeviceState { device: format!("plugstorm{number}"), text })
    };
    numbers.into_iter().filter_map(read).collect()
}
