//! How fast the detector reads consoles of guests: what each byte that a guest prints costs its host.
//!
//! `cargo run --release -p plugstorm-observe --example flood` is the long form: a gigabyte of each, with the memory that it takes.

use std::error::Error;

use criterion::{Criterion, Throughput};
use plugstorm_observe::splat::{Detector, Splat};

/// A guest that boots and has nothing to complain of.
const STEADY: &str = include_str!("../fixtures/logs/steady-6.12.log");
/// A guest with a warning of our module's.
const WARNING: &str = include_str!("../fixtures/logs/unprotected-6.12.log");
/// A guest with KASAN, and what that says of an object that was opened after it had been freed.
const KASAN: &str = include_str!("../fixtures/logs/kasan-6.12.log");

/// Boots that make a log long enough for the beginning not to count.
const BOOTS: usize = 20;
/// As the console of a guest comes.
const PIECE_BYTES: usize = 64 * 1024;
/// Lines of a warning's report.
const WARNING_LINES: usize = 60;

/// Lines as the guest printed them. Without those that every boot begins with: a second boot is a report.
fn lines(log: &str) -> impl Iterator<Item = &str> {
    log.split_inclusive('\n').filter(|line| !line.contains("Linux version"))
}

/// What is read, and how many reports are in it.
fn logs() -> [(&'static str, String, usize); 3] {
    let boot: String = lines(STEADY).collect();
    let warning: String = lines(WARNING).skip_while(|line| !line.contains("cut here")).take(WARNING_LINES).collect();
    let is_edge = |line: &&str| line.contains("======");
    let begins = lines(KASAN).skip_while(|line| !is_edge(line));
    // From one edge to the other.
    let kasan: String = begins
        .scan(0, |edges, line| {
            (*edges < 2).then(|| {
                *edges += usize::from(is_edge(&line));
                line
            })
        })
        .collect();
    let with_reports = [boot.as_str(), warning.as_str()].concat();
    [
        ("nothing to report", boot.repeat(BOOTS), 0),
        ("a report after each boot", with_reports.repeat(BOOTS), BOOTS),
        ("one report of KASAN", kasan, 1),
    ]
}

/// Reads a log as it comes from a console.
fn read(log: &str) -> Vec<Splat> {
    let (mut detector, mut splats) = (Detector::new(), Vec::new());
    for piece in log.as_bytes().chunks(PIECE_BYTES) {
        detector.push(piece, |splat| splats.push(splat));
    }
    detector.finish(|splat| splats.push(splat));
    splats
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default().without_plots().configure_from_args();
    let mut group = criterion.benchmark_group("detection");
    for (name, log, reports) in logs() {
        let found = read(&log).len();
        if found != reports {
            return Err(format!("{found} reports in the log with {name}, not {reports}").into());
        }
        group.throughput(Throughput::Bytes(log.len() as u64));
        group.bench_function(name, |bencher| bencher.iter_with_large_drop(|| read(&log)));
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
