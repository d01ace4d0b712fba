//! Every scenario with every design, several times each: who survives what, in how many of how many runs.
//!
//! A matrix lives in a folder: `matrix.json` and `matrix.md`, and below `cells/SCENARIO/DESIGN/run-K/` the runs' own folders.
//! What a cell says is always read from its runs' results on disk, so that a matrix that was interrupted, or killed, goes on
//! where it was (`folder.rs`, `drive.rs`). How runs are carried out is the command line's ([`Runner`]).

mod applicable;
mod drive;
mod expect;
mod folder;
mod glance;
mod interval;
pub(crate) mod lab;
mod model;
mod outcome;
mod reach;
mod report;
mod table;
mod waits;

pub use applicable::{Need, applicable};
pub use drive::{Ended, Errand, Runner, Taker, Watcher, drive, take_over};
pub use expect::{ExpectError, Expectations};
pub use folder::{FolderError, MatrixFolder};
pub use interval::Interval;
pub use model::{Cell, Header, Matrix, Row, State, Tally, Told, VERSION};
pub use outcome::{Came, Ground, Key, Title, came};
pub use reach::Reach;
pub use report::{MAIL_WIDTH, cell_line, markdown, state, terminal};
pub use waits::Waits;

#[cfg(test)]
mod tests;
