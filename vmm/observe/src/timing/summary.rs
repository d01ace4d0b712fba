//! Samples as percentiles and buckets of powers of two.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::apart::RemovalsApart;
use super::domains::CallerDomains;
use super::spans::GracePeriodMode;
use crate::symbol::Symbol;
use crate::trace::Span;

/// A longer time is counted as this: 24 hours. It also bounds what a histogram can hold.
const LONGEST_NS: u64 = 86_400_000_000_000;
/// Percentiles are right to one part in a thousand.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Samples, added one by one. Holds at most about half a megabyte whatever is added.
#[derive(Debug)]
pub(super) struct Samples {
    histogram: Option<Histogram<u64>>,
    buckets: [u64; 64],
    n: u64,
    min_ns: u64,
    max_ns: u64,
}

impl Samples {
    pub(super) fn new() -> Self {
        // The bounds are constants that hdrhistogram accepts; without it only the percentiles would be missing.
        let histogram = Histogram::new(SIGNIFICANT_DIGITS).ok();
        Self { histogram, buckets: [0; 64], n: 0, min_ns: u64::MAX, max_ns: 0 }
    }

    pub(super) fn add(&mut self, ns: u64) {
        let ns = ns.min(LONGEST_NS);
        self.n = self.n.saturating_add(1);
        self.min_ns = self.min_ns.min(ns);
        self.max_ns = self.max_ns.max(ns);
        if let Some(bucket) = self.buckets.get_mut(bucket_of(ns)) {
            *bucket = bucket.saturating_add(1);
        }
        if let Some(histogram) = &mut self.histogram {
            // Resizes itself; `ns` is bounded, so it cannot fail.
            let _ = histogram.record(ns);
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.n
    }

    /// Nothing if there are no samples.
    pub(super) fn summary(&self) -> Option<Summary> {
        if self.n == 0 {
            return None;
        }
        let quantile = |share| {
            let value = self.histogram.as_ref().map_or(self.max_ns, |histogram| histogram.value_at_quantile(share));
            value.clamp(self.min_ns, self.max_ns)
        };
        let first = self.buckets.iter().position(|&count| count > 0)?;
        let last = self.buckets.iter().rposition(|&count| count > 0)?;
        let buckets = (first..=last)
            .filter_map(|index| Some(Bucket { upto_ns: upto_ns(index), count: *self.buckets.get(index)? }))
            .collect();
        Some(Summary {
            n: self.n,
            min_ns: self.min_ns,
            p50_ns: quantile(0.5),
            p90_ns: quantile(0.9),
            p99_ns: quantile(0.99),
            max_ns: self.max_ns,
            buckets,
        })
    }
}

/// Bucket `k` holds what is above 2^(k-1) ns and at most 2^k ns; bucket 0 holds 0 and 1 ns.
fn bucket_of(ns: u64) -> usize {
    let bits = u64::BITS - ns.saturating_sub(1).leading_zeros();
    bits as usize
}

fn upto_ns(bucket: usize) -> u64 {
    u32::try_from(bucket).ok().and_then(|bucket| 1_u64.checked_shl(bucket)).unwrap_or(u64::MAX)
}

/// How long something took, over all samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Samples.
    pub n: u64,
    /// The shortest, in nanoseconds.
    pub min_ns: u64,
    /// Half of the samples took no longer.
    pub p50_ns: u64,
    /// Nine in ten took no longer.
    pub p90_ns: u64,
    /// 99 in a hundred took no longer.
    pub p99_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
    /// Powers of two, from the first to the last that holds a sample, with the empty ones between them.
    pub buckets: Vec<Bucket>,
}

/// Samples of about the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// The greatest that belongs here; the least is just above half of it.
    pub upto_ns: u64,
    /// Samples in it.
    pub count: u64,
}

/// A hump of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// Its samples are longer than this.
    pub above_ns: u64,
    /// None of its samples is longer than this.
    pub upto_ns: u64,
    /// Its fullest bucket ends here.
    pub peak_upto_ns: u64,
    /// Samples in it.
    pub count: u64,
}

impl Summary {
    /// A summary of these samples; nothing if there are none.
    #[must_use]
    pub fn of(samples_ns: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut samples = Samples::new();
        samples_ns.into_iter().for_each(|ns| samples.add(ns));
        samples.summary()
    }

    /// The humps of the histogram, from short to long: two are apart where a bucket between them holds less than a
    /// tenth of the lower one's peak. A time that has two modes must not be told by one number.
    #[must_use]
    pub fn modes(&self) -> Vec<Mode> {
        let mut modes = Vec::new();
        let mut rest = self.buckets.as_slice();
        while let Some(end) = first_valley(rest) {
            let (head, tail) = rest.split_at(end);
            modes.extend(hump(head));
            rest = tail;
        }
        modes.extend(hump(rest));
        modes
    }
}

