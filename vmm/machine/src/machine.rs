//! The machine: put together, started, stopped.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::acpi::{self, AcpiError};
use crate::boot::{self, BootError};
use crate::bus::Bus;
use crate::clock::GuestClock;
use crate::cpu::{self, CpuTemplate};
use crate::instructions::{Counter, InstructionCounter};
use crate::interrupt::{MsiMessage, MsiSink};
use crate::kvm::{KvmError, VirtualMachine};
use crate::memory::{self, GuestRam};
use crate::pci::{GoneReads, LegacyConfigPorts, PciError, RootComplex, SlotError, SlotObserver};
use crate::serial::{self, SerialPort};
use crate::snapshot::MemoryImage;
use crate::state::StateError;
use crate::stop::{StopCause, StopLatch};
use crate::vcpu::{self, Vcpu};
use crate::virtio::console::{self, ConsoleHandle, ConsoleSink, PortConfig};
use crate::virtio::gpio::{self, GpioConfig, GpioHandle};
use crate::virtio::{Subsystem, VirtioError};

/// The most vCPUs a machine may have.
pub const MOST_CPUS: u8 = 16;
/// The least and the most root ports.
pub const ROOT_PORTS: std::ops::RangeInclusive<u8> = 1..=16;

/// PCI subsystem ids of the console; nobody looks at them.
const CONSOLE_IDENTITY: Subsystem = Subsystem { vendor: 0x1af4, device: 0x1100 };

/// What a machine is made of.
pub struct MachineConfig {
    /// A bzImage or an ELF vmlinux.
    pub kernel: PathBuf,
    /// An initramfs.
    pub initrd: Option<Vec<u8>>,
    /// The kernel's command line.
    pub command_line: String,
    /// vCPUs, 1 to [`MOST_CPUS`].
    pub cpus: u8,
    /// Memory, in bytes, a multiple of 4096.
    pub memory_bytes: u64,
    /// Root ports with a slot each, within [`ROOT_PORTS`].
    pub root_ports: u8,
    /// What a device that has gone reads as.
    pub gone_reads: GoneReads,
    /// The processor that the guest sees.
    pub cpu_template: CpuTemplate,
    /// Where the serial port writes to.
    pub serial: Box<dyn ConsoleSink>,
    /// Where the virtio console's first port, the kernel's `hvc0`, writes to; without it the machine has no virtio
    /// console.
    pub console: Option<Box<dyn ConsoleSink>>,
    /// Further ports of the virtio console, by name.
    pub ports: Vec<PortConfig>,
    /// Is told what happens at the slots.
    pub slot_observer: Arc<dyn SlotObserver>,
    /// Each vCPU gets an instruction counter (`instructions`), if KVM can: [`Machine::instruction_counter`] tells. Such a
    /// machine cannot be saved.
    pub instruction_counter: bool,
}

impl fmt::Debug for MachineConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MachineConfig")
            .field("kernel", &self.kernel)
            .field("command_line", &self.command_line)
            .field("cpus", &self.cpus)
            .field("memory_bytes", &self.memory_bytes)
            .finish_non_exhaustive()
    }
}

