//! How long a revoke takes, by design and by the guest's clock.

mod cases;

use std::process::ExitCode;

use criterion::SamplingMode;
use plugstorm_benches::request::revoke;

fn main() -> ExitCode {
    // Revokes have modes, between which no line can be drawn: all samples are of as many.
    cases::main("revoke", &revoke(), |group| {
        group.sampling_mode(SamplingMode::Flat);
    })
}
