//! Reads a snapshot, and believes nothing that a digest does not say.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::memory::Fault;
use super::{Manifest, SnapshotError, digest};

/// The names of its three files.
pub(super) const MANIFEST: &str = "manifest";
pub(super) const STATE: &str = "state.json";
pub(super) const MEMORY: &str = "memory";

/// How often a snapshot may be replaced by others while it is opened.
const MOST_REPLACED: u32 = 100;

/// A whole snapshot.
#[derive(Debug)]
pub struct Snapshot {
    /// What it is.
    pub manifest: Manifest,
    /// The machine, as it was given to [`super::Draft::finish`].
    pub state: Vec<u8>,
    /// The guest's memory. To be mapped privately: others use the same file.
    pub memory: File,
}

/// The files of one snapshot, opened together: what is put in its place meanwhile does not mix with it.
#[derive(Debug)]
pub(super) struct Parts {
    name: String,
    folder: PathBuf,
    /// The manifest's file.
    pub(super) bytes: Vec<u8>,
    pub(super) manifest: Manifest,
    state: File,
    pub(super) memory: File,
}

impl Parts {
    /// Opens the snapshot `name` of a folder of snapshots. Reads and verifies the manifest, and looks at how long the files
    /// are.
    pub(super) fn open(parent: &Path, name: &str) -> Result<Self, SnapshotError> {
        let folder = parent.join(name);
        let Files { mut manifest, state, memory } = Files::open(parent, name)?;
        let path = folder.join(MANIFEST);
        let mut bytes = Vec::new();
        manifest.read_to_end(&mut bytes).map_err(|source| SnapshotError::io("cannot read", &path, source))?;
        let manifest = Manifest::decode(&bytes, name, &path)?;
        let parts = Self { name: name.to_owned(), folder, bytes, manifest, state, memory };
        parts.has_length(STATE, &parts.state, parts.manifest.state.bytes)?;
        parts.has_length(MEMORY, &parts.memory, parts.manifest.memory.bytes)?;
        Ok(parts)
    }

    /// All of it, verified.
    pub(super) fn verified(self) -> Result<Snapshot, SnapshotError> {
        let state = self.state()?;
        // Nothing is copied here.
        self.manifest.memory.verify(&self.memory).map_err(|fault| self.fault(fault, &self.folder))?;
        Ok(Snapshot { manifest: self.manifest, state, memory: self.memory })
    }

    /// The content of `state.json`, verified.
    pub(super) fn state(&self) -> Result<Vec<u8>, SnapshotError> {
        let path = self.folder.join(STATE);
        let mut state = Vec::new();
        (&self.state).read_to_end(&mut state).map_err(|source| SnapshotError::io("cannot read", &path, source))?;
        if digest::of(&state) == self.manifest.state.digest {
            return Ok(state);
        }
        Err(SnapshotError::Damaged { name: self.name.clone(), path, offset: 0, bytes: state.len() as u64 })
    }

    /// What went wrong with the memory file, or with its copy.
    pub(super) fn fault(&self, fault: Fault, copy: &Path) -> SnapshotError {
        let path = self.folder.join(MEMORY);
        match fault {
            Fault::Read(source) => SnapshotError::io("cannot read", &path, source),
            Fault::Write(source) => SnapshotError::io("cannot write", copy, source),
            Fault::Damaged { offset, bytes } => SnapshotError::Damaged { name: self.name.clone(), path, offset, bytes },
        }
    }

    fn has_length(&self, file: &str, opened: &File, bytes: u64) -> Result<(), SnapshotError> {
        let path = self.folder.join(file);
        let found = opened.metadata().map_err(|source| SnapshotError::io("cannot read", &path, source))?.len();
        if found == bytes {
            return Ok(());
        }
        Err(SnapshotError::CutShort { name: self.name.clone(), path, bytes, found })
    }
}

struct Files {
    manifest: File,
    state: File,
    memory: File,
}

impl Files {
    fn open(parent: &Path, name: &str) -> Result<Self, SnapshotError> {
        let path = parent.join(name);
        for _ in 0..MOST_REPLACED {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let folder = match open(&path, flags, Mode::empty()) {
                Ok(folder) => folder,
                Err(Errno::ENOENT) => {
                    return Err(SnapshotError::Absent { name: name.into(), folder: parent.into() });
                }
                Err(Errno::ENOTDIR | Errno::ELOOP) => {
                    let reason = "is no folder".to_owned();
                    return Err(SnapshotError::NotASnapshot { name: name.into(), path, reason });
                }
                Err(errno) => return Err(SnapshotError::io("cannot open", &path, errno.into())),
            };
            match Self::of(&folder) {
                Ok(files) => return Ok(files),
                // It was taken away, file by file, after it had been replaced or removed.
                Err((_, Errno::ENOENT)) if !is_in_place(&folder, &path) => {}
                Err((file, Errno::ENOENT)) => return Err(not_there(name, path.join(file), "is not there")),
                Err((file, Errno::EISDIR | Errno::ELOOP)) => {
                    return Err(not_there(name, path.join(file), "is no plain file"));
                }
                Err((file, errno)) => return Err(SnapshotError::io("cannot open", &path.join(file), errno.into())),
            }
        }
        Err(SnapshotError::io("cannot open", &path, io::Error::from(Errno::EAGAIN)))
    }

    fn of(folder: &OwnedFd) -> Result<Self, (&'static str, Errno)> {
        let open = |name: &'static str| {
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let file = openat(folder, name, flags, Mode::empty()).map(File::from).map_err(|errno| (name, errno))?;
            let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
            if is_file { Ok(file) } else { Err((name, Errno::EISDIR)) }
        };
        Ok(Self { manifest: open(MANIFEST)?, state: open(STATE)?, memory: open(MEMORY)? })
    }
}

fn not_there(name: &str, path: PathBuf, reason: &str) -> SnapshotError {
    SnapshotError::NotASnapshot { name: name.into(), path, reason: reason.into() }
}

/// Is what is open still what has the name?
fn is_in_place(folder: &OwnedFd, path: &Path) -> bool {
    let opened = folder.try_clone().and_then(|folder| File::from(folder).metadata());
    let named = fs::symlink_metadata(path);
    matches!((opened, named), (Ok(opened), Ok(named)) if (opened.dev(), opened.ino()) == (named.dev(), named.ino()))
}
