//! The real guest: a machine of `plugstorm-machine`, its agent's port and its gpio devices.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use plugstorm_machine::cpu::CpuTemplate;
use plugstorm_machine::pci::{self, SlotObserver};
use plugstorm_machine::{
    GpioConfig, InstructionCounter, Machine, MachineConfig, MachineError, MachineState, MemoryImage, PortConfig,
    RestoreConfig, StopCause, Subsystem, acpi, boot, check_size, memory,
};
use plugstorm_wire::{FromGuest, Line, LineReader, PORT_NAME, PciAddress, ToGuest, encode};

use super::fork::{Keeper, Saved};
use super::guest::{EndCause, Guest, GuestError, GuestEvent, Sight, Stamped, Started, nanoseconds};
use super::inbox::{Inbox, Raw, Sink};
use super::look::{self, Known};
use super::signal::Toggler;
use super::timeline::{Pair, Timeline};
use crate::host;
use crate::results::Holdings;
use crate::scenario::{self, Device, Driver, Scenario};

/// The kernel's command line, before what the scenario adds. The early console shows what goes wrong before virtio is
/// there; a panic shows all CPUs (bit 6 of `panic_print`) and ends the guest at once; an NMI makes one; the loader's entropy
/// does for the guest, which would otherwise wait for some. Nothing in it is measured, so that guests of all hosts may go on
/// from one snapshot: the limits of the kernel's watchdogs are those for the slowest host, until the guest begins.
pub const COMMAND_LINE: &str = "console=hvc0 earlyprintk=ttyS0,115200 quiet panic=-1 panic_print=0x40 unknown_nmi_panic random.trust_cpu=on \
     rcupdate.rcu_cpu_stall_timeout=100 watchdog_thresh=60 sysctl.kernel.hung_task_timeout_secs=600";

/// PCI subsystem vendor that only our driver's id table names ("PS").
const OUR_VENDOR: u16 = 0x5053;
/// What a gpio device of anybody's shows (virtio 1.2, 4.1.2.1).
const ANY_GPIO: Subsystem = Subsystem { vendor: 0x1af4, device: 0x1129 };
/// So that guests of different scenarios are alike.
const LEAST_ROOT_PORTS: u8 = 8;
/// When bytes that the agent's port did not take are offered again.
const OFFER_AGAIN: Duration = Duration::from_millis(20);
/// Readings of both clocks of which the best one counts.
const PAIR_TRIES: usize = 3;
/// How often a guest is let go on that was paused while its agent was in the middle of a line, and for how long.
const PAUSES: usize = 50;
const BETWEEN_PAUSES: Duration = Duration::from_millis(5);
/// How a note begins that says why guests do not start from a snapshot.
pub(crate) const BOOTED: &str = "guests are booted, since ";
/// How a note begins that says why a snapshot is not in the cache.
pub(crate) const NOT_KEPT: &str = "the snapshot is not kept for other runs: ";
/// What waits for an agent that does not read, in bytes.
const MOST_OUTGOING_BYTES: usize = 1 << 20;

/// What a guest is made of.
#[derive(Debug, Clone)]
pub struct GuestParts {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs, with the agent as /init.
    pub initrd: Arc<Vec<u8>>,
}

/// A guest on this host's KVM.
#[derive(Debug)]
pub struct MachineGuest {
    parts: GuestParts,
    cpu: scenario::Cpu,
    cpus: u8,
    memory_bytes: u64,
    append: String,
    gone_reads: pci::GoneReads,
    devices: Vec<Device>,
    origin: Instant,
    running: Option<Running>,
    tsc_khz: u32,
    keeper: Option<Box<dyn Keeper>>,
    instruction_counter: bool,
    /// Sentences for the user.
    notes: Vec<String>,
}

#[derive(Debug)]
struct Running {
    machine: Machine,
    inbox: Arc<Inbox>,
    reader: LineReader,
    /// Read from the port and not yet taken.
    heard: VecDeque<Stamped>,
    outgoing: VecDeque<u8>,
    signals: BTreeMap<usize, Toggler>,
    timeline: Timeline,
    end_told: bool,
    /// What a look from outside has found of its kernel.
    known: Option<Known>,
}

