//! The common configuration structure (virtio 1.2, 4.1.4.3): registers and what the driver may do with them.

use serde::{Deserialize, Serialize};
use virtio_queue::QueueT;

use super::ring::{NO_VECTOR, Ring};

/// Length of the structure as virtio 1.2 has it, `queue_reset` included.
pub(crate) const COMMON_BYTES: u32 = 0x3c;

/// Device status bits (virtio 1.2, 2.1).
pub mod status {
    /// The driver has seen the device.
    pub const ACKNOWLEDGE: u8 = 1;
    /// The driver knows how to drive it.
    pub const DRIVER: u8 = 2;
    /// The driver is set up and the device may run.
    pub const DRIVER_OK: u8 = 4;
    /// Both agree on the features.
    pub const FEATURES_OK: u8 = 8;
    /// The device cannot go on.
    pub const NEEDS_RESET: u8 = 0x40;
    /// The driver has given up.
    pub const FAILED: u8 = 0x80;
}

/// `VIRTIO_F_VERSION_1` (virtio 1.2, 6): without it there is no agreement, this transport is modern only.
pub const FEATURE_VERSION_1: u64 = 1 << 32;

/// Offsets (virtio 1.2, 4.1.4.3).
mod offset {
    pub(super) const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub(super) const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub(super) const DRIVER_FEATURE: u64 = 0x0c;
    pub(super) const CONFIG_VECTOR: u64 = 0x10;
    pub(super) const STATUS: u64 = 0x14;
    pub(super) const QUEUE_SELECT: u64 = 0x16;
    pub(super) const QUEUE_SIZE: u64 = 0x18;
    pub(super) const QUEUE_VECTOR: u64 = 0x1a;
    pub(super) const QUEUE_ENABLE: u64 = 0x1c;
    pub(super) const QUEUE_DESCRIPTORS: u64 = 0x20;
    pub(super) const QUEUE_DRIVER: u64 = 0x28;
    pub(super) const QUEUE_DEVICE: u64 = 0x30;
}

/// The registers that are not a queue's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommonState {
    /// Which half of the device's features is shown.
    pub device_feature_select: u32,
    /// Which half of the driver's features is shown.
    pub driver_feature_select: u32,
    /// What the driver has accepted.
    pub driver_features: u64,
    /// The driver accepted a bit above 63: none is offered, so FEATURES_OK must fail.
    pub accepted_unknown: bool,
    /// Vector of configuration changes.
    pub config_vector: u16,
    /// Device status.
    pub status: u8,
    /// Counts up with each change of the configuration.
    pub config_generation: u8,
    /// Which queue the queue registers are of.
    pub queue_select: u16,
}

/// What the transport has to do after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    /// Status 0 was written.
    Reset,
    /// DRIVER_OK was set.
    Activate,
    /// The selected queue was enabled.
    EnableQueue(u16),
}

impl Default for CommonState {
    fn default() -> Self {
        Self {
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            accepted_unknown: false,
            config_vector: NO_VECTOR,
            status: 0,
            config_generation: 0,
            queue_select: 0,
        }
    }
}

impl CommonState {
    /// Reads any bytes of the structure; zeroes beyond it. `data` comes zeroed.
    pub(crate) fn read(&self, offered: u64, rings: &[Ring], offset: u64, data: &mut [u8]) {
        let image = self.image(offered, rings);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (byte, &register) in data.iter_mut().zip(image.iter().skip(from)) {
            *byte = register;
        }
    }

    fn image(&self, offered: u64, rings: &[Ring]) -> Vec<u8> {
        let mut image = Vec::with_capacity(0x40);
        image.extend(self.device_feature_select.to_le_bytes());
        image.extend(half(offered, self.device_feature_select).to_le_bytes());
        image.extend(self.driver_feature_select.to_le_bytes());
        image.extend(half(self.driver_features, self.driver_feature_select).to_le_bytes());
        image.extend(self.config_vector.to_le_bytes());
        image.extend(u16::try_from(rings.len()).unwrap_or(u16::MAX).to_le_bytes());
        image.extend([self.status, self.config_generation]);
        image.extend(self.queue_select.to_le_bytes());
        // A queue that does not exist has size 0 and is all zeroes (4.1.4.3.1).
        if let Some(ring) = rings.get(usize::from(self.queue_select)) {
            let queue = &ring.queue;
            image.extend(queue.size().to_le_bytes());
            image.extend(ring.vector.to_le_bytes());
            image.extend(u16::from(queue.ready()).to_le_bytes());
            // Each queue has its own notification address: `queue_notify_off` is its number.
            image.extend(self.queue_select.to_le_bytes());
            image.extend(queue.desc_table().to_le_bytes());
            image.extend(queue.avail_ring().to_le_bytes());
            image.extend(queue.used_ring().to_le_bytes());
        }
        // queue_notify_data and queue_reset are 0: neither feature is offered.
        image.resize(COMMON_BYTES as usize, 0);
        image
    }

