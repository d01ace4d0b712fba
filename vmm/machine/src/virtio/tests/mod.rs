//! The transport as a guest sees it, good or bad.

mod properties;
mod snapshots;
mod transport;
