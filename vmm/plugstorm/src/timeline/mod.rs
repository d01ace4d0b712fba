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
use std::io::{self, BufReader, BufWriter, Read};
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
use crate::results::{EVENTS, RESULT, RunResult};

/// What the trace for Perfetto's UI is called in a run's folder.
pub const PERFETTO: &str = "timeline.perfetto-trace";
/// What the text is called there.
pub const FTRACE: &str = "timeline.ftrace.txt";
/// What a file is called before it is whole.
const TEMPORARY: &str = ".timeline.";
/// Larger is no run's result.
const MOST_RESULT_BYTES: u64 = 64 << 20;
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
    /// Something cannot be written.
    #[error("cannot write {} ({source}); name another file with --perfetto or --ftrace", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
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
    let facts = Facts::of(result(&dir.join(RESULT)).as_ref());
    let unwritable = |path: &Path| {
        let path = path.to_path_buf();
        move |source| TimelineError::Unwritable { path, source }
    };
    let trace = Output::new(perfetto).map_err(unwritable(perfetto))?;
    let text = Output::new(ftrace).map_err(unwritable(ftrace))?;
    let mut pen = Pen {
        perfetto: Perfetto::new(trace, facts.devices.clone()).map_err(unwritable(perfetto))?,
        ftrace: Ftrace::new(text, facts.cpus, &facts.about).map_err(unwritable(ftrace))?,
        story: Story::new(facts.devices, facts.cpus, facts.run),
        told_ns: 0,
        late: 0,
    };
    let mut reader = Reader::new(BufReader::with_capacity(1 << 18, input));
    let mut window = Window::new();
    // A failure of either writer is told as that of the first: the sentence names the option for both.
    let failed = unwritable(perfetto);
    let mut write_all = || -> io::Result<Result<(), io::Error>> {
        loop {
            match reader.next() {
                Ok(Some(timed)) => window.push(timed.at_ns, timed.size, timed),
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            }
            while let Some(timed) = window.pop_over() {
                pen.draw(timed)?;
            }
        }
        while let Some(timed) = window.pop() {
            pen.draw(timed)?;
        }
        pen.finish()?;
        Ok(Ok(()))
    };
    write_all().map_err(failed)?.map_err(|source| TimelineError::Unreadable { path: events, source })?;
    let Pen { perfetto: trace, ftrace: text, story, late, .. } = pen;
    let (trace, _, without_row) = trace.finish();
    let (text, lines) = text.finish();
    Ok(Written {
        events: lines,
        skipped: reader.skipped(),
        left_out: story.left_out().saturating_add(without_row),
        late,
        perfetto_bytes: trace.put().map_err(unwritable(perfetto))?,
        ftrace_bytes: text.put().map_err(unwritable(ftrace))?,
    })
}

/// Both writers.
struct Pen {
    perfetto: Perfetto<Output>,
    ftrace: Ftrace<Output>,
    story: Story,
    told_ns: u64,
    late: u64,
}

impl Pen {
    fn draw(&mut self, mut timed: Timed) -> io::Result<()> {
        // Ends must not come before their beginnings.
        if timed.at_ns < self.told_ns {
            timed.at_ns = self.told_ns;
            self.late += 1;
        }
        self.told_ns = timed.at_ns;
        self.ftrace.event(&timed)?;
        for mark in self.story.tell(&timed) {
            self.perfetto.mark(&mark)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        for mark in self.story.finish() {
            self.perfetto.mark(&mark)?;
        }
        Ok(())
    }
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

/// The run's result, if it can be read: a timeline without it lacks names, not events.
fn result(path: &Path) -> Option<RunResult> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(MOST_RESULT_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
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
