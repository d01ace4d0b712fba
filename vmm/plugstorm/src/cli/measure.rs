//! `plugstorm snapshot measure`: what copies of one snapshot take.

use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

use clap::Args;
use plugstorm_machine::Machine;
use plugstorm_observe::timing::Summary;
use serde::Serialize;

use super::from::{Nowhere, open, restore, room_mib, verified};
use super::run::{only_job, tell_why};
use super::snapshot::pretty;
use super::{Failure, absolute, show};
use crate::cache;
use crate::host::holdings::holdings;
use crate::host::nested::{Batch, Job, forward};
use crate::host::{self, Chosen, HostChoice};
use crate::results::Holdings;
use crate::storm::fork::Saved;
use crate::storm::machine::machine_error;
use crate::verdict::EXIT_CLEAN;

/// How long one copy idles before its memory is read.
const IDLE: Duration = Duration::from_secs(3);
/// How long all of them do: each gets less of the host, and what it does after a restore takes longer.
const IDLE_ALL: Duration = Duration::from_secs(10);
/// This process's memory, all mappings in one (proc(5)).
const ROLLUP: &str = "/proc/self/smaps_rollup";

#[derive(Debug, Args)]
pub(super) struct MeasureArgs {
    /// The snapshot's name.
    #[arg(value_name = "NAME")]
    name: String,
    /// How many copies, 2 to 100.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=100))]
    idle: u32,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Where to run them.
    #[arg(long, value_enum, default_value_t)]
    host: HostChoice,
}

pub(super) fn main(args: &MeasureArgs) -> Result<u8, Failure> {
    let manifest = verified(&args.name)?;
    match host::choose(args.host).map_err(|error| Failure::machine(&error))? {
        Chosen::Kvm(_) => {
            let measured = measure(&open(&args.name)?, args.idle)?;
            show::out(&if args.json { pretty(&measured)? } else { measured.text() });
            Ok(EXIT_CLEAN)
        }
        Chosen::Nested { why } => {
            tell_why(why);
            let mut argv: Vec<OsString> =
                ["snapshot", "measure", &args.name, "--host", "kvm", "--idle"].map(OsString::from).to_vec();
            argv.push(args.idle.to_string().into());
            argv.extend(args.json.then(|| "--json".into()));
            let job = Job { argv, directory: absolute(&cache::root())?, environment: Vec::new() };
            let batch = Batch::new().memory_mib(room_mib(&manifest, args.idle.into())).job(job);
            only_job(batch.run(&mut forward)?)
        }
    }
}

/// Memory of this process, with what it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Memory {
    /// With each page that several copies share counted once.
    pss_bytes: u64,
    /// With such pages counted as often as they are mapped.
    rss_bytes: u64,
    /// What nobody shares: mostly what guests have written.
    private_bytes: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Measured {
    name: String,
    copies: u32,
    /// Before the first.
    none: Memory,
    /// With one.
    one: Memory,
    /// With all.
    all: Memory,
    /// Pss with all by Pss with one.
    ratio: f64,
    /// Pss that each after the first adds.
    further_bytes: u64,
    /// From the open file to vCPUs that run, of all copies.
    restores: Option<Summary>,
    /// What this process held after these copies had ended, and after as many more.
    held: Option<(Holdings, Holdings)>,
}

fn measure(saved: &Saved, copies: u32) -> Result<Measured, Failure> {
    let mut restores_ns = Vec::new();
    let none = memory()?;
    let mut machines = vec![fork(saved, &mut restores_ns)?];
    idle(&machines, IDLE)?;
    let one = memory()?;
    for _ in 1..copies {
        machines.push(fork(saved, &mut restores_ns)?);
    }
    idle(&machines, IDLE_ALL)?;
    let all = memory()?;
    drop(machines);
    // The first of everything leaves what the next uses again: stacks of threads, arenas of the allocator.
    let before = holdings();
    let machines = (0..copies).map(|_| fork(saved, &mut restores_ns)).collect::<Result<Vec<_>, _>>()?;
    drop(machines);
    Ok(Measured {
        name: saved.name.clone(),
        copies,
        none,
        one,
        all,
        ratio: ratio(all.pss_bytes, one.pss_bytes),
        further_bytes: all.pss_bytes.saturating_sub(one.pss_bytes) / u64::from(copies.saturating_sub(1).max(1)),
        restores: Summary::of(restores_ns),
        held: before.zip(holdings()),
    })
}

