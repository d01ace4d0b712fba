//! `samples.jsonl` as it is written: a header, and what each boot gave. Killed at any moment, all but the boot under way is kept, and
//! the same benchmark goes on from there.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use super::model::{Header, LOST, Measure, Measurement, Side, SideFacts};
use super::pool::{self, PoolError};
use crate::results::{foreign_file, write_whole};

/// The file in the folder.
pub const SAMPLES: &str = "samples.jsonl";
/// The guests' consoles, one after another.
pub const CONSOLE: &str = "console.log";
/// Files are called this and something before they are whole.
pub(crate) const TEMPORARY: &str = ".bench.";

/// Why a benchmark cannot be kept in a folder.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The folder has something else in it.
    #[error("the output folder {} holds files that are not a benchmark's ({file}); name another one with --out", folder.display())]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// One of them.
        file: String,
    },
    /// It has another benchmark.
    #[error("{} has another benchmark ({what} differs), which is kept; name another folder with --out", file.display())]
    Other {
        /// Its samples.
        file: PathBuf,
        /// In what.
        what: &'static str,
    },
    /// What is there cannot be gone on with, and is left as it is.
    #[error("{0}; or name another folder with --out")]
    Unread(PoolError),
    /// Somebody is at it.
    #[error("another plugstorm is measuring in {}: wait for it, or name another folder with --out", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// It cannot be used.
    #[error("{} cannot be written: {source}", path.display())]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Makes a folder, and keeps it for as long as what is given back: two that measure in one folder would carry out the same boots.
///
/// # Errors
/// [`JournalError::Busy`], [`JournalError::Unwritable`].
pub fn claim(folder: &Path) -> Result<Option<Flock<File>>, JournalError> {
    let unwritable = |source| JournalError::Unwritable { path: folder.into(), source };
    fs::create_dir_all(folder).map_err(unwritable)?;
    match Flock::lock(File::open(folder).map_err(unwritable)?, FlockArg::LockExclusiveNonblock) {
        Ok(claim) => Ok(Some(claim)),
        Err((_, Errno::EWOULDBLOCK)) => Err(JournalError::Busy { folder: folder.into() }),
        // NFS has no locks for folders.
        Err(_) => Ok(None),
    }
}

/// A benchmark's folder.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    header: Header,
    /// Of boots that were completed.
    measurements: Vec<Measurement>,
    /// Boots that came to nothing.
    lost: Vec<Measurement>,
}

