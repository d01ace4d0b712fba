//! `plugstorm run`: any kernel on the terminal.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use plugstorm_machine::pci::{GoneReads, SlotEvent, SlotObserver};
use plugstorm_machine::{ConsoleSink, InstructionCounter, Machine, MachineConfig, StopCause};
use plugstorm_observe::splat::Detector;

use super::terminal::{Keys, RawTerminal};
use super::{Failure, RunArgs, absolute, from, show};
use crate::host::nested::{Batch, BatchReport, Job, forward};
use crate::host::{self, Chosen};
use crate::scenario::Cpu;
use crate::storm::machine::{loadable, machine_error};
use crate::verdict::{EXIT_CLEAN, EXIT_FOUND, EXIT_INTERRUPTED, EXIT_MACHINE, exit_code_of_job};
use crate::{kernels, signals};

/// Before what the user appends.
const COMMAND_LINE: &str = "console=ttyS0 earlyprintk=ttyS0,115200 panic=-1";
/// Empty, but there.
pub(super) const SLOTS: u8 = 8;
/// How often the end, signals and the keyboard are looked at.
pub(super) const LOOK: Duration = Duration::from_millis(20);
/// What is kept of typing that the guest does not take, in bytes.
const MOST_TYPED_BYTES: usize = 64 * 1024;

pub(super) fn main(args: &RunArgs) -> Result<u8, Failure> {
    let name = match (&args.from, &args.kernel) {
        (Some(snapshot), _) => return from::run(snapshot, args.host),
        (None, Some(name)) => name,
        // clap wants one of both.
        (None, None) => return Err(Failure::user(&"there is nothing to run: give --kernel or --from")),
    };
    let kernel = kernels::resolve(name, &mut show::progress).map_err(|error| Failure::user(&error))?;
    let boot = Boot::new(&kernel.image, args.initrd.as_deref(), &args.append, (args.cpus, args.cpu), args.memory)?;
    match host::choose(args.host).map_err(|error| Failure::machine(&error))? {
        Chosen::Kvm(_) => {
            let counts = args.instruction_counter;
            here(|watch| counted(MachineConfig { instruction_counter: counts, ..boot.config(Screen::new(watch)) }))
        }
        Chosen::Nested { why } => {
            tell_why(why);
            nested(args, &kernel.image)
        }
    }
}

/// The machine; where it has no instruction counters and should have, that is said.
fn counted(config: MachineConfig) -> Result<Machine, Failure> {
    let machine = Machine::new(config).map_err(|error| machine_error(&error))?;
    if let InstructionCounter::Lacking { capability } = machine.instruction_counter() {
        show::err(&format!("plugstorm: instructions are not counted: this host's KVM lacks {capability}\n"));
    }
    Ok(machine)
}

/// Why it is not this machine's KVM.
pub(super) fn tell_why(why: Option<String>) {
    if let Some(why) = why {
        show::err(&format!("running in a nested machine: {why}\n"));
    }
}

/// What is booted on a serial port.
pub(super) struct Boot {
    kernel: PathBuf,
    pub(super) initrd: Option<Vec<u8>>,
    pub(super) command_line: String,
    pub(super) cpus: u8,
    cpu: Cpu,
    pub(super) memory_bytes: u64,
}

