//! `plugstorm matrix`: scenarios times designs, several runs each.

mod rows;
mod runner;
mod watch;

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use super::run::interrupt;
use super::{Failure, absolute, parse_design, show};
use crate::host::HostChoice;
use crate::host::room::Jobs;
use crate::matrix::{
    Cell, Ended, ExpectError, Expectations, FolderError, Header, Matrix, MatrixFolder, State, VERSION, applicable,
    drive, state, take_over, terminal,
};
use crate::progress::Board;
use crate::scenario::Design;
use crate::verdict::{EXIT_CLEAN, EXIT_FOUND, EXIT_INTERRUPTED, EXIT_MACHINE};
use rows::Prepared;
use runner::Storms;
use watch::Shown;
pub(super) use watch::width;

/// Runs of a cell, unless the user says.
const RUNS: u32 = 3;
/// The same with --short.
const SHORT_RUNS: u32 = 1;
/// Cycles of a run with --short at most.
const SHORT_CYCLES: u32 = 10;
/// Where a matrix goes, unless the user says: always the same place, so that the same command line goes on with it.
const OUT: &str = "plugstorm-out/matrix";

const EXAMPLES: &str = "\
Examples:
  plugstorm matrix                                   every scenario of the laboratory with every design, 3 runs each
  plugstorm matrix --short --designs unprotected,stack-token
  plugstorm matrix --scenarios mine.toml --runs 10 --kernel debian-6.1 --out mine
  plugstorm matrix --out mine --scenarios mine.toml --runs 20 --kernel debian-6.1
                                                     ten more runs of each cell
  plugstorm matrix --expect fixtures/scenarios/lab/expected.toml

Each run has a seed of its own, which follows from scenario, design and number of the run. Whatever ends a matrix: the same
command line goes on where it was. In the folder are matrix.json, matrix.md (for a mail), the scenarios, and the runs' folders.

Exit codes: 0 every run has a verdict, whichever (and with --expect, every cell is as expected), 1 a cell is not as expected,
2 the user's error, 3 a run proves nothing or is missing, 130 a signal ended it.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct MatrixArgs {
    /// The designs, with commas between. Default: all.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = parse_design)]
    designs: Vec<Design>,
    /// Scenario files. Default: those of the laboratory, which plugstorm has in itself.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    scenarios: Vec<PathBuf>,
    /// Runs of each cell. Default: 3, with --short 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: Option<u32>,
    /// Cycles of each run, instead of the scenario's.
    #[arg(long, value_name = "N")]
    cycles: Option<u32>,
    /// The guest's kernel, instead of the scenarios': a name in the cache or a file.
    #[arg(long, value_name = "NAME|FILE")]
    kernel: Option<String>,
    /// The matrix's folder. One with the same matrix, or with a part of it, is continued.
    #[arg(long, value_name = "DIR", default_value = OUT)]
    out: PathBuf,
    /// A file with what is expected of cells (fixtures/scenarios/README.md): a cell that does not match is reported, exit code 1.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// For a look, or a pipeline: one run of each cell unless --runs says more, of at most 10 cycles unless --cycles does.
    #[arg(long)]
    short: bool,
    /// Carry out runs again that prove nothing.
    #[arg(long)]
    retry: bool,
    /// Boot every guest, instead of starting it from a snapshot.
    #[arg(long)]
    cold: bool,
    /// Guests at a time, 1 to 64, or `auto`, as for `storm`.
    #[arg(long, value_name = "N", default_value = "auto")]
    jobs: Jobs,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    host: HostChoice,
}

impl MatrixArgs {
    fn runs(&self) -> u32 {
        self.runs.unwrap_or(if self.short { SHORT_RUNS } else { RUNS })
    }

    /// Of a scenario that has so many.
    fn cycles(&self, own: u32) -> u32 {
        self.cycles.unwrap_or(if self.short { own.min(SHORT_CYCLES) } else { own })
    }

    /// In the order of the module's table, each once.
    fn designs(&self) -> Vec<Design> {
        Design::ALL.into_iter().filter(|design| self.designs.is_empty() || self.designs.contains(design)).collect()
    }
}

