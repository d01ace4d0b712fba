//! How fast the detector reads, and how much memory it holds while it does.
//!
//! `cargo run --release -p plugstorm-observe --example flood -- [MEGABYTES]`
//!
//! Makes console logs of that size (1,000 MB if nothing is said) from what guests of plugstorm have printed
//! (`fixtures/logs`), hands them to one detector each in pieces of 64 KiB as a console would, and never holds more of
//! them than a piece. Time is that of the detector alone, on the CPU and by the clock on the wall, which differ on a machine
//! that does other things too; memory is the peak of the whole process (`VmHWM`), a tenth of the way and at the end: linear
//! and flat means that the two are the same.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use plugstorm_observe::splat::Detector;

/// A guest that boots and has nothing to complain of.
const STEADY: &str = include_str!("../../../fixtures/logs/steady-6.12.log");
/// A guest with a use after free, and a warning about it.
const WARNING: &str = include_str!("../../../fixtures/logs/unprotected-6.12.log");
const PIECE_BYTES: usize = 64 * 1024;

/// Lines of a log without those that every boot begins with: a second boot is a report.
fn lines(log: &str) -> impl Iterator<Item = &str> + Clone {
    log.lines().filter(|line| !line.contains("Linux version"))
}

/// The lines of a report in a log.
fn report(log: &str) -> impl Iterator<Item = &str> + Clone {
    log.lines().skip_while(|line| !line.contains("cut here")).take(60)
}

/// Lines, over and over, as pieces of a console.
struct Console<I> {
    lines: I,
    buffer: Vec<u8>,
}

impl<'l, I: Iterator<Item = &'l str>> Console<I> {
    fn piece(&mut self) -> &[u8] {
        self.buffer.clear();
        while self.buffer.len() < PIECE_BYTES {
            let Some(line) = self.lines.next() else { break };
            self.buffer.extend_from_slice(line.as_bytes());
            self.buffer.push(b'\n');
        }
        &self.buffer
    }
}

/// The peak of the process's resident memory, in KiB.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

/// What this thread has had of a CPU.
fn on_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

fn run<'l>(name: &str, bytes: usize, lines: impl Iterator<Item = &'l str>) {
    let mut console = Console { lines, buffer: Vec::with_capacity(2 * PIECE_BYTES) };
    let mut detector = Detector::new();
    let (mut read, mut splats, mut spent, mut waited) = (0, 0_u64, Duration::ZERO, Duration::ZERO);
    let mut early_kib = None;
    while read < bytes {
        let piece = console.piece();
        read += piece.len();
        let (began, began_on_cpu) = (Instant::now(), on_cpu());
        detector.push(piece, |_| splats += 1);
        spent += on_cpu().saturating_sub(began_on_cpu);
        waited += began.elapsed();
        if early_kib.is_none() && read >= bytes / 10 {
            early_kib = peak_kib();
        }
    }
    let lines = detector.lines();
    detector.finish(|_| splats += 1);
    let megabytes = read as f64 / 1e6;
    println!(
        "{name}: {megabytes:.0} MB, {lines} lines, {splats} reports: {:.0} MB/s of CPU time ({:.2} s), {:.0} MB/s by the wall's \
         clock; peak {} KiB at a tenth, {} KiB at the end",
        megabytes / spent.as_secs_f64(),
        spent.as_secs_f64(),
        megabytes / waited.as_secs_f64(),
        early_kib.unwrap_or_default(),
        peak_kib().unwrap_or_default()
    );
}

fn main() -> ExitCode {
    let megabytes = match std::env::args().nth(1).map(|text| text.parse::<usize>()) {
        None => 1000,
        Some(Ok(megabytes)) => megabytes,
        Some(Err(_)) => {
            eprintln!("usage: flood [MEGABYTES]");
            return ExitCode::FAILURE;
        }
    };
    let bytes = megabytes.saturating_mul(1_000_000);
    run("nothing to report", bytes, lines(STEADY).cycle());
    let hundred_boots = std::iter::repeat_n(lines(STEADY), 100).flatten();
    run("a report in each hundred boots", bytes, hundred_boots.chain(report(WARNING)).cycle());
    run("reports alone", bytes / 10, report(WARNING).cycle());
    run(
        "one stack without end",
        bytes / 10,
        report(WARNING).take(30).chain(std::iter::repeat(" gpiochip_remove+0x1/0x2")),
    );
    run(
        "lines that almost fit",
        bytes / 10,
        std::iter::repeat("[    1.234567] foo: BUG: no, INFO: no, Kernel panic - not at all"),
    );
    ExitCode::SUCCESS
}
