//! Configuration space: bytes, and masks that say which of them the guest may change.

mod state;

pub use state::ConfigState;

use super::capability;

/// Size of the part that holds registers (PCI 3.0, 6.1). The extended space above it has no capabilities here, which it
/// says by reading as zero (PCIe 7.6.1).
pub const CONFIG_BYTES: usize = 256;

/// Offsets of the registers in the header (PCI 3.0, 6.1; PCI-to-PCI bridge 1.2, 3.2).
pub mod register {
    /// Vendor id, 2 bytes.
    pub const VENDOR: u16 = 0x00;
    /// Device id, 2 bytes.
    pub const DEVICE: u16 = 0x02;
    /// Command, 2 bytes.
    pub const COMMAND: u16 = 0x04;
    /// Status, 2 bytes.
    pub const STATUS: u16 = 0x06;
    /// Revision, 1 byte; the three bytes of the class code follow.
    pub const REVISION: u16 = 0x08;
    /// Cache line size, 1 byte: the guest's scratch.
    pub const CACHE_LINE: u16 = 0x0c;
    /// Header layout, 1 byte.
    pub const HEADER_TYPE: u16 = 0x0e;
    /// First base address register.
    pub const BAR0: u16 = 0x10;
    /// Type 1: primary, secondary and subordinate bus number, a byte each.
    pub const PRIMARY_BUS: u16 = 0x18;
    /// Type 1: number of the bus below.
    pub const SECONDARY_BUS: u16 = 0x19;
    /// Type 1: highest bus number below.
    pub const SUBORDINATE_BUS: u16 = 0x1a;
    /// Type 1: memory base, 2 bytes, the limit follows.
    pub const MEMORY_BASE: u16 = 0x20;
    /// Type 1: memory limit, 2 bytes.
    pub const MEMORY_LIMIT: u16 = 0x22;
    /// Type 1: prefetchable memory base, 2 bytes.
    pub const PREFETCH_BASE: u16 = 0x24;
    /// Type 1: prefetchable memory limit, 2 bytes.
    pub const PREFETCH_LIMIT: u16 = 0x26;
    /// Type 1: upper half of the prefetchable base.
    pub const PREFETCH_BASE_UPPER: u16 = 0x28;
    /// Type 1: upper half of the prefetchable limit.
    pub const PREFETCH_LIMIT_UPPER: u16 = 0x2c;
    /// Type 0: subsystem vendor id, 2 bytes, the subsystem device id follows.
    pub const SUBSYSTEM_VENDOR: u16 = 0x2c;
    /// Type 0: subsystem device id, 2 bytes.
    pub const SUBSYSTEM_DEVICE: u16 = 0x2e;
    /// Pointer to the first capability, 1 byte.
    pub const CAPABILITIES: u16 = 0x34;
    /// Interrupt line, 1 byte: the guest's scratch.
    pub const INTERRUPT_LINE: u16 = 0x3c;
    /// Type 1: bridge control, 2 bytes.
    pub const BRIDGE_CONTROL: u16 = 0x3e;
}

/// Command: the function answers to memory addresses.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// Command: the function may access memory and send messages by itself.
pub const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// Command bits a guest may set: I/O, memory, bus master, parity, SERR#, INTx disable (PCIe 7.5.1.1.3).
const COMMAND_WRITABLE: u16 = 0x0547;
/// Status: there is a capability list.
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Bridge control bits a guest may set: parity and SERR# forwarding. Secondary Bus Reset is not among them.
const BRIDGE_CONTROL_WRITABLE: u16 = 0x0003;
/// Capabilities start after the header.
const FIRST_CAPABILITY: usize = 0x40;

/// What a function calls itself in its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Class code: base class, subclass, programming interface.
    pub class: [u8; 3],
    /// Subsystem vendor id; type 0 headers only.
    pub subsystem_vendor: u16,
    /// Subsystem device id; type 0 headers only.
    pub subsystem_device: u16,
}

/// How wide a memory BAR is, and whether reads from it are free of side effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarKind {
    /// 32 bits wide, not prefetchable.
    Memory32,
    /// 64 bits wide, takes two registers.
    Memory64 {
        /// Reads have no side effects, so a bridge may place it in its prefetchable window.
        prefetchable: bool,
    },
}

