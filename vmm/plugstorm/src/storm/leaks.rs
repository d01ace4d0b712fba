//! Memory that a guest's kernel has lost: asked for at the guest's end, where its kernel can tell.

use std::time::Duration;

use plugstorm_observe::splat::detect;
use plugstorm_wire::{FromGuest, MAX_LEAKS_BYTES, ToGuest};

use super::engine::{Storm, Trouble};
use super::hearing::{cut, readable_text};
use super::stuck::Stuck;
use crate::results::{EventKind, Finding, FindingKind};

/// The kernel scans all of its memory twice, with 5 s in between.
const TIME_OUT: Duration = Duration::from_secs(30);
/// Reports that are taken from one guest.
const MOST_REPORTS: usize = 1000;
/// A reason of the guest's is cut here, in bytes.
const REASON_BYTES: usize = 500;

impl Storm<'_> {
    /// Asks the guest, whose devices are gone by now or idle.
    pub(super) fn find_leaks(&mut self) -> Result<(), Trouble> {
        if !self.now.finds_leaks {
            return Ok(());
        }
        let id = self.id();
        self.set.guest.send(&ToGuest::FindLeaks { id })?;
        let time_out_ns = self.scaled(TIME_OUT);
        match self.answer(id, time_out_ns)? {
            Some((_, FromGuest::Leaks { ended_tsc, reports, left_out, .. })) => {
                self.leaks_told(&reports, left_out, ended_tsc)
            }
            Some((_, FromGuest::Done { error, .. })) => {
                let reason = cut(readable_text(&error.unwrap_or_default()), REASON_BYTES);
                self.record.warn(format!("leaks could not be looked for: {reason}"));
                Ok(())
            }
            // What the kernel has said already is why, and is found.
            None if self.tainted => Ok(()),
            None => Err(self.examine(Stuck::Leaks, time_out_ns)?),
            // No answer to this: the result will miss it.
            Some(_) => Ok(()),
        }
    }

    fn leaks_told(&mut self, reports: &[String], left_out: u64, tsc: u64) -> Result<(), Trouble> {
        self.record.leaks_looked_for += 1;
        let found = u64::try_from(reports.len()).unwrap_or(u64::MAX).saturating_add(left_out);
        self.guest_says(EventKind::LeaksLookedFor { found }, Some(tsc))?;
        if left_out > 0 {
            self.record.warn(format!("a guest lost {found} objects; {left_out} of them are not among the findings"));
        }
        for report in reports.iter().take(MOST_REPORTS) {
            let text = cut(readable_text(report), MAX_LEAKS_BYTES);
            for splat in detect(text.as_bytes()) {
                self.tainted = true;
                let mut finding = self.finding(FindingKind::Splat, splat.title, EXPLANATION.into());
                finding.alt_titles = splat.alt_titles;
                finding.splat = Some(text.clone());
                self.found(Finding { device: None, how: None, ..finding })?;
            }
        }
        Ok(())
    }
}

const EXPLANATION: &str = "At the guest's end its kernel was asked for memory that it lost since its start (kmemleak). In two scans it \
    met no pointer to this object. The stack says who allocated it, not who lost it.";