impl Boot {
    /// Reads the initramfs. What a machine could not load is found here.
    pub(super) fn new(
        kernel: &Path,
        initrd: Option<&Path>,
        append: &str,
        (cpus, cpu): (u8, Cpu),
        memory_bytes: u64,
    ) -> Result<Self, Failure> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| {
                let path = path.display();
                Failure::user(&format!("cannot read the initramfs {path}: {error}; give a file to --initrd"))
            })
        };
        let initrd = initrd.map(read).transpose()?;
        let command_line = format!("{COMMAND_LINE} {append}").trim_end().to_owned();
        loadable(kernel, initrd.as_deref(), &command_line, cpus, memory_bytes)?;
        Ok(Self { kernel: kernel.to_path_buf(), initrd, command_line, cpus, cpu, memory_bytes })
    }

    pub(super) fn config(self, serial: impl ConsoleSink + 'static) -> MachineConfig {
        MachineConfig {
            kernel: self.kernel,
            initrd: self.initrd,
            command_line: self.command_line,
            cpus: self.cpus,
            memory_bytes: self.memory_bytes,
            root_ports: SLOTS,
            gone_reads: GoneReads::AllOnes,
            cpu_template: self.cpu.into(),
            serial: Box::new(serial),
            console: None,
            ports: Vec::new(),
            slot_observer: Arc::new(Nobody),
            instruction_counter: false,
        }
    }
}

/// Devices come and go in storms only.
#[derive(Debug)]
pub(super) struct Nobody;

impl SlotObserver for Nobody {
    fn slot_event(&self, _slot: u8, _event: SlotEvent) {}
}

/// What the guest writes goes to the terminal, and past the detector.
pub(super) struct Screen {
    watch: Arc<Mutex<Watch>>,
}

impl Screen {
    pub(super) fn new(watch: &Arc<Mutex<Watch>>) -> Self {
        Self { watch: Arc::clone(watch) }
    }
}

#[derive(Debug, Default)]
pub(super) struct Watch {
    detector: Detector,
    first: Option<String>,
}

impl ConsoleSink for Screen {
    fn write(&mut self, bytes: &[u8]) {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let Watch { detector, first } = &mut *watch;
        detector.push(bytes, |splat| {
            first.get_or_insert(splat.title);
        });
    }
}

/// The first report on the console, now that it has ended.
fn first_splat(watch: &Mutex<Watch>) -> Option<String> {
    let watch = std::mem::take(&mut *watch.lock().unwrap_or_else(PoisonError::into_inner));
    let mut first = watch.first;
    watch.detector.finish(|splat| {
        first.get_or_insert(splat.title);
    });
    // The line by which the detector knows a reboot is also the first line of every boot.
    first.filter(|title| !title.contains("unexpected kernel reboot"))
}

/// Runs a machine whose consoles are made with what is handed over, on the terminal.
pub(super) fn here(machine: impl FnOnce(&Arc<Mutex<Watch>>) -> Result<Machine, Failure>) -> Result<u8, Failure> {
    let watch = Arc::default();
    let mut machine = machine(&watch)?;
    let interrupt = interrupt(false)?;
    let terminal = RawTerminal::enter();
    let ending = machine.start().map_err(|error| machine_error(&error)).map(|()| attend(&machine, &interrupt));
    machine.stop();
    drop(terminal);
    Ok(told(ending?, first_splat(&watch)))
}

/// Set from here on when a signal wants us to end; with `second_ends`, another one ends us at once.
pub(super) fn interrupt(second_ends: bool) -> Result<Arc<AtomicBool>, Failure> {
    signals::interrupt(second_ends).map_err(|error| Failure::machine(&format!("signals cannot be caught: {error}")))
}

/// How it ended.
enum End {
    Cause(StopCause),
    Keys,
    Signal,
}

/// Passes typing on until it ends.
fn attend(machine: &Machine, interrupt: &AtomicBool) -> End {
    let mut keys = Keys::default();
    let mut typed: Vec<u8> = Vec::new();
    let mut open = true;
    loop {
        if let Some(cause) = machine.wait(if open { Duration::ZERO } else { LOOK }) {
            return End::Cause(cause);
        }
        if interrupt.load(Ordering::Relaxed) {
            return End::Signal;
        }
        if open {
            match read_keys() {
                Some(bytes) if keys.take(&bytes, &mut typed) => return End::Keys,
                Some(_) => {}
                None => open = false,
            }
        }
        typed.truncate(MOST_TYPED_BYTES);
        if !typed.is_empty() {
            let taken = machine.serial_input(&typed);
            typed.drain(..taken.min(typed.len()));
        }
    }
}

