//! The transport as a guest sees it.

mod transport;
