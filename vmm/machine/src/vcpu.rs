//! A vCPU's thread: runs the guest, hands its accesses to the bus, ends when the machine does or is paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kvm_ioctls::{VcpuExit, VcpuFd};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use crate::bus::Bus;
use crate::cpu::SetupError;
use crate::instructions::{self, Counter, Stepper};
use crate::memory::GuestRam;
use crate::stop::StopCause;

/// How long threads may take to leave the guest. They leave at the next signal; the bound is for a kernel that is stuck.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// A signal that arrives just before `KVM_RUN` has no effect: it is repeated at this distance.
const KICK_EVERY: Duration = Duration::from_millis(1);
/// Exits that one access of the guest may take to be completed: KVM cuts one that crosses pages or is wider than 8 bytes, and
/// goes on with a repeated string instruction for up to 1024 rounds (arch/x86/kvm/emulate.c).
const MOST_PARTS: usize = 4096;

/// Makes the kick signal interrupt `KVM_RUN` instead of ending the process.
///
/// # Errors
/// The system's reason.
pub fn install_kick() -> Result<(), vmm_sys_util::errno::Error> {
    extern "C" fn kicked(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    register_signal_handler(SIGRTMIN(), kicked)
}

/// A vCPU, with what is its own thread's and nobody else's.
#[derive(Debug)]
pub struct Vcpu {
    pub(crate) fd: VcpuFd,
    /// Of a machine that has them.
    pub(crate) counter: Option<Counter>,
}

impl From<VcpuFd> for Vcpu {
    fn from(fd: VcpuFd) -> Self {
        Self { fd, counter: None }
    }
}

/// Starts a vCPU's thread. It gives the vCPU back when it ends; with `pause` set, it ends between two instructions, with no
/// access pending, and the vCPU can be started again.
///
/// # Errors
/// The system has no thread left.
pub fn start(
    mut vcpu: Vcpu,
    index: u8,
    bus: Arc<Bus>,
    memory: GuestRam,
    pause: Arc<AtomicBool>,
) -> std::io::Result<JoinHandle<Vcpu>> {
    thread::Builder::new().name(format!("vcpu-{index}")).spawn(move || {
        let_the_monitor_first();
        // Set on unwinding too: a machine that lost a vCPU must not look like a guest that hangs.
        let mut guard = StopOnDrop { bus: &bus, armed: true };
        match run(&mut vcpu, &bus, &memory, &pause) {
            Left::Ended(cause) => bus.stop.set(cause),
            Left::Paused => {}
        }
        guard.armed = false;
        drop(guard);
        // The mapping outlives the thread's last entry into the guest, even if the machine's owner gave up on it.
        drop(memory);
        vcpu
    })
}

/// For threads that are the guest's or its hardware's. Where the monitor has a better priority than an ordinary process (the
/// nested host gives it one), these do not: a guest that spins or floods must not keep the monitor from the one CPU they
/// share. Linux counts priorities by thread (setpriority(2)).
pub fn let_the_monitor_first() {
    const ORDINARY: i32 = 0;
    if rustix::process::getpriority_process(None).is_ok_and(|nice| nice < ORDINARY) {
        // Only raising one's priority can be refused, and this lowers it.
        let _ = rustix::process::setpriority_process(None, ORDINARY);
    }
}

/// What came back from vCPU threads.
#[derive(Debug)]
pub struct Joined {
    /// The vCPUs, in the order of their threads.
    pub vcpus: Vec<Vcpu>,
    /// Each thread has left the guest.
    pub all_left: bool,
}

/// Ends vCPU threads after the machine's stop or pause was set: kicks each until it has left the guest. A thread that stays
/// is left behind, with its vCPU.
#[must_use]
pub fn join(threads: Vec<JoinHandle<Vcpu>>) -> Joined {
    let start = Instant::now();
    loop {
        let running = threads.iter().filter(|thread| !thread.is_finished());
        // It fails only for a thread that has ended.
        let kicked = running.filter(|thread| thread.kill(SIGRTMIN()).is_ok()).count();
        if kicked == 0 || start.elapsed() > JOIN_TIMEOUT {
            break;
        }
        thread::sleep(KICK_EVERY);
    }
    let all_left = threads.iter().all(JoinHandle::is_finished);
    // A panic in a thread was reported by its hook, and by the guard to the machine's owner.
    let vcpus = threads.into_iter().filter(JoinHandle::is_finished).filter_map(|thread| thread.join().ok()).collect();
    Joined { vcpus, all_left }
}

/// Reports a vCPU thread that ends without a cause.
struct StopOnDrop<'a> {
    bus: &'a Bus,
    armed: bool,
}

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.bus.stop.set(StopCause::InternalError("a vCPU's thread panicked; this is a bug of plugstorm".into()));
        }
    }
}

/// Why a vCPU left the guest for good.
enum Left {
    /// The machine is to end, or has.
    Ended(StopCause),
    /// The machine is paused.
    Paused,
}