impl Journal {
    /// Opens a folder, which is made, for a benchmark. One that has the same benchmark goes on with it; what it has of a boot
    /// that was not completed goes. Files besides the journal's own that `is_ours` knows may be there.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(folder: &Path, header: Header, is_ours: impl Fn(&str) -> bool) -> Result<Self, JournalError> {
        let unwritable = |path: &Path| {
            let path = path.to_path_buf();
            move |source| JournalError::Unwritable { path, source }
        };
        fs::create_dir_all(folder).map_err(unwritable(folder))?;
        let is_ours = |name: &str| [SAMPLES, CONSOLE].contains(&name) || name.starts_with(TEMPORARY) || is_ours(name);
        if let Some(file) = foreign_file(folder, is_ours).map_err(unwritable(folder))? {
            return Err(JournalError::Foreign { folder: folder.into(), file });
        }
        let file = folder.join(SAMPLES);
        let mut journal = Self { folder: folder.into(), header, measurements: Vec::new(), lost: Vec::new() };
        if file.try_exists().map_err(unwritable(&file))? {
            let found = pool::read(&file).map_err(JournalError::Unread)?;
            if let Some(what) = difference(&journal.header, &found.header) {
                return Err(JournalError::Other { file, what });
            }
            journal.header = found.header;
            (journal.measurements, journal.lost) = (found.measurements, found.lost);
        }
        journal.write()?;
        Ok(journal)
    }

    /// Boots that were completed, by number, and of which side.
    #[must_use]
    pub fn boots(&self) -> BTreeMap<u32, Side> {
        self.measurements.iter().map(|measurement| (measurement.boot, measurement.side)).collect()
    }

    /// Where the consoles go.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.folder.join(CONSOLE)
    }

    /// Writes down what one boot gave: all of it, or nothing. What its guest said of itself is taken into the header.
    ///
    /// # Errors
    /// [`JournalError::Unwritable`].
    pub fn add(&mut self, facts: SideFacts, boot: Vec<Measurement>) -> Result<(), JournalError> {
        let Some(side) = boot.first().map(|measurement| measurement.side) else { return Ok(()) };
        let is_news = self.header.sides.insert(side, facts.clone()) != Some(facts);
        if is_news {
            self.measurements.extend(boot);
            return self.write();
        }
        self.append(&boot)?;
        self.measurements.extend(boot);
        Ok(())
    }

    /// Writes down that a boot came to nothing, and why: one that is carried out again may succeed, and a kernel that dies now and then
    /// would pass for one that never does.
    ///
    /// # Errors
    /// [`JournalError::Unwritable`].
    pub fn add_lost(&mut self, boot: u32, side: Side, why: String) -> Result<(), JournalError> {
        let measure = Measure { kind: LOST.to_owned(), design: None, settings: BTreeMap::new() };
        let (samples, notes) = (Vec::new(), BTreeMap::new());
        let lost = Measurement { boot, side, measure, samples, notes, error: Some(why) };
        self.append(std::slice::from_ref(&lost))?;
        self.lost.push(lost);
        Ok(())
    }

    fn append(&self, measurements: &[Measurement]) -> Result<(), JournalError> {
        let path = self.folder.join(SAMPLES);
        let unwritable = |source| JournalError::Unwritable { path: path.clone(), source };
        let mut text = Vec::new();
        measurements.iter().try_for_each(|measurement| line(&mut text, measurement)).map_err(unwritable)?;
        let mut file = OpenOptions::new().append(true).open(&path).map_err(unwritable)?;
        file.write_all(&text).and_then(|()| file.sync_data()).map_err(unwritable)
    }

    fn write(&self) -> Result<(), JournalError> {
        let path = self.folder.join(SAMPLES);
        let mut text = Vec::new();
        let written = line(&mut text, &self.header)
            .and_then(|()| self.lost.iter().chain(&self.measurements).try_for_each(|of| line(&mut text, of)))
            .and_then(|()| write_whole(&self.folder, TEMPORARY, &path, &text));
        written.map_err(|source| JournalError::Unwritable { path, source })
    }
}

fn line(text: &mut Vec<u8>, of: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *text, of)?;
    text.push(b'\n');
    Ok(())
}

/// What makes them two benchmarks. The host's speed does not, nor what guests say of themselves.
fn difference(wanted: &Header, found: &Header) -> Option<&'static str> {
    fn parts(header: &Header) -> Vec<(Side, &String, &Option<String>, &String)> {
        header.sides.iter().map(|(side, facts)| (*side, &facts.kernel, &facts.modules, &facts.made_of)).collect()
    }
    let differences = [
        (wanted.plugstorm != found.plugstorm, "plugstorm's version"),
        (wanted.seed != found.seed, "the seed"),
        (wanted.plan != found.plan, "what is measured"),
        (wanted.host.kind != found.host.kind, "the host"),
        (parts(wanted) != parts(found), "a kernel, or what goes into its guest,"),
    ];
    differences.into_iter().find_map(|(differs, what)| differs.then_some(what))
}

#[cfg(test)]
mod tests {
    use super::super::model::{BOOT, Sample, VERSION};
    use super::*;
    use crate::results::{HostFacts, HostKind};

    fn facts(release: &str) -> SideFacts {
        let (kernel, release) = ("timing".to_owned(), release.to_owned());
        SideFacts { kernel, modules: None, made_of: "1".into(), release, hz: 250, preemption: None, cpus: 2 }
    }

