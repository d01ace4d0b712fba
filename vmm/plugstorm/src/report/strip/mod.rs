//! What happened around a finding, as a strip: tracks of marks and bars over one axis of time.
//!
//! [`window`] takes the events around a finding out of a run's `events.jsonl`, [`tracks`] makes them into marks, [`axis`] says
//! where a time is drawn: stretches in which nothing happens are left out, since a removal that hangs is milliseconds of doing
//! and seconds of waiting.

mod axis;
mod tracks;
mod window;

pub(super) use axis::{Axis, Tick};
pub(super) use window::Window;

use super::{Distinct, Run};

/// A strip.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Strip {
    /// What time is told from: the removal, or what else was asked for last before the finding.
    pub(super) zero: Zero,
    /// From the first thing that is drawn to the last, on the run's clock.
    pub(super) begin_ns: u64,
    /// See [`Self::begin_ns`].
    pub(super) end_ns: u64,
    /// From the host to the innermost of the guest.
    pub(super) tracks: Vec<Track>,
    /// Marks that were left out.
    pub(super) left_out: usize,
}

/// Where time begins to count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Zero {
    /// On the run's clock.
    pub(super) at_ns: u64,
    /// What happened then.
    pub(super) what: String,
}

/// Marks of one sort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Track {
    /// Whose.
    pub(super) name: &'static str,
    /// In the order of their beginnings.
    pub(super) marks: Vec<Mark>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// When, or from when.
    pub(super) at_ns: u64,
    /// How long.
    pub(super) extent: Extent,
    /// In which row of the track, from 0: a bar inside another is below it.
    pub(super) row: usize,
    /// What.
    pub(super) text: String,
    /// How it is drawn.
    pub(super) tone: Tone,
}

/// How long something took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// No time.
    Point,
    /// Until then.
    Until(u64),
    /// It had not ended when the finding was made.
    Open,
}

/// How something is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Tone {
    /// As others of its track.
    Plain,
    /// What was asked for.
    Asked,
    /// What is the finding, or did not end.
    Bad,
}

impl Mark {
    /// Where it ends in a strip that ends so.
    pub(super) fn end_ns(&self, strip_end_ns: u64) -> u64 {
        match self.extent {
            Extent::Point => self.at_ns,
            Extent::Until(end_ns) => end_ns,
            Extent::Open => strip_end_ns,
        }
    }
}

/// The strips of findings, each around where it was met first, by the findings' places. Of those without events there is none.
pub(super) fn of_findings(findings: &[Distinct], runs: &[Run]) -> Vec<Option<Strip>> {
    let mut strips: Vec<Option<Strip>> = vec![None; findings.len()];
    let mut left: Vec<(usize, usize, &str)> = Vec::new();
    for (place, found) in findings.iter().enumerate() {
        let Some((_, finding)) = found.first(runs) else { continue };
        let run = found.seen.first().map_or(0, |seen| seen.run);
        left.push((run, place, &finding.title));
    }
    left.sort_unstable();
    // A run's events are read once, whatever it found first.
    for of_run in left.chunk_by(|one, other| one.0 == other.0) {
        let Some(run) = of_run.first().and_then(|(run, ..)| runs.get(*run)) else { continue };
        let titles: Vec<&str> = of_run.iter().map(|(.., title)| *title).collect();
        // What cannot be read gives no strip: the finding stands without.
        let of_titles = window::of_file(&run.folder, &titles, tracks::strip).unwrap_or_default();
        for ((_, place, _), found) in of_run.iter().zip(of_titles) {
            if let Some(strip) = strips.get_mut(*place) {
                *strip = found.flatten();
            }
        }
    }
    strips
}
