//! The store of snapshots: machines that were stopped and written down, to go on from there.
//!
//! `$CACHE/snapshots/NAME/` has `manifest` (a digest, then JSON), `state.json` (what a machine saves of itself) and
//! `memory` (the guest's, sparse). A snapshot appears whole, by a rename, and is never written to again; whatever is read of
//! it is verified first. Those that storms make by themselves are named by what the guest is made of.
//!
//! In a nested machine the cache is read-only and slow, and what a guest maps must be in RAM. There the store is a folder in
//! RAM, which gets what it lacks from the cache; what is made there is also copied to a folder of the machine outside
//! (`Incoming`), which puts it into the cache.

mod automatic;
mod claim;
pub(crate) mod digest;
mod draft;
mod error;
mod incoming;
mod ingredients;
mod listing;
mod manifest;
mod memory;
mod name;
mod nested;
mod read;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use claim::sweep;
use read::{MANIFEST, MEMORY, Parts, STATE};

use crate::cache::{self, CacheLock};
use crate::host;

pub use automatic::{Automatic, Shelf, finish, saved};
pub(crate) use digest::of as digest;
pub use draft::{Draft, Facts};
pub use error::{Misfit, SnapshotError};
pub(crate) use incoming::{Incoming, OUT};
pub use ingredients::{Ingredients, KernelFile, MadeOf};
pub use listing::{Listed, State, Summary};
pub use manifest::{FORMAT, Manifest, StateFile, build};
pub use memory::{Extent, MemoryFile};
pub use name::{Kind, check_name};
pub use read::Snapshot;

/// The store's folder below the cache.
const FOLDER: &str = "snapshots";
/// What automatic snapshots may take on disk together.
pub const LIMIT_BYTES: u64 = 8 << 30;

/// Where snapshots are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The cache, or the folder in RAM that stands for it.
    root: PathBuf,
    /// What automatic ones may take together.
    limit_bytes: u64,
    /// In a nested machine only.
    beyond: Option<nested::Beyond>,
}

impl Store {
    /// The one that this process uses: the cache's, or a nested machine's.
    #[must_use]
    pub fn here() -> Self {
        if host::nested::is_inside() { Self::in_ram() } else { Self::at(cache::root()) }
    }

    /// That of the cache at `root`.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), limit_bytes: LIMIT_BYTES, beyond: None }
    }

    /// The folder with one folder for each snapshot. It need not exist.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.root.join(FOLDER)
    }

    /// Opens a snapshot to use it: verifies all of it, and notes that it was used. In a nested machine it is in RAM
    /// afterwards.
    ///
    /// # Errors
    /// [`SnapshotError`]; [`SnapshotError::is_absent`] if there is none.
    pub fn open(&self, name: &str) -> Result<Snapshot, SnapshotError> {
        let opened = match self.verify(name) {
            Err(error) if error.is_absent() => self.stage(name)?.ok_or(error)?,
            opened => opened?,
        };
        self.touch(name);
        Ok(opened)
    }

    /// Verifies all of a snapshot, and leaves it as it is.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn verify(&self, name: &str) -> Result<Snapshot, SnapshotError> {
        name::check(name)?;
        Parts::open(&self.folder(), name)?.verified()
    }

    /// Notes that a snapshot was used: those that were not for longest are pruned first. In a cache that cannot be written
    /// nothing is noted, nor pruned.
    pub fn touch(&self, name: &str) {
        let path = self.folder().join(name).join(MANIFEST);
        if name::check(name).is_ok()
            && let Ok(manifest) = File::open(path)
        {
            let _ = manifest.set_modified(SystemTime::now());
        }
        self.tell_used(name);
    }

    /// Removes a snapshot, in whatever state it is. Whoever has it open can go on. `progress` is told if another process
    /// keeps us waiting.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn remove(&self, name: &str, progress: &mut dyn FnMut(&str)) -> Result<(), SnapshotError> {
        self.holds(name)?;
        let lock = CacheLock::take(&self.root, progress)?;
        // Another process may have been faster.
        self.holds(name)?;
        set_aside(&lock, &self.folder().join(name))
    }

    /// Removes a snapshot that storms made and whose guests are of no use, here and, from a nested machine, outside.
    pub fn discard(&self, name: &str) {
        if Kind::of(name) == Kind::User {
            return;
        }
        // At worst the next run finds out again.
        let _ = self.remove(name, &mut |_| ());
        self.tell_useless(name);
    }

    /// Is there one of this name, in whatever state?
    ///
    /// # Errors
    /// That there is none, or that nothing can be called this.
    pub fn holds(&self, name: &str) -> Result<(), SnapshotError> {
        name::check(name)?;
        match fs::symlink_metadata(self.folder().join(name)) {
            Ok(_) => Ok(()),
            Err(_) => Err(SnapshotError::Absent { name: name.into(), folder: self.folder() }),
        }
    }

    /// Puts the finished folder `from` in place, and makes room. The lock is held for this only.
    fn publish(
        &self,
        from: &Path,
        name: &str,
        replace: Replace,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), SnapshotError> {
        for file in [MEMORY, STATE, MANIFEST] {
            synchronise(&from.join(file))?;
        }
        synchronise(from)?;
        let lock = CacheLock::take(&self.root, progress)?;
        if replace == Replace::Automatic && Kind::of(name) == Kind::User && self.holds(name).is_ok() {
            return Err(SnapshotError::Taken { name: name.into() });
        }
        lock.publish(from, &self.folder().join(name))?;
        synchronise(&self.folder())?;
        sweep(&self.folder());
        // It is published; what could not be pruned is tried again after the next.
        let _ = self.prune_under(&lock, self.limit_bytes, Some(name));
        Ok(())
    }
}

/// What may be replaced by what is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replace {
    /// Only what was made by itself.
    Automatic,
    /// A copy, by another copy of the same.
    Anything,
}

/// Removes a folder at once for everyone, and then file by file.
fn set_aside(lock: &CacheLock, path: &Path) -> Result<(), SnapshotError> {
    let aside = lock.workspace()?;
    fs::rename(path, aside.path().join("removed")).map_err(|source| SnapshotError::io("cannot remove", path, source))
}

/// Waits until a file or folder is on disk as it is.
fn synchronise(path: &Path) -> Result<(), SnapshotError> {
    let failed = |source| SnapshotError::io("cannot write", path, source);
    File::open(path).and_then(|file| file.sync_all()).map_err(failed)
}
