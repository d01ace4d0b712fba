//! Real repositories of git's.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::driven::{Memory, Nobody, ran};
use super::*;
use crate::git;

pub(super) struct Repository {
    folder: tempfile::TempDir,
}

impl Repository {
    /// With one commit, whose tree looks like a kernel's.
    fn new() -> Self {
        let repository = Self { folder: tempfile::tempdir().unwrap() };
        repository.git(&["init", "-q", "-b", "main"]);
        for (name, value) in [("user.name", "A. Author"), ("user.email", "a@example.org")] {
            repository.git(&["config", name, value]);
        }
        for folder in ["scripts/kconfig", "arch/x86"] {
            fs::create_dir_all(repository.path().join(folder)).unwrap();
            fs::write(repository.path().join(folder).join("Makefile"), "").unwrap();
        }
        for file in ["Makefile", "Kconfig"] {
            fs::write(repository.path().join(file), "").unwrap();
        }
        repository.git(&["add", "."]);
        repository.commit("base");
        repository
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn git(&self, args: &[&str]) -> String {
        git::ask(self.path(), args).unwrap()
    }

    fn commit(&self, subject: &str) -> String {
        fs::write(self.path().join("file"), subject).unwrap();
        self.git(&["add", "file"]);
        self.git(&["commit", "-q", "-m", subject]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn ends(&self, good: &str, bad: &str) -> Result<Ends, TreeError> {
        ends(self.path(), good, bad)
    }

    /// All that a bisection must leave as it is.
    fn state(&self) -> (String, Vec<u8>, String, BTreeSet<PathBuf>) {
        let mut files = BTreeSet::new();
        let mut folders = vec![self.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                }
                files.insert(entry.path());
            }
        }
        let status = self.git(&["status", "--porcelain", "--branch"]);
        (status, fs::read(self.path().join(".git/index")).unwrap(), self.git(&["for-each-ref"]), files)
    }
}

/// Knows which commits have the planted one among their ancestors.
struct Descent<'a> {
    repository: &'a Repository,
    planted: String,
    broken: Vec<String>,
}

impl Prober for Descent<'_> {
    type Failure = ();

    fn build(&mut self, commit: &Commit) -> Result<Built, ()> {
        let is_broken = self.broken.contains(&commit.id);
        Ok(if is_broken { Built::Unfit("it does not compile".into()) } else { Built::Kernel("x".into()) })
    }

    fn storm(&mut self, commit: &Commit, errands: &[Errand], taker: &dyn Taker) -> Result<(), ()> {
        let bad =
            git::is_so(self.repository.path(), &["merge-base", "--is-ancestor", &self.planted, &commit.id]).unwrap();
        for errand in errands {
            if taker.wants_more() {
                taker.ran(if bad { ran(errand, 0, &["it hangs"], None) } else { ran(errand, 3, &[], None) });
            }
        }
        Ok(())
    }
}

fn found(repository: &Repository, good: &str, bad: &str, planted: &str, broken: &[&str]) -> (Bisection, String) {
    let before = repository.state();
    let ends = repository.ends(good, bad).unwrap();
    let place = tempfile::tempdir().unwrap();
    let place = place.path().join("git");
    let mut bisection = Bisection::new(header(), ends.good.clone(), ends.bad.clone());
    let mut history = GitHistory::begin(&place, &ends).unwrap();
    let broken = broken.iter().map(|&id| id.to_owned()).collect();
    let mut prober = Descent { repository, planted: planted.into(), broken };
    drive(&mut bisection, &mut history, &mut prober, &Memory::default(), &Nobody).unwrap();
    let log = history.log().unwrap();
    drop(history);
    assert!(!place.exists());
    assert_eq!(repository.state(), before);
    (bisection, log)
}

