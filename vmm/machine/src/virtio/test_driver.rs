//! A small driver for the tests: it sees a device only as a guest does, through its PCI function and shared memory.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::interrupt::{MsiMessage, MsiSink};
use crate::pci::SharedFunction;
use crate::virtio::{Subsystem, status};

/// Where the BAR is placed, and what the vectors' messages look like.
const BAR_ADDRESS: u64 = 0xe000_0000;
pub(crate) const MSI_ADDRESS: u64 = 0xfee0_1000;

pub(crate) const MEMORY_BYTES: usize = 0x40_0000;
pub(crate) const SUBSYSTEM: Subsystem = Subsystem { vendor: 0x5053, device: 2 };

/// Offsets of the structures in the BAR, which the driver finds in the capabilities.
pub(crate) const COMMON: u64 = 0;
pub(crate) const ISR: u64 = 0x1000;
pub(crate) const DEVICE: u64 = 0x2000;
pub(crate) const NOTIFY: u64 = 0x3000;
pub(crate) const TABLE: u64 = 0x4000;

/// A sink that remembers.
#[derive(Debug, Default)]
pub(crate) struct Messages(Mutex<Vec<MsiMessage>>);

impl MsiSink for Messages {
    fn signal(&self, message: MsiMessage) {
        self.0.lock().unwrap().push(message);
    }
}

impl Messages {
    /// The vectors signalled since the last call.
    pub(crate) fn take(&self) -> Vec<u32> {
        self.0.lock().unwrap().drain(..).map(|message| message.data).collect()
    }
}

pub(crate) fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap()
}

/// A descriptor as the test wants it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptor {
    pub(crate) address: u64,
    pub(crate) length: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// The driver's side of a queue.
#[derive(Debug, Default, Clone)]
pub(crate) struct DriverQueue {
    pub(crate) size: u16,
    base: u64,
    next_descriptor: u16,
    available: u16,
    used: u16,
    next_buffer: u64,
}

impl DriverQueue {
    pub(crate) fn descriptors(&self) -> u64 {
        self.base
    }
    pub(crate) fn available(&self) -> u64 {
        self.base + 0x8000
    }
    pub(crate) fn used(&self) -> u64 {
        self.base + 0xa000
    }
    fn buffers(&self) -> Range<u64> {
        self.base + 0x1_0000..self.base + 0x2_0000
    }
}

/// What was put on a queue: its head, and where the device's answer will be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Posted {
    pub(crate) head: u16,
    pub(crate) answer: u64,
    pub(crate) room: usize,
}

#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) function: SharedFunction,
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) messages: Arc<Messages>,
    pub(crate) queues: Vec<DriverQueue>,
    /// Where the queues begin, each in 128 KiB of its own.
    pub(crate) queues_at: u64,
}

impl Driver {
    pub(crate) fn new(function: SharedFunction, memory: GuestMemoryMmap, messages: Arc<Messages>) -> Self {
        Self { function, memory, messages, queues: Vec::new(), queues_at: 0x1_0000 }
    }

    /// Everything a driver does up to DRIVER_OK, with MSI-X vector 0 for the configuration and n + 1 for queue n.
    pub(crate) fn start(&mut self, features: u64) {
        self.enable_pci();
        self.negotiate(features);
        self.setup_queues();
        self.write8(COMMON + 0x14, 0x0f);
        assert_eq!(self.read8(COMMON + 0x14), 0x0f, "the device did not start");
    }

    pub(crate) fn enable_pci(&self) {
        self.config_write(0x10, &u32::try_from(BAR_ADDRESS).unwrap().to_le_bytes());
        self.config_write(0x04, &0x0406_u16.to_le_bytes());
        let msix = self.find_capability(0x11, None).unwrap();
        self.config_write(msix + 2, &0x8000_u16.to_le_bytes());
        for vector in 0..64_u32 {
            let entry = TABLE + u64::from(vector) * 16;
            self.write32(entry, u32::try_from(MSI_ADDRESS).unwrap());
            self.write32(entry + 8, vector);
            self.write32(entry + 12, 0);
        }
    }

