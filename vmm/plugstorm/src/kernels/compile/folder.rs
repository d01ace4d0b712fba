//! A folder of the user's with a kernel's source: what it is, and a copy of it to build in. It is never written to.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{BuildError, Watch};
use crate::kernels::manifest::{PackageFile, hex};

/// How much of a file is in memory at a time.
const PIECE_BYTES: usize = 1 << 16;
/// Files between two looks at where it is.
const TOLD_FILES: usize = 1000;

/// A folder with source, apart from the cache.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Ours, maybe below it; both without symbolic links, so that they can be compared.
    cache: PathBuf,
}

impl Folder {
    /// Fails for a folder in the cache, which may be swept while it is copied.
    pub(super) fn new(path: &Path, cache: &Path) -> Result<Self, BuildError> {
        let (path, cache) = (real(path), real(cache));
        if path.starts_with(&cache) {
            return Err(BuildError::SourceInCache { folder: path, cache });
        }
        Ok(Self { path, cache })
    }

    /// What is in there now, and how many bytes it is.
    pub(super) fn look(&self, watch: &mut Watch<'_>) -> Result<(PackageFile, u64), BuildError> {
        self.walk(None, watch)
    }

    /// Copies it to `to`, which is there and empty. What was copied, whatever has changed since it was looked at.
    pub(super) fn copy(&self, to: &Path, watch: &mut Watch<'_>) -> Result<PackageFile, BuildError> {
        self.walk(Some(to), watch).map(|(copied, _)| copied)
    }

    /// A digest of names, kinds and contents, and how many bytes were read for it; and all of it to `to` on the way.
    fn walk(&self, to: Option<&Path>, watch: &mut Watch<'_>) -> Result<(PackageFile, u64), BuildError> {
        let mut files = Vec::new();
        collect(&self.path, Path::new(""), &self.cache, &mut files)?;
        files.sort();
        let mut hash = Sha256::new();
        let mut total = 0_u64;
        let mut part = |bytes: &[u8]| {
            // Lengths keep the parts apart.
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        let doing = if to.is_some() { "copying" } else { "reading" };
        for (done, name) in files.iter().enumerate() {
            watch.check()?;
            if done % TOLD_FILES == 0 {
                watch.now(&format!("{doing} the source, {done} of {} files", files.len()));
            }
            let from = self.path.join(name);
            let to = to.map(|to| to.join(name));
            if let Some(parent) = to.as_deref().and_then(Path::parent) {
                fs::create_dir_all(parent).map_err(BuildError::io("cannot make", parent))?;
            }
            part(name.as_os_str().as_encoded_bytes());
            let metadata = from.symlink_metadata().map_err(BuildError::io("cannot read", &from))?;
            if metadata.is_symlink() {
                let target = fs::read_link(&from).map_err(BuildError::io("cannot read", &from))?;
                part(b"link");
                part(target.as_os_str().as_encoded_bytes());
                if let Some(to) = to {
                    symlink(target, &to).map_err(BuildError::io("cannot write", &to))?;
                }
            } else {
                let read = read(&from, to.as_deref(), watch)?;
                part(if read.is_program { b"program" } else { b"file" });
                part(&read.sha256);
                total = total.saturating_add(read.bytes);
            }
        }
        Ok((PackageFile { file: self.path.display().to_string(), sha256: hex(&hash.finalize()) }, total))
    }
}

/// What a path is without symbolic links, as far as there is something.
fn real(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|above| Some((above.canonicalize().ok()?, path.strip_prefix(above).ok()?)));
    there.map_or_else(|| path.to_path_buf(), |(real, rest)| real.components().chain(rest.components()).collect())
}

/// A file that was read.
struct FileRead {
    sha256: [u8; 32],
    bytes: u64,
    is_program: bool,
}

