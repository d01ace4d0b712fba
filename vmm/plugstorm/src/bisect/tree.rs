//! The user's repository, and the two commits that a bisection lies between.

use std::path::{Path, PathBuf};

use super::error::TreeError;
use super::model::Commit;
use crate::git::{self, GitError};
use crate::kernels::SOURCE_MARKS;

/// Between the fields of a commit: no field has it.
const FIELDS: char = '\u{1f}';
const FORMAT: &str = "--format=%H%x1f%s%x1f%an%x1f%as";

/// The ends of a bisection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// The folder that the user gave, without symbolic links.
    pub tree: PathBuf,
    /// What git keeps of it: a `.git`, or the folder itself.
    pub repository: PathBuf,
    /// Where the finding is not.
    pub good: Commit,
    /// Where it is.
    pub bad: Commit,
}

/// Looks at a tree and two revisions. Nothing is changed there.
///
/// # Errors
/// [`TreeError`].
pub fn ends(tree: &Path, good: &str, bad: &str) -> Result<Ends, TreeError> {
    if !tree.is_dir() {
        return Err(TreeError::Missing { tree: tree.into() });
    }
    let is_none =
        |error: &GitError| matches!(error, GitError::Refused { said, .. } if said.contains("not a git repository"));
    let prefix = match git::ask(tree, &["rev-parse", "--show-prefix"]) {
        Ok(prefix) => prefix,
        Err(error) if is_none(&error) => return Err(TreeError::NoRepository { tree: tree.into() }),
        Err(error) => return Err(error.into()),
    };
    if !prefix.is_empty() {
        return Err(TreeError::NotTheTop { tree: tree.into(), folder: prefix.trim_end_matches('/').into() });
    }
    let repository = git::repository(tree)?;
    let tree = tree.canonicalize().map_err(|source| GitError::Io { source })?;
    let is_shallow = git::ask(&repository, &["rev-parse", "--is-shallow-repository"])? == "true";
    let commit = |revision: &str, end: &'static str| -> Result<Commit, TreeError> {
        let unknown = || TreeError::NoCommit { revision: revision.into(), end, tree: tree.clone(), is_shallow };
        let name = format!("{revision}^{{commit}}");
        // From the folder itself: `HEAD` is that of this working tree.
        match git::ask(&tree, &["rev-parse", "--verify", "--quiet", "--end-of-options", &name]) {
            Ok(id) => commits(&repository, &[id])?.into_iter().next().ok_or_else(unknown),
            Err(GitError::Refused { .. }) => Err(unknown()),
            Err(error) => Err(error.into()),
        }
    };
    let (good, bad) = (commit(good, "good")?, commit(bad, "bad")?);
    let (good_name, bad_name) = (good.short().to_owned(), bad.short().to_owned());
    if good == bad {
        return Err(TreeError::Same { commit: good_name });
    }
    let comes_before =
        |one: &Commit, other: &Commit| git::is_so(&repository, &["merge-base", "--is-ancestor", &one.id, &other.id]);
    if !comes_before(&good, &bad)? {
        return Err(match comes_before(&bad, &good)? {
            true => TreeError::Swapped { good: good_name, bad: bad_name },
            false => TreeError::NoAncestor { good: good_name, bad: bad_name, is_shallow },
        });
    }
    for commit in [&good, &bad] {
        let has = |mark: &str| git::ask(&repository, &["cat-file", "-e", &format!("{}:{mark}", commit.id)]).is_ok();
        if let Some(missing) = SOURCE_MARKS.into_iter().find(|mark| !has(mark)) {
            return Err(TreeError::NoKernel { commit: commit.short().into(), tree: tree.clone(), missing });
        }
    }
    Ok(Ends { tree, repository, good, bad })
}

/// What is known of commits, in the same order.
pub(super) fn commits(repository: &Path, ids: &[String]) -> Result<Vec<Commit>, GitError> {
    let mut args = vec!["log", "--no-walk=unsorted", FORMAT, "--end-of-options"];
    args.extend(ids.iter().map(String::as_str));
    let readable = |text: &str| -> String { text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect() };
    let of_line = |line: &str| {
        let mut fields = line.split(FIELDS);
        let (id, subject) = (fields.next()?, fields.next()?);
        let (author, date) = (fields.next()?, fields.next()?);
        Some(Commit { id: id.into(), subject: readable(subject), author: readable(author), date: readable(date) })
    };
    Ok(git::ask(repository, &args)?.lines().filter_map(of_line).collect())
}