impl MachineGuest {
    /// A guest for a scenario. Nothing runs yet; the storm's clock starts now. With a `keeper`, guests start from its snapshot,
    /// which the first of them is made into if there is none; without one, each is booted.
    #[must_use]
    pub fn new(scenario: &Scenario, parts: GuestParts, keeper: Option<Box<dyn Keeper>>) -> Self {
        Self {
            parts,
            cpu: scenario.guest.cpu,
            cpus: scenario.guest.cpus,
            memory_bytes: scenario.guest.memory_bytes,
            append: scenario.guest.append.clone(),
            gone_reads: match scenario.guest.gone_reads {
                scenario::GoneReads::AllOnes => pci::GoneReads::AllOnes,
                scenario::GoneReads::Zeroes => pci::GoneReads::Zeroes,
            },
            devices: scenario.devices.clone(),
            origin: Instant::now(),
            running: None,
            tsc_khz: 0,
            keeper,
            instruction_counter: false,
            notes: Vec::new(),
        }
    }

    /// Gives its vCPUs instruction counters (`plugstorm_machine::instructions`), or a note where this host's KVM cannot. Each
    /// guest is booted then, whatever keeper there is: machines with counters are not saved, so it cannot migrate either.
    #[must_use]
    pub fn with_instruction_counter(mut self) -> Self {
        self.keeper = None;
        self.instruction_counter = true;
        self
    }

    fn running(&self) -> Result<&Running, GuestError> {
        self.running.as_ref().ok_or_else(|| GuestError::Machine("the guest does not run".into()))
    }

    fn slot(device: usize) -> u8 {
        u8::try_from(device).unwrap_or(u8::MAX)
    }

    /// Puts a machine together for a boot.
    fn booted(&self, inbox: &Arc<Inbox>) -> Result<Machine, MachineError> {
        Machine::new(MachineConfig {
            kernel: self.parts.kernel.clone(),
            initrd: Some(self.parts.initrd.as_ref().clone()),
            command_line: command_line(&self.append),
            cpus: self.cpus,
            memory_bytes: self.memory_bytes,
            root_ports: root_ports(self.devices.len()),
            gone_reads: self.gone_reads,
            cpu_template: self.cpu.into(),
            serial: Sink::console(inbox),
            console: Some(Sink::console(inbox)),
            ports: vec![PortConfig { name: PORT_NAME.into(), sink: Sink::agent(inbox) }],
            slot_observer: Arc::clone(inbox) as Arc<dyn SlotObserver>,
            instruction_counter: self.instruction_counter,
        })
    }

    /// Puts a machine together that goes on where a saved one was.
    fn restored(&self, state: &MachineState, image: &MemoryImage, inbox: &Arc<Inbox>) -> Result<Machine, GuestError> {
        let config = RestoreConfig {
            serial: Sink::console(inbox),
            console: Some(Sink::console(inbox)),
            ports: vec![PortConfig { name: PORT_NAME.into(), sink: Sink::agent(inbox) }],
            gone_reads: self.gone_reads,
            slot_observer: Arc::clone(inbox) as Arc<dyn SlotObserver>,
        };
        let machine = Machine::restore(state, image, config).map_err(|error| machine_error(&error))?;
        if !machine.clock_continues() {
            let sentence = "this KVM keeps time-stamp counters of its own, and a restored guest would see time jump; boot with \
                            --cold";
            return Err(GuestError::Machine(sentence.into()));
        }
        Ok(machine)
    }

    /// One moment on both clocks: the narrowest of a few tries, since this thread may be interrupted between two readings.
    fn pair(&self, machine: &Machine) -> Pair {
        let read = || {
            let before = self.now_ns();
            let tsc = machine.guest_tsc_now();
            let width = self.now_ns().saturating_sub(before);
            (width, Pair { tsc, ns: before.saturating_add(width / 2) })
        };
        (0..PAIR_TRIES).map(|_| read()).min_by_key(|(width, _)| *width).map_or_else(|| read().1, |(_, pair)| pair)
    }

