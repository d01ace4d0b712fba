//! The folder of a bisection. Whatever ends it, it goes on from there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use super::model::{Bisection, Commit, VERSION};
use super::probe::Keeper;
use super::report;
use crate::results::{foreign_file, write_whole};

const JSON: &str = "bisect.json";
const TEXT: &str = "bisect.txt";
/// For `git bisect replay`.
const LOG: &str = "bisect.log";
const LOCK: &str = "bisect.lock";
/// Files are called this and something before they are whole.
const TEMPORARY: &str = ".bisect.";
/// What git is told, while a process is at it.
const STATE: &str = "git";
/// The runs' folders, by commit.
const COMMITS: &str = "commits";

/// Why a folder cannot take a bisection.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FolderError {
    /// It has things in it that are not a bisection's.
    #[error("the folder {} holds files and no bisection ({file}); name another one with --out", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// One of the files.
        file: String,
    },
    /// It is another bisection's.
    #[error("the folder {} has another bisection: {difference}; name another folder with --out, or remove this one", path.display())]
    Another {
        /// The folder.
        path: PathBuf,
        /// What is different.
        difference: String,
    },
    /// What it has of one cannot be read.
    #[error("{} cannot be read ({reason}); name another folder with --out, or remove this one", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another process is at it.
    #[error("another plugstorm is at the bisection in {}: wait for it, or name another folder with --out", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("the bisection in {} cannot be written ({source}); what was written is kept, and the same command line goes on with it", path.display())]
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// The folder of a bisection, ours alone until this is dropped or the process ends.
#[derive(Debug)]
pub struct BisectFolder {
    path: PathBuf,
    _lock: Flock<File>,
}

impl BisectFolder {
    /// Makes the folder, or takes one with this very bisection, and gives what there is of it.
    ///
    /// # Errors
    /// [`FolderError`]: nothing in the folder was changed.
    pub fn open(path: &Path, fresh: Bisection) -> Result<(Self, Bisection), FolderError> {
        let unwritable = |source| FolderError::Unwritable { path: path.to_path_buf(), source };
        fs::create_dir_all(path).map_err(unwritable)?;
        // First: nothing is to be put into a folder of something else, not even a lock.
        if read(path)?.is_none() {
            let is_ours = |name: &str| name == LOCK || name.starts_with(TEMPORARY);
            if let Some(file) = foreign_file(path, is_ours).map_err(unwritable)? {
                return Err(FolderError::Foreign { path: path.to_path_buf(), file });
            }
        }
        let lock = OpenOptions::new().create(true).append(true).open(path.join(LOCK)).map_err(unwritable)?;
        let lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Err(FolderError::Busy { path: path.to_path_buf() }),
            Err((_, errno)) => return Err(unwritable(errno.into())),
        };
        let folder = Self { path: path.to_path_buf(), _lock: lock };
        // What another one wrote until it let go of the lock.
        let Some(earlier) = read(path)? else { return Ok((folder, fresh)) };
        let another = |difference| FolderError::Another { path: path.to_path_buf(), difference };
        fresh.header.continues(&earlier.header).map_err(another)?;
        for (end, then, now) in
            [("good", &earlier.good.commit, &fresh.good.commit), ("bad", &earlier.bad.commit, &fresh.bad.commit)]
        {
            if then != now {
                let difference = format!("its {end} commit was {}, and now it is {}", then.short(), now.short());
                return Err(another(difference));
            }
        }
        Ok((folder, earlier))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where git's state is while a process is at it.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.path.join(STATE)
    }

    /// Where a run's results go. Runs count from 1.
    #[must_use]
    pub fn run_folder(&self, commit: &Commit, run: u32) -> PathBuf {
        self.path.join(COMMITS).join(commit.short()).join(format!("run-{run}"))
    }
}

impl Keeper for BisectFolder {
    fn keep(&self, bisection: &Bisection, log: &str) -> Result<(), FolderError> {
        let write = || {
            let mut json = serde_json::to_vec_pretty(bisection)?;
            json.push(b'\n');
            for (file, text) in [(JSON, &*json), (TEXT, report::log_text(bisection).as_bytes()), (LOG, log.as_bytes())]
            {
                write_whole(&self.path, TEMPORARY, &self.path.join(file), text)?;
            }
            Ok(())
        };
        write().map_err(|source| FolderError::Unwritable { path: self.path.clone(), source })
    }
}

fn read(path: &Path) -> Result<Option<Bisection>, FolderError> {
    let file = path.join(JSON);
    let unreadable = |reason: String| FolderError::Unreadable { path: file.clone(), reason };
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let bisection: Bisection = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    if bisection.header.version != VERSION {
        return Err(unreadable(format!("it is of version {}", bisection.header.version)));
    }
    Ok(Some(bisection))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bisection, commit};
    use super::*;
    use crate::bisect::Header;

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "").unwrap();
        let error = BisectFolder::open(folder.path(), bisection()).unwrap_err().to_string();
        assert!(error.contains("thesis.tex") && error.contains("--out"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let ours = tempfile::tempdir().unwrap();
        fs::write(ours.path().join(JSON), "{\"version\":").unwrap();
        let error = BisectFolder::open(ours.path(), bisection()).unwrap_err().to_string();
        assert!(error.contains(JSON) && error.contains("--out"), "{error}");
    }

    #[test]
    fn what_was_begun_goes_on_and_another_bisection_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (open, mut begun) = BisectFolder::open(folder.path(), bisection()).unwrap();
        begun.bad.build_seconds = 77;
        open.keep(&begun, "git bisect start\n").unwrap();
        let error = BisectFolder::open(folder.path(), bisection()).unwrap_err();
        assert!(matches!(error, FolderError::Busy { .. }), "{error}");
        drop(open);
        assert_eq!(BisectFolder::open(folder.path(), bisection()).unwrap().1, begun);
        let refused = |change: &dyn Fn(&mut Header)| {
            let mut other = bisection();
            change(&mut other.header);
            BisectFolder::open(folder.path(), other).unwrap_err().to_string()
        };
        for (change, words) in [
            (&(|header: &mut Header| header.plugstorm = "9.9.9".into()) as &dyn Fn(&mut Header), "now it is 9.9.9"),
            (&|header| header.tree = "/other".into(), "now it is /other"),
            (&|header| header.scenario_digest = "0".into(), "was another one"),
            (&|header| header.cycles = 7, "now it is 7"),
            (&|header| header.ingredients.clear(), "configuration or patches"),
            (&|header| header.title = Some("x*".into()), "now it is x*"),
            (&|header| header.runs = 3, "number of runs"),
            (&|header| header.seed = 3, "first seed"),
            (&|header| header.confidence = 0.9, "confidence was 0.99"),
        ] {
            let sentence = refused(change);
            assert!(sentence.contains(words) && sentence.contains("--out"), "{words}: {sentence}");
        }
        let other = Bisection::new(bisection().header, commit("a"), commit("other"));
        let sentence = BisectFolder::open(folder.path(), other).unwrap_err().to_string();
        assert!(sentence.contains("its bad commit was"), "{sentence}");
        // Another command line may say the same.
        let mut same = bisection();
        (same.header.command, same.header.started_unix_s) = (vec!["x".into()], 9);
        assert!(BisectFolder::open(folder.path(), same).is_ok());
    }
}
