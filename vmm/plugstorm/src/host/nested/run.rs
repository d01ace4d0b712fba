//! Our side of a nested machine: starts it, listens, passes signals and input on, and ends it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::getpid;
use signal_hook::consts::{SIGINT, SIGTERM};
use tempfile::TempDir;

use super::child::BoundChild;
use super::emulator::{self, Machine};
use super::frame::{Frame, FrameReader, Kind};
use super::share::{self, Access, Share};
use super::{Batch, BatchReport, JobOutcome, NestedError, OWN_FOLDER, Output, SPECIFICATION, Specification, Stream};
use crate::initramfs::{self, ExtraFile};
use crate::{cache, kernels};

/// How long the outer kernel may take to its first job on an idle machine; measured: 6 to 10 s on two cores.
const BOOT_LIMIT: Duration = Duration::from_secs(90);
/// How long the nested host may say nothing: it sends a sign of life every 5 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(120);
/// How long jobs have to end after a signal.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How long the machine has to power off after its last job.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(20);
/// How often signals and limits are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How much of its console goes into an error.
const EVIDENCE_LINES: usize = 15;

pub(super) fn run(batch: &Batch, sink: &mut dyn FnMut(Output<'_>)) -> Result<BatchReport, NestedError> {
    let signals = Signals::register()?;
    let mut machine = Running::start(batch)?;
    machine.listen(batch, &signals, sink)
}

/// SIGINT and SIGTERM, taken while a batch runs.
struct Signals {
    interrupt: Arc<AtomicBool>,
    terminate: Arc<AtomicBool>,
    registrations: Vec<signal_hook::SigId>,
}

impl Signals {
    fn register() -> Result<Self, NestedError> {
        let failed = |source| NestedError::System { action: "taking signals", source };
        let (interrupt, terminate) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let registrations = vec![
            signal_hook::flag::register(SIGINT, Arc::clone(&interrupt)).map_err(failed)?,
            signal_hook::flag::register(SIGTERM, Arc::clone(&terminate)).map_err(failed)?,
        ];
        Ok(Self { interrupt, terminate, registrations })
    }

    /// The signal that has come since the last call.
    fn take(&self) -> Option<i32> {
        if self.terminate.swap(false, Ordering::Relaxed) {
            Some(SIGTERM)
        } else {
            self.interrupt.swap(false, Ordering::Relaxed).then_some(SIGINT)
        }
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
    scratch: TempDir,
    /// Until QEMU has read it.
    initramfs: Option<File>,
    begun: Instant,
    patience: u32,
}

impl Running {
    fn start(batch: &Batch) -> Result<Self, NestedError> {
        let emulator = emulator::find().ok_or(NestedError::NoEmulator)?;
        let kernel = kernels::host_kernel()?;
        let failed = |action| move |source| NestedError::System { action, source };
        let mut shares = batch.shares.clone();
        shares.push(Share::new(cache::root(), Access::Read));
        let mounts = share::mounts(&shares)?;

        let own = std::env::current_exe().map_err(failed("finding this program"))?;
        let agent = initramfs::agent()
            .and_then(|path| fs::read(&path).map_err(|source| initramfs::InitramfsError::Read { path, source }));
        let inside = format!("/{OWN_FOLDER}/{}", initramfs::AGENT);
        let specification = Specification {
            jobs: batch.jobs.clone(),
            mounts: mounts.clone(),
            environment: vec![
                ("PLUGSTORM_CACHE".into(), cache::root().into_os_string()),
                ("PLUGSTORM_AGENT".into(), OsString::from(&inside)),
            ],
            stdin: batch.stdin,
        };
        let specification =
            serde_json::to_vec(&specification).map_err(|error| failed("writing its specification")(error.into()))?;
        let mut extra =
            vec![ExtraFile { path: format!("{OWN_FOLDER}/{SPECIFICATION}"), mode: 0o600, content: specification }];
        // Jobs that need no agent (`run`, `doctor`) work without; the others say so themselves.
        if let Ok(content) = agent {
            extra.push(ExtraFile { path: inside.trim_start_matches('/').into(), mode: 0o755, content });
        }
        let archive = initramfs::build(&own, &kernel.modules, &extra)?;
        let scratch = tempfile::Builder::new()
            .prefix("plugstorm-nested-")
            .tempdir()
            .map_err(failed("making a temporary folder"))?;
        let path = |name: &str| scratch.path().join(name);
        let initramfs = in_memory(&archive).map_err(failed("keeping its initramfs in memory"))?;
        let errors = File::create(path("qemu.log")).map_err(failed("writing its log"))?;

        let mut command = Command::new(emulator);
        command
            .args(emulator::arguments(&Machine {
                kernel: &kernel.image,
                initramfs: &PathBuf::from(format!("/proc/{}/fd/{}", getpid(), initramfs.as_raw_fd())),
                console: &path("console.log"),
                memory_mib: batch.memory_mib,
                cpus: batch.cpus,
                mounts: &mounts,
            }))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
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
        Ok(Self { child, frames, to_machine, scratch, initramfs, begun, patience: patience() })
    }

    fn listen(
        &mut self,
        batch: &Batch,
        signals: &Signals,
        sink: &mut dyn FnMut(Output<'_>),
    ) -> Result<BatchReport, NestedError> {
        let mut outcomes = BTreeMap::new();
        let mut boot = None;
        let mut heard = Instant::now();
        let mut stop_at: Option<Instant> = None;
        let stop_input = Arc::new(AtomicBool::new(false));
        let _stop = StopOnDrop(Arc::clone(&stop_input));
        loop {
            if let Some(signal) = signals.take() {
                if stop_at.is_some() || boot.is_none() {
                    return Err(NestedError::Stopped);
                }
                stop_at = Some(Instant::now() + STOP_LIMIT);
                // Full only if the machine takes nothing any more; then the time limit ends it.
                let _ = self.to_machine.try_send(Frame::with_number(Kind::Signal, 0, signal));
            }
            if stop_at.is_some_and(|at| Instant::now() >= at) {
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
                Kind::Stdout => sink(Output { job, stream: Stream::Stdout, bytes: &frame.payload }),
                Kind::Stderr => sink(Output { job, stream: Stream::Stderr, bytes: &frame.payload }),
                Kind::Ended => {
                    outcomes.insert(job, JobOutcome { exit_code: frame.number().unwrap_or(3) });
                }
                Kind::Refused => return Err(NestedError::Refused(frame.text())),
                Kind::Done => break,
                _ => {}
            }
        }
        // All results are on disk: a machine that does not power off is ended, and that is all.
        let _ = self.child.wait(POWER_OFF_LIMIT);
        Ok(BatchReport {
            outcomes: outcomes.into_values().collect(),
            boot: boot.unwrap_or_default(),
            total: self.begun.elapsed(),
        })
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
        ["qemu.log", "console.log"].iter().map(|name| last_lines(&self.scratch.path().join(name))).collect()
    }
}

/// A file without a name: nothing is left of it when we are killed.
fn in_memory(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"plugstorm-initramfs", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)?;
    Ok(file)
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

fn last_lines(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
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
    fn evidence_is_the_end_and_made_readable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let text: String = (0..40).map(|line| format!("line {line}\r\n\n")).collect();
        fs::write(&path, text + "\u{1b}[31mred").unwrap();
        let lines = last_lines(&path);
        assert_eq!(lines.lines().count(), 1 + EVIDENCE_LINES);
        assert!(lines.contains("line 39") && !lines.contains("line 25\n") && !lines.contains('\u{1b}'), "{lines}");
        assert_eq!(last_lines(Path::new("/no/such/log")), "");
    }
}
