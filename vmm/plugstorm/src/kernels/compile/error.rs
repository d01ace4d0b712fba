//! What can go wrong when a kernel is built.

use std::io;
use std::path::{Path, PathBuf};

use super::check::Unmet;
use crate::cache::CacheError;
use crate::git::GitError;
use crate::kernels::KernelError;

/// What the source's own make is at when it fails.
pub(super) const CLEANING: &str = "cleaning the copy of the source";
pub(super) const CONFIGURING: &str = "configuring";
pub(super) const COMPILING: &str = "compiling";

/// Why a kernel was not built. The message is one sentence, or one a line, with the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Packages, the cache, or the modules that go with a kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The name will not do.
    #[error("{name:?} cannot be a built kernel's name: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// The source is nothing that can be built.
    #[error(
        "{given:?} is no source of a kernel: give debian:VERSION, such as debian:6.12 or debian:6.1, or the folder of \
         a kernel's source"
    )]
    UnknownSource {
        /// What was given.
        given: String,
    },
    /// A folder was given that has no kernel's source in it.
    #[error("{} is not the top of a kernel's source: it has no {missing}", folder.display())]
    NoKernelTree {
        /// The folder.
        folder: PathBuf,
        /// What it lacks.
        missing: &'static str,
    },
    /// A folder was given that plugstorm itself may remove.
    #[error(
        "the source {} lies in the cache {}, where what is not a kernel is swept: copy it to another place",
        folder.display(), cache.display()
    )]
    SourceInCache {
        /// The folder.
        folder: PathBuf,
        /// The cache.
        cache: PathBuf,
    },
    /// A commit's files cannot be had.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A fragment cannot be read.
    #[error(
        "the configuration fragment {given} cannot be read ({source}): give a file, or one of those that plugstorm \
         has: {shipped}"
    )]
    Fragment {
        /// As it was given.
        given: String,
        /// The names of ours.
        shipped: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A line of a fragment is none.
    #[error(
        "{fragment}, line {line}: {text:?} sets no option: lines are `CONFIG_NAME=value`, `# CONFIG_NAME is not set`, \
         comments, or empty"
    )]
    FragmentLine {
        /// The fragment.
        fragment: String,
        /// Which line, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// Options did not come out as they were asked for.
    #[error("the configuration is not what was asked for, so nothing was built:{}", lines(.0))]
    Options(Vec<Unmet>),
    /// A patch file cannot be read.
    #[error("the patch {} cannot be read: {source}", path.display())]
    PatchUnreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A patch file cannot be used as it is.
    #[error("{place} {problem}")]
    PatchUnfit {
        /// Which one.
        place: String,
        /// What about it, and the way out.
        problem: &'static str,
    },
    /// A patch does not apply.
    #[error("{place} does not apply to {source_name}: {}; nothing of it is kept", .rejected.join("; "))]
    PatchRejected {
        /// Which one.
        place: String,
        /// What it was applied to.
        source_name: String,
        /// Files and hunks.
        rejected: Vec<String>,
    },
    /// Programs or headers are missing.
    #[error("building a kernel needs {}: run `apt-get install {}`", what.join(", "), packages.join(" "))]
    Missing {
        /// What.
        what: Vec<&'static str>,
        /// The packages that have it.
        packages: Vec<&'static str>,
    },
    /// There is too little room to begin.
    #[error(
        "{} has {free_mib} MiB free, and building a kernel there takes about {needed_mib} MiB: free some, or set \
         PLUGSTORM_CACHE to a folder on a larger disk", folder.display()
    )]
    TooLittleSpace {
        /// The cache.
        folder: PathBuf,
        /// What a build takes.
        needed_mib: u64,
        /// What there is.
        free_mib: u64,
    },
    /// The disk got full on the way.
    #[error(
        "no space was left in {} while {phase}: free some, or set PLUGSTORM_CACHE to a folder on a larger disk; the \
         cache is as it was before", folder.display()
    )]
    NoSpaceLeft {
        /// The cache.
        folder: PathBuf,
        /// What was going on.
        phase: String,
    },
    /// A program failed.
    #[error("{phase} failed ({status}):\n{message}\nall that was said is in {}", log.display())]
    Failed {
        /// What was going on.
        phase: String,
        /// How the program ended.
        status: String,
        /// What it said of it.
        message: String,
        /// Where all of it is.
        log: PathBuf,
    },
    /// A program was killed before it could say anything.
    #[error("{program} was killed ({status}), not by plugstorm: try again, with more memory if that ran out")]
    Killed {
        /// Which.
        program: String,
        /// How it ended.
        status: String,
    },
    /// A program does nothing any more.
    #[error(
        "{phase} came to a standstill: nothing was said and no processor time was used for {minutes} minutes, so it was \
         ended; all that was said is in {}", log.display()
    )]
    Standstill {
        /// What was going on.
        phase: String,
        /// For how long, less the time that this process itself did not get to run.
        minutes: u64,
        /// Where all of it is.
        log: PathBuf,
    },
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
    /// A signal ended it.
    #[error(
        "interrupted: nothing of it is in the cache, and what was compiled comes from ccache next time, if that is installed"
    )]
    Interrupted,
    /// A signal came when the kernel was in its place, and before our module for it was.
    #[error("interrupted: kernel {name} is in the cache, and plugstorm's module for it is built when it is first used")]
    InterruptedAfter {
        /// The kernel's name.
        name: String,
    },
}