    /// Goes on with a paused guest in another machine.
    fn move_over(&self, running: &mut Running) -> Result<(), GuestError> {
        // After the pause and before the save: the last reading that the guest can have made.
        let last = self.pair(&running.machine);
        let file = memfd().map_err(|error| GuestError::Machine(format!("there is no memory for it: {error}")))?;
        // Togglers hold the devices that are about to be replaced; their lines keep the levels they have.
        running.signals.clear();
        let (state, image) = running.machine.save(Arc::new(file)).map_err(|error| machine_error(&error))?;
        let machine = self.restored(&state, &image, &running.inbox)?;
        running.machine.stop();
        running.machine = machine;
        let woken = Arc::clone(&running.inbox);
        running.machine.on_stop(move || woken.wake());
        running.timeline.interrupt(last);
        for (device, spec) in self.devices.iter().enumerate() {
            if let (Some(signal), Some(handle)) = (spec.signal, running.machine.gpio(Self::slot(device))) {
                running.signals.insert(device, Toggler::start(handle, signal)?);
            }
        }
        running.machine.start().map_err(|error| machine_error(&error))
    }

    /// The keeper's snapshot. What speaks against it is a note, and then the guest is booted.
    fn saved(&mut self) -> Option<Arc<Saved>> {
        match self.keeper.as_mut()?.find() {
            Ok(saved) => saved,
            Err(sentence) => {
                self.notes.push(sentence);
                None
            }
        }
    }

    /// A machine from the snapshot, if there is one that can be had.
    fn fork(&mut self, inbox: &Arc<Inbox>) -> Option<(Machine, Arc<Saved>)> {
        let saved = self.saved()?;
        match self.restored(&saved.state, &saved.image, inbox) {
            Ok(machine) => {
                if let Some(working_set) = saved.working_set.get() {
                    machine.prefault(working_set);
                }
                Some((machine, saved))
            }
            Err(error) => {
                self.distrust(&error.to_string());
                None
            }
        }
    }

    fn run(&mut self, mut machine: Machine, inbox: Arc<Inbox>) -> Result<(), GuestError> {
        let woken = Arc::clone(&inbox);
        machine.on_stop(move || woken.wake());
        self.tsc_khz = machine.tsc_khz();
        let timeline = Timeline::new(machine.guest_tsc_now(), self.tsc_khz);
        machine.start().map_err(|error| machine_error(&error))?;
        self.running = Some(Running {
            machine,
            inbox,
            reader: LineReader::new(),
            heard: VecDeque::new(),
            outgoing: VecDeque::new(),
            signals: BTreeMap::new(),
            timeline,
            end_told: false,
            known: None,
        });
        Ok(())
    }
}

/// The whole command line of a guest whose scenario adds this.
#[must_use]
pub fn command_line(append: &str) -> String {
    format!("{COMMAND_LINE} {append}").trim_end().to_owned()
}

/// Every guest has these many slots at least, whether its scenario fills them or not.
pub(crate) fn root_ports(devices: usize) -> u8 {
    MachineGuest::slot(devices).max(LEAST_ROOT_PORTS)
}

impl From<scenario::Cpu> for CpuTemplate {
    fn from(cpu: scenario::Cpu) -> Self {
        match cpu {
            scenario::Cpu::Plain => Self::Plain,
            scenario::Cpu::Host => Self::Host,
        }
    }
}

