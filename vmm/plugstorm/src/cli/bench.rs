//! `plugstorm bench`: what a revoke costs, and whether a change made it dearer.

mod guests;
mod outcome;
mod parts;
mod serve;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use super::run::{interrupt, tell_why};
use super::{Failure, absolute, parse_design, show};
use crate::bench::formats::Format;
use crate::bench::journal::{self, Journal, JournalError};
use crate::bench::model::{Header, Side, VERSION};
use crate::bench::plan::{KINDS, QUICK_KINDS, Size, Wanted, boots};
use crate::bench::pool::{self, Pool};
use crate::bench::run::{Setting, run};
use crate::host::nested::is_inside;
use crate::host::{self, Chosen, HostChoice, HostProbe};
use crate::results::{HostFacts, HostKind};
use crate::scenario::Design;
use crate::verdict::{EXIT_CLEAN, EXIT_INTERRUPTED, EXIT_MACHINE};
use guests::Prepared;

/// The kernel that is measured, unless the user says: one of `kernel build timing`.
const KERNEL: &str = "timing";
/// Where a benchmark goes, unless the user says: always the same place, so that the same command line goes on with it.
const OUT: &str = "plugstorm-out/bench";
/// Boots of each side, unless the user says.
const BOOTS: u32 = 10;
/// Boots of one nested machine at most: what its emulator loses is little, and what it costs to start is spread.
const BOOTS_OF_A_MACHINE: usize = 6;
/// Times that a boot is tried in all.
const TRIES: u32 = 3;

const EXAMPLES: &str = "\
Examples:
  plugstorm kernel build timing                      a kernel that watches nothing, once
  plugstorm bench                                    what each design costs on it, of 10 boots
  plugstorm bench --designs stack-token,rwsem --measures access,revoke --boots 20 --out two
  plugstorm kernel build patched --config timing --patch series.mbox
  plugstorm bench --quick --kernel patched --against timing --gate 1.10 --out gate
                                                     is `patched` slower than `timing`? Boots of both take turns
  plugstorm bench --modules ./mine --against timing --out mine
                                                     the same kernel, with a plugstorm.ko of your own on one side

Each boot has every measure once, some rounds of it, in an order of its own; the boot is the unit of all intervals. Whatever ends a
benchmark: the same command line goes on where it was. What is not the same benchmark (other measures, a kernel built anew) is not
added to one that is there.

Exit codes: 0 measured (with --gate: no cost was seen to be so much greater; the report says how much greater one could have been
without being seen), 1 the gate refuses, 2 the user's error, 3 the machine's (or too few boots to tell), 130 a signal ended it.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct BenchArgs {
    /// The kernel to measure: a name in the cache or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = KERNEL)]
    kernel: String,
    /// The kernel to compare it with. Boots of both take turns.
    #[arg(long, value_name = "NAME|FILE")]
    against: Option<String>,
    /// A folder with a plugstorm.ko, a plugstorm_bench.ko or both of your own, built for --kernel: for one of the cache, against
    /// the folder `tree` that it has there.
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// The same for --against.
    #[arg(long, value_name = "DIR", requires = "against")]
    against_modules: Option<PathBuf>,
    /// The designs, with commas between. Default: all.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = parse_design)]
    designs: Vec<Design>,
    /// What to measure, with commas between. Default: all of it.
    #[arg(long, value_name = "KIND,…", value_delimiter = ',', value_parser = KINDS)]
    measures: Vec<String>,
    /// Only what a change is most likely to move: access, revoke, allocate and instructions, without contexts and many objects, and fewer
    /// rounds where one is slow.
    #[arg(long)]
    quick: bool,
    /// Boots of each side.
    #[arg(long, value_name = "N", default_value_t = BOOTS, value_parser = clap::value_parser!(u32).range(1..=1000))]
    boots: u32,
    /// vCPUs of a guest.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    cpus: u8,
    /// Decides the order of boots and of measures.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The benchmark's folder. One with the same benchmark is continued.
    #[arg(long, value_name = "DIR", default_value = OUT)]
    out: PathBuf,
    /// An earlier benchmark to compare with, instead of --against: its folder, or the samples.jsonl in it. Only one of the same
    /// machine in the same state tells anything.
    #[arg(long, value_name = "DIR|FILE", conflicts_with = "against")]
    baseline: Option<PathBuf>,
    /// Refuse any cost of a design (time, bytes, instructions) that is this many times the base's or more, and what can no longer be
    /// measured: 1.10 is a tenth more.
    #[arg(long, value_name = "RATIO", value_parser = parse_gate)]
    gate: Option<f64>,
    /// The design that others are told as multiples of.
    #[arg(long, value_name = "NAME", default_value = "stack-token", value_parser = parse_design)]
    reference: Design,
    /// What to write beside bench.md, bench.json and the plots, with commas between.
    #[arg(long, value_enum, value_name = "FORMAT,…", value_delimiter = ',')]
    format: Vec<Format>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    host: HostChoice,
    /// Only these boots, counted from 0, for a nested machine.
    #[arg(long, value_name = "N,…", value_delimiter = ',', hide = true)]
    part: Vec<u32>,
    /// Boot one guest and answer requests on standard input, for `cargo bench`.
    #[arg(long, hide = true)]
    serve: bool,
}

