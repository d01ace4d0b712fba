//! One descriptor chain, checked once and then plain data.
//!
//! The walk of the `virtio-queue` crate ends in silence at a broken descriptor, as if the chain ended there; a device
//! that is to answer malformed requests needs to be told, so the walk is done here, on the crate's descriptor type.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, Permissions};

use crate::state::StateError;

/// Bytes of one descriptor (virtio 1.2, 2.7.5).
const DESCRIPTOR_BYTES: u64 = 16;

/// Why a chain cannot be used (virtio 1.2, 2.7.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A descriptor index is not in the table.
    #[error("descriptor {0} is outside the descriptor table; the driver must keep indices below the queue size")]
    IndexOutOfRange(u16),
    /// More descriptors than the queue has: a loop (2.7.5.2).
    #[error("the chain does not end within the queue size; the driver must not make loops")]
    TooLong,
    /// An indirect table, which is not offered (2.7.5.3).
    #[error("descriptor {0} is indirect; the driver must not use indirect descriptors without the feature")]
    Indirect(u16),
    /// A readable buffer behind a writable one (2.7.4.2).
    #[error("descriptor {0} is readable and follows a writable one; the driver must put readable buffers first")]
    ReadableAfterWritable(u16),
    /// A buffer that is not wholly in guest memory.
    #[error("descriptor {0} points outside guest memory; the driver must give addresses of RAM")]
    OutsideMemory(u16),
    /// More than 2^32 bytes together (2.7.5.2).
    #[error("the chain is longer than 2^32 bytes; the driver must not make chains of that length")]
    TooManyBytes,
}

/// A piece of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Where it begins.
    pub address: u64,
    /// How long it is.
    pub length_bytes: u32,
}

/// A chain as plain data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainState {
    /// Its first descriptor, by which the driver knows it.
    pub head: u16,
    /// What the device may read, in the order of the descriptors.
    pub readable: Vec<Segment>,
    /// What the device may write.
    pub writable: Vec<Segment>,
}

/// What a driver handed over under one head: buffers to read, then buffers to write. It holds addresses only, so a
/// device may keep it for as long as it likes; the memory is looked up again at each access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    head: u16,
    readable: Vec<Segment>,
    writable: Vec<Segment>,
}

impl Chain {
    /// Walks the chain that begins at `head` in a table of `size` descriptors. At most `size` descriptors are read, and
    /// each buffer is checked against guest memory.
    pub(crate) fn walk(
        memory: &GuestMemoryMmap,
        table: GuestAddress,
        size: u16,
        head: u16,
    ) -> Result<Self, ChainError> {
        let mut chain = Self { head, readable: Vec::new(), writable: Vec::new() };
        let mut index = head;
        let mut total_bytes = 0_u32;
        for _ in 0..size {
            if index >= size {
                return Err(ChainError::IndexOutOfRange(index));
            }
            let descriptor: Descriptor = table
                .0
                .checked_add(u64::from(index) * DESCRIPTOR_BYTES)
                .and_then(|address| memory.read_obj(GuestAddress(address)).ok())
                .ok_or(ChainError::IndexOutOfRange(index))?;
            if descriptor.refers_to_indirect_table() {
                return Err(ChainError::Indirect(index));
            }
            let segment = Segment { address: descriptor.addr().0, length_bytes: descriptor.len() };
            total_bytes = total_bytes.checked_add(segment.length_bytes).ok_or(ChainError::TooManyBytes)?;
            chain.add(memory, segment, descriptor.is_write_only(), index)?;
            if !descriptor.has_next() {
                return Ok(chain);
            }
            index = descriptor.next();
        }
        Err(ChainError::TooLong)
    }

    /// The chain as plain data.
    pub(crate) fn state(&self) -> ChainState {
        ChainState { head: self.head, readable: self.readable.clone(), writable: self.writable.clone() }
    }

