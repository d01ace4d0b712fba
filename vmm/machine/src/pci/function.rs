//! What a PCI bus sees of a device.

use std::fmt;
use std::sync::{Arc, Mutex};

/// One PCI function. The root complex calls it with the function's lock held and no other.
pub trait PciFunction: Send + fmt::Debug {
    /// Reads configuration space. `data` is 1, 2 or 4 bytes, `offset` below 4096 and naturally aligned.
    fn config_read(&mut self, offset: u16, data: &mut [u8]);

    /// Writes configuration space, with the same promises. Only the bytes given are written (byte enables).
    fn config_write(&mut self, offset: u16, data: &[u8]);

    /// Which BAR claims this memory address, and at which offset; none if memory decoding is off (PCI 3.0, 6.2.2).
    fn decode(&self, address: u64) -> Option<(u8, u64)>;

    /// Reads from a BAR. `data` is 1 to 8 bytes and lies within the BAR.
    fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]);

    /// Writes to a BAR, with the same promises.
    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]);

    /// The link went down (PCIe 6.6.1): the function was pulled out, or the guest disabled the link above it. It
    /// forgets what the guest configured, and until it is configured again it leaves guest memory alone and sends no
    /// message: the guest may have given its rings to somebody else. By default nothing happens.
    fn reset(&mut self) {}
}

/// A function that a bus and its owner share.
pub type SharedFunction = Arc<Mutex<dyn PciFunction>>;
