//! A result, read back.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::model::{RunResult, VERSION};

/// A result has some ten thousand bytes; one with dozens of findings, a million.
const MOST_RESULT_BYTES: u64 = 64 << 20;

/// Reads a run's `result.json`.
///
/// # Errors
/// Why it is none that this plugstorm reads, as a clause about the file.
pub(crate) fn read_result(file: &Path) -> Result<RunResult, String> {
    let open = File::open(file).map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    open.take(MOST_RESULT_BYTES + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MOST_RESULT_BYTES {
        return Err(format!("it has more than {} MiB", MOST_RESULT_BYTES >> 20));
    }
    let result: RunResult = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if result.version != VERSION {
        return Err(format!("it is of version {}, and this plugstorm reads version {VERSION}", result.version));
    }
    Ok(result)
}
