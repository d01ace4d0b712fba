//! One timeline of a run: what the host did and what the guest did, on one clock, for Perfetto's UI and as text in the form of
//! the kernel's traces. Made of `events.jsonl`, in one pass: what is held does not grow with the file.

mod ftrace;
mod journal;
mod order;
mod perfetto;
mod protobuf;
mod story;
#[cfg(test)]
mod tests;
mod track;
mod words;

use std::fs::{File, Permissions};
use std::io::{self, BufReader, BufWriter};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use thiserror::Error;

use self::ftrace::Ftrace;
use self::journal::{Reader, Timed};
use self::order::Window;
use self::perfetto::Perfetto;
use self::story::Story;
use self::track::{Arguments, Value};
use crate::calendar::minute;
use crate::results::{EVENTS, RESULT, RunResult, is_of_disk, read_result};

/// What the trace for Perfetto's UI is called in a run's folder.
pub const PERFETTO: &str = "timeline.perfetto-trace";
/// What the text is called there.
pub const FTRACE: &str = "timeline.ftrace.txt";
/// What a file is called before it is whole.
const TEMPORARY: &str = ".timeline.";
/// Most a guest can have.
const MOST_CPUS: u32 = 16;

/// Why there is no timeline.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TimelineError {
    /// The folder has no events.
    #[error("{} is no folder of a run: it has no {EVENTS}; name the one that `plugstorm storm` wrote (of several runs, that of one)", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// Something cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Both in one file.
    #[error("{} cannot be both timelines; name another file with --perfetto or --ftrace", path.display())]
    Same {
        /// The file.
        path: PathBuf,
    },
    /// Something cannot be written.
    #[error("cannot write {} ({source}); name another file with --perfetto or --ftrace", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl TimelineError {
    /// The disk is full: nothing that another command line mends.
    #[must_use]
    pub fn is_of_disk(&self) -> bool {
        match self {
            Self::Unwritable { source, .. } => is_of_disk(source),
            _ => false,
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Why the run's result could not be read. Without it nobody knows which device was in which slot, nor how many CPUs the guest had:
    /// there are no rows of removals then.
    pub without_result: Option<String>,
    /// Events.
    pub events: u64,
    /// Lines of the file that were no events.
    pub skipped: u64,
    /// Slices and instants that are not in Perfetto's trace, since there were too many rows or too many things at once.
    pub left_out: u64,
    /// Events that were told so late that they are placed later than they happened.
    pub late: u64,
    /// Size of Perfetto's trace.
    pub perfetto_bytes: u64,
    /// Size of the text.
    pub ftrace_bytes: u64,
}

/// Writes both timelines of the run in `dir`, each whole or not at all.
///
/// # Errors
/// That `dir` is no run's, or that a file cannot be read or written.
pub fn write(dir: &Path, perfetto: &Path, ftrace: &Path) -> Result<Written, TimelineError> {
    let events = dir.join(EVENTS);
    let input = File::open(&events).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => TimelineError::NoRun { path: dir.to_path_buf() },
        _ => TimelineError::Unreadable { path: events.clone(), source },
    })?;
    if perfetto == ftrace {
        return Err(TimelineError::Same { path: perfetto.to_path_buf() });
    }
    let (result, without_result) = match read_result(&dir.join(RESULT)) {
        Ok(result) => (Some(result), None),
        Err(reason) => (None, Some(reason)),
    };
    let facts = Facts::of(result.as_ref());
    let trace = Output::new(perfetto).map_err(unwritable(perfetto))?;
    let text = Output::new(ftrace).map_err(unwritable(ftrace))?;
    let mut pen = Pen {
        perfetto: Perfetto::new(trace, facts.devices.clone()).map_err(unwritable(perfetto))?,
        ftrace: Ftrace::new(text, facts.cpus, &facts.about).map_err(unwritable(ftrace))?,
        story: Story::new(facts.devices, facts.cpus, facts.run),
        paths: [perfetto, ftrace],
        told_ns: 0,
        late: 0,
    };
    let mut reader = Reader::new(BufReader::with_capacity(1 << 18, input));
    let mut window = Window::new();
    let unreadable = |source| TimelineError::Unreadable { path: events.clone(), source };
    while let Some(timed) = reader.next().map_err(unreadable)? {
        window.push(timed.at_ns, timed.size, timed);
        while let Some(timed) = window.pop_over() {
            pen.draw(timed)?;
        }
    }
    while let Some(timed) = window.pop() {
        pen.draw(timed)?;
    }
    pen.finish()?;
    let Pen { perfetto: trace, ftrace: text, story, late, .. } = pen;
    let (trace, _, without_row) = trace.finish();
    let (text, lines) = text.finish();
    Ok(Written {
        without_result,
        events: lines,
        skipped: reader.skipped(),
        left_out: story.left_out().saturating_add(without_row),
        late,
        perfetto_bytes: trace.put().map_err(unwritable(perfetto))?,
        ftrace_bytes: text.put().map_err(unwritable(ftrace))?,
    })
}

