//! What a bisection needs of others: somebody who builds and storms, who keeps, who watches.

use super::came::{Came, Ran};
use super::folder::FolderError;
use super::history::Remaining;
use super::model::{Bisection, Commit, Step};
use super::rate::Plan;

/// A run to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// Its number at its commit, counted from 1.
    pub run: u32,
    /// Its seed.
    pub seed: u64,
    /// It goes on after a finding, to the last cycle: something else has come first before.
    pub all_cycles: bool,
}

/// What came of building a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Built {
    /// A kernel of this release.
    Kernel(String),
    /// It lies in the commit: it is skipped, for this reason.
    Unfit(String),
}

/// Builds commits and carries out runs.
pub trait Prober {
    /// Why it gave up: a signal, or a machine that would fail with any commit. The same command goes on where it was.
    type Failure;

    /// Builds the kernel of a commit, if it is not there.
    ///
    /// # Errors
    /// That it does not lie in the commit.
    fn build(&mut self, commit: &Commit) -> Result<Built, Self::Failure>;

    /// Carries out runs on the kernel that was built last, as long as the taker wants more.
    ///
    /// # Errors
    /// That not all of them came to an end. What did has been taken.
    fn storm(&mut self, commit: &Commit, errands: &[Errand], taker: &dyn Taker) -> Result<(), Self::Failure>;
}

/// Takes what comes of runs. From any thread.
pub trait Taker: Sync {
    /// A run has come to its end.
    fn ran(&self, ran: Ran);

    /// More of these runs are to be begun. Not once the commit is decided, nor where nothing can be kept of them, nor where it turned
    /// out that they are to be other ones.
    fn wants_more(&self) -> bool;
}

/// Keeps what is known, as it comes.
pub trait Keeper: Sync {
    /// Keeps all of it, and the log for `git bisect replay`.
    ///
    /// # Errors
    /// That it cannot be written.
    fn keep(&self, bisection: &Bisection, log: &str) -> Result<(), FolderError>;
}

/// Who watches. From any thread.
pub trait Watcher: Sync {
    /// The runs of this commit, or its build, come next; and how much is left, where that is known.
    fn begins(&self, bisection: &Bisection, step: &Step, remaining: Option<Remaining>);

    /// A run has ended.
    fn ran(&self, step: &Step, ran: &Ran, came: &Came);

    /// It is known how often the finding comes.
    fn planned(&self, bisection: &Bisection, plan: &Plan);

    /// A commit is decided.
    fn decided(&self, bisection: &Bisection, step: &Step);
}
