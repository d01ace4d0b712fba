//! Who runs first: the agent, then hammers. A hammer of many threads would otherwise keep the agent from starting the next
//! one, and from answering, for as long as the guest's CPUs are few and slow. Linux counts nice values by thread
//! (setpriority(2)), and a new thread or process has its parent's.

use rustix::process::{Pid, setpriority_process};

/// The agent, and the hammers' processes until their threads begin.
const AGENT_NICE: i32 = -10;
/// Threads that hammer: like those of any program.
const HAMMER_NICE: i32 = 0;

/// Puts the calling process before all hammers. Gives a sentence if the kernel refuses.
pub(crate) fn of_the_agent() -> Result<(), String> {
    set(AGENT_NICE)
}

/// Puts the calling thread where programs are.
pub(crate) fn of_a_hammer() -> Result<(), String> {
    set(HAMMER_NICE)
}

/// Puts another process where programs are.
pub(crate) fn of_a_program(pid: u32) -> Result<(), String> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    setpriority_process(process, HAMMER_NICE).map_err(|error| format!("cannot set the priority of {pid}: {error}"))
}

fn set(nice: i32) -> Result<(), String> {
    setpriority_process(None, nice).map_err(|error| format!("cannot set the priority {nice}: {error}"))
}
