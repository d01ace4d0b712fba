//! Removals taken apart: what of each went by before the driver was asked, in the driver before and after it waited for readers,
//! in the wait itself, and on the bus afterwards.
//!
//! No event tells when a driver publishes its flag or frees what it had: these are stores and calls that every driver has
//! elsewhere. The wait is told, and what lies before and after it in the driver's function is what they belong to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::summary::{Samples, Summary};
use crate::trace::Span;

/// Tasks that are removing something, at a time.
const MAX_TASKS: usize = 1024;

/// A stretch of a removal. They follow each other, and together are all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RemovalPart {
    /// From the beginning (the hot-plug thread takes up the slot's event; a write to sysfs) to the driver's function.
    UntilDriver,
    /// In the driver, until it waits for readers for the first time: it publishes that the device has gone.
    UntilWait,
    /// From the beginning of its first wait for SRCU readers to the end of its last.
    Wait,
    /// Instead of the wait: the revoke, of a design that waits in another way or not at all.
    Revoke,
    /// In the driver, afterwards: it frees what it had.
    AfterWait,
    /// All of the driver's function, which neither waited nor revoked.
    Driver,
    /// From the driver's return to the end: the device leaves its buses.
    UntilGone,
}

impl RemovalPart {
    /// The part as words.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::UntilDriver => "until the driver is asked",
            Self::UntilWait => "in the driver, until it waits",
            Self::Wait => "waiting for readers",
            Self::Revoke => "revoke, without a grace period",
            Self::AfterWait => "in the driver, after the wait",
            Self::Driver => "in the driver, which did not wait",
            Self::UntilGone => "until the buses are done",
        }
    }
}

/// How long one part of removals took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSummary {
    /// Which.
    pub part: RemovalPart,
    /// How long it took.
    pub summary: Summary,
}

/// Removals taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalsApart {
    /// Removals in which a driver was asked to let go.
    pub removals: u64,
    /// Grace periods that drivers waited for in them.
    pub grace_periods: u64,
    /// Their parts, in the order of time.
    pub parts: Vec<PartSummary>,
}

/// A stretch of time, guest time-stamp counter.
type Stretch = (u64, u64);

/// A removal under way in one task.
#[derive(Debug)]
struct Removal {
    /// Its outermost span.
    outer: Span,
    since: u64,
    /// The driver's function, by how much is known of the driver: nothing in the place of its end while it runs.
    driver: Option<(Span, u64, Option<u64>)>,
    waits: Option<Stretch>,
    wait_count: u64,
    revoke: Option<Stretch>,
}

/// Takes removals apart, by task.
#[derive(Debug, Default)]
pub(super) struct Apart {
    tasks: BTreeMap<u32, Removal>,
    parts: BTreeMap<RemovalPart, Samples>,
    removals: u64,
    grace_periods: u64,
}

/// Where a removal may begin: the first of these that a task enters.
fn is_outer(span: Span) -> bool {
    !matches!(span, Span::AddBelowPort | Span::GracePeriod | Span::Revoke | Span::RemoveGpiochip)
}

/// How near a span is to the driver; nothing for those that are no driver's.
fn driver_rank(span: Span) -> Option<u8> {
    match span {
        // The bus asks whatever driver there is.
        Span::RemoveVirtioDevice => Some(0),
        Span::RemoveVirtioGpio | Span::RemovePlugstorm => Some(1),
        _ => None,
    }
}

impl Apart {
    /// A task enters a span.
    pub(super) fn begin(&mut self, pid: u32, span: Span, ticks: u64) {
        let is_new = self.tasks.get(&pid).is_none_or(|removal| removal.outer == span);
        if is_new {
            // If it is there already, its end was lost.
            self.tasks.remove(&pid);
            if is_outer(span) && self.tasks.len() < MAX_TASKS {
                let fresh =
                    Removal { outer: span, since: ticks, driver: None, waits: None, wait_count: 0, revoke: None };
                self.tasks.insert(pid, fresh);
            }
        }
        let (Some(removal), Some(rank)) = (self.tasks.get_mut(&pid), driver_rank(span)) else { return };
        let known = removal.driver.and_then(|(known, _, _)| driver_rank(known));
        if known.is_none_or(|known| known < rank) {
            removal.driver = Some((span, ticks, None));
        }
    }

    /// A task has left a span that it was in from `began` to `ended`.
    pub(super) fn end(&mut self, pid: u32, span: Span, (began, ended): Stretch, to_ns: impl Fn(u64) -> u64) {
        let Some(removal) = self.tasks.get_mut(&pid) else { return };
        match (span, &mut removal.driver) {
            (Span::GracePeriod, Some((_, _, None))) => {
                let first = removal.waits.map_or(began, |(first, _)| first);
                removal.waits = Some((first, ended));
                removal.wait_count += 1;
            }
            (Span::Revoke, Some((_, _, None))) => removal.revoke = Some((began, ended)),
            (span, Some((driver, _, end))) if span == *driver => *end = Some(ended),
            _ => {}
        }
        if span == removal.outer
            && let Some(removal) = self.tasks.remove(&pid)
        {
            self.add(&removal, ended, to_ns);
        }
    }

    /// Forgets what is under way.
    pub(super) fn forget(&mut self) {
        self.tasks.clear();
    }

