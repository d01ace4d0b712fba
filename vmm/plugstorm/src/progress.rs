//! What a person sees while storms run: a moving line for each on a terminal, plain lines every few seconds elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

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
    fn line(&self, seed: u64) -> String {
        let state = if self.ready {
            format!("cycle {} of {}", self.cycle.saturating_add(1), self.cycles)
        } else {
            match self.boots {
                0 => "starting a guest".to_owned(),
                boots => format!("boot {boots}"),
            }
        };
        format!("{}, seed {seed}: {state}, {} removals, {} findings", self.scenario, self.removals, self.findings)
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

/// Where the runs of this process are shown: standard error.
#[derive(Debug, Clone)]
pub struct Board {
    bars: Option<MultiProgress>,
    /// Held by whoever writes.
    writing: Arc<Mutex<()>>,
}

impl Default for Board {
    fn default() -> Self {
        let bars = || MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        Self { bars: std::io::stderr().is_terminal().then(bars), writing: Arc::default() }
    }
}

impl Board {
    /// A place for the run with this seed.
    #[must_use]
    pub fn run(&self, seed: u64) -> Shown {
        Shown { seed, bar: self.line(), last: None, board: self.clone() }
    }

    /// A moving line, on a terminal.
    #[must_use]
    pub fn line(&self) -> Option<ProgressBar> {
        self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::no_length());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
                bar.set_style(style);
            }
            bar
        })
    }

    /// Calls what writes something else: nothing comes in between.
    pub fn aside<R>(&self, write: impl FnOnce() -> R) -> R {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }
}

/// Shows one run's place.
#[derive(Debug)]
pub struct Shown {
    seed: u64,
    bar: Option<ProgressBar>,
    last: Option<(Instant, String)>,
    board: Board,
}

impl Progress for Shown {
    fn show(&mut self, status: &Status<'_>) {
        // A storm does not wait for another's results to be read: it is shown the next time.
        let _writing = match self.board.writing.try_lock() {
            Err(TryLockError::WouldBlock) => return,
            Ok(writing) => writing,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        };
        let line = status.line(self.seed);
        if let Some(bar) = &self.bar {
            bar.set_message(line);
            bar.tick();
            return;
        }
        let due = self.last.as_ref().is_none_or(|(at, last)| at.elapsed() >= PLAIN_EVERY && *last != line);
        if due {
            // Nobody may be listening; that is no reason to stop.
            let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
            self.last = Some((Instant::now(), line));
        }
    }

    fn end(&mut self) {
        if let (Some(bar), Some(bars)) = (&self.bar, &self.board.bars) {
            bar.finish_and_clear();
            bars.remove(bar);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: Status<'_> =
        Status { scenario: "steady", cycle: 1, cycles: 9, boots: 1, removals: 4, findings: 0, ready: true };

    #[test]
    fn runs_can_be_told_apart() {
        assert_eq!(STATUS.line(7), "steady, seed 7: cycle 2 of 9, 4 removals, 0 findings");
    }

    #[test]
    fn a_run_is_not_held_up_by_what_another_writes() {
        let board = Board { bars: None, writing: Arc::default() };
        let mut shown = board.run(7);
        board.aside(|| shown.show(&STATUS));
        assert!(shown.last.is_none());
        shown.show(&STATUS);
        assert!(shown.last.is_some());
    }
}
