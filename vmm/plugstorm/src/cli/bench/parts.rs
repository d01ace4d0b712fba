//! A benchmark in nested machines, one after another: each carries out some boots.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::guests::Prepared;
use super::{BOOTS_OF_A_MACHINE, BenchArgs, TRIES, header, outcome};
use crate::bench::journal::Journal;
use crate::bench::model::Side;
use crate::cli::{Failure, show};
use crate::host::Chosen;
use crate::host::nested::{Batch, Job, forward};
use crate::verdict::{EXIT_CLEAN, EXIT_INTERRUPTED, EXIT_MACHINE, exit_code_of_job};

/// Carries boots out until none is missing, each as often as it is worth.
pub(super) fn run(
    args: &BenchArgs,
    prepared: &Prepared,
    missing: &[(u32, Side)],
    out: &Path,
    interrupt: &AtomicBool,
) -> Result<u8, Failure> {
    let mut tried: BTreeMap<u32, u32> = BTreeMap::new();
    let mut left: Vec<u32> = missing.iter().map(|(boot, _)| *boot).collect();
    while !left.is_empty() {
        let part: Vec<u32> = left.iter().copied().take(BOOTS_OF_A_MACHINE).collect();
        part.iter().for_each(|boot| *tried.entry(*boot).or_default() += 1);
        let report = batch(args, prepared, &part, out).run(&mut forward)?;
        if interrupt.load(Ordering::Relaxed) {
            return Ok(EXIT_INTERRUPTED);
        }
        let code = report.jobs.first().and_then(|job| job.outcome()).map(|outcome| exit_code_of_job(outcome.exit_code));
        match code {
            Some(EXIT_CLEAN | EXIT_MACHINE) => {}
            // What the user can mend, or a signal.
            Some(code) => return Ok(code),
            None => show::err("the nested machine ended before its boots did\n"),
        }
        let done = Journal::open(out, header(args, prepared, &Chosen::Nested { why: None }), outcome::is_ours)?.boots();
        let before = left.len();
        left.retain(|boot| !done.contains_key(boot));
        let is_hopeless = left.len() == before;
        left.retain(|boot| tried.get(boot).is_none_or(|tries| *tries < TRIES));
        if let (true, Some(failure)) = (is_hopeless, report.failure) {
            return Err(failure.into());
        }
        if is_hopeless && code == Some(EXIT_MACHINE) {
            return Ok(EXIT_MACHINE);
        }
    }
    Ok(EXIT_CLEAN)
}

/// A machine for these boots.
fn batch(args: &BenchArgs, prepared: &Prepared, part: &[u32], out: &Path) -> Batch {
    let mut argv: Vec<OsString> = ["bench", "--host", "kvm", "--out"].map(OsString::from).to_vec();
    argv.push(out.into());
    argv.extend(prepared.words(args.own_side(), "--kernel", "--modules"));
    if args.against.is_some() {
        argv.extend(prepared.words(Side::A, "--against", "--against-modules"));
    }
    let designs: Vec<&str> = args.designs.iter().map(|design| design.name()).collect();
    for (option, values) in [("--designs", designs.join(",")), ("--measures", args.measures.join(","))] {
        if !values.is_empty() {
            argv.extend([option.into(), values.into()]);
        }
    }
    argv.extend(args.quick.then(|| "--quick".into()));
    let numbers =
        [("--boots", args.boots.to_string()), ("--cpus", args.cpus.to_string()), ("--seed", args.seed.to_string())];
    argv.extend(numbers.into_iter().flat_map(|(option, number)| [option.into(), number.into()]));
    let part: Vec<String> = part.iter().map(u32::to_string).collect();
    argv.extend(["--part".into(), part.join(",").into()]);
    prepared.batch().output(out).job(Job { argv, directory: out.into(), environment: Vec::new() })
}
