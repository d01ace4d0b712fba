//! All that a benchmark comes to, in one place: for the command line.

use plugstorm_observe::statistics::Bootstrap;

use super::compare::{Comparison, own_side};
use super::formats::{self, Format, RenderError};
use super::gate::{Verdict, judge};
use super::model::Side;
use super::plot;
use super::pool::Pool;
use super::summary::{REFERENCE, Summary};
use crate::results::HostKind;

/// What the user may choose.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The design that others are told as multiples of.
    pub reference: String,
    /// What is refused: 1.1 is slower, or larger, by a tenth. None: nothing.
    pub gate: Option<f64>,
    /// Draws of each interval.
    pub draws: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { reference: REFERENCE.to_owned(), gate: None, draws: Bootstrap::default().draws }
    }
}

/// A benchmark, worked out.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// What was measured.
    pub pool: Pool,
    /// What each measure comes to.
    pub summary: Summary,
    /// The side that was measured for its own sake: `b` where there are two.
    pub side: Side,
    /// Against the other side, or a baseline.
    pub comparison: Option<Comparison>,
    /// What the gate says of it.
    pub verdict: Option<Verdict>,
    /// The gate.
    pub gate: Option<f64>,
}

impl Results {
    /// Of a pool: compared with `baseline`, another benchmark, or else with its own side `a`, if it has two.
    #[must_use]
    pub fn of(pool: Pool, baseline: Option<&Pool>, options: &Options) -> Self {
        let bootstrap = Bootstrap { draws: options.draws, ..Bootstrap::default() };
        let comparison = match baseline {
            Some(base) => Some(Comparison::between(base, &pool, bootstrap)),
            None => Comparison::within(&pool, bootstrap),
        };
        let verdict = comparison.as_ref().map(|comparison| judge(comparison, options.gate));
        let summary = Summary::with(&pool, &options.reference, bootstrap);
        Self { side: own_side(&pool), pool, summary, comparison, verdict, gate: options.gate }
    }

    /// The exit code: the gate's; 0 where nothing is compared.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.verdict.as_ref().map_or(crate::verdict::EXIT_CLEAN, Verdict::exit_code)
    }

    /// Whether times are what they are on hardware. Where they are not, only ratios and counts are told.
    #[must_use]
    pub fn has_times(&self) -> bool {
        self.pool.header.host.kind == HostKind::Kvm
    }

    /// As text of this format. `width` is of the terminal's table alone; `origin` is the sender's name in KCIDB.
    ///
    /// # Errors
    /// [`RenderError`].
    pub fn render(&self, format: Format, width: usize, origin: &str) -> Result<String, RenderError> {
        formats::render(self, format, width, origin)
    }

    /// Plots: each a file's name, and its SVG.
    #[must_use]
    pub fn plots(&self) -> Vec<(&'static str, String)> {
        plot::all(self)
    }
}
