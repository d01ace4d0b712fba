//! The command. Everything it does is in the library.

use std::process::ExitCode;

use clap::Parser;
use plugstorm::cli::{self, Cli};
use plugstorm::host::nested;
use plugstorm::verdict::as_exit;

fn main() -> ExitCode {
    // The same binary is PID 1 of the nested host.
    if nested::is_init() {
        nested::init();
    }
    as_exit(cli::main(Cli::parse()))
}
