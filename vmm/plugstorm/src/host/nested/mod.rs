//! A host with a complete KVM on any machine: QEMU's software emulation offers AMD's SVM, a stock kernel in it offers
//! `/dev/kvm`, and this very binary is that kernel's PID 1. One boot serves a whole batch of runs.
//!
//! Folders of this machine are mounted inside at their own paths, so that command lines mean the same in both places
//! and results grow on the real disk as they happen.

mod emulator;
mod error;
mod frame;
mod init;
mod input;
mod run;
mod share;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::initramfs::ExtraFile;
pub use error::NestedError;
pub use init::{init, is_init};
pub(crate) use share::normal;
use share::{Access, Share};

/// The package that has the emulator, on Debian and Ubuntu.
pub const EMULATOR_PACKAGE: &str = "qemu-system-x86";

/// The folder of the nested host's initramfs that is ours.
const OWN_FOLDER: &str = "plugstorm";
/// Its marker and description, below [`OWN_FOLDER`].
const SPECIFICATION: &str = "nested";
/// What jobs find in their environment, set to 1.
const INSIDE: &str = "PLUGSTORM_NESTED";
/// Where jobs of one machine keep for each other what must be in RAM, below [`OWN_FOLDER`]: it has the layout of the cache.
const OWN_CACHE: &str = "cache";
/// What a batch gives to its jobs, below [`OWN_FOLDER`].
const GIVEN: &str = "given";
/// The name of the virtio-serial port that carries frames.
const PORT: &str = "plugstorm.nested";

/// The emulator's path, if it is installed.
#[must_use]
pub fn emulator() -> Option<PathBuf> {
    crate::programs::find(emulator::PROGRAM)
}

/// Does this process run as a job of a nested machine?
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some_and(|value| value == "1")
}

/// What stands for the cache where it must be in RAM and can be written: a folder that all jobs of this nested machine see,
/// and that ends with it.
pub(crate) fn own_cache() -> PathBuf {
    Path::new("/").join(OWN_FOLDER).join(OWN_CACHE)
}

/// Where jobs find what [`Batch::file`] gave by that name.
#[must_use]
pub fn given(name: &str) -> PathBuf {
    Path::new("/").join(OWN_FOLDER).join(GIVEN).join(name)
}

/// One command line of plugstorm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its arguments, without the program's name. Paths should be absolute.
    pub argv: Vec<OsString>,
    /// Where it runs.
    pub directory: PathBuf,
    /// Its environment, beside what the nested host sets itself (PATH, HOME, and what starts with PLUGSTORM_).
    pub environment: Vec<(OsString, OsString)>,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobOutcome {
    /// Its exit code; 128 and the signal's number if a signal ended it.
    pub exit_code: i32,
}

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// It was not begun.
    Waiting,
    /// It was begun and has not ended.
    UnderWay,
    /// It has ended.
    Ended(JobOutcome),
}

impl JobState {
    /// How it ended, if it has.
    #[must_use]
    pub fn outcome(self) -> Option<JobOutcome> {
        if let Self::Ended(outcome) = self { Some(outcome) } else { None }
    }
}

/// One of a job's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Something that a job wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output<'a> {
    /// Which job, counted from 0.
    pub job: usize,
    /// To what.
    pub stream: Stream,
    /// What.
    pub bytes: &'a [u8],
}

/// Passes a job's output on to our own.
pub fn forward(output: Output<'_>) {
    // Whoever reads us may have gone; the job's results are on disk all the same.
    let _ = match output.stream {
        Stream::Stdout => write_out(&mut io::stdout().lock(), output.bytes),
        Stream::Stderr => write_out(&mut io::stderr().lock(), output.bytes),
    };
}

fn write_out(writer: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes)?;
    writer.flush()
}

/// What a batch did.
#[derive(Debug)]
pub struct BatchReport {
    /// How far each job came, in the order in which they were given; all ended unless we were told to stop, or `failure`
    /// says why.
    pub jobs: Vec<JobState>,
    /// Why the machine ended before its jobs did, if it did.
    pub failure: Option<NestedError>,
    /// The names of the snapshots that jobs made and that are in the cache now.
    pub snapshots: Vec<String>,
    /// What went wrong beside the jobs, one sentence each: snapshots that could not be kept.
    pub notes: Vec<String>,
    /// From the emulator's start to the first job's.
    pub boot: Duration,
    /// From the emulator's start to its end.
    pub total: Duration,
}

