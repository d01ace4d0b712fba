//! Self-tests in the kernel: a guest runs our module's KUnit suites, one for each design, and the host reads and judges what
//! they print.
//!
//! The kernel says what happened. What is to happen is known here: [`known`] has the failures that designs with a defect
//! must show, or may. [`listen`] hears a guest out; [`judge`] puts the two together; [`render`] shows it.

pub mod judge;
mod known;
pub mod listen;
pub mod render;

pub use judge::{Report, Verdict, judge};
pub use listen::{End, Heard, Limits, listen};