#[test]
fn a_line_of_commits_with_one_that_does_not_compile() {
    let repository = Repository::new();
    let ids: Vec<String> = (0..12).map(|number| repository.commit(&format!("change {number}"))).collect();
    // Work in hand, which nobody is to touch.
    fs::write(repository.path().join("file"), "half done").unwrap();
    fs::write(repository.path().join("staged"), "x").unwrap();
    repository.git(&["add", "staged"]);
    let (bisection, log) = found(&repository, "HEAD~12", "HEAD", &ids[7], &[&ids[5]]);
    let Some(Outcome::First(first)) = &bisection.outcome else { panic!("{bisection:?}") };
    assert_eq!((&first.id, first.subject.as_str(), first.author.as_str()), (&ids[7], "change 7", "A. Author"));
    let skipped: Vec<_> =
        bisection.steps.iter().filter(|step| matches!(step.verdict, Some(Verdict::Skipped { .. }))).collect();
    assert!(skipped.len() == 1 && skipped[0].commit.id == ids[5], "{skipped:?}");
    // The log says the same to git.
    let copy = tempfile::tempdir().unwrap();
    git::ask(repository.path(), &["clone", "-q", ".", copy.path().to_str().unwrap()]).unwrap();
    let file = copy.path().join("bisect.log");
    fs::write(&file, &log).unwrap();
    let replayed = git::ask(copy.path(), &["bisect", "replay", file.to_str().unwrap()]).unwrap();
    assert!(replayed.contains(&format!("{} is the first bad commit", ids[7])), "{replayed}");
}

#[test]
fn a_history_with_merges() {
    let repository = Repository::new();
    let base = repository.git(&["rev-parse", "HEAD"]);
    for number in 0..4 {
        repository.commit(&format!("main {number}"));
    }
    repository.git(&["checkout", "-q", "-b", "side", &base]);
    let side: Vec<String> = (0..5)
        .map(|number| {
            repository.git(&["commit", "-q", "--allow-empty", "-m", &format!("side {number}")]);
            repository.git(&["rev-parse", "HEAD"])
        })
        .collect();
    repository.git(&["checkout", "-q", "main"]);
    repository.git(&["merge", "-q", "--no-ff", "-m", "merge side", "side"]);
    for number in 4..8 {
        repository.commit(&format!("main {number}"));
    }
    for planted in &side {
        let (bisection, _) = found(&repository, &base, "main", planted, &[]);
        assert!(matches!(&bisection.outcome, Some(Outcome::First(first)) if first.id == *planted), "{bisection:?}");
    }
}

#[test]
fn neighbours_and_skips_around_the_planted_one() {
    let repository = Repository::new();
    let ids: Vec<String> = (0..6).map(|number| repository.commit(&format!("change {number}"))).collect();
    let (bisection, _) = found(&repository, &ids[4], &ids[5], &ids[5], &[]);
    assert!(bisection.steps.is_empty());
    assert!(matches!(&bisection.outcome, Some(Outcome::First(first)) if first.id == ids[5]));
    let (bisection, log) = found(&repository, &ids[0], &ids[5], &ids[3], &[&ids[2], &ids[3], &ids[4]]);
    let Some(Outcome::Candidates(candidates)) = &bisection.outcome else { panic!("{bisection:?}") };
    let names: BTreeSet<&str> = candidates.iter().map(|commit| commit.id.as_str()).collect();
    assert_eq!(names, ids[2..].iter().map(String::as_str).collect());
    assert_eq!(log.matches("git bisect skip").count(), 3, "{log}");
}

#[test]
fn what_was_marked_before_a_signal_is_marked_again() {
    let repository = Repository::new();
    let ids: Vec<String> = (0..20).map(|number| repository.commit(&format!("change {number}"))).collect();
    let ends = repository.ends("HEAD~20", "HEAD").unwrap();
    let place = tempfile::tempdir().unwrap();
    // What a process that was killed has left.
    fs::create_dir_all(place.path().join("git/refs")).unwrap();
    let begin = || GitHistory::begin(&place.path().join("git"), &ends).unwrap();
    let (mut first, mut verdicts) = (begin(), Vec::new());
    for _ in 0..3 {
        let (Next::Test(commit), remaining) = first.next().unwrap() else { panic!("there are more") };
        assert!(remaining.commits > 1 && remaining.steps > 0, "{remaining:?}");
        let index = ids.iter().position(|id| *id == commit.id).unwrap();
        let verdict = if index >= 11 { Verdict::Bad } else { Verdict::Good };
        first.mark(&commit, &verdict).unwrap();
        verdicts.push((commit, verdict));
    }
    let next = first.next().unwrap();
    drop(first);
    let mut again = begin();
    for (commit, verdict) in &verdicts {
        again.mark(commit, verdict).unwrap();
    }
    assert_eq!(again.next().unwrap(), next);
}

