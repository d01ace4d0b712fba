//! Our side of a nested machine: starts it, listens, passes signals and input on, and ends it.

use std::ffi::{CStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::getpid;
use signal_hook::consts::SIGTERM;

use super::emulator::{self, Machine};
use super::frame::{Frame, FrameReader, Kind};
use super::share::{self, Access, Share};
use super::{
    Batch, BatchReport, JobOutcome, JobState, NestedError, OWN_FOLDER, Output, SPECIFICATION, Specification, Stream,
};
use crate::child::BoundChild;
use crate::initramfs::{self, ExtraFile};
use crate::snapshots::{self, Incoming, Store};
use crate::{cache, kernels, programs, signals};

/// How long the outer kernel may take to its first job on an idle machine; measured: 6 to 10 s on two cores.
const BOOT_LIMIT: Duration = Duration::from_secs(90);
/// How long the nested host may say nothing: it sends a sign of life every 5 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(120);
/// How long a job has to end after a signal.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How much longer with each guest beside another; measured: three ended within 8 s.
const STOP_LIMIT_MORE: Duration = Duration::from_secs(5);
/// How long the machine has to power off after its last job.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(20);
/// How often signals and limits are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How much of its console goes into an error.
const EVIDENCE_LINES: usize = 15;
/// How much of it is looked at for that.
const EVIDENCE_BYTES: u64 = 64 * 1024;

pub(super) fn run(
    batch: &Batch,
    sink: &mut dyn FnMut(Output<'_>),
    is_over: &dyn Fn() -> bool,
) -> Result<BatchReport, NestedError> {
    // Who passes input on has a raw terminal to put back, and has to come back for that.
    let signals = Signals::register(!batch.stdin)?;
    let mut notes = Vec::new();
    let incoming = incoming(batch, &mut notes);
    let mut machine = Running::start(batch, incoming.as_ref())?;
    let mut jobs = vec![JobState::Waiting; batch.jobs.len()];
    let boot = machine.listen(batch, &signals, is_over, &mut |heard| match heard {
        Heard::Wrote(output) => sink(output),
        Heard::Came(job, state) => {
            if let Some(known) = jobs.get_mut(job) {
                *known = state;
            }
        }
    });
    let (boot, failure) = match boot {
        Ok(boot) => (boot, None),
        Err(failure) => (Duration::ZERO, Some(failure)),
    };
    let total = machine.begun.elapsed();
    // Ended, so that nothing is written any more.
    drop(machine);
    let snapshots = incoming.map(|incoming| collect(incoming, &mut notes)).unwrap_or_default();
    Ok(BatchReport { jobs, failure, snapshots, notes, boot, total })
}

/// Where the machine puts snapshots. Without it, jobs work all the same.
fn incoming(batch: &Batch, notes: &mut Vec<String>) -> Option<Incoming> {
    if !batch.snapshots {
        return None;
    }
    let made = Incoming::begin(Store::at(cache::root()));
    made.map_err(|error| notes.push(format!("snapshots made in the nested machine will be lost: {error}"))).ok()
}

/// The names of those that came into the cache.
fn collect(incoming: Incoming, notes: &mut Vec<String>) -> Vec<String> {
    let mut waiting = |line: &str| {
        let _ = writeln!(io::stderr(), "{line}");
    };
    let collected = incoming.collect(&mut waiting);
    notes.extend(collected.failed.iter().map(|error| format!("a snapshot could not be put into the cache: {error}")));
    collected.names
}

fn stop_limit(guests: usize) -> Duration {
    STOP_LIMIT + STOP_LIMIT_MORE.saturating_mul(u32::try_from(guests.saturating_sub(1)).unwrap_or(u32::MAX))
}

/// What is heard of jobs.
enum Heard<'a> {
    Wrote(Output<'a>),
    Came(usize, JobState),
}

/// The signals that end a batch in order, taken while it runs.
struct Signals {
    pending: Vec<(i32, Arc<AtomicBool>)>,
    registrations: Vec<signal_hook::SigId>,
}

impl Signals {
    /// With `second_kills`, a second signal ends this process at once, and the kernel ends the emulator with it.
    fn register(second_kills: bool) -> Result<Self, NestedError> {
        let failed = |source| NestedError::System { action: "taking signals", source };
        let flag = || Arc::new(AtomicBool::new(false));
        // Registered one by one into what gives them back when dropped.
        let mut taken = Self { pending: Vec::new(), registrations: Vec::new() };
        for signal in signals::ending() {
            let came = flag();
            taken.keep(signal_hook::flag::register(signal, Arc::clone(&came)).map_err(failed)?);
            taken.pending.push((signal, came));
        }
        if second_kills {
            signals::second_ends_us(&mut |registration| taken.keep(registration)).map_err(failed)?;
        }
        Ok(taken)
    }

    fn keep(&mut self, registration: signal_hook::SigId) {
        self.registrations.push(registration);
    }

    /// The signal that has come since the last call.
    fn take(&self) -> Option<i32> {
        self.pending.iter().find(|(_, came)| came.swap(false, Ordering::Relaxed)).map(|(signal, _)| *signal)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for registration in self.registrations.drain(..) {
            signal_hook::low_level::unregister(registration);
        }
    }
}

/// A machine that has been started. Dropping it ends it.
struct Running {
    child: BoundChild,
    frames: Receiver<Frame>,
    to_machine: SyncSender<Frame>,
    console: File,
    errors: File,
    /// Until QEMU has read it.
    initramfs: Option<File>,
    begun: Instant,
    patience: u32,
}

impl Running {
    fn start(batch: &Batch, incoming: Option<&Incoming>) -> Result<Self, NestedError> {
        let emulator = programs::find(emulator::PROGRAM).ok_or(NestedError::NoEmulator)?;
        let kernel = kernels::host_kernel()?;
        let failed = |action| move |source| NestedError::System { action, source };
        let mut shares = batch.shares.clone();
        shares.push(Share::new(cache::root(), Access::Read));
        let out = incoming.map(|incoming| incoming.folder().to_path_buf());
        shares.extend(out.clone().map(|out| Share::new(out, Access::Write)));
        let mounts = share::mounts(&shares)?;

        let own = std::env::current_exe().map_err(failed("finding this program"))?;
        let agent = initramfs::agent()
            .and_then(|path| fs::read(&path).map_err(|source| initramfs::InitramfsError::Read { path, source }));
        let inside = format!("/{OWN_FOLDER}/{}", initramfs::AGENT);
        let mut environment = vec![
            ("PLUGSTORM_CACHE".into(), cache::root().into_os_string()),
            ("PLUGSTORM_AGENT".into(), OsString::from(&inside)),
        ];
        environment.extend(out.map(|out| (snapshots::OUT.into(), out.into_os_string())));
        let specification =
            Specification { jobs: batch.jobs.clone(), mounts: mounts.clone(), environment, stdin: batch.stdin };
        let specification =
            serde_json::to_vec(&specification).map_err(|error| failed("writing its specification")(error.into()))?;
        let mut extra =
            vec![ExtraFile { path: format!("{OWN_FOLDER}/{SPECIFICATION}"), mode: 0o600, content: specification }];
        extra.extend(batch.files.iter().cloned());
        // Jobs that need no agent (`run`, `doctor`) work without; the others say so themselves.
        if let Ok(content) = agent {
            extra.push(ExtraFile { path: inside.trim_start_matches('/').into(), mode: 0o755, content });
        }
        let archive = initramfs::build(&own, &kernel.modules, &extra)?;
        let initramfs =
            in_memory(c"plugstorm-initramfs", &archive).map_err(failed("keeping its initramfs in memory"))?;
        let logs = "keeping its logs in memory";
        let console = in_memory(c"plugstorm-console", &[]).map_err(failed(logs))?;
        let errors = in_memory(c"plugstorm-qemu", &[]).map_err(failed(logs))?;

        let mut command = Command::new(emulator);
        command
            .args(emulator::arguments(&Machine {
                kernel: &kernel.image,
                initramfs: &path_of(&initramfs),
                console: &path_of(&console),
                memory_mib: batch.memory_mib,
                cpus: batch.cpus,
                mounts: &mounts,
            }))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone().map_err(failed(logs))?);
        let begun = Instant::now();
        let mut child = BoundChild::spawn(command).map_err(failed("running QEMU"))?;
        let (frames_in, frames) = mpsc::sync_channel(256);
        let (to_machine, frames_out) = mpsc::sync_channel::<Frame>(64);
        if let Some(mut output) = child.child().stdout.take() {
            thread::spawn(move || read_frames(&mut output, &frames_in));
        }
        if let Some(mut input) = child.child().stdin.take() {
            thread::spawn(move || {
                for frame in frames_out {
                    if input.write_all(&frame.encode()).and_then(|()| input.flush()).is_err() {
                        return;
                    }
                }
            });
        }
        let initramfs = Some(initramfs);
        Ok(Self { child, frames, to_machine, console, errors, initramfs, begun, patience: patience() })
    }

    /// Until all jobs have ended. How long it took to the first of them.
    fn listen(
        &mut self,
        batch: &Batch,
        signals: &Signals,
        is_over: &dyn Fn() -> bool,
        sink: &mut dyn FnMut(Heard<'_>),
    ) -> Result<Duration, NestedError> {
        let mut boot = None;
        let mut heard = Instant::now();
        let mut stopping_since: Option<Instant> = None;
        let stop_input = Arc::new(AtomicBool::new(false));
        let _stop = StopOnDrop(Arc::clone(&stop_input));
        loop {
            // Which came before anybody here listened to signals, too.
            let over = || (stopping_since.is_none() && is_over()).then_some(SIGTERM);
            if let Some(signal) = signals.take().or_else(over) {
                match stopping_since {
                    None if boot.is_some() => {
                        stopping_since = Some(Instant::now());
                        // Full only if the machine takes nothing any more; then the time limit ends it.
                        let _ = self.to_machine.try_send(Frame::with_number(Kind::Signal, 0, signal));
                    }
                    // The first, once more.
                    Some(since) if since.elapsed() < signals::ONE_SIGNAL => {}
                    _ => return Err(NestedError::Stopped),
                }
            }
            if stopping_since.is_some_and(|since| since.elapsed() >= stop_limit(batch.guests)) {
                return Err(NestedError::Stopped);
            }
            let limit = if boot.is_none() { BOOT_LIMIT } else { SILENCE_LIMIT } * self.patience;
            if heard.elapsed() >= limit {
                let evidence = self.evidence();
                return Err(if boot.is_none() {
                    NestedError::BootTimedOut { limit, evidence }
                } else {
                    NestedError::Silent { limit, evidence }
                });
            }
            let frame = match self.frames.recv_timeout(TICK) {
                Ok(frame) => frame,
                Err(RecvTimeoutError::Timeout) => continue,
                // Of a signal to all of a service, the emulator may end before its jobs have.
                Err(RecvTimeoutError::Disconnected) if stopping_since.is_some() => return Err(NestedError::Stopped),
                Err(RecvTimeoutError::Disconnected) => return Err(self.died()),
            };
            heard = Instant::now();
            let job = frame.job as usize;
            match frame.kind {
                Kind::Ready => {
                    boot = Some(self.begun.elapsed());
                    self.initramfs = None;
                    if batch.stdin {
                        let (to, stop) = (self.to_machine.clone(), Arc::clone(&stop_input));
                        thread::spawn(move || pass_input(&to, &stop));
                    }
                }
                Kind::Stdout => sink(Heard::Wrote(Output { job, stream: Stream::Stdout, bytes: &frame.payload })),
                Kind::Stderr => sink(Heard::Wrote(Output { job, stream: Stream::Stderr, bytes: &frame.payload })),
                Kind::Began => sink(Heard::Came(job, JobState::UnderWay)),
                Kind::Ended => {
                    let outcome = JobOutcome { exit_code: frame.number().unwrap_or(3) };
                    sink(Heard::Came(job, JobState::Ended(outcome)));
                }
                Kind::Refused => return Err(NestedError::Refused(frame.text())),
                Kind::Done => break,
                _ => {}
            }
        }
        // All results are on disk: a machine that does not power off is ended, and that is all.
        let _ = self.child.wait(POWER_OFF_LIMIT);
        Ok(boot.unwrap_or_default())
    }

    fn died(&mut self) -> NestedError {
        let status = match self.child.wait(Duration::from_secs(5)) {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        NestedError::Died { status, evidence: self.evidence() }
    }

    /// The end of what the emulator and the outer kernel said.
    fn evidence(&self) -> String {
        [&self.errors, &self.console].into_iter().map(last_lines).collect()
    }
}

/// A file without a name: nothing is left of it when we are killed.
fn in_memory(name: &CStr, content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)?;
    Ok(file)
}

/// Where QEMU finds a file of ours that has no name.
fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", getpid(), file.as_raw_fd()))
}

/// Ends the thread that reads our standard input, at its next look.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A busy machine starts others slower: limits are multiplied by the runnable tasks for each CPU.
fn patience() -> u32 {
    let cpus = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    patience_of(&fs::read_to_string("/proc/loadavg").unwrap_or_default(), cpus)
}

fn patience_of(loadavg: &str, cpus: usize) -> u32 {
    let load: f64 = loadavg.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    // Saturates and drops the fraction, both meant.
    (load / cpus as f64).ceil().clamp(1.0, 10.0) as u32
}

fn last_lines(log: &File) -> String {
    let length = log.metadata().map_or(0, |metadata| metadata.len());
    let mut text = vec![0; usize::try_from(length.min(EVIDENCE_BYTES)).unwrap_or(0)];
    // Not by reading on: its place in the file is also QEMU's.
    let _ = log.read_exact_at(&mut text, length.saturating_sub(EVIDENCE_BYTES));
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(EVIDENCE_LINES)..).unwrap_or_default();
    last.iter().map(|line| format!("\n  {}", line.escape_debug())).collect()
}

