//! What can go wrong with a nested machine.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::EMULATOR_PACKAGE;
use crate::cache::CacheError;
use crate::initramfs::InitramfsError;
use crate::kernels::KernelError;

/// Why a batch could not be run. The message is one sentence with the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NestedError {
    /// QEMU is not installed.
    #[error("a nested machine needs qemu-system-x86_64: run `apt-get install {EMULATOR_PACKAGE}`")]
    NoEmulator,
    /// The kernel to boot is not there.
    #[error("a nested machine needs a kernel to boot: {0}")]
    Kernel(#[from] KernelError),
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// Its initramfs cannot be made.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// A folder cannot be mounted at its own path inside.
    #[error(
        "{} cannot be shared with a nested machine, which has a {} of its own: use a file in another folder",
        path.display(),
        reserved.display()
    )]
    Reserved {
        /// What was to be shared.
        path: PathBuf,
        /// What is in the way.
        reserved: PathBuf,
    },
    /// A file or folder cannot be shared.
    #[error("cannot share {} with a nested machine: {source}", path.display())]
    Share {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Too many folders.
    #[error("{count} folders are too many to share with a nested machine, which takes {most}: put inputs together")]
    TooManyShares {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// The system refused something small.
    #[error("cannot start a nested machine: {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// It did not get as far as the first job.
    #[error("the nested machine did not start within {limit:?}, and was ended; is this machine very busy?{evidence}")]
    BootTimedOut {
        /// How long it had.
        limit: Duration,
        /// The end of its console.
        evidence: String,
    },
    /// It has not been heard of.
    #[error("the nested machine has said nothing for {limit:?}, and was ended{evidence}")]
    Silent {
        /// How long it had.
        limit: Duration,
        /// The end of its console.
        evidence: String,
    },
    /// The emulator ended before the jobs did.
    #[error("the nested machine ended before its jobs did ({status}){evidence}")]
    Died {
        /// How the emulator ended.
        status: String,
        /// The end of its console, and what QEMU said.
        evidence: String,
    },
    /// It told us itself that it cannot work.
    #[error("the nested machine cannot run jobs: {0}")]
    Refused(String),
    /// We were told to stop.
    #[error("stopped by a signal; the nested machine was ended")]
    Stopped,
}
