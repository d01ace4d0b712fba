//! The state of a gpio controller without its transport.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemoryMmap;

use super::{GpioConfig, GpioDevice};
use crate::state::StateError;
use crate::virtio::gpio::answers::{AnswerState, Answers};
use crate::virtio::gpio::counters::GpioCounters;
use crate::virtio::gpio::faults::Faults;
use crate::virtio::gpio::line::{Line, LineState};

/// A controller as plain data: what it is, what guest and host have made of it, and what it holds of the guest's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpioDeviceState {
    /// Lines, names, interrupts.
    pub config: GpioConfig,
    /// The guest's driver has agreed on interrupts.
    pub irq_negotiated: bool,
    /// The lines, in their order.
    pub lines: Vec<LineState>,
    /// What it has done.
    pub counters: GpioCounters,
    /// The script of faults, with its counts as they were.
    pub faults: Faults,
    /// Answers not given yet, oldest first.
    pub answers: Vec<AnswerState>,
}

impl GpioDevice {
    /// The controller as plain data. `now` is what delayed answers still have to wait from.
    #[must_use]
    pub fn state(&self, now: Instant) -> GpioDeviceState {
        GpioDeviceState {
            config: self.config.clone(),
            irq_negotiated: self.irq_negotiated,
            lines: self.lines.iter().map(Line::state).collect(),
            counters: self.counters,
            faults: self.faults.clone(),
            answers: self.answers.state(now),
        }
    }

    /// A controller that goes on where another was saved. `now` is when delayed answers begin to wait again for the rest
    /// of their time. Whether the chains are those that the queues have given out is the transport's to check.
    ///
    /// # Errors
    /// If there cannot be such a controller, or a chain is not in this memory.
    pub fn from_state(state: &GpioDeviceState, memory: &GuestMemoryMmap, now: Instant) -> Result<Self, StateError> {
        let refused = |reason: String| StateError::new("gpio device", reason);
        let device = Self::new(&state.config).map_err(|error| refused(error.to_string()))?;
        if state.lines.len() != device.lines.len() {
            return Err(refused(format!("it has {} lines, of {}", state.lines.len(), device.lines.len())));
        }
        if state.irq_negotiated && !state.config.irq {
            return Err(refused("interrupts were agreed on that it does not have".to_owned()));
        }
        Ok(Self {
            irq_negotiated: state.irq_negotiated,
            lines: state.lines.iter().map(|line| Line::from_state(line, memory)).collect::<Result<_, _>>()?,
            counters: state.counters,
            faults: state.faults.clone(),
            answers: Answers::from_state(&state.answers, memory, now)?,
            ..device
        })
    }
}