/// A BAR that exists; its address is in the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bar {
    index: u8,
    kind: BarKind,
    size_bytes: u64,
}

/// Why a configuration space could not be laid out. All of these are mistakes of the device model, not of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No such BAR in this header, or it overlaps another.
    #[error("BAR {0} does not exist in this header or is already taken; choose a free one")]
    BarTaken(u8),
    /// The size of a BAR must be a power of two, 16 bytes or more, and fit its width (PCI 3.0, 6.2.5.1).
    #[error("BAR {index} cannot be {size_bytes} bytes; use a power of two from 16 that fits the width of the BAR")]
    BarSize {
        /// Number of the BAR.
        index: u8,
        /// Size asked for.
        size_bytes: u64,
    },
    /// The capability list has reached the end of the 256 bytes.
    #[error("capability {id:#04x} of {bytes} bytes does not fit below offset 0x100; drop or shorten a capability")]
    NoSpace {
        /// Capability id.
        id: u8,
        /// Its length with the two bytes of its header.
        bytes: usize,
    },
    /// MSI-X tables have 1 to 2048 vectors, 8-byte aligned (PCI 3.0, 6.8.2).
    #[error("{vectors} MSI-X vectors with a table at {table:#x} and a PBA at {pba:#x} break PCI 3.0, 6.8.2")]
    Msix {
        /// Vectors asked for.
        vectors: u16,
        /// Offset of the table in its BAR.
        table: u32,
        /// Offset of the pending bits in their BAR.
        pba: u32,
    },
}

/// The 256 bytes with registers, and who may change which bit.
///
/// A bit is the guest's to write, the guest's to clear by writing one, or read-only: then only `set_*` changes it.
/// Accesses above the 256 bytes read zero and write nothing. No access fails or panics, whatever its offset and length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSpace {
    bytes: [u8; CONFIG_BYTES],
    writable: [u8; CONFIG_BYTES],
    write_one_to_clear: [u8; CONFIG_BYTES],
    bars: Vec<Bar>,
    bar_registers: u8,
    last_capability: Option<u8>,
    capabilities_end: usize,
}

impl ConfigSpace {
    /// A type 0 header (PCI 3.0, 6.1): six BAR registers, none used yet, no interrupt pin.
    #[must_use]
    pub fn endpoint(identity: &Identity) -> Self {
        let mut config = Self::header(identity, 0x00, 6);
        config.set_u16(register::SUBSYSTEM_VENDOR, identity.subsystem_vendor);
        config.set_u16(register::SUBSYSTEM_DEVICE, identity.subsystem_device);
        config
    }

    /// A type 1 header (PCI-to-PCI bridge 1.2, 3.2): bus numbers and the 32-bit memory window are the guest's; there is
    /// no I/O window and no prefetchable one, which the registers say by reading zero.
    #[must_use]
    pub fn bridge(identity: &Identity) -> Self {
        let mut config = Self::header(identity, 0x01, 2);
        config.set_writable(register::PRIMARY_BUS, &[0xff; 3]);
        config.set_writable(register::MEMORY_BASE, &[0xf0, 0xff, 0xf0, 0xff]);
        // Base above limit: closed. All zeroes would claim the first megabyte as soon as memory space is enabled.
        config.set_u16(register::MEMORY_BASE, 0xfff0);
        config.set_writable(register::BRIDGE_CONTROL, &BRIDGE_CONTROL_WRITABLE.to_le_bytes());
        config
    }