    /// What it adds up to so far.
    pub(super) fn report(&self) -> RemovalsApart {
        let parts = self.parts.iter();
        let parts = parts.filter_map(|(part, samples)| Some(PartSummary { part: *part, summary: samples.summary()? }));
        RemovalsApart { removals: self.removals, grace_periods: self.grace_periods, parts: parts.collect() }
    }

    fn add(&mut self, removal: &Removal, ended: u64, to_ns: impl Fn(u64) -> u64) {
        // Without the driver's function it was an add, or its events were lost.
        let Some((_, asked, Some(returned))) = removal.driver else { return };
        self.removals = self.removals.saturating_add(1);
        self.grace_periods = self.grace_periods.saturating_add(removal.wait_count);
        let mut sample = |part, from: u64, to: u64| {
            self.parts.entry(part).or_insert_with(Samples::new).add(to_ns(to.saturating_sub(from)));
        };
        sample(RemovalPart::UntilDriver, removal.since, asked);
        let waited = removal.waits.map(|waits| (RemovalPart::Wait, waits));
        match waited.or_else(|| removal.revoke.map(|revoke| (RemovalPart::Revoke, revoke))) {
            Some((part, (from, to))) => {
                sample(RemovalPart::UntilWait, asked, from);
                sample(part, from, to);
                sample(RemovalPart::AfterWait, to, returned);
            }
            None => sample(RemovalPart::Driver, asked, returned),
        }
        sample(RemovalPart::UntilGone, returned, ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `spans`: entered (true) or left, in order, one millisecond apart; one tick is a nanosecond.
    fn apart(spans: &[(Span, bool)]) -> RemovalsApart {
        let mut apart = Apart::default();
        let mut open: Vec<(Span, u64)> = Vec::new();
        for ((span, enters), ms) in spans.iter().zip(1_u64..) {
            let now = ms * 1_000_000;
            if *enters {
                open.push((*span, now));
                apart.begin(7, *span, now);
            } else {
                let at = open.iter().rposition(|(other, _)| other == span).unwrap();
                let (_, began) = open.remove(at);
                apart.end(7, *span, (began, now), |ticks| ticks);
            }
        }
        apart.report()
    }

    fn told(apart: &RemovalsApart) -> Vec<(RemovalPart, u64, u64)> {
        apart.parts.iter().map(|part| (part.part, part.summary.n, part.summary.max_ns / 1_000_000)).collect()
    }

    #[test]
    fn a_surprise_removal_with_two_waits() {
        use Span::{GracePeriod, RemoveBelowPort, RemoveGpiochip, RemoveVirtioDevice, RemoveVirtioGpio, SlotEvent};
        let report = apart(&[
            (SlotEvent, true),
            (RemoveBelowPort, true),
            (RemoveVirtioDevice, true),
            (RemoveVirtioGpio, true),
            (RemoveGpiochip, true),
            (GracePeriod, true),
            (GracePeriod, false),
            (GracePeriod, true),
            (GracePeriod, false),
            (RemoveGpiochip, false),
            (RemoveVirtioGpio, false),
            (RemoveVirtioDevice, false),
            (GracePeriod, true),
            (GracePeriod, false),
            (RemoveBelowPort, false),
            (SlotEvent, false),
        ]);
        assert_eq!((report.removals, report.grace_periods), (1, 2));
        let expected = [
            (RemovalPart::UntilDriver, 1, 3),
            (RemovalPart::UntilWait, 1, 2),
            (RemovalPart::Wait, 1, 3),
            (RemovalPart::AfterWait, 1, 2),
            (RemovalPart::UntilGone, 1, 5),
        ];
        assert_eq!(told(&report), expected);
    }

    #[test]
    fn a_design_without_a_grace_period_is_told_by_its_revoke() {
        use Span::{RemovePlugstorm, RemoveVirtioDevice, RemoveVirtioPci, Revoke};
        let report = apart(&[
            (RemoveVirtioPci, true),
            (RemoveVirtioDevice, true),
            (RemovePlugstorm, true),
            (Revoke, true),
            (Revoke, false),
            (RemovePlugstorm, false),
            (RemoveVirtioDevice, false),
            (RemoveVirtioPci, false),
        ]);
        let parts: Vec<_> = report.parts.iter().map(|part| part.part).collect();
        use RemovalPart::{AfterWait, UntilDriver, UntilGone, UntilWait};
        assert_eq!(parts, [UntilDriver, UntilWait, RemovalPart::Revoke, AfterWait, UntilGone]);
    }

    #[test]
    fn a_driver_of_somebody_elses_and_an_add() {
        use Span::{AddBelowPort, GracePeriod, RemoveVirtioDevice, SlotEvent};
        let report = apart(&[
            (SlotEvent, true),
            (AddBelowPort, true),
            (GracePeriod, true),
            (GracePeriod, false),
            (AddBelowPort, false),
            (SlotEvent, false),
            (SlotEvent, true),
            // The end of this one was lost.
            (SlotEvent, true),
            (RemoveVirtioDevice, true),
            (RemoveVirtioDevice, false),
            (SlotEvent, false),
        ]);
        assert_eq!((report.removals, report.grace_periods), (1, 0));
        let expected = [(RemovalPart::UntilDriver, 1, 1), (RemovalPart::Driver, 1, 1), (RemovalPart::UntilGone, 1, 1)];
        assert_eq!(told(&report), expected);
    }
}
