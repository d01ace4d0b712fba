//! Which commit comes next. That is git's affair, with all that histories have: merges, skips, and what is both.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::model::{Commit, Verdict};
use super::tree::{Ends, commits};
use crate::git::{self, GitError};

/// Candidates that are told, where only skipped commits are left.
const MOST_CANDIDATES: usize = 200;
/// `git bisect` ends so where nothing but skipped commits is left.
const ONLY_SKIPPED: i32 = 2;

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This commit is to be tried.
    Test(Commit),
    /// This is the first bad one.
    First(Commit),
    /// One of these is; all but one were skipped.
    Candidates(Vec<Commit>),
}

/// How much is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Commits that may be the first bad one.
    pub commits: u32,
    /// About how many have to be tried.
    pub steps: u32,
}

/// A history between a good and a bad commit, and what is known of it.
pub trait History {
    /// What is to be done next, and how much is left.
    ///
    /// # Errors
    /// git's.
    fn next(&mut self) -> Result<(Next, Remaining), GitError>;

    /// A commit is good, bad, or to be skipped.
    ///
    /// # Errors
    /// git's.
    fn mark(&mut self, commit: &Commit, verdict: &Verdict) -> Result<(), GitError>;

    /// All that was marked, for `git bisect replay`.
    ///
    /// # Errors
    /// git's.
    fn log(&mut self) -> Result<String, GitError>;
}

/// `git bisect` in a private bare repository, which borrows the objects of the user's: what it notes and which commit it is at
/// is nowhere in the user's. Removed when dropped.
#[derive(Debug)]
pub struct GitHistory {
    place: PathBuf,
    skipped: HashSet<String>,
    tried: HashSet<String>,
}

impl GitHistory {
    /// Begins in the folder `place`, which is ours: what an earlier process has left of it is removed.
    ///
    /// # Errors
    /// git's, or that the folder cannot be written.
    pub fn begin(place: &Path, ends: &Ends) -> Result<Self, GitError> {
        let io = |source| GitError::Io { source };
        if place.exists() {
            fs::remove_dir_all(place).map_err(io)?;
        }
        fs::create_dir(place).map_err(io)?;
        let history = Self { place: place.to_path_buf(), skipped: HashSet::new(), tried: HashSet::new() };
        let theirs = |args: &[&str]| git::ask(&ends.repository, args);
        let format = theirs(&["rev-parse", "--show-object-format"])?;
        let objects = theirs(&["rev-parse", "--path-format=absolute", "--git-path", "objects"])?;
        history.ask(&["init", "--quiet", "--bare", "--template=", &format!("--object-format={format}"), "."])?;
        let info = place.join("objects/info");
        fs::create_dir_all(&info).map_err(io)?;
        fs::write(info.join("alternates"), format!("{objects}\n")).map_err(io)?;
        // Where a clone was cut off there are no parents, though its commits name some.
        let shallow = theirs(&["rev-parse", "--path-format=absolute", "--git-path", "shallow"])?;
        if Path::new(&shallow).exists() {
            fs::copy(shallow, place.join("shallow")).map_err(io)?;
        }
        // `git bisect` wants to know where it came from.
        history.ask(&["update-ref", "--no-deref", "HEAD", &ends.bad.id])?;
        history.ask(&["bisect", "start", &ends.bad.id, &ends.good.id])?;
        Ok(history)
    }

    fn ask(&self, args: &[&str]) -> Result<String, GitError> {
        git::ask(&self.place, args)
    }

    fn candidates(&self) -> Result<Vec<String>, GitError> {
        let list = self.ask(&["rev-list", "refs/bisect/bad", "--not", "--glob=refs/bisect/good-*"])?;
        Ok(list.lines().map(str::to_owned).collect())
    }

    fn remaining(&self, commits: usize) -> Result<Remaining, GitError> {
        let vars = self.ask(&["rev-list", "--bisect-vars", "refs/bisect/bad", "--not", "--glob=refs/bisect/good-*"])?;
        let steps = vars.lines().find_map(|line| line.strip_prefix("bisect_steps=")?.parse().ok());
        Ok(Remaining { commits: u32::try_from(commits).unwrap_or(u32::MAX), steps: steps.unwrap_or(0) })
    }
}

impl History for GitHistory {
    fn next(&mut self) -> Result<(Next, Remaining), GitError> {
        let candidates = self.candidates()?;
        let about = |ids: &[String]| commits(&self.place, ids);
        let one = |id: &String| -> Result<Commit, GitError> {
            let gone = || GitError::Refused { what: "log".into(), said: format!("nothing is known of {id}"), code: 0 };
            about(std::slice::from_ref(id))?.into_iter().next().ok_or_else(gone)
        };
        if let [first] = candidates.as_slice() {
            return Ok((Next::First(one(first)?), Remaining::default()));
        }
        let bad = self.ask(&["rev-parse", "--verify", "refs/bisect/bad"])?;
        if candidates.iter().all(|id| *id == bad || self.skipped.contains(id)) {
            let told = candidates.get(..MOST_CANDIDATES).unwrap_or(&candidates);
            return Ok((Next::Candidates(about(told)?), Remaining::default()));
        }
        let next = self.ask(&["rev-parse", "--verify", "BISECT_HEAD"])?;
        if self.tried.contains(&next) {
            // It would go on for ever.
            let said = format!("it wants {next} to be tried again");
            return Err(GitError::Refused { what: "bisect".into(), said, code: 0 });
        }
        Ok((Next::Test(one(&next)?), self.remaining(candidates.len())?))
    }

    fn mark(&mut self, commit: &Commit, verdict: &Verdict) -> Result<(), GitError> {
        self.tried.insert(commit.id.clone());
        if matches!(verdict, Verdict::Skipped { .. }) {
            self.skipped.insert(commit.id.clone());
        }
        match self.ask(&["bisect", verdict.term(), &commit.id]) {
            Ok(_) | Err(GitError::Refused { code: ONLY_SKIPPED, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn log(&mut self) -> Result<String, GitError> {
        Ok(self.ask(&["bisect", "log"])? + "\n")
    }
}

impl Drop for GitHistory {
    fn drop(&mut self) {
        // Whoever goes on with the bisection sweeps what is left of it.
        let _ = fs::remove_dir_all(&self.place);
    }
}
