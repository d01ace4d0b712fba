//! Folders under construction, beside what is finished. Their names begin with a dot, so nobody takes them for a snapshot;
//! a lock on a file inside tells those that are worked on from those of the dead, which anyone sweeps.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

use super::SnapshotError;
use super::read::MEMORY;

/// How often a new folder may be taken for one of the dead before it has its lock.
const ATTEMPTS: u32 = 100;

/// What a folder is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A snapshot that is being written.
    Draft,
    /// What a nested machine hands out.
    Incoming,
}

impl Purpose {
    const ALL: [Self; 2] = [Self::Draft, Self::Incoming];

    fn prefix(self) -> &'static str {
        match self {
            Self::Draft => ".draft-",
            Self::Incoming => ".incoming-",
        }
    }

    /// The file that has the lock. flock(2) of a folder does not work on NFS.
    fn locked(self) -> &'static str {
        match self {
            Self::Draft => MEMORY,
            Self::Incoming => ".lock",
        }
    }
}

/// A folder that is ours until this is dropped, and then goes.
#[derive(Debug)]
pub(super) struct Claim {
    folder: TempDir,
    file: Flock<File>,
}

impl Claim {
    /// Makes a folder in `parent`, which is made too if it is not there.
    pub(super) fn make(parent: &Path, purpose: Purpose) -> Result<Self, SnapshotError> {
        let failed = |source| SnapshotError::io("cannot make a folder in", parent, source);
        fs::create_dir_all(parent).map_err(failed)?;
        for _ in 0..ATTEMPTS {
            if let Some(claim) = Self::attempt(parent, purpose).map_err(failed)? {
                return Ok(claim);
            }
        }
        Err(failed(Errno::EAGAIN.into()))
    }

    /// Nothing if a sweeper was faster.
    fn attempt(parent: &Path, purpose: Purpose) -> io::Result<Option<Self>> {
        // As open as the user's mask lets the cache's other folders be.
        let everyone = Permissions::from_mode(0o777);
        let folder = tempfile::Builder::new().prefix(purpose.prefix()).permissions(everyone).tempdir_in(parent)?;
        let path = folder.path().join(purpose.locked());
        let file = match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(errno.into()),
        };
        let ours = file.metadata()?;
        let is_there =
            fs::symlink_metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
        Ok(is_there.then_some(Self { folder, file }))
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The file that has the lock: of a draft, `memory`.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// It has been moved to its place.
    pub(super) fn settled(mut self) {
        self.folder.disable_cleanup(true);
    }
}

/// Removes what the dead have left in `parent`. What cannot be removed is left to the next.
pub(super) fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if let Some(purpose) = Purpose::ALL.into_iter().find(|purpose| name.starts_with(purpose.prefix())) {
            let _ = sweep_one(&entry.path(), purpose);
        }
    }
}

fn sweep_one(folder: &Path, purpose: Purpose) -> io::Result<()> {
    let locked = folder.join(purpose.locked());
    let file = match OpenOptions::new().read(true).write(true).open(&locked) {
        // The lock comes first and goes last, so there is nothing else. If its owner is just about to make it, he notices.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return fs::remove_dir(folder),
        opened => opened?,
    };
    let Ok(_dead) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return Ok(()) };
    for entry in fs::read_dir(folder)?.flatten().filter(|entry| entry.path() != locked) {
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_file(&locked)?;
    fs::remove_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::thread;

    /// A folder as a killed process leaves it.
    fn left(parent: &Path, purpose: Purpose) -> PathBuf {
        let claim = Claim::make(parent, purpose).unwrap();
        fs::write(claim.path().join("state.json"), "half").unwrap();
        fs::create_dir(claim.path().join("one")).unwrap();
        fs::write(claim.path().join("one/manifest"), "half").unwrap();
        let path = claim.path().to_path_buf();
        // Its descriptors are closed, and nothing else is done.
        claim.settled();
        path
    }

    #[test]
    fn only_what_the_dead_have_left_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("snapshots");
        let alive = Purpose::ALL.map(|purpose| Claim::make(&folder, purpose).unwrap());
        let dead = Purpose::ALL.map(|purpose| left(&folder, purpose));
        fs::create_dir(folder.join(".draft-without-a-lock")).unwrap();
        fs::create_dir(folder.join("a-snapshot")).unwrap();
        sweep(&folder);
        assert!(alive.iter().all(|claim| claim.path().is_dir()));
        assert!(dead.iter().all(|path| !path.exists()));
        assert!(folder.join("a-snapshot").exists() && !folder.join(".draft-without-a-lock").exists());
        drop(alive);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        sweep(&folder.join("not-there"));
    }

    #[test]
    fn a_sweeper_and_a_maker_do_not_meet() {
        let parent = tempfile::tempdir().unwrap();
        thread::scope(|scope| {
            let makers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..300 {
                            let claim = Claim::make(parent.path(), Purpose::Draft).unwrap();
                            fs::write(claim.path().join("state.json"), "x").unwrap();
                            assert!(claim.path().join(MEMORY).exists());
                        }
                    })
                })
                .collect();
            while !makers.iter().all(thread::ScopedJoinHandle::is_finished) {
                sweep(parent.path());
            }
        });
        sweep(parent.path());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
