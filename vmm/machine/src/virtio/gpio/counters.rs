//! What a gpio device has done, in numbers.

use serde::{Deserialize, Serialize};

use super::protocol::RequestKind;

/// Counts since the device was made; a reset by the guest does not clear them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpioCounters {
    #[serde(with = "by_kind")]
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

/// The counts of requests by the kinds' names: a place in a list would mean another kind if one were added.
mod by_kind {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::RequestKind;

    type Counts = [u64; RequestKind::ALL.len()];

    pub(super) fn serialize<S: Serializer>(counts: &Counts, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(RequestKind::ALL.iter().zip(counts))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Counts, D::Error> {
        let counts = BTreeMap::<RequestKind, u64>::deserialize(deserializer)?;
        Ok(RequestKind::ALL.map(|kind| counts.get(&kind).copied().unwrap_or(0)))
    }
}

/// One more; a counter that is full stays full.
pub(super) fn bump(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
