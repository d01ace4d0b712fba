//! How often the delay points that were armed have been reached: what was never reached has shown nothing.

use std::time::Duration;

use plugstorm_wire::{FromGuest, PointHits, ToGuest};

use super::engine::{Storm, Trouble};
use super::hearing::cut;
use super::stuck::Stuck;
use crate::results::EventKind;
use crate::scenario::Point;

/// A reason of the agent's is cut here, in bytes.
const REASON_BYTES: usize = 500;

/// The hits of one point, over all guests.
#[derive(Debug, Clone, Copy, Default)]
pub struct PointRecord {
    /// How often it was reached; nothing if no guest has told.
    pub hits: Option<u64>,
    /// How often whoever came was held there: each guest holds each so manieth that comes to it.
    pub turns: u64,
    /// What the guest that runs now told last.
    last: u32,
}

impl PointRecord {
    /// A guest begins; it counts from 0.
    fn begin(&mut self) {
        self.last = 0;
    }

    /// Takes what a guest has counted since it began. Its 32 bits may have gone round, once between two tellings.
    fn told(&mut self, hits: u32, every: u32) {
        let new = hits.wrapping_sub(self.last);
        let (from, to) = (u64::from(self.last), u64::from(self.last).saturating_add(u64::from(new)));
        let every = u64::from(every.max(1));
        self.turns = self.turns.saturating_add(to / every - from / every);
        self.last = hits;
        self.hits = Some(self.hits.unwrap_or(0).saturating_add(u64::from(new)));
    }
}

/// Takes what a guest says, of the points that it was told to arm and of each once.
fn take(records: &mut [PointRecord], points: &[Point], told: &[PointHits]) {
    for (record, point) in records.iter_mut().zip(points) {
        if let Some(told) = told.iter().find(|told| told.name == point.name) {
            record.told(told.hits, point.every);
        }
    }
}

impl Storm<'_> {
    /// A guest begins, and has armed the points.
    pub(super) fn points_armed(&mut self) {
        self.record.points.iter_mut().for_each(PointRecord::begin);
    }

    /// Takes what the guest says of them.
    pub(super) fn points_told(&mut self, told: &[PointHits], tsc: u64) -> Result<(), Trouble> {
        let points = &self.set.scenario.points;
        if points.is_empty() {
            return Ok(());
        }
        take(&mut self.record.points, points, told);
        let hits = points.iter().zip(&self.record.points).filter_map(|(point, record)| {
            let hits = record.hits?;
            Some((point.name.clone(), hits))
        });
        let hits = hits.collect();
        self.guest_says(EventKind::PointsReached { hits }, Some(tsc))
    }

    /// Asks the guest, at the end of a cycle.
    pub(super) fn ask_for_points(&mut self) -> Result<(), Trouble> {
        if self.set.scenario.points.is_empty() {
            return Ok(());
        }
        let id = self.id();
        self.set.guest.send(&ToGuest::ReadPoints { id })?;
        let time_out_ns = self.scaled(Duration::from_secs(5));
        match self.answer(id, time_out_ns)? {
            Some((_, FromGuest::Points { tsc, points, .. })) => self.points_told(&points, tsc),
            Some((_, FromGuest::Done { error, .. })) => {
                let reason = error.unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
                let reason = cut(reason, REASON_BYTES);
                self.record.warn(format!("a guest could not tell how often points were reached: {reason}"));
                Ok(())
            }
            // What the kernel has said already is why, and is found.
            None if self.tainted => Ok(()),
            None => Err(self.examine(Stuck::Points, time_out_ns)?),
            // No answer to this: the verdict will miss it.
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str) -> Point {
        Point { name: name.into(), delay: None, every: 1 }
    }

    fn told(name: &str, hits: u32) -> PointHits {
        PointHits { name: name.into(), hits }
    }

    #[test]
    fn hits_add_up_over_cycles_and_guests() {
        let points = [point("a.one"), point("a.two")];
        let mut records = [PointRecord::default(); 2];
        take(&mut records, &points, &[told("a.one", 5)]);
        take(&mut records, &points, &[told("a.one", 7)]);
        assert_eq!(records.map(|record| record.hits), [Some(7), None]);
        records.iter_mut().for_each(PointRecord::begin);
        take(&mut records, &points, &[told("a.two", 0), told("a.one", u32::MAX)]);
        // Round.
        take(&mut records, &points, &[told("a.one", 2)]);
        assert_eq!(records.map(|record| record.hits), [Some(7 + (1 << 32) + 2), Some(0)]);
    }

    #[test]
    fn turns_are_counted_in_each_guest() {
        let points = [Point { name: "a.one".into(), delay: None, every: 50 }];
        let mut records = [PointRecord::default()];
        for guest in 0..10 {
            records.iter_mut().for_each(PointRecord::begin);
            take(&mut records, &points, &[told("a.one", 30)]);
            assert_eq!((records[0].hits, records[0].turns), (Some(30 * (guest + 1)), 0));
        }
        for (hits, turns) in [(49, 0), (50, 1), (99, 1), (151, 3), (u32::MAX, u64::from(u32::MAX) / 50)] {
            take(&mut records, &points, &[told("a.one", hits)]);
            assert_eq!(records[0].turns, turns, "{hits}");
        }
    }

    #[test]
    fn what_a_guest_invents_is_bounded() {
        let points = [point("a.one")];
        let mut records = [PointRecord { hits: Some(u64::MAX - 3), turns: u64::MAX - 3, last: 0 }];
        take(&mut records, &points, &[told("b.one", 9), told("a.one", 7), told("a.one", 8), told("a.one", 9)]);
        assert_eq!(records[0].hits, Some(u64::MAX));
        assert_eq!((records[0].last, records[0].turns), (7, u64::MAX));
    }
}
