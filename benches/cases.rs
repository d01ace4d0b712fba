//! Benchmarks whose time is a guest's: shared by `access.rs` and `revoke.rs`.

use std::any::Any;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};
use plugstorm_benches::request::Case;
use plugstorm_benches::{Limits, Measured, Rehearsal, Served, ServedError, as_plugstorm, server};

/// Samples of a benchmark, and how long criterion takes for them: there are many, and each request to a guest in a nested machine
/// takes some milliseconds beside what it measures.
const SAMPLES: usize = 20;
const WARM_UP: Duration = Duration::from_secs(1);
const MEASUREMENT: Duration = Duration::from_secs(4);
/// What is called a change, as a part of the time: two boots of one kernel differ by more than criterion's 1 %.
const NOISE: f64 = 0.1;

/// The guest, which is booted when the first benchmark wants it: a filter may leave none.
enum Guest {
    NotYet,
    There(Box<dyn Measured>),
}

/// Why a benchmark was left, in one sentence. It is thrown through criterion, which has no other way out of a routine.
enum Left {
    /// There is no guest.
    NoGuest(String),
    /// This one cannot be measured.
    Unmeasured(String),
    /// The guest was lost, and with it the benchmark that was under way.
    Lost(String),
}

impl Guest {
    fn measured(&mut self) -> Result<&mut dyn Measured, Left> {
        if let Self::NotYet = self {
            *self = Self::There(if is_rehearsal() { Box::new(Rehearsal) } else { Box::new(boot()?) });
        }
        match self {
            Self::There(measured) => Ok(measured.as_mut()),
            Self::NotYet => Err(Left::NoGuest("there is none".to_owned())),
        }
    }

    fn time(&mut self, case: &Case, iterations: u64) -> Result<Duration, Left> {
        let measured = self.measured()?;
        case.time(measured, iterations).map_err(|why| match measured.lost() {
            Some(lost) => Left::Lost(lost),
            None => Left::Unmeasured(why),
        })
    }
}

fn boot() -> Result<Served, Left> {
    let started = server().map_err(ServedError::from).and_then(|server| Served::start(server, Limits::default()));
    let served = started.map_err(|error| Left::NoGuest(error.to_string()))?;
    eprintln!("the guest: {}", served.facts());
    Ok(served)
}

/// Whether benchmarks are only tried out: as criterion tells by its arguments (its book, "Command-Line Options").
fn is_rehearsal() -> bool {
    let has = |wanted: &str| env::args().any(|argument| argument == wanted);
    !has("--bench") || has("--test")
}

/// Runs the cases as benchmarks of a group, which `tune` may set up. What cannot be measured here is said, in one sentence each, and
/// is no failure; a guest that is lost is one.
pub(crate) fn main(name: &str, cases: &[Case], tune: impl FnOnce(&mut BenchmarkGroup<'_, WallTime>)) -> ExitCode {
    if let Some(code) = as_plugstorm() {
        return code;
    }
    let mut criterion = Criterion::default().without_plots().configure_from_args();
    let mut group = criterion.benchmark_group(name);
    group.sample_size(SAMPLES).warm_up_time(WARM_UP).measurement_time(MEASUREMENT).noise_threshold(NOISE);
    tune(&mut group);
    let (mut guest, mut code) = (Guest::NotYet, ExitCode::SUCCESS);
    for case in cases {
        let id = BenchmarkId::new(&case.what, case.design);
        let mut run = || {
            group.bench_function(id.clone(), |bencher| {
                // Not in the routine, whose time on this side tells criterion how many iterations to ask for.
                or_throw(guest.measured().map(|_| ()));
                bencher.iter_custom(|iterations| or_throw(guest.time(case, iterations)));
            });
        };
        let Err(thrown) = catch_unwind(AssertUnwindSafe(&mut run)) else { continue };
        match left(thrown) {
            Left::Unmeasured(why) => println!("skipped {name}/{}/{}: {why}", case.what, case.design),
            Left::NoGuest(why) => {
                println!("skipped {name}, whose time is a guest's: {why}");
                break;
            }
            Left::Lost(why) => {
                eprintln!("{name}/{}/{} and what comes after it was not measured: {why}", case.what, case.design);
                code = ExitCode::FAILURE;
                break;
            }
        }
    }
    group.finish();
    criterion.final_summary();
    code
}

/// Leaves the benchmark if there is a reason to.
fn or_throw<T>(result: Result<T, Left>) -> T {
    result.unwrap_or_else(|left| resume_unwind(Box::new(left)))
}

/// What was thrown. What is not ours is a panic, and goes on.
fn left(thrown: Box<dyn Any + Send>) -> Left {
    *thrown.downcast().unwrap_or_else(|panic| resume_unwind(panic))
}
