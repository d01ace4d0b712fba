//! Locks that the threads of a hang hold, as lockdep listed them.

use plugstorm_observe::hang::LockHolder;

use super::text::one_line;
use crate::results::Finding;

/// Locks that are shown of one finding.
const MOST_LOCKS: usize = 64;

/// A lock that a thread holds, or waits for: lockdep lists both, since a lock is
/// entered before it is had (`lock_acquire()` in kernel/locking/lockdep.c, called at the beginning of `__mutex_lock_common()`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// `irq/25-pciehp (thread 38)`.
    pub(super) whose: String,
    /// Its class.
    pub(super) lock: String,
    /// Where it is.
    pub(super) instance: String,
    /// The function that takes it.
    pub(super) taken_in: String,
    /// Other threads of the hang that have the same one in their list.
    pub(super) also: Vec<String>,
}

pub(super) fn of(finding: &Finding) -> Vec<Held> {
    let holders = finding.hang.as_ref().map(|hang| hang.locks.as_slice()).unwrap_or_default();
    let all = holders.iter().flat_map(|holder| holder.locks.iter().map(move |lock| (holder, lock)));
    all.take(MOST_LOCKS)
        .map(|(holder, lock)| {
            let others = holders.iter().filter(|other| {
                other.tid != holder.tid && other.locks.iter().any(|same| same.instance == lock.instance)
            });
            Held {
                whose: name(holder),
                lock: one_line(&lock.name),
                instance: one_line(&lock.instance),
                taken_in: one_line(&lock.taken_in),
                also: others.map(name).collect(),
            }
        })
        .collect()
}

fn name(holder: &LockHolder) -> String {
    one_line(&format!("{} (thread {})", holder.comm, holder.tid))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_lock_that_two_threads_list_says_so() {
        let held = of(&sample::hang_and_splat().findings[0]);
        let told: Vec<_> = held.iter().map(|held| (held.lock.as_str(), held.also.len())).collect();
        assert_eq!(told, [("&dev->mutex", 1), ("&plugstorm->list", 0), ("&dev->mutex", 1)]);
        assert_eq!(held[0].also, ["kworker/1:2 (thread 44)"]);
        assert!(of(&sample::silent().findings[0]).is_empty());
    }
}
