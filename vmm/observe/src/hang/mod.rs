//! A removal that does not end, told as "who waits for whom".
//!
//! Evidence are two dumps of the guest's tasks, some time apart, the trace spans still open, and, where our module gives
//! them, the sums of an SRCU domain's counters; the locks that lockdep lists on the console. Of a guest that does not answer, the
//! machine reads where its processors are.

mod explain;
mod frames;
mod lock_waits;
mod locks;
mod processors;
mod stacks;

pub use explain::explain;
pub use lock_waits::{LockOwner, LockWait};
pub use locks::{HeldLock, LockHolder, LockReader};
pub use processors::{Doing, Executed, Processor, ProcessorReport, Progress};
pub use stacks::{Clock, DomainBalance, Evidence, HangReport, Holder, Movement, StackedTask, Wait, WaitKind, Waiter};