/// CPUs of the outer machine. One, whatever the guests have: with two, each a thread of the emulator, QEMU 7.2 lost the
/// outer machine or a guest to a triple fault every few minutes.
const OUTER_CPUS: u32 = 1;

/// Jobs to run in one nested machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    jobs: Vec<Job>,
    shares: Vec<Share>,
    memory_mib: u64,
    cpus: u32,
    guests: usize,
    stdin: bool,
    snapshots: bool,
    files: Vec<ExtraFile>,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// An empty batch: one CPU and 3 GiB.
    #[must_use]
    pub fn new() -> Self {
        Self {
            jobs: Vec::new(),
            shares: Vec::new(),
            memory_mib: 3072,
            cpus: OUTER_CPUS,
            guests: 1,
            stdin: false,
            snapshots: false,
            files: Vec::new(),
        }
    }

    /// Adds a job. Jobs run one after another, in the order in which they are added.
    #[must_use]
    pub fn job(mut self, job: Job) -> Self {
        self.jobs.push(job);
        self
    }

    /// Lets jobs read a file (with the folder it lies in) or a folder.
    #[must_use]
    pub fn input(mut self, path: impl Into<PathBuf>) -> Self {
        self.shares.push(Share::new(path.into(), Access::Read));
        self
    }

    /// Lets jobs write below a folder. It is made before the machine starts if it is not there.
    #[must_use]
    pub fn output(mut self, folder: impl Into<PathBuf>) -> Self {
        self.shares.push(Share::new(folder.into(), Access::Write));
        self
    }

    /// Gives the machine a file that jobs read: [`given`] says where it is inside.
    #[must_use]
    pub fn file(mut self, name: &str, content: Vec<u8>) -> Self {
        let path = format!("{OWN_FOLDER}/{GIVEN}/{name}");
        self.files.push(ExtraFile { path, mode: 0o600, content });
        self
    }

    /// The nested machine's memory, guests included.
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u64) -> Self {
        self.memory_mib = memory_mib;
        self
    }

    /// The nested machine's CPUs: more than this machine has make it slower.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// So many guests run at a time in a job: each takes from the time of the others, also when a signal ends them. One unless
    /// this is called.
    #[must_use]
    pub fn guests(mut self, guests: usize) -> Self {
        self.guests = guests.max(1);
        self
    }

    /// Passes our standard input on to the jobs.
    #[must_use]
    pub fn stdin(mut self, stdin: bool) -> Self {
        self.stdin = stdin;
        self
    }

    /// Puts snapshots that jobs make into the cache once the machine has ended, however it does. Reading those that there are
    /// needs nothing. What jobs use of them takes the nested machine's memory, beside the guests.
    #[must_use]
    pub fn snapshots(mut self, snapshots: bool) -> Self {
        self.snapshots = snapshots;
        self
    }

    /// Boots the machine, runs the jobs, and ends the machine. `sink` gets their output as it comes ([`forward`] is
    /// one).
    ///
    /// SIGINT, SIGTERM and SIGHUP are passed on to the running jobs, and those after them are left out; 15 s later (5 s
    /// more for each guest beside another), or at a second signal, the emulator is killed. That second signal ends this
    /// process too, unless it passes input on. The machine also ends when this process does, however that ends, and **when
    /// the calling thread ends**, so call this from a thread that waits for it.
    ///
    /// # Errors
    /// [`NestedError`], if the machine cannot be started. What happens to it later is in the report, and a job that
    /// fails is no error.
    pub fn run(&self, sink: &mut dyn FnMut(Output<'_>)) -> Result<BatchReport, NestedError> {
        self.run_until(sink, &|| false)
    }

    /// As [`Self::run`]; once `is_over` says so, as if SIGTERM had come.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_until(
        &self,
        sink: &mut dyn FnMut(Output<'_>),
        is_over: &dyn Fn() -> bool,
    ) -> Result<BatchReport, NestedError> {
        run::run(self, sink, is_over)
    }
}

/// What the nested host is told, in its initramfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Specification {
    jobs: Vec<Job>,
    mounts: Vec<share::Mount>,
    environment: Vec<(OsString, OsString)>,
    stdin: bool,
}