/// Whether a machine could load these: what is the user's to mend is found without KVM, and before any nested machine.
///
/// # Errors
/// [`GuestError::User`] with the way out.
pub fn loadable(
    kernel: &std::path::Path,
    initrd: Option<&[u8]>,
    command_line: &str,
    cpus: u8,
    memory_bytes: u64,
) -> Result<(), GuestError> {
    let user = |error: MachineError| GuestError::User(error.to_string());
    check_size(cpus, memory_bytes).map_err(user)?;
    // The mapping below would be granted all the same, and whoever writes to it be killed one day.
    let meminfo = std::fs::read_to_string(host::memory::MEMINFO).unwrap_or_default();
    if let Some(total_mib) = host::memory::total_mib(&meminfo).filter(|total| memory_bytes >> 20 >= *total) {
        return Err(GuestError::User(format!(
            "a guest with {} MiB of memory does not fit: this machine has {total_mib} MiB; mend --memory or `memory` of the \
             scenario",
            memory_bytes >> 20
        )));
    }
    let mapped = memory::map(memory_bytes)
        .map_err(|error| user(MachineError::MemoryMap { bytes: memory_bytes, reason: error.to_string() }))?;
    let rsdp = acpi::write(&mapped, cpus).map_err(|error| user(error.into()))?;
    boot::load(&mapped, kernel, initrd, command_line, rsdp).map(|_| ()).map_err(|error| user(error.into()))
}

/// A file without a name: nothing is left of it when we are killed.
fn memfd() -> nix::Result<File> {
    memfd_create(c"plugstorm-migration", MFdFlags::MFD_CLOEXEC).map(File::from)
}

/// Of two sorts: those that the user can mend, and those of the host.
pub(crate) fn machine_error(error: &MachineError) -> GuestError {
    match error {
        MachineError::Boot(_) | MachineError::Cpus { .. } | MachineError::MemorySize { .. } => {
            GuestError::User(error.to_string())
        }
        _ => GuestError::Machine(error.to_string()),
    }
}

impl Guest for MachineGuest {
    fn prepare(&mut self) {
        drop(self.saved());
    }

    fn boot(&mut self) -> Result<Started, GuestError> {
        self.stop();
        let inbox = Arc::new(Inbox::new(self.origin));
        if let Some((machine, saved)) = self.fork(&inbox) {
            self.run(machine, inbox)?;
            return Ok(Started::Forked { snapshot: saved.name.clone(), introduction: saved.introduction.clone() });
        }
        let machine = self.booted(&inbox).map_err(|error| machine_error(&error))?;
        if let InstructionCounter::Lacking { capability } = machine.instruction_counter() {
            self.notes.push(format!("instructions are not counted: this host's KVM lacks {capability}"));
        }
        self.run(machine, inbox)?;
        Ok(Started::Booted)
    }

    fn is_to_be_kept(&self) -> bool {
        self.keeper.is_some()
    }

    fn hold(&mut self) -> Result<(), GuestError> {
        match self.running.as_mut().map(Running::pause_between_lines) {
            // That it has ended is an event that comes.
            None | Some(Ok(()) | Err(MachineError::Ended(_))) => Ok(()),
            Some(Err(error)) => Err(machine_error(&error)),
        }
    }

    fn keep(&mut self, introduction: Vec<FromGuest>, boot_ns: u64) -> Result<bool, GuestError> {
        let (Some(keeper), Some(running)) = (self.keeper.as_mut(), self.running.as_mut()) else { return Ok(false) };
        let is_silent = running.reader.is_between_lines() && running.heard.is_empty();
        let silent = if is_silent { Ok(()) } else { Err("its agent never stops talking".to_owned()) };
        let kept = silent.and_then(|()| keeper.file()).and_then(|memory| {
            let (state, image) = running.machine.save(memory).map_err(|error| error.to_string())?;
            let saved = Saved { name: String::new(), state, image, introduction, working_set: OnceLock::new() };
            keeper.keep(saved, boot_ns)
        });
        if let Err(sentence) = kept {
            self.notes.push(format!("{BOOTED}no snapshot could be made: {sentence}"));
            self.keeper = None;
            running.machine.start().map_err(|error| machine_error(&error))?;
            return Ok(false);
        }
        self.stop();
        Ok(true)
    }

    fn settle(&mut self) {
        if let (Some(keeper), Some(running)) = (self.keeper.as_mut(), self.running.as_ref()) {
            keeper.settle(&mut || running.machine.working_set());
        }
    }