    pub(crate) fn negotiate(&self, features: u64) {
        self.write8(COMMON + 0x14, 0);
        assert_eq!(self.read8(COMMON + 0x14), 0);
        self.write8(COMMON + 0x14, status::ACKNOWLEDGE);
        self.write8(COMMON + 0x14, status::ACKNOWLEDGE | status::DRIVER);
        self.write32(COMMON + 0x08, 0);
        self.write32(COMMON + 0x0c, features as u32);
        self.write32(COMMON + 0x08, 1);
        self.write32(COMMON + 0x0c, (features >> 32) as u32);
        self.write8(COMMON + 0x14, 0x0b);
    }

    pub(crate) fn setup_queues(&mut self) {
        self.write16(COMMON + 0x10, 0);
        let count = self.read16(COMMON + 0x12);
        self.queues.clear();
        for queue in 0..count {
            self.write16(COMMON + 0x16, queue);
            let size = self.read16(COMMON + 0x18).min(256);
            self.write16(COMMON + 0x18, size);
            let base = self.queues_at + u64::from(queue) * 0x2_0000;
            let queue_state = DriverQueue { size, base, ..DriverQueue::default() };
            self.memory.write_slice(&vec![0; 0x1_0000], GuestAddress(base)).unwrap();
            for (register, address) in
                [(0x20, queue_state.descriptors()), (0x28, queue_state.available()), (0x30, queue_state.used())]
            {
                self.write32(COMMON + register, address as u32);
                self.write32(COMMON + register + 4, (address >> 32) as u32);
            }
            self.write16(COMMON + 0x1a, queue + 1);
            assert_eq!(self.read16(COMMON + 0x1a), queue + 1);
            self.queues.push(queue_state);
        }
        for queue in 0..count {
            self.write16(COMMON + 0x16, queue);
            self.write16(COMMON + 0x1c, 1);
            assert_eq!(self.read16(COMMON + 0x1c), 1);
        }
    }

    /// Puts a request on a queue: `readable` bytes, and `room` bytes for the answer. No kick.
    pub(crate) fn post(&mut self, queue: u16, readable: &[u8], room: usize) -> Posted {
        let state = &mut self.queues[usize::from(queue)];
        let mut take = |bytes: usize| {
            let buffers = state.buffers();
            if state.next_buffer < buffers.start || state.next_buffer + bytes as u64 > buffers.end {
                state.next_buffer = buffers.start;
            }
            let address = state.next_buffer;
            state.next_buffer += bytes as u64;
            address
        };
        let (request, answer) = (take(readable.len()), take(room));
        self.memory.write_slice(readable, GuestAddress(request)).unwrap();
        self.memory.write_slice(&vec![0xaa; room], GuestAddress(answer)).unwrap();
        let mut chain = Vec::new();
        if !readable.is_empty() {
            chain.push((request, readable.len() as u32, 0));
        }
        if room > 0 {
            chain.push((answer, room as u32, WRITE));
        }
        let head = self.post_chain(queue, &chain);
        Posted { head, answer, room }
    }

    /// Puts a chain of (address, length, flags) on a queue.
    pub(crate) fn post_chain(&mut self, queue: u16, chain: &[(u64, u32, u16)]) -> u16 {
        let size = self.queues[usize::from(queue)].size;
        let head = self.queues[usize::from(queue)].next_descriptor;
        for (index, &(address, length, flags)) in chain.iter().enumerate() {
            let at = self.queues[usize::from(queue)].next_descriptor;
            let next = (at + 1) % size;
            let flags = if index + 1 < chain.len() { flags | NEXT } else { flags };
            self.set_descriptor(queue, at, Descriptor { address, length, flags, next });
            self.queues[usize::from(queue)].next_descriptor = next;
        }
        self.make_available(queue, head);
        head
    }

    pub(crate) fn set_descriptor(&self, queue: u16, index: u16, descriptor: Descriptor) {
        let at = self.queues[usize::from(queue)].descriptors() + u64::from(index) * 16;
        self.memory.write_obj(descriptor.address, GuestAddress(at)).unwrap();
        self.memory.write_obj(descriptor.length, GuestAddress(at + 8)).unwrap();
        self.memory.write_obj(descriptor.flags, GuestAddress(at + 12)).unwrap();
        self.memory.write_obj(descriptor.next, GuestAddress(at + 14)).unwrap();
    }

