//! How runs are shared out among nested machines.

use std::ops::{Range, RangeInclusive};
use std::sync::{Mutex, PoisonError};

/// Runs that one nested machine gets at most, and at least where there are as many: it takes some 20 s to start, and what it
/// dies of it may take with it.
const LOT: RangeInclusive<usize> = 8..=40;

/// Runs that no machine has been given yet.
pub(super) struct Queue {
    left: Mutex<Range<usize>>,
    machines: usize,
    /// The smallest lot.
    least: usize,
}

impl Queue {
    pub(super) fn new(runs: usize, machines: usize) -> Self {
        let least = runs.div_ceil(machines).min(*LOT.start()).max(1);
        Self { left: Mutex::new(0..runs), machines, least }
    }

    /// The next lot, in order: a fair share, so that all machines end at about the same time.
    pub(super) fn take(&self) -> Option<Vec<usize>> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let share = left.len().div_ceil(self.machines).clamp(self.least, (*LOT.end()).max(self.least));
        let lot: Vec<usize> = left.by_ref().take(share).collect();
        (!lot.is_empty()).then_some(lot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes of the lots; that they are all runs in order.
    fn lots(runs: usize, machines: usize) -> Vec<usize> {
        let queue = Queue::new(runs, machines);
        let lots: Vec<Vec<usize>> = std::iter::from_fn(|| queue.take()).collect();
        assert_eq!(lots.concat(), (0..runs).collect::<Vec<_>>());
        lots.iter().map(Vec::len).collect()
    }

    #[test]
    fn lots_are_fair_and_smaller_towards_the_end() {
        assert_eq!(lots(0, 2), [0; 0]);
        assert_eq!(lots(1, 1), [1]);
        assert_eq!(lots(8, 2), [4, 4]);
        assert_eq!(lots(5, 2), [3, 2]);
        assert_eq!(lots(100, 1), [40, 40, 20]);
        assert_eq!(lots(176, 2), [40, 40, 40, 28, 14, 8, 6]);
    }
}
