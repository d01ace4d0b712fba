//! What is compiled: Debian's source package, or a folder of the user's, which is never touched.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::commit::Commit;
use super::folder::Folder;
use super::{BuildError, Watch};
use crate::cache::CacheLock;
use crate::kernels::package::{self, Source, Wanted};
use crate::kernels::{KernelError, manifest};

/// What a source is told by. Without one of them it is none.
pub const SOURCE_MARKS: [&str; 4] = ["Makefile", "Kconfig", "scripts/kconfig", "arch/x86"];
/// What a kernel's source takes, as Debian packs it or as git has it.
const KERNEL_BYTES: u64 = 1700 << 20;

/// As it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelSource {
    /// `debian:6.12`: Debian's source package of that series, with Debian's patches in it.
    Debian {
        /// `6.12`.
        series: String,
    },
    /// A folder with a kernel's source.
    Folder(PathBuf),
    /// What a commit has, whatever is in the working tree.
    Commit {
        /// A git repository: a `.git`, or a bare one.
        repository: PathBuf,
        /// The whole name of the commit.
        commit: String,
    },
}

impl KernelSource {
    /// Reads `debian:VERSION` or a folder.
    ///
    /// # Errors
    /// [`BuildError::UnknownSource`] and [`BuildError::NoKernelTree`].
    pub fn parse(given: &str) -> Result<Self, BuildError> {
        if let Some(series) = given.strip_prefix("debian:") {
            let wanted = Wanted::parse(&format!("debian-{series}"));
            let wanted = wanted.ok_or_else(|| BuildError::UnknownSource { given: given.into() })?;
            return Ok(Self::Debian { series: wanted.series });
        }
        let folder = Path::new(given);
        if !folder.is_dir() {
            return Err(BuildError::UnknownSource { given: given.into() });
        }
        let folder = folder.canonicalize().map_err(BuildError::io("cannot read", folder))?;
        match SOURCE_MARKS.into_iter().find(|mark| !folder.join(mark).exists()) {
            Some(missing) => Err(BuildError::NoKernelTree { folder, missing }),
            None => Ok(Self::Folder(folder)),
        }
    }
}

impl fmt::Display for KernelSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian { series } => write!(formatter, "debian:{series}"),
            Self::Folder(folder) => write!(formatter, "{}", folder.display()),
            Self::Commit { repository, commit } => {
                write!(formatter, "commit {} of {}", commit.get(..12).unwrap_or(commit), repository.display())
            }
        }
    }
}

/// A source that is here, and what it is.
#[derive(Debug)]
pub(super) struct Ready {
    /// A package file's name and its SHA-256, or a folder and the digest of what was in it when it was looked at.
    pub(super) identity: manifest::PackageFile,
    /// What it takes unpacked.
    pub(super) bytes: u64,
    files: Files,
}

#[derive(Debug)]
enum Files {
    Package(PathBuf),
    Folder(Folder),
    Commit(Commit),
}

/// Brings a source here and says what it is.
pub(super) fn bring(
    source: &KernelSource,
    packages: Option<&Path>,
    root: &Path,
    watch: &mut Watch<'_>,
) -> Result<Ready, BuildError> {
    match source {
        KernelSource::Debian { series } => {
            let file = debian(&format!("linux-source-{series}"), packages, root, watch)?;
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            watch.line(&format!("source: {name}"));
            let sha256 = manifest::sha256(&file)?.0;
            let identity = manifest::PackageFile { file: name, sha256 };
            Ok(Ready { identity, bytes: KERNEL_BYTES, files: Files::Package(file) })
        }
        KernelSource::Folder(folder) => {
            watch.line(&format!("source: {}", folder.display()));
            let folder = Folder::new(folder, root)?;
            let (identity, bytes) = folder.look(watch)?;
            Ok(Ready { identity, bytes, files: Files::Folder(folder) })
        }
        KernelSource::Commit { repository, commit } => {
            watch.line(&format!("source: {source}"));
            let commit = Commit::new(repository, commit);
            Ok(Ready { identity: commit.look()?, bytes: KERNEL_BYTES, files: Files::Commit(commit) })
        }
    }
}

