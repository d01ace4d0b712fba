//! The root complex: finds the function that an access is for.

use std::iter;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::config::ConfigState;
use super::function::{PciFunction, SharedFunction};
use super::host_bridge::HostBridge;
use super::root_port::RootPort;
use super::slot::{Route, Slot, SlotObserver};
use super::{GoneReads, PciError};
use crate::interrupt::MsiSink;
use crate::state::StateError;

/// Root ports a machine can have.
const MOST_ROOT_PORTS: u8 = 16;
/// Devices on one bus.
const DEVICES: usize = 32;
/// Configuration space of one function, extended part included.
const FUNCTION_BYTES: usize = 4096;

/// Bus 0 and what is below it. All vCPUs use it at once: there is no lock but that of each slot and each function.
#[derive(Debug)]
pub struct RootComplex {
    slots: Vec<Slot>,
    host_bridge: Arc<Mutex<HostBridge>>,
    /// The host bridge too, and after the root ports whatever was added, by device number; set once, so read without a
    /// lock.
    integrated: [OnceLock<SharedFunction>; DEVICES],
    gone_reads: GoneReads,
}

/// What a walk has found.
enum Target {
    /// A root port's own registers.
    Port(usize),
    /// A function.
    Function(SharedFunction),
    /// Nobody answers.
    Nobody,
}

impl RootComplex {
    /// A root complex with a host bridge and `root_ports` ports with empty slots. They have a 32-bit memory window and
    /// no prefetchable one.
    ///
    /// # Errors
    /// If the number of ports is not 1 to 16.
    pub fn new(
        root_ports: u8,
        gone_reads: GoneReads,
        msi: Arc<dyn MsiSink>,
        observer: Arc<dyn SlotObserver>,
    ) -> Result<Self, PciError> {
        Self::build(root_ports, false, gone_reads, msi, observer)
    }

    /// The same with 64-bit prefetchable windows besides.
    ///
    /// # Errors
    /// If the number of ports is not 1 to 16.
    pub fn with_prefetchable_windows(
        root_ports: u8,
        gone_reads: GoneReads,
        msi: Arc<dyn MsiSink>,
        observer: Arc<dyn SlotObserver>,
    ) -> Result<Self, PciError> {
        Self::build(root_ports, true, gone_reads, msi, observer)
    }

    fn build(
        root_ports: u8,
        prefetchable_windows: bool,
        gone_reads: GoneReads,
        msi: Arc<dyn MsiSink>,
        observer: Arc<dyn SlotObserver>,
    ) -> Result<Self, PciError> {
        if !(1..=MOST_ROOT_PORTS).contains(&root_ports) {
            return Err(PciError::RootPorts(root_ports));
        }
        let slot = |(index, (msi, observer)): (u8, _)| {
            let port = RootPort::new(index + 1, prefetchable_windows)?;
            Ok(Slot::new(index, port, msi, observer))
        };
        let slots = (0..root_ports).zip(iter::repeat((msi, observer))).map(slot).collect::<Result<_, PciError>>()?;
        let integrated = [const { OnceLock::new() }; DEVICES];
        let host_bridge = Arc::new(Mutex::new(HostBridge::new()));
        let [first, ..] = &integrated;
        first.get_or_init(|| Arc::clone(&host_bridge) as SharedFunction);
        Ok(Self { slots, host_bridge, integrated, gone_reads })
    }

    /// Adds a function to bus 0, at the next free device number after the root ports, which is returned. For functions
    /// that are there from boot on and stay.
    ///
    /// # Errors
    /// If bus 0 is full.
    pub fn add_integrated(&self, function: SharedFunction) -> Result<u8, PciError> {
        let mut function = function;
        for (device, place) in (0_u8..).zip(&self.integrated).skip(self.slots.len() + 1) {
            match place.set(function) {
                Ok(()) => return Ok(device),
                Err(refused) => function = refused,
            }
        }
        Err(PciError::BusFull)
    }

    /// A slot by its number, from 0.
    #[must_use]
    pub fn slot(&self, index: u8) -> Option<&Slot> {
        self.slots.get(usize::from(index))
    }

    /// All slots, in the order of their numbers.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    /// The host bridge's registers. With those of the slots, and the state of whatever was added or plugged, which is its
    /// owner's to save, this is all there is to a root complex.
    #[must_use]
    pub fn host_bridge(&self) -> ConfigState {
        self.host_bridge.lock().unwrap_or_else(PoisonError::into_inner).state()
    }

    /// Takes over the host bridge's registers.
    ///
    /// # Errors
    /// If they are another function's; nothing has changed then.
    pub fn restore_host_bridge(&self, registers: &ConfigState) -> Result<(), StateError> {
        self.host_bridge.lock().unwrap_or_else(PoisonError::into_inner).restore(registers)
    }

    /// Reads configuration space: 1, 2, 4 or 8 naturally aligned bytes. Whatever else is asked, and whoever is not
    /// there, gives all-ones (PCIe 2.3.2).
    pub fn config_read(&self, bus: u8, device: u8, function: u8, offset: u16, data: &mut [u8]) {
        data.fill(0xff);
        if !is_config_access(offset, data.len()) {
            return;
        }
        match self.config_target(bus, device, function) {
            Target::Nobody => {}
            Target::Port(index) => {
                if let Some(slot) = self.slots.get(index) {
                    slot.config_read(offset, data);
                }
            }
            Target::Function(target) => {
                let mut target = target.lock().unwrap_or_else(PoisonError::into_inner);
                for (offset, part) in (offset..).step_by(4).zip(data.chunks_mut(4)) {
                    target.config_read(offset, part);
                }
            }
        }
    }