/// What was typed within a short while; nothing at the end of the input.
fn read_keys() -> Option<Vec<u8>> {
    let stdin = std::io::stdin();
    let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO);
    match poll(&mut fds, timeout) {
        Ok(0) | Err(_) => return Some(Vec::new()),
        Ok(_) => {}
    }
    let mut bytes = vec![0; 256];
    // Unbuffered: what the buffer of `Stdin` held back, poll would not see.
    let count = std::fs::File::from(stdin.as_fd().try_clone_to_owned().ok()?).read(&mut bytes).ok()?;
    bytes.truncate(count);
    (count > 0).then_some(bytes)
}

/// The exit code, with a sentence where there is something to say.
fn told(end: End, splat: Option<String>) -> u8 {
    let (words, code) = match end {
        End::Cause(StopCause::PowerOff) => ("the guest powered off".to_owned(), EXIT_CLEAN),
        End::Cause(cause @ StopCause::Reset(_)) => (cause.to_string(), EXIT_CLEAN),
        End::Cause(StopCause::TripleFault) => ("the guest ended with a triple fault".to_owned(), EXIT_FOUND),
        End::Cause(cause) => (cause.to_string(), EXIT_MACHINE),
        End::Keys => ("ended by Ctrl-A x".to_owned(), EXIT_CLEAN),
        End::Signal => ("ended by a signal".to_owned(), EXIT_INTERRUPTED),
    };
    match splat {
        Some(title) if code != EXIT_MACHINE && code != EXIT_INTERRUPTED => {
            show::err(&format!("\nplugstorm: {words}; its console reports: {title}\n"));
            EXIT_FOUND
        }
        _ => {
            show::err(&format!("\nplugstorm: {words}\n"));
            code
        }
    }
}

fn nested(args: &RunArgs, image: &Path) -> Result<u8, Failure> {
    let image = absolute(image)?;
    let mut argv: Vec<OsString> = ["run", "--host", "kvm", "--kernel"].map(OsString::from).to_vec();
    argv.push(image.clone().into_os_string());
    let directory = image.parent().unwrap_or(Path::new("/")).to_path_buf();
    let mut batch =
        Batch::new().stdin(true).memory_mib((args.memory >> 20).saturating_add(1024).max(2048)).input(image);
    if let Some(initrd) = &args.initrd {
        let initrd = absolute(initrd)?;
        argv.extend(["--initrd".into(), initrd.clone().into_os_string()]);
        batch = batch.input(initrd);
    }
    let memory = format!("{}K", args.memory >> 10);
    argv.extend(
        [
            format!("--append={}", args.append),
            format!("--cpus={}", args.cpus),
            format!("--cpu={}", args.cpu),
            format!("--memory={memory}"),
        ]
        .map(Into::into),
    );
    argv.extend(args.instruction_counter.then(|| "--instruction-counter".into()));
    on_terminal(&batch.job(Job { argv, directory, environment: Vec::new() }))
}

/// Runs a machine's only job, which reads our standard input.
pub(super) fn on_terminal(batch: &Batch) -> Result<u8, Failure> {
    // Raw from here on: keys belong to the guest, and Ctrl-A x is read inside.
    let terminal = RawTerminal::enter();
    let report = batch.run(&mut forward);
    drop(terminal);
    only_job(report?)
}

/// The exit code of a machine's only job.
pub(super) fn only_job(report: BatchReport) -> Result<u8, Failure> {
    match (report.jobs.first().and_then(|job| job.outcome()), report.failure) {
        (Some(outcome), _) => Ok(exit_code_of_job(outcome.exit_code)),
        (None, Some(failure)) => Err(failure.into()),
        (None, None) => Ok(EXIT_INTERRUPTED),
    }
}
