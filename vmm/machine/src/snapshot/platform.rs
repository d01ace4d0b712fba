//! What KVM keeps for the whole machine: interrupt controllers, the interval timer, the clock.

use kvm_bindings::{KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_irqchip, kvm_pit_state2};
use kvm_ioctls::VmFd;
use serde::{Deserialize, Serialize};

use crate::kvm::{KvmError, refused};

/// Interrupt controllers and interval timer. Routes are not among it: a machine has the same for its life (kvm.rs,
/// route_to_ioapic), and devices send their messages without one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformState {
    pic_first: kvm_irqchip,
    pic_second: kvm_irqchip,
    ioapic: kvm_irqchip,
    pit: kvm_pit_state2,
}

impl PlatformState {
    /// Reads it. The vCPUs have left the guest.
    ///
    /// # Errors
    /// KVM's reason.
    pub(super) fn save(vm: &VmFd) -> Result<Self, KvmError> {
        let chip = |chip_id| {
            let mut chip = kvm_irqchip { chip_id, ..Default::default() };
            vm.get_irqchip(&mut chip).map_err(refused("tell its interrupt controllers"))?;
            Ok::<_, KvmError>(chip)
        };
        Ok(Self {
            pic_first: chip(KVM_IRQCHIP_PIC_MASTER)?,
            pic_second: chip(KVM_IRQCHIP_PIC_SLAVE)?,
            ioapic: chip(KVM_IRQCHIP_IOAPIC)?,
            pit: vm.get_pit2().map_err(refused("tell its interval timer"))?,
        })
    }

    /// Restores it. After the vCPUs: the I/O APIC delivers at once what is pending in it (kvm_set_ioapic,
    /// kvm_ioapic_inject_all), to local APICs that would lose it if their registers were written afterwards. The interval
    /// timer comes after the controllers, into which its channel 0 goes.
    ///
    /// # Errors
    /// KVM's reason.
    pub(super) fn restore(&self, vm: &VmFd) -> Result<(), KvmError> {
        let chips = [
            (KVM_IRQCHIP_PIC_MASTER, &self.pic_first),
            (KVM_IRQCHIP_PIC_SLAVE, &self.pic_second),
            (KVM_IRQCHIP_IOAPIC, &self.ioapic),
        ];
        for (id, chip) in chips {
            if chip.chip_id != id {
                let reason = format!("it is of controller {}, and should be of {id}", chip.chip_id);
                return Err(KvmError::Refused { what: "take the saved interrupt controllers", reason });
            }
            vm.set_irqchip(chip).map_err(refused("take the saved interrupt controllers"))?;
        }
        vm.set_pit2(&self.pit).map_err(refused("take the saved interval timer"))
    }
}
