//! The command. Everything it does is in the library.

use std::process::ExitCode;

use plugstorm::cli;
use plugstorm::host::nested;
use plugstorm::verdict::as_exit;

fn main() -> ExitCode {
    // The same binary is PID 1 of the nested host.
    if nested::is_init() {
        nested::init();
    }
    as_exit(cli::parse().map_or_else(|code| code, cli::main))
}
