//! The guest's time-stamp counter on the storm's clock, also where the guest was saved and gone on with: then its counter
//! stood still while the host's clock went on.

/// A reading of the counter, and the storm's clock at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) tsc: u64,
    pub(super) ns: u64,
}

/// The stretches of time in which one guest ran.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    khz: u32,
    /// First reading of each stretch that is over, and its last moment.
    over: Vec<(u64, Pair)>,
    /// First reading of the stretch that goes on.
    since_tsc: u64,
}

impl Timeline {
    /// Of a guest that starts now, with this counter, at this rate; 0 if KVM tells none.
    pub(super) fn new(since_tsc: u64, khz: u32) -> Self {
        Self { khz, over: Vec::new(), since_tsc }
    }

    /// The guest stopped at `last`, and goes on from about there: nothing that it does has an earlier reading.
    pub(super) fn interrupt(&mut self, last: Pair) {
        self.over.push((self.since_tsc, last));
        self.since_tsc = last.tsc;
    }

    /// When the counter showed this, told from `now`. Nothing for readings from before the guest was started here, or yet to
    /// come, or if the rate is not known.
    pub(super) fn to_ns(&self, tsc: u64, now: Pair) -> Option<u64> {
        let (_, reference) = if tsc >= self.since_tsc {
            (self.since_tsc, now)
        } else {
            *self.over.iter().rev().find(|(since, last)| (*since..=last.tsc).contains(&tsc))?
        };
        let ago = u128::from(reference.tsc.checked_sub(tsc)?);
        let ago_ns = (ago * 1_000_000).checked_div(u128::from(self.khz))?;
        reference.ns.checked_sub(u64::try_from(ago_ns).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One tick a nanosecond.
    const KHZ: u32 = 1_000_000;

    #[test]
    fn a_reading_is_as_long_ago_as_its_distance_says() {
        let timeline = Timeline::new(100, KHZ);
        let now = Pair { tsc: 1_000, ns: 50_000 };
        assert_eq!(timeline.to_ns(900, now), Some(49_900));
        assert_eq!(timeline.to_ns(1_000, now), Some(50_000));
        assert_eq!(timeline.to_ns(1_001, now), None, "yet to come");
        assert_eq!(timeline.to_ns(99, now), None, "before it was started here");
        assert_eq!(Timeline::new(0, 0).to_ns(900, now), None);
    }

    #[test]
    fn time_in_which_the_guest_stood_still_is_left_out() {
        let mut timeline = Timeline::new(0, KHZ);
        timeline.interrupt(Pair { tsc: 1_000, ns: 11_000 });
        // It stood still for 5000.
        timeline.interrupt(Pair { tsc: 2_000, ns: 17_000 });
        let now = Pair { tsc: 2_500, ns: 100_000 };
        assert_eq!(timeline.to_ns(400, now), Some(10_400));
        assert_eq!(timeline.to_ns(1_500, now), Some(16_500));
        assert_eq!(timeline.to_ns(2_400, now), Some(99_900));
    }
}
