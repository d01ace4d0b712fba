//! From folders to runs.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::results::{RESULT, RunResult, read_result};

/// A matrix has its runs four folders deep.
const MOST_DEPTH: usize = 8;
/// What their results may come to in bytes.
const MOST_BYTES: u64 = 1 << 30;
/// Runs of one report. A matrix with every design has a thousand for each ten runs a cell.
const MOST_RUNS: usize = 20_000;

/// A run that has left its results.
#[derive(Debug)]
pub struct Run {
    /// Its folder.
    pub folder: PathBuf,
    /// Its folder below the one that was asked for, or that one's own name.
    pub name: String,
    /// What came out.
    pub result: RunResult,
}

/// What there is to report on.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Runs in the order of their folders' names.
    pub runs: Vec<Run>,
    /// Results that are missing or could not be read, one sentence each.
    pub unread: Vec<String>,
    /// What was read.
    bytes: u64,
}

#[cfg(test)]
impl Gathered {
    /// These runs.
    pub(super) fn runs(runs: Vec<Run>) -> Self {
        Self { runs, ..Self::default() }
    }
}

/// Why there is nothing to report on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GatherError {
    /// A folder cannot be read.
    #[error("{} cannot be read: {source}; give the folder of a run, or one that holds such folders", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// There is no run in it.
    #[error(
        "there is no run in {}{}; give a folder that `plugstorm storm` or `matrix` has filled: each run's has a {RESULT}",
        path.display(),
        note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default()
    )]
    Nothing {
        /// The folder.
        path: PathBuf,
        /// What was there and could not be read.
        note: Option<String>,
    },
}

/// Finds the runs in these folders: each is a run's, or one that holds such folders, at most eight deep. One that is in two of
/// them counts once.
///
/// # Errors
/// [`GatherError`], of the first folder that there is nothing to report on in.
pub fn gather(folders: &[PathBuf]) -> Result<Gathered, GatherError> {
    let mut gathered = Gathered::default();
    for folder in folders {
        let (before, unread) = (gathered.runs.len(), gathered.unread.len());
        walk(folder, folder, 0, &mut gathered)?;
        if gathered.runs.len() == before {
            return Err(GatherError::Nothing { path: folder.clone(), note: gathered.unread.get(unread).cloned() });
        }
    }
    let mut seen = HashSet::new();
    gathered.runs.retain(|run| seen.insert(run.folder.canonicalize().unwrap_or_else(|_| run.folder.clone())));
    Ok(gathered)
}

/// The results of these runs' folders. `is_of_now` says whether what is in a folder is this run's.
pub(crate) fn of_folders<'a>(
    folders: impl IntoIterator<Item = &'a PathBuf>,
    is_of_now: impl Fn(&Path) -> bool,
) -> Gathered {
    let mut gathered = Gathered::default();
    for folder in folders {
        if folder.join(RESULT).is_file() && is_of_now(folder) {
            take(folder, folder, &mut gathered);
        } else {
            gathered.unread.push(format!("the run in {} was not begun, or left no result", folder.display()));
        }
    }
    gathered
}

fn walk(top: &Path, folder: &Path, depth: usize, gathered: &mut Gathered) -> Result<(), GatherError> {
    if folder.join(RESULT).is_file() {
        take(top, folder, gathered);
        // What is below is of runs that their machines did not survive (`lost-N`).
        return Ok(());
    }
    let mut below = match folders_in(folder) {
        Ok(below) => below,
        Err(source) if depth == 0 => return Err(GatherError::Unreadable { path: folder.to_path_buf(), source }),
        Err(error) => {
            gathered.unread.push(format!("{} cannot be read: {error}", folder.display()));
            return Ok(());
        }
    };
    if depth >= MOST_DEPTH {
        if !below.is_empty() {
            gathered.unread.push(format!("{}: what is deeper than this was not looked at", folder.display()));
        }
        return Ok(());
    }
    below.sort_by_cached_key(|name| natural(&name.to_string_lossy()));
    for name in below {
        if gathered.runs.len() >= MOST_RUNS || gathered.bytes >= MOST_BYTES {
            let note = format!(
                "there is more than is reported on at a time: only the first {} runs were read",
                gathered.runs.len()
            );
            if !gathered.unread.contains(&note) {
                gathered.unread.push(note);
            }
            break;
        }
        walk(top, &folder.join(name), depth + 1, gathered)?;
    }
    Ok(())
}

