//! MSI-X (PCI 3.0, 6.8.2): a table of messages and a bit for each that is waiting behind a mask.

use serde::{Deserialize, Serialize};

use super::capability::ID_MSIX;
use super::config::{ConfigError, ConfigSpace};
use crate::interrupt::{MsiMessage, MsiSink};
use crate::state::StateError;

/// Bytes of one table entry: address, upper address, data, vector control.
pub const ENTRY_BYTES: u64 = 16;

/// Message control: enabled.
const ENABLE: u16 = 1 << 15;
/// Message control: all vectors masked.
const FUNCTION_MASK: u16 = 1 << 14;
/// Vector control: this vector masked; the other bits are reserved and read zero.
const VECTOR_MASK: u8 = 1 << 0;
/// Message control holds the number of vectors less one in 11 bits.
const MOST_VECTORS: u16 = 2048;

const CONTROL: u16 = 0x02;

/// Where table and pending bits are in the function's BARs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsixLayout {
    /// Number of vectors, 1 to 2048.
    pub vectors: u16,
    /// BAR with the table.
    pub table_bar: u8,
    /// Offset of the table in it, a multiple of 8.
    pub table_offset: u32,
    /// BAR with the pending bits.
    pub pba_bar: u8,
    /// Offset of the pending bits in it, a multiple of 8.
    pub pba_offset: u32,
}

/// Table and pending bits of one function. Enable and function mask are in configuration space, which every call is
/// given; the function calls [`Self::config_written`] after each write to that space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Msix {
    capability: u16,
    entries: Vec<[u8; ENTRY_BYTES as usize]>,
    /// As the guest reads it: a bit a vector, in whole quadwords.
    pending: Vec<u8>,
}

/// Table and pending bits as plain data. Enable and function mask are in the function's configuration space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MsixState {
    /// The vectors, in their order.
    pub vectors: Vec<VectorState>,
}

/// One vector (PCI 3.0, 6.8.2.7 to 6.8.2.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorState {
    /// Message address as the guest wrote it.
    pub address: u64,
    /// Message data.
    pub data: u32,
    /// Masked by vector control.
    pub masked: bool,
    /// A message waits behind a mask.
    pub pending: bool,
}

impl Msix {
    /// Adds the capability to a configuration space. All vectors start masked (PCI 3.0, 6.8.2.9).
    ///
    /// # Errors
    /// If the layout is not one that the capability can express, or the capability does not fit.
    pub fn add_to(config: &mut ConfigSpace, layout: &MsixLayout) -> Result<Self, ConfigError> {
        let &MsixLayout { vectors, table_bar, table_offset, pba_bar, pba_offset } = layout;
        let aligned = table_offset % 8 == 0 && pba_offset % 8 == 0 && table_bar < 6 && pba_bar < 6;
        if !(1..=MOST_VECTORS).contains(&vectors) || !aligned {
            return Err(ConfigError::Msix { vectors, table: table_offset, pba: pba_offset });
        }
        let mut body = [0; 10];
        body[..2].copy_from_slice(&(vectors - 1).to_le_bytes());
        body[2..6].copy_from_slice(&(table_offset | u32::from(table_bar)).to_le_bytes());
        body[6..].copy_from_slice(&(pba_offset | u32::from(pba_bar)).to_le_bytes());
        let capability = u16::from(config.add_capability(ID_MSIX, &body)?);
        config.set_writable(capability + CONTROL, &(ENABLE | FUNCTION_MASK).to_le_bytes());
        let vectors = usize::from(vectors);
        let mut state =
            Self { capability, entries: vec![[0; 16]; vectors], pending: vec![0; vectors.div_ceil(64) * 8] };
        state.reset();
        Ok(state)
    }

    /// Bytes that the table takes in its BAR.
    #[must_use]
    pub fn table_bytes(&self) -> u64 {
        self.entries.len() as u64 * ENTRY_BYTES
    }

    /// Bytes that the pending bits take in their BAR.
    #[must_use]
    pub fn pba_bytes(&self) -> u64 {
        self.pending.len() as u64
    }

    /// Number of vectors.
    #[must_use]
    pub fn vectors(&self) -> u16 {
        u16::try_from(self.entries.len()).unwrap_or(MOST_VECTORS)
    }

    /// Whether the guest has MSI-X enabled.
    #[must_use]
    pub fn is_enabled(&self, config: &ConfigSpace) -> bool {
        config.u16_at(self.capability + CONTROL) & ENABLE != 0
    }

    /// Whether a message waits behind the mask of this vector.
    #[must_use]
    pub fn is_pending(&self, vector: u16) -> bool {
        self.pending.get(usize::from(vector / 8)).is_some_and(|byte| byte & (1 << (vector % 8)) != 0)
    }

    /// The message of a vector, masked or not; none if there is no such vector or the guest has not given it one.
    #[must_use]
    pub fn message(&self, vector: u16) -> Option<MsiMessage> {
        self.entries.get(usize::from(vector)).map(message).filter(|message| message.address != 0)
    }

    /// Reads the table. `offset` is relative to the table; beyond its end are zeroes.
    pub fn table_read(&self, offset: u64, data: &mut [u8]) {
        let table = self.entries.as_flattened();
        copy_from(table, offset, data);
    }

