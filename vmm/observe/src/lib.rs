//! What a guest's console and trace say, made into things one can count.
//!
//! - [`splat`]: console bytes in, kernel reports out, each with a stable title.
//! - [`trace`]: the kernel events plugstorm asks for, and lines of `trace_pipe` read back.
//! - [`timing`]: trace events paired into spans; grace periods and parts of a removal as histograms.
//! - [`ktap`]: what a kernel's self-tests print, counted; failures with what was said of them.
//! - [`kernel`]: a running kernel read out of its memory: symbols, stacks, tasks.
//! - [`place`]: functions with offsets in the lines of a report, for who turns them into files and lines.
//! - [`statistics`]: quantiles, rank tests and intervals, for measurements of any kind.
//! - [`hang`]: task stacks of a removal that does not end, read as "who waits for whom".
//!
//! Pure: no KVM, no files, no clock. Everything here reads what a broken kernel wrote, so nothing here trusts it: no
//! input makes it panic, loop for long or hold more than a stated number of bytes.
#![forbid(unsafe_code)]

pub mod hang;
pub mod kernel;
pub mod ktap;
pub mod place;
pub mod splat;
pub mod statistics;
pub mod symbol;
pub mod timing;
pub mod trace;
