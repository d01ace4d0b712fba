//! The folder outside the repository where everything fetched or built is kept.
//!
//! Whoever writes there holds its lock, works in a folder of its own below `tmp/` and renames that into place as the
//! last step: what has a name is whole. What a killed process left in `tmp/` is swept by the next that holds the lock. Who
//! builds a kernel holds another lock, works below `builds/`, and takes the first one for that last step only.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

/// How long another process may have the lock: fetching a kernel takes minutes on a slow line.
const LOCK_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How often it is tried.
const LOCK_LOOK: Duration = Duration::from_millis(200);
/// How long another process may build a kernel, a large one on a slow machine.
const BUILD_LIMIT: Duration = Duration::from_secs(4 * 60 * 60);
/// How often somebody who waits is told so.
const LOCK_TOLD: Duration = Duration::from_secs(30);

/// What a lock is for: its file, and the folder that its holder works in.
#[derive(Debug, Clone, Copy)]
struct Purpose {
    lock: &'static str,
    scratch: &'static str,
    limit: Duration,
}

/// To change what has a name. Held for minutes at most.
const WRITING: Purpose = Purpose { lock: "lock", scratch: "tmp", limit: LOCK_LIMIT };
/// To build a kernel, which takes long, while others write.
const BUILDING: Purpose = Purpose { lock: "builds.lock", scratch: "builds", limit: BUILD_LIMIT };

/// Why the cache could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// A file or folder could not be read or written.
    #[error("the cache: {} {}: {source}; set PLUGSTORM_CACHE to a folder that can be written", action, path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process writes to it, and does not come to an end.
    #[error(
        "the cache: another plugstorm has held the lock {} for {limit:?}: end it (`fuser {}` has its number), or set \
         PLUGSTORM_CACHE to another folder", path.display(), path.display()
    )]
    Busy {
        /// The lock's file.
        path: PathBuf,
        /// How long was waited.
        limit: Duration,
    },
    /// A signal came while another process had it.
    #[error("interrupted while another plugstorm held the lock {}", path.display())]
    Interrupted {
        /// The lock's file.
        path: PathBuf,
    },
}

/// The cache folder: `$PLUGSTORM_CACHE`, else `$XDG_CACHE_HOME/plugstorm`, else `~/.cache/plugstorm`, else
/// `/var/cache/plugstorm`. It need not exist yet. Always absolute: a path that is not is taken from the working
/// directory.
#[must_use]
pub fn root() -> PathBuf {
    let chosen = from_environment(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from));
    std::path::absolute(&chosen).unwrap_or(chosen)
}

fn from_environment(variable: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    variable("PLUGSTORM_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("plugstorm")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/plugstorm")))
        .unwrap_or_else(|| PathBuf::from("/var/cache/plugstorm"))
}

/// The right to write to the cache; given back when dropped, and by the kernel however the process ends.
#[derive(Debug)]
pub(crate) struct CacheLock {
    scratch: PathBuf,
    _lock: Flock<File>,
}

impl CacheLock {
    /// Waits for the lock, [`LOCK_LIMIT`] at most. `progress` is told at once if another process has it.
    pub(crate) fn take(root: &Path, progress: &mut dyn FnMut(&str)) -> Result<Self, CacheError> {
        Self::take_unless(root, &AtomicBool::new(false), progress)
    }

