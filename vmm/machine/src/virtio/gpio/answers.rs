//! Answers: what they are, and those that are not given yet.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemoryMmap;

use super::faults::Fault;
use crate::state::StateError;
use crate::virtio::chain::{Chain, ChainState};

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

impl Wait {
    /// So long from now; what the clock cannot express is a stall.
    pub(super) fn after(delay: Duration, now: Instant) -> Self {
        now.checked_add(delay).map_or(Self::Stalled, Self::Until)
    }
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

/// An answer that is not given yet, as plain data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerState {
    /// The request.
    pub chain: ChainState,
    /// Its line; none for requests that are of no line.
    pub line: Option<u16>,
    /// The status to answer with.
    pub status: u8,
    /// The value to answer with.
    pub value: u8,
    /// The block of line names follows the status in place of the value.
    pub names: bool,
    /// What the answer waits for.
    pub wait: WaitState,
    /// What goes wrong with it.
    pub fault: Option<Fault>,
}

/// What an answer waits for, as plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum WaitState {
    /// A point in time. The host's clock means nothing to another host or after a boot, so what is saved is the time that
    /// was still to go; it begins to run again at the restore.
    Due {
        /// Nanoseconds to go; 0 if the answer could be given.
        in_ns: u64,
    },
    /// The owner's word.
    Stalled,
    /// Only for those before it.
    Turn,
}

impl Pending {
    fn state(&self, now: Instant) -> AnswerState {
        let &Self { ref chain, line, answer: Answer { status, value, names }, wait, fault } = self;
        let wait = match wait {
            Wait::Until(at) => {
                let to_go = at.saturating_duration_since(now).as_nanos();
                WaitState::Due { in_ns: u64::try_from(to_go).unwrap_or(u64::MAX) }
            }
            Wait::Stalled => WaitState::Stalled,
            Wait::Turn => WaitState::Turn,
        };
        AnswerState { chain: chain.state(), line, status, value, names, wait, fault }
    }

    fn from_state(state: &AnswerState, memory: &GuestMemoryMmap, now: Instant) -> Result<Self, StateError> {
        let &AnswerState { ref chain, line, status, value, names, wait, fault } = state;
        let wait = match wait {
            WaitState::Due { in_ns } => Wait::after(Duration::from_nanos(in_ns), now),
            WaitState::Stalled => Wait::Stalled,
            WaitState::Turn => Wait::Turn,
        };
        let answer = Answer { status, value, names };
        Ok(Self { chain: Chain::from_state(chain, memory)?, line, answer, wait, fault })
    }
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

    /// All of them, oldest first; those with a time to wait for as seen from `now`.
    pub(super) fn state(&self, now: Instant) -> Vec<AnswerState> {
        self.pending.iter().map(|pending| pending.state(now)).collect()
    }

    pub(super) fn from_state(
        state: &[AnswerState],
        memory: &GuestMemoryMmap,
        now: Instant,
    ) -> Result<Self, StateError> {
        let pending = state.iter().map(|answer| Pending::from_state(answer, memory, now));
        Ok(Self { pending: pending.collect::<Result<_, _>>()? })
    }

    /// The chains that wait.
    pub(super) fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.pending.iter().map(|pending| &pending.chain)
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
