//! What a benchmark's boots gave, as it is kept and read back: nothing here is computed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::results::HostFacts;

/// The version of [`Header`] and [`Measurement`] as they are written. Another one is refused.
pub const VERSION: u32 = 1;

/// The measure that ends each boot: one sample, from the machine's start to the agent's first word, by the host's clock.
pub const BOOT: &str = "boot";

/// In the place of a measure of a boot that came to nothing: no samples, and why as its error. The boot may have been carried out again.
pub const LOST: &str = "lost";

/// The first line of `samples.jsonl`: what was measured where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub version: u32,
    /// The program's version.
    pub plugstorm: String,
    /// When it began, in seconds since 1970.
    pub started_unix_s: u64,
    /// Seed of the order of boots and of measures.
    pub seed: u64,
    /// What each boot measures, as a digest ([`super::plan::Wanted::digest`]): boots that measure something else are another benchmark.
    #[serde(default)]
    pub plan: String,
    /// The machine it ran on.
    pub host: HostFacts,
    /// What is compared, by the letter that boots name: `a` alone, or `a`, the base, and `b`.
    pub sides: BTreeMap<Side, SideFacts>,
}

/// Which of two things that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The base, or all there is.
    A,
    /// What is compared with it.
    B,
}

impl Side {
    /// `a` or `b`.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }
}

/// A side's guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideFacts {
    /// What the user calls its kernel.
    pub kernel: String,
    /// Where its modules come from, if not from the kernel's place in the cache.
    pub modules: Option<String>,
    /// The kernel's image and all that goes into its guest, as a digest: what was built anew is something else, whatever its name.
    #[serde(default)]
    pub made_of: String,
    /// `uname -r`.
    pub release: String,
    /// Timer ticks a second; 0 if the kernel does not tell.
    pub hz: u32,
    /// The preemption model, where the kernel tells.
    pub preemption: Option<String>,
    /// vCPUs.
    pub cpus: u32,
}

/// One measure in one boot: a line of `samples.jsonl` after the first. The last of a boot is always [`BOOT`]: without it the boot was
/// not completed, and what it has does not count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The boot, counted from 0 over both sides, in the order in which they ran.
    pub boot: u32,
    /// Of which side.
    pub side: Side,
    /// What was measured.
    pub measure: Measure,
    /// What came out, in the order of rounds and threads. Empty if it could not be measured.
    pub samples: Vec<Sample>,
    /// What else was said of it, by name: `locked`, the locked instructions of a pair.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, String>,
    /// Why it could not be measured, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What is measured: its kind, and its settings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Measure {
    /// `access`, `revoke`, …: the names that `guest/module/bench.h` lists.
    pub kind: String,
    /// The design; none for what has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub design: Option<String>,
    /// The other settings, as the module takes them: `threads` = `2`.
    pub settings: BTreeMap<String, String>,
}

/// One reading of a clock: so many nanoseconds for so many operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u32, u64, u64)", into = "(u32, u32, u64, u64)")]
pub struct Sample {
    /// Counted from 0.
    pub round: u32,
    /// Counted from 0.
    pub thread: u32,
    /// By the guest's clock; bytes, where what is measured is memory.
    pub value: u64,
    /// Operations (or objects) that `value` is of; never 0.
    pub count: u64,
}

impl From<(u32, u32, u64, u64)> for Sample {
    fn from((round, thread, value, count): (u32, u32, u64, u64)) -> Self {
        Self { round, thread, value, count: count.max(1) }
    }
}

impl From<Sample> for (u32, u32, u64, u64) {
    fn from(sample: Sample) -> Self {
        (sample.round, sample.thread, sample.value, sample.count)
    }
}

impl Sample {
    /// Of one operation.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a time in ns, far below 2^53")]
    pub fn each(self) -> f64 {
        self.value as f64 / self.count as f64
    }
}

/// `ROUND THREAD VALUE COUNT`, as the module and `plugstorm bench --serve` write them: decimal, one blank between.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.round, self.thread, self.value, self.count)
    }
}

/// A line that is no sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no sample: ROUND THREAD VALUE COUNT, and COUNT is not 0")]
pub struct NoSample;

impl FromStr for Sample {
    type Err = NoSample;

    fn from_str(line: &str) -> Result<Self, NoSample> {
        fn number<T: FromStr>(word: Option<&str>) -> Result<T, NoSample> {
            word.and_then(|word| word.parse().ok()).ok_or(NoSample)
        }
        let mut words = line.split(' ');
        let (round, thread) = (number(words.next())?, number(words.next())?);
        let (value, count) = (number(words.next())?, number(words.next())?);
        if count == 0 || words.next().is_some() {
            return Err(NoSample);
        }
        Ok(Self { round, thread, value, count })
    }
}

impl Measure {
    /// Its name in files that others read: `access/stack-token/context=process/objects=1/threads=2`. The sizes of the
    /// measurement itself (`rounds`, `loops`) are not in it.
    #[must_use]
    pub fn name(&self) -> String {
        let settings = self.settings.iter().filter(|(key, _)| !["rounds", "loops"].contains(&key.as_str()));
        let settings = settings.map(|(key, value)| format!("{key}={value}"));
        let head = [Some(self.kind.clone()), self.design.clone()].into_iter().flatten();
        head.chain(settings).collect::<Vec<_>>().join("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure() -> Measure {
        let settings = [("threads", "2"), ("rounds", "9"), ("context", "process")];
        Measure {
            kind: "access".into(),
            design: Some("stack-token".into()),
            settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        }
    }

    #[test]
    fn a_measure_has_the_same_name_whatever_its_size() {
        assert_eq!(measure().name(), "access/stack-token/context=process/threads=2");
    }

    #[test]
    fn a_measurement_is_read_back_and_no_count_is_zero() {
        let sample = Sample { round: 1, thread: 0, value: 500, count: 10 };
        let one = Measurement {
            boot: 3,
            side: Side::B,
            measure: measure(),
            samples: vec![sample],
            notes: BTreeMap::new(),
            error: None,
        };
        let text = serde_json::to_string(&one).unwrap();
        assert!(text.contains("\"samples\":[[1,0,500,10]]") && text.contains("\"side\":\"b\""), "{text}");
        assert_eq!(serde_json::from_str::<Measurement>(&text).unwrap(), one);
        assert_eq!(sample.to_string(), "1 0 500 10");
        assert_eq!("1 0 500 10".parse(), Ok(sample));
        for bad in ["1 0 5", "1 0 5 0", "1 0 -5 1", "1 0 5 1 1", "1  0 5 1", "4294967296 0 5 1", ""] {
            assert_eq!(bad.parse::<Sample>(), Err(NoSample), "{bad}");
        }
        let zero: Sample = serde_json::from_str("[0,0,7,0]").unwrap();
        assert!((zero.each() - 7.0).abs() < f64::EPSILON);
    }
}
