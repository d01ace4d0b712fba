//! What a folder of the cache holds, as written beside it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::KernelError;

/// The version of the layout below. A folder with another one is fetched anew.
pub(super) const VERSION: u32 = 1;

/// The name of the file.
pub(super) const FILE: &str = "manifest.json";

/// `manifest.json` of a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// [`VERSION`].
    pub(super) version: u32,
    /// The name it was fetched by.
    pub(super) name: String,
    /// `uname -r`.
    pub(super) release: String,
    /// Everything that went into it.
    pub(super) packages: Vec<PackageFile>,
    /// The bzImage.
    pub(super) image: CachedFile,
    /// The kernel's own modules, decompressed, each after those it needs.
    pub(super) modules: Vec<CachedModule>,
    /// The folder below this one that modules are built in, and the common part of it.
    pub(super) headers: HeaderFolders,
    /// What the whole folder takes, this file left out. Counted once: it has ten thousands of small files.
    pub(super) bytes: u64,
    /// How it was built, if `kernel build` did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) built: Option<Built>,
}

/// How a kernel was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Built {
    /// A digest of all that it was built of and with.
    pub(super) key: String,
    /// `debian:6.12`, or a folder.
    pub(super) source: String,
    /// The fragments, in order.
    pub(super) fragments: Vec<String>,
    /// The patch files, in order.
    pub(super) patches: Vec<String>,
    /// Compiler and linker.
    pub(super) compiler: String,
    /// Objects compiled: what the next build is expected to have.
    pub(super) objects: u32,
    /// How long it took, in seconds.
    pub(super) seconds: u64,
    /// What was told of it.
    pub(super) notes: Vec<String>,
}

impl Built {
    /// In one line.
    pub(super) fn about(&self) -> String {
        let fragments: Vec<_> =
            self.fragments.iter().map(|name| name.strip_suffix(".config").unwrap_or(name)).collect();
        let patches = match self.patches.as_slice() {
            [] => String::new(),
            some => format!(", with {}", some.join(", ")),
        };
        format!("{} by {}{patches}", self.source, fragments.join(" + "))
    }
}

/// A package that was downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PackageFile {
    /// The file's name, which has the package's name and version.
    pub(super) file: String,
    /// Its SHA-256, in hexadecimal.
    pub(super) sha256: String,
}

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CachedFile {
    /// Its path below the folder.
    pub(super) file: String,
    /// Its SHA-256, in hexadecimal.
    pub(super) sha256: String,
    /// Its length.
    pub(super) bytes: u64,
}

/// A kernel module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CachedModule {
    /// Its name, with underscores, as the kernel lists it.
    pub(super) name: String,
    /// Where it is from.
    pub(super) origin: Origin,
    /// The names of those that must be loaded before it.
    pub(super) depends: Vec<String>,
    /// The file.
    #[serde(flatten)]
    pub(super) file: CachedFile,
}

/// Where a module is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Origin {
    /// The kernel's image package.
    Stock,
    /// Built by us from the kernel's source package.
    SourcePackage,
    /// Built with the kernel.
    Built,
}

/// The headers, below the cached folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HeaderFolders {
    /// Those of this very configuration: `make -C` goes there.
    pub(super) flavour: String,
    /// Those of all configurations: its Makefile is the one that works.
    pub(super) common: String,
}

impl Manifest {
    /// Reads the manifest of `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self, KernelError> {
        let path = folder.join(FILE);
        let bytes = fs::read(&path).map_err(|source| KernelError::io("cannot read", &path, source))?;
        let manifest: Self = serde_json::from_slice(&bytes)
            .map_err(|error| KernelError::CacheBroken { folder: folder.into(), reason: error.to_string() })?;
        if manifest.version == VERSION {
            Ok(manifest)
        } else {
            Err(KernelError::CacheBroken {
                folder: folder.into(),
                reason: format!("it has version {} and this plugstorm wants {VERSION}", manifest.version),
            })
        }
    }

    /// Writes it to `folder`.
    pub(super) fn write(&self, folder: &Path) -> Result<(), KernelError> {
        write_json(&folder.join(FILE), self)
    }
}

/// Writes a value as JSON, with a line feed at its end.
pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), KernelError> {
    let failed = |source| KernelError::io("cannot write", path, source);
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
    bytes.push(b'\n');
    fs::write(path, bytes).map_err(failed)
}

impl CachedFile {
    /// Describes `file` of `folder`.
    pub(super) fn describe(folder: &Path, file: &str) -> Result<Self, KernelError> {
        let path = folder.join(file);
        let (sha256, bytes) = sha256(&path)?;
        Ok(Self { file: file.into(), sha256, bytes })
    }

    /// Its path.
    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(&self.file)
    }
}

/// The SHA-256 of a file in hexadecimal, and its length.
pub(super) fn sha256(path: &Path) -> Result<(String, u64), KernelError> {
    let failed = |source| KernelError::io("cannot read", path, source);
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0;
    loop {
        let length = file.read(&mut buffer).map_err(failed)?;
        if length == 0 {
            break;
        }
        hash.update(buffer.get(..length).unwrap_or_default());
        total += length as u64;
    }
    Ok((hex(&hash.finalize()), total))
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let file = CachedFile { file: "bzImage".into(), sha256: "00".into(), bytes: 1 };
        Manifest {
            version: VERSION,
            name: "debian-6.12".into(),
            release: "6.12.1-amd64".into(),
            packages: vec![PackageFile { file: "linux-image_1_amd64.deb".into(), sha256: "ab".into() }],
            image: file.clone(),
            modules: vec![CachedModule {
                name: "gpio_virtio".into(),
                origin: Origin::SourcePackage,
                depends: Vec::new(),
                file,
            }],
            headers: HeaderFolders { flavour: "headers/usr/src/a".into(), common: "headers/usr/src/c".into() },
            bytes: 5,
            built: None,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        manifest().write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), manifest());
    }

    #[test]
    fn how_it_was_built_is_told_in_a_line() {
        let built = Built {
            key: "k".into(),
            source: "debian:6.12".into(),
            fragments: vec!["base.config".into(), "mine".into()],
            patches: vec!["a.mbox".into()],
            compiler: "gcc".into(),
            objects: 1,
            seconds: 1,
            notes: Vec::new(),
        };
        assert_eq!(built.about(), "debian:6.12 by base + mine, with a.mbox");
    }

    #[test]
    fn another_version_or_half_a_file_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        Manifest { version: VERSION + 1, ..manifest() }.write(folder.path()).unwrap();
        let error = Manifest::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("kernel fetch"), "{error}");
        fs::write(folder.path().join(FILE), "{\"version\": 1,").unwrap();
        assert!(Manifest::read(folder.path()).is_err());
    }

    #[test]
    fn a_file_is_described_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("f"), "abc").unwrap();
        let file = CachedFile::describe(folder.path(), "f").unwrap();
        assert_eq!(file.bytes, 3);
        // FIPS 180-2, appendix B.1.
        assert_eq!(file.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
