//! What a matrix is made of, and the shape of `matrix.json`, version 1. Fields may be added within a version; none changes its
//! meaning.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::folder::run_folder;
use super::interval::Interval;
use super::outcome::{Came, Ground};
use super::reach::Reach;
use super::waits::Waits;
use crate::results::{FindingKind, RunResult};
use crate::scenario::Design;
use crate::snapshots::digest;

/// The version of [`Header`] and what goes with it.
pub const VERSION: u32 = 1;

/// What decides whether two matrices are one: results of one folder are comparable only if it is the same for all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub version: u32,
    /// The version of plugstorm.
    pub plugstorm: String,
    /// The command line, without the program's folder.
    pub command: Vec<String>,
    /// When it was begun, in seconds since 1970.
    pub started_unix_s: u64,
    /// Runs of each cell.
    pub runs: u32,
    /// The rows.
    pub scenarios: Vec<Row>,
    /// The columns.
    pub designs: Vec<Design>,
}

/// A scenario, as the matrix runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub about: String,
    /// Its file.
    pub file: PathBuf,
    /// A digest of its file.
    pub digest: String,
    /// Cycles of each run.
    pub cycles: u32,
    /// The kernel, as it was asked for.
    pub kernel: String,
    /// A digest of that kernel and of the initramfs with our agent and modules.
    pub guest: String,
}

impl Row {
    /// What is the same for all runs that may be in one row.
    fn key(&self) -> (&str, &str, u32, &str, &str) {
        (&self.name, &self.digest, self.cycles, &self.kernel, &self.guest)
    }
}

impl Header {
    /// May a matrix with this header go on with the results of an earlier one? More scenarios, designs and runs may be asked for;
    /// none that there are results of may be left out or be another one.
    ///
    /// # Errors
    /// What is different, as a clause.
    pub fn continues(&self, earlier: &Self) -> Result<(), String> {
        if (self.version, &self.plugstorm) != (earlier.version, &earlier.plugstorm) {
            return Err(format!("it is of plugstorm {}, and this is {}", earlier.plugstorm, self.plugstorm));
        }
        for row in &earlier.scenarios {
            let Some(now) = self.scenarios.iter().find(|now| now.name == row.name) else {
                return Err(format!("it has the scenario `{}`, which is not asked for now", row.name));
            };
            if now.key() == row.key() {
                continue;
            }
            let name = &row.name;
            return Err(if now.digest != row.digest {
                format!("the file of its scenario `{name}` was another one")
            } else if now.cycles != row.cycles {
                format!("its scenario `{name}` was run for {} cycles, and now for {}", row.cycles, now.cycles)
            } else if now.kernel != row.kernel {
                format!("its scenario `{name}` was run on {}, and now on {}", row.kernel, now.kernel)
            } else {
                format!("the kernel {}, our agent or our module was another one for its scenario `{name}`", row.kernel)
            });
        }
        if let Some(missing) = earlier.designs.iter().find(|design| !self.designs.contains(design)) {
            return Err(format!("it has the design {}, which is not asked for now", missing.name()));
        }
        if self.runs < earlier.runs {
            return Err(format!("it has {} runs a cell, and now {} are asked for", earlier.runs, self.runs));
        }
        Ok(())
    }
}

/// A scenario with a design.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The row, by its index.
    pub row: usize,
    /// The scenario's name.
    pub scenario: String,
    /// The design.
    pub design: Design,
    /// Cycles of each run.
    pub cycles: u32,
    /// Why it cannot be run, if it cannot.
    pub not_applicable: Option<String>,
    /// What came of each run; none where nothing has come yet.
    pub runs: Vec<Option<Came>>,
}

/// A title, and in how many runs of a cell it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The title.
    pub title: String,
    /// Of which kind.
    pub kind: FindingKind,
    /// Runs that found it.
    pub runs: u32,
    /// The seed of the first of them.
    pub seed: u64,
    /// The cycle of that, counted from 1.
    pub cycle: u32,
}

/// What the runs of a cell add up to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tally {
    /// Runs that found nothing, with complete evidence.
    pub passed: u32,
    /// Runs that found something, other than a removal that never ends.
    pub found: u32,
    /// Runs in which a removal did not end.
    pub hung: u32,
    /// Runs that prove nothing.
    pub inconclusive: u32,
    /// Runs that are still to be carried out.
    pub pending: u32,
    /// The rate at which a run finds something, hung ones included: where it lies with 95 % confidence (Wilson). None without
    /// a verdict.
    pub rate: Option<Interval>,
    /// After how many cycles.
    pub cycles_until_found: Option<Reach>,
    /// What was found, the most frequent first.
    pub titles: Vec<Told>,
}

impl Tally {
    /// Runs with a verdict.
    #[must_use]
    pub fn verdicts(&self) -> u32 {
        self.passed + self.caught()
    }

    /// Runs that found something or hung.
    #[must_use]
    pub fn caught(&self) -> u32 {
        self.found + self.hung
    }
}

impl Cell {
    /// A cell of which nothing is known yet.
    #[must_use]
    pub fn new(row: usize, of: &Row, design: Design, not_applicable: Option<String>, runs: u32) -> Self {
        // One that cannot be run has no runs that somebody could wait for.
        let runs = if not_applicable.is_some() { 0 } else { runs as usize };
        let (scenario, cycles) = (of.name.clone(), of.cycles);
        Self { row, scenario, design, cycles, not_applicable, runs: vec![None; runs] }
    }

