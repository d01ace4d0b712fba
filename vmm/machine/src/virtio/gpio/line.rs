//! One line: what drives it, what it interrupts on, and the buffer the guest has put up for that.

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemoryMmap;

use super::protocol::{Direction, EVENT_INVALID, EVENT_VALID, Trigger};
use crate::state::StateError;
use crate::virtio::chain::{Chain, ChainState};

/// What can be seen of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineStatus {
    /// Which way it goes.
    pub direction: Direction,
    /// The level on the wire: the guest's output while it goes out, else what the host drives.
    pub level: bool,
    /// What the host drives, whether the line goes in or not.
    pub input: bool,
    /// What the guest last set, whether the line goes out or not.
    pub output: bool,
    /// What makes it interrupt.
    pub trigger: Trigger,
    /// An edge is waiting for the guest to unmask the interrupt.
    pub latched: bool,
    /// The guest has unmasked the interrupt: the device has its buffer.
    pub unmasked: bool,
}

/// A line as plain data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineState {
    /// Which way it goes.
    pub direction: Direction,
    /// What the host drives.
    pub input: bool,
    /// What the guest last set.
    pub output: bool,
    /// What makes it interrupt.
    pub trigger: Trigger,
    /// An edge is waiting for the guest to unmask the interrupt.
    pub latched: bool,
    /// The buffer by which the guest has unmasked the interrupt.
    pub buffer: Option<ChainState>,
}

#[derive(Debug, Default)]
pub(super) struct Line {
    direction: Direction,
    /// What the host drives.
    input: bool,
    /// What the guest drives once the line goes out (5.18.6.5).
    output: bool,
    trigger: Trigger,
    latched: bool,
    buffer: Option<Chain>,
}

impl Line {
    pub(super) fn status(&self) -> LineStatus {
        LineStatus {
            direction: self.direction,
            level: self.level(),
            input: self.input,
            output: self.output,
            trigger: self.trigger,
            latched: self.latched,
            unmasked: self.buffer.is_some(),
        }
    }

    pub(super) fn state(&self) -> LineState {
        LineState {
            direction: self.direction,
            input: self.input,
            output: self.output,
            trigger: self.trigger,
            latched: self.latched,
            buffer: self.buffer.as_ref().map(Chain::state),
        }
    }

    pub(super) fn from_state(state: &LineState, memory: &GuestMemoryMmap) -> Result<Self, StateError> {
        let &LineState { direction, input, output, trigger, latched, ref buffer } = state;
        let buffer = buffer.as_ref().map(|buffer| Chain::from_state(buffer, memory)).transpose()?;
        Ok(Self { direction, input, output, trigger, latched, buffer })
    }

    /// The buffer that the guest has put up.
    pub(super) fn buffer(&self) -> Option<&Chain> {
        self.buffer.as_ref()
    }

    pub(super) fn level(&self) -> bool {
        if self.direction == Direction::Out { self.output } else { self.input }
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// The host drives the line.
    pub(super) fn drive(&mut self, level: bool) {
        self.change(|line| line.input = level);
    }

    /// The guest sets its output, which counts from when the line goes out.
    pub(super) fn set_output(&mut self, level: bool) {
        self.change(|line| line.output = level);
    }

    /// The guest sets the direction. None means that all the guest has said of the line is forgotten (5.18.6.9).
    pub(super) fn set_direction(&mut self, direction: Direction) {
        if direction == Direction::None {
            (self.trigger, self.latched, self.output) = (Trigger::None, false, false);
        }
        self.change(|line| line.direction = direction);
    }

    /// The guest enables or disables the interrupt; what was latched before is forgotten (5.18.6.9).
    pub(super) fn set_trigger(&mut self, trigger: Trigger) {
        (self.trigger, self.latched) = (trigger, false);
    }

    /// The guest unmasks the interrupt. Gives the buffer back if the line already has one (5.18.7.2).
    pub(super) fn unmask(&mut self, buffer: Chain) -> Option<Chain> {
        if self.buffer.is_some() {
            return Some(buffer);
        }
        self.buffer = Some(buffer);
        None
    }

    /// The buffer to return now, and its status. An interrupt masks itself until the next buffer comes; a level is not
    /// latched but looked at then; a disabled interrupt keeps no buffer.
    pub(super) fn take_due(&mut self) -> Option<(Chain, u8)> {
        if self.trigger == Trigger::None {
            return self.buffer.take().map(|buffer| (buffer, EVENT_INVALID));
        }
        if !self.latched && !self.trigger.is_level(self.level()) {
            return None;
        }
        let buffer = self.buffer.take()?;
        self.latched = false;
        Some((buffer, EVENT_VALID))
    }

    /// The guest is gone or starts over; what the host drives stays.
    pub(super) fn reset(&mut self) {
        *self = Self { input: self.input, ..Self::default() };
    }

    fn change(&mut self, change: impl FnOnce(&mut Self)) {
        let before = self.level();
        change(self);
        if self.trigger.is_edge(before, self.level()) {
            self.latched = true;
        }
    }
}
