//! One virtqueue with what the transport keeps beside it, and the view a device gets of all of them.

use std::sync::atomic::{Ordering, fence};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use virtio_queue::{Queue, QueueOwnedT, QueueState, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::chain::Chain;

/// `VIRTQ_AVAIL_F_NO_INTERRUPT` (virtio 1.2, 2.7.6).
const AVAIL_NO_INTERRUPT: u16 = 1;

/// No MSI-X vector is assigned (virtio 1.2, 4.1.5.1.2).
pub(crate) const NO_VECTOR: u16 = 0xffff;

/// Why a ring can no longer be trusted; the device then asks for a reset (virtio 1.2, 2.1.2).
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum RingError {
    /// The crate could not read the ring, or its index runs ahead of the queue size.
    #[error("the available ring cannot be read ({0}); the driver must reset the device")]
    Available(virtio_queue::Error),
    /// A head that is no descriptor of this queue cannot even be given back.
    #[error("the available ring names descriptor {head} of {size}; the driver must reset the device")]
    Head { head: u16, size: u16 },
    /// Descriptors of chains in the device's hands were made available again.
    #[error("more descriptors are in flight than the queue has; the driver must reset the device")]
    InFlight,
    /// The used ring is not writable.
    #[error("the used ring cannot be written ({0}); the driver must reset the device")]
    Used(virtio_queue::Error),
}

/// A queue, the vector its interrupts take, and the books on what the device holds.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) queue: Queue,
    pub(crate) vector: u16,
    /// Descriptors of chains popped and not yet given back. Chains share no descriptors (2.7.13.1), so a driver that
    /// makes this exceed the queue size is wrong; the check is what bounds the memory of a device that keeps chains.
    in_flight: usize,
    /// Chains popped since the device was last called: one call takes at most the queue size.
    popped: u16,
    /// Something was used since the last interrupt.
    used: bool,
    /// Interrupts without a used buffer that scripted faults want.
    spurious: u16,
}

/// The plain state of a ring between two calls of the device: then no interrupt is owed, for a call ends with the
/// interrupts that it is the reason of. The size that the device offers is the device's, and `VIRTIO_F_EVENT_IDX` is
/// offered by none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingState {
    /// Entries, as the driver chose.
    pub size: u16,
    /// The driver has enabled the queue.
    pub ready: bool,
    /// Address of the descriptor table.
    pub descriptor_table: u64,
    /// Address of the available ring.
    pub available_ring: u64,
    /// Address of the used ring.
    pub used_ring: u64,
    /// Index of the next entry to take from the available ring; it counts on beyond the size.
    pub next_available: u16,
    /// Index of the next entry to put into the used ring, likewise.
    pub next_used: u16,
    /// The MSI-X vector, or 0xffff.
    pub vector: u16,
    /// Descriptors held by the device.
    pub in_flight: usize,
}

impl Ring {
    pub(crate) fn new(max_size: u16) -> Result<Self, virtio_queue::Error> {
        Queue::new(max_size).map(Self::of)
    }

    fn of(queue: Queue) -> Self {
        Self { queue, vector: NO_VECTOR, in_flight: 0, popped: 0, used: false, spurious: 0 }
    }

    pub(crate) fn reset(&mut self) {
        self.queue.reset();
        self.vector = NO_VECTOR;
        (self.in_flight, self.popped, self.used, self.spurious) = (0, 0, false, 0);
    }

    /// The device has forgotten the chains it held.
    pub(crate) fn forget_held(&mut self) {
        self.in_flight = 0;
    }

    pub(crate) fn state(&self) -> RingState {
        let queue = self.queue.state();
        RingState {
            size: queue.size,
            ready: queue.ready,
            descriptor_table: queue.desc_table,
            available_ring: queue.avail_ring,
            used_ring: queue.used_ring,
            next_available: queue.next_avail,
            next_used: queue.next_used,
            vector: self.vector,
            in_flight: self.in_flight,
        }
    }

    /// A ring that goes on where another was saved; the reason if no driver could have brought it there. `memory` is none
    /// for a severed device, whose rings nobody looks at any more.
    pub(crate) fn from_state(
        max_size: u16,
        vectors: u16,
        state: &RingState,
        memory: Option<&GuestMemoryMmap>,
    ) -> Result<Self, String> {
        let &RingState { size, ready, next_available, next_used, vector, in_flight, .. } = state;
        let queue = Queue::try_from(QueueState {
            max_size,
            next_avail: next_available,
            next_used,
            event_idx_enabled: false,
            size,
            ready,
            desc_table: state.descriptor_table,
            avail_ring: state.available_ring,
            used_ring: state.used_ring,
        })
        .map_err(|error| format!("cannot be ({error})"))?;
        if memory.is_some_and(|memory| ready && !queue.is_valid(memory)) {
            return Err("is enabled and lies outside guest memory".to_owned());
        }
        if !ready && (next_available, next_used, in_flight) != (0, 0, 0) {
            return Err("has been used and is not enabled".to_owned());
        }
        if vector >= vectors && vector != NO_VECTOR {
            return Err(format!("has vector {vector} of {vectors}"));
        }
        Ok(Self { vector, in_flight, ..Self::of(queue) })
    }

    /// The next available head, within this call's allowance.
    fn next_head(&mut self, memory: &GuestMemoryMmap) -> Result<Option<u16>, RingError> {
        if !self.queue.ready() || self.popped >= self.queue.size() {
            return Ok(None);
        }
        let head = self.queue.iter(memory).map_err(RingError::Available)?.next().map(|chain| chain.head_index());
        if let Some(head) = head {
            self.popped += 1;
            if head >= self.queue.size() {
                return Err(RingError::Head { head, size: self.queue.size() });
            }
        }
        Ok(head)
    }

