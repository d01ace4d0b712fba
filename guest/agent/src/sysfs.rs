//! Reading and writing the kernel's text files, with errors that name the file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a file of the kernel could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum KernelFileError {
    /// It could not be read, or not listed if it is a directory.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// It could not be written.
    #[error("cannot write \"{text}\" to {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        text: String,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// Writes `text` by a single `write(2)`: the kernel takes each write as one command.
pub(crate) fn write(path: impl AsRef<Path>, text: &str) -> Result<(), KernelFileError> {
    write_with(OpenOptions::new().write(true), path.as_ref(), text)
}

/// As [`write()`], at the end of a file that `O_TRUNC` or a plain write would empty (tracefs `kprobe_events`).
pub(crate) fn append(path: impl AsRef<Path>, text: &str) -> Result<(), KernelFileError> {
    write_with(OpenOptions::new().append(true), path.as_ref(), text)
}

fn write_with(options: &OpenOptions, path: &Path, text: &str) -> Result<(), KernelFileError> {
    let written = options.open(path).and_then(|mut file| file.write(text.as_bytes()));
    match written {
        Ok(_) => Ok(()),
        Err(source) => Err(KernelFileError::Write { path: path.into(), text: text.trim_end().into(), source }),
    }
}

/// Reads a file whole, without the white space at its end.
pub(crate) fn read(path: impl AsRef<Path>) -> Result<String, KernelFileError> {
    let path = path.as_ref();
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned()),
        Err(source) => Err(KernelFileError::Read { path: path.into(), source }),
    }
}

/// The names in a directory, sorted.
pub(crate) fn list(path: impl AsRef<Path>) -> Result<Vec<String>, KernelFileError> {
    let path = path.as_ref();
    let entries = fs::read_dir(path).map_err(|source| KernelFileError::Read { path: path.into(), source })?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    Ok(names)
}
