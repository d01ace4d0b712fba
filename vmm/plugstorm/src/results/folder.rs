//! The folder of a run. Whatever kills the run, what was seen before is in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::event::{Event, EventKind};
use super::foreign::foreign_file;
use super::model::RunResult;
use super::whole::write_whole;
use crate::timeline::{FTRACE, PERFETTO};

/// `console.log` ends here. The rest is counted.
pub const CONSOLE_CAP_BYTES: u64 = 64 << 20;
/// `events.jsonl` ends here. The rest is counted.
pub const EVENTS_CAP_BYTES: u64 = 256 << 20;

/// What is held back between two flushes at most, in bytes.
const PENDING_BYTES: usize = 64 * 1024;

/// How long anything is held back while events come in.
const FLUSH_EVERY: Duration = Duration::from_millis(200);

pub(crate) const RESULT: &str = "result.json";
pub(crate) const EVENTS: &str = "events.jsonl";
const CONSOLE: &str = "console.log";
/// What `plugstorm report` puts into a run's folder, unless it is told otherwise.
pub const REPORTS: [&str; 5] = ["report.html", "report.junit.xml", "report.ktap", "report.kcidb.json", "report.md"];
/// Folders that [`RunFolder::set_aside`] makes are called this and a number.
const LOST: &str = "lost-";
/// What a report is called before it is whole.
pub(crate) const TEMPORARY_REPORT: &str = ".report.";
/// What `result.json` is called before it is whole.
const TEMPORARY: &str = ".result.json.";
/// What `plugstorm timeline` makes of a run has names that begin so.
const DERIVED: [&str; 2] = ["timeline.", ".timeline."];

/// Why a folder cannot take a run's results.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FolderError {
    /// It has things in it that are not a run's.
    #[error("the output folder {} holds files that are not a run's ({file}); name another one with --out", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// One of the files.
        file: String,
    },
    /// It cannot be made or written.
    #[error("the output folder {} cannot be written ({source}); name another one with --out", path.display())]
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Where a storm writes what it sees, as it sees it.
pub trait Journal {
    /// Takes an event. It is in the file after the next [`Self::flush`], or earlier.
    ///
    /// # Errors
    /// The system's. The storm then stops in order.
    fn event(&mut self, event: &Event) -> io::Result<()>;

    /// Takes console output. It is in the file after the next [`Self::flush`].
    ///
    /// # Errors
    /// The system's. The storm then stops in order.
    fn console(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Writes through to the files what has been taken. Called whenever the storm is about to wait, so that what a burst of
    /// events costs is one write: on the shared folder of a nested machine each takes milliseconds.
    ///
    /// # Errors
    /// The system's.
    fn flush(&mut self) -> io::Result<()>;

    /// Events that were left out because of the cap.
    fn events_dropped(&self) -> u64;

    /// Bytes of the console that were left out because of the cap.
    fn console_dropped(&self) -> u64;
}

/// The folder of one run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    events: Capped,
    console: Capped,
    flushed: Instant,
}