/// Both writers.
struct Pen<'a> {
    perfetto: Perfetto<Output>,
    ftrace: Ftrace<Output>,
    /// Theirs.
    paths: [&'a Path; 2],
    story: Story,
    told_ns: u64,
    late: u64,
}

impl Pen<'_> {
    fn draw(&mut self, mut timed: Timed) -> Result<(), TimelineError> {
        // Ends must not come before their beginnings.
        if timed.at_ns < self.told_ns {
            timed.at_ns = self.told_ns;
            self.late += 1;
        }
        self.told_ns = timed.at_ns;
        let [perfetto, ftrace] = self.paths;
        self.ftrace.event(&timed).map_err(unwritable(ftrace))?;
        for mark in self.story.tell(&timed) {
            self.perfetto.mark(&mark).map_err(unwritable(perfetto))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), TimelineError> {
        let [perfetto, _] = self.paths;
        for mark in self.story.finish() {
            self.perfetto.mark(&mark).map_err(unwritable(perfetto))?;
        }
        Ok(())
    }
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> TimelineError {
    let path = path.to_path_buf();
    move |source| TimelineError::Unwritable { path, source }
}

/// A file that is there whole or not at all.
struct Output {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
    bytes: u64,
}

impl Output {
    fn new(path: &Path) -> io::Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
        Ok(Self { path: path.to_path_buf(), file: BufWriter::with_capacity(1 << 18, file), bytes: 0 })
    }

    /// Puts it in place, for whoever may read the folder. Its size.
    fn put(self) -> io::Result<u64> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        // Some file systems tell only now that it did not fit.
        file.as_file().sync_all()?;
        // A temporary file is private.
        file.as_file().set_permissions(Permissions::from_mode(0o644))?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(self.bytes)
    }
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What the result tells of a run.
#[derive(Debug, Default)]
struct Facts {
    devices: Vec<String>,
    cpus: u32,
    run: Arguments,
    about: Vec<String>,
}

impl Facts {
    fn of(result: Option<&RunResult>) -> Self {
        let Some(result) = result else { return Self { cpus: 1, ..Self::default() } };
        let guest = &result.guest;
        let hz = guest.hz.map_or_else(|| "not told".to_owned(), |hz| hz.to_string());
        let preemption = guest.preemption.clone().unwrap_or_else(|| "not told".to_owned());
        let release = guest.release.clone().unwrap_or_else(|| guest.kernel.clone());
        let host = result.host.kind.describe();
        let run = [
            ("host", host.to_owned()),
            ("release", release.clone()),
            ("hz", hz.clone()),
            ("preemption", preemption.clone()),
            ("plugstorm", result.plugstorm.clone()),
            ("begun", minute(result.started_unix_s)),
        ];
        let about = vec![
            format!("plugstorm {}: {}, seed {}", result.plugstorm, result.scenario, result.seed),
            format!("host {host}; guest {release}, HZ {hz}, preemption {preemption}"),
        ];
        Self {
            devices: result.devices.iter().map(|device| device.name.clone()).collect(),
            cpus: u32::from(guest.cpus).min(MOST_CPUS),
            run: run.into_iter().map(|(name, value)| (name, Value::Text(value))).collect(),
            about,
        }
    }
}