/// A gate of 1 would refuse half of all changes that change nothing.
fn parse_gate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(gate) if (1.01..=100.0).contains(&gate) => Ok(gate),
        _ => Err("give a ratio from 1.01 to 100, such as 1.10 for a tenth".into()),
    }
}

impl BenchArgs {
    fn wanted(&self) -> Wanted {
        let designs = Design::ALL.into_iter();
        let kinds =
            KINDS.into_iter().filter(|kind| self.measures.is_empty() || self.measures.iter().any(|one| one == kind));
        Wanted {
            designs: designs.filter(|one| self.designs.is_empty() || self.designs.contains(one)).collect(),
            kinds: kinds.map(str::to_owned).collect(),
            size: if self.quick { Size::Quick } else { Size::Full },
            cpus: self.cpus.into(),
        }
    }

    /// The one that is measured for its own sake.
    fn own_side(&self) -> Side {
        if self.against.is_some() { Side::B } else { Side::A }
    }

    /// The base first.
    fn sides(&self) -> Vec<Side> {
        if self.against.is_some() { vec![Side::A, Side::B] } else { vec![Side::A] }
    }

    /// What the user calls a side's kernel, and its modules.
    fn parts(&self, side: Side) -> (&str, Option<&PathBuf>) {
        match (&self.against, side) {
            (Some(base), Side::A) => (base, self.against_modules.as_ref()),
            _ => (&self.kernel, self.modules.as_ref()),
        }
    }
}

pub(super) fn main(args: &BenchArgs) -> Result<u8, Failure> {
    if args.serve {
        return serve::main(args);
    }
    // All that the user can mend comes first.
    if args.gate.is_some() && args.against.is_none() && args.baseline.is_none() {
        return Err(Failure::user(
            &"--gate has nothing to compare with: name a kernel with --against, or an earlier benchmark with --baseline",
        ));
    }
    if let Some(baseline) = &args.baseline {
        fits(args, &pool::read(baseline)?, baseline)?;
    }
    // Without --measures it is whatever --quick measures.
    let left_out: Vec<&String> =
        args.measures.iter().filter(|kind| args.quick && !QUICK_KINDS.contains(&kind.as_str())).collect();
    if let [first, ..] = left_out.as_slice() {
        return Err(Failure::user(&format!("--quick leaves {first} out: give one of the two up")));
    }
    let prepared = Prepared::new(args)?;
    if prepared.is_of_one() {
        show::err("note: both sides are of the same kernel and modules, byte by byte: whatever differs is chance\n");
    }
    let out = absolute(&args.out)?;
    let boots: Vec<(u32, Side)> = (0..).zip(boots(&args.sides(), args.boots, args.seed)).collect();
    let interrupt = interrupt(true)?;
    let chosen = host::choose(args.host).map_err(|error| Failure::machine(&error))?;
    // In a nested machine the one around it has it.
    let _claim = if is_inside() { None } else { journal::claim(&out)? };
    let mut journal = Journal::open(&out, header(args, &prepared, &chosen), outcome::is_ours)?;
    let missing = missing(&boots, &journal, &args.part);
    let ended = match chosen {
        Chosen::Kvm(probe) => here(args, &prepared, &mut journal, &missing, &probe, &interrupt)?,
        Chosen::Nested { why } => {
            tell_why(why);
            drop(journal);
            let ended = parts::run(args, &prepared, &missing, &out, &interrupt)?;
            journal = Journal::open(&out, header(args, &prepared, &Chosen::Nested { why: None }), outcome::is_ours)?;
            ended
        }
    };
    if !args.part.is_empty() {
        return Ok(ended);
    }
    let done = journal.boots().len();
    let gate = if done > 0 { outcome::tell(args, &out)? } else { EXIT_CLEAN };
    if done < boots.len() {
        let gone_on = "the same command line goes on where it was";
        show::err(&format!("plugstorm: {done} of {} boots are measured; {gone_on}\n", boots.len()));
    }
    let is_interrupted = interrupt.load(Ordering::Relaxed);
    Ok(match ended {
        // What too few boots say is no verdict.
        EXIT_CLEAN if done < boots.len() && is_interrupted => EXIT_INTERRUPTED,
        EXIT_CLEAN if done < boots.len() => EXIT_MACHINE,
        EXIT_CLEAN => gate,
        code => code,
    })
}

