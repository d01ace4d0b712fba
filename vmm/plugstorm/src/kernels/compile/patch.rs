//! Applies patches to a private copy of a source tree, each in a dry run first.

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::mail::{self, Mail};
use super::{BuildError, KernelSource, Watch, own_patches};

/// A patch file, or one of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Series {
    /// What to call it.
    pub(super) name: String,
    /// Its content, for the key.
    pub(super) content: Vec<u8>,
    mails: Vec<Mail>,
    /// One of ours on a source that it was not made for: where it is not wanted or does not apply, that is told, and no error.
    pub(super) is_optional: bool,
    /// What in a source asks for it. One without goes to each that it fits.
    cause: Option<Cause>,
}

/// What a patch of ours is about: it does no good in a tree without that. In the patch's text, as `Against: FILE: TEXT`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cause {
    /// A file of the source.
    file: String,
    /// What is in it.
    text: String,
}

impl Cause {
    fn find(patch: &str) -> Option<Self> {
        let line = patch.lines().find_map(|line| line.strip_prefix("Against: "))?;
        let (file, text) = line.split_once(": ")?;
        Some(Self { file: file.into(), text: text.into() })
    }

    fn is_in(&self, folder: &Path) -> Result<bool, BuildError> {
        let path = folder.join(&self.file);
        match fs::read(&path) {
            Ok(content) => Ok(String::from_utf8_lossy(&content).contains(&self.text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(BuildError::io("cannot read", &path)(error)),
        }
    }
}

impl Series {
    /// Reads a patch file.
    pub(super) fn load(path: &Path) -> Result<Self, BuildError> {
        let content =
            fs::read(path).map_err(|source| BuildError::PatchUnreadable { path: path.to_path_buf(), source })?;
        Self::parse(&path.display().to_string(), content)
    }

    /// Ours for a source. The names of those for a series of Debian's begin with it; a tree of the user's gets all that have their
    /// cause in it and fit it, for who bisects or tests such a tree is after something else.
    pub(super) fn fixups(source: &KernelSource) -> Result<Vec<Self>, BuildError> {
        let is_for = |name: &str| match source {
            KernelSource::Debian { series } => name.strip_prefix(series).is_some_and(|rest| rest.starts_with('-')),
            KernelSource::Folder(_) | KernelSource::Commit { .. } => true,
        };
        let ours = own_patches().filter(|(name, _)| is_for(name));
        let parsed = ours.map(|(name, text)| Self::parse(&name, text.as_bytes().to_vec()));
        let is_optional = !matches!(source, KernelSource::Debian { .. });
        parsed.map(|series| Ok(Self { is_optional, ..series? })).collect()
    }

    fn parse(name: &str, content: Vec<u8>) -> Result<Self, BuildError> {
        let mails = mail::split(&content)
            .map_err(|unfit| BuildError::PatchUnfit { place: format!("the patch {name}"), problem: unfit.problem() })?;
        let cause = Cause::find(&String::from_utf8_lossy(&content));
        Ok(Self { name: name.into(), content, mails, is_optional: false, cause })
    }

    /// What its first patch says that it is for, after its name.
    pub(super) fn title(&self) -> String {
        let subject = self.mails.first().and_then(|mail| mail.subject.as_ref());
        let subject = subject.map(|subject| format!(" ({subject:?})")).unwrap_or_default();
        format!("{}{subject}", self.name)
    }

    /// How many patches it has.
    pub(super) fn len(&self) -> usize {
        self.mails.len()
    }

    /// Why one of ours is left out of the tree at `folder`, which is called `source_name`: a clause. Changes nothing in it.
    pub(super) fn left_out(&self, folder: &Path, source_name: &str) -> Result<Option<String>, BuildError> {
        if !self.is_optional {
            return Ok(None);
        }
        if let Some(cause) = &self.cause
            && !cause.is_in(folder)?
        {
            let Cause { file, text } = cause;
            return Ok(Some(format!("{source_name} has no `{text}` in {file}, which it is against")));
        }
        for mail in &self.mails {
            if let Err(said) = patch(folder, &mail.text, true)? {
                return Ok(Some(if said.contains("previously applied") {
                    format!("{source_name} has it already")
                } else {
                    format!("it does not fit {source_name}: {}", rejected(&said).join("; "))
                }));
            }
        }
        Ok(None)
    }

    /// Applies all of it to the tree at `folder`, which is called `source_name`. Where one does not apply, those before it
    /// stay: the tree is one to throw away.
    pub(super) fn apply(&self, folder: &Path, source_name: &str, watch: &mut Watch<'_>) -> Result<(), BuildError> {
        for (index, mail) in self.mails.iter().enumerate() {
            watch.check()?;
            let place = self.place(index, mail);
            for dry in [true, false] {
                let said = patch(folder, &mail.text, dry)?;
                if let Err(said) = said {
                    let rejected = rejected(&said);
                    return Err(BuildError::PatchRejected { place, source_name: source_name.into(), rejected });
                }
            }
        }
        Ok(())
    }

    fn place(&self, index: usize, mail: &Mail) -> String {
        let of = if self.mails.len() > 1 {
            format!("patch {} of {} in ", index + 1, self.mails.len())
        } else {
            String::new()
        };
        let subject = mail.subject.as_ref().map(|subject| format!(" ({subject:?})")).unwrap_or_default();
        let the = if of.is_empty() { "the patch " } else { "" };
        format!("{the}{of}{}{subject}", self.name)
    }
}

/// Runs patch(1). What it said, if it did not apply; an error where that is not the patch's fault.
fn patch(folder: &Path, text: &[u8], dry: bool) -> Result<Result<(), String>, BuildError> {
    let mut command = Command::new("patch");
    // Without fuzz, as git has it: a hunk that fits somehow would be in a kernel that somebody then has to understand.
    command.args(["-p1", "--forward", "--batch", "--fuzz=0", "--no-backup-if-mismatch", "--reject-file=-"]);
    if dry {
        command.arg("--dry-run");
    }
    command.current_dir(folder).env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |source| BuildError::Io { action: "cannot run", path: PathBuf::from("patch"), source };
    let mut child = command.spawn().map_err(failed)?;
    let stdin = child.stdin.take();
    let text = text.to_vec();
    let writer = std::thread::spawn(move || {
        // It may have given up before the end; then it says why.
        let _ = stdin.map(|mut stdin| stdin.write_all(&text));
    });
    let output = child.wait_with_output().map_err(failed)?;
    let _ = writer.join();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if said.contains("No space left on device") {
        return Err(BuildError::NoSpaceLeft { folder: folder.into(), phase: "patches were applied".into() });
    }
    // It is in our process group: Ctrl-C ends it as well.
    if output.status.signal().is_some() {
        return Err(BuildError::Interrupted);
    }
    match output.status.code() {
        Some(0) => Ok(Ok(())),
        code if is_the_patchs_fault(code, &said) => Ok(Err(said)),
        _ => Err(failed(io::Error::other(said.trim().replace('\n', "; ")))),
    }
}

/// patch(1), "EXIT STATUS": 1 where hunks do not apply, 2 for trouble. A patch that it cannot read is trouble as well.
fn is_the_patchs_fault(code: Option<i32>, said: &str) -> bool {
    code == Some(1) || GARBLED.iter().any(|words| said.contains(words))
}

/// What patch(1) says of a patch that it cannot read (GNU patch 2.7.6, `src/pch.c`).
const GARBLED: [&str; 4] = ["malformed patch", "garbage was found", "unexpected end of file in patch", "mangled"];

/// What patch(1) says of hunks that it does not take, a sentence for each file.
fn rejected(said: &str) -> Vec<String> {
    let mut files: Vec<(String, Vec<String>)> = Vec::new();
    let mut missing = None;
    for line in said.lines() {
        let of_file = ["checking file ", "patching file "].iter().find_map(|start| line.strip_prefix(start));
        if let Some(file) = of_file {
            files.push((file.trim_matches('\'').into(), Vec::new()));
        } else if let Some(hunk) = line.strip_prefix("Hunk #").filter(|hunk| hunk.contains(" FAILED")) {
            let (number, place) = hunk.split_once(" FAILED").unwrap_or((hunk, ""));
            let place = place.trim().trim_end_matches('.').replace("at ", "at line ");
            let text = format!("hunk {number} {place}").trim_end().to_owned();
            files.last_mut().map(|(_, hunks)| hunks.push(text)).unwrap_or_default();
        } else if line.contains("previously applied") {
            files.last_mut().map(|(_, hunks)| hunks.push("is in there already".into())).unwrap_or_default();
        } else if let Some(name) = ["|--- a/", "|+++ b/"].iter().find_map(|start| line.strip_prefix(start)) {
            missing = name.split('\t').next().map(str::to_owned);
        } else if line.starts_with("No file to patch") {
            let name = missing.take().unwrap_or_else(|| "a file".into());
            files.push((name, vec!["is not there".into()]));
        } else if let Some(problem) = line.strip_prefix("patch: **** ") {
            files.push(("patch(1)".into(), vec![format!("says {problem:?}")]));
        } else if let Some(rest) = line.strip_prefix("The next patch would create the file ") {
            files.push((rest.split(',').next().unwrap_or(rest).into(), vec!["is there already".into()]));
        } else if let Some(rest) = line.strip_prefix("The next patch would delete the file ") {
            files.push((rest.split(',').next().unwrap_or(rest).into(), vec!["is not there".into()]));
        }
    }
    let told: Vec<String> = files
        .into_iter()
        .filter(|(_, hunks)| !hunks.is_empty())
        .map(|(file, mut hunks)| {
            hunks.dedup();
            let file_missing = hunks.iter().any(|hunk| hunk.starts_with("is ") || hunk.starts_with("says "));
            if file_missing {
                format!("{file} {}", hunks.join(", "))
            } else {
                format!("{file}: {} failed", hunks.join(", "))
            }
        })
        .collect();
    // In words that we do not know, patch(1)'s own are better than none.
    if told.is_empty() { vec![said.trim().replace('\n', "; ")] } else { told }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// A tree with one file of ten lines, and what came of a patch on it.
    fn applied(diff: &str) -> (Result<(), String>, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        fs::write(&file, (1..=10).map(|line| format!("line {line}\n")).collect::<String>()).unwrap();
        let series = Series::parse("mine.mbox", diff.as_bytes().to_vec()).unwrap();
        let interrupt = AtomicBool::new(false);
        let done = series.apply(folder.path(), "debian:6.12", &mut Watch::new(folder.path(), &interrupt, &mut |_| ()));
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(names.len() == 1 || done.is_ok(), "{names:?}");
        (done.map_err(|error| error.to_string()), fs::read_to_string(&file).unwrap())
    }

    #[test]
    fn a_series_is_applied_in_order() {
        let mail = |subject: &str, from: &str, to: &str| {
            format!(
                "From 01 Mon Sep 17 00:00:00 2001\nSubject: {subject}\n\n---\n--- a/f\n+++ b/f\n@@ -1,4 +1,4 @@\n line 1\n\
                 -{from}\n+{to}\n line 3\n line 4\n-- \n2.39\n\n"
            )
        };
        let (done, text) = applied(&(mail("one", "line 2", "second") + &mail("two", "second", "third")));
        assert_eq!(done, Ok(()));
        assert!(text.starts_with("line 1\nthird\nline 3\n"), "{text}");
    }

    #[test]
    fn a_hunk_that_does_not_apply_is_named_and_nothing_of_the_patch_is_kept() {
        let diff = "Subject: two places\n\n--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n line 1\n-line 2\n+second\n line 3\n\
                    @@ -7,3 +7,3 @@\n line 7\n-eight\n+acht\n line 9\n";
        let (done, text) = applied(diff);
        insta::assert_snapshot!(
            done.unwrap_err(),
            @r#"the patch mine.mbox ("two places") does not apply to debian:6.12: f: hunk 2 at line 7 failed; nothing of it is kept"#
        );
        assert!(text.contains("line 2"), "{text}");
    }

    #[test]
    fn other_ways_not_to_apply() {
        let missing = applied("--- a/no/such\n+++ b/no/such\n@@ -1 +1 @@\n-a\n+b\n").0.unwrap_err();
        assert!(missing.contains("no/such is not there"), "{missing}");
        let twice = "--- a/f\n+++ b/f\n@@ -1,3 +1,4 @@\n line 1\n+line 2\n line 3\n line 4\n";
        assert!(applied(twice).0.is_err());
        let there =
            applied("--- a/f\n+++ b/f\n@@ -1,4 +1,4 @@\n line 1\n-second\n+line 2\n line 3\n line 4\n").0.unwrap_err();
        assert!(there.contains("f is in there already"), "{there}");
        let garbled = applied("--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n line 1\n").0.unwrap_err();
        assert!(garbled.contains("patch(1) says"), "{garbled}");
    }

    #[test]
    fn trouble_of_the_machine_is_no_patchs_fault() {
        assert!(is_the_patchs_fault(Some(1), "Hunk #1 FAILED at 1."));
        assert!(is_the_patchs_fault(Some(2), "patch: **** malformed patch at line 4:  "));
        assert!(!is_the_patchs_fault(
            Some(2),
            "patch: **** Can't create temporary file /gone/po1 : No such file or directory"
        ));
        assert!(!is_the_patchs_fault(None, ""));
    }

    #[test]
    fn ours_are_of_a_version() {
        let debian = |series: &str| Series::fixups(&KernelSource::Debian { series: series.into() }).unwrap();
        assert_eq!(debian("6.12").len(), 1);
        assert_eq!(debian("6.1"), []);
        assert!(!debian("6.12")[0].is_optional);
        let folder = Series::fixups(&KernelSource::Folder("/linux".into())).unwrap();
        assert!(
            folder.len() == own_patches().count()
                && folder.iter().all(|series| series.is_optional && series.cause.is_some())
        );
        // One mail each: whether the second of two fits is not known before the first is in the tree.
        assert!(folder.iter().all(|series| series.mails.len() == 1));
    }
}
