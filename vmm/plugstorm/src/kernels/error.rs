//! What can go wrong with kernels.

use std::io;
use std::path::{Path, PathBuf};

use crate::cache::CacheError;

/// Why a kernel cannot be had. The message is one sentence with the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The cache cannot be written.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A file cannot be read or written.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The name is none that can be fetched.
    #[error("{name:?} is no kernel that can be fetched: names are debian-VERSION, such as debian-6.12 or debian-6.1")]
    UnknownName {
        /// The name.
        name: String,
    },
    /// The name is one that could be fetched and has not been.
    #[error("kernel {name} is not in the cache ({}): run `plugstorm kernel fetch {name}`", root.display())]
    NotFetched {
        /// The name.
        name: String,
        /// The cache.
        root: PathBuf,
    },
    /// The name is none of the cache.
    #[error("there is no kernel {name:?} in the cache ({}): `plugstorm kernel list` says which there are", root.display())]
    NotInCache {
        /// The name.
        name: String,
        /// The cache.
        root: PathBuf,
    },
    /// A file was given as a kernel that is not there, or not for this user.
    #[error(
        "the kernel {} cannot be read ({source}): check the path and its permissions, or give a fetched kernel's name",
        path.display()
    )]
    Unreadable {
        /// What was given.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A folder or device was given as a kernel.
    #[error("the kernel {} is not a file: give a bzImage, a vmlinux, or the name of a fetched kernel", path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// apt does not know a package.
    #[error(
        "apt knows no package for kernel {name}: run `apt-get update` and try again; where that does not help, this \
         system's package sources do not have it, and a folder with Debian's packages of it can be given with --from"
    )]
    NotInApt {
        /// The kernel's name.
        name: String,
    },
    /// A folder of packages lacks one.
    #[error("{} has no package file for {package}: put it there, or let apt fetch it", folder.display())]
    NotInFolder {
        /// The package, or the start of its name.
        package: String,
        /// The folder.
        folder: PathBuf,
    },
    /// A package does not hold what is wanted from it.
    #[error("package {package} has no {what}: it is not laid out as plugstorm knows Debian's kernels")]
    NotInPackage {
        /// The package.
        package: String,
        /// What was looked for.
        what: String,
    },
    /// A program is missing.
    #[error("{program} is missing: run `apt-get install {package}`")]
    ToolMissing {
        /// The program.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// A program failed.
    #[error("{program} failed ({status}): {message}")]
    ToolFailed {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The end of what it said.
        message: String,
    },
    /// A folder of the cache is not as it was left.
    #[error("{} cannot be used: {reason}; remove it and run `plugstorm kernel fetch` or `kernel build` again", folder.display())]
    CacheBroken {
        /// The folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// The cache's path has characters that make would take apart.
    #[error(
        "modules cannot be built in {}, for kbuild takes no blanks, colons, quotes, $ or # in a path: set \
         PLUGSTORM_CACHE to another folder",
        path.display()
    )]
    PathUnfit {
        /// Where the kernel is.
        path: PathBuf,
    },
    /// A build came to its end without something that it is for.
    #[error("the build made no {file}: the source's own make did not do what plugstorm expects of it")]
    NotBuilt {
        /// What.
        file: String,
    },
    /// This binary was built without our module's sources.
    #[error("this plugstorm was built without the sources of its kernel module (guest/module)")]
    NoModuleSources,
}

impl KernelError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source }
    }
}
