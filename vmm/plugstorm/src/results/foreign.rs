//! Folders that were somebody else's before they were ours.

use std::fs;
use std::io;
use std::path::Path;

/// The name of a file in the folder that is none of ours; none if there is none.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn foreign_file(folder: &Path, is_ours: impl Fn(&str) -> bool) -> io::Result<Option<String>> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !is_ours(&name) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
