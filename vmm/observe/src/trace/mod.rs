//! The kernel's trace: which events we ask for and how their lines are read back.

mod line;
mod probes;

pub use line::{LostEvents, TraceEvent, parse_line, parse_lost};
pub use probes::{Probe, ProbeAt, Role, Span, probe, probes};
