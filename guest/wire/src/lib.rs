//! The messages between plugstorm and its agent, PID 1 of the guest. Nothing else is shared between the two.
//!
//! They travel over a port of the virtio console, named [`PORT_NAME`], as one JSON object a line. JSON, because the
//! stream is evidence too: it can be kept, read and compared without this crate. A line is at most [`MAX_LINE_BYTES`]
//! long: the guest is not trusted, and [`LineReader`] drops what is longer and says so.
//!
//! Times in messages are values of the guest's time-stamp counter: one clock for the agent, the kernel's trace
//! (`trace_clock` set to `x86-tsc`) and, through the offset that the monitor knows, the host.

mod line;
mod message;
mod own;

pub use line::{Line, LineReader, encode};
pub use message::*;
pub use own::*;

/// The version of these messages. Both sides refuse another one.
pub const VERSION: u32 = 8;

/// The name of the virtio console port that carries the messages (virtio 1.2, 5.3.6.2, `VIRTIO_CONSOLE_PORT_NAME`).
/// The agent finds it under `/sys/class/virtio-ports/*/name`.
pub const PORT_NAME: &str = "plugstorm.agent";

/// The folder in the guest with modules that are loaded when the host says so ([`ToGuest::LoadModule`]), not at the start.
pub const LATER_MODULES: &str = "/plugstorm/later";

/// The longest line that either side accepts, in bytes, without its line feed.
pub const MAX_LINE_BYTES: usize = 256 * 1024;
