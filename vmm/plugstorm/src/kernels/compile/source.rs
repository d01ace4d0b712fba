//! What is compiled: Debian's source package, or a folder of the user's, which is never touched.

use std::fmt;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::{BuildError, Watch};
use crate::cache::CacheLock;
use crate::kernels::package::{self, Source, Wanted};
use crate::kernels::{KernelError, manifest};

/// What a source is told by. Without one of them it is none.
const MARKS: [&str; 4] = ["Makefile", "Kconfig", "scripts/kconfig", "arch/x86"];
/// What Debian's source package takes unpacked.
const DEBIAN_BYTES: u64 = 1700 << 20;

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
        match MARKS.into_iter().find(|mark| !folder.join(mark).exists()) {
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
        }
    }
}

/// A source that is here, and what it is.
#[derive(Debug)]
pub(super) struct Ready {
    /// A package file's name and its SHA-256, or a folder and the digest of what is in it.
    pub(super) identity: manifest::PackageFile,
    /// What it takes unpacked.
    pub(super) bytes: u64,
    files: Files,
}

#[derive(Debug)]
enum Files {
    Package(PathBuf),
    Folder(PathBuf, Vec<PathBuf>),
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
            Ok(Ready { identity, bytes: DEBIAN_BYTES, files: Files::Package(file) })
        }
        KernelSource::Folder(folder) => {
            watch.line(&format!("source: {}", folder.display()));
            let mut files = Vec::new();
            collect(folder, Path::new(""), root, &mut files)?;
            files.sort();
            let (sha256, bytes) = digest(folder, &files, watch)?;
            let identity = manifest::PackageFile { file: folder.display().to_string(), sha256 };
            Ok(Ready { identity, bytes, files: Files::Folder(folder.clone(), files) })
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
        let lock = CacheLock::take_for_builds(root, &mut |line| watch.line(line))?;
        // Our own lock: nobody sweeps it before we are done.
        let work = lock.workspace()?;
        watch.run(&format!("downloading {package}"), package::download(work.path(), package), |_| None)?;
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
    /// Puts the tree to `into`, which does not exist yet.
    pub(super) fn unpack(&self, into: &Path, scratch: &Path, watch: &mut Watch<'_>) -> Result<(), BuildError> {
        fs::create_dir(into).map_err(BuildError::io("cannot make", into))?;
        match &self.files {
            Files::Package(file) => {
                let mut deb = Command::new("dpkg-deb");
                deb.arg("-x").arg(file).arg(scratch);
                watch.run("unpacking the source package", deb, |_| None)?;
                let archive = archive(&scratch.join("usr/src"), file)?;
                let mut tar = Command::new("tar");
                tar.args(["--use-compress-program=xz", "--strip-components=1", "-xf"]).arg(archive).arg("-C").arg(into);
                watch.run("unpacking the source", tar, |_| None)?;
                fs::remove_dir_all(scratch).map_err(BuildError::io("cannot remove", scratch))
            }
            Files::Folder(folder, files) => {
                for (done, file) in files.iter().enumerate() {
                    watch.check()?;
                    if done % 1000 == 0 {
                        watch.now(&format!("copying the source, {done} of {} files", files.len()));
                    }
                    copy(&folder.join(file), &into.join(file))?;
                }
                Ok(())
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

fn copy(from: &Path, to: &Path) -> Result<(), BuildError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(BuildError::io("cannot make", parent))?;
    }
    let metadata = from.symlink_metadata().map_err(BuildError::io("cannot read", from))?;
    if metadata.is_symlink() {
        let target = fs::read_link(from).map_err(BuildError::io("cannot read", from))?;
        return symlink(target, to).map_err(BuildError::io("cannot write", to));
    }
    fs::copy(from, to).map(drop).map_err(BuildError::io("cannot copy to", to))
}

/// The files and links below `folder`/`below`, without what git and builds leave there, and without our own cache.
fn collect(folder: &Path, below: &Path, cache: &Path, files: &mut Vec<PathBuf>) -> Result<(), BuildError> {
    let path = folder.join(below);
    let entries = fs::read_dir(&path).map_err(BuildError::io("cannot read", &path))?;
    for entry in entries {
        let entry = entry.map_err(BuildError::io("cannot read", &path))?;
        let name = below.join(entry.file_name());
        let kind = entry.file_type().map_err(BuildError::io("cannot read", &entry.path()))?;
        if is_made(&name) || entry.path() == cache {
            continue;
        }
        if kind.is_dir() {
            collect(folder, &name, cache, files)?;
        } else if kind.is_file() || kind.is_symlink() {
            files.push(name);
        }
    }
    Ok(())
}

/// Made by a build in the tree, or git's. `make mrproper` in the copy removes what this leaves.
fn is_made(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let top = path.components().count() == 1;
    let made = ["include/config", "include/generated", "arch/x86/include/generated", "debian"];
    let suffixes = [".o", ".ko", ".a", ".cmd", ".mod", ".mod.c", ".order", ".d", ".dwo", ".orig", ".rej"];
    let at_top = [".config", ".config.old", ".version", "vmlinux", "System.map", "Module.symvers", "tags", "TAGS"];
    name == ".git"
        || suffixes.iter().any(|suffix| name.ends_with(suffix))
        || made.iter().any(|folder| path == Path::new(folder))
        || top && (at_top.contains(&name.as_str()) || name.starts_with(".tmp_") || name.starts_with("cscope."))
}

/// A digest of names, kinds and contents, and how many bytes they are.
fn digest(folder: &Path, files: &[PathBuf], watch: &mut Watch<'_>) -> Result<(String, u64), BuildError> {
    let mut hash = Sha256::new();
    let mut total = 0_u64;
    let mut part = |bytes: &[u8]| {
        // Lengths keep the parts apart.
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for (done, file) in files.iter().enumerate() {
        watch.check()?;
        if done % 1000 == 0 {
            watch.now(&format!("reading the source, {done} of {} files", files.len()));
        }
        let path = folder.join(file);
        let failed = || BuildError::io("cannot read", &path);
        let metadata = path.symlink_metadata().map_err(failed())?;
        part(file.as_os_str().as_encoded_bytes());
        if metadata.is_symlink() {
            part(b"link");
            part(fs::read_link(&path).map_err(failed())?.as_os_str().as_encoded_bytes());
        } else {
            part(if metadata.permissions().mode() & 0o111 == 0 { b"file" } else { b"program" });
            part(&fs::read(&path).map_err(failed())?);
            total += metadata.len();
        }
    }
    Ok((manifest::hex(&hash.finalize()), total))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for mark in ["scripts/kconfig", "arch/x86", ".git", "include/config"] {
            fs::create_dir_all(folder.path().join(mark)).unwrap();
        }
        for file in
            ["Makefile", "Kconfig", "scripts/kconfig/Makefile", ".git/HEAD", "a.o", "include/config/x", ".config"]
        {
            fs::write(folder.path().join(file), file).unwrap();
        }
        symlink("Makefile", folder.path().join("link")).unwrap();
        folder
    }

    fn ready(folder: &Path) -> Ready {
        let source = KernelSource::parse(folder.to_str().unwrap()).unwrap();
        let interrupt = AtomicBool::new(false);
        bring(&source, None, Path::new("/nowhere"), &mut Watch::new(Path::new("/cache"), &interrupt, &mut |_| ()))
            .unwrap()
    }

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

    #[test]
    fn a_folders_digest_follows_its_sources_only() {
        let folder = tree();
        let first = ready(folder.path()).identity.sha256;
        fs::write(folder.path().join("b.o"), "built").unwrap();
        fs::write(folder.path().join(".git/HEAD"), "other").unwrap();
        assert_eq!(ready(folder.path()).identity.sha256, first);
        fs::write(folder.path().join("Kconfig"), "other").unwrap();
        let second = ready(folder.path()).identity.sha256;
        assert_ne!(second, first);
        fs::set_permissions(folder.path().join("Kconfig"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(ready(folder.path()).identity.sha256, second);
    }

    #[test]
    fn a_folder_is_copied_without_what_was_made_in_it() {
        let folder = tree();
        let to = tempfile::tempdir().unwrap();
        let interrupt = AtomicBool::new(false);
        let copy = to.path().join("copy");
        ready(folder.path())
            .unpack(&copy, to.path(), &mut Watch::new(Path::new("/cache"), &interrupt, &mut |_| ()))
            .unwrap();
        assert_eq!(fs::read_to_string(copy.join("scripts/kconfig/Makefile")).unwrap(), "scripts/kconfig/Makefile");
        assert_eq!(fs::read_link(copy.join("link")).unwrap(), Path::new("Makefile"));
        for made in [".git", "a.o", "include", ".config"] {
            assert!(!copy.join(made).exists(), "{made}");
        }
    }
}
