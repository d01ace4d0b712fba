//! Values of a known distribution, for tests.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// So many values whose logarithms are normal: `median` times e to the power of `sigma` times a standard normal one.
pub(super) fn log_normal(seed: u64, n: usize, median: f64, sigma: f64) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = || {
        // Box and Muller's.
        let (one, other): (f64, f64) = (random.random(), random.random());
        (-2.0 * (1.0 - one).ln()).sqrt() * (std::f64::consts::TAU * other).cos()
    };
    (0..n).map(|_| median * (sigma * normal()).exp()).collect()
}
