//! A virtio gpio controller (virtio 1.2, 5.18) whose lines the host moves, and which can be told to misbehave.

mod answers;
mod counters;
mod device;
mod faults;
mod handle;
mod line;
mod protocol;

#[cfg(test)]
mod tests;

pub use answers::{AnswerState, WaitState};
pub use counters::GpioCounters;
pub use device::{GpioConfig, GpioDevice, GpioDeviceState, MAX_LINES};
pub use faults::{Fault, FaultRule, Faults};
pub use handle::{GpioHandle, GpioState, gpio, gpio_from_state};
pub use line::{LineState, LineStatus};
pub use protocol::{Direction, EVENT_QUEUE, REQUEST_QUEUE, RequestKind, Trigger};
