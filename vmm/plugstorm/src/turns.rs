//! Work that several threads take in turn.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Calls `work` with 0, 1 and so on below `count`, with each number once and with up to `at_a_time` at once. None is begun
/// any more when `go_on` has said no. Returns when all that were begun have ended; how many these are.
pub(crate) fn take_turns(
    count: usize,
    at_a_time: usize,
    go_on: impl Fn() -> bool + Sync,
    work: impl Fn(usize) + Sync,
) -> usize {
    let next = AtomicUsize::new(0);
    let take = || {
        while go_on() {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= count {
                break;
            }
            work(turn);
        }
    };
    thread::scope(|scope| {
        for _ in 1..at_a_time.min(count) {
            // A system that has no thread left gets fewer at a time: this one works too.
            let _ = thread::Builder::new().name("turns".into()).spawn_scoped(scope, take);
        }
        take();
    });
    next.into_inner().min(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Barrier, Mutex};
    use std::time::Duration;

    #[test]
    fn each_has_its_turn_in_order() {
        let taken = Mutex::new(Vec::new());
        assert_eq!(take_turns(5, 1, || true, |turn| taken.lock().unwrap().push(turn)), 5);
        assert_eq!(*taken.lock().unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(take_turns(0, 4, || true, |_| unreachable!()), 0);
    }

    #[test]
    fn so_many_go_at_a_time_and_no_more() {
        // Each waits for two others: with fewer than three at a time this would never end.
        let (barrier, under_way, most) = (Barrier::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
        let begun = take_turns(
            9,
            3,
            || true,
            |_| {
                most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                barrier.wait();
                thread::sleep(Duration::from_millis(2));
                under_way.fetch_sub(1, Ordering::SeqCst);
            },
        );
        assert_eq!((begun, most.into_inner()), (9, 3));
    }

    #[test]
    fn none_is_begun_after_the_end_was_called_for() {
        let (taken, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let barrier = Barrier::new(2);
        let begun = take_turns(
            100,
            2,
            || ended.load(Ordering::SeqCst) == 0,
            |turn| {
                taken.fetch_add(1, Ordering::SeqCst);
                if turn == 7 {
                    ended.store(1, Ordering::SeqCst);
                }
                barrier.wait();
            },
        );
        // Those under way go on to their ends.
        assert_eq!((begun, taken.into_inner()), (8, 8));
    }
}