    fn header() -> Header {
        Header {
            version: VERSION,
            plugstorm: "0.1.0".into(),
            started_unix_s: 7,
            seed: 1,
            plan: "1".into(),
            host: HostFacts { kind: HostKind::Kvm, loop_rounds_per_second: None, exits_per_second: None },
            sides: [(Side::A, facts(""))].into(),
        }
    }

    fn measurement(boot: u32, kind: &str) -> Measurement {
        let measure = Measure { kind: kind.into(), design: None, settings: BTreeMap::new() };
        let samples = vec![Sample { round: 0, thread: 0, value: 5, count: 1 }];
        Measurement { boot, side: Side::A, measure, samples, notes: BTreeMap::new(), error: None }
    }

    fn none(_: &str) -> bool {
        false
    }

    #[test]
    fn a_boot_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), header(), none).unwrap();
        for boot in 0..3 {
            journal.add(facts("6.12"), vec![measurement(boot, "clock"), measurement(boot, BOOT)]).unwrap();
        }
        journal.add_lost(2, Side::A, "it panicked".into()).unwrap();
        // Killed in the middle of the next one's last line.
        let path = folder.path().join(SAMPLES);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&serde_json::to_vec(&measurement(3, "clock")).unwrap()).unwrap();
        file.write_all(b"\n{\"boot\":3,\"side\":\"a\",\"mea").unwrap();
        let again = Journal::open(folder.path(), header(), none).unwrap();
        assert_eq!(again.boots().into_keys().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(again.header.sides[&Side::A], facts("6.12"));
        assert_eq!(again.lost.len(), 1, "a later success does not undo it");
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 8);
    }

    #[test]
    fn one_measures_in_a_folder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("a/b");
        let first = claim(&out).unwrap();
        assert!(matches!(claim(&out), Err(JournalError::Busy { .. })));
        drop(first);
        assert!(claim(&out).unwrap().is_some());
    }

    #[test]
    fn samples_that_cannot_be_read_are_not_written_over() {
        let older = serde_json::to_string(&Header { version: VERSION + 1, ..header() }).unwrap();
        let damaged = serde_json::to_string(&header()).unwrap() + "\nwhat\n";
        for text in [older + "\n", damaged, "thesis\n".into(), String::new()] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join(SAMPLES);
            std::fs::write(&file, &text).unwrap();
            let error = Journal::open(folder.path(), header(), none).unwrap_err();
            assert!(matches!(error, JournalError::Unread(_)) && error.to_string().contains("--out"), "{error}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
    }

    #[test]
    fn another_benchmark_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        drop(Journal::open(folder.path(), header(), none).unwrap());
        let other = Header { seed: 2, ..header() };
        let error = Journal::open(folder.path(), other, none).unwrap_err().to_string();
        assert!(error.contains("the seed differs") && error.contains("--out"), "{error}");
        let other = Header { plan: "2".into(), ..header() };
        let error = Journal::open(folder.path(), other, none).unwrap_err().to_string();
        assert!(error.contains("what is measured differs"), "{error}");
        // The same name, and built anew.
        let built = SideFacts { made_of: "2".into(), ..facts("") };
        let other = Header { sides: [(Side::A, built)].into(), ..header() };
        assert!(matches!(Journal::open(folder.path(), other, none), Err(JournalError::Other { .. })));
        let mut gone = header();
        gone.sides.insert(Side::B, facts(""));
        assert!(matches!(Journal::open(folder.path(), gone, none), Err(JournalError::Other { .. })));
        std::fs::write(folder.path().join("thesis.tex"), "").unwrap();
        let error = Journal::open(folder.path(), header(), none).unwrap_err();
        assert!(matches!(error, JournalError::Foreign { file, .. } if file == "thesis.tex"));
        assert!(Journal::open(folder.path(), header(), |name| name == "thesis.tex").is_ok());
    }
}