    pub(crate) fn make_available(&mut self, queue: u16, head: u16) {
        let state = &mut self.queues[usize::from(queue)];
        let slot = state.available() + 4 + u64::from(state.available % state.size) * 2;
        self.memory.write_obj(head, GuestAddress(slot)).unwrap();
        state.available = state.available.wrapping_add(1);
        self.memory.write_obj(state.available, GuestAddress(state.available() + 2)).unwrap();
    }

    /// Sets the available index to anything.
    pub(crate) fn make_available_raw(&self, queue: u16, index: u16) {
        let address = self.queues[usize::from(queue)].available() + 2;
        self.memory.write_obj(index, GuestAddress(address)).unwrap();
    }

    pub(crate) fn kick(&self, queue: u16) {
        self.write16(NOTIFY + u64::from(queue) * 4, queue);
    }

    /// The next used entry: head and length.
    pub(crate) fn used(&mut self, queue: u16) -> Option<(u16, u32)> {
        let state = &mut self.queues[usize::from(queue)];
        let index: u16 = self.memory.read_obj(GuestAddress(state.used() + 2)).unwrap();
        if index == state.used {
            return None;
        }
        let slot = state.used() + 4 + u64::from(state.used % state.size) * 8;
        state.used = state.used.wrapping_add(1);
        let head: u32 = self.memory.read_obj(GuestAddress(slot)).unwrap();
        let length = self.memory.read_obj(GuestAddress(slot + 4)).unwrap();
        Some((u16::try_from(head).unwrap(), length))
    }

    /// The bytes of an answer.
    pub(crate) fn answer(&self, posted: Posted) -> Vec<u8> {
        let mut data = vec![0; posted.room];
        self.memory.read_slice(&mut data, GuestAddress(posted.answer)).unwrap();
        data
    }

    pub(crate) fn suppress_interrupts(&self, queue: u16, suppress: bool) {
        let available = self.queues[usize::from(queue)].available();
        self.memory.write_obj(u16::from(suppress), GuestAddress(available)).unwrap();
    }

    pub(crate) fn status(&self) -> u8 {
        self.read8(COMMON + 0x14)
    }

    pub(crate) fn config_read(&self, offset: u16, data: &mut [u8]) {
        self.function.lock().unwrap().config_read(offset, data);
    }

    pub(crate) fn config_write(&self, offset: u16, data: &[u8]) {
        self.function.lock().unwrap().config_write(offset, data);
    }

    pub(crate) fn config32(&self, offset: u16) -> u32 {
        let mut data = [0; 4];
        self.config_read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// The next capability with an id, after one already found.
    pub(crate) fn find_capability(&self, id: u8, after: Option<u16>) -> Option<u16> {
        let mut pointer = [0];
        self.config_read(after.map_or(0x34, |at| at + 1), &mut pointer);
        while pointer[0] != 0 {
            let mut header = [0; 2];
            self.config_read(u16::from(pointer[0]), &mut header);
            if header[0] == id {
                return Some(u16::from(pointer[0]));
            }
            pointer[0] = header[1];
        }
        None
    }

    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) {
        let mut function = self.function.lock().unwrap();
        let (bar, offset) = function.decode(BAR_ADDRESS + offset).unwrap();
        function.bar_read(bar, offset, data);
    }

    pub(crate) fn write(&self, offset: u64, data: &[u8]) {
        let mut function = self.function.lock().unwrap();
        let (bar, offset) = function.decode(BAR_ADDRESS + offset).unwrap();
        function.bar_write(bar, offset, data);
    }

    pub(crate) fn read8(&self, offset: u64) -> u8 {
        let mut data = [0];
        self.read(offset, &mut data);
        data[0]
    }

    pub(crate) fn read16(&self, offset: u64) -> u16 {
        let mut data = [0; 2];
        self.read(offset, &mut data);
        u16::from_le_bytes(data)
    }

    pub(crate) fn read32(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    pub(crate) fn write8(&self, offset: u64, value: u8) {
        self.write(offset, &[value]);
    }

    pub(crate) fn write16(&self, offset: u64, value: u16) {
        self.write(offset, &value.to_le_bytes());
    }

    pub(crate) fn write32(&self, offset: u64, value: u32) {
        self.write(offset, &value.to_le_bytes());
    }
}
