//! A commit of a git repository as a kernel's source. Nothing of the repository is written to: neither its working tree nor its
//! index nor its refs.

use std::path::{Path, PathBuf};

use super::{BuildError, Watch};
use crate::git;
use crate::kernels::manifest::PackageFile;

/// A commit.
#[derive(Debug)]
pub(super) struct Commit {
    repository: PathBuf,
    commit: String,
}

impl Commit {
    pub(super) fn new(repository: &Path, commit: &str) -> Self {
        Self { repository: repository.into(), commit: commit.into() }
    }

    /// What is in it, by git's own digest: commits with the same files are one source.
    pub(super) fn look(&self) -> Result<PackageFile, BuildError> {
        let tree = format!("{}^{{tree}}", self.commit);
        let digest = git::ask(&self.repository, &["rev-parse", "--verify", "--end-of-options", &tree])?;
        let short = self.commit.get(..12).unwrap_or(&self.commit);
        Ok(PackageFile { file: format!("{}, commit {short}", self.repository.display()), sha256: digest })
    }

    /// Puts its files to `into`, a folder that is there and empty, by an index of our own at `index`, which is removed.
    pub(super) fn check_out(&self, into: &Path, index: &Path, watch: &mut Watch<'_>) -> Result<(), BuildError> {
        for args in [&["read-tree", &self.commit][..], &["checkout-index", "--all", "--force", "--quiet"]] {
            let mut git = git::command(into);
            // As many at a time as there are CPUs.
            git.args(["-c", "checkout.workers=0"]).args(args);
            git.env("GIT_DIR", &self.repository).env("GIT_WORK_TREE", into).env("GIT_INDEX_FILE", index);
            watch.run("checking the commit out", &git, |_| None)?;
        }
        std::fs::remove_file(index).map_err(BuildError::io("cannot remove", index))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn a_commit_is_checked_out_beside_the_repository() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let git = |args: &[&str]| git::ask(&tree, args).unwrap();
        git(&["init", "-q"]);
        for (name, value) in [("user.name", "a"), ("user.email", "a@example.org")] {
            git(&["config", name, value]);
        }
        fs::write(tree.join("Makefile"), "all:\n").unwrap();
        fs::create_dir(tree.join("lib")).unwrap();
        fs::write(tree.join("lib/a.c"), "int a;\n").unwrap();
        git(&["add", "."]);
        git(&["commit", "-q", "-m", "one"]);
        let first = git(&["rev-parse", "HEAD"]);
        fs::write(tree.join("lib/a.c"), "int b;\n").unwrap();
        git(&["commit", "-q", "-a", "-m", "two"]);
        git(&["commit", "-q", "--allow-empty", "-m", "three"]);
        // What is neither committed nor staged, and what is staged.
        fs::write(tree.join("lib/a.c"), "unfinished\n").unwrap();
        fs::write(tree.join("new"), "new\n").unwrap();
        git(&["add", "new"]);
        let before = (git(&["status", "--porcelain"]), fs::read(tree.join(".git/index")).unwrap());
        let repository = git::repository(&tree).unwrap();
        let (into, index) = (folder.path().join("into"), folder.path().join("index"));
        fs::create_dir(&into).unwrap();
        let commit = Commit::new(&repository, &first);
        let interrupt = AtomicBool::new(false);
        commit.check_out(&into, &index, &mut Watch::new(folder.path(), &interrupt, &mut |_| ())).unwrap();
        assert_eq!(fs::read_to_string(into.join("lib/a.c")).unwrap(), "int a;\n");
        assert!(into.join("Makefile").exists() && !into.join("new").exists() && !into.join(".git").exists());
        assert!(!index.exists());
        assert_eq!(before, (git(&["status", "--porcelain"]), fs::read(tree.join(".git/index")).unwrap()));
        // By what they have: an empty commit is the same source.
        let look = |name: &str| Commit::new(&repository, &git(&["rev-parse", name])).look().unwrap().sha256;
        assert_eq!(look("HEAD"), look("HEAD~1"));
        assert_ne!(look("HEAD"), look("HEAD~2"));
        assert!(Commit::new(&repository, "no-such-commit").look().is_err());
    }
}
