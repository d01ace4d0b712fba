//! What a run leaves behind: `result.json`, `events.jsonl` and `console.log` in a folder of its own.
//!
//! The shapes are in `model.rs` and `event.rs`; `fixtures/scenarios/README.md` explains them to readers.

mod assemble;
mod event;
mod folder;
mod foreign;
mod model;
mod nowhere;
mod origin;
mod stored;
mod whole;

pub use assemble::{ended, running};
pub use event::{Event, EventKind, Source};
pub use folder::REPORTS;
pub use folder::{CONSOLE_CAP_BYTES, EVENTS_CAP_BYTES, FolderError, Journal, RunFolder};
pub(crate) use folder::{EVENTS, RESULT, TEMPORARY_REPORT};
pub(crate) use foreign::foreign_file;
pub use model::{
    ChannelTotals, ConsoleTotals, Cycles, DeviceFacts, EndedBy, Finding, FindingKind, FirstEvents, GuestFacts,
    HammerTotals, Holdings, HostFacts, HostKind, OperationTotals, PointFacts, RemovalTotals, RunResult, Slowdown,
    VERSION, Verdict,
};
pub use nowhere::Nowhere;
pub use origin::{ORIGIN_TEXT_BYTES, Origin};
pub(crate) use stored::read_result;
pub(crate) use whole::{is_of_disk, write_whole};
