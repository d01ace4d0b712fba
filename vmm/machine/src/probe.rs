//! How fast this host's KVM really is: a guest loop of two instructions, timed.
//!
//! That `/dev/kvm` opens proves nothing: a back end without VMX or SVM interprets its guests, at under a million
//! instructions a second, where hardware does hundreds of millions. Only running some tells.

#![expect(
    unsafe_code,
    reason = "giving a virtual machine its memory (KVM_SET_USER_MEMORY_REGION) is unsafe in kvm-ioctls"
)]

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use kvm_bindings::{kvm_regs, kvm_userspace_memory_region};
use kvm_ioctls::{VcpuExit, VcpuFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::signal::{Killable, SIGRTMIN};

use crate::kvm::{self, KvmError};
use crate::{memory, vcpu};

/// `dec ecx; jnz` back to it; `hlt`, in 16-bit code: the two-instruction loop and its end.
const LOOP_CODE: [u8; 5] = [0x66, 0x49, 0x75, 0xfc, 0xf4];
const LOOP_ADDRESS: u64 = 0x1000;
const MEMORY_BYTES: usize = 0x10000;

/// Few enough that an interpreter at under a million instructions a second needs some 50 ms for them.
const FIRST_ROUNDS: u32 = 20_000;
/// A run this long is measured well enough, whatever the timer's grain and the cost of one entry.
const ENOUGH: Duration = Duration::from_millis(40);
/// How much longer than asked a run may take before it is called stuck.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// How long entries and exits are timed for.
const EXITS_FOR: Duration = Duration::from_millis(20);

/// What the loop said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoopSpeed {
    /// Rounds of the two-instruction loop in a second.
    pub rounds_per_second: f64,
    /// Entries into the guest and exits from it in a second, registers set each time.
    pub exits_per_second: f64,
    /// Rounds of the run that counted.
    pub rounds: u32,
    /// How long that run took, in nanoseconds.
    pub took_ns: u64,
}