    /// Writes configuration space, with the same sizes; anything else is lost.
    pub fn config_write(&self, bus: u8, device: u8, function: u8, offset: u16, data: &[u8]) {
        if !is_config_access(offset, data.len()) {
            return;
        }
        let parts = (offset..).step_by(4).zip(data.chunks(4));
        match self.config_target(bus, device, function) {
            Target::Nobody => {}
            Target::Port(index) => {
                if let Some(slot) = self.slots.get(index) {
                    parts.for_each(|(offset, part)| slot.config_write(offset, part));
                }
            }
            Target::Function(target) => {
                let mut target = target.lock().unwrap_or_else(PoisonError::into_inner);
                parts.for_each(|(offset, part)| target.config_write(offset, part));
            }
        }
    }

    /// Reads through the memory-mapped configuration space (PCIe 7.2.2); `offset` is from its start.
    pub fn ecam_read(&self, offset: u64, data: &mut [u8]) {
        match ecam_address(offset) {
            Some((bus, device, function, register)) => self.config_read(bus, device, function, register, data),
            None => data.fill(0xff),
        }
    }

    /// Writes through the memory-mapped configuration space.
    pub fn ecam_write(&self, offset: u64, data: &[u8]) {
        if let Some((bus, device, function, register)) = ecam_address(offset) {
            self.config_write(bus, device, function, register, data);
        }
    }

    /// Reads memory, 1 to 8 bytes, from the BAR that claims all of them. Below a port whose link is down this gives
    /// what [`GoneReads`] says; elsewhere, where nobody answers, all-ones.
    pub fn memory_read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        let bytes = data.len();
        let read = |function: &mut dyn PciFunction, bar, offset| function.bar_read(bar, offset, data);
        if self.memory_access(address, bytes, read).is_err() && self.gone_reads == GoneReads::Zeroes {
            data.fill(0);
        }
    }

    /// Writes memory, with the same rules; what nobody claims is lost.
    pub fn memory_write(&self, address: u64, data: &[u8]) {
        // What the guest writes to a device that has gone is lost, as on the bus.
        let _lost = self.memory_access(address, data.len(), |function, bar, offset| {
            function.bar_write(bar, offset, data);
        });
    }

    fn config_target(&self, bus: u8, device: u8, function: u8) -> Target {
        if bus != 0 {
            return self.below_ports(|slot| slot.route_config(bus, device, function));
        }
        if function != 0 {
            return Target::Nobody;
        }
        match usize::from(device).checked_sub(1).filter(|&index| index < self.slots.len()) {
            Some(index) => Target::Port(index),
            None => self
                .integrated
                .get(usize::from(device))
                .and_then(OnceLock::get)
                .map_or(Target::Nobody, |function| Target::Function(Arc::clone(function))),
        }
    }

    fn below_ports(&self, route: impl Fn(&Slot) -> Route) -> Target {
        for slot in &self.slots {
            match route(slot) {
                Route::Elsewhere => {}
                Route::Gone => return Target::Nobody,
                Route::Function(function) => return Target::Function(function),
            }
        }
        Target::Nobody
    }

    /// Lets the function that claims this memory do `access` with a BAR and an offset. Ports first: a window is looked
    /// up under its port's lock, which is never held long, and only then is a function locked that may be at work.
    fn memory_access(
        &self,
        address: u64,
        bytes: usize,
        access: impl FnOnce(&mut dyn PciFunction, u8, u64),
    ) -> Result<(), Gone> {
        let span = bytes.checked_sub(1).filter(|&span| span < 8);
        let Some(last) = span.and_then(|span| address.checked_add(span as u64)) else { return Ok(()) };
        for slot in &self.slots {
            match slot.route_memory(address, last) {
                Route::Elsewhere => {}
                Route::Gone => return Err(Gone),
                Route::Function(function) => {
                    let mut function = function.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some((bar, offset)) = claim(&*function, address, last) {
                        access(&mut *function, bar, offset);
                    }
                    return Ok(());
                }
            }
        }
        for function in self.integrated.iter().filter_map(OnceLock::get) {
            let mut function = function.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((bar, offset)) = claim(&*function, address, last) {
                access(&mut *function, bar, offset);
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The access was for a device that is not there any more.
struct Gone;

/// The BAR that claims all addresses from `first` to `last`, and the offset of the first.
fn claim(function: &dyn PciFunction, first: u64, last: u64) -> Option<(u8, u64)> {
    let (bar, offset) = function.decode(first)?;
    let end = offset.checked_add(last.checked_sub(first)?)?;
    (function.decode(last)? == (bar, end)).then_some((bar, offset))
}

/// Whether this is an access that configuration space knows: within 4096 bytes, of a power of two to 8, aligned.
fn is_config_access(offset: u16, bytes: usize) -> bool {
    let offset = usize::from(offset);
    matches!(bytes, 1 | 2 | 4 | 8) && offset.is_multiple_of(bytes) && offset < FUNCTION_BYTES
}

/// Takes an offset into memory-mapped configuration space apart: 8 bits of bus, 5 of device, 3 of function, 12 of
/// register.
fn ecam_address(offset: u64) -> Option<(u8, u8, u8, u16)> {
    let offset = u32::try_from(offset).ok().filter(|offset| offset >> 28 == 0)?;
    let [low, high, devfn_high, _] = offset.to_le_bytes();
    let bus = u8::try_from(offset >> 20).ok()?;
    Some((bus, (devfn_high & 0xf) << 1 | high >> 7, high >> 4 & 7, u16::from_le_bytes([low, high & 0xf])))
}

#[cfg(test)]
mod tests;
