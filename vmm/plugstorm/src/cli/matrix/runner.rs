//! The runs of a matrix, carried out as `plugstorm storm` does: on this machine's KVM, or as jobs of nested machines.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::super::run::tell_why;
use super::super::storm::{Instead, Ready, Way, here, nested};
use super::super::{Failure, show};
use super::MatrixArgs;
use super::rows::Prepared;
use crate::host::{self, Chosen, HostProbe};
use crate::matrix::{Ended, Errand, Runner};
use crate::progress::Board;
use crate::results::RunFolder;
use crate::snapshots::digest;

/// Runs that one nested machine gets. It takes about 20 s to start, and what a machine dies of it may take with it: the
/// emulation is not perfect, and only so many are started for one lot.
const NESTED_LOT: usize = 40;

pub(super) struct Storms<'a> {
    args: &'a MatrixArgs,
    rows: &'a [Prepared],
    board: &'a Board,
    interrupt: &'a Arc<AtomicBool>,
    /// The matrix's.
    folder: &'a Path,
    /// None: in nested machines.
    probe: Option<HostProbe>,
}

impl<'a> Storms<'a> {
    pub(super) fn new(
        args: &'a MatrixArgs,
        rows: &'a [Prepared],
        board: &'a Board,
        interrupt: &'a Arc<AtomicBool>,
        folder: &'a Path,
    ) -> Result<Self, Failure> {
        let probe = match host::choose(args.host).map_err(|error| Failure::machine(&error))? {
            Chosen::Kvm(probe) => Some(probe),
            Chosen::Nested { why } => {
                board.aside(|| tell_why(why));
                None
            }
        };
        Ok(Self { args, rows, board, interrupt, folder, probe })
    }

    fn ready(&self, errand: &Errand) -> Result<Ready, Failure> {
        let gone = || Failure::machine(&"a run has no scenario");
        let row = self.rows.get(errand.row).ok_or_else(gone)?;
        let instead = Instead { design: Some(errand.design), ..row.instead };
        let mut scenario = row.scenario.clone();
        instead.apply(&mut scenario)?;
        // Made here: a nested machine's job begins in it.
        RunFolder::check(&errand.out).map_err(|error| Failure::user(&error))?;
        Ok(Ready {
            file: row.file.clone(),
            scenario,
            instead,
            seed: errand.seed,
            guest: row.guest.clone(),
            out: errand.out.clone(),
        })
    }

    /// A nested machine's jobs read the files anew: what has been changed meanwhile would come into the same matrix.
    fn are_unchanged(&self) -> Result<(), Failure> {
        let changed =
            self.rows.iter().find(|row| fs::read(&row.file).map_or(true, |text| digest(&text) != row.row.digest));
        match changed {
            None => Ok(()),
            Some(row) => Err(Failure::user(&format!(
                "the scenario {} was changed or removed while the matrix ran: put it back and go on, or begin another matrix \
                 with --out",
                row.file.display()
            ))),
        }
    }

    fn try_to(&self, errands: &[Errand], ended: &(dyn Fn(usize, u8) + Sync)) -> Result<(), Failure> {
        self.are_unchanged()?;
        let runs = errands.iter().map(|errand| self.ready(errand)).collect::<Result<Vec<_>, _>>()?;
        let (jobs, cold, board) = (self.args.jobs, self.args.cold, self.board);
        // One folder: a nested machine takes only so many.
        let around = Some(self.folder);
        let way = Way { jobs, beside: 0, cold, quiet: true, board, around, ended };
        match &self.probe {
            Some(probe) => here(&runs, probe, &way).map(drop),
            None => {
                nested::all(&runs, &way);
                Ok(())
            }
        }
    }
}

impl Runner for Storms<'_> {
    fn lot(&self) -> usize {
        if self.probe.is_some() { usize::MAX } else { NESTED_LOT }
    }

    fn carry_out(&mut self, errands: &[Errand], ended: &(dyn Fn(usize, u8) + Sync)) -> Ended {
        if self.interrupt.load(Ordering::Relaxed) {
            return Ended::Interrupted;
        }
        let count = AtomicUsize::new(0);
        let counted = |place: usize, code: u8| {
            count.fetch_add(1, Ordering::Relaxed);
            ended(place, code);
        };
        let tried = self.try_to(errands, &counted);
        let failed = tried.is_err();
        if let Err(failure) = tried {
            self.board.aside(|| failure.show());
        }
        match count.into_inner() == errands.len() {
            _ if self.interrupt.load(Ordering::Relaxed) => Ended::Interrupted,
            true if !failed => Ended::Well,
            _ => {
                self.board.aside(|| {
                    show::err("plugstorm: the matrix is not complete; the same command line goes on where it was\n");
                });
                Ended::Failed
            }
        }
    }
}
