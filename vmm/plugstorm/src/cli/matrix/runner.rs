//! The runs of a matrix, carried out as `plugstorm storm` does: on this machine's KVM, or as jobs of nested machines.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::super::storm::{Audience, Instead, Ready, Site, Way};
use super::super::{Failure, show};
use super::MatrixArgs;
use super::rows::Prepared;
use crate::matrix::{Ended, Errand, Runner, Taker};
use crate::progress::Board;
use crate::results::RunFolder;
use crate::snapshots::Shelf;

pub(super) struct Storms<'a> {
    args: &'a MatrixArgs,
    rows: &'a [Prepared],
    board: &'a Board,
    interrupt: &'a Arc<AtomicBool>,
    /// The matrix's.
    folder: &'a Path,
    site: Site,
}

/// Passes on what comes of runs, and counts them.
struct Counter<'a> {
    taker: &'a dyn Taker,
    ended: AtomicUsize,
}

impl Audience for Counter<'_> {
    fn began(&self, _run: usize) {}

    /// Of a run's own words a matrix shows none.
    fn shown(&self, _run: usize, _text: &str) {}

    fn ended(&self, run: usize, code: u8) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.taker.ended(run, code);
    }

    fn wants_more(&self) -> bool {
        self.taker.wants_more()
    }
}

impl<'a> Storms<'a> {
    pub(super) fn new(
        args: &'a MatrixArgs,
        rows: &'a [Prepared],
        board: &'a Board,
        interrupt: &'a Arc<AtomicBool>,
        folder: &'a Path,
    ) -> Result<Self, Failure> {
        Ok(Self { args, rows, board, interrupt, folder, site: Site::choose(args.host, board)? })
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
            named: row.row.file.display().to_string(),
            text: Arc::clone(&row.text),
            digest: row.row.digest.clone(),
            guest_digest: Some(row.row.guest.clone()),
            scenario,
            instead,
            seed: errand.seed,
            guest: row.guest.clone(),
            out: errand.out.clone(),
        })
    }

    fn try_to(&self, errands: &[Errand], audience: &dyn Audience) -> Result<u8, Failure> {
        let runs = errands.iter().map(|errand| self.ready(errand)).collect::<Result<Vec<_>, _>>()?;
        let (jobs, cold, board) = (self.args.jobs, self.args.cold, self.board);
        // One folder: a nested machine takes only so many.
        let around = Some(self.folder);
        let way = Way { jobs, cold, quiet: true, board, around, audience, shelf: Shelf::default(), known: None };
        self.site.carry_out(&runs, &way)
    }
}

impl Runner for Storms<'_> {
    fn carry_out(&mut self, errands: &[Errand], taker: &dyn Taker) -> Ended {
        if self.interrupt.load(Ordering::Relaxed) {
            return Ended::Interrupted;
        }
        let counter = Counter { taker, ended: AtomicUsize::new(0) };
        let tried = self.try_to(errands, &counter);
        let failed = tried.is_err();
        if let Err(failure) = tried {
            self.board.aside(|| failure.show());
        }
        match counter.ended.into_inner() == errands.len() {
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