    /// A chain that a device held when it was saved. It is checked as when it was walked; which queue it is of, and what
    /// that makes of the head, is the transport's to check.
    pub(crate) fn from_state(state: &ChainState, memory: &GuestMemoryMmap) -> Result<Self, StateError> {
        let refused = |reason: &str| StateError::new("descriptor chain", format!("chain {} {reason}", state.head));
        let mut chain = Self { head: state.head, readable: Vec::new(), writable: Vec::new() };
        let readable = state.readable.iter().map(|segment| (segment, false));
        let mut total_bytes = 0_u32;
        for (&segment, writable) in readable.chain(state.writable.iter().map(|segment| (segment, true))) {
            total_bytes =
                total_bytes.checked_add(segment.length_bytes).ok_or_else(|| refused("is longer than 2^32 bytes"))?;
            chain.add(memory, segment, writable, state.head).map_err(|_| refused("points outside guest memory"))?;
        }
        // Nothing counts chains but their descriptors: one without would not be missed, nor a million of them.
        if chain.descriptors() == 0 {
            return Err(refused("has no descriptors"));
        }
        Ok(chain)
    }

    fn add(
        &mut self,
        memory: &GuestMemoryMmap,
        segment: Segment,
        writable: bool,
        index: u16,
    ) -> Result<(), ChainError> {
        let access = if writable { Permissions::Write } else { Permissions::Read };
        let length = usize::try_from(segment.length_bytes).map_err(|_| ChainError::OutsideMemory(index))?;
        if length > 0 && !memory.check_range(GuestAddress(segment.address), length, access) {
            return Err(ChainError::OutsideMemory(index));
        }
        if writable {
            self.writable.push(segment);
        } else if self.writable.is_empty() {
            self.readable.push(segment);
        } else {
            return Err(ChainError::ReadableAfterWritable(index));
        }
        Ok(())
    }

    /// The head, by which the driver knows the chain.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }

    /// How many descriptors the chain occupies.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        self.readable.len() + self.writable.len()
    }

    /// Bytes the device may read.
    #[must_use]
    pub fn readable_bytes(&self) -> u64 {
        total(&self.readable)
    }

    /// Bytes the device may write.
    #[must_use]
    pub fn writable_bytes(&self) -> u64 {
        total(&self.writable)
    }

    /// Copies out of the readable part from `offset` on; gives how many bytes there were. The framing is the driver's
    /// (2.7.4.1), so a field may lie across several buffers.
    pub(crate) fn read(&self, memory: &GuestMemoryMmap, offset: u64, data: &mut [u8]) -> usize {
        visit(&self.readable, offset, data.len(), |address, range| {
            data.get_mut(range).is_some_and(|part| memory.read_slice(part, address).is_ok())
        })
    }

    /// Copies into the writable part from `offset` on; gives how many bytes fitted.
    pub(crate) fn write(&self, memory: &GuestMemoryMmap, offset: u64, data: &[u8]) -> usize {
        visit(&self.writable, offset, data.len(), |address, range| {
            data.get(range).is_some_and(|part| memory.write_slice(part, address).is_ok())
        })
    }
}

fn total(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| u64::from(segment.length_bytes)).sum()
}

/// Calls `access` with each piece of guest memory that holds bytes `offset..offset + wanted` of the segments, and the
/// range of the caller's bytes it stands for. Stops where `access` fails; gives the bytes done.
fn visit(
    segments: &[Segment],
    offset: u64,
    wanted: usize,
    mut access: impl FnMut(GuestAddress, std::ops::Range<usize>) -> bool,
) -> usize {
    let mut skip = offset;
    let mut done = 0_usize;
    for segment in segments {
        if done == wanted {
            break;
        }
        let length = u64::from(segment.length_bytes);
        if skip >= length {
            skip -= length;
            continue;
        }
        // Both are at most 2^32, and `wanted` is a slice's length.
        let here = usize::try_from(length - skip).unwrap_or(usize::MAX).min(wanted - done);
        let Some(address) = segment.address.checked_add(skip) else { break };
        if !access(GuestAddress(address), done..done + here) {
            break;
        }
        done += here;
        skip = 0;
    }
    done
}
