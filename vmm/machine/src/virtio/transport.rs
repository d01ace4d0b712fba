//! The PCI transport (virtio 1.2, 4.1): a device and its queues as a PCI function.

mod state;

pub use state::FunctionState;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;

use super::VirtioError;
use super::common::{CommonState, Effect, FEATURE_VERSION_1, status};
use super::device::VirtioDevice;
use super::layout::{self, BAR, MAX_QUEUES, NOTIFY_MULTIPLIER, Region, Window};
use super::ring::{Outcome, Ring, Rings};
use crate::interrupt::{MsiMessage, MsiSink};
use crate::pci::capability::add_express_endpoint;
use crate::pci::config::COMMAND_BUS_MASTER;
use crate::pci::{ConfigSpace, Identity, Msix, PciFunction};

/// Vendor of all virtio devices (virtio 1.2, 4.1.2).
const VENDOR: u16 = 0x1af4;
/// Device ids are this plus the device type (4.1.2).
const DEVICE_BASE: u16 = 0x1040;
/// Modern devices have revision 1 or higher (4.1.2.1).
const REVISION: u8 = 1;

/// ISR status bits (4.1.4.5).
const ISR_QUEUE: u8 = 1;
const ISR_CONFIG: u8 = 2;

/// The subsystem ids. The guest's virtio bus shows the vendor as the device's, so a driver can choose by it
/// (virtio_pci_modern_dev.c, vp_modern_probe).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subsystem {
    /// Subsystem vendor id.
    pub vendor: u16,
    /// Subsystem device id.
    pub device: u16,
}

/// Where a function sits, which decides whether it calls itself a PCI Express endpoint: that is what is at the end of a
/// link, and a function integrated into the root complex has none (PCIe 7.5.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// On bus 0, for as long as the machine runs.
    RootComplex,
    /// In the slot below a root port.
    Slot,
}

/// A virtio device as a PCI function.
#[derive(Debug)]
pub struct VirtioPci<D> {
    device: D,
    config: ConfigSpace,
    msix: Msix,
    window: Window,
    common: CommonState,
    rings: Vec<Ring>,
    isr: u8,
    malformed_chains: u64,
    rings_broken: u64,
    /// None once the device is severed.
    memory: Option<GuestMemoryMmap>,
    msi: Arc<dyn MsiSink>,
    /// Message of each queue when the link was lost: what an interrupt that was under way then still carries. Empty once
    /// a driver has started the device again.
    lost_messages: Vec<Option<MsiMessage>>,
}

