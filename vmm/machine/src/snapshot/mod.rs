//! Saving a machine and restoring it: everything that a guest could notice, so that a restored one goes on in the middle of
//! whatever it did.
//!
//! A save wants the machine paused: every vCPU between two instructions, with no access pending. A restore puts a new machine
//! together; it does not run before [`Machine::start`]. The guest's clocks stand still in between.

mod clock;
mod image;
mod pagemap;
mod platform;
mod vcpu;
mod working_set;

use std::fmt;
use std::fs::File;
use std::sync::{Arc, Mutex};

use kvm_ioctls::{Cap, VcpuFd};
use serde::{Deserialize, Serialize};

use crate::clock::GuestClock;
use crate::devices_state::{Devices, DevicesState, Surroundings};
use crate::instructions::InstructionCounter;
use crate::kvm::{KvmError, VirtualMachine};
use crate::machine::{Machine, MachineError, Shape, check_size, serial_interrupt};
use crate::pci::{GoneReads, SlotObserver};
use crate::state::StateError;
use crate::stop::StopLatch;
use crate::vcpu::Vcpu;
use crate::virtio::console::{ConsoleSink, PortConfig};
pub use clock::ClockState;
pub use image::{Extent, MemoryImage};
pub use platform::PlatformState;
pub use vcpu::VcpuState;
pub use working_set::WorkingSet;

/// A machine that was saved, apart from its memory.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineState {
    /// What it was made as.
    pub shape: Shape,
    /// Its clocks.
    pub clock: ClockState,
    /// In the order of their numbers.
    vcpus: Vec<VcpuState>,
    platform: PlatformState,
    /// Its devices.
    pub devices: DevicesState,
}

impl MachineState {
    /// Names of the virtio console's ports after the first, in order; none for a machine without a virtio console.
    #[must_use]
    pub fn port_names(&self) -> Option<Vec<String>> {
        self.devices
            .console
            .as_ref()
            .map(|console| console.device.ports.iter().skip(1).map(|port| port.name.clone()).collect())
    }

    /// The parts are of one machine: what is read from a disk may be anything.
    fn agrees_with_itself(&self) -> Result<(), StateError> {
        let (cpus, ports) = (self.vcpus.len(), self.devices.slots.len());
        if cpus != usize::from(self.shape.cpus) {
            return Err(StateError::new("vCPUs", format!("{cpus} were saved of {}", self.shape.cpus)));
        }
        if ports != usize::from(self.shape.root_ports) {
            return Err(StateError::new("root ports", format!("{ports} were saved of {}", self.shape.root_ports)));
        }
        Ok(())
    }
}

/// What a restored machine is connected to: nothing of it is part of a snapshot, and nothing of it shows to the guest.
pub struct RestoreConfig {
    /// Where the serial port writes to.
    pub serial: Box<dyn ConsoleSink>,
    /// Where the virtio console's first port writes to; needed if the saved machine had one.
    pub console: Option<Box<dyn ConsoleSink>>,
    /// Further ports of the virtio console: as many as the saved machine had, with the same names.
    pub ports: Vec<PortConfig>,
    /// What a device that has gone reads as.
    pub gone_reads: GoneReads,
    /// Is told what happens at the slots.
    pub slot_observer: Arc<dyn SlotObserver>,
}

impl fmt::Debug for RestoreConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RestoreConfig").field("ports", &self.ports).finish_non_exhaustive()
    }
}

