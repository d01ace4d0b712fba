//! Carries out what is missing in a matrix, and keeps what comes of it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::folder::{FolderError, MatrixFolder};
use super::model::{Matrix, State};
use super::outcome::Came;
use super::report;
use crate::scenario::Design;

/// A run to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// Its cell, by its index.
    cell: usize,
    /// Its scenario, by its row.
    pub row: usize,
    /// The design under the scenario's devices.
    pub design: Design,
    /// Its number in the cell, counted from 1.
    pub run: u32,
    /// Its seed.
    pub seed: u64,
    /// Where its results go.
    pub out: std::path::PathBuf,
}

/// How a lot of runs ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// There may be more.
    Well,
    /// A signal came.
    Interrupted,
    /// The host failed, and said so: more of the same would fail too.
    Failed,
}

/// Carries out runs, each as `plugstorm storm` does.
pub trait Runner {
    /// Carries out these, or as many as it comes to.
    fn carry_out(&mut self, errands: &[Errand], taker: &dyn Taker) -> Ended;
}

/// Takes what comes of runs. From any thread.
pub trait Taker: Sync {
    /// A run has ended, by its place among those that are carried out, with this exit code; its results are on disk.
    fn ended(&self, place: usize, code: u8);

    /// More runs are to be begun. Not where nothing can be kept of them.
    fn wants_more(&self) -> bool;
}

/// Who watches.
pub trait Watcher: Sync {
    /// A line that stays.
    fn line(&self, text: &str);

    /// Where the matrix is: runs done of all, and how long the rest may take.
    fn at(&self, done: usize, all: usize, left: Option<Duration>);
}

/// Takes over what there is on disk, and gives the runs that are missing. With `retry`, those that prove nothing are missing.
///
/// # Errors
/// That the result of one of those cannot be removed.
pub fn take_over(matrix: &mut Matrix, folder: &MatrixFolder, retry: bool) -> Result<Vec<Errand>, FolderError> {
    let mut errands = Vec::new();
    for (index, cell) in matrix.cells.clone().iter().enumerate() {
        let Some(kernel) = matrix.header.scenarios.get(cell.row).map(|row| row.kernel.clone()) else { continue };
        for run in (1u32..).take(cell.runs.len()) {
            let known = folder.look(cell, run, &kernel, &matrix.header.plugstorm);
            match known {
                Some((came, result)) if !(retry && matches!(came, Came::Inconclusive { .. })) => {
                    matrix.know(cell.design, &result);
                    let place = matrix.cells.get_mut(index).and_then(|cell| cell.runs.get_mut(run as usize - 1));
                    if let Some(place) = place {
                        *place = Some(came);
                    }
                }
                known => {
                    if known.is_some() {
                        folder.forget(cell, run)?;
                    }
                    let (row, design, seed) = (cell.row, cell.design, cell.seed(run));
                    errands.push(Errand { cell: index, row, design, run, seed, out: folder.run_folder(cell, run) });
                }
            }
        }
    }
    Ok(errands)
}

/// Carries out runs and keeps what comes of each at once.
///
/// # Errors
/// That the matrix cannot be written. Runs that were under way have ended then, and their results are on disk.
pub fn drive(
    matrix: &mut Matrix,
    folder: &MatrixFolder,
    errands: &[Errand],
    runner: &mut dyn Runner,
    watcher: &dyn Watcher,
) -> Result<Ended, FolderError> {
    matrix.state = State::Running;
    folder.write(matrix)?;
    let already = matrix.progress().0;
    let keeping =
        Keeping { matrix: Mutex::new((&mut *matrix, None)), folder, errands, watcher, begun: Instant::now(), already };
    let outcome = if errands.is_empty() { Ended::Well } else { runner.carry_out(errands, &keeping) };
    let (matrix, failed) = keeping.matrix.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (done, all) = matrix.progress();
    matrix.state = if done == all { State::Complete } else { State::Stopped };
    let written = folder.write(matrix);
    failed.map_or(written, Err).map(|()| outcome)
}