/// Whether a baseline can be one: what is seen of it before anything runs.
fn fits(args: &BenchArgs, baseline: &Pool, path: &Path) -> Result<(), Failure> {
    let path = absolute(path)?;
    let out = absolute(&args.out)?;
    if path == out || path.parent() == Some(&out) {
        return Err(Failure::user(&format!(
            "{} is this benchmark's own folder: name another one with --out",
            out.display()
        )));
    }
    let cpus = baseline.header.sides.values().next_back().map_or(0, |facts| facts.cpus);
    if cpus != u32::from(args.cpus) {
        let words = format!(
            "the guests of {} had {cpus} CPUs: measure with --cpus {cpus}, or another baseline",
            path.display()
        );
        return Err(Failure::user(&words));
    }
    Ok(())
}

/// Boots to be carried out.
fn missing(boots: &[(u32, Side)], journal: &Journal, part: &[u32]) -> Vec<(u32, Side)> {
    let done = journal.boots();
    let is_wanted = |boot: &u32| part.is_empty() || part.contains(boot);
    boots.iter().copied().filter(|(boot, _)| is_wanted(boot) && !done.contains_key(boot)).collect()
}

fn header(args: &BenchArgs, prepared: &Prepared, chosen: &Chosen) -> Header {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (kind, probe) = match chosen {
        Chosen::Kvm(probe) if is_inside() => (HostKind::Nested, Some(probe)),
        Chosen::Kvm(probe) => (HostKind::Kvm, Some(probe)),
        Chosen::Nested { .. } => (HostKind::Nested, None),
    };
    Header {
        version: VERSION,
        plugstorm: env!("CARGO_PKG_VERSION").to_owned(),
        started_unix_s: started.as_secs(),
        seed: args.seed,
        plan: args.wanted().digest(),
        host: HostFacts {
            kind,
            loop_rounds_per_second: probe.and_then(|probe| probe.rounds_per_second),
            exits_per_second: probe.and_then(|probe| probe.exits_per_second),
        },
        sides: args.sides().into_iter().filter_map(|side| Some((side, prepared.facts(side)?))).collect(),
    }
}

/// On this machine's KVM.
fn here(
    args: &BenchArgs,
    prepared: &Prepared,
    journal: &mut Journal,
    boots: &[(u32, Side)],
    probe: &HostProbe,
    interrupt: &AtomicBool,
) -> Result<u8, Failure> {
    let wanted = args.wanted();
    let measures = wanted.measures();
    let mut guests = prepared.guests();
    let setting = Setting {
        designs: &wanted.designs,
        boots,
        measures: &measures,
        seed: args.seed,
        slowdown: probe.slowdown,
        interrupt,
    };
    let ran = run(&setting, &mut guests, journal, &mut |line| show::err(&format!("{line}\n")))?;
    Ok(match () {
        () if ran.interrupted => EXIT_INTERRUPTED,
        () if ran.failures.is_empty() => EXIT_CLEAN,
        () => EXIT_MACHINE,
    })
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Unwritable { .. } => Self::machine(&error),
            _ => Self::user(&error),
        }
    }
}
