//! Events in the order in which they happened. The file has them in the order in which the storm took them: what the guest
//! timed itself is told later than it happened, by some events or some thousands.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events held back at most.
const MOST_EVENTS: usize = 1 << 15;
/// What is held back at most, in bytes of the file.
const MOST_BYTES: usize = 16 << 20;

/// Sorts by time within a window of bounded size: whatever comes in, memory does not grow with the file.
#[derive(Debug)]
pub(super) struct Window<T> {
    held: BinaryHeap<Reverse<Held<T>>>,
    most: usize,
    bytes: usize,
    taken: u64,
}

#[derive(Debug)]
struct Held<T> {
    /// Time; then the order in which events were taken, so that what happened at once stays in order.
    key: (u64, u64),
    size: usize,
    event: T,
}

impl<T> PartialEq for Held<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<T> Eq for Held<T> {}

impl<T> PartialOrd for Held<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Held<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl<T> Window<T> {
    pub(super) fn new() -> Self {
        Self { held: BinaryHeap::new(), most: MOST_EVENTS, bytes: 0, taken: 0 }
    }

    /// Takes an event that happened at `at_ns` and whose line has so many bytes.
    pub(super) fn push(&mut self, at_ns: u64, size: usize, event: T) {
        self.held.push(Reverse(Held { key: (at_ns, self.taken), size, event }));
        self.taken = self.taken.saturating_add(1);
        self.bytes = self.bytes.saturating_add(size);
    }

    /// The earliest event, if the window is over full.
    pub(super) fn pop_over(&mut self) -> Option<T> {
        if self.held.len() > self.most || self.bytes > MOST_BYTES { self.pop() } else { None }
    }

    /// The earliest event.
    pub(super) fn pop(&mut self) -> Option<T> {
        let Reverse(held) = self.held.pop()?;
        self.bytes = self.bytes.saturating_sub(held.size);
        Some(held.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_happened_at_once_stays_in_order() {
        let mut window = Window::new();
        for (at_ns, event) in [(5, 'b'), (3, 'a'), (5, 'c')] {
            window.push(at_ns, 1, event);
            assert_eq!(window.pop_over(), None);
        }
        let order: String = std::iter::from_fn(|| window.pop()).collect();
        assert_eq!(order, "abc");
    }

    #[test]
    fn a_window_is_bounded_by_bytes_too() {
        let mut window = Window::new();
        window.push(1, MOST_BYTES, ());
        assert_eq!(window.pop_over(), None);
        window.push(2, 1, ());
        assert_eq!(window.pop_over(), Some(()));
        assert_eq!((window.pop_over(), window.bytes), (None, 1));
    }

    proptest! {
        #[test]
        fn events_that_are_late_by_less_than_the_window_are_sorted(late in proptest::collection::vec(0_u64..8, 0..200)) {
            let mut window = Window { most: 8, ..Window::new() };
            let mut sorted = Vec::new();
            for (index, late) in late.iter().enumerate() {
                let at_ns = (index as u64).saturating_sub(*late);
                window.push(at_ns, 1, at_ns);
                sorted.extend(window.pop_over());
                prop_assert!(window.held.len() <= 8);
            }
            sorted.extend(std::iter::from_fn(|| window.pop()));
            prop_assert!(sorted.is_sorted());
            prop_assert_eq!(sorted.len(), late.len());
        }
    }
}
