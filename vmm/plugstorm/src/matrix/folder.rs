//! The folder of a matrix. Whatever ends a matrix, it goes on from there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use super::model::{Cell, Header, Matrix};
use super::outcome::{Came, Key, came};
use super::report;
use crate::results::{RESULT, RunResult, foreign_file, write_whole};

const JSON: &str = "matrix.json";
const MARKDOWN: &str = "matrix.md";
const LOCK: &str = "matrix.lock";
/// Files are called this and something before they are whole.
const TEMPORARY: &str = ".matrix.";
/// Copies of the scenarios, below the folder.
const SCENARIOS: &str = "scenarios";

/// Why a folder cannot take a matrix.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FolderError {
    /// It has things in it that are not a matrix's.
    #[error("the folder {} holds files and no matrix ({file}); name another one with --out", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// One of the files.
        file: String,
    },
    /// It is another matrix's.
    #[error("the folder {} has another matrix: {difference}; name another folder with --out, or remove this one", path.display())]
    Another {
        /// The folder.
        path: PathBuf,
        /// What is different.
        difference: String,
    },
    /// What it has of a matrix cannot be read.
    #[error("{} cannot be read ({reason}); name another folder with --out, or remove this one", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another process is at it.
    #[error("another plugstorm is filling the matrix in {}: wait for it, or name another folder with --out", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("the matrix in {} cannot be written ({source}); what was written is kept", path.display())]
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// The folder of a matrix, ours alone until this is dropped or the process ends.
#[derive(Debug)]
pub struct MatrixFolder {
    path: PathBuf,
    _lock: Flock<File>,
}

impl MatrixFolder {
    /// Makes the folder, or takes one with a matrix that this one continues.
    ///
    /// # Errors
    /// [`FolderError`]: nothing in the folder was changed.
    pub fn open(path: &Path, header: &Header) -> Result<Self, FolderError> {
        let unwritable = |source| FolderError::Unwritable { path: path.to_path_buf(), source };
        fs::create_dir_all(path).map_err(unwritable)?;
        // First: nothing is to be put into a folder of something else, not even a lock.
        if read_header(path)?.is_none() {
            refuse_foreign(path)?;
        }
        let lock = OpenOptions::new().create(true).append(true).open(path.join(LOCK)).map_err(unwritable)?;
        let lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Err(FolderError::Busy { path: path.to_path_buf() }),
            Err((_, errno)) => return Err(unwritable(errno.into())),
        };
        // What another one wrote until it let go of the lock.
        if let Some(earlier) = read_header(path)? {
            let another = |difference| FolderError::Another { path: path.to_path_buf(), difference };
            header.continues(&earlier).map_err(another)?;
        }
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a scenario's text; where.
    ///
    /// # Errors
    /// That it cannot be written.
    pub fn keep_scenario(&self, name: &str, text: &str) -> Result<PathBuf, FolderError> {
        let unwritable = |source| FolderError::Unwritable { path: self.path.clone(), source };
        let folder = self.path.join(SCENARIOS);
        fs::create_dir_all(&folder).map_err(unwritable)?;
        let file = folder.join(format!("{name}.toml"));
        write_whole(&folder, TEMPORARY, &file, text.as_bytes()).map_err(unwritable)?;
        Ok(file)
    }

    /// What there is of a run, if it came to its end: what came of it, and its result.
    #[must_use]
    pub fn look(&self, cell: &Cell, run: u32, kernel: &str, plugstorm: &str) -> Option<(Came, RunResult)> {
        let text = fs::read(self.run_folder(cell, run).join(RESULT)).ok()?;
        // Of another version, or of a run that was killed while it wrote on a failing disk: carried out anew.
        let result: RunResult = serde_json::from_slice(&text).ok()?;
        let (scenario, design, seed) = (cell.scenario.as_str(), cell.design, cell.seed(run));
        let key = Key { scenario, design, seed, kernel, cycles: cell.cycles, plugstorm };
        if !key.fits(&result) {
            return None;
        }
        Some((came(&result)?, result))
    }

