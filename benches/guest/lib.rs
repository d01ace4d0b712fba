//! A guest that answers one measure after another, for the benchmarks whose time is the guest's.
//!
//! `served.rs` talks to the process that has the guest; `request.rs` turns what criterion asks for into what the guest's module
//! takes, and its answer into a time; `rehearsal.rs` stands in for a guest where nothing is measured.

#![forbid(unsafe_code)]

mod line;
mod rehearsal;
pub mod request;
mod served;

use std::process::{Command, ExitCode};
use std::{env, io};

use plugstorm::bench::model::Sample;
use plugstorm::cli;
use plugstorm::host::nested;
use plugstorm::verdict::as_exit;

pub use rehearsal::Rehearsal;
pub use served::{Limits, Served, ServedError};

/// Set in the environment of a benchmark's executable that is to be `plugstorm`.
const SERVES: &str = "PLUGSTORM_SERVES";
/// The guest's kernel, instead of the one that `plugstorm bench` takes.
const KERNEL: &str = "PLUGSTORM_BENCH_KERNEL";

/// Who measures in a guest.
pub trait Measured {
    /// Has the guest carry out one measure, in the words of its module (`guest/module/bench.h`), such as `measure=clock rounds=3
    /// loops=100`. What it measured, in the order of rounds and threads; never empty.
    ///
    /// # Errors
    /// One sentence, if that could not be measured. The next one may be, unless [`Self::lost`] says otherwise.
    fn measure(&mut self, request: &str) -> Result<Vec<Sample>, String>;

    /// Why nothing can be measured any more, in one sentence, if so.
    fn lost(&self) -> Option<String> {
        None
    }
}

/// What the machine's owner is in every executable that serves: `plugstorm` itself, if this process was started to be it, and PID 1
/// of the nested host. Its exit code, once it is over. Call this first of all in `main`.
///
/// A benchmark is its own server, and not the `plugstorm` beside it, so that what is measured is what cargo has just built: the
/// sources of the guest's module are in the executable.
#[must_use]
pub fn as_plugstorm() -> Option<ExitCode> {
    if nested::is_init() {
        nested::init();
    }
    let is_asked_for = nested::is_inside() || env::var_os(SERVES).is_some_and(|value| value == "1");
    is_asked_for.then(|| as_exit(cli::parse().map_or_else(|code| code, cli::main)))
}

/// The command that [`Served::start`] takes: this very executable, as `plugstorm bench --serve`.
///
/// # Errors
/// If the system does not say which executable this is.
pub fn server() -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.env(SERVES, "1").args(["bench", "--serve"]);
    if let Some(kernel) = env::var_os(KERNEL) {
        command.arg("--kernel").arg(kernel);
    }
    Ok(command)
}
