//! Runs what takes long: told every few seconds, ended with all its children by a signal, and all it said kept.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::BuildError;
use super::group::{self, Doing, Group};
use super::needs;

/// How often a signal is looked for, and what is shown refreshed.
const LOOK: Duration = Duration::from_millis(200);
/// The same between a program's last line and its end.
const END_LOOK: Duration = Duration::from_millis(5);
/// How many looks in a row may find that a program does nothing at all: ten minutes. Not counted by the clock: a machine that
/// gives it no time, or sleeps, gives none to us either.
const SILENT_LOOKS: u32 = 3000;
/// How often what it does is looked at, which is all of /proc, among so many looks.
const SILENT_PARTS: u32 = 20;
/// Lines of a failed program that are told.
const TOLD_LINES: usize = 12;

/// What a person is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildStep<'a> {
    /// A line that stays.
    Line(&'a str),
    /// Where it is now. The next one takes its place.
    Now(&'a str),
}

/// Who looks on, and what ends it.
pub(super) struct Watch<'a> {
    /// Set by a signal.
    pub(super) interrupt: &'a AtomicBool,
    show: &'a mut dyn FnMut(BuildStep<'_>),
    log: Option<(PathBuf, File)>,
    /// Where a disk that is full is told to be.
    root: PathBuf,
    /// [`SILENT_LOOKS`], or fewer.
    silent_looks: u32,
}

impl<'a> Watch<'a> {
    pub(super) fn new(root: &Path, interrupt: &'a AtomicBool, show: &'a mut dyn FnMut(BuildStep<'_>)) -> Self {
        Self { interrupt, show, log: None, root: root.into(), silent_looks: SILENT_LOOKS }
    }

    /// From here on all that programs say goes to this file too.
    pub(super) fn log_to(&mut self, path: &Path) -> Result<(), BuildError> {
        let file = File::create(path).map_err(BuildError::io("cannot write", path))?;
        self.log = Some((path.into(), file));
        Ok(())
    }

    pub(super) fn line(&mut self, text: &str) {
        (self.show)(BuildStep::Line(text));
    }

    pub(super) fn now(&mut self, text: &str) {
        (self.show)(BuildStep::Now(text));
    }

    /// Fails if a signal has come.
    pub(super) fn check(&self) -> Result<(), BuildError> {
        if self.interrupt.load(Ordering::Relaxed) { Err(BuildError::Interrupted) } else { Ok(()) }
    }

    /// Runs a program to its end. `phase` says what goes on, such as "configuring"; `read` is given each line, and answers
    /// with what to show from then on where that has changed.
    pub(super) fn run(
        &mut self,
        phase: &str,
        command: &Command,
        mut read: impl FnMut(&str) -> Option<String>,
    ) -> Result<(), BuildError> {
        self.check()?;
        let program = PathBuf::from(command.get_program());
        let (reader, writer) = io::pipe().map_err(BuildError::io("cannot make a pipe for", &program))?;
        let second = writer.try_clone().map_err(BuildError::io("cannot make a pipe for", &program))?;
        let mut command = group::led(command);
        command.stdin(Stdio::null()).stdout(writer).stderr(second);
        // Takes the command, which holds the writing ends: the pipe would never end.
        let mut group = Group::start(command).map_err(BuildError::io("cannot run", &program))?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let began = Instant::now();
        let (mut said, mut full, mut shown) = (Complaint::default(), false, phase.to_owned());
        let mut silence = Silence { limit: self.silent_looks, looks: 0, seen: None };
        let status = loop {
            match lines.recv_timeout(LOOK) {
                Ok(line) => {
                    silence.looks = 0;
                    self.keep(&line);
                    full |= line.contains("No space left on device") || line.contains("Disk quota exceeded");
                    said.add(&line);
                    shown = read(&line).unwrap_or(shown);
                }
                Err(ended) => {
                    if ended == RecvTimeoutError::Disconnected {
                        if let Some(status) = group.ended().map_err(BuildError::io("cannot wait for", &program))? {
                            break status;
                        }
                        std::thread::sleep(END_LOOK);
                    }
                    if silence.look(|| group.doing()) {
                        let minutes = (LOOK * silence.limit).as_secs() / 60;
                        return Err(BuildError::Standstill { phase: phase.into(), minutes, log: self.log_path() });
                    }
                }
            }
            self.check()?;
            self.now(&format!("{shown}, {} s", began.elapsed().as_secs()));
        };
        if status.success() {
            return Ok(());
        }
        self.check()?;
        if full || needs::is_full(&self.root) {
            return Err(BuildError::NoSpaceLeft { folder: self.root.clone(), phase: phase.into() });
        }
        let (phase, message) = (phase.into(), said.text());
        Err(BuildError::Failed { phase, status: status.to_string(), message, log: self.log_path() })
    }

    fn log_path(&self) -> PathBuf {
        self.log.as_ref().map(|(path, _)| path.clone()).unwrap_or_default()
    }

    fn keep(&mut self, line: &str) {
        if let Some((_, file)) = &mut self.log {
            // A full disk is found by those whose output matters.
            let _ = writeln!(file, "{line}");
        }
    }
}

/// How long a program has done nothing.
#[derive(Debug)]
struct Silence {
    limit: u32,
    /// Looks since it did something.
    looks: u32,
    seen: Option<Doing>,
}

impl Silence {
    /// Another look that found no line. Whether there were too many.
    fn look(&mut self, doing: impl FnOnce() -> Doing) -> bool {
        self.looks += 1;
        if !self.looks.is_multiple_of((self.limit / SILENT_PARTS).max(1)) {
            return false;
        }
        let now = Some(doing());
        if now != self.seen {
            self.seen = now;
            self.looks = 0;
        }
        self.looks >= self.limit
    }
}

/// Why a program failed: its first errors if it names any, else the end of what it said.
#[derive(Debug, Default)]
struct Complaint {
    errors: Vec<String>,
    last: std::collections::VecDeque<String>,
}

impl Complaint {
    fn add(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        let is_error =
            ["error:", "Error: ", "ERROR: ", "undefined reference", ": not found"].iter().any(|it| line.contains(it));
        if is_error && self.errors.len() < TOLD_LINES {
            self.errors.push(line.into());
        }
        if self.last.len() == TOLD_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.into());
    }