    /// The next chain. One that is malformed goes back at once with length 0 and is counted, and the batch goes on:
    /// the driver's other requests have done nothing wrong.
    fn pop(&mut self, memory: &GuestMemoryMmap, malformed: &mut u64) -> Result<Option<Chain>, RingError> {
        while let Some(head) = self.next_head(memory)? {
            match Chain::walk(memory, GuestAddress(self.queue.desc_table()), self.queue.size(), head) {
                Ok(chain) => {
                    let in_flight = self.in_flight + chain.descriptors();
                    if in_flight > usize::from(self.queue.size()) {
                        return Err(RingError::InFlight);
                    }
                    self.in_flight = in_flight;
                    return Ok(Some(chain));
                }
                Err(_) => {
                    *malformed = malformed.saturating_add(1);
                    self.push_used(memory, head, 0)?;
                }
            }
        }
        Ok(None)
    }

    fn push_used(&mut self, memory: &GuestMemoryMmap, head: u16, length_bytes: u32) -> Result<(), RingError> {
        self.queue.add_used(memory, head, length_bytes).map_err(RingError::Used)?;
        self.used = true;
        Ok(())
    }

    /// How many interrupts are due, now that the device has returned from a call: one for all that was used, and the
    /// spurious ones. Asking settles it.
    pub(crate) fn take_interrupts(&mut self, memory: &GuestMemoryMmap) -> u16 {
        let used = std::mem::take(&mut self.used) && self.wants_interrupt(memory);
        std::mem::take(&mut self.spurious).saturating_add(u16::from(used))
    }

    /// Whether the driver wants to hear of used buffers (2.7.7.2).
    fn wants_interrupt(&self, memory: &GuestMemoryMmap) -> bool {
        // The used index must be visible before the flags are read: the driver sets the flag to 0, then looks at the
        // index.
        fence(Ordering::SeqCst);
        memory
            .load::<u16>(GuestAddress(self.queue.avail_ring()), Ordering::Relaxed)
            .is_ok_and(|flags| u16::from_le(flags) & AVAIL_NO_INTERRUPT == 0)
    }
}

/// What a device sees of its queues during one call. Nothing here fails towards the device: a ring that turns out to be
/// malformed, a device that is not running or one that has been severed look like queues that are empty.
#[derive(Debug)]
pub struct Rings<'a> {
    memory: Option<&'a GuestMemoryMmap>,
    rings: &'a mut [Ring],
    malformed: &'a mut u64,
    broken: Option<RingError>,
    config_changed: bool,
}

/// What the transport has to do after a call.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) broken: Option<RingError>,
    pub(crate) config_changed: bool,
}

impl<'a> Rings<'a> {
    /// A view for one call; with no memory, every queue is empty.
    pub(crate) fn new(memory: Option<&'a GuestMemoryMmap>, rings: &'a mut [Ring], malformed: &'a mut u64) -> Self {
        rings.iter_mut().for_each(|ring| ring.popped = 0);
        Self { memory, rings, malformed, broken: None, config_changed: false }
    }

    pub(crate) fn finish(self) -> Outcome {
        Outcome { broken: self.broken, config_changed: self.config_changed }
    }

    /// Whether the driver has the device running: queues may be used.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.memory.is_some()
    }

    /// The next chain of a queue. None if there is none, or if this call has taken as many as the queue is long.
    pub fn pop(&mut self, queue: u16) -> Option<Chain> {
        let memory = self.memory?;
        let ring = self.rings.get_mut(usize::from(queue))?;
        let popped = ring.pop(memory, self.malformed);
        self.settle(popped).flatten()
    }

    /// Copies out of a chain; gives the number of bytes.
    #[must_use]
    pub fn read(&self, chain: &Chain, offset: u64, data: &mut [u8]) -> usize {
        self.memory.map_or(0, |memory| chain.read(memory, offset, data))
    }

    /// Copies into a chain; gives the number of bytes.
    pub fn write(&self, chain: &Chain, offset: u64, data: &[u8]) -> usize {
        self.memory.map_or(0, |memory| chain.write(memory, offset, data))
    }

    /// Gives a chain back, `length_bytes` of its writable part written.
    pub fn complete(&mut self, queue: u16, chain: &Chain, length_bytes: u32) {
        if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
            ring.in_flight = ring.in_flight.saturating_sub(chain.descriptors());
        }
        self.complete_again(queue, chain.head(), length_bytes);
    }

    /// Puts a head into the used ring that is not the device's to give: the fault "duplicate completion".
    pub fn complete_again(&mut self, queue: u16, head: u16, length_bytes: u32) {
        let (Some(memory), Some(ring)) = (self.memory, self.rings.get_mut(usize::from(queue))) else { return };
        if ring.queue.ready() {
            let pushed = ring.push_used(memory, head, length_bytes);
            self.settle(pushed);
        }
    }

    /// Interrupts without a used buffer, whatever the driver asked for: the fault "spurious interrupt".
    pub fn interrupt(&mut self, queue: u16) {
        if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
            ring.spurious = ring.spurious.saturating_add(1);
        }
    }

    /// The device's configuration has changed: counts the generation up and tells the driver (virtio 1.2, 2.5.1).
    pub fn config_changed(&mut self) {
        self.config_changed = true;
    }

    /// After an error nothing more is taken from or given to any ring.
    fn settle<T>(&mut self, result: Result<T, RingError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.memory = None;
                self.broken = Some(error);
                None
            }
        }
    }
}
