//! Answers: what they are, and those that are not given yet.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Instant;

use super::faults::Fault;
use crate::virtio::chain::Chain;

/// What a request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u8,
    pub(super) value: u8,
    /// The block of line names follows the status in place of the value.
    pub(super) names: bool,
}

/// What an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// A point in time.
    Until(Instant),
    /// The owner's word.
    Stalled,
    /// Only for those before it: a line's requests are answered in their order (virtio 1.2, 5.18.6.9).
    Turn,
}

/// An answer that is ready but not given.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) chain: Chain,
    /// None for requests that are of no line.
    pub(super) line: Option<u16>,
    pub(super) answer: Answer,
    pub(super) wait: Wait,
    pub(super) fault: Option<Fault>,
}

/// All answers not given yet, oldest first. As many as the queue has descriptors at most.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pending: VecDeque<Pending>,
}

impl Answers {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether a line has answers to wait for.
    pub(super) fn has(&self, line: u16) -> bool {
        self.pending.iter().any(|pending| pending.line == Some(line))
    }

    pub(super) fn push(&mut self, pending: Pending) {
        self.pending.push_back(pending);
    }

    /// The earliest time at which an answer is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = |pending: &Pending| match pending.wait {
            Wait::Until(at) => Some(at),
            Wait::Stalled | Wait::Turn => None,
        };
        self.pending.iter().filter_map(due).min()
    }

    /// Lets go of what is stalled.
    pub(super) fn release(&mut self) {
        for pending in &mut self.pending {
            if pending.wait == Wait::Stalled {
                pending.wait = Wait::Turn;
            }
        }
    }

    /// Takes out all that may be given now, in order.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Pending> {
        let mut blocked = BTreeSet::new();
        let (mut due, mut later) = (Vec::new(), VecDeque::new());
        for pending in self.pending.drain(..) {
            let ready = match pending.wait {
                Wait::Until(at) => at <= now,
                Wait::Stalled => false,
                Wait::Turn => true,
            };
            if ready && !pending.line.is_some_and(|line| blocked.contains(&line)) {
                due.push(pending);
            } else {
                blocked.extend(pending.line);
                later.push_back(pending);
            }
        }
        self.pending = later;
        due
    }

    /// Forgets everything; gives how many there were.
    pub(super) fn clear(&mut self) -> usize {
        let count = self.pending.len();
        self.pending.clear();
        count
    }
}