    fn text(&self) -> String {
        if self.errors.is_empty() {
            return self.last.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
        }
        self.errors.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_are_read_kept_and_shown() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let interrupt = AtomicBool::new(false);
        let mut shown = Vec::new();
        let mut show = |step: BuildStep<'_>| shown.push(format!("{step:?}"));
        let mut watch = Watch::new(Path::new("/cache"), &interrupt, &mut show);
        watch.log_to(&log).unwrap();
        watch.run("working", &sh("echo one; echo two >&2; sleep 0.5"), |line| Some(format!("saw {line}"))).unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "one\ntwo\n");
        assert!(shown.iter().any(|step| step.contains("saw two")), "{shown:?}");
    }

    #[test]
    fn a_failure_tells_its_errors_and_a_full_disk_is_one_of_its_own() {
        let interrupt = AtomicBool::new(false);
        let mut show = |_: BuildStep<'_>| ();
        let mut watch = Watch::new(Path::new("/cache"), &interrupt, &mut show);
        let script = "echo 'a.c:1: error: wrong'; seq 100; exit 2";
        let error = watch.run("compiling", &sh(script), |_| None).unwrap_err().to_string();
        assert!(error.contains("a.c:1: error: wrong") && !error.contains("99"), "{error}");
        let error = watch.run("compiling", &sh("seq 100; exit 2"), |_| None).unwrap_err().to_string();
        assert!(error.contains("\n100") && !error.contains("\n50\n"), "{error}");
        let full = watch.run("compiling", &sh("echo 'cc: No space left on device'; exit 1"), |_| None).unwrap_err();
        // Of no size, and so always full.
        let mut show = |_: BuildStep<'_>| ();
        let mut silent = Watch::new(Path::new("/proc"), &interrupt, &mut show);
        let error = silent.run("compiling", &sh("echo 'make: *** Error 2'; exit 2"), |_| None).unwrap_err();
        assert!(matches!(error, BuildError::NoSpaceLeft { .. }), "{error}");
        insta::assert_snapshot!(full, @"no space was left in /cache while compiling: free some, or set PLUGSTORM_CACHE to a folder on a larger disk; the cache is as it was before");
    }

    #[test]
    fn a_program_that_does_nothing_is_ended_and_one_that_works_is_not() {
        let interrupt = AtomicBool::new(false);
        let mut show = |_: BuildStep<'_>| ();
        let mut watch = Watch::new(Path::new("/cache"), &interrupt, &mut show);
        watch.silent_looks = 5;
        let began = Instant::now();
        let error = watch.run("compiling", &sh("sleep 600"), |_| None).unwrap_err();
        assert!(matches!(error, BuildError::Standstill { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(60));

        let mut silence = Silence { limit: 3000, looks: 0, seen: None };
        let busy = |ticks| Doing { processes: 3, ticks };
        // A tick a minute is work.
        assert!((0..100_000).all(|look| !silence.look(|| busy(look / 300))));
        let looks = (1..).take_while(|_| !silence.look(|| busy(u64::MAX))).count();
        assert!((3000..3300).contains(&looks), "{looks}");
    }

    #[test]
    fn a_signal_ends_it_with_its_children() {
        let interrupt = AtomicBool::new(false);
        let began = Instant::now();
        let mut pid = None;
        let mut show = |_: BuildStep<'_>| ();
        let error = Watch::new(Path::new("/cache"), &interrupt, &mut show)
            .run("compiling", &sh("sleep 60 & echo $!; wait"), |line| {
                pid = line.parse::<i32>().ok();
                interrupt.store(true, Ordering::Relaxed);
                None
            })
            .unwrap_err();
        assert!(matches!(error, BuildError::Interrupted));
        assert!(began.elapsed() < Duration::from_secs(20));
        let child = pid.unwrap();
        let gone =
            |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
        let limit = Instant::now() + Duration::from_secs(5);
        while !gone(child) && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(gone(child));
    }
}