/// Reads a file to its end, and writes it to `to` on the way: never more of it in memory than a piece.
fn read(from: &Path, to: Option<&Path>, watch: &Watch<'_>) -> Result<FileRead, BuildError> {
    let failed = || BuildError::io("cannot read", from);
    let mut file = File::open(from).map_err(failed())?;
    let permissions = file.metadata().map_err(failed())?.permissions();
    let mut copy = to.map(|to| File::create(to).map_err(BuildError::io("cannot write", to))).transpose()?;
    let mut piece = vec![0; PIECE_BYTES];
    let (mut hash, mut bytes) = (Sha256::new(), 0_u64);
    loop {
        let length = match file.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed()(error)),
        };
        let piece = piece.get(..length).unwrap_or_default();
        hash.update(piece);
        bytes = bytes.saturating_add(piece.len() as u64);
        if let (Some(copy), Some(to)) = (&mut copy, to) {
            copy.write_all(piece).map_err(BuildError::io("cannot write", to))?;
        }
        // One may be as large as all others together.
        watch.check()?;
    }
    let is_program = permissions.mode() & 0o111 != 0;
    if let (Some(copy), Some(to)) = (copy, to) {
        copy.set_permissions(permissions).map_err(BuildError::io("cannot write", to))?;
    }
    Ok(FileRead { sha256: hash.finalize().into(), bytes, is_program })
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

    fn digest(folder: &Path) -> String {
        looked(folder, Path::new("/nowhere")).unwrap()
    }

    fn looked(folder: &Path, cache: &Path) -> Result<String, BuildError> {
        let interrupt = AtomicBool::new(false);
        let looked = Folder::new(folder, cache)?.look(&mut Watch::new(cache, &interrupt, &mut |_| ()))?;
        Ok(looked.0.sha256)
    }

    #[test]
    fn a_folders_digest_follows_its_sources_only() {
        let folder = tree();
        let first = digest(folder.path());
        fs::write(folder.path().join("b.o"), "built").unwrap();
        fs::write(folder.path().join(".git/HEAD"), "other").unwrap();
        assert_eq!(digest(folder.path()), first);
        fs::write(folder.path().join("Kconfig"), "other").unwrap();
        let second = digest(folder.path());
        assert_ne!(second, first);
        fs::set_permissions(folder.path().join("Kconfig"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(digest(folder.path()), second);
    }

    #[test]
    fn a_cache_in_the_folder_is_no_source_by_whatever_path() {
        let folder = tree();
        let first = digest(folder.path());
        fs::create_dir(folder.path().join("kept")).unwrap();
        fs::write(folder.path().join("kept/x"), "x").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let link = elsewhere.path().join("link");
        symlink(folder.path(), &link).unwrap();
        for cache in [folder.path().join("kept"), link.join("kept")] {
            assert_eq!(looked(folder.path(), &cache).unwrap(), first, "{}", cache.display());
        }
    }

    #[test]
    fn a_folder_in_the_cache_is_refused_by_whatever_path() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("builds/linux");
        fs::create_dir_all(cache.path().join("builds")).unwrap();
        fs::rename(tree().keep(), &folder).unwrap();
        let link = tempfile::tempdir().unwrap();
        let link = link.path().join("link");
        symlink(cache.path(), &link).unwrap();
        for cache in [cache.path().to_path_buf(), link, folder.clone()] {
            let error = looked(&folder, &cache).unwrap_err().to_string();
            assert!(error.contains("lies in the cache"), "{error}");
        }
    }

    #[test]
    fn a_folder_is_copied_without_what_was_made_in_it() {
        let folder = tree();
        let to = tempfile::tempdir().unwrap();
        let interrupt = AtomicBool::new(false);
        let copy = to.path();
        let source = Folder::new(folder.path(), Path::new("/nowhere")).unwrap();
        let copied = source.copy(copy, &mut Watch::new(Path::new("/cache"), &interrupt, &mut |_| ())).unwrap();
        assert_eq!(copied.sha256, digest(folder.path()));
        assert_eq!(digest(copy), copied.sha256);
        assert_eq!(fs::read_to_string(copy.join("scripts/kconfig/Makefile")).unwrap(), "scripts/kconfig/Makefile");
        assert_eq!(fs::read_link(copy.join("link")).unwrap(), Path::new("Makefile"));
        for made in [".git", "a.o", "include", ".config"] {
            assert!(!copy.join(made).exists(), "{made}");
        }
    }

    #[test]
    fn a_large_file_is_read_in_pieces_and_a_signal_ends_that() {
        let folder = tree();
        // Of holes, and more than this machine has memory.
        let huge = File::create(folder.path().join("huge")).unwrap();
        huge.set_len(1 << 40).unwrap();
        let interrupt = std::sync::Arc::new(AtomicBool::new(false));
        let stop = std::sync::Arc::clone(&interrupt);
        let timer = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let cache = Path::new("/nowhere");
        let error = Folder::new(folder.path(), cache).unwrap().look(&mut Watch::new(cache, &interrupt, &mut |_| ()));
        assert!(matches!(error, Err(BuildError::Interrupted)), "{error:?}");
        timer.join().unwrap();
    }
}
