//! Statistics of measured things, which know nothing of what was measured.
//!
//! Written for benchmarks of guests, where samples inside one boot are correlated: what comes in here is one value a boot. No
//! distribution is assumed: quantiles, ranks, and intervals by drawing again. Everything is deterministic: what is drawn comes
//! from a generator with a seed.
//!
//! - [`Values`]: finite numbers in order, at least one, and their quantiles.
//! - [`mann_whitney`]: do two groups differ?
//! - [`Bootstrap`]: where a median lies, or a ratio of two.
//! - [`holm`]: many questions asked at once.
//! - [`smallest_detectable`]: what would have been seen, where nothing was.

mod bootstrap;
mod detectable;
mod holm;
mod normal;
mod quantile;
mod rank;
#[cfg(test)]
mod simulated;

pub use bootstrap::{Bootstrap, Interval, LEAST_VALUES};
pub use detectable::smallest_detectable;
pub use holm::holm;
pub use quantile::Values;
pub use rank::{RankTest, least_p, mann_whitney};
