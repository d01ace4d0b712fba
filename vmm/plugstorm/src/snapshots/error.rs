//! What can be wrong with a snapshot.

use std::io;
use std::path::{Path, PathBuf};

use super::Kind;
use crate::cache::CacheError;

/// Why a snapshot cannot be had or made. The message is one sentence with the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The cache cannot be written.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// It is of another guest, or for another host.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// Nothing can be called this.
    #[error("{name:?} is no name for a snapshot: give 1 to 64 of A-Z a-z 0-9 . _ -, the first of them no dot")]
    Name {
        /// The name.
        name: String,
    },
    /// A user's snapshot cannot be called this.
    #[error(
        "a snapshot cannot be saved as {name}: names that begin with auto- are given by storms; choose another one"
    )]
    Reserved {
        /// The name.
        name: String,
    },
    /// There is a user's snapshot of this name.
    #[error(
        "there is a snapshot {name} already: remove it with `plugstorm snapshot drop {name}`, or choose another name"
    )]
    Taken {
        /// The name.
        name: String,
    },
    /// There is none of this name.
    #[error("there is no snapshot {name} in {}: `plugstorm snapshot list` shows those that there are", folder.display())]
    Absent {
        /// The name.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A file lacks, or is not what one of a snapshot is.
    #[error("snapshot {name} cannot be used, for {} {reason}; {}", path.display(), way_out(name))]
    NotASnapshot {
        /// The snapshot.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, after its name.
        reason: String,
    },
    /// A file is shorter or longer than it was.
    #[error("{} has {found} bytes and was saved with {bytes}; {}", path.display(), way_out(name))]
    CutShort {
        /// The snapshot.
        name: String,
        /// The file.
        path: PathBuf,
        /// Its length when it was saved.
        bytes: u64,
        /// Its length now.
        found: u64,
    },
    /// A file does not hold what it did.
    #[error("{} is damaged: its {bytes} bytes at offset {offset} are not what was saved; {}", path.display(), way_out(name))]
    Damaged {
        /// The snapshot.
        name: String,
        /// The file.
        path: PathBuf,
        /// Where what is damaged begins.
        offset: u64,
        /// The length of what has one digest, or is all zero.
        bytes: u64,
    },
    /// It is laid out in another way.
    #[error("snapshot {name} has the format {found} and this plugstorm reads {wanted}; {}", way_out(name))]
    OtherFormat {
        /// The snapshot.
        name: String,
        /// Its format.
        found: u32,
        /// Ours.
        wanted: u32,
    },
    /// What is saved in it means something else to this build.
    #[error(
        "snapshot {name} was saved by another build of plugstorm ({found}; this one is {wanted}); {}",
        way_out(name)
    )]
    OtherBuild {
        /// The snapshot.
        name: String,
        /// Who wrote it.
        found: String,
        /// Who reads it.
        wanted: String,
    },
    /// What is to be saved contradicts itself.
    #[error("snapshot {name} cannot be saved: {reason}; this is a mistake of plugstorm's")]
    Contradiction {
        /// The snapshot.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{action} {}: {source}; see to its permissions and to the room on its disk", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl SnapshotError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source }
    }

    /// Is there simply none?
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    /// Is it whole, and only of no use to this plugstorm?
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::OtherFormat { .. } | Self::OtherBuild { .. })
    }
}

/// Why a whole snapshot cannot be used for this guest or on this host. The message is one sentence with the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// Another kernel file.
    #[error("snapshot {name} is of another kernel ({saved}) than the one at hand ({wanted}); {}", way_out(name))]
    Kernel {
        /// The snapshot.
        name: String,
        /// Name and digest of its kernel.
        saved: String,
        /// Name and digest of the kernel wanted.
        wanted: String,
    },
    /// Another initramfs.
    #[error("snapshot {name} is of a guest with another initramfs; {}", way_out(name))]
    Initramfs {
        /// The snapshot.
        name: String,
    },
    /// The agent was prepared in another way.
    #[error("snapshot {name} is of a guest whose agent was told something else before the save; {}", way_out(name))]
    Told {
        /// The snapshot.
        name: String,
    },
    /// Something of the machine that is a number or a text.
    #[error("snapshot {name} has another {what} ({saved}) than is wanted ({wanted}); {}", way_out(name))]
    Machine {
        /// The snapshot.
        name: String,
        /// What differs.
        what: &'static str,
        /// As saved.
        saved: String,
        /// As wanted.
        wanted: String,
    },
    /// The host's processor offers a guest something else.
    #[error(
        "snapshot {name} was saved on a host whose CPUID differs from this one's; use it there, or {}",
        way_out(name)
    )]
    Cpuid {
        /// The snapshot.
        name: String,
    },
    /// The host's clock runs at another rate.
    #[error(
        "snapshot {name} was saved with a TSC of {saved_khz} kHz and this host's has {host_khz} kHz; use it there, or {}",
        way_out(name)
    )]
    Tsc {
        /// The snapshot.
        name: String,
        /// Its rate.
        saved_khz: u32,
        /// The host's.
        host_khz: u32,
    },
}

/// The end of a sentence on a snapshot that cannot be used.
fn way_out(name: &str) -> String {
    match Kind::of(name) {
        Kind::Storm => format!("the next storm makes it anew, and `plugstorm snapshot drop {name}` removes it"),
        Kind::User => format!("remove it with `plugstorm snapshot drop {name}` and save it anew"),
    }
}
