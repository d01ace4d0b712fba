//! What a virtio device is, seen from its transport.

use std::fmt;

use super::chain::Chain;
use super::ring::Rings;

/// A virtio device without its bus. All calls come with the function's lock held.
pub trait VirtioDevice: Send + fmt::Debug {
    /// The device type (virtio 1.2, 5).
    fn device_type(&self) -> u16;

    /// PCI class code: base class, subclass, programming interface. Drivers don't look at it; `lspci` does.
    fn class_code(&self) -> [u8; 3] {
        [0xff, 0, 0]
    }

    /// Feature bits of the device type; the transport adds its own.
    fn features(&self) -> u64;

    /// The greatest size of each queue: powers of two up to 32768.
    fn queue_sizes(&self) -> Vec<u16>;

    /// Length of the device's configuration.
    fn config_bytes(&self) -> u32;

    /// Reads configuration. `offset` and `data` may reach beyond its end, where there are zeroes; `data` comes zeroed.
    fn read_config(&self, offset: u32, data: &mut [u8]);

    /// Writes configuration; anything the device does not know is ignored.
    fn write_config(&mut self, offset: u32, data: &[u8]);

    /// The driver has set DRIVER_OK with these features.
    fn activate(&mut self, features: u64, rings: &mut Rings<'_>);

    /// The driver has notified a queue of a running device.
    fn notified(&mut self, queue: u16, rings: &mut Rings<'_>);

    /// The chains that were popped and not given back, each with its queue: what the books of a restored ring are checked
    /// against.
    fn held(&self) -> Vec<(u16, &Chain)>;

    /// The driver has reset the device: chains still held are forgotten, without a word to their memory.
    fn reset(&mut self);

    /// The owner has cut the device off: chains still held are forgotten.
    fn severed(&mut self) {}
}
