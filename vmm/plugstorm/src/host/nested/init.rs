//! PID 1 of the nested host: this same binary, when the marker is there.
//!
//! It mounts what programs expect, loads KVM and 9p, mounts the shared folders at their own paths, runs the jobs one
//! after another, and powers off. It is the only thing in there besides the jobs.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, sync};

use super::frame::{Frame, FrameReader, Kind, MAX_PAYLOAD_BYTES};
use super::input::Input;
use super::share::{Access, Mount, normal};
use super::{INSIDE, Job, OWN_FOLDER, PORT, SPECIFICATION, Specification};

/// How often a sign of life is sent.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// How long the port may take to appear.
const PORT_LIMIT: Duration = Duration::from_secs(30);
/// The nice value of this process and of the monitors it starts; a machine's vCPU threads put themselves back to 0
/// (vmm/machine/src/vcpu.rs). They share one emulated CPU.
const NICE: i32 = -10;
/// The largest a 9p message may be: whole kernel images are read through it.
const MESSAGE_BYTES: u32 = 512 * 1024;

/// Is this process PID 1 of a nested host?
#[must_use]
pub fn is_init() -> bool {
    getpid().as_raw() == 1 && Path::new("/").join(OWN_FOLDER).join(SPECIFICATION).exists()
}

/// Runs the jobs, and powers the machine off. Call this first of all in `main` if [`is_init`] says so.
pub fn init() -> ! {
    if let Err(reason) = serve() {
        // The console, which is all there is without the port.
        let _ = writeln!(io::stderr(), "plugstorm: {reason}");
    }
    sync();
    loop {
        // It does not return; if it did, PID 1 could only wait for the emulator to be killed.
        let _ = reboot(RebootMode::RB_POWER_OFF);
        thread::sleep(Duration::from_secs(1));
    }
}

fn serve() -> Result<(), String> {
    rustix::process::setpriority_process(None, NICE).map_err(|error| format!("cannot set the priority: {error}"))?;
    mount_kernel_file_systems()?;
    let path = Path::new("/").join(OWN_FOLDER).join(SPECIFICATION);
    let text = fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let specification: Specification =
        serde_json::from_slice(&text).map_err(|error| format!("{} is not one: {error}", path.display()))?;
    // The port may need a module of these, so what fails is told afterwards.
    let modules = load_modules(&Path::new("/").join(OWN_FOLDER).join("modules"));
    let port = Port::open()?;
    let result = modules.and_then(|()| run_jobs(&port, &specification));
    match &result {
        Ok(()) => port.send(&Frame::new(Kind::Done, 0, &[])),
        Err(reason) => port.send(&Frame::new(Kind::Refused, 0, reason.as_bytes())),
    }
    result
}

fn mount_kernel_file_systems() -> Result<(), String> {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp")] {
        fs::create_dir_all(target).map_err(|error| format!("cannot make {target}: {error}"))?;
        mount(Some(kind), target, Some(kind), MsFlags::empty(), None::<&str>)
            .map_err(|error| format!("cannot mount {kind} on {target}: {error}"))?;
    }
    Ok(())
}

/// Loads the modules of a folder in the order of their names.
fn load_modules(folder: &Path) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let loaded = File::open(&file).and_then(|module| {
            finit_module(&module, &CString::default(), ModuleInitFlags::empty()).map_err(io::Error::from)
        });
        loaded.map_err(|error| format!("cannot load {}: {error}", file.display()))?;
    }
    Ok(())
}

fn mount_share(share: &Mount) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot mount {}: {error}", share.target.display());
    fs::create_dir_all(&share.target).map_err(|error| failed(&error))?;
    let flags = if share.access == Access::Read { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    // No cache: what a job writes is on the real disk when its write returns.
    let options = format!("trans=virtio,version=9p2000.L,cache=none,msize={MESSAGE_BYTES}");
    mount(Some(share.tag.as_str()), &share.target, Some("9p"), flags, Some(options.as_str()))
        .map_err(|error| failed(&error))
}

/// The way to the other side. Frames of several threads do not mix.
#[derive(Debug, Clone)]
struct Port {
    file: Arc<Mutex<File>>,
}