    fn distrust(&mut self, reason: &str) {
        if let Some(mut keeper) = self.keeper.take() {
            self.notes.push(format!("{BOOTED}the snapshot cannot be used: {reason}"));
            keeper.discard();
        }
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn migrate(&mut self) -> Result<bool, GuestError> {
        let Some(mut running) = self.running.take() else {
            return Err(GuestError::Machine("the guest does not run".into()));
        };
        let migrated = match running.machine.pause() {
            Ok(()) => self.move_over(&mut running).map(|()| true),
            // That it has ended is an event that comes.
            Err(MachineError::Ended(_)) => Ok(false),
            Err(error) => Err(machine_error(&error)),
        };
        // Also where that failed: what it has said until then is still to be heard.
        self.running = Some(running);
        migrated.map_err(|error| match error {
            GuestError::User(reason) | GuestError::Guest(reason) | GuestError::Machine(reason) => {
                GuestError::Machine(format!("the guest cannot be migrated: {reason}"))
            }
        })
    }

    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            // Signals first: a toggler must not wait for a lock that a vCPU is stopped with.
            running.signals.clear();
            running.machine.stop();
        }
    }

    fn publish(&mut self) {
        if let Some(Err(sentence)) = self.keeper.as_mut().map(|keeper| keeper.publish()) {
            self.notes.push(format!("{NOT_KEPT}{sentence}"));
        }
    }

    fn holdings(&self) -> Option<Holdings> {
        host::holdings::holdings()
    }

    fn now_ns(&self) -> u64 {
        nanoseconds(self.origin.elapsed())
    }

    fn port(&self, device: usize) -> PciAddress {
        // The root ports are the first functions of bus 0 behind the host bridge; the machine itself knows best.
        let address = self.running.as_ref().and_then(|running| running.machine.slot_address(Self::slot(device)).ok());
        PciAddress(address.unwrap_or_else(|| format!("0000:00:{:02x}.0", device.saturating_add(1))))
    }

    fn plug(&mut self, device: usize) -> Result<(), GuestError> {
        let Some(spec) = self.devices.get(device) else {
            return Err(GuestError::Machine(format!("there is no device {device}")));
        };
        let subsystem = match spec.driver {
            Driver::GpioVirtio => ANY_GPIO,
            Driver::Plugstorm(design) => Subsystem { vendor: OUR_VENDOR, device: design.subsystem_id() },
            Driver::Other { vendor, subsystem } => Subsystem { vendor, device: subsystem },
        };
        let config = GpioConfig { lines: spec.lines, names: None, irq: true };
        let signal = spec.signal;
        let running = self.running.as_mut().ok_or_else(|| GuestError::Machine("the guest does not run".into()))?;
        let handle =
            running.machine.plug_gpio(Self::slot(device), &config, subsystem).map_err(|error| machine_error(&error))?;
        if let Some(signal) = signal {
            running.signals.insert(device, Toggler::start(handle, signal)?);
        }
        Ok(())
    }

    fn surprise_remove(&mut self, device: usize) -> Result<(), GuestError> {
        let running = self.running.as_mut().ok_or_else(|| GuestError::Machine("the guest does not run".into()))?;
        let toggler = running.signals.remove(&device);
        if let Some(toggler) = &toggler {
            toggler.tell_to_stop();
        }
        let removed = running.machine.surprise_remove(Self::slot(device)).map_err(|error| machine_error(&error));
        drop(toggler);
        removed
    }

    fn send(&mut self, message: &ToGuest) -> Result<(), GuestError> {
        let bytes =
            encode(message).map_err(|error| GuestError::Machine(format!("a message cannot be written: {error}")))?;
        let running = self.running.as_mut().ok_or_else(|| GuestError::Machine("the guest does not run".into()))?;
        if running.outgoing.len().saturating_add(bytes.len()) > MOST_OUTGOING_BYTES {
            return Err(GuestError::Guest("the agent does not read its port any more".into()));
        }
        running.outgoing.extend(bytes);
        running.flush();
        Ok(())
    }

    fn send_nmi(&mut self) {
        if let Some(running) = &self.running {
            running.machine.send_nmi();
        }
    }

    fn look(&mut self) -> Result<Option<Sight>, GuestError> {
        let Some(running) = self.running.as_mut() else { return Ok(None) };
        match running.machine.pause() {
            Ok(()) => {}
            // That it has ended is an event that comes.
            Err(MachineError::Ended(_)) => return Ok(None),
            Err(error) => return Err(machine_error(&error)),
        }
        let seen = look::look(&running.machine, &mut running.known);
        running.machine.start().map_err(|error| machine_error(&error))?;
        seen.map(Some).map_err(|error| machine_error(&error))
    }

    fn next_event(&mut self, deadline_ns: u64) -> Option<Stamped> {
        let origin = self.origin;
        let running = self.running.as_mut()?;
        loop {
            if let Some(stamped) = running.heard.pop_front() {
                return Some(stamped);
            }
            running.flush();
            // Looked at before the inbox: what the guest did before its end is in there by then.
            let ended = if running.end_told { None } else { running.machine.stop_cause() };
            let now_ns = nanoseconds(origin.elapsed());
            let left = Duration::from_nanos(deadline_ns.saturating_sub(now_ns));
            let patience = if ended.is_some() { Duration::ZERO } else { running.patience(left) };
            match (running.inbox.take(patience), ended) {
                (Some((t_ns, raw)), _) => running.hear(t_ns, raw),
                (None, Some(cause)) => {
                    running.end_told = true;
                    return Some(Stamped { t_ns: now_ns, event: GuestEvent::Ended(end_cause(cause)) });
                }
                (None, None) if left.is_zero() => return None,
                (None, None) => {}
            }
        }
    }

    fn tsc_to_ns(&self, tsc: u64) -> Option<u64> {
        let running = self.running().ok()?;
        running.timeline.to_ns(tsc, self.pair(&running.machine))
    }

    fn tsc_khz(&self) -> u32 {
        self.tsc_khz
    }
}

