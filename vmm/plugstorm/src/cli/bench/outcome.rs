//! What is shown and written of a benchmark once its boots are over.

use std::path::Path;

use super::BenchArgs;
use crate::bench::formats::Format;
use crate::bench::journal::TEMPORARY;
use crate::bench::model::SideFacts;
use crate::bench::pool::{self, Pool, PoolError};
use crate::bench::results::{Options, Results};
use crate::cli::matrix::width;
use crate::cli::{Failure, show};
use crate::results::write_whole;

/// The sender's name in KCIDB.
const ORIGIN: &str = "plugstorm";
/// Written without being asked for.
const ALWAYS: [Format; 2] = [Format::Markdown, Format::Json];
/// The files that plots go to end so.
const PLOT: &str = ".svg";

/// Whether a file in a benchmark's folder is one of its results.
pub(super) fn is_ours(name: &str) -> bool {
    name.ends_with(PLOT) || Format::ALL.iter().any(|format| format.file() == Some(name))
}

/// Works it out, shows it, and writes it down beside the samples. The gate's exit code.
pub(super) fn tell(args: &BenchArgs, out: &Path) -> Result<u8, Failure> {
    let baseline = args.baseline.as_deref().map(pool::read).transpose()?;
    let options = Options { gate: args.gate, reference: args.reference.name().to_owned(), ..Options::default() };
    let pool = pool::read(out)?;
    if let Some(baseline) = &baseline {
        alike(&pool, baseline)?;
        baseline.left_out.iter().for_each(|note| show::err(&format!("note: of the baseline, {note}\n")));
    }
    let results = Results::of(pool, baseline.as_ref(), &options);
    let render = |format| results.render(format, width(), ORIGIN).map_err(|error| Failure::machine(&error));
    show::out(&render(Format::Table)?);
    let mut files = Vec::new();
    for format in Format::ALL.into_iter().filter(|format| ALWAYS.contains(format) || args.format.contains(format)) {
        if let Some(file) = format.file() {
            files.push((file, render(format)?));
        }
    }
    files.extend(results.plots());
    for (name, text) in &files {
        let file = out.join(name);
        write_whole(out, TEMPORARY, &file, text.as_bytes()).map_err(|error| {
            Failure::machine(&format!("{} cannot be written: {error}; name another folder with --out", file.display()))
        })?;
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    show::out(&format!("\nin {}: samples.jsonl, {}\n", out.display(), names.join(", ")));
    Ok(results.exit_code())
}

/// Whether both were measured in the same settings: a revoke counts ticks.
fn alike(pool: &Pool, baseline: &Pool) -> Result<(), Failure> {
    let facts = |pool: &Pool| pool.header.sides.values().next_back().cloned();
    let (Some(now), Some(before)) = (facts(pool), facts(baseline)) else { return Ok(()) };
    let settings = |of: &SideFacts| {
        let preemption = of.preemption.as_deref().unwrap_or("not told");
        format!("{} CPUs, HZ {}, preemption {preemption}", of.cpus, of.hz)
    };
    let (now, before) = (settings(&now), settings(&before));
    if now == before {
        return Ok(());
    }
    Err(Failure::user(&format!(
        "the baseline's guest had {before}, and this one {now}: these are not compared; measure both the same way (what was measured is kept)"
    )))
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        Self::user(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_known_by_their_names() {
        assert!(is_ours("bench.md") && is_ours("bench.json") && is_ours("samples.csv") && is_ours("revoke.svg"));
        assert!(!is_ours("thesis.tex") && !is_ours("table"));
    }
}
