//! A removal that does not end, told as "who waits for whom".
//!
//! Evidence are two dumps of the guest's tasks, some time apart, the trace spans still open, and, where our module gives
//! them, the sums of an SRCU domain's counters.

mod explain;
mod frames;
mod stacks;

pub use explain::explain;
pub use stacks::{Clock, DomainBalance, Evidence, HangReport, Holder, Movement, StackedTask, Wait, WaitKind, Waiter};
