//! The rows of a matrix: scenarios that can be run, before anything is.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::storm::Instead;
use super::super::storm::guests::{GuestFiles, Pantry};
use super::super::{Failure, absolute, show};
use super::MatrixArgs;
use crate::matrix::{Row, lab};
use crate::scenario::{self, Scenario, Until};
use crate::snapshots::digest;

/// How kernels begin that are as Debian built them.
const STOCK: &str = "debian-";

/// A row, with what it takes to run it.
pub(super) struct Prepared {
    pub(super) row: Row,
    /// With what the command line says instead, but for the design.
    pub(super) scenario: Scenario,
    pub(super) instead: Instead,
    pub(super) text: Arc<str>,
    /// The file that runs read.
    pub(super) file: PathBuf,
    pub(super) guest: GuestFiles,
}

pub(super) fn prepare(args: &MatrixArgs) -> Result<Vec<Prepared>, Failure> {
    let mut rows: Vec<Prepared> = Vec::new();
    let mut notes = HashSet::new();
    let mut pantry = Pantry::default();
    for (shown, text, scenario) in sources(args)? {
        let row = prepared(args, &mut pantry, shown, text, scenario)?;
        if rows.iter().any(|earlier| earlier.row.name == row.row.name) {
            let name = &row.row.name;
            return Err(Failure::user(&format!(
                "two scenarios are called `{name}`, and their runs would share a folder; give one another `name`"
            )));
        }
        // Each is said once, however many runs there are.
        let warnings = row.scenario.warnings.iter().map(|warning| format!("warning: {}: {warning}\n", row.row.name));
        for note in warnings.chain(row.guest.kernel.notes.iter().map(|note| format!("note: {note}\n"))) {
            if notes.insert(note.clone()) {
                show::err(&note);
            }
        }
        rows.push(row);
    }
    if rows.iter().any(|row| row.guest.kernel_name.starts_with(STOCK)) {
        show::err(
            "note: a stock kernel has no KASAN and no lockdep, so most uses of freed memory go unnoticed: `plugstorm kernel build \
             debug` makes one that has, for --kernel debug\n",
        );
    }
    Ok(rows)
}

/// File, text and scenario.
type Source = (PathBuf, String, Scenario);

/// The user's, or those of the laboratory.
fn sources(args: &MatrixArgs) -> Result<Vec<Source>, Failure> {
    if args.scenarios.is_empty() {
        let own = lab::SCENARIOS.iter().map(|(name, text)| -> Result<Source, Failure> {
            // Where it will be; it is put there once the folder is known to be ours.
            let file = args.out.join("scenarios").join(format!("{name}.toml"));
            let scenario = scenario::parse(text, &format!("{name}.toml (in plugstorm)"), name)?;
            Ok((file, (*text).to_owned(), scenario))
        });
        return own.collect();
    }
    let theirs = args.scenarios.iter().map(|file| -> Result<Source, Failure> {
        let text = scenario::read(file)?;
        let scenario = scenario::parse_file(file, &text)?;
        Ok((file.clone(), text, scenario))
    });
    theirs.collect()
}

fn prepared(
    args: &MatrixArgs,
    pantry: &mut Pantry,
    shown: PathBuf,
    text: String,
    mut scenario: Scenario,
) -> Result<Prepared, Failure> {
    // A run says in which cycle it found something: it ends there, whatever the scenario is written for.
    let cycles = Some(args.cycles(scenario.cycles));
    let instead = Instead { design: None, cycles, until: Some(Until::FirstFinding) };
    instead.apply(&mut scenario)?;
    if let Some(design) = args.designs().first() {
        // That there is a device with a design is known here; which one it gets is the cell's.
        scenario.clone().override_design(*design).map_err(|_| {
            let name = &scenario.name;
            Failure::user(&format!(
                "scenario `{name}` has no device with driver = \"plugstorm\", and only those have a design; leave it out"
            ))
        })?;
    }
    let file = absolute(&shown)?;
    let mut guest = pantry.guest(&shown, &scenario, args.kernel.as_deref())?;
    if guest.kernel.file().is_some() {
        // A file is called the same in a nested machine, and from whatever folder the matrix is gone on with.
        guest.kernel.image = absolute(&guest.kernel.image)?;
        guest.kernel_name = guest.kernel.image.display().to_string();
    }
    let row = Row {
        name: scenario.name.clone(),
        about: scenario.about.clone(),
        digest: digest(text.as_bytes()),
        cycles: scenario.cycles,
        kernel: guest.kernel_name.clone(),
        guest: guest.digest()?,
        file: shown,
    };
    Ok(Prepared { row, scenario, instead, text: text.into(), file, guest })
}