impl Machine {
    /// Saves a paused machine: its memory into `memory`, an empty file, and the rest into what is returned. The machine may
    /// go on afterwards. An interrupt that [`Self::send_nmi`] sends meanwhile may be lost.
    ///
    /// # Errors
    /// [`MachineError::NotPaused`]; [`MachineError::Ended`]; [`MachineError::Counts`]; KVM refused; the file cannot be written; the guest uses nested
    /// virtualisation.
    pub fn save(&self, memory: Arc<File>) -> Result<(MachineState, MemoryImage), MachineError> {
        // A guest that has ended may have an access half done.
        if let Some(cause) = self.stop.get() {
            return Err(MachineError::Ended(cause));
        }
        let all = self.waiting.len() == usize::from(self.shape.cpus);
        let Some(first) = self.waiting.first().filter(|_| all) else { return Err(MachineError::NotPaused) };
        // A vCPU would have to say how far its count is, and KVM that it steps it.
        if self.instruction_counter == InstructionCounter::Present {
            return Err(MachineError::Counts);
        }
        // At once, since the clocks of a paused machine go on.
        let clock = ClockState::save(self.vm.fd(), &first.fd)?;
        let indices = self.vm.msr_indices()?;
        let has_xcrs = self.vm.has(Cap::Xcrs);
        let Shape { cpus, cpu_template, .. } = self.shape;
        let save = |(index, vcpu): (u8, &Vcpu)| {
            VcpuState::save(&vcpu.fd, &self.vm.cpuid(index, cpus, cpu_template), &indices, has_xcrs)
        };
        // All of it while the devices stand still: what a host's thread has a device do writes memory and interrupts.
        let still = || {
            let vcpus = (0u8..).zip(&self.waiting).map(save).collect::<Result<_, _>>().map_err(KvmError::from)?;
            // After the vCPUs: reading their state may end what the controllers had under way.
            let platform = PlatformState::save(self.vm.fd())?;
            let extents = image::write(&self.memory, self.image.as_ref(), &memory)
                .map_err(|error| MachineError::Image { what: "written", reason: error.to_string() })?;
            Ok::<_, MachineError>((vcpus, platform, extents))
        };
        let (devices, saved) = DevicesState::save(&self.bus, self.console.as_ref(), &self.plugged(), still)?;
        let (vcpus, platform, extents) = saved?;
        let state = MachineState { shape: self.shape, clock, vcpus, platform, devices };
        Ok((state, MemoryImage { file: memory, extents }))
    }

    /// Makes a machine that goes on where a saved one was.
    ///
    /// # Errors
    /// The state does not fit this host or `config`, KVM refused a part of it, or the memory cannot be mapped.
    pub fn restore(state: &MachineState, image: &MemoryImage, config: RestoreConfig) -> Result<Self, MachineError> {
        let shape = state.shape;
        check_size(shape.cpus, shape.memory_bytes)?;
        state.agrees_with_itself()?;
        let memory = image.map(shape.memory_bytes).map_err(|reason| MachineError::Image { what: "mapped", reason })?;
        let vm = VirtualMachine::new(&memory)?;
        let msi = vm.msi_sink();
        let stop = Arc::new(StopLatch::default());
        let vcpus = restore_vcpus(state, &vm)?;
        // After the interrupt controllers: a device may have something to say at once.
        let ports = match config.console {
            Some(sink) => {
                let mut ports = vec![PortConfig { name: String::new(), sink }];
                ports.extend(config.ports);
                ports
            }
            None => Vec::new(),
        };
        let Devices { bus, console, gpios } = state.devices.restore(Surroundings {
            memory: memory.clone(),
            msi: Arc::clone(&msi),
            stop: Arc::clone(&stop),
            serial_interrupt: serial_interrupt(&vm)?,
            serial: config.serial,
            ports,
            gone_reads: config.gone_reads,
            slot_observer: config.slot_observer,
        })?;
        let clock_continues = restore_time(state, &vm, &vcpus)?;
        let clock = vcpus.first().and_then(GuestClock::of);
        Ok(Self {
            shape,
            memory,
            image: Some(image.clone()),
            bus: Arc::new(bus),
            msi,
            stop,
            clock,
            clock_continues,
            console,
            plugged: Mutex::new(gpios),
            pause: Arc::default(),
            waiting: vcpus.into_iter().map(Vcpu::from).collect(),
            running: Vec::new(),
            instruction_counter: InstructionCounter::Absent,
            vm,
        })
    }
}

/// All vCPUs, then what they share.
fn restore_vcpus(state: &MachineState, vm: &VirtualMachine) -> Result<Vec<VcpuFd>, KvmError> {
    // All of them before the state of the first: an interrupt may be on its way to any.
    let vcpus = (0u8..).zip(&state.vcpus).map(|(index, _)| vm.bare_vcpu(index)).collect::<Result<Vec<_>, _>>()?;
    for (vcpu, saved) in vcpus.iter().zip(&state.vcpus) {
        saved.restore(vcpu)?;
    }
    state.platform.restore(vm.fd())?;
    Ok(vcpus)
}

/// As late as can be: from here on time passes for the guest. Whether its counter goes on from where it was.
fn restore_time(state: &MachineState, vm: &VirtualMachine, vcpus: &[VcpuFd]) -> Result<bool, KvmError> {
    let clock_continues = state.clock.restore(vm.fd(), vcpus)?;
    for (vcpu, saved) in vcpus.iter().zip(&state.vcpus) {
        saved.restore_deadline(vcpu)?;
    }
    Ok(clock_continues)
}