/// Keeps what comes of each run as it comes.
struct Keeping<'a> {
    /// And why it cannot be kept any more, if it cannot.
    matrix: Mutex<(&'a mut Matrix, Option<FolderError>)>,
    folder: &'a MatrixFolder,
    errands: &'a [Errand],
    watcher: &'a dyn Watcher,
    begun: Instant,
    /// Runs that had ended before.
    already: usize,
}

impl Taker for Keeping<'_> {
    fn ended(&self, place: usize, code: u8) {
        let Some(errand) = self.errands.get(place) else { return };
        let mut shared = self.matrix.lock().unwrap_or_else(PoisonError::into_inner);
        let (matrix, failed) = &mut *shared;
        note(matrix, self.folder, errand, code);
        if let Err(error) = self.folder.write(matrix) {
            failed.get_or_insert(error);
        }
        if let Some(cell) = matrix.cells.get(errand.cell).filter(|cell| cell.is_complete()) {
            self.watcher.line(&report::cell_line(cell));
        }
        let (done, all) = matrix.progress();
        let (now, rest) = (done.saturating_sub(self.already), all.saturating_sub(done));
        self.watcher.at(done, all, left(self.begun.elapsed(), now, rest));
    }

    fn wants_more(&self) -> bool {
        self.matrix.lock().unwrap_or_else(PoisonError::into_inner).1.is_none()
    }
}

/// Puts what came of a run into its cell.
fn note(matrix: &mut Matrix, folder: &MatrixFolder, errand: &Errand, code: u8) {
    let Some(cell) = matrix.cells.get(errand.cell) else { return };
    let Some(row) = matrix.header.scenarios.get(cell.row) else { return };
    let known = folder.look(cell, errand.run, &row.kernel, &matrix.header.plugstorm);
    let (came, result) = match known {
        Some((came, result)) => (Some(came), Some(result)),
        // It is still to be carried out.
        None if code == crate::verdict::EXIT_INTERRUPTED => (None, None),
        None => {
            let reason =
                format!("it ended with exit code {code} and left no result; it is carried out again next time");
            (Some(Came::Inconclusive { reason }), None)
        }
    };
    let place = matrix.cells.get_mut(errand.cell).and_then(|cell| cell.runs.get_mut(errand.run as usize - 1));
    if let Some(place) = place {
        *place = came;
    }
    if let Some(result) = result {
        matrix.know(errand.design, &result);
    }
}

