//! The host's side of a gpio controller.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemoryMmap;

use super::counters::GpioCounters;
use super::device::{GpioConfig, GpioDevice, GpioDeviceState};
use super::faults::Faults;
use super::line::LineStatus;
use crate::interrupt::MsiSink;
use crate::pci::SharedFunction;
use crate::state::StateError;
use crate::virtio::transport::{Attachment, Subsystem, VirtioPci};
use crate::virtio::{FunctionState, VirtioError};

/// A gpio controller, as a function for a slot, and the host's handle on it.
///
/// # Errors
/// If the lines are not as [`GpioDevice::new`] wants them.
pub fn gpio(
    config: &GpioConfig,
    memory: GuestMemoryMmap,
    msi: Arc<dyn MsiSink>,
    subsystem: Subsystem,
) -> Result<(SharedFunction, GpioHandle), VirtioError> {
    let function = VirtioPci::new(GpioDevice::new(config)?, memory, msi, subsystem, Attachment::Slot)?;
    let function = Arc::new(Mutex::new(function));
    Ok((function.clone(), GpioHandle { function }))
}

/// A controller in its function, as plain data: what [`gpio_from_state`] takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpioState {
    /// The subsystem ids it was made with.
    pub subsystem: Subsystem,
    /// Registers and queues.
    pub function: FunctionState,
    /// The controller itself.
    pub device: GpioDeviceState,
}

impl GpioState {
    pub(crate) fn of(function: &VirtioPci<GpioDevice>) -> Self {
        Self {
            subsystem: function.subsystem(),
            function: function.state(),
            device: function.device().state(Instant::now()),
        }
    }
}

/// A gpio controller that goes on where another was saved, as a function for a slot, and the host's handle on it. Nobody
/// is told anything: what the other owed the guest, this one owes.
///
/// # Errors
/// If there cannot be such a controller over this memory.
pub fn gpio_from_state(
    state: &GpioState,
    memory: GuestMemoryMmap,
    msi: Arc<dyn MsiSink>,
) -> Result<(SharedFunction, GpioHandle), StateError> {
    let device = GpioDevice::from_state(&state.device, &memory, Instant::now())?;
    let function = VirtioPci::from_state(device, &state.function, memory, msi, state.subsystem, Attachment::Slot)?;
    let function = Arc::new(Mutex::new(function));
    Ok((function.clone(), GpioHandle { function }))
}

/// Moves a controller's lines, scripts its faults and asks what it has done. After [`Self::sever`] nothing here reaches
/// the guest any more, save [`Self::interrupt_after_removal`].
#[derive(Debug, Clone)]
pub struct GpioHandle {
    function: Arc<Mutex<VirtioPci<GpioDevice>>>,
}

impl GpioHandle {
    /// Drives a line high or low.
    ///
    /// # Errors
    /// If there is no such line.
    pub fn set_level(&self, line: u16, level: bool) -> Result<(), VirtioError> {
        self.pattern(line, &[level])
    }

    /// Drives a line to the other level and back: an edge of each kind, unless the guest drives the line.
    ///
    /// # Errors
    /// If there is no such line.
    pub fn pulse(&self, line: u16) -> Result<(), VirtioError> {
        self.lock().with(|device, rings| {
            let level = device.line(line).is_some_and(|line| line.input);
            device.drive(line, [!level, level], rings)
        })
    }

    /// Drives a line to these levels in a row; the guest runs in between only if it is quick.
    ///
    /// # Errors
    /// If there is no such line.
    pub fn pattern(&self, line: u16, levels: &[bool]) -> Result<(), VirtioError> {
        self.lock().with(|device, rings| device.drive(line, levels.iter().copied(), rings))
    }

    /// The level on the wire; none if there is no such line.
    #[must_use]
    pub fn level(&self, line: u16) -> Option<bool> {
        self.line(line).map(|line| line.level)
    }

    /// What can be seen of a line; none if there is no such line.
    #[must_use]
    pub fn line(&self, line: u16) -> Option<LineStatus> {
        self.lock().device().line(line)
    }

    /// What the device has done.
    #[must_use]
    pub fn counters(&self) -> GpioCounters {
        self.lock().device().counters
    }

    /// Sets the script of faults; requests already held stay held.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().with(|device, _| device.faults = faults);
    }

    /// The script with its counts as they are now.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.lock().device().faults.clone()
    }

    /// Requests accepted and not answered.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.lock().device().unanswered()
    }

    /// When the next delayed answer is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.lock().device().next_due()
    }

    /// Gives the delayed answers whose time has come; gives their number.
    pub fn complete_due(&self, now: Instant) -> usize {
        self.lock().with(|device, rings| device.complete_due(now, rings))
    }

    /// Gives the answers that were stalled, late as they are, and those behind them; gives their number.
    pub fn release_stalled(&self) -> usize {
        self.lock().with(|device, rings| {
            device.release_stalled();
            device.complete_due(Instant::now(), rings)
        })
    }

    /// The fault "spurious interrupt", now: interrupts for a queue with nothing new in it.
    pub fn spurious_interrupt(&self, queue: u16) {
        self.lock().with(|_, rings| rings.interrupt(queue));
    }

    /// The fault "interrupt after removal": sends a queue's message as it stands in the vector table, severed or not.
    /// Gives whether the guest had set one up.
    #[must_use]
    pub fn interrupt_after_removal(&self, queue: u16) -> bool {
        self.lock().interrupt_regardless(queue)
    }

    /// Cuts the device off: from now on it neither touches guest memory nor sends messages, whoever calls it. For ever.
    pub fn sever(&self) {
        self.lock().sever();
    }

    /// The transport's registers, for reports.
    #[must_use]
    pub fn state(&self) -> FunctionState {
        self.lock().state()
    }

    /// All of the controller, of one moment.
    #[must_use]
    pub fn snapshot(&self) -> GpioState {
        GpioState::of(&self.lock())
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, VirtioPci<GpioDevice>> {
        // The state is plain and always whole between calls; a panic elsewhere must not take the host side down.
        self.function.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