pub(super) fn main(args: &MatrixArgs) -> Result<u8, Failure> {
    // All that the user can mend comes first.
    let expectations = args.expect.as_deref().map(Expectations::load).transpose()?.unwrap_or_default();
    let rows = rows::prepare(args)?;
    let names: Vec<&str> = rows.iter().map(|row| row.row.name.as_str()).collect();
    let missing = expectations.without(&names);
    if !missing.is_empty() {
        show::err(&format!(
            "note: what is expected of {} is not looked at: no such scenario runs\n",
            missing.join(", ")
        ));
    }
    let interrupt = interrupt(true)?;
    let mut matrix = matrix(args, &rows);
    let folder = MatrixFolder::open(&absolute(&args.out)?, &matrix.header)?;
    let errands = take_over(&mut matrix, &folder, args.retry)?;
    // First: it makes the folder a matrix's.
    folder.write(&matrix)?;
    for row in &rows {
        folder.keep_scenario(&row.row.name, &row.text)?;
    }
    let board = Board::default();
    let shown = Shown::begin(&board, &matrix, errands.len());
    let ended = if errands.is_empty() {
        // Written all the same: the command line may be another one.
        matrix.state = State::Complete;
        folder.write(&matrix).map(|()| Ended::Well)
    } else {
        let mut runner = Storms::new(args, &rows, &board, &interrupt, folder.path())?;
        drive(&mut matrix, &folder, &errands, &mut runner, &shown)
    };
    shown.end();
    let ended = ended?;
    let differences: Vec<String> = matrix.cells.iter().filter_map(|cell| expectations.differs(cell)).collect();
    show::out(&last_words(&matrix, &folder, &differences));
    let is_interrupted = ended == Ended::Interrupted || interrupt.load(Ordering::Relaxed);
    if is_interrupted && matrix.state != State::Complete {
        show::err("plugstorm: a signal ended the matrix; the same command line goes on where it was\n");
    }
    Ok(exit_code(&matrix, is_interrupted, differences.is_empty()))
}

/// As far as it is known before anything on disk is looked at.
fn matrix(args: &MatrixArgs, rows: &[Prepared]) -> Matrix {
    let designs = args.designs();
    let runs = args.runs();
    let cells = rows.iter().enumerate().flat_map(|(index, row)| {
        let cell =
            move |design: &Design| Cell::new(index, &row.row, *design, applicable(&row.scenario, *design).err(), runs);
        designs.iter().map(cell)
    });
    let cells = cells.collect();
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let own = std::iter::once("plugstorm".to_owned());
    let header = Header {
        version: VERSION,
        plugstorm: env!("CARGO_PKG_VERSION").to_owned(),
        command: own.chain(std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned())).collect(),
        started_unix_s: started.as_secs(),
        runs,
        scenarios: rows.iter().map(|row| row.row.clone()).collect(),
        designs,
    };
    Matrix { header, state: State::Stopped, grounds: Vec::new(), waits: Vec::new(), cells }
}

fn last_words(matrix: &Matrix, folder: &MatrixFolder, differences: &[String]) -> String {
    let mut text = terminal(matrix, width());
    if !differences.is_empty() {
        text.push_str("\nOtherwise than expected\n");
        text.extend(differences.iter().map(|difference| format!("  {difference}\n")));
    }
    if matrix.cells.iter().any(|cell| cell.tally().inconclusive > 0) {
        text.push_str("\nRuns that prove nothing are carried out again with --retry.\n");
    }
    let path = folder.path().display();
    text.push_str(&format!(
        "\nmatrix {}, in {path}: matrix.md for a mail, matrix.json, runs below cells\n",
        state(matrix)
    ));
    text
}

/// What is not as expected stands, whatever else happened.
fn exit_code(matrix: &Matrix, is_interrupted: bool, is_as_expected: bool) -> u8 {
    let is_known = matrix.state == State::Complete && matrix.cells.iter().all(|cell| cell.tally().inconclusive == 0);
    match (is_as_expected, matrix.state) {
        (false, _) => EXIT_FOUND,
        (true, State::Complete) if is_known => EXIT_CLEAN,
        (true, State::Running | State::Stopped) if is_interrupted => EXIT_INTERRUPTED,
        _ => EXIT_MACHINE,
    }
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Unwritable { .. } => Self::machine(&error),
            _ => Self::user(&error),
        }
    }
}

impl From<ExpectError> for Failure {
    fn from(error: ExpectError) -> Self {
        Self::user(&error)
    }
}
