//! How often is the gate wrong? Comparisons drawn from a large pool of real boots:
//!
//! ```text
//! cargo run --release --example gate_draws -- SAMPLES [--boots N] [--comparisons N] [--gate RATIO] [--seed N]
//! ```
//!
//! SAMPLES is a folder that `plugstorm bench --boots 60` has written. Of each of its sides, comparisons of two disjoint sets of N
//! boots (A/A), in which nothing differs; if it has two, comparisons of N boots of each (A/B). What was refused or told is told by name,
//! and what all boots of both sides come to.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use plugstorm::bench::compare::Comparison;
use plugstorm::bench::draws::{Draws, Tally};
use plugstorm::bench::gate::judge;
use plugstorm::bench::pool::{Pool, read};
use plugstorm_observe::statistics::Bootstrap;

const USAGE: &str = "gate_draws SAMPLES [--boots N] [--comparisons N] [--gate RATIO] [--seed N]";

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(words: &[String]) -> Result<(), Box<dyn Error>> {
    let (samples, options) = words.split_first().ok_or(USAGE)?;
    let mut draws = Draws { comparisons: 50, boots: 10, seed: 1, gate: 1.1, bootstrap: Bootstrap::default() };
    for option in options.chunks(2) {
        match option {
            [name, value] if name == "--boots" => draws.boots = value.parse()?,
            [name, value] if name == "--comparisons" => draws.comparisons = value.parse()?,
            [name, value] if name == "--gate" => draws.gate = value.parse()?,
            [name, value] if name == "--seed" => draws.seed = value.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    let pool = read(Path::new(samples))?;
    pool.left_out.iter().for_each(|note| println!("left out: {note}"));
    report(&pool, &draws)
}

fn report(pool: &Pool, draws: &Draws) -> Result<(), Box<dyn Error>> {
    let few = |what: &str| format!("{what}: too few boots for comparisons of {} a side", draws.boots);
    let tell = |what: &str, tally: &Tally| println!("{what}, {} boots a side: {}", draws.boots, tally.words());
    for side in pool.header.sides.keys() {
        let letter = side.letter();
        let what = format!("{letter}/{letter} ({} boots)", pool.boots(*side));
        tell(&what, &draws.same(pool, *side).ok_or_else(|| few(&what))?);
    }
    if pool.header.sides.len() > 1 {
        tell("a/b", &draws.both(pool).ok_or_else(|| few("a/b"))?);
        let all = Comparison::within(pool, draws.bootstrap).ok_or_else(|| few("a/b"))?;
        let verdict = judge(&all, Some(draws.gate));
        println!("a/b, all boots: {}", verdict.headline);
        verdict.refused.iter().chain(&verdict.told).for_each(|sentence| println!("  {sentence}"));
    }
    Ok(())
}
