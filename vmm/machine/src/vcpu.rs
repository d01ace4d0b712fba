//! A vCPU's thread: runs the guest, hands its accesses to the bus, ends when the machine does.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kvm_ioctls::{VcpuExit, VcpuFd};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use crate::bus::Bus;
use crate::memory::GuestRam;
use crate::stop::StopCause;

/// How long threads may take to leave the guest. They leave at the next signal; the bound is for a kernel that is stuck.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// A signal that arrives just before `KVM_RUN` has no effect: it is repeated at this distance.
const KICK_EVERY: Duration = Duration::from_millis(1);

/// Makes the kick signal interrupt `KVM_RUN` instead of ending the process.
///
/// # Errors
/// The system's reason.
pub fn install_kick() -> Result<(), vmm_sys_util::errno::Error> {
    extern "C" fn kicked(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    register_signal_handler(SIGRTMIN(), kicked)
}

/// Starts a vCPU's thread.
///
/// # Errors
/// The system has no thread left.
pub fn start(mut vcpu: VcpuFd, index: u8, bus: Arc<Bus>, memory: GuestRam) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(format!("vcpu-{index}")).spawn(move || {
        let_the_monitor_first();
        // Set on unwinding too: a machine that lost a vCPU must not look like a guest that hangs.
        let guard = StopOnDrop(&bus);
        let cause = run(&mut vcpu, &bus);
        bus.stop.set(cause);
        drop(guard);
        // The mapping outlives the thread's last entry into the guest, even if the machine's owner gave up on it.
        drop(memory);
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

/// Ends vCPU threads after the machine's stop was set: kicks each until it has left the guest. False if one stayed.
pub fn join(threads: Vec<JoinHandle<()>>) -> bool {
    let start = Instant::now();
    let (mut finished, mut running): (Vec<_>, Vec<_>) = (Vec::new(), threads);
    while !running.is_empty() && start.elapsed() <= JOIN_TIMEOUT {
        for thread in &running {
            // It fails only for a thread that has ended.
            let _ = thread.kill(SIGRTMIN());
        }
        thread::sleep(KICK_EVERY);
        let (ended, left): (Vec<_>, Vec<_>) = running.into_iter().partition(JoinHandle::is_finished);
        finished.extend(ended);
        running = left;
    }
    for thread in finished {
        // A panic in the thread was reported by its hook, and by the guard to the machine's owner.
        let _ = thread.join();
    }
    running.is_empty()
}

/// Reports a vCPU thread that ends without a cause.
struct StopOnDrop<'a>(&'a Bus);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        if !self.0.stop.is_set() {
            self.0.stop.set(StopCause::InternalError("a vCPU's thread panicked; this is a bug of plugstorm".into()));
        }
    }
}

fn run(vcpu: &mut VcpuFd, bus: &Bus) -> StopCause {
    loop {
        // One vCPU may end the machine: the others follow.
        if bus.stop.is_set() {
            return StopCause::Stopped;
        }
        match vcpu.run() {
            Ok(VcpuExit::MmioRead(address, data)) => bus.memory_read(address, data),
            Ok(VcpuExit::MmioWrite(address, data)) => bus.memory_write(address, data),
            Ok(VcpuExit::IoIn(port, data)) => bus.port_read(port, data),
            Ok(VcpuExit::IoOut(port, data)) => bus.port_write(port, data),
            Ok(VcpuExit::Shutdown) => return StopCause::TripleFault,
            Ok(VcpuExit::Intr | VcpuExit::Hlt) => {}
            Ok(VcpuExit::FailEntry(reason, cpu)) => {
                return StopCause::InternalError(format!("entering the guest failed on CPU {cpu}, reason {reason:#x}"));
            }
            Ok(VcpuExit::InternalError) => return internal_error(vcpu),
            Ok(other) => {
                let reason = format!("an exit that this machine does not know: {other:?}");
                return StopCause::InternalError(reason);
            }
            // EINTR is the kick; EAGAIN an INIT that has not arrived yet.
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
            Err(error) => return StopCause::InternalError(format!("KVM_RUN failed: {error}")),
        }
    }
}

/// KVM met an instruction or state that it cannot emulate: says where.
fn internal_error(vcpu: &VcpuFd) -> StopCause {
    let place = vcpu.get_regs().map_or_else(|error| error.to_string(), |regs| format!("rip {:#x}", regs.rip));
    StopCause::InternalError(format!("KVM_EXIT_INTERNAL_ERROR at {place}"))
}