    /// Writes the table. Unmasking a vector sends the message that waited for it.
    pub fn table_write(&mut self, offset: u64, data: &[u8], config: &ConfigSpace, sink: &dyn MsiSink) {
        let Ok(start) = usize::try_from(offset) else { return };
        let table = self.entries.as_flattened_mut();
        for ((index, byte), &new) in table.iter_mut().enumerate().skip(start).zip(data) {
            *byte = match index % 16 {
                12 => new & VECTOR_MASK,
                13..=15 => 0,
                _ => new,
            };
        }
        self.send_pending(config, sink);
    }

    /// Reads the pending bits. `offset` is relative to them; beyond their end are zeroes. Writes have no effect, so
    /// there is no function for them.
    pub fn pba_read(&self, offset: u64, data: &mut [u8]) {
        copy_from(&self.pending, offset, data);
    }

    /// The function has an event for `vector`: sends its message, or remembers it while the vector or the function is
    /// masked. Nothing happens while MSI-X is disabled or if there is no such vector (virtio's 0xffff).
    pub fn signal(&mut self, vector: u16, config: &ConfigSpace, sink: &dyn MsiSink) {
        if vector >= self.vectors() || !self.is_enabled(config) {
            return;
        }
        if let Some(byte) = self.pending.get_mut(usize::from(vector / 8)) {
            *byte |= 1 << (vector % 8);
        }
        self.send_pending(config, sink);
    }

    /// The guest wrote to configuration space: unmasking the function sends what waited; disabling MSI-X forgets it, so
    /// that the next driver gets no interrupt of the last one's.
    pub fn config_written(&mut self, config: &ConfigSpace, sink: &dyn MsiSink) {
        if self.is_enabled(config) {
            self.send_pending(config, sink);
        } else {
            self.pending.fill(0);
        }
    }

    /// Table and pending bits as they are now.
    #[must_use]
    pub fn state(&self) -> MsixState {
        let vector = |(number, entry): (u16, &[u8; ENTRY_BYTES as usize])| {
            let [a0, a1, a2, a3, a4, a5, a6, a7, d0, d1, d2, d3, control, ..] = *entry;
            VectorState {
                address: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
                data: u32::from_le_bytes([d0, d1, d2, d3]),
                masked: control & VECTOR_MASK != 0,
                pending: self.is_pending(number),
            }
        };
        MsixState { vectors: (0..).zip(&self.entries).map(vector).collect() }
    }

    /// Takes over table and pending bits. Nothing is sent: what waited, waits on.
    ///
    /// # Errors
    /// If the number of vectors is another; nothing has changed then.
    pub fn restore(&mut self, state: &MsixState) -> Result<(), StateError> {
        if state.vectors.len() != self.entries.len() {
            let reason = format!("it has {} vectors, and {} here", state.vectors.len(), self.entries.len());
            return Err(StateError::new("MSI-X table", reason));
        }
        self.pending.fill(0);
        for (number, (entry, vector)) in self.entries.iter_mut().zip(&state.vectors).enumerate() {
            *entry = [0; ENTRY_BYTES as usize];
            entry[..8].copy_from_slice(&vector.address.to_le_bytes());
            entry[8..12].copy_from_slice(&vector.data.to_le_bytes());
            entry[12] = if vector.masked { VECTOR_MASK } else { 0 };
            if let Some(byte) = self.pending.get_mut(number / 8).filter(|_| vector.pending) {
                *byte |= 1 << (number % 8);
            }
        }
        Ok(())
    }

    /// Back to the state after a reset: all vectors masked, nothing pending. Enable and function mask are in
    /// configuration space and the caller's to clear.
    pub fn reset(&mut self) {
        for entry in &mut self.entries {
            *entry = [0; 16];
            entry[12] = VECTOR_MASK;
        }
        self.pending.fill(0);
    }

    /// Sends what waits and is not masked.
    fn send_pending(&mut self, config: &ConfigSpace, sink: &dyn MsiSink) {
        let control = config.u16_at(self.capability + CONTROL);
        if control & (ENABLE | FUNCTION_MASK) != ENABLE || self.pending.iter().all(|&byte| byte == 0) {
            return;
        }
        for (vector, entry) in self.entries.iter().enumerate() {
            let bit = 1 << (vector % 8);
            let Some(pending) = self.pending.get_mut(vector / 8).filter(|byte| **byte & bit != 0) else { continue };
            if entry[12] & VECTOR_MASK == 0 {
                *pending &= !bit;
                sink.signal(message(entry));
            }
        }
    }
}

/// The message in a table entry; the lowest two bits of the address are reserved.
fn message(entry: &[u8; ENTRY_BYTES as usize]) -> MsiMessage {
    let [a0, a1, a2, a3, a4, a5, a6, a7, d0, d1, d2, d3, ..] = *entry;
    MsiMessage {
        address: u64::from_le_bytes([a0 & 0xfc, a1, a2, a3, a4, a5, a6, a7]),
        data: u32::from_le_bytes([d0, d1, d2, d3]),
    }
}

/// Copies from `offset` on, zeroes beyond the end.
fn copy_from(from: &[u8], offset: u64, to: &mut [u8]) {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(from.len());
    let there = from.len().saturating_sub(start).min(to.len());
    to.fill(0);
    to[..there].copy_from_slice(&from[start..start + there]);
}

#[cfg(test)]
mod tests;
