//! What goes into a hang report and what comes out.

use serde::{Deserialize, Serialize};

use super::lock_waits::LockWait;
use super::locks::LockHolder;
use crate::timing::OpenSpan;

/// A task and where it is in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackedTask {
    /// Thread group.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Name.
    pub comm: String,
    /// `State:` of /proc/PID/status: R, S, D, …
    pub state: char,
    /// Context switches so far: whether it ran between two dumps.
    pub switches: u64,
    /// /proc/PID/stack, innermost first, such as `__synchronize_srcu+0xa5/0xc0`. The kernel leaves out the scheduler's
    /// own functions, locks and completions among them (`stack_trace_consume_entry_nosched()`).
    pub stack: Vec<String>,
    /// The hammer it belongs to.
    pub hammer: Option<String>,
    /// The call of that hammer it is in.
    pub operation: Option<String>,
}

/// Readers counted in and out of an SRCU domain, for each of its two indices, over all CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainBalance {
    /// What the domain protects, for people.
    pub name: String,
    /// Entries by index (`srcu_lock_count`).
    pub entered: [u64; 2],
    /// Exits by index (`srcu_unlock_count`).
    pub left: [u64; 2],
}

impl DomainBalance {
    /// Readers inside, by index, as the counters have it. A negative number, or one that no thread accounts for, is the
    /// mark of an index that was overwritten. The kernel's counters wrap, so this does too.
    #[must_use]
    pub fn inside(&self) -> [i64; 2] {
        let [entered0, entered1] = self.entered;
        let [left0, left1] = self.left;
        [entered0.wrapping_sub(left0).cast_signed(), entered1.wrapping_sub(left1).cast_signed()]
    }
}

/// The guest's clock, to say how long a span has been open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The guest's time-stamp counter at the second dump.
    pub now_ticks: u64,
    /// Its rate.
    pub tsc_khz: u64,
}

/// All there is to judge by. Everything but the first dump may be empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evidence<'a> {
    /// The first dump of tasks.
    pub first: &'a [StackedTask],
    /// The second one, some time later. Empty if it could not be had.
    pub second: &'a [StackedTask],
    /// Spans that have not ended ([`crate::timing::Timings::open`]).
    pub open: &'a [OpenSpan],
    /// The guest's clock.
    pub clock: Option<Clock>,
    /// Counters of the domains concerned.
    pub balances: &'a [DomainBalance],
    /// Who holds which locks, where the kernel has lockdep and said so.
    pub locks: &'a [LockHolder],
}

/// What a task waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WaitKind {
    /// For all readers of an SRCU domain.
    Srcu,
    /// For an RCU grace period.
    Rcu,
    /// For the device to say it has reset itself, asked again and again.
    DeviceReset,
    /// For a request that the device has to answer.
    DeviceAnswer,
    /// For an interrupt handler, a work item, a timer or a thread to end.
    Completion,
    /// In a wait of its own: the kernel's stack dump does not show which.
    Unnamed,
    /// For a lock, and so for whoever has it.
    Lock,
}

/// What a task waits in, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The sort of wait.
    pub kind: WaitKind,
    /// The function waited in: `synchronize_srcu`. Nothing for [`WaitKind::Unnamed`].
    pub function: Option<String>,
    /// The function that called it: `gpiochip_remove`.
    pub caller: String,
}

/// What a task did between the two dumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Movement {
    /// It did not run at all.
    Still,
    /// It ran and is where it was: it polls.
    SamePlace,
    /// It is somewhere else now.
    Elsewhere,
    /// There was no second dump with it.
    SeenOnce,
}

/// A task that executes a removal and does not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    /// Thread.
    pub tid: u32,
    /// Name.
    pub comm: String,
    /// The removal it executes: the outermost function that tells, such as `pciehp_ist`.
    pub removal: String,
    /// What it waits in.
    pub wait: Wait,
    /// Whether it moved.
    pub movement: Movement,
    /// For how long, where the trace tells, in nanoseconds.
    pub waited_ns: Option<u64>,
    /// Its stack, innermost first, shortened.
    pub stack: Vec<String>,
}

/// A thread inside the subsystem that is being taken down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Thread.
    pub tid: u32,
    /// Name.
    pub comm: String,
    /// The subsystem's function it is in: `linereq_read`.
    pub function: String,
    /// What that means, for people.
    pub doing: String,
    /// The hammer it belongs to.
    pub hammer: Option<String>,
    /// The hammer's call.
    pub operation: Option<String>,
    /// Whether it moved.
    pub movement: Movement,
    /// Its stack, innermost first, shortened.
    pub stack: Vec<String>,
}

/// A removal that does not end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HangReport {
    /// Stable from run to run: `removal never ends: gpiochip_remove waits in synchronize_srcu for linereq_read`.
    pub title: String,
    /// One paragraph for someone who has never seen the code.
    pub explanation: String,
    /// Who executes a removal, the one that the others wait for first. Empty if only the trace shows the hang.
    pub waiters: Vec<Waiter>,
    /// Who is inside, those that stand still first.
    pub waited_for: Vec<Holder>,
    /// Domains whose counters do not add up to nobody.
    pub unbalanced: Vec<DomainBalance>,
    /// The locks that these tasks have, and those that their locks lead to, where the kernel has lockdep and said so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<LockHolder>,
    /// Who of them waits for a lock, and for whose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lock_waits: Vec<LockWait>,
}