impl Port {
    fn open() -> Result<Self, String> {
        let begun = Instant::now();
        loop {
            if let Some(path) = find_port() {
                let file = OpenOptions::new().read(true).write(true).open(&path);
                let file = file.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
                return Ok(Self { file: Arc::new(Mutex::new(file)) });
            }
            if begun.elapsed() > PORT_LIMIT {
                return Err(format!("there is no virtio-serial port {PORT}"));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn send(&self, frame: &Frame) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody listens any more: the emulator is about to be ended.
        let _ = file.write_all(&frame.encode());
    }

    fn reader(&self) -> io::Result<File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).try_clone()
    }
}

/// The node of the port with our name (drivers/char/virtio_console.c, show_port_name).
fn find_port() -> Option<PathBuf> {
    fs::read_dir("/sys/class/virtio-ports").ok()?.flatten().find_map(|entry| {
        let name = fs::read_to_string(entry.path().join("name")).ok()?;
        let node = Path::new("/dev").join(entry.file_name());
        (name.trim_end() == PORT && node.exists()).then_some(node)
    })
}

/// What the other side can do to the running job.
#[derive(Debug, Default)]
struct Control {
    running: Mutex<Running>,
    input: Mutex<Input>,
}

#[derive(Debug, Default)]
struct Running {
    process: Option<i32>,
    /// No more jobs are to be begun.
    stopped: bool,
}

impl Control {
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn input(&self) -> MutexGuard<'_, Input> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job runs. It ends at once if the signal came while it was being started.
    fn began(&self, child: &mut Child) {
        let mut running = self.running();
        running.process = Some(child.id().cast_signed());
        if running.stopped {
            let _ = child.kill();
        }
    }

    fn ended(&self) {
        self.running().process = None;
    }

    fn signal(&self, signal: Signal) {
        let mut running = self.running();
        running.stopped = true;
        if let Some(process) = running.process {
            let _ = kill(Pid::from_raw(process), signal);
        }
    }
}

fn run_jobs(port: &Port, specification: &Specification) -> Result<(), String> {
    for share in &specification.mounts {
        mount_share(share)?;
    }
    let control = Arc::new(Control::default());
    // This write waits for the other side, so what is read after it comes from there.
    port.send(&Frame::new(Kind::Ready, 0, &[]));
    let reader = port.reader().map_err(|error| format!("cannot read the port: {error}"))?;
    let (heard, alive) = (Arc::clone(&control), port.clone());
    thread::spawn(move || listen(reader, &heard));
    thread::spawn(move || {
        loop {
            thread::sleep(ALIVE_EVERY);
            alive.send(&Frame::new(Kind::Alive, 0, &[]));
        }
    });
    run_all(port, specification, &control, Path::new("/init"));
    Ok(())
}

fn run_all(port: &Port, specification: &Specification, control: &Control, program: &Path) {
    for (number, job) in (0u32..).zip(&specification.jobs) {
        if control.running().stopped {
            return;
        }
        port.send(&Frame::new(Kind::Began, number, &[]));
        let exit_code = match run_job(port, number, job, specification, control, program) {
            Ok(status) => exit_code(status),
            Err(error) => {
                let message = format!("plugstorm: cannot start the job: {error}\n");
                port.send(&Frame::new(Kind::Stderr, number, message.as_bytes()));
                3
            }
        };
        port.send(&Frame::with_number(Kind::Ended, number, exit_code));
    }
}

