//! The virtual machine as KVM sees it: memory slots, interrupt controllers, vCPUs.

#![expect(unsafe_code, reason = "KVM takes guest memory by address")]

use std::sync::Arc;

use kvm_bindings::{
    CpuId, KVM_IRQCHIP_IOAPIC, KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, KvmIrqRouting, kvm_irq_routing_entry,
    kvm_msi, kvm_pit_config, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use thiserror::Error;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use crate::cpu::{self, CpuTemplate, SetupError};
use crate::instructions;
use crate::interrupt::{MsiMessage, MsiSink};
use crate::memory::{self, GuestRam};

/// Pins of the in-kernel I/O APIC.
const IOAPIC_PINS: u32 = 24;
/// The API version of every KVM since 2.6.22.
const API_VERSION: i32 = 12;

/// Why KVM gave no machine.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KvmError {
    /// `/dev/kvm` cannot be opened.
    #[error(
        "/dev/kvm cannot be opened: {reason}; `plugstorm doctor` says what to do, and --host nested does without it"
    )]
    Open {
        /// The system's reason.
        reason: String,
        /// The system's number for it.
        errno: i32,
    },
    /// It speaks another language.
    #[error("/dev/kvm has API version {found} instead of 12; it is not a KVM that plugstorm knows")]
    Version {
        /// What it said.
        found: i32,
    },
    /// It lacks something.
    #[error("/dev/kvm lacks {capability}, without which no stock kernel runs; --host nested does without it")]
    Lacks {
        /// What.
        capability: &'static str,
    },
    /// A call failed.
    #[error("KVM refused to {what}: {reason}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The system's reason.
        reason: String,
    },
    /// The vCPU's state.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

pub(crate) fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> KvmError {
    move |error| KvmError::Refused { what, reason: error.to_string() }
}

/// A virtual machine with memory and interrupt controllers, and no vCPU yet.
#[derive(Debug)]
pub struct VirtualMachine {
    kvm: Kvm,
    fd: Arc<VmFd>,
    supported_cpuid: CpuId,
}

impl VirtualMachine {
    /// Opens `/dev/kvm` and makes a machine with this memory.
    ///
    /// # Errors
    /// [`KvmError`]: the host's lack, each with the way out.
    pub fn new(memory: &GuestRam) -> Result<Self, KvmError> {
        let kvm = open()?;
        let fd = kvm.create_vm().map_err(refused("create a machine"))?;
        for (slot, region) in (0u32..).zip(memory.iter()) {
            let host_address = region.as_ptr() as u64;
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: host_address,
            };
            // SAFETY: the range is mapped by `memory`, of which the machine keeps a clone for as long as it asks KVM for
            // anything, and every vCPU thread until it has left the guest for the last time; the slots do not overlap.
            unsafe { fd.set_user_memory_region(region) }.map_err(refused("take the guest's memory"))?;
        }
        // Both before the first vCPU: VMX keeps its real-mode pages there. SVM ignores them.
        fd.set_identity_map_address(memory::IDENTITY_MAP).map_err(refused("set the identity map"))?;
        fd.set_tss_address(memory::TSS).map_err(refused("set the task state segment"))?;
        // Before the first vCPU too: it decides whether vCPUs get an in-kernel local APIC.
        fd.create_irq_chip().map_err(refused("create the interrupt controllers"))?;
        // Nobody uses the timer on hardware-reduced ACPI, but a kernel without kvmclock measures its TSC with it.
        fd.create_pit2(kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() })
            .map_err(refused("create the interval timer"))?;
        let fd = Arc::new(fd);
        route_to_ioapic(&fd)?;
        let supported_cpuid =
            kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(refused("say which CPUID it supports"))?;
        Ok(Self { kvm, fd, supported_cpuid })
    }

    /// Creates one vCPU of `cpus`, with the processor of the template.
    ///
    /// # Errors
    /// [`KvmError`] with KVM's reason.
    pub fn vcpu(&self, index: u8, cpus: u8, template: CpuTemplate) -> Result<VcpuFd, KvmError> {
        let vcpu = self.bare_vcpu(index)?;
        cpu::set_identity(&vcpu, &self.cpuid(index, cpus, template))?;
        Ok(vcpu)
    }

    /// Creates one vCPU that is no processor yet: a restored one brings its own.
    ///
    /// # Errors
    /// [`KvmError`] with KVM's reason.
    pub(crate) fn bare_vcpu(&self, index: u8) -> Result<VcpuFd, KvmError> {
        self.fd.create_vcpu(u64::from(index)).map_err(refused("create a vCPU"))
    }

    /// CPUID of one vCPU of `cpus`, with the processor of the template.
    #[must_use]
    pub fn cpuid(&self, index: u8, cpus: u8, template: CpuTemplate) -> CpuId {
        cpu::for_vcpu(&self.supported_cpuid, template, index, cpus)
    }

    /// Model-specific registers that KVM keeps for a guest.
    ///
    /// # Errors
    /// [`KvmError`] with KVM's reason.
    pub(crate) fn msr_indices(&self) -> Result<Vec<u32>, KvmError> {
        let list = self.kvm.get_msr_index_list().map_err(refused("list its model-specific registers"))?;
        Ok(list.as_slice().to_vec())
    }

    /// Whether KVM has this for the whole host.
    pub(crate) fn has(&self, capability: Cap) -> bool {
        self.kvm.check_extension(capability)
    }

    /// What is lacking to count instructions, if anything.
    pub(crate) fn lacks_for_steps(&self) -> Option<&'static str> {
        instructions::lacking(&self.kvm)
    }

    /// The machine's descriptor.
    pub(crate) fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// Lets an eventfd raise a pin of the I/O APIC.
    ///
    /// # Errors
    /// [`KvmError`] with KVM's reason.
    pub fn attach_interrupt(&self, event: &vmm_sys_util::eventfd::EventFd, gsi: u32) -> Result<(), KvmError> {
        self.fd.register_irqfd(event, gsi).map_err(refused("attach an interrupt line"))
    }

    /// Where devices send their messages.
    #[must_use]
    pub fn msi_sink(&self) -> Arc<dyn MsiSink> {
        Arc::new(SignalMsi(Arc::clone(&self.fd)))
    }
}