/// Starts a copy, and takes the time.
fn fork(saved: &Saved, restores_ns: &mut Vec<u64>) -> Result<Machine, Failure> {
    let begun = Instant::now();
    let mut machine = restore(saved, || Box::new(Nowhere))?;
    machine.start().map_err(|error| machine_error(&error))?;
    restores_ns.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
    Ok(machine)
}

/// Lets them run. What none of them does is end.
fn idle(machines: &[Machine], time: Duration) -> Result<(), Failure> {
    std::thread::sleep(time);
    match machines.iter().find_map(Machine::stop_cause) {
        None => Ok(()),
        Some(cause) => {
            Err(Failure::machine(&format!("a copy that should idle has ended: {cause}; look with `run --from`")))
        }
    }
}

fn memory() -> Result<Memory, Failure> {
    let failed = |reason: &dyn std::fmt::Display| {
        Failure::machine(&format!("{ROLLUP} does not tell this process's memory: {reason}; it takes Linux 4.14"))
    };
    let text = fs::read_to_string(ROLLUP).map_err(|error| failed(&error))?;
    of_rollup(&text).ok_or_else(|| failed(&"a field is not there"))
}

fn of_rollup(text: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    Some(Memory {
        pss_bytes: field("Pss:")?,
        rss_bytes: field("Rss:")?,
        private_bytes: field("Private_Clean:")? + field("Private_Dirty:")?,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a factor for people")]
fn ratio(of: u64, by: u64) -> f64 {
    (of as f64 / by.max(1) as f64 * 100.0).round() / 100.0
}

impl Measured {
    fn text(&self) -> String {
        let row = |what: &str, memory: &Memory| {
            format!(
                "{what:<12} {:>8} {:>8} {:>8}\n",
                tenths(memory.pss_bytes),
                tenths(memory.rss_bytes),
                tenths(memory.private_bytes)
            )
        };
        let mut text = format!("{:<12} {:>8} {:>8} {:>8}  MiB of this process\n", self.name, "Pss", "Rss", "private");
        text += &row("no copy", &self.none);
        text += &row("1 copy", &self.one);
        text += &row(&format!("{} copies", self.copies), &self.all);
        text += &format!(
            "memory       {} idle copies take {:.2} times what one takes (Pss); each after the first {} MiB\n",
            self.copies,
            self.ratio,
            tenths(self.further_bytes)
        );
        if let Some(restores) = &self.restores {
            text += &format!(
                "restore      p50 {:.1} ms, max {:.1} ms, from the open file to running vCPUs, of {}\n",
                milliseconds(restores.p50_ns),
                milliseconds(restores.max_ns),
                restores.n
            );
        }
        if let Some((before, after)) = &self.held {
            let more = |before: u64, after: u64| after.cast_signed().saturating_sub(before.cast_signed());
            text += &format!(
                "left behind  {} descriptors, {} threads, {} mappings by {} more copies\n",
                more(before.descriptors, after.descriptors),
                more(before.threads, after.threads),
                more(before.mappings, after.mappings),
                self.copies
            );
        }
        text
    }
}

/// MiB.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn tenths(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollup_is_read() {
        let text = "00400000-7fff [rollup]\nRss:   20 kB\nPss:  10 kB\nPss_Dirty: 7 kB\nPrivate_Clean: 1 kB\nPrivate_Dirty: 2 kB\n";
        let memory = of_rollup(text).unwrap();
        assert_eq!((memory.pss_bytes, memory.rss_bytes, memory.private_bytes), (10 << 10, 20 << 10, 3 << 10));
        assert_eq!(of_rollup("Rss: 20 kB\n"), None);
        assert!(of_rollup(&fs::read_to_string(ROLLUP).unwrap()).is_some());
        assert!((ratio(30, 20) - 1.5).abs() < 1e-9);
    }
}
