//! What a person sees while a storm runs: one moving line on a terminal, a plain line every few seconds elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Where a storm is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status<'a> {
    /// The scenario's name.
    pub scenario: &'a str,
    /// The cycle under way, from 0.
    pub cycle: u32,
    /// Cycles to do.
    pub cycles: u32,
    /// Guests booted.
    pub boots: u32,
    /// Removals that ended.
    pub removals: u64,
    /// Different findings so far.
    pub findings: usize,
    /// The agent of the guest is ready.
    pub ready: bool,
}

impl Status<'_> {
    fn line(&self) -> String {
        let state = if self.ready {
            format!("cycle {} of {}", self.cycle.saturating_add(1), self.cycles)
        } else {
            format!("boot {}", self.boots)
        };
        format!("{}: {state}, {} removals, {} findings", self.scenario, self.removals, self.findings)
    }
}

/// Shows where a storm is.
pub trait Progress {
    /// Called often: at each step and at least every 100 ms.
    fn show(&mut self, status: &Status<'_>);

    /// The storm has ended.
    fn end(&mut self);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn show(&mut self, _status: &Status<'_>) {}

    fn end(&mut self) {}
}

/// Shows it on standard error.
#[derive(Debug)]
pub struct Shown {
    bar: Option<ProgressBar>,
    last: Option<(Instant, String)>,
}

impl Default for Shown {
    fn default() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, last: None }
    }
}

impl Progress for Shown {
    fn show(&mut self, status: &Status<'_>) {
        let line = status.line();
        if let Some(bar) = &self.bar {
            bar.set_message(line);
            bar.tick();
            return;
        }
        let due = self.last.as_ref().is_none_or(|(at, last)| at.elapsed() >= PLAIN_EVERY && *last != line);
        if due {
            // Nobody may be listening; that is no reason to stop.
            let _ = writeln!(std::io::stderr(), "{line}");
            self.last = Some((Instant::now(), line));
        }
    }

    fn end(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