    /// The seed of a run, counted from 1: it follows from the cell and the run's number, whatever else is in the matrix.
    #[must_use]
    pub fn seed(&self, run: u32) -> u64 {
        let text = format!("{}\n{}\n{run}", self.scenario, self.design.name());
        // 32 bits are enough to differ, and can still be typed.
        digest(text.as_bytes())
            .get(..8)
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .unwrap_or(u64::from(run))
    }

    /// All runs have ended.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.runs.iter().all(Option::is_some)
    }

    /// What its runs add up to.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally {
            passed: 0,
            found: 0,
            hung: 0,
            inconclusive: 0,
            pending: 0,
            rate: None,
            cycles_until_found: None,
            titles: Vec::new(),
        };
        let mut cycles = Vec::new();
        for (number, run) in (1u32..).zip(&self.runs) {
            match run {
                None => tally.pending += 1,
                Some(Came::Inconclusive { .. }) => tally.inconclusive += 1,
                Some(Came::Passed) => tally.passed += 1,
                Some(Came::Found { cycle, hung, titles }) => {
                    *(if *hung { &mut tally.hung } else { &mut tally.found }) += 1;
                    cycles.push(*cycle);
                    for title in titles {
                        match tally.titles.iter_mut().find(|told| told.title == title.title) {
                            Some(told) => told.runs += 1,
                            None => tally.titles.push(Told {
                                title: title.title.clone(),
                                kind: title.kind,
                                runs: 1,
                                seed: self.seed(number),
                                cycle: *cycle,
                            }),
                        }
                    }
                }
            }
        }
        // Stable: of equally frequent ones the first comes first.
        tally.titles.sort_by_key(|told| std::cmp::Reverse(told.runs));
        tally.rate = Interval::of_rate(tally.caught(), tally.verdicts());
        tally.cycles_until_found = Reach::of(&cycles, tally.passed);
        tally
    }
}

/// How far a matrix has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Runs are under way, or it was killed.
    Running,
    /// Something ended it before its time: a signal, or what the machine failed at.
    Stopped,
    /// All runs have ended.
    Complete,
}

/// A matrix as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// What it is of.
    pub header: Header,
    /// How far it has come.
    pub state: State,
    /// What its runs ran on, each different one once.
    pub grounds: Vec<Ground>,
    /// What its guests waited for, by design, in the order in which these came.
    pub waits: Vec<Waits>,
    /// Its cells, by row and then by column.
    pub cells: Vec<Cell>,
}

impl Matrix {
    /// Runs that have ended, and all.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        let runs = || self.cells.iter().flat_map(|cell| &cell.runs);
        (runs().filter(|run| run.is_some()).count(), runs().count())
    }

    /// The cell of a row and a column.
    #[must_use]
    pub fn cell(&self, row: usize, design: Design) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.row == row && cell.design == design)
    }

    /// Notes what a run ran on, and what its guests waited for. Once for each run.
    pub fn know(&mut self, design: Design, result: &RunResult) {
        self.waited(design, result);
        if let Some(ground) = Ground::of(result) {
            self.stood_on(ground);
        }
    }

    fn waited(&mut self, design: Design, result: &RunResult) {
        match self.waits.iter_mut().find(|waits| waits.design == design) {
            Some(waits) => waits.count(result),
            None => {
                let mut waits = Waits::of(design);
                waits.count(result);
                self.waits.push(waits);
            }
        }
    }

    /// Notes what a run ran on.
    pub fn stood_on(&mut self, ground: Ground) {
        if !self.grounds.contains(&ground) {
            self.grounds.push(ground);
            self.grounds.sort();
        }
    }
}

/// `matrix.json`.
#[derive(Serialize)]
struct File<'a> {
    #[serde(flatten)]
    header: &'a Header,
    state: State,
    grounds: &'a [Ground],
    waits: &'a [Waits],
    cells: Vec<FileCell<'a>>,
}

#[derive(Serialize)]
struct FileCell<'a> {
    scenario: &'a str,
    design: Design,
    cycles: u32,
    not_applicable: Option<&'a str>,
    #[serde(flatten)]
    tally: Tally,
    runs: Vec<FileRun<'a>>,
}

#[derive(Serialize)]
struct FileRun<'a> {
    run: u32,
    seed: u64,
    folder: PathBuf,
    #[serde(flatten)]
    came: Option<&'a Came>,
}

impl Serialize for Matrix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cells = self.cells.iter().map(|cell| FileCell {
            scenario: &cell.scenario,
            design: cell.design,
            cycles: cell.cycles,
            not_applicable: cell.not_applicable.as_deref(),
            tally: cell.tally(),
            runs: (1u32..)
                .zip(&cell.runs)
                .map(|(run, came)| FileRun {
                    run,
                    seed: cell.seed(run),
                    folder: run_folder(cell, run),
                    came: came.as_ref(),
                })
                .collect(),
        });
        let cells = cells.collect();
        File { header: &self.header, state: self.state, grounds: &self.grounds, waits: &self.waits, cells }
            .serialize(serializer)
    }
}