    /// The same; a wait ends when `interrupt` is set.
    pub(crate) fn take_unless(
        root: &Path,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, CacheError> {
        Self::take_within(root, WRITING, interrupt, progress)
    }

    /// The right to build a kernel: one at a time. It does not keep others from writing, so that what is published also
    /// takes [`Self::take_unless`]. A wait ends when `interrupt` is set.
    pub(crate) fn take_for_builds(
        root: &Path,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, CacheError> {
        Self::take_within(root, BUILDING, interrupt, progress)
    }

    fn take_within(
        root: &Path,
        purpose: Purpose,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, CacheError> {
        let limit = purpose.limit;
        let failed = |action, path: &Path, source| CacheError::Io { action, path: path.to_path_buf(), source };
        fs::create_dir_all(root).map_err(|source| failed("cannot make", root, source))?;
        let path = root.join(purpose.lock);
        let open = || {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(|source| failed("cannot write", &path, source))
        };
        let mut file = open()?;
        let (mut waiting_since, mut told) = (None, None::<Instant>);
        let lock = loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => break lock,
                Err((back, Errno::EWOULDBLOCK)) => file = back,
                Err((_, errno)) => return Err(failed("cannot lock", &path, errno.into())),
            }
            let since = *waiting_since.get_or_insert_with(Instant::now);
            if told.is_none_or(|at| at.elapsed() >= LOCK_TOLD) {
                progress(&format!("waiting for another plugstorm that writes to the cache (lock {})", path.display()));
                told = Some(Instant::now());
            }
            if interrupt.load(Ordering::Relaxed) {
                return Err(CacheError::Interrupted { path });
            }
            if since.elapsed() >= limit {
                return Err(CacheError::Busy { path, limit });
            }
            thread::sleep(LOCK_LOOK);
        };
        // Nobody else is writing, so whatever is in there belongs to nobody.
        let scratch = root.join(purpose.scratch);
        if scratch.exists() {
            if fs::read_dir(&scratch).is_ok_and(|mut entries| entries.next().is_some()) {
                progress(&format!("removing what a process that was killed has left in {}", scratch.display()));
            }
            fs::remove_dir_all(&scratch).map_err(|source| failed("cannot sweep", &scratch, source))?;
        }
        Ok(Self { scratch, _lock: lock })
    }

    /// The folder that all workspaces are in; swept by the next one that takes the lock.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// A folder to work in, on the cache's own file system; gone when dropped.
    pub(crate) fn workspace(&self) -> Result<TempDir, CacheError> {
        let parent = &self.scratch;
        let failed = |source| CacheError::Io { action: "cannot make a folder in", path: parent.clone(), source };
        fs::create_dir_all(parent).map_err(failed)?;
        tempfile::Builder::new().prefix("work-").tempdir_in(parent).map_err(failed)
    }

    /// Puts the finished folder `from` in the place of `to`, whatever was there before.
    pub(crate) fn publish(&self, from: &Path, to: &Path) -> Result<(), CacheError> {
        let failed = |action, path: &Path, source| CacheError::Io { action, path: path.to_path_buf(), source };
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(|source| failed("cannot make", parent, source))?;
        }
        // Kept until the new one is in place, then swept with its temporary folder.
        let aside = self.workspace()?;
        if to.exists() {
            fs::rename(to, aside.path().join("replaced")).map_err(|source| failed("cannot replace", to, source))?;
        }
        fs::rename(from, to).map_err(|source| failed("cannot put in place", to, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_particular_variable_wins() {
        let with = |pairs: &'static [(&str, &str)]| {
            from_environment(|name| pairs.iter().find(|pair| pair.0 == name).map(|pair| PathBuf::from(pair.1)))
        };
        assert_eq!(with(&[("PLUGSTORM_CACHE", "/c"), ("HOME", "/h")]), Path::new("/c"));
        assert_eq!(with(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), Path::new("/x/plugstorm"));
        assert_eq!(with(&[("HOME", "/h")]), Path::new("/h/.cache/plugstorm"));
        assert_eq!(with(&[]), Path::new("/var/cache/plugstorm"));
    }

    #[test]
    fn what_is_published_replaces_and_leftovers_are_swept() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("kernels/one");
        for content in ["first", "second"] {
            let lock = CacheLock::take(root.path(), &mut |line| panic!("nobody else has it: {line}")).unwrap();
            let work = lock.workspace().unwrap();
            let made = work.path().join("made");
            fs::create_dir(&made).unwrap();
            fs::write(made.join("file"), content).unwrap();
            lock.publish(&made, &target).unwrap();
            assert_eq!(fs::read_to_string(target.join("file")).unwrap(), content);
        }
        fs::create_dir_all(root.path().join("tmp/work-of-the-dead")).unwrap();
        drop(CacheLock::take(root.path(), &mut |_| ()).unwrap());
        assert!(!root.path().join("tmp").exists());
    }

    #[test]
    fn waiting_for_the_lock_is_told_and_bounded() {
        let root = tempfile::tempdir().unwrap();
        let _held = CacheLock::take(root.path(), &mut |_| ()).unwrap();
        let mut told = Vec::new();
        let short = Purpose { limit: Duration::from_millis(300), ..WRITING };
        let go_on = AtomicBool::new(false);
        let mut tell = |line: &str| told.push(line.to_owned());
        let error = CacheLock::take_within(root.path(), short, &go_on, &mut tell).unwrap_err();
        let lock = root.path().join("lock").display().to_string();
        assert!(told.len() == 1 && told[0].contains(&lock), "{told:?}");
        assert!(error.to_string().contains(&lock), "{error}");
    }

    #[test]
    fn waiting_for_the_lock_ends_when_a_signal_comes() {
        let root = tempfile::tempdir().unwrap();
        let _held = CacheLock::take(root.path(), &mut |_| ()).unwrap();
        let interrupt = AtomicBool::new(false);
        let error = CacheLock::take_unless(root.path(), &interrupt, &mut |_| interrupt.store(true, Ordering::Relaxed));
        assert!(matches!(error.unwrap_err(), CacheError::Interrupted { .. }));
        // Nobody has this one, and whoever goes on looks at the signal himself.
        assert!(CacheLock::take_for_builds(root.path(), &interrupt, &mut |_| ()).is_ok());
    }

    #[test]
    fn who_builds_does_not_keep_others_from_writing() {
        let root = tempfile::tempdir().unwrap();
        let quiet = &mut |line: &str| panic!("nobody else has it: {line}");
        let building = CacheLock::take_for_builds(root.path(), &AtomicBool::new(false), quiet).unwrap();
        let work = building.workspace().unwrap();
        drop(CacheLock::take(root.path(), quiet).unwrap());
        assert!(work.path().exists() && work.path().starts_with(building.scratch()));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let error = CacheLock::take(Path::new("/dev/null/cache"), &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains("/dev/null/cache"), "{error}");
    }
}