impl RunFolder {
    /// Makes the folder if it is not there, and says whether [`Self::create`] could take it. An earlier run's results in it
    /// stay as they are.
    ///
    /// # Errors
    /// That it holds other things, or cannot be written.
    pub fn check(path: &Path) -> Result<(), FolderError> {
        let unwritable = |source| FolderError::Unwritable { path: path.to_path_buf(), source };
        fs::create_dir_all(path).map_err(unwritable)?;
        // What is called as a report, and stands alone, is somebody's own.
        let has_result = path.join(RESULT).exists();
        let is_ours = |name: &str| {
            let begins = [TEMPORARY, TEMPORARY_REPORT, LOST].iter().chain(&DERIVED);
            [RESULT, EVENTS, CONSOLE].contains(&name)
                || (has_result && REPORTS.contains(&name))
                || begins.into_iter().any(|begin| name.starts_with(begin))
        };
        if let Some(file) = foreign_file(path, is_ours).map_err(unwritable)? {
            return Err(FolderError::Foreign { path: path.to_path_buf(), file });
        }
        tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(path).map_err(unwritable)?;
        for file in [EVENTS, CONSOLE].map(|name| path.join(name)) {
            match OpenOptions::new().write(true).open(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the folder, or takes one that is empty or holds an earlier run, whose files it replaces.
    ///
    /// # Errors
    /// That it holds other things, or cannot be written.
    pub fn create(path: &Path) -> Result<Self, FolderError> {
        Self::check(path)?;
        let unwritable = |source| FolderError::Unwritable { path: path.to_path_buf(), source };
        // An earlier run's verdict must not stand beside this run's events, nor what was made of its events.
        for stale in [RESULT, PERFETTO, FTRACE].iter().chain(&REPORTS) {
            match fs::remove_file(path.join(stale)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(error)),
                _ => {}
            }
        }
        Ok(Self {
            path: path.to_path_buf(),
            events: Capped::create(&path.join(EVENTS), EVENTS_CAP_BYTES).map_err(unwritable)?,
            console: Capped::create(&path.join(CONSOLE), CONSOLE_CAP_BYTES).map_err(unwritable)?,
            flushed: Instant::now(),
        })
    }

    /// Keeps what a run has left that its machine did not survive, before the run is begun anew: moves it into a folder of
    /// its own inside. Gives that folder; none if nothing was left.
    ///
    /// # Errors
    /// The system's.
    pub fn set_aside(path: &Path) -> io::Result<Option<PathBuf>> {
        let left: Vec<&str> = [RESULT, EVENTS, CONSOLE].into_iter().filter(|file| path.join(file).exists()).collect();
        if left.is_empty() {
            return Ok(None);
        }
        let mut names = (1u32..).map(|number| path.join(format!("{LOST}{number}")));
        let Some(kept) = names.find(|name| !name.exists()) else { return Ok(None) };
        fs::create_dir(&kept)?;
        for file in left {
            fs::rename(path.join(file), kept.join(file))?;
        }
        Ok(Some(kept))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts `result.json` in place, whole or not at all.
    ///
    /// # Errors
    /// The system's.
    pub fn write_result(&self, result: &RunResult) -> io::Result<()> {
        let mut json = serde_json::to_vec_pretty(result)?;
        json.push(b'\n');
        write_whole(&self.path, TEMPORARY, &self.path.join(RESULT), &json)
    }
}

impl RunFolder {
    fn flush_if_due(&mut self) -> io::Result<()> {
        if self.flushed.elapsed() < FLUSH_EVERY { Ok(()) } else { self.flush() }
    }
}

/// What must be in the file should the next thing that happens kill the run.
fn is_urgent(kind: &EventKind) -> bool {
    matches!(kind, EventKind::RemovalAsked { .. } | EventKind::RemovalStuck { .. } | EventKind::Found { .. })
}

impl Journal for RunFolder {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        // Whole lines only: a killed run leaves no half one, and a line over the cap is left out whole.
        self.events.write_whole(&line)?;
        if is_urgent(&event.kind) { self.flush() } else { self.flush_if_due() }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushed = Instant::now();
        self.console.flush()?;
        self.events.flush()
    }

    fn console(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.console.write_part(bytes)?;
        self.flush_if_due()
    }

    fn events_dropped(&self) -> u64 {
        self.events.dropped
    }

    fn console_dropped(&self) -> u64 {
        self.console.dropped
    }
}

/// A file that takes no more than a number of bytes.
#[derive(Debug)]
struct Capped {
    file: File,
    pending: Vec<u8>,
    left: u64,
    /// Writes left out, or bytes of them.
    dropped: u64,
}

impl Capped {
    fn create(path: &Path, cap: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(path)?;
        Ok(Self { file, pending: Vec::new(), left: cap, dropped: 0 })
    }

    fn write_whole(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        match self.left.checked_sub(len) {
            Some(left) => {
                self.left = left;
                self.pending.extend_from_slice(bytes);
            }
            None => self.dropped = self.dropped.saturating_add(1),
        }
        self.flush_if_large()
    }

    fn write_part(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fits = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let (head, tail) = bytes.split_at(fits);
        self.pending.extend_from_slice(head);
        self.left -= head.len() as u64;
        self.dropped = self.dropped.saturating_add(tail.len() as u64);
        self.flush_if_large()
    }

    fn flush_if_large(&mut self) -> io::Result<()> {
        if self.pending.len() < PENDING_BYTES { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let begun = self.file.stream_position()?;
        let written = self.file.write_all(&self.pending);
        if written.is_err() {
            self.cut(begun);
        }
        self.pending.clear();
        written
    }

    /// Takes back what a failed write, begun at `begun`, left of its last line. Where that fails too, it stays.
    fn cut(&mut self, begun: u64) {
        let arrived = self.file.stream_position().unwrap_or(begun).saturating_sub(begun);
        let arrived = self.pending.get(..usize::try_from(arrived).unwrap_or(usize::MAX)).unwrap_or_default();
        let end = begun.saturating_add(whole_lines(arrived) as u64);
        let _ = self.file.set_len(end).and_then(|()| self.file.seek(SeekFrom::Start(end)));
    }
}

/// How many bytes the whole lines at the start of `bytes` are.
fn whole_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1)
}

impl Drop for Capped {
    fn drop(&mut self) {
        // Who cared for errors has flushed.
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{EventKind, Source};
    use super::*;

    #[test]
    fn events_are_lines_and_console_is_capped() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = RunFolder::create(&dir.path().join("a/b")).unwrap();
        folder.console.left = 4;
        folder.console(b"abc").unwrap();
        folder.console(b"def").unwrap();
        let kind = EventKind::CycleBegan { cycle: 7 };
        folder.event(&Event { t_ns: 5, source: Source::Host, guest_t_ns: None, kind }).unwrap();
        folder.flush().unwrap();
        assert_eq!(fs::read_to_string(folder.path().join(CONSOLE)).unwrap(), "abcd");
        assert_eq!(folder.console_dropped(), 2);
        let line = fs::read_to_string(folder.path().join(EVENTS)).unwrap();
        assert_eq!(line, "{\"t_ns\":5,\"source\":\"host\",\"event\":\"cycle_began\",\"cycle\":7}\n");
        assert!(serde_json::from_str::<Event>(&line).is_ok());
    }

