//! git, as a program: asked about a user's repository without changing anything there, and about a private one of ours.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use thiserror::Error;

use crate::child::BoundChild;

/// Variables that would have git look at another repository, index or set of objects than the one that is meant: a hook has
/// them, and whatever it starts (`git rev-parse --local-env-vars` lists them).
const NOT_OURS: [&str; 14] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CONFIG",
    "GIT_OBJECT_DIRECTORY",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_REPLACE_REF_BASE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
];
/// Whatever the user has set: no hooks, all files of a commit, and nothing beside an index of ours (a split one has its other half
/// in the user's repository).
const SETTINGS: [&str; 6] = [
    "core.hooksPath=/dev/null",
    "core.sparseCheckout=false",
    "core.fsmonitor=false",
    "core.splitIndex=false",
    "gc.auto=0",
    "log.showSignature=false",
];
/// How long a question to git may take: the history of a kernel on a cold disk takes it half a minute.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// An answer is read so far: a list of all commits of a kernel has a third of it.
const MOST_ANSWER_BYTES: u64 = 256 << 20;

/// Why git gave no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GitError {
    /// There is no git.
    #[error("git could not be run ({source}): install it (`apt-get install git`)")]
    Missing {
        /// The system's answer.
        source: io::Error,
    },
    /// Its output could not be taken.
    #[error("what git says cannot be read: {source}")]
    Io {
        /// The system's answer.
        source: io::Error,
    },
    /// It took too long, or something killed it.
    #[error("`git {what}` was ended ({status}): its repository may lie on a disk that does not answer")]
    Killed {
        /// What it was asked.
        what: String,
        /// How it ended.
        status: String,
    },
    /// It says no.
    #[error("`git {what}` failed: {said}")]
    Refused {
        /// What it was asked.
        what: String,
        /// Its words, on one line.
        said: String,
        /// Its exit code.
        code: i32,
    },
}

/// git in a folder, with the surroundings of a user but for what would point it elsewhere. It asks nobody anything, takes no
/// lock that it can do without, and runs nobody's hooks.
pub(crate) fn command(folder: &Path) -> Command {
    let mut git = Command::new("git");
    for variable in NOT_OURS {
        git.env_remove(variable);
    }
    git.current_dir(folder);
    git.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0").env("GIT_PAGER", "cat");
    for setting in SETTINGS {
        git.args(["-c", setting]);
    }
    git
}

/// What git answers, without the line's end.
pub(crate) fn ask(folder: &Path, args: &[&str]) -> Result<String, GitError> {
    let mut git = command(folder);
    git.args(args);
    let what = args.first().copied().unwrap_or_default();
    let Answer { code, out, err } = answer(git, what)?;
    if code != 0 {
        return Err(GitError::Refused { what: what.into(), said: one_line(&err), code });
    }
    Ok(out.trim_end_matches('\n').to_owned())
}

/// Whether it is so, for questions that git answers with its exit code: 0 and 1.
pub(crate) fn is_so(folder: &Path, args: &[&str]) -> Result<bool, GitError> {
    match ask(folder, args) {
        Ok(_) => Ok(true),
        Err(GitError::Refused { code: 1, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The repository that a folder is the top of: what `GIT_DIR` is to be for all of its working trees.
pub(crate) fn repository(folder: &Path) -> Result<PathBuf, GitError> {
    Ok(PathBuf::from(ask(folder, &["rev-parse", "--path-format=absolute", "--git-common-dir"])?))
}

struct Answer {
    code: i32,
    out: String,
    err: String,
}

fn answer(mut git: Command, what: &str) -> Result<Answer, GitError> {
    let io = |source| GitError::Io { source };
    // Files: whoever writes much into one of two pipes while the other is read waits for ever.
    let (mut out, mut err) = (tempfile::tempfile().map_err(io)?, tempfile::tempfile().map_err(io)?);
    git.stdin(Stdio::null()).stdout(out.try_clone().map_err(io)?).stderr(err.try_clone().map_err(io)?);
    let mut child = BoundChild::spawn(git).map_err(|source| GitError::Missing { source })?;
    let status = child.wait(LIMIT).map_err(io)?;
    let (out, err) = (read(&mut out).map_err(io)?, read(&mut err).map_err(io)?);
    match status.code() {
        Some(code) => Ok(Answer { code, out, err }),
        None => {
            let status = status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"));
            Err(GitError::Killed { what: what.into(), status })
        }
    }
}

fn read(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(MOST_ANSWER_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// git's words without their prefix and breaks.
fn one_line(said: &str) -> String {
    let lines = said.lines().map(|line| line.trim_start_matches("fatal: ").trim_start_matches("error: ").trim());
    let line = lines.filter(|line| !line.is_empty() && !line.starts_with("hint:")).collect::<Vec<_>>().join("; ");
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_refuses_and_is_not_misled() {
        let folder = tempfile::tempdir().unwrap();
        let error = repository(folder.path()).unwrap_err();
        assert!(matches!(error, GitError::Refused { .. }), "{error}");
        assert!(!error.to_string().contains('\n') && error.to_string().contains("not a git repository"), "{error}");
        ask(folder.path(), &["init", "-q"]).unwrap();
        let found = repository(folder.path()).unwrap();
        assert_eq!(found, folder.path().canonicalize().unwrap().join(".git"));
        assert!(!is_so(folder.path(), &["show-ref", "--verify", "--quiet", "refs/heads/none"]).unwrap());
        let all: Vec<_> =
            command(folder.path()).get_envs().map(|(name, value)| (name.to_owned(), value.is_none())).collect();
        assert!(NOT_OURS.iter().all(|name| all.contains(&((*name).into(), true))));
    }

    #[test]
    fn its_words_are_one_line() {
        let said = "error: no such\x1b thing\nhint: try another\nfatal: gone\n\n";
        assert_eq!(one_line(said), "no such  thing; gone");
    }
}