impl BuildError {
    /// For `map_err`: what was tried on what.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpaceLeft { folder: path, phase: "files were written".into() }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// A full disk is told of the cache `root`, whoever met it and with whatever file.
    pub(super) fn in_cache(self, root: &Path) -> Self {
        let is_full =
            |source: &io::Error| matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let phase = match self {
            Self::NoSpaceLeft { phase, .. } => phase,
            Self::Kernel(KernelError::Io { source, .. } | KernelError::Cache(CacheError::Io { source, .. }))
                if is_full(&source) =>
            {
                "files were written".into()
            }
            other => return other,
        };
        Self::NoSpaceLeft { folder: root.into(), phase }
    }

    /// What was asked for cannot be, whatever the machine.
    #[must_use]
    pub fn is_users(&self) -> bool {
        match self {
            Self::Name { .. }
            | Self::UnknownSource { .. }
            | Self::NoKernelTree { .. }
            | Self::SourceInCache { .. }
            | Self::Fragment { .. }
            | Self::FragmentLine { .. }
            | Self::Options(_)
            | Self::PatchUnreadable { .. }
            | Self::PatchUnfit { .. }
            | Self::PatchRejected { .. } => true,
            // Not a word of the user's: packages that apt does not have, a full disk, a kernel that does not compile.
            _ => false,
        }
    }
}

impl BuildError {
    /// It lies in what was to be built: another source, or another commit of the same, may come out well on this machine.
    #[must_use]
    pub fn is_sources(&self) -> bool {
        match self {
            Self::Options(_) | Self::PatchRejected { .. } | Self::Kernel(KernelError::NotBuilt { .. }) => true,
            Self::Failed { phase, message, .. } => {
                MAKES_PHASES.contains(&phase.as_str()) && !STARVED.iter().any(|words| message.contains(words))
            }
            _ => false,
        }
    }
}

/// What is done by the source's own make.
const MAKES_PHASES: [&str; 3] = [CLEANING, CONFIGURING, COMPILING];
/// What compilers, make and shells say where this machine let them down.
const STARVED: [&str; 7] = [
    // Of gcc's driver, of a shell and of make, when the kernel killed what they had started for want of memory.
    "Killed signal",
    " Killed ",
    "Error 137",
    "Cannot allocate memory",
    "memory exhausted",
    "Resource temporarily unavailable",
    "Input/output error",
];

impl From<CacheError> for BuildError {
    fn from(error: CacheError) -> Self {
        match error {
            CacheError::Interrupted { .. } => Self::Interrupted,
            error => Self::Kernel(error.into()),
        }
    }
}

fn lines(unmet: &[Unmet]) -> String {
    unmet.iter().map(|unmet| format!("\n  {unmet}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_not_blamed_for_the_machine() {
        let failed = |phase: &str, message: &str| BuildError::Failed {
            phase: phase.into(),
            status: "exit status: 2".into(),
            message: message.into(),
            log: PathBuf::new(),
        };
        assert!(failed(COMPILING, "a.c:1:2: error: 'x' undeclared").is_sources());
        assert!(failed(CONFIGURING, "arch/x86/Kconfig:1: syntax error").is_sources());
        assert!(!failed(COMPILING, "gcc: fatal error: Killed signal terminated program cc1").is_sources());
        assert!(!failed(COMPILING, "sh: fork: Resource temporarily unavailable\nmake: *** Error 254").is_sources());
        assert!(!failed("unpacking the source", "tar: error: damaged").is_sources());
        assert!(!BuildError::NoSpaceLeft { folder: "/cache".into(), phase: COMPILING.into() }.is_sources());
        assert!(!BuildError::Interrupted.is_sources());
    }

    #[test]
    fn a_full_disk_is_told_in_one_way() {
        let root = Path::new("/cache");
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let file = Path::new("/cache/builds/linux/a.c");
        for error in [
            BuildError::io("cannot write", file)(full()),
            KernelError::io("cannot write", file, full()).into(),
            CacheError::Io { action: "cannot make", path: file.into(), source: full() }.into(),
        ] {
            let told = error.in_cache(root).to_string();
            assert!(told.starts_with("no space was left in /cache while files were written"), "{told}");
        }
        let other = BuildError::io("cannot write", file)(io::ErrorKind::PermissionDenied.into()).in_cache(root);
        assert!(matches!(other, BuildError::Io { .. }), "{other}");
    }
}