impl<D: VirtioDevice> VirtioPci<D> {
    /// A function around `device`.
    ///
    /// # Errors
    /// If the device has more queues than there is room for, or a queue with a size that cannot be.
    pub fn new(
        device: D,
        memory: GuestMemoryMmap,
        msi: Arc<dyn MsiSink>,
        subsystem: Subsystem,
        attachment: Attachment,
    ) -> Result<Self, VirtioError> {
        let sizes = device.queue_sizes();
        let queues = u16::try_from(sizes.len())
            .ok()
            .filter(|_| sizes.len() <= MAX_QUEUES)
            .ok_or(VirtioError::QueueCount { queues: sizes.len(), most: MAX_QUEUES })?;
        let rings = sizes
            .into_iter()
            .enumerate()
            .map(|(queue, size)| Ring::new(size).map_err(|source| VirtioError::QueueSize { queue, size, source }))
            .collect::<Result<Vec<_>, _>>()?;
        let mut config = ConfigSpace::endpoint(&Identity {
            vendor: VENDOR,
            device: DEVICE_BASE.saturating_add(device.device_type()),
            revision: REVISION,
            class: device.class_code(),
            subsystem_vendor: subsystem.vendor,
            subsystem_device: subsystem.device,
        });
        if attachment == Attachment::Slot {
            add_express_endpoint(&mut config)?;
        }
        let (msix, window) = layout::add_to(&mut config, queues, device.config_bytes())?;
        Ok(Self {
            device,
            config,
            msix,
            window,
            common: CommonState::default(),
            rings,
            isr: 0,
            malformed_chains: 0,
            rings_broken: 0,
            memory: Some(memory),
            msi,
            lost_messages: Vec::new(),
        })
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Calls the device with its queues, then interrupts as the driver wants it. Queues look empty unless the driver
    /// has the device running.
    pub fn with<R>(&mut self, call: impl FnOnce(&mut D, &mut Rings<'_>) -> R) -> R {
        let live = self.common.is_running() && self.is_bus_master();
        let memory = self.memory.as_ref().filter(|_| live);
        let mut rings = Rings::new(memory, &mut self.rings, &mut self.malformed_chains);
        let result = call(&mut self.device, &mut rings);
        let outcome = rings.finish();
        self.settle(&outcome);
        result
    }

    /// Cuts the device off: from now on it neither touches guest memory nor sends messages, and all its registers read
    /// as ones. For ever: what is plugged in next is another device.
    pub fn sever(&mut self) {
        self.memory = None;
        self.device.severed();
        self.rings.iter_mut().for_each(Ring::forget_held);
    }

    /// Whether the device has been cut off.
    #[must_use]
    pub fn is_severed(&self) -> bool {
        self.memory.is_none()
    }

    /// The fault "interrupt after removal": sends a queue's message as it stands in the MSI-X table, severed or not,
    /// masked or not, as one would that was under way when the device went. Gives whether there was a message to send.
    pub fn interrupt_regardless(&self, queue: u16) -> bool {
        let queue = usize::from(queue);
        let current = || self.rings.get(queue).and_then(|ring| self.msix.message(ring.vector));
        let message = self.lost_messages.get(queue).copied().unwrap_or_else(current);
        if let Some(message) = message {
            self.msi.signal(message);
        }
        message.is_some()
    }

    fn is_bus_master(&self) -> bool {
        self.config.command() & COMMAND_BUS_MASTER != 0
    }

    fn offered(&self) -> u64 {
        self.device.features() | FEATURE_VERSION_1
    }

    /// After a call: interrupts, and NEEDS_RESET if a ring turned out to be malformed.
    fn settle(&mut self, outcome: &Outcome) {
        for index in 0..self.rings.len() {
            let (Some(memory), Some(ring)) = (&self.memory, self.rings.get_mut(index)) else { return };
            let (interrupts, vector) = (ring.take_interrupts(memory), ring.vector);
            for _ in 0..interrupts {
                self.interrupt(vector, ISR_QUEUE);
            }
        }
        if outcome.broken.is_some() {
            self.needs_reset();
        }
        if outcome.config_changed {
            self.common.config_generation = self.common.config_generation.wrapping_add(1);
            self.config_interrupt();
        }
    }

    /// The device cannot go on until the driver resets it (2.1.2).
    fn needs_reset(&mut self) {
        self.rings_broken = self.rings_broken.saturating_add(1);
        self.common.status |= status::NEEDS_RESET;
        self.config_interrupt();
    }

    fn config_interrupt(&mut self) {
        if self.common.status & status::DRIVER_OK != 0 {
            self.interrupt(self.common.config_vector, ISR_CONFIG);
        }
    }

    /// Sends a vector's message; without MSI-X only ISR status says so, for there is no interrupt pin.
    fn interrupt(&mut self, vector: u16, isr: u8) {
        if self.is_severed() || !self.is_bus_master() {
            return;
        }
        if self.msix.is_enabled(&self.config) {
            self.msix.signal(vector, &self.config, &*self.msi);
        } else {
            self.isr |= isr;
        }
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Reset => {
                // The generation counts on: a driver may compare it across a reset.
                let config_generation = self.common.config_generation;
                self.common = CommonState { config_generation, ..CommonState::default() };
                self.rings.iter_mut().for_each(Ring::reset);
                self.isr = 0;
                self.device.reset();
            }
            Effect::Activate => {
                self.lost_messages.clear();
                let features = self.common.driver_features;
                self.with(|device, rings| device.activate(features, rings));
            }
            Effect::EnableQueue(queue) => self.enable(queue),
        }
    }

    /// Enables a queue. Its rings are checked against guest memory here, once: they cannot move while it is enabled.
    fn enable(&mut self, queue: u16) {
        let (Some(memory), Some(ring)) = (&self.memory, self.rings.get_mut(usize::from(queue))) else { return };
        ring.queue.set_ready(true);
        if !ring.queue.is_valid(memory) {
            ring.queue.set_ready(false);
            self.needs_reset();
        }
    }

    fn notified(&mut self, offset: u64) {
        let multiplier = u64::from(NOTIFY_MULTIPLIER);
        let queue = u16::try_from(offset / multiplier).unwrap_or(u16::MAX);
        let ready = self.rings.get(usize::from(queue)).is_some_and(|ring| ring.queue.ready());
        if offset.is_multiple_of(multiplier) && ready && self.common.is_running() {
            self.with(|device, rings| device.notified(queue, rings));
        }
    }

    /// Carries out the access that the driver has set up in the window (4.1.4.9).
    fn read_window(&mut self) {
        let Some((offset, length)) = self.window.target(&self.config) else { return };
        let mut data = self.window.data(&self.config);
        if let Some(part) = data.get_mut(..length) {
            self.bar_read(BAR, offset, part);
        }
        self.window.set_data(&mut self.config, data);
    }

    fn write_window(&mut self) {
        let Some((offset, length)) = self.window.target(&self.config) else { return };
        let data = self.window.data(&self.config);
        if let Some(part) = data.get(..length) {
            self.bar_write(BAR, offset, part);
        }
    }
}

impl<D: VirtioDevice> PciFunction for VirtioPci<D> {
    /// The link went down: the device forgets its driver (PCIe 6.6.1), and with it the bus address it would write to and
    /// the messages it would send.
    fn reset(&mut self) {
        self.lost_messages = self.rings.iter().map(|ring| self.msix.message(ring.vector)).collect();
        self.apply(Effect::Reset);
        self.msix.reset();
        self.config.clear_guest_bits();
    }

    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        if self.is_severed() {
            data.fill(0xff);
            return;
        }
        if self.window.is_touched(offset, data.len()) {
            self.read_window();
        }
        self.config.read(offset, data);
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) {
        if self.is_severed() {
            return;
        }
        self.config.write(offset, data);
        self.msix.config_written(&self.config, &*self.msi);
        if self.window.is_touched(offset, data.len()) {
            self.write_window();
        }
    }