    /// Makes a run one that is still to be carried out: what it left must not be taken for what comes of it now.
    ///
    /// # Errors
    /// That its result cannot be removed.
    pub fn forget(&self, cell: &Cell, run: u32) -> Result<(), FolderError> {
        match fs::remove_file(self.run_folder(cell, run).join(RESULT)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(FolderError::Unwritable { path: self.path.clone(), source })
            }
            _ => Ok(()),
        }
    }

    /// Where a run's results go.
    #[must_use]
    pub fn run_folder(&self, cell: &Cell, run: u32) -> PathBuf {
        self.path.join(run_folder(cell, run))
    }

    /// Puts `matrix.json` and `matrix.md` in place, each whole or not at all.
    ///
    /// # Errors
    /// That they cannot be written.
    pub fn write(&self, matrix: &Matrix) -> Result<(), FolderError> {
        let write = || {
            let mut json = serde_json::to_vec_pretty(matrix)?;
            json.push(b'\n');
            write_whole(&self.path, TEMPORARY, &self.path.join(JSON), &json)?;
            write_whole(&self.path, TEMPORARY, &self.path.join(MARKDOWN), report::markdown(matrix).as_bytes())
        };
        write().map_err(|source| FolderError::Unwritable { path: self.path.clone(), source })
    }
}

/// Where a run's results go, below the matrix's folder. Runs count from 1.
pub(super) fn run_folder(cell: &Cell, run: u32) -> PathBuf {
    PathBuf::from("cells").join(&cell.scenario).join(cell.design.name()).join(format!("run-{run}"))
}

fn read_header(path: &Path) -> Result<Option<Header>, FolderError> {
    let file = path.join(JSON);
    let unreadable = |reason: String| FolderError::Unreadable { path: file.clone(), reason };
    match fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| unreadable(error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

/// A folder without a matrix must be empty, but for what one leaves that was ended before its first word.
fn refuse_foreign(path: &Path) -> Result<(), FolderError> {
    let unwritable = |source| FolderError::Unwritable { path: path.to_path_buf(), source };
    let is_ours = |name: &str| name == LOCK || name.starts_with(TEMPORARY);
    match foreign_file(path, is_ours).map_err(unwritable)? {
        Some(file) => Err(FolderError::Foreign { path: path.to_path_buf(), file }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{header, matrix};
    use super::*;

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "").unwrap();
        let error = MatrixFolder::open(folder.path(), &header()).unwrap_err();
        assert!(error.to_string().contains("thesis.tex") && error.to_string().contains("--out"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_begun_goes_on_and_another_matrix_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let matrix = matrix();
        let open = |header: &Header| MatrixFolder::open(folder.path(), header);
        open(&matrix.header).unwrap().write(&matrix).unwrap();
        // As it was, and with more.
        drop(open(&matrix.header).unwrap());
        let changed = |change: &dyn Fn(&mut Header)| {
            let mut header = matrix.header.clone();
            change(&mut header);
            open(&header).map(drop).map_err(|error| error.to_string())
        };
        assert!(changed(&|header| header.runs += 1).is_ok());
        assert!(changed(&|header| header.command.push("--cold".into())).is_ok());
        for (change, words) in [
            (&(|header: &mut Header| header.runs -= 1) as &dyn Fn(&mut Header), "runs a cell"),
            (&|header| header.plugstorm = "9.9.9".into(), "this is 9.9.9"),
            (&|header| header.scenarios[0].digest = "0".into(), "was another one"),
            (&|header| header.scenarios[0].cycles = 7, "7"),
            (&|header| header.scenarios[0].kernel = "debug-6.12".into(), "now on debug-6.12"),
            (&|header| header.scenarios[0].guest = "0".into(), "our module"),
            (&|header| drop(header.scenarios.pop()), "not asked for"),
            (&|header| header.designs.truncate(1), "not asked for"),
        ] {
            let sentence = changed(change).unwrap_err();
            assert!(sentence.contains(words) && sentence.contains("--out"), "{words}: {sentence}");
        }
    }

    #[test]
    fn two_at_a_time_are_one_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let first = MatrixFolder::open(folder.path(), &header()).unwrap();
        let error = MatrixFolder::open(folder.path(), &header()).unwrap_err();
        assert!(matches!(error, FolderError::Busy { .. }), "{error}");
        drop(first);
        MatrixFolder::open(folder.path(), &header()).unwrap();
    }

    #[test]
    fn a_damaged_matrix_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(JSON), "{\"version\":").unwrap();
        let error = MatrixFolder::open(folder.path(), &header()).unwrap_err().to_string();
        assert!(error.contains(JSON) && error.contains("--out"), "{error}");
    }
}