fn run(vcpu: &mut Vcpu, bus: &Bus, memory: &GuestRam, pause: &AtomicBool) -> Left {
    loop {
        // One vCPU may end the machine: the others follow.
        if bus.stop.is_set() {
            return Left::Ended(StopCause::Stopped);
        }
        if pause.load(Ordering::Acquire) {
            return finish_access(vcpu, bus, memory).map_or_else(Left::Ended, |()| Left::Paused);
        }
        let done = if vcpu.counter.as_ref().is_some_and(Counter::is_to_start) {
            start_count(vcpu, bus, memory)
        } else {
            enter(vcpu, bus, memory).map(|_| ())
        };
        if let Err(cause) = done {
            return Left::Ended(cause);
        }
    }
}

/// Completes what the last exit left undone: the result of a read reaches the guest's register, and its instruction pointer
/// the next instruction, only at the next `KVM_RUN`, and KVM's calls for the state know nothing of it (api.rst, KVM_RUN).
/// With `immediate_exit` set that is all that `KVM_RUN` does before it fails with EINTR.
fn finish_access(vcpu: &mut Vcpu, bus: &Bus, memory: &GuestRam) -> Result<(), StopCause> {
    vcpu.fd.set_kvm_immediate_exit(1);
    let done = (0..MOST_PARTS).find_map(|_| match enter(vcpu, bus, memory) {
        Ok(Entered::Interrupted) => Some(Ok(())),
        Ok(Entered::Handled) => None,
        Err(cause) => Some(Err(cause)),
    });
    vcpu.fd.set_kvm_immediate_exit(0);
    let endless = || format!("an access of the guest did not end within {MOST_PARTS} exits");
    done.unwrap_or_else(|| Err(StopCause::InternalError(endless())))
}

/// Begins to count behind the access that has asked for it.
fn start_count(vcpu: &mut Vcpu, bus: &Bus, memory: &GuestRam) -> Result<(), StopCause> {
    // Before the rest of the access, which would be a step of it.
    with_counter(vcpu, memory, |counter, stepper| counter.forget(stepper))?;
    finish_access(vcpu, bus, memory)?;
    with_counter(vcpu, memory, |counter, stepper| counter.start(stepper))
}

/// Does something with the vCPU's counter, if it has one.
fn with_counter(
    vcpu: &mut Vcpu,
    memory: &GuestRam,
    does: impl FnOnce(&mut Counter, &Stepper<'_>) -> Result<(), SetupError>,
) -> Result<(), StopCause> {
    let Some(counter) = &mut vcpu.counter else { return Ok(()) };
    does(counter, &Stepper { vcpu: &vcpu.fd, memory }).map_err(|error| StopCause::InternalError(error.to_string()))
}

/// What one `KVM_RUN` came to.
enum Entered {
    /// An exit that was handled; the guest goes on at the next.
    Handled,
    /// A signal, or nothing to do.
    Interrupted,
}

/// Enters the guest until its next exit, and handles that.
fn enter(vcpu: &mut Vcpu, bus: &Bus, memory: &GuestRam) -> Result<Entered, StopCause> {
    let Vcpu { fd, counter } = vcpu;
    let mut entered = Entered::Handled;
    match fd.run() {
        Ok(VcpuExit::MmioRead(address, data)) => bus.memory_read(address, data),
        Ok(VcpuExit::MmioWrite(address, data)) => bus.memory_write(address, data),
        Ok(VcpuExit::IoIn(port, data)) => match counter {
            Some(counter) if instructions::claims(port) => counter.read(port, data),
            _ => bus.port_read(port, data),
        },
        Ok(VcpuExit::IoOut(port, data)) => match counter {
            Some(counter) if instructions::claims(port) => counter.write(port, data),
            _ => bus.port_write(port, data),
        },
        Ok(VcpuExit::Debug(step)) if counter.as_ref().is_some_and(Counter::is_counting) => {
            with_counter(vcpu, memory, |counter, stepper| counter.stepped(step.pc, stepper))?;
            return Ok(Entered::Handled);
        }
        Ok(VcpuExit::Shutdown) => return Err(StopCause::TripleFault),
        Ok(VcpuExit::Intr | VcpuExit::Hlt) => entered = Entered::Interrupted,
        Ok(VcpuExit::FailEntry(reason, cpu)) => {
            let reason = format!("entering the guest failed on CPU {cpu}, reason {reason:#x}");
            return Err(StopCause::InternalError(reason));
        }
        Ok(VcpuExit::InternalError) => return Err(internal_error(fd)),
        Ok(other) => {
            let reason = format!("an exit that this machine does not know: {other:?}");
            return Err(StopCause::InternalError(reason));
        }
        // EINTR is the kick; EAGAIN an INIT that has not arrived yet.
        Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => entered = Entered::Interrupted,
        Err(error) => return Err(StopCause::InternalError(format!("KVM_RUN failed: {error}"))),
    }
    with_counter(vcpu, memory, |counter, stepper| counter.settle(stepper))?;
    Ok(entered)
}

/// KVM met an instruction or state that it cannot emulate: says where.
fn internal_error(vcpu: &VcpuFd) -> StopCause {
    let place = vcpu.get_regs().map_or_else(|error| error.to_string(), |regs| format!("rip {:#x}", regs.rip));
    StopCause::InternalError(format!("KVM_EXIT_INTERNAL_ERROR at {place}"))
}
