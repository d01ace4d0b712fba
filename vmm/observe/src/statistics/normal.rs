//! The normal distribution's tails.

use statrs::function::erf::erfc;

/// How likely a standard normal variable is greater than this.
pub(super) fn above(z: f64) -> f64 {
    erfc(z / std::f64::consts::SQRT_2) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_scipys() {
        // scipy.stats.norm.sf(z), SciPy 1.17.
        for (z, expected) in [
            (0.0, 0.5),
            (1.0, 0.158_655_253_931_457_05),
            (1.959_963_984_540_054, 0.025),
            (5.0, 2.866_515_718_791_933e-7),
            (-2.0, 0.977_249_868_051_820_8),
        ] {
            assert!((above(z) / expected - 1.0).abs() < 1e-9, "{z}: {}", above(z));
        }
    }
}
