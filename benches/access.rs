//! What one pair of entering and leaving a protected section costs, by design and by the guest's clock.

mod cases;

use std::process::ExitCode;

use plugstorm_benches::request::access;

fn main() -> ExitCode {
    cases::main("access", &access(), |_| ())
}
