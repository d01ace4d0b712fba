//! Files that are there whole or not at all.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Whether it is the disk that is full: nothing that another command line mends.
pub(crate) fn is_of_disk(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Puts a file in place, whole or not at all, for whoever may read the folder. Meanwhile it is in `folder`, under a name that
/// begins with `prefix`.
///
/// # Errors
/// The system's. What was there before is as it was.
pub(crate) fn write_whole(folder: &Path, prefix: &str, file: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = tempfile::Builder::new().prefix(prefix).tempfile_in(folder)?;
    temporary.write_all(content)?;
    temporary.as_file().sync_all()?;
    // A temporary file is private.
    temporary.as_file().set_permissions(Permissions::from_mode(0o644))?;
    temporary.persist(file).map(drop).map_err(|error| error.error)
}