fn run_job(
    port: &Port,
    number: u32,
    job: &Job,
    specification: &Specification,
    control: &Control,
    program: &Path,
) -> io::Result<ExitStatus> {
    let directory = normal(&job.directory);
    // It may be one that is not shared: then it is empty, and paths relative to it lead where they did.
    let _ = fs::create_dir_all(&directory);
    let mut child = Command::new(program)
        .args(&job.argv)
        .env_clear()
        .envs([("PATH", "/"), ("HOME", "/tmp"), (INSIDE, "1")])
        .envs(job.environment.iter().map(|(name, value)| (name, value)))
        .envs(specification.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&directory)
        .stdin(if specification.stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if specification.stdin {
        control.input().begin(child.stdin.take());
    }
    control.began(&mut child);
    let status = pump(port, number, &mut child);
    control.ended();
    if specification.stdin {
        control.input().leave();
    }
    status
}

/// Sends on what the job writes until it has ended and all is sent.
fn pump(port: &Port, number: u32, child: &mut Child) -> io::Result<ExitStatus> {
    thread::scope(|scope| {
        if let Some(stdout) = child.stdout.take() {
            scope.spawn(move || send_all(port, Kind::Stdout, number, stdout));
        }
        if let Some(stderr) = child.stderr.take() {
            scope.spawn(move || send_all(port, Kind::Stderr, number, stderr));
        }
        child.wait()
    })
}

fn send_all(port: &Port, kind: Kind, number: u32, mut from: impl Read) {
    let mut buffer = vec![0; MAX_PAYLOAD_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => port.send(&Frame::new(kind, number, buffer.get(..length).unwrap_or_default())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Does what the other side says, until it goes: then nobody wants results any more, and the machine ends.
fn listen(mut port: File, control: &Control) {
    let mut frames = FrameReader::default();
    let mut buffer = vec![0; MAX_PAYLOAD_BYTES];
    loop {
        let length = match port.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        if frames.push(buffer.get(..length).unwrap_or_default(), |frame| obey(&frame, control)).is_err() {
            break;
        }
    }
    sync();
    let _ = reboot(RebootMode::RB_POWER_OFF);
}

fn obey(frame: &Frame, control: &Control) {
    match frame.kind {
        // A job that reads nothing blocks the signals behind its input too; the other side's time limit ends that.
        Kind::Stdin => control.input().take(&frame.payload),
        Kind::StdinEnd => control.input().end(),
        Kind::Signal => {
            let signal = frame.number().and_then(|number| Signal::try_from(number).ok()).unwrap_or(Signal::SIGTERM);
            control.signal(signal);
        }
        _ => {}
    }
}

/// As a shell gives it: 128 and the signal's number.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_not_pid_1_of_a_nested_host() {
        assert!(!is_init());
    }

    #[test]
    fn exit_codes_are_a_shells() {
        assert_eq!(exit_code(ExitStatus::from_raw(2 << 8)), 2);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }

    #[test]
    fn a_signal_without_a_job_only_stops_those_to_come() {
        let control = Control::default();
        obey(&Frame::with_number(Kind::Signal, 0, 2), &control);
        assert!(control.running().stopped);
    }

    /// What a batch of shell scripts tells the other side: kind, job, payload.
    fn told(scripts: &[&str], control: &Control) -> Vec<(Kind, u32, String)> {
        let (folder, file) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let jobs = scripts.iter().map(|script| Job {
            argv: vec!["-c".into(), format!("PATH=/bin:/usr/bin; {script}").into()],
            directory: folder.path().into(),
            environment: Vec::new(),
        });
        let (mounts, environment) = (Vec::new(), Vec::new());
        let specification = Specification { jobs: jobs.collect(), mounts, environment, stdin: false };
        let port = Port { file: Arc::new(Mutex::new(file.reopen().unwrap())) };
        run_all(&port, &specification, control, Path::new("/bin/sh"));
        let mut frames = Vec::new();
        FrameReader::default().push(&fs::read(file.path()).unwrap(), |frame| frames.push(frame)).unwrap();
        let told = frames.iter().map(|frame| match frame.kind {
            Kind::Ended => (frame.kind, frame.job, frame.number().unwrap().to_string()),
            kind => (kind, frame.job, frame.text()),
        });
        told.collect()
    }

    #[test]
    fn one_job_after_another() {
        let told = told(&["echo one", "exit 4"], &Control::default());
        let expected = [
            (Kind::Began, 0, ""),
            (Kind::Stdout, 0, "one\n"),
            (Kind::Ended, 0, "0"),
            (Kind::Began, 1, ""),
            (Kind::Ended, 1, "4"),
        ];
        assert_eq!(told, expected.map(|(kind, job, text)| (kind, job, text.to_owned())));
    }

    #[test]
    fn a_signal_ends_the_running_job_and_no_more_begin() {
        let control = Control::default();
        let told = thread::scope(|scope| {
            let running = scope.spawn(|| told(&["exec sleep 60", "exit 0"], &control));
            while control.running().process.is_none() {
                thread::sleep(Duration::from_millis(5));
            }
            obey(&Frame::with_number(Kind::Signal, 0, 15), &control);
            running.join().unwrap()
        });
        let ended: Vec<_> = told.iter().filter(|(kind, ..)| *kind == Kind::Ended).map(|(_, job, _)| *job).collect();
        assert_eq!(ended, [0]);
        assert!(control.running().process.is_none());
    }
}
