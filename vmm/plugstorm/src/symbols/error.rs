//! What can be wrong with a file that is to give lines.

use std::io;
use std::path::PathBuf;

use crate::kernels::KernelError;

/// Why a file cannot give lines. The message is one sentence with the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SymbolError {
    /// It is not there, or not for this user.
    #[error("{} cannot be read ({source}): check the path and its permissions", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no ELF file{hint}", path.display())]
    NotElf {
        /// The file.
        path: PathBuf,
        /// What it seems to be, and what to do then.
        hint: &'static str,
    },
    /// It is for another processor.
    #[error("{} is not for x86-64, as plugstorm's guests are", path.display())]
    OtherMachine {
        /// The file.
        path: PathBuf,
    },
    /// A module was given as kernel, or a kernel as module.
    #[error("{} is {is}: give it with {option}", path.display())]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// What it is.
        is: &'static str,
        /// The option that is for such files.
        option: &'static str,
    },
    /// It was built without `-g`, or stripped.
    #[error(
        "{} has no debug information: build the kernel with CONFIG_DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=y (`plugstorm kernel \
         build debug` does), or give the file with debug information of its distribution's -dbg package",
        path.display()
    )]
    NoDebugInfo {
        /// The file.
        path: PathBuf,
    },
    /// It has no names of functions.
    #[error("{} has no symbol table: it was stripped; give the file as the build has left it", path.display())]
    NoSymbols {
        /// The file.
        path: PathBuf,
    },
    /// Its parts are not where its headers have them.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The kernel's name is none of the cache.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}