/// Why the loop could not be timed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// There is no `/dev/kvm`.
    #[error("/dev/kvm is not there: load kvm_intel or kvm_amd, and switch virtualisation on in the firmware")]
    Missing,
    /// `/dev/kvm` is there and not for us.
    #[error("/dev/kvm may not be opened by this user: join the group that owns it, or run as root")]
    Denied,
    /// `/dev/kvm` does not open for another reason.
    #[error("/dev/kvm does not open: {0}")]
    Open(#[source] io::Error),
    /// KVM's interface has another version.
    #[error("/dev/kvm speaks version {0} of the interface, and version 12 is the only one in use")]
    Version(i32),
    /// It lacks something that a machine needs.
    #[error("/dev/kvm lacks {capability}, without which no stock kernel runs")]
    Lacks {
        /// What.
        capability: &'static str,
    },
    /// A step before the loop failed.
    #[error("KVM opens, but {step} fails: {source}")]
    Closed {
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The guest did something else than loop and halt.
    #[error("KVM runs, but a loop of two instructions ended with {0}")]
    Astray(String),
    /// The guest neither ended nor let itself be kicked.
    #[error("KVM runs, but a loop of two instructions did not come back in {0:?}")]
    Stuck(Duration),
}

/// Times the loop. Takes about 0.1 s; a KVM that does not come back is given up after some two seconds, its thread left
/// behind.
///
/// # Errors
/// [`ProbeError`]: the reason why this KVM cannot be used at all. Slowness is no error here.
pub fn loop_speed() -> Result<LoopSpeed, ProbeError> {
    vcpu::install_kick()
        .map_err(|error| ProbeError::Closed { step: "setting a signal handler", source: error.into() })?;
    let (tell, told) = mpsc::channel();
    let runner = thread::Builder::new()
        .name("kvm-probe".into())
        .spawn(move || {
            // The receiver is gone only if it has given this thread up.
            let _ = tell.send(measure());
        })
        .map_err(|source| ProbeError::Closed { step: "starting a thread", source })?;
    let begun = Instant::now();
    let mut wait = Duration::from_secs(1);
    loop {
        match told.recv_timeout(wait) {
            Ok(result) => return result,
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(ProbeError::Astray("a panic".into())),
            Err(mpsc::RecvTimeoutError::Timeout) if begun.elapsed() >= STUCK_AFTER => {
                return Err(ProbeError::Stuck(STUCK_AFTER));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                // A kick that arrives just before KVM_RUN is lost, so it is repeated.
                let _ = runner.kill(SIGRTMIN());
                wait = Duration::from_millis(20);
            }
        }
    }
}

fn measure() -> Result<LoopSpeed, ProbeError> {
    let kvm = kvm::open().map_err(refused)?;
    let closed = |step| move |error: kvm_ioctls::Error| ProbeError::Closed { step, source: error.into() };
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)])
        .map_err(|error| ProbeError::Closed { step: "mapping memory", source: io::Error::other(error) })?;
    memory
        .write_slice(&LOOP_CODE, GuestAddress(LOOP_ADDRESS))
        .map_err(|error| ProbeError::Closed { step: "writing memory", source: io::Error::other(error) })?;
    let host_address = memory
        .get_host_address(GuestAddress(0))
        .map_err(|error| ProbeError::Closed { step: "mapping memory", source: io::Error::other(error) })?;
    let vm = kvm.create_vm().map_err(closed("making a virtual machine (KVM_CREATE_VM)"))?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY_BYTES as u64,
        userspace_addr: host_address as u64,
    };
    // SAFETY: the region is the whole of `memory`, which is declared before `vm` and so outlives it.
    unsafe { vm.set_user_memory_region(region) }.map_err(closed("giving it memory (KVM_SET_USER_MEMORY_REGION)"))?;
    // Intel without unrestricted guests needs three pages for real mode (Documentation/virt/kvm/api.rst, 4.34). Others
    // do not care, and a back end that does not know the call runs the loop without.
    let _ = vm.set_tss_address(memory::TSS);
    let mut vcpu = vm.create_vcpu(0).map_err(closed("making a vCPU (KVM_CREATE_VCPU)"))?;
    let mut special = vcpu.get_sregs().map_err(closed("reading registers (KVM_GET_SREGS)"))?;
    special.cs.base = 0;
    special.cs.selector = 0;
    vcpu.set_sregs(&special).map_err(closed("setting registers (KVM_SET_SREGS)"))?;

    let mut rounds = FIRST_ROUNDS;
    loop {
        let took = run(&mut vcpu, rounds)?;
        let per_second = f64::from(rounds) / took.as_secs_f64().max(1e-9);
        let next = next_rounds(rounds, took);
        if took >= ENOUGH || next <= rounds {
            let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            let exits_per_second = exit_speed(&mut vcpu)?;
            return Ok(LoopSpeed { rounds_per_second: per_second, exits_per_second, rounds, took_ns });
        }
        rounds = next;
    }
}

fn exit_speed(vcpu: &mut VcpuFd) -> Result<f64, ProbeError> {
    let begun = Instant::now();
    let mut exits = 0_u32;
    while begun.elapsed() < EXITS_FOR {
        run(vcpu, 1)?;
        exits += 1;
    }
    Ok(f64::from(exits) / begun.elapsed().as_secs_f64())
}

/// How many rounds to try after `rounds` of them took `took`: enough for twice [`ENOUGH`], and not more than a hundred
/// times as many, because a first run is mostly the cost of entering.
fn next_rounds(rounds: u32, took: Duration) -> u32 {
    let factor = (2.0 * ENOUGH.as_secs_f64() / took.as_secs_f64().max(1e-9)).clamp(1.0, 100.0);
    // Saturates: `as` from float to integer does.
    (f64::from(rounds) * factor) as u32
}

