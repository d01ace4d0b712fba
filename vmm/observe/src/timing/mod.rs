//! Trace events paired into spans of time, and what they add up to.
//!
//! Grace periods are split by who waited and by whether the kernel hurried: an idle SRCU domain is expedited, a busy one
//! waits for the timer, so the two together are bimodal and a mean of them means nothing.

mod apart;
mod domains;
mod render;
mod spans;
mod summary;

pub use apart::{PartSummary, RemovalPart, RemovalsApart};
pub use domains::{CallerDomains, DomainPlace, DomainWaits};
pub(crate) use render::duration;
pub use render::render_histogram;
pub use spans::{GracePeriodMode, OpenSpan, Timings};
pub use summary::{Bucket, GracePeriods, Mode, SpanSummary, Summary, TimingReport};