    #[test]
    fn what_may_be_the_last_thing_is_in_the_file_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = RunFolder::create(dir.path()).unwrap();
        let event = |kind| Event { t_ns: 5, source: Source::Host, guest_t_ns: None, kind };
        let lines = || fs::read_to_string(dir.path().join(EVENTS)).unwrap().lines().count();
        folder.flushed = Instant::now() + Duration::from_secs(3600);
        folder.event(&event(EventKind::CycleBegan { cycle: 7 })).unwrap();
        assert_eq!(lines(), 0);
        let how = crate::scenario::How::Surprise;
        folder.event(&event(EventKind::RemovalAsked { cycle: 7, device: "gpio".into(), how })).unwrap();
        assert_eq!(lines(), 2);
        std::thread::sleep(FLUSH_EVERY);
        folder.event(&event(EventKind::CycleBegan { cycle: 8 })).unwrap();
        assert_eq!(lines(), 3);
    }

    #[test]
    fn a_failed_write_leaves_whole_lines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut capped = Capped::create(file.path(), 100).unwrap();
        capped.file.write_all(b"one\ntwo\nthr").unwrap();
        capped.pending = b"two\nthree\n".to_vec();
        capped.cut(4);
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "one\ntwo\n");
        capped.flush().unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "one\ntwo\ntwo\nthree\n");
    }

    #[test]
    fn what_a_dead_machine_left_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(RunFolder::set_aside(dir.path()).unwrap(), None);
        for attempt in 1..=2 {
            fs::write(dir.path().join(EVENTS), format!("{attempt}\n")).unwrap();
            let kept = RunFolder::set_aside(dir.path()).unwrap().unwrap();
            assert_eq!(kept, dir.path().join(format!("lost-{attempt}")));
            assert_eq!(fs::read_to_string(kept.join(EVENTS)).unwrap(), format!("{attempt}\n"));
        }
        RunFolder::create(dir.path()).unwrap();
        assert!(dir.path().join("lost-1").exists());
    }

    #[test]
    fn looking_at_a_folder_leaves_an_earlier_run() {
        let dir = tempfile::tempdir().unwrap();
        for name in [RESULT, EVENTS, CONSOLE] {
            fs::write(dir.path().join(name), "{}").unwrap();
        }
        RunFolder::check(dir.path()).unwrap();
        for name in [RESULT, EVENTS, CONSOLE] {
            assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), "{}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_foreign_folder_is_refused_and_an_earlier_run_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(RESULT), "{}").unwrap();
        RunFolder::create(dir.path()).unwrap();
        assert!(!dir.path().join(RESULT).exists());
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        let error = RunFolder::create(dir.path()).unwrap_err();
        assert!(error.to_string().contains("thesis.tex"), "{error}");
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(RunFolder::create(file.path()), Err(FolderError::Unwritable { .. })));
    }
}