/// Opens `/dev/kvm` and checks that it is what a machine needs.
///
/// # Errors
/// [`KvmError`]: the host's lack, each with the way out.
pub fn open() -> Result<Kvm, KvmError> {
    let kvm = Kvm::new().map_err(|error| KvmError::Open { reason: error.to_string(), errno: error.errno() })?;
    match kvm.get_api_version() {
        API_VERSION => {}
        found => return Err(KvmError::Version { found }),
    }
    for (capability, name) in [
        (Cap::UserMemory, "memory slots (KVM_CAP_USER_MEMORY)"),
        (Cap::Irqchip, "in-kernel interrupt controllers (KVM_CAP_IRQCHIP)"),
        (Cap::SignalMsi, "message-signalled interrupts (KVM_CAP_SIGNAL_MSI)"),
        (Cap::Irqfd, "interrupt eventfds (KVM_CAP_IRQFD)"),
        (Cap::Pit2, "the interval timer (KVM_CAP_PIT2)"),
        (Cap::ExtCpuid, "CPUID (KVM_CAP_EXT_CPUID)"),
        (Cap::ImmediateExit, "leaving a guest at once (KVM_CAP_IMMEDIATE_EXIT)"),
    ] {
        if !kvm.check_extension(capability) {
            return Err(KvmError::Lacks { capability: name });
        }
    }
    Ok(kvm)
}

/// Each pin to the I/O APIC only. KVM's own table routes the first 16 to the PIC too, which a hardware-reduced guest
/// never masks.
fn route_to_ioapic(fd: &VmFd) -> Result<(), KvmError> {
    let entries: Vec<kvm_irq_routing_entry> = (0..IOAPIC_PINS)
        .map(|pin| {
            let mut entry =
                kvm_irq_routing_entry { gsi: pin, type_: kvm_bindings::KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
            entry.u.irqchip = kvm_bindings::kvm_irq_routing_irqchip { irqchip: KVM_IRQCHIP_IOAPIC, pin };
            entry
        })
        .collect();
    let routing = KvmIrqRouting::from_entries(&entries)
        .map_err(|error| KvmError::Refused { what: "route interrupts", reason: format!("{error:?}") })?;
    fd.set_gsi_routing(&routing).map_err(refused("route interrupts"))
}

/// Messages by `KVM_SIGNAL_MSI`: no route to set up at hot-add, none to be left behind at removal.
#[derive(Debug)]
struct SignalMsi(Arc<VmFd>);

impl MsiSink for SignalMsi {
    fn signal(&self, message: MsiMessage) {
        let msi = kvm_msi {
            address_lo: (message.address & 0xffff_ffff) as u32,
            address_hi: (message.address >> 32) as u32,
            data: message.data,
            ..Default::default()
        };
        // An error, or 0 for "blocked": the guest programmed a message that reaches nobody. So it would be on a bus.
        let _ = self.0.signal_msi(msi);
    }
}