fn folders_in(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut below = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Not through symbolic links: they may lead back.
        if entry.file_type()?.is_dir() {
            below.push(entry.file_name());
        }
    }
    Ok(below)
}

fn take(top: &Path, folder: &Path, gathered: &mut Gathered) {
    let file = folder.join(RESULT);
    gathered.bytes = gathered.bytes.saturating_add(fs::metadata(&file).map_or(0, |facts| facts.len()));
    match read_result(&file) {
        Ok(result) => {
            let below = folder.strip_prefix(top).unwrap_or(folder);
            let name = match below.as_os_str().is_empty() {
                true => folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned(),
                false => below.display().to_string(),
            };
            gathered.runs.push(Run { folder: folder.to_path_buf(), name, result });
        }
        Err(reason) => gathered.unread.push(format!("{} cannot be read: {reason}", file.display())),
    }
}

/// A key by which run-2 comes before run-10.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(digits);
        let end = after.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(after.len());
        let (number, after) = after.split_at(end);
        parts.push((word.to_owned(), number.parse().unwrap_or(u64::MAX)));
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn put(folder: &Path, result: &RunResult) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(RESULT), serde_json::to_vec(result).unwrap()).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        gather(&[folder.to_path_buf()]).unwrap().runs.into_iter().map(|run| run.name).collect()
    }

    #[test]
    fn runs_are_found_in_order_wherever_they_are() {
        let top = tempfile::tempdir().unwrap();
        for name in ["cells/a/x/run-10", "cells/a/x/run-2", "cells/a/w/run-1", "cells/a/w/run-1/lost-1"] {
            put(&top.path().join(name), &sample::clean());
        }
        fs::create_dir(top.path().join("scenarios")).unwrap();
        std::os::unix::fs::symlink(top.path(), top.path().join("cells/loop")).unwrap();
        assert_eq!(names(top.path()), ["cells/a/w/run-1", "cells/a/x/run-2", "cells/a/x/run-10"]);
        let run = top.path().join("cells/a/x/run-2");
        assert_eq!(names(&run), ["run-2"]);
        // A rate must not rest on one run twice.
        let twice = gather(&[top.path().to_path_buf(), run, top.path().join("cells/../cells")]).unwrap();
        assert_eq!(twice.runs.len(), 3);
    }

    #[test]
    fn what_cannot_be_read_is_told_and_the_others_are_reported_on() {
        let top = tempfile::tempdir().unwrap();
        put(&top.path().join("good"), &sample::clean());
        put(&top.path().join("later"), &RunResult { version: 2, ..sample::clean() });
        fs::create_dir(top.path().join("cut")).unwrap();
        fs::write(top.path().join("cut").join(RESULT), "{\"version\":1,").unwrap();
        let gathered = gather(&[top.path().to_path_buf()]).unwrap();
        assert_eq!((gathered.runs.len(), gathered.unread.len()), (1, 2), "{:?}", gathered.unread);
        assert!(gathered.unread[1].contains("version 2"), "{:?}", gathered.unread);
    }

    #[test]
    fn nothing_to_report_on_is_an_error_that_says_what_to_give() {
        let top = tempfile::tempdir().unwrap();
        let error = |path: PathBuf| gather(&[path]).unwrap_err().to_string();
        assert!(error(top.path().into()).contains("there is no run in"));
        assert!(error(top.path().join("none")).contains("cannot be read"));
        fs::write(top.path().join(RESULT), "x").unwrap();
        assert!(error(top.path().into()).contains("expected value"));
    }

    #[test]
    fn numbers_in_names_count() {
        let mut names = ["run-10", "run-9", "run", "b", "run-9-b", "10", "9"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["9", "10", "b", "run", "run-9", "run-9-b", "run-10"]);
    }
}