    fn header(identity: &Identity, header_type: u8, bar_registers: u8) -> Self {
        let mut config = Self {
            bytes: [0; CONFIG_BYTES],
            writable: [0; CONFIG_BYTES],
            write_one_to_clear: [0; CONFIG_BYTES],
            bars: Vec::new(),
            bar_registers,
            last_capability: None,
            capabilities_end: FIRST_CAPABILITY,
        };
        let [base, sub, interface] = identity.class;
        config.set_u16(register::VENDOR, identity.vendor);
        config.set_u16(register::DEVICE, identity.device);
        config.set_bytes(register::REVISION, &[identity.revision, interface, sub, base]);
        config.set_bytes(register::HEADER_TYPE, &[header_type]);
        config.set_writable(register::COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        config.set_writable(register::CACHE_LINE, &[0xff]);
        config.set_writable(register::INTERRUPT_LINE, &[0xff]);
        config
    }

    /// Opens the 64-bit prefetchable window of a type 1 header; it starts closed, like the other one.
    pub fn add_prefetchable_window(&mut self) {
        // The low four bits say "64-bit" and are read-only (PCI-to-PCI bridge 1.2, 3.2.5.9).
        self.set_u16(register::PREFETCH_BASE, 0xfff1);
        self.set_u16(register::PREFETCH_LIMIT, 0x0001);
        self.set_writable(register::PREFETCH_BASE, &[0xf0, 0xff, 0xf0, 0xff]);
        self.set_writable(register::PREFETCH_BASE_UPPER, &[0xff; 8]);
    }

    /// Adds a memory BAR, at address 0. The guest learns its size by writing ones (PCI 3.0, 6.2.5.1), which the
    /// writable mask answers by itself.
    ///
    /// # Errors
    /// If the register is taken or absent, or the size is not one that a BAR can express.
    pub fn add_bar(&mut self, index: u8, kind: BarKind, size_bytes: u64) -> Result<(), ConfigError> {
        let last = match kind {
            BarKind::Memory32 => index,
            BarKind::Memory64 { .. } => index.checked_add(1).ok_or(ConfigError::BarTaken(index))?,
        };
        let taken = |bar: &Bar| index <= bar.last_register() && bar.index <= last;
        if last >= self.bar_registers || self.bars.iter().any(taken) {
            return Err(ConfigError::BarTaken(index));
        }
        let largest = if kind == BarKind::Memory32 { 1 << 31 } else { 1 << 63 };
        if !size_bytes.is_power_of_two() || !(16..=largest).contains(&size_bytes) {
            return Err(ConfigError::BarSize { index, size_bytes });
        }
        let offset = bar_offset(index);
        let mask = (!(size_bytes - 1)).to_le_bytes();
        match kind {
            BarKind::Memory32 => self.set_writable(offset, &mask[..4]),
            BarKind::Memory64 { prefetchable } => {
                self.set_bytes(offset, &[0x04 | u8::from(prefetchable) << 3]);
                self.set_writable(offset, &mask);
            }
        }
        self.bars.push(Bar { index, kind, size_bytes });
        Ok(())
    }

    /// Appends a capability: `body` is what follows the id and the next pointer. Returns its offset. Everything in it
    /// is read-only until [`Self::set_writable`] says otherwise.
    ///
    /// # Errors
    /// If it does not fit into the 256 bytes.
    pub fn add_capability(&mut self, id: u8, body: &[u8]) -> Result<u8, ConfigError> {
        let start = self.capabilities_end;
        let bytes = body.len().saturating_add(2);
        let no_space = ConfigError::NoSpace { id, bytes };
        let end = start.saturating_add(bytes).next_multiple_of(4);
        let offset = u8::try_from(start).map_err(|_| no_space)?;
        if end > CONFIG_BYTES {
            return Err(no_space);
        }
        let pointer = self.last_capability.map_or(register::CAPABILITIES, |last| u16::from(last) + 1);
        self.set_bytes(pointer, &[offset]);
        self.set_bytes(u16::from(offset), &[id, 0]);
        self.set_bytes(u16::from(offset) + 2, body);
        self.set_u16(register::STATUS, self.u16_at(register::STATUS) | STATUS_CAPABILITIES);
        self.last_capability = Some(offset);
        self.capabilities_end = end;
        Ok(offset)
    }

    /// Makes the bits of `mask`, from `offset` on, the guest's to write; replaces what was said before.
    pub fn set_writable(&mut self, offset: u16, mask: &[u8]) {
        put(&mut self.writable, offset, mask);
    }

    /// Makes the bits of `mask`, from `offset` on, the guest's to clear by writing one; replaces what was said before.
    pub fn set_write_one_to_clear(&mut self, offset: u16, mask: &[u8]) {
        put(&mut self.write_one_to_clear, offset, mask);
    }

    /// Sets bytes as the device: no mask applies.
    pub fn set_bytes(&mut self, offset: u16, bytes: &[u8]) {
        put(&mut self.bytes, offset, bytes);
    }

    /// Sets two bytes as the device, little-endian.
    pub fn set_u16(&mut self, offset: u16, value: u16) {
        self.set_bytes(offset, &value.to_le_bytes());
    }

    /// Sets four bytes as the device, little-endian.
    pub fn set_u32(&mut self, offset: u16, value: u32) {
        self.set_bytes(offset, &value.to_le_bytes());
    }

    /// One byte.
    #[must_use]
    pub fn u8_at(&self, offset: u16) -> u8 {
        self.bytes.get(usize::from(offset)).copied().unwrap_or(0)
    }

    /// Two bytes, little-endian.
    #[must_use]
    pub fn u16_at(&self, offset: u16) -> u16 {
        let mut data = [0; 2];
        self.read(offset, &mut data);
        u16::from_le_bytes(data)
    }

    /// Four bytes, little-endian.
    #[must_use]
    pub fn u32_at(&self, offset: u16) -> u32 {
        let mut data = [0; 4];
        self.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// Reads as the guest.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        for (index, byte) in data.iter_mut().enumerate() {
            *byte = self.bytes.get(usize::from(offset).saturating_add(index)).copied().unwrap_or(0);
        }
    }

