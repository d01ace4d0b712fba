//! Whether this host's KVM can do what the counter needs: it is asked, and made to do it once. One that interprets its guests
//! may claim what it does not do, and a guest of it would never have a result.

#![expect(
    unsafe_code,
    reason = "giving a virtual machine its memory (KVM_SET_USER_MEMORY_REGION) is unsafe in kvm-ioctls"
)]

use kvm_bindings::{KVM_CAP_SET_GUEST_DEBUG2, kvm_guest_debug, kvm_regs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::steps::STEP;
use crate::memory;

/// `nop; nop; hlt`, in 16-bit code.
const CODE: [u8; 3] = [0x90, 0x90, 0xf4];
const CODE_AT: u64 = 0x1000;
const MEMORY_BYTES: usize = 0x2000;

/// Signals that may come between two instructions before it is called stuck.
const MOST_SIGNALS: usize = 100;

const NO_FLAGS: &str =
    "single steps with interrupts held back (KVM_GUESTDBG_BLOCKIRQ of KVM_CAP_SET_GUEST_DEBUG2, in Linux since 5.15)";
const NO_STEPS: &str =
    "single steps: it claims them (KVM_CAP_SET_GUEST_DEBUG2), and a guest of two instructions was not stepped";

/// What the counter needs and this KVM lacks, if anything.
pub(crate) fn lacking(kvm: &Kvm) -> Option<&'static str> {
    let flags = kvm.check_extension_raw(KVM_CAP_SET_GUEST_DEBUG2.into());
    // Negative would be an error, and has many bits.
    if flags < 0 || flags.cast_unsigned() & STEP != STEP {
        return Some(NO_FLAGS);
    }
    (steps_twice(kvm) != Some(true)).then_some(NO_STEPS)
}

/// Whether a vCPU leaves its guest after the first and the second instruction. Nothing if KVM refuses a call.
fn steps_twice(kvm: &Kvm) -> Option<bool> {
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).ok()?;
    memory.write_slice(&CODE, GuestAddress(CODE_AT)).ok()?;
    let vm = kvm.create_vm().ok()?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY_BYTES as u64,
        userspace_addr: memory.get_host_address(GuestAddress(0)).ok()? as u64,
    };
    // SAFETY: the region is the whole of `memory`, which is declared before `vm` and so outlives it.
    unsafe { vm.set_user_memory_region(region) }.ok()?;
    // For Intel without unrestricted guests, as in the probe of speed (crate::probe).
    let _ = vm.set_tss_address(memory::TSS);
    let mut vcpu = vm.create_vcpu(0).ok()?;
    let mut special = vcpu.get_sregs().ok()?;
    (special.cs.base, special.cs.selector) = (0, 0);
    vcpu.set_sregs(&special).ok()?;
    vcpu.set_regs(&kvm_regs { rip: CODE_AT, rflags: 2, ..Default::default() }).ok()?;
    Some(step(&mut vcpu)? == CODE_AT + 1 && step(&mut vcpu)? == CODE_AT + 2)
}

/// Where the vCPU is after one instruction.
fn step(vcpu: &mut VcpuFd) -> Option<u64> {
    vcpu.set_guest_debug(&kvm_guest_debug { control: STEP, ..Default::default() }).ok()?;
    for _ in 0..MOST_SIGNALS {
        match vcpu.run() {
            Ok(VcpuExit::Debug(step)) => return Some(step.pc),
            Err(error) if error.errno() == libc::EINTR => {}
            _ => return None,
        }
    }
    None
}