fn read_frames(output: &mut impl Read, to: &SyncSender<Frame>) {
    let mut reader = FrameReader::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = match output.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let mut closed = false;
        let bytes = buffer.get(..length).unwrap_or_default();
        let whole = reader.push(bytes, |frame| closed |= to.send(frame).is_err());
        // Without us the emulator would block on a full pipe, and it is ended by whoever dropped the receiver.
        if closed || whole.is_err() {
            return;
        }
    }
}

/// Passes our standard input on until it ends or `stop` is set.
fn pass_input(to: &SyncSender<Frame>, stop: &AtomicBool) {
    let stdin = io::stdin();
    let mut buffer = vec![0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(std::os::fd::AsFd::as_fd(&stdin), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::from(100_u16)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        let frame = match stdin.lock().read(&mut buffer) {
            Ok(0) | Err(_) => Frame::new(Kind::StdinEnd, 0, &[]),
            Ok(length) => Frame::new(Kind::Stdin, 0, buffer.get(..length).unwrap_or_default()),
        };
        let ended = frame.kind == Kind::StdinEnd;
        if to.send(frame).is_err() || ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_the_load_within_bounds() {
        assert_eq!(patience_of("0.10 0.2 0.3 1/100 5", 2), 1);
        assert_eq!(patience_of("7.9 0.2 0.3 1/100 5", 2), 4);
        assert_eq!(patience_of("900 0.2 0.3 1/100 5", 2), 10);
        assert_eq!(patience_of("", 2), 1);
    }

    #[test]
    fn several_guests_have_longer_to_end() {
        assert_eq!([1, 2, 8].map(|guests| stop_limit(guests).as_secs()), [15, 20, 50]);
    }

    #[test]
    fn evidence_is_the_end_and_made_readable() {
        let text: String = (0..40).map(|line| format!("line {line}\r\n\n")).collect();
        let log = in_memory(c"log", (text + "\u{1b}[31mred").as_bytes()).unwrap();
        let lines = last_lines(&log);
        assert_eq!(lines.lines().count(), 1 + EVIDENCE_LINES);
        assert!(lines.contains("line 39") && !lines.contains("line 25\n") && !lines.contains('\u{1b}'), "{lines}");
        assert_eq!(last_lines(&in_memory(c"empty", &[]).unwrap()), "");
    }
}