/// Where the first hump ends: the emptiest bucket between two peaks, if it is empty enough.
fn first_valley(buckets: &[Bucket]) -> Option<usize> {
    let mut peak = 0;
    for (index, bucket) in buckets.iter().enumerate() {
        peak = peak.max(bucket.count);
        let after = buckets.get(index + 1..)?;
        // The next peak: the greatest before the counts fall to a tenth again would do; the greatest of all is simpler
        // and finds the same valleys, since a valley only has to lie below the lower of the two.
        let next_peak = after.iter().map(|bucket| bucket.count).max()?;
        let deep = |count: u64| count.saturating_mul(10) < peak.min(next_peak);
        if deep(bucket.count) {
            let run = after.iter().take_while(|later| later.count <= bucket.count).count();
            return Some(index + run + 1);
        }
    }
    None
}

fn hump(buckets: &[Bucket]) -> Option<Mode> {
    let filled = |bucket: &&Bucket| bucket.count > 0;
    let first = buckets.iter().find(filled)?;
    let last = buckets.iter().rfind(filled)?;
    let peak = buckets.iter().rev().max_by_key(|bucket| bucket.count)?;
    Some(Mode {
        above_ns: first.upto_ns / 2,
        upto_ns: last.upto_ns,
        peak_upto_ns: peak.upto_ns,
        count: buckets.iter().fold(0, |sum, bucket| sum.saturating_add(bucket.count)),
    })
}

/// The grace periods that one caller waited for, in one mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GracePeriods {
    /// The function that called `synchronize_srcu`; nothing if the kernel did not tell.
    pub caller: Option<Symbol>,
    /// Whether the kernel hurried.
    pub mode: GracePeriodMode,
    /// How long they took.
    pub summary: Summary,
}

/// How long one part of removals took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanSummary {
    /// Which part.
    pub span: Span,
    /// How long it took.
    pub summary: Summary,
}

/// All that a trace adds up to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimingReport {
    /// Grace periods by caller and mode.
    pub grace_periods: Vec<GracePeriods>,
    /// Functions on the path of removals and adds, outermost first: one is inside the other.
    pub spans: Vec<SpanSummary>,
    /// What was waited for, by caller.
    #[serde(default)]
    pub domains: Vec<CallerDomains>,
    /// Removals taken apart: parts that follow each other.
    #[serde(default)]
    pub apart: RemovalsApart,
    /// Ends without a beginning: begun before the trace, or the beginning was lost.
    pub ends_alone: u64,
    /// Events the kernel or the agent said it lost. With any, an open span may in truth have ended.
    pub lost_events: u64,
    /// Spans that were not counted because the guest sent more callers or tasks than are kept.
    pub left_out: u64,
    /// Grace periods that are in all but `domains`, because there were more domains than are kept.
    #[serde(default)]
    pub domains_left_out: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_powers_of_two() {
        let summary = Summary::of([0, 1, 2, 3, 4, 5, 8, 9]).unwrap();
        let buckets: Vec<_> = summary.buckets.iter().map(|bucket| (bucket.upto_ns, bucket.count)).collect();
        assert_eq!(buckets, [(1, 2), (2, 1), (4, 2), (8, 2), (16, 1)]);
        assert_eq!((summary.n, summary.min_ns, summary.max_ns), (8, 0, 9));
    }

    #[test]
    fn percentiles_are_those_of_the_samples() {
        let summary = Summary::of((1..=1000).map(|sample| sample * 1000)).unwrap();
        assert_eq!(summary.p50_ns / 1000, 500);
        assert_eq!(summary.p90_ns / 1000, 900);
        assert_eq!(summary.p99_ns / 1000, 990);
    }

    #[test]
    fn extremes_are_survived() {
        let summary = Summary::of([u64::MAX, 0]).unwrap();
        assert_eq!((summary.min_ns, summary.max_ns), (0, LONGEST_NS));
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn an_idle_and_a_busy_domain_are_two_modes() {
        let fast = (0..90).map(|index| 9_000 + index * 10);
        let slow = (0..60).map(|index| 20_000_000 + index * 1000);
        let modes = Summary::of(fast.chain(slow)).unwrap().modes();
        assert_eq!(modes.len(), 2, "{modes:?}");
        assert_eq!((modes[0].count, modes[1].count), (90, 60));
        assert!(modes[0].upto_ns <= modes[1].above_ns);
    }

    #[test]
    fn one_hump_is_one_mode() {
        let modes = Summary::of((0..100).map(|index| 10_000 + index * 200)).unwrap().modes();
        assert_eq!(modes.len(), 1);
        assert_eq!(modes[0].count, 100);
    }
}