#[test]
fn trees_and_revisions_that_will_not_do() {
    let repository = Repository::new();
    let one = repository.commit("one");
    repository.commit("two");
    repository.git(&["checkout", "-q", "-b", "other", &one]);
    repository.commit("three");
    let refused = |good: &str, bad: &str| repository.ends(good, bad).unwrap_err().to_string();
    assert!(refused("v6.99", "main").starts_with("\"v6.99\" (--good) names no commit"));
    assert!(refused("main", "--all").starts_with("\"--all\" (--bad) names no commit"));
    assert!(refused("main", "main").contains("the same commit"));
    assert!(refused("main", &one).contains("wrong way round"));
    assert!(refused("main", "other").contains("is no ancestor of the bad one"));
    let nothing = tempfile::tempdir().unwrap();
    let at = |path: &Path| ends(path, "a", "b").unwrap_err().to_string();
    assert!(at(nothing.path()).contains("is not a git repository"));
    assert!(at(&nothing.path().join("none")).contains("there is no folder"));
    let below = at(&repository.path().join("arch"));
    assert!(below.contains("not the top of a git repository but its folder arch"), "{below}");
    // One that is cut off.
    let shallow = nothing.path().join("shallow");
    let url = format!("file://{}", repository.path().display());
    git::ask(nothing.path(), &["clone", "-q", "--depth", "1", "--branch", "main", &url, "shallow"]).unwrap();
    let sentence = ends(&shallow, &one, "main").unwrap_err().to_string();
    assert!(sentence.contains("names no commit") && sentence.contains("git fetch --unshallow"), "{sentence}");
    // Something else's.
    let other = tempfile::tempdir().unwrap();
    for args in [
        &["init", "-q"][..],
        &["-c", "user.name=a", "-c", "user.email=a", "commit", "-q", "--allow-empty", "-m", "1"],
        &["-c", "user.name=a", "-c", "user.email=a", "commit", "-q", "--allow-empty", "-m", "2"],
    ] {
        git::ask(other.path(), args).unwrap();
    }
    let sentence = ends(other.path(), "HEAD~1", "HEAD").unwrap_err().to_string();
    assert!(sentence.contains("is not a kernel's source: it has no Makefile"), "{sentence}");
}

#[test]
fn working_trees_bare_and_shallow_repositories_are_as_good() {
    let repository = Repository::new();
    let ids: Vec<String> = (0..5).map(|number| repository.commit(&format!("change {number}"))).collect();
    let elsewhere = tempfile::tempdir().unwrap();
    let path = |name: &str| elsewhere.path().join(name);
    repository.git(&["worktree", "add", "-q", "--detach", path("linked").to_str().unwrap(), &ids[3]]);
    let url = format!("file://{}", repository.path().display());
    git::ask(elsewhere.path(), &["clone", "-q", "--bare", &url, "bare"]).unwrap();
    git::ask(elsewhere.path(), &["clone", "-q", "--depth", "5", &url, "shallow"]).unwrap();
    for (name, bad) in [("linked", 3), ("bare", 4), ("shallow", 4)] {
        let ends = ends(&path(name), &ids[0], "HEAD").unwrap();
        assert_eq!((&ends.bad.id, &ends.good.id), (&ids[bad], &ids[0]), "{name}");
        let mut history = GitHistory::begin(&path("git"), &ends).unwrap();
        let (Next::Test(commit), _) = history.next().unwrap() else { panic!("{name}") };
        assert!(ids[1..bad].contains(&commit.id), "{name}");
    }
}