/// Why a machine would not take this KVM, in the probe's words: what is refused here, `Machine::new` would refuse too.
fn refused(error: KvmError) -> ProbeError {
    match error {
        KvmError::Open { errno: libc::ENOENT, .. } => ProbeError::Missing,
        KvmError::Open { errno: libc::EACCES | libc::EPERM, .. } => ProbeError::Denied,
        KvmError::Open { errno, .. } => ProbeError::Open(io::Error::from_raw_os_error(errno)),
        KvmError::Version { found } => ProbeError::Version(found),
        KvmError::Lacks { capability } => ProbeError::Lacks { capability },
        other => ProbeError::Closed { step: "asking what it can do", source: io::Error::other(other) },
    }
}

fn run(vcpu: &mut VcpuFd, rounds: u32) -> Result<Duration, ProbeError> {
    let closed = |step| move |error: kvm_ioctls::Error| ProbeError::Closed { step, source: error.into() };
    // Bit 1 of RFLAGS is always one (Intel SDM 1, 3.4.3).
    let registers = kvm_regs { rip: LOOP_ADDRESS, rcx: u64::from(rounds), rflags: 2, ..Default::default() };
    vcpu.set_regs(&registers).map_err(closed("setting registers (KVM_SET_REGS)"))?;
    let begun = Instant::now();
    loop {
        match vcpu.run() {
            Ok(VcpuExit::Hlt) => return Ok(begun.elapsed()),
            Ok(exit) => return Err(ProbeError::Astray(format!("{exit:?}"))),
            Err(error) if error.errno() == libc::EINTR => {
                // Kicked: too slow for the rounds asked for. What it has done so far is the measurement.
                let left = vcpu.get_regs().map_err(closed("reading registers (KVM_GET_REGS)"))?.rcx as u32;
                let done = rounds.saturating_sub(left);
                if begun.elapsed() < ENOUGH {
                    continue;
                }
                // Scaled to the rounds asked for, so that the caller's division gives the rate.
                let took = begun.elapsed().as_secs_f64() * f64::from(rounds) / f64::from(done.max(1));
                return Ok(Duration::try_from_secs_f64(took).unwrap_or(Duration::MAX));
            }
            Err(error) => return Err(closed("running it (KVM_RUN)")(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_is_long_enough_and_bounded() {
        assert_eq!(next_rounds(20_000, Duration::from_millis(40)), 40_000);
        assert_eq!(next_rounds(20_000, Duration::from_secs(9)), 20_000);
        assert_eq!(next_rounds(20_000, Duration::from_nanos(1)), 2_000_000);
        assert_eq!(next_rounds(u32::MAX, Duration::ZERO), u32::MAX);
    }

    #[test]
    fn what_a_machine_would_refuse_is_told_apart() {
        let open = |errno| refused(KvmError::Open { reason: String::new(), errno });
        assert!(matches!(open(libc::ENOENT), ProbeError::Missing));
        assert!(matches!(open(libc::EACCES), ProbeError::Denied));
        assert!(matches!(open(libc::EPERM), ProbeError::Denied));
        assert!(matches!(open(libc::ENODEV), ProbeError::Open(_)));
        assert!(matches!(refused(KvmError::Version { found: 11 }), ProbeError::Version(11)));
        let lacks = refused(KvmError::Lacks { capability: "CPUID" }).to_string();
        assert_eq!(lacks, "/dev/kvm lacks CPUID, without which no stock kernel runs");
        let other = KvmError::Refused { what: "create a machine", reason: "no".into() };
        assert!(matches!(refused(other), ProbeError::Closed { .. }));
    }

    #[test]
    fn a_kvm_that_is_there_is_timed_or_says_why_not_in_bounded_time() {
        let begun = Instant::now();
        let speed = loop_speed();
        assert!(begun.elapsed() < Duration::from_secs(10));
        if let Ok(speed) = speed {
            assert!(speed.rounds_per_second > 0.0);
        }
    }
}
