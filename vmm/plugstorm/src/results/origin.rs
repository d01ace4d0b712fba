//! What was run, so that it can be run again.

use serde::{Deserialize, Serialize};

use crate::scenario::{Design, Until};

/// Longer texts of scenarios are not kept in results: those that people write have some thousand bytes.
pub const ORIGIN_TEXT_BYTES: usize = 64 << 10;

/// What was run, as the command line said: with the seed, the kernel and the cycles that the result has, all that it takes to
/// run it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The scenario's file, as it was named.
    pub file: String,
    /// The digest of its text: xxh3 of 128 bits.
    pub digest: String,
    /// Its text. None for one of more than [`ORIGIN_TEXT_BYTES`].
    pub text: Option<String>,
    /// The design that the command line gave instead of the scenario's.
    pub design: Option<Design>,
    /// The cycles that it gave.
    pub cycles: Option<u32>,
    /// When the run was to end, if it said so.
    pub until: Option<Until>,
}