impl Drop for MachineGuest {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    /// Pauses the machine, where its agent has said whole lines only if there is such a moment: a fork's listener begins
    /// between two lines.
    fn pause_between_lines(&mut self) -> Result<(), MachineError> {
        for _ in 0..PAUSES {
            self.machine.pause()?;
            while let Some((t_ns, raw)) = self.inbox.take(Duration::ZERO) {
                self.hear(t_ns, raw);
            }
            if self.reader.is_between_lines() {
                return Ok(());
            }
            self.machine.start()?;
            std::thread::sleep(BETWEEN_PAUSES);
        }
        self.machine.pause()
    }

    /// Sends what the agent's port takes.
    fn flush(&mut self) {
        while !self.outgoing.is_empty() {
            let (head, _) = self.outgoing.as_slices();
            let accepted = self.machine.send_to_port(0, head);
            if accepted == 0 {
                return;
            }
            self.outgoing.drain(..accepted.min(self.outgoing.len()));
        }
    }

    /// How long to wait for the guest, of the time that is left.
    fn patience(&self, left: Duration) -> Duration {
        if self.outgoing.is_empty() { left } else { left.min(OFFER_AGAIN) }
    }

    fn hear(&mut self, t_ns: u64, raw: Raw) {
        let heard = &mut self.heard;
        let mut push = |event| heard.push_back(Stamped { t_ns, event });
        match raw {
            Raw::Agent(bytes) => self.reader.push::<FromGuest>(&bytes, |line| {
                push(match line {
                    Line::Message(message) => GuestEvent::Message(message),
                    Line::Malformed { reason, excerpt } => GuestEvent::Malformed { reason, excerpt },
                });
            }),
            Raw::Console(bytes) => push(GuestEvent::Console(bytes)),
            Raw::Slot(slot, what) => push(GuestEvent::Slot { slot, what }),
            Raw::Lost(bytes) => push(GuestEvent::Overrun { bytes }),
        }
    }
}

fn end_cause(cause: StopCause) -> EndCause {
    match cause {
        StopCause::PowerOff => EndCause::PowerOff,
        StopCause::Reset(_) => EndCause::Reset,
        StopCause::TripleFault => EndCause::TripleFault,
        other => EndCause::Machine(other.to_string()),
    }
}