    /// Writes as the guest: byte by byte, so that a register beside the one written keeps its write-1-to-clear bits.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        for (index, &new) in data.iter().enumerate() {
            let at = usize::from(offset).saturating_add(index);
            if at >= CONFIG_BYTES {
                return;
            }
            let (writable, clear) = (self.writable[at], self.write_one_to_clear[at]);
            self.bytes[at] = ((self.bytes[at] & !writable) | (new & writable)) & !(new & clear);
        }
    }

    /// The command register.
    #[must_use]
    pub fn command(&self) -> u16 {
        self.u16_at(register::COMMAND)
    }

    /// Whether memory space is enabled (PCI 3.0, 6.2.2).
    #[must_use]
    pub fn memory_enabled(&self) -> bool {
        self.command() & COMMAND_MEMORY != 0
    }

    /// The BAR that claims `address` and the offset within it; none while memory space is disabled.
    #[must_use]
    pub fn decode(&self, address: u64) -> Option<(u8, u64)> {
        if !self.memory_enabled() {
            return None;
        }
        self.bars.iter().find_map(|bar| {
            let offset = address.checked_sub(self.bar_address(bar))?;
            (offset < bar.size_bytes).then_some((bar.index, offset))
        })
    }

    fn bar_address(&self, bar: &Bar) -> u64 {
        let low = u64::from(self.u32_at(bar_offset(bar.index)) & !0xf);
        match bar.kind {
            BarKind::Memory32 => low,
            BarKind::Memory64 { .. } => u64::from(self.u32_at(bar_offset(bar.index + 1))) << 32 | low,
        }
    }

    /// Offset of the first capability with this id, as the guest would find it.
    #[must_use]
    pub fn find_capability(&self, id: u8) -> Option<u8> {
        let mut offset = self.u8_at(register::CAPABILITIES);
        // 48 is as many as fit, so that a ring would end too.
        for _ in 0..48 {
            if offset < 0x40 {
                return None;
            }
            if self.u8_at(u16::from(offset)) == id {
                return Some(offset);
            }
            offset = self.u8_at(capability::next_pointer(offset));
        }
        None
    }

    /// Forgets what the guest wrote: every bit that was the guest's becomes zero, as after a reset (PCIe 6.6.1). A
    /// register with another reset value is the caller's to set again.
    pub fn clear_guest_bits(&mut self) {
        for (byte, (writable, clear)) in
            self.bytes.iter_mut().zip(self.writable.iter().zip(self.write_one_to_clear.iter()))
        {
            *byte &= !(writable | clear);
        }
    }
}

impl Bar {
    fn last_register(&self) -> u8 {
        match self.kind {
            BarKind::Memory32 => self.index,
            BarKind::Memory64 { .. } => self.index.saturating_add(1),
        }
    }
}

/// Offset of a BAR's register.
fn bar_offset(index: u8) -> u16 {
    register::BAR0 + u16::from(index) * 4
}

/// Copies what fits.
fn put(to: &mut [u8; CONFIG_BYTES], offset: u16, from: &[u8]) {
    for (byte, &new) in to.iter_mut().skip(usize::from(offset)).zip(from) {
        *byte = new;
    }
}

#[cfg(test)]
mod tests;