    /// Writes a register. The driver must use the register's own width, or 32 bits for the 64-bit ones (4.1.3.1);
    /// anything else changes nothing.
    pub(crate) fn write(&mut self, offered: u64, vectors: u16, rings: &mut [Ring], offset: u64, data: &[u8]) -> Effect {
        match *data {
            [value] if offset == offset::STATUS => return self.write_status(offered, value),
            [a, b] => return self.write_u16(vectors, rings, offset, u16::from_le_bytes([a, b])),
            [a, b, c, d] => self.write_u32(rings, offset, u32::from_le_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] if offset >= offset::QUEUE_DESCRIPTORS => {
                self.write_u32(rings, offset, u32::from_le_bytes([a, b, c, d]));
                self.write_u32(rings, offset.wrapping_add(4), u32::from_le_bytes([e, f, g, h]));
            }
            _ => {}
        }
        Effect::None
    }

    fn write_status(&mut self, offered: u64, value: u8) -> Effect {
        if value == 0 {
            return Effect::Reset;
        }
        // The driver cannot take bits back (2.1.1), and NEEDS_RESET is the device's.
        let mut new = self.status | (value & !status::NEEDS_RESET);
        if new & status::FEATURES_OK != 0 && self.status & status::FEATURES_OK == 0 && !self.may_agree(offered) {
            // Refused: the driver reads the bit back to find out (2.2.2).
            new &= !status::FEATURES_OK;
        }
        if new & status::FEATURES_OK == 0 {
            new &= !status::DRIVER_OK;
        }
        let started = new & !self.status & status::DRIVER_OK != 0;
        self.status = new;
        if started { Effect::Activate } else { Effect::None }
    }

    /// Whether the driver's features are ones that the device can work with (2.2.2).
    fn may_agree(&self, offered: u64) -> bool {
        self.driver_features & FEATURE_VERSION_1 != 0 && self.driver_features & !offered == 0 && !self.accepted_unknown
    }

    /// Whether a driver can have brought the registers of a device that offers these features to where they are; the
    /// reason if not.
    pub(crate) fn check(&self, offered: u64, vectors: u16) -> Result<(), String> {
        if self.status & status::FEATURES_OK != 0 && !self.may_agree(offered) {
            return Err(format!("features {:#x} were agreed on, of {offered:#x}", self.driver_features));
        }
        if self.status & (status::FEATURES_OK | status::DRIVER_OK) == status::DRIVER_OK {
            return Err(format!(
                "status {:#04x} is that of a device which runs with no features agreed on",
                self.status
            ));
        }
        if self.config_vector >= vectors && self.config_vector != NO_VECTOR {
            return Err(format!("the configuration has vector {} of {vectors}", self.config_vector));
        }
        Ok(())
    }

    fn write_u16(&mut self, vectors: u16, rings: &mut [Ring], offset: u64, value: u16) -> Effect {
        // A vector that does not exist reads back as none, which tells the driver (4.1.5.1.2.1).
        let vector = if value < vectors { value } else { NO_VECTOR };
        match offset {
            offset::CONFIG_VECTOR => self.config_vector = vector,
            offset::QUEUE_SELECT => self.queue_select = value,
            _ => {}
        }
        let Some(ring) = rings.get_mut(usize::from(self.queue_select)) else { return Effect::None };
        match offset {
            offset::QUEUE_VECTOR => ring.vector = vector,
            // A size that is no power of two or too great is not taken, which the driver can read back.
            offset::QUEUE_SIZE if !ring.queue.ready() => drop(ring.queue.try_set_size(value)),
            // Only 1 may be written, and only a reset disables (4.1.4.3.2).
            offset::QUEUE_ENABLE if value == 1 && !ring.queue.ready() => {
                return Effect::EnableQueue(self.queue_select);
            }
            _ => {}
        }
        Effect::None
    }

    fn write_u32(&mut self, rings: &mut [Ring], offset: u64, value: u32) {
        match offset {
            offset::DEVICE_FEATURE_SELECT => self.device_feature_select = value,
            offset::DRIVER_FEATURE_SELECT => self.driver_feature_select = value,
            // Once agreed on, features are fixed (2.2.1).
            offset::DRIVER_FEATURE if self.status & status::FEATURES_OK == 0 => self.accept(value),
            _ => {}
        }
        let Some(ring) = rings.get_mut(usize::from(self.queue_select)) else { return };
        if ring.queue.ready() {
            // The driver must not move a queue that is enabled (4.1.4.3.2).
            return;
        }
        let queue = &mut ring.queue;
        match offset {
            offset::QUEUE_DESCRIPTORS => queue.set_desc_table_address(Some(value), None),
            0x24 => queue.set_desc_table_address(None, Some(value)),
            offset::QUEUE_DRIVER => queue.set_avail_ring_address(Some(value), None),
            0x2c => queue.set_avail_ring_address(None, Some(value)),
            offset::QUEUE_DEVICE => queue.set_used_ring_address(Some(value), None),
            0x34 => queue.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }

    fn accept(&mut self, value: u32) {
        let value = u64::from(value);
        match self.driver_feature_select {
            0 => self.driver_features = self.driver_features & !0xffff_ffff | value,
            1 => self.driver_features = self.driver_features & 0xffff_ffff | value << 32,
            _ => self.accepted_unknown |= value != 0,
        }
    }

    /// Whether the driver has the device running.
    pub(crate) fn is_running(&self) -> bool {
        self.status & status::DRIVER_OK != 0 && self.status & (status::NEEDS_RESET | status::FAILED) == 0
    }
}

fn half(features: u64, select: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = features.to_le_bytes();
    match select {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}