/// How long the rest takes if it goes on as it did: `done` runs took `elapsed`. None before the first.
fn left(elapsed: Duration, done: usize, rest: usize) -> Option<Duration> {
    let done = u32::try_from(done).ok().filter(|done| *done > 0)?;
    Some((elapsed / done).saturating_mul(u32::try_from(rest).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{matrix_to_do, result_of};
    use super::*;
    use crate::results::{RunFolder, Verdict};
    use std::cell::RefCell;

    /// Writes results instead of storming.
    struct Fake<F: FnMut(&Errand) -> Option<(Verdict, u8)>> {
        /// What comes of a run; none if a signal comes before it.
        fate: F,
    }

    impl<F: FnMut(&Errand) -> Option<(Verdict, u8)>> Runner for Fake<F> {
        fn carry_out(&mut self, errands: &[Errand], taker: &dyn Taker) -> Ended {
            for (place, errand) in errands.iter().enumerate() {
                if !taker.wants_more() {
                    return Ended::Failed;
                }
                let Some((verdict, code)) = (self.fate)(errand) else { return Ended::Interrupted };
                if code != 77 {
                    let folder = RunFolder::create(&errand.out).unwrap();
                    folder.write_result(&result_of(errand.row, errand.design, errand.seed, verdict)).unwrap();
                }
                taker.ended(place, code);
            }
            Ended::Well
        }
    }

    #[derive(Default)]
    struct Listener {
        lines: Mutex<Vec<String>>,
        places: Mutex<Vec<(usize, usize)>>,
    }

    impl Watcher for Listener {
        fn line(&self, text: &str) {
            self.lines.lock().unwrap().push(text.to_owned());
        }

        fn at(&self, done: usize, all: usize, _left: Option<Duration>) {
            self.places.lock().unwrap().push((done, all));
        }
    }

    fn by_design(errand: &Errand) -> Option<(Verdict, u8)> {
        Some(if errand.design == Design::Unprotected { (Verdict::Found, 1) } else { (Verdict::Clean, 0) })
    }

    /// Takes over, drives, and gives the matrix, how it ended and how many runs were carried out.
    fn whole(
        folder: &std::path::Path,
        runs: u32,
        retry: bool,
        fate: impl FnMut(&Errand) -> Option<(Verdict, u8)>,
    ) -> (Matrix, Ended, usize, Listener) {
        let mut matrix = matrix_to_do(runs);
        let folder = MatrixFolder::open(folder, &matrix.header).unwrap();
        let errands = take_over(&mut matrix, &folder, retry).unwrap();
        let mut runner = Fake { fate };
        let listener = Listener::default();
        let ended = drive(&mut matrix, &folder, &errands, &mut runner, &listener).unwrap();
        (matrix, ended, errands.len(), listener)
    }

    #[test]
    fn a_whole_matrix() {
        let folder = tempfile::tempdir().unwrap();
        let (matrix, ended, carried_out, listener) = whole(folder.path(), 3, false, by_design);
        assert_eq!((ended, carried_out, matrix.state), (Ended::Well, 12, State::Complete));
        for cell in &matrix.cells {
            let tally = cell.tally();
            let expected = if cell.design == Design::Unprotected { (0, 3) } else { (3, 0) };
            assert_eq!((tally.passed, tally.found), expected, "{cell:?}");
        }
        let lines = listener.lines.into_inner().unwrap();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0], "one, unprotected: found 3 of 3: BUG: KASAN: slab-use-after-free in one");
        let places = listener.places.into_inner().unwrap();
        assert_eq!((places.first(), places.last()), (Some(&(1, 12)), Some(&(12, 12))));
        // What is on disk says the same.
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.path().join("matrix.json")).unwrap()).unwrap();
        assert_eq!((&json["state"], json["cells"].as_array().unwrap().len()), (&"complete".into(), 4));
        let first = &json["cells"][0];
        assert_eq!((&first["found"], &first["runs"][0]["verdict"]), (&3.into(), &"found".into()));
        let run = folder.path().join(first["runs"][2]["folder"].as_str().unwrap());
        assert!(run.ends_with("cells/one/unprotected/run-3") && run.join("result.json").exists());
        assert!(std::fs::read_to_string(folder.path().join("matrix.md")).unwrap().contains("found 3/3"));
    }

    #[test]
    fn what_was_interrupted_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let left = RefCell::new(5);
        let (matrix, ended, ..) = whole(folder.path(), 3, false, |errand| {
            *left.borrow_mut() -= 1;
            if *left.borrow() < 0 { None } else { by_design(errand) }
        });
        assert_eq!((ended, matrix.state, matrix.progress()), (Ended::Interrupted, State::Stopped, (5, 12)));
        let (matrix, ended, carried_out, listener) = whole(folder.path(), 3, false, by_design);
        assert_eq!((ended, carried_out, matrix.state), (Ended::Well, 7, State::Complete));
        assert_eq!(listener.places.into_inner().unwrap().first(), Some(&(6, 12)));
        // Once more there is nothing to do; with more runs, only those.
        let (again, _, carried_out, _) = whole(folder.path(), 3, false, |_| panic!("all is done"));
        assert_eq!((carried_out, &again.cells), (0, &matrix.cells));
        assert_eq!(whole(folder.path(), 4, false, by_design).2, 4);
    }

    #[test]
    fn a_run_that_was_killed_is_carried_out_again() {
        let folder = tempfile::tempdir().unwrap();
        let (matrix, ..) = whole(folder.path(), 1, false, |errand| {
            let (verdict, code) = by_design(errand)?;
            Some(if errand.row == 1 { (Verdict::Running, 3) } else { (verdict, code) })
        });
        let unknown = matrix.cells.iter().filter(|cell| cell.tally().inconclusive == 1).count();
        assert_eq!(unknown, 2, "{matrix:?}");
        let (matrix, _, carried_out, _) = whole(folder.path(), 1, false, by_design);
        assert_eq!((carried_out, matrix.state), (2, State::Complete));
        // One of another seed, or whose file was cut short, is no result either.
        let run = folder.path().join("cells/one/unprotected/run-1/result.json");
        let text = std::fs::read(&run).unwrap();
        std::fs::write(&run, &text[..text.len() / 2]).unwrap();
        let other = folder.path().join("cells/two/unprotected/run-1/result.json");
        std::fs::copy(folder.path().join("cells/two/stack-token/run-1/result.json"), other).unwrap();
        assert_eq!(whole(folder.path(), 1, false, by_design).2, 2);
    }

    #[test]
    fn what_proves_nothing_is_kept_and_carried_out_again_on_demand() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = |_: &Errand| Some((Verdict::Inconclusive, 3));
        let (matrix, ..) = whole(folder.path(), 1, false, nothing);
        assert_eq!((matrix.state, matrix.cells[0].tally().inconclusive), (State::Complete, 1));
        assert_eq!(whole(folder.path(), 1, false, |_| panic!("all is done")).2, 0);
        // One that leaves no result this time must not pass for what it was the last time.
        let (matrix, .., listener) = whole(folder.path(), 1, true, |_| Some((Verdict::Clean, 77)));
        assert_eq!(matrix.cells[0].tally().inconclusive, 1);
        assert!(listener.lines.into_inner().unwrap()[0].contains("exit code 77 and left no result"));
        assert_eq!(whole(folder.path(), 1, true, by_design).2, 4);
    }

    #[test]
    fn no_more_is_begun_once_nothing_can_be_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut matrix = matrix_to_do(3);
        let open = MatrixFolder::open(folder.path(), &matrix.header).unwrap();
        let errands = take_over(&mut matrix, &open, false).unwrap();
        let mut begun = 0;
        let path = folder.path().join("matrix.json");
        let mut runner = Fake {
            fate: |_: &Errand| {
                begun += 1;
                // A folder in its place: what is renamed to it does not get there.
                let _ = std::fs::remove_file(&path);
                std::fs::create_dir_all(path.join("in-the-way")).unwrap();
                Some((Verdict::Clean, 0))
            },
        };
        let error = drive(&mut matrix, &open, &errands, &mut runner, &Listener::default()).unwrap_err();
        assert!(matches!(error, FolderError::Unwritable { .. }), "{error}");
        assert_eq!((begun, matrix.state, matrix.progress()), (1, State::Stopped, (1, 12)));
    }

    #[test]
    fn a_run_without_a_result_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (matrix, .., listener) = whole(folder.path(), 1, false, |_| Some((Verdict::Clean, 77)));
        assert_eq!(matrix.cells[0].tally().inconclusive, 1);
        assert!(listener.lines.into_inner().unwrap()[0].contains("exit code 77 and left no result"));
    }

    #[test]
    fn the_rest_is_estimated_by_what_was_done() {
        let left = |done, rest| left(Duration::from_secs(60), done, rest);
        assert_eq!((left(0, 5), left(3, 5), left(3, 0)), (None, Some(Duration::from_secs(100)), Some(Duration::ZERO)));
    }
}