/// The source package's file: from a folder of packages, from an earlier time, or with apt.
fn debian(package: &str, packages: Option<&Path>, root: &Path, watch: &mut Watch<'_>) -> Result<PathBuf, BuildError> {
    if let Some(folder) = packages {
        return Ok(Source::Folder(folder).bring(package, folder, &mut |_| ())?);
    }
    let kept = root.join("sources");
    let offer = match package::offered(package) {
        Ok(offer) => offer,
        Err(error) => {
            // It is in our process group: Ctrl-C ends it as well.
            watch.check()?;
            // Without apt's lists what is here is the newest that can be had.
            let Ok(file) = package::find(&kept, package) else { return Err(error.into()) };
            watch.line(&format!("apt does not say which {package} is the newest; taking {}", file.display()));
            return Ok(file);
        }
    };
    let target = kept.join(&offer.file);
    if target.is_file() {
        return Ok(target);
    }
    watch.line(&format!("downloading {package} ({} MB)", offer.bytes.div_ceil(1_000_000)));
    let work = {
        let interrupt = watch.interrupt;
        let lock = CacheLock::take_for_builds(root, interrupt, &mut |line| watch.line(line))?;
        // Our own lock: nobody sweeps it before we are done.
        let work = lock.workspace()?;
        watch.run(&format!("downloading {package}"), &package::download(work.path(), package), |_| None)?;
        let file = package::find(work.path(), package)?;
        fs::create_dir_all(&kept).map_err(BuildError::io("cannot make", &kept))?;
        drop_others(&kept, package);
        fs::rename(&file, &target).map_err(BuildError::io("cannot put in place", &target))?;
        work
    };
    drop(work);
    Ok(target)
}

/// An older version of the package is of no use any more.
fn drop_others(folder: &Path, package: &str) {
    while let Ok(old) = package::find(folder, package) {
        if fs::remove_file(&old).is_err() {
            return;
        }
    }
}

impl Ready {
    /// Puts the tree to `into`, which does not exist yet, and says what it is: a folder may have changed since it was looked
    /// at.
    pub(super) fn unpack(
        &self,
        into: &Path,
        scratch: &Path,
        watch: &mut Watch<'_>,
    ) -> Result<manifest::PackageFile, BuildError> {
        fs::create_dir(into).map_err(BuildError::io("cannot make", into))?;
        match &self.files {
            Files::Package(file) => {
                let mut deb = Command::new("dpkg-deb");
                deb.arg("-x").arg(file).arg(scratch);
                watch.run("unpacking the source package", &deb, |_| None)?;
                let archive = archive(&scratch.join("usr/src"), file)?;
                let mut tar = Command::new("tar");
                tar.args(["--use-compress-program=xz", "--strip-components=1", "-xf"]).arg(archive).arg("-C").arg(into);
                watch.run("unpacking the source", &tar, |_| None)?;
                fs::remove_dir_all(scratch).map_err(BuildError::io("cannot remove", scratch))?;
                Ok(self.identity.clone())
            }
            Files::Folder(folder) => folder.copy(into, watch),
            Files::Commit(commit) => {
                commit.check_out(into, scratch, watch)?;
                Ok(self.identity.clone())
            }
        }
    }
}

fn archive(folder: &Path, package: &Path) -> Result<PathBuf, BuildError> {
    let entries = fs::read_dir(folder).map_err(BuildError::io("cannot read", folder))?;
    let mut archives = entries.flatten().map(|entry| entry.path());
    let found = archives.find(|path| path.to_string_lossy().ends_with(".tar.xz"));
    Ok(found.ok_or_else(|| KernelError::NotInPackage {
        package: package.display().to_string(),
        what: "usr/src/linux-source-….tar.xz".into(),
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_debians_or_folders() {
        assert_eq!(KernelSource::parse("debian:6.1").unwrap(), KernelSource::Debian { series: "6.1".into() });
        for given in ["debian:", "debian:sid", "6.12", "/no/such/folder", "fedora:6.12", "debian:6.12/.."] {
            let error = KernelSource::parse(given).unwrap_err().to_string();
            assert!(error.contains("debian:VERSION") && error.contains(given), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let error = KernelSource::parse(folder.path().to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("no Makefile"), "{error}");
    }
}
