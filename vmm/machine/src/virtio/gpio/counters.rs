//! What a gpio device has done, in numbers.

use super::protocol::RequestKind;

/// Counts since the device was made; a reset by the guest does not clear them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GpioCounters {
    requests: [u64; RequestKind::ALL.len()],
    /// Requests answered with an error that was due.
    pub errors: u64,
    /// Buffers of a wrong shape: too short to hold a request or an answer.
    pub malformed: u64,
    /// Answers given back, late ones included, duplicates not.
    pub answers: u64,
    /// Interrupts: event buffers returned as valid.
    pub events: u64,
    /// Event buffers returned as invalid.
    pub events_invalid: u64,
    /// Edges that found the interrupt masked, each time the first since the last unmasking.
    pub edges_latched: u64,
    /// Faults carried out.
    pub faults: u64,
    /// Requests forgotten unanswered: the guest reset the device or its owner severed it.
    pub abandoned: u64,
}

impl GpioCounters {
    /// Requests of one kind.
    #[must_use]
    pub fn requests(&self, kind: RequestKind) -> u64 {
        self.requests.get(kind as usize).copied().unwrap_or(0)
    }

    /// Requests of all kinds.
    #[must_use]
    pub fn all_requests(&self) -> u64 {
        self.requests.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    pub(super) fn count_request(&mut self, kind: RequestKind) {
        if let Some(count) = self.requests.get_mut(kind as usize) {
            *count = count.saturating_add(1);
        }
    }
}

/// One more; a counter that is full stays full.
pub(super) fn bump(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
