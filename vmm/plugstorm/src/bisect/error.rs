//! Why a bisection cannot be.

use std::path::PathBuf;

use thiserror::Error;

use super::model::Commit;
use super::rate::MOST_RUNS;
use crate::git::GitError;

/// Why a tree and two revisions are none to bisect. One sentence.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TreeError {
    /// There is no such folder.
    #[error("there is no folder {}: give the git tree of the kernel to --tree", tree.display())]
    Missing {
        /// As it was given.
        tree: PathBuf,
    },
    /// It is in no repository.
    #[error("{} is not a git repository: a bisection needs the history (`git clone`), not an unpacked release", tree.display())]
    NoRepository {
        /// As it was given.
        tree: PathBuf,
    },
    /// It is a folder in one.
    #[error("{} is not the top of a git repository but its folder {folder}: give the top to --tree", tree.display())]
    NotTheTop {
        /// As it was given.
        tree: PathBuf,
        /// Within the repository.
        folder: String,
    },
    /// A revision is none.
    #[error("{revision:?} (--{end}) names no commit of {}{}", tree.display(), shallow(*is_shallow))]
    NoCommit {
        /// As it was given.
        revision: String,
        /// `good` or `bad`.
        end: &'static str,
        /// Where.
        tree: PathBuf,
        /// The clone has not all of the history.
        is_shallow: bool,
    },
    /// Both are one.
    #[error("--good and --bad are the same commit, {commit}: there is nothing between them")]
    Same {
        /// Which.
        commit: String,
    },
    /// They are the wrong way round.
    #[error(
        "the bad commit {bad} comes before the good one {good}: were they given the wrong way round? A bisection finds what broke, not what mended"
    )]
    Swapped {
        /// The good one.
        good: String,
        /// The bad one.
        bad: String,
    },
    /// Neither comes before the other.
    #[error(
        "the good commit {good} is no ancestor of the bad one {bad}: give one that is, such as `git merge-base {good} {bad}`{}",
        shallow(*is_shallow)
    )]
    NoAncestor {
        /// The good one.
        good: String,
        /// The bad one.
        bad: String,
        /// The clone has not all of the history.
        is_shallow: bool,
    },
    /// It is something else's.
    #[error("the commit {commit} of {} is not a kernel's source: it has no {missing}", tree.display())]
    NoKernel {
        /// Which.
        commit: String,
        /// Where.
        tree: PathBuf,
        /// What it lacks.
        missing: &'static str,
    },
    /// git's own answer.
    #[error(transparent)]
    Git(#[from] GitError),
}

fn shallow(is_shallow: bool) -> &'static str {
    if is_shallow { "; this clone is shallow, and `git fetch --unshallow` brings the rest of its history" } else { "" }
}

/// Why two commits that were tried are no ends of a bisection. One sentence.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum Unfit {
    /// One of them is no kernel that can be run.
    #[error("the {end} commit {} cannot be built and loaded: {reason}", commit.short())]
    NotBuilt {
        /// `good` or `bad`.
        end: &'static str,
        /// Which.
        commit: Commit,
        /// Why.
        reason: String,
    },
    /// Of one of them nothing can be said.
    #[error("nothing can be said of the {end} commit {}: {nothing} of its runs prove nothing, the last because {reason}", commit.short())]
    ProvesNothing {
        /// `good` or `bad`.
        end: &'static str,
        /// Which.
        commit: Commit,
        /// Runs that prove nothing.
        nothing: u32,
        /// Why the last does not.
        reason: String,
    },
    /// The finding does not come.
    #[error(
        "the bad commit {} shows {} in none of {runs} runs{others}: more --cycles or --runs may bring it about, or another configuration",
        commit.short(), target.as_ref().map_or_else(|| "a finding".to_owned(), |target| format!("{target:?}"))
    )]
    NeverSeen {
        /// Which.
        commit: Commit,
        /// What was looked for; none if it was anything.
        target: Option<String>,
        /// Runs.
        runs: u32,
        /// What was found instead, as the end of a clause.
        others: String,
    },
    /// It comes too seldom.
    #[error(
        "the bad commit {} shows it in {hits} of {runs} runs only, so that {needed:.0} runs without it would be needed for a good \
         commit, and {MOST_RUNS} are the most: give a run more --cycles, or more --runs, for a rate that is better known", commit.short()
    )]
    TooRare {
        /// Which.
        commit: Commit,
        /// Runs that met it.
        hits: u32,
        /// Of so many.
        runs: u32,
        /// What a good commit would need.
        needed: f64,
    },
    /// The good one is not.
    #[error(
        "the good commit {} is bad already: its run {run} (seed {seed}) met {title:?} in cycle {cycle}; give an older one to --good",
        commit.short()
    )]
    GoodIsBad {
        /// Which.
        commit: Commit,
        /// In which run.
        run: u32,
        /// With which seed.
        seed: u64,
        /// What it met.
        title: String,
        /// When.
        cycle: u32,
    },
}