    fn decode(&self, address: u64) -> Option<(u8, u64)> {
        self.config.decode(address).filter(|_| !self.is_severed())
    }

    fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(if self.is_severed() { 0xff } else { 0 });
        if self.is_severed() || bar != BAR {
            return;
        }
        match layout::region(offset) {
            (Region::Common, offset) => self.common.read(self.offered(), &self.rings, offset, data),
            (Region::Isr, 0) => {
                // Reading it clears it (4.1.4.5).
                if let Some(byte) = data.first_mut() {
                    *byte = std::mem::take(&mut self.isr);
                }
            }
            (Region::Device, offset) => self.device.read_config(u32::try_from(offset).unwrap_or(u32::MAX), data),
            (Region::Table, offset) => self.msix.table_read(offset, data),
            (Region::Pending, offset) => self.msix.pba_read(offset, data),
            _ => {}
        }
    }

    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        if self.is_severed() || bar != BAR {
            return;
        }
        match layout::region(offset) {
            (Region::Common, offset) => {
                let (offered, vectors) = (self.offered(), self.msix.vectors());
                let effect = self.common.write(offered, vectors, &mut self.rings, offset, data);
                self.apply(effect);
            }
            (Region::Device, offset) => self.device.write_config(u32::try_from(offset).unwrap_or(u32::MAX), data),
            (Region::Notify, offset) => self.notified(offset),
            (Region::Table, offset) => self.msix.table_write(offset, data, &self.config, &*self.msi),
            _ => {}
        }
    }
}