/// Why there is no machine, or why it did not do what it was told.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MachineError {
    /// The number of vCPUs.
    #[error("a machine has 1 to {MOST_CPUS} vCPUs, not {cpus}; mend --cpus or `cpus` of the scenario")]
    Cpus {
        /// As asked for.
        cpus: u8,
    },
    /// The size of memory.
    #[error(
        "a machine has {} MiB to {} MiB of memory in pages of 4 KiB, not {bytes} bytes; mend --memory or `memory` of the \
         scenario",
        memory::LEAST_MEMORY_BYTES >> 20,
        memory::MOST_MEMORY_BYTES >> 20
    )]
    MemorySize {
        /// As asked for.
        bytes: u64,
    },
    /// The memory could not be mapped.
    #[error("{bytes} bytes of guest memory cannot be mapped: {reason}; take less with --memory")]
    MemoryMap {
        /// As asked for.
        bytes: u64,
        /// The system's reason.
        reason: String,
    },
    /// KVM.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The kernel, the initramfs or the command line.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// ACPI.
    #[error(transparent)]
    Acpi(#[from] AcpiError),
    /// PCI.
    #[error(transparent)]
    Pci(#[from] PciError),
    /// A virtio device.
    #[error(transparent)]
    Virtio(#[from] VirtioError),
    /// A slot.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The state of a device that was saved.
    #[error(transparent)]
    State(#[from] StateError),
    /// A slot that the machine does not have.
    #[error("the machine has no slot {slot}; its root ports are 0 to {last}")]
    NoSuchSlot {
        /// As asked for.
        slot: u8,
        /// The last one.
        last: u8,
    },
    /// The system has no resource left.
    #[error("the system gave no {what}: {reason}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Its reason.
        reason: String,
    },
    /// It was started before.
    #[error("the machine runs already")]
    Runs,
    /// It has to be paused for that.
    #[error("the machine runs; pause it first")]
    NotPaused,
    /// It has instruction counters.
    #[error("a machine with instruction counters is not saved: a count that is under way could not go on elsewhere")]
    Counts,
    /// Its guest has ended.
    #[error("the guest has ended: {0}")]
    Ended(StopCause),
    /// A vCPU stayed in the guest.
    #[error("a vCPU did not leave the guest: the host's kernel is stuck")]
    Stuck,
    /// The memory of a snapshot could not be written or mapped.
    #[error("the memory of a snapshot cannot be {what}: {reason}")]
    Image {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        reason: String,
    },
}

/// What of a machine the guest can see and nothing can change while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// vCPUs.
    pub cpus: u8,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Root ports with a slot each.
    pub root_ports: u8,
    /// The processor that the guest sees.
    pub cpu_template: CpuTemplate,
}

/// A guest and its hardware. Dropping it ends it.
pub struct Machine {
    pub(crate) shape: Shape,
    pub(crate) memory: GuestRam,
    /// What the memory was mapped from, if it was.
    pub(crate) image: Option<MemoryImage>,
    pub(crate) bus: Arc<Bus>,
    pub(crate) msi: Arc<dyn MsiSink>,
    pub(crate) stop: Arc<StopLatch>,
    pub(crate) clock: Option<GuestClock>,
    pub(crate) clock_continues: bool,
    pub(crate) console: Option<ConsoleHandle>,
    pub(crate) plugged: Mutex<BTreeMap<u8, GpioHandle>>,
    /// Set while the vCPUs are to stay out of the guest.
    pub(crate) pause: Arc<AtomicBool>,
    /// All vCPUs, in the order of their numbers, while the machine does not run.
    pub(crate) waiting: Vec<Vcpu>,
    pub(crate) running: Vec<JoinHandle<Vcpu>>,
    pub(crate) instruction_counter: InstructionCounter,
    /// The last to go: vCPUs and irqfds belong to it.
    pub(crate) vm: VirtualMachine,
}

impl Machine {
    /// Puts a machine together and loads its kernel. It does not run yet.
    ///
    /// # Errors
    /// [`MachineError`]: user's errors and the host's lacks, each with the way out.
    pub fn new(config: MachineConfig) -> Result<Self, MachineError> {
        check_size(config.cpus, config.memory_bytes)?;
        let memory = memory::map(config.memory_bytes)
            .map_err(|error| MachineError::MemoryMap { bytes: config.memory_bytes, reason: error.to_string() })?;
        // Before KVM: a wrong kernel is the user's to mend wherever the machine would run.
        let rsdp = acpi::write(&memory, config.cpus)?;
        let entry = boot::load(&memory, &config.kernel, config.initrd.as_deref(), &config.command_line, rsdp)?;
        let vm = VirtualMachine::new(&memory)?;
        let msi = vm.msi_sink();
        let stop = Arc::new(StopLatch::default());
        let serial = SerialPort::new(serial_interrupt(&vm)?, config.serial);
        let pci =
            Arc::new(RootComplex::new(config.root_ports, config.gone_reads, Arc::clone(&msi), config.slot_observer)?);
        let console = match config.console {
            Some(kernel) => {
                let mut ports = vec![PortConfig { name: String::new(), sink: kernel }];
                ports.extend(config.ports);
                let (function, handle) = console::console(ports, memory.clone(), Arc::clone(&msi), CONSOLE_IDENTITY)?;
                pci.add_integrated(function)?;
                Some(handle)
            }
            None => None,
        };
        let config_ports = LegacyConfigPorts::new(Arc::clone(&pci));
        let bus = Arc::new(Bus { serial, pci, config_ports, stop: Arc::clone(&stop) });
        let mut vcpus = Vec::new();
        for index in 0..config.cpus {
            vcpus.push(vm.vcpu(index, config.cpus, config.cpu_template)?);
        }
        let instruction_counter = match config.instruction_counter.then(|| vm.lacks_for_steps()) {
            None => InstructionCounter::Absent,
            Some(None) => InstructionCounter::Present,
            Some(Some(capability)) => InstructionCounter::Lacking { capability },
        };
        let counter = || (instruction_counter == InstructionCounter::Present).then(Counter::default);
        let mut clock = None;
        if let Some(boot_processor) = vcpus.first() {
            cpu::set_boot_state(boot_processor, &entry).map_err(KvmError::from)?;
            clock = GuestClock::of(boot_processor);
        }
        Ok(Self {
            shape: Shape {
                cpus: config.cpus,
                memory_bytes: config.memory_bytes,
                root_ports: config.root_ports,
                cpu_template: config.cpu_template,
            },
            memory,
            image: None,
            bus,
            msi,
            stop,
            clock,
            clock_continues: true,
            console,
            plugged: Mutex::default(),
            pause: Arc::default(),
            waiting: vcpus.into_iter().map(|fd| Vcpu { fd, counter: counter() }).collect(),
            running: Vec::new(),
            instruction_counter,
            vm,
        })
    }

    /// Starts the vCPUs: of a new machine, of one that was restored, or after [`Self::pause`].
    ///
    /// # Errors
    /// [`MachineError::Runs`], or the system has no thread left.
    pub fn start(&mut self) -> Result<(), MachineError> {
        if self.waiting.is_empty() {
            return Err(MachineError::Runs);
        }
        vcpu::install_kick()
            .map_err(|error| MachineError::System { what: "signal handler", reason: error.to_string() })?;
        self.pause.store(false, Ordering::Release);
        for vcpu in &self.waiting {
            // Tells Linux not to hold a pause against anybody: its watchdogs look at the clock, which went on
            // (kvm_set_guest_paused in arch/x86/kvm/x86.c). It fails where the guest does not use kvmclock, and then there is
            // nobody to tell.
            let _ = vcpu.fd.kvmclock_ctrl();
        }
        for (index, vcpu) in (0u8..).zip(std::mem::take(&mut self.waiting)) {
            let pause = Arc::clone(&self.pause);
            let thread = vcpu::start(vcpu, index, Arc::clone(&self.bus), self.memory.clone(), pause)
                .map_err(|error| MachineError::System { what: "thread for a vCPU", reason: error.to_string() })?;
            self.running.push(thread);
        }
        Ok(())
    }

    /// Takes all vCPUs out of the guest, between two instructions, until [`Self::start`]. The guest's clocks go on. Does
    /// nothing to a machine that does not run.
    ///
    /// # Errors
    /// [`MachineError::Ended`] if the guest ended first; or a vCPU does not come out, which ends the machine.
    pub fn pause(&mut self) -> Result<(), MachineError> {
        self.pause.store(true, Ordering::Release);
        let joined = vcpu::join(std::mem::take(&mut self.running));
        self.waiting.extend(joined.vcpus);
        if let Some(cause) = self.stop.get() {
            return Err(MachineError::Ended(cause));
        }
        if !joined.all_left || self.waiting.len() != usize::from(self.shape.cpus) {
            self.stop.set(StopCause::InternalError("a vCPU does not leave the guest".into()));
            return Err(MachineError::Stuck);
        }
        Ok(())
    }

    /// Waits until the machine ends, at most so long.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<StopCause> {
        self.stop.wait(timeout)
    }

    /// Calls this, on the thread that ended it, when the machine ends, and now if it has: for a thread that waits for other
    /// things too. Only the first such call counts.
    pub fn on_stop(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.stop.listen(listener);
    }

    /// Ends the machine, if it has not ended, and waits for its threads. False if one did not leave the guest: the host's
    /// kernel is stuck then.
    pub fn stop(&mut self) -> bool {
        self.stop.set(StopCause::Stopped);
        vcpu::join(std::mem::take(&mut self.running)).all_left
    }

    /// Why it ended, if it has.
    #[must_use]
    pub fn stop_cause(&self) -> Option<StopCause> {
        self.stop.get()
    }

    /// The guest's time-stamp counter now; 0 where KVM does not tell.
    #[must_use]
    pub fn guest_tsc_now(&self) -> u64 {
        self.clock.map_or(0, |clock| clock.guest_tsc_now())
    }

    /// The frequency of the guest's time-stamp counter, in kHz; 0 where KVM does not tell.
    #[must_use]
    pub fn tsc_khz(&self) -> u32 {
        self.clock.map_or(0, |clock| clock.khz())
    }

    /// Whether a restored guest's clocks go on from where they were saved. Not so on a KVM that keeps counters of its own:
    /// there the guest sees the time in between, and its watchdogs may say so. Always true of a machine that was booted.
    #[must_use]
    pub fn clock_continues(&self) -> bool {
        self.clock_continues
    }

    /// Whether its vCPUs have instruction counters.
    #[must_use]
    pub fn instruction_counter(&self) -> InstructionCounter {
        self.instruction_counter
    }

    /// Sends the first vCPU a non-maskable interrupt, which reaches a kernel that has interrupts off. Linux panics at one
    /// of unknown origin if its command line says `unknown_nmi_panic` (arch/x86/kernel/nmi.c), and shows where it was.
    pub fn send_nmi(&self) {
        // Physical destination 0, delivery mode NMI (Intel SDM 3A, 11.11).
        self.msi.signal(MsiMessage { address: 0xfee0_0000, data: 0b100 << 8 });
    }

    /// Types on the serial port. Gives how many bytes were taken; the rest may be offered again later.
    #[must_use]
    pub fn serial_input(&self, bytes: &[u8]) -> usize {
        self.bus.serial.input(bytes)
    }

    /// Sends to a named port of the console, counted from 0 in the order of [`MachineConfig::ports`]. Gives how many bytes
    /// were taken; the rest may be offered again later.
    #[must_use]
    pub fn send_to_port(&self, port: usize, bytes: &[u8]) -> usize {
        self.console.as_ref().map_or(0, |console| console.send(port.saturating_add(1), bytes))
    }

    /// The address of a slot's root port as sysfs writes it, such as `0000:00:01.0`.
    ///
    /// # Errors
    /// [`MachineError::NoSuchSlot`].
    pub fn slot_address(&self, slot: u8) -> Result<String, MachineError> {
        Ok(self.slot(slot)?.address())
    }

    /// Plugs a virtio-gpio device into a slot: presence and link come up and the guest is told.
    ///
    /// # Errors
    /// [`MachineError::NoSuchSlot`], the slot is occupied, or no device can have these lines.
    pub fn plug_gpio(&self, slot: u8, config: &GpioConfig, subsystem: Subsystem) -> Result<GpioHandle, MachineError> {
        let (function, handle) = gpio::gpio(config, self.memory.clone(), Arc::clone(&self.msi), subsystem)?;
        // Held over both: a save finds slots and devices in agreement.
        let mut plugged = self.plugged();
        self.slot(slot)?.plug(function)?;
        plugged.insert(slot, handle.clone());
        Ok(handle)
    }

    /// Pulls whatever is in a slot: link and presence drop at once, the device neither answers nor interrupts nor touches
    /// memory any more, and the guest is told.
    ///
    /// # Errors
    /// [`MachineError::NoSuchSlot`], or the slot is empty.
    pub fn surprise_remove(&self, slot: u8) -> Result<(), MachineError> {
        let mut plugged = self.plugged();
        self.slot(slot)?.surprise_remove()?;
        if let Some(handle) = plugged.remove(&slot) {
            handle.sever();
        }
        Ok(())
    }

    /// The device in a slot, if there is one.
    #[must_use]
    pub fn gpio(&self, slot: u8) -> Option<GpioHandle> {
        self.plugged().get(&slot).cloned()
    }

    fn slot(&self, slot: u8) -> Result<&crate::pci::Slot, MachineError> {
        self.bus.pci.slot(slot).ok_or(MachineError::NoSuchSlot { slot, last: self.shape.root_ports.saturating_sub(1) })
    }

    pub(crate) fn plugged(&self) -> std::sync::MutexGuard<'_, BTreeMap<u8, GpioHandle>> {
        self.plugged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Machine")
            .field("vcpus", &(self.waiting.len() + self.running.len()))
            .field("shape", &self.shape)
            .field("stop", &self.stop.get())
            .finish_non_exhaustive()
    }
}

/// Whether a machine may have so many vCPUs and so much memory.
///
/// # Errors
/// [`MachineError::Cpus`], [`MachineError::MemorySize`].
pub fn check_size(cpus: u8, memory_bytes: u64) -> Result<(), MachineError> {
    if !(1..=MOST_CPUS).contains(&cpus) {
        return Err(MachineError::Cpus { cpus });
    }
    let sizes = memory::LEAST_MEMORY_BYTES..=memory::MOST_MEMORY_BYTES;
    if !sizes.contains(&memory_bytes) || !memory_bytes.is_multiple_of(0x1000) {
        return Err(MachineError::MemorySize { bytes: memory_bytes });
    }
    Ok(())
}

/// What raises the serial port's interrupt.
pub(crate) fn serial_interrupt(vm: &VirtualMachine) -> Result<EventFd, MachineError> {
    let event = EventFd::new(EFD_NONBLOCK)
        .map_err(|error| MachineError::System { what: "eventfd", reason: error.to_string() })?;
    vm.attach_interrupt(&event, serial::GSI)?;
    Ok(event)
}
