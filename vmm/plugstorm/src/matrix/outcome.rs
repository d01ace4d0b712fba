//! From a run's result to its part in a cell.

use serde::{Deserialize, Serialize};

use crate::results::{FindingKind, HostKind, RunResult, VERSION, Verdict};
use crate::scenario::Design;

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Came {
    /// Nothing was found, and the evidence is complete.
    Passed,
    /// Something was found.
    Found {
        /// In which cycle, counted from 1.
        cycle: u32,
        /// A removal did not end.
        hung: bool,
        /// What, the most telling first.
        titles: Vec<Title>,
    },
    /// It proves nothing.
    Inconclusive {
        /// Why.
        reason: String,
    },
}

/// Something found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Title {
    /// Stable from run to run.
    pub title: String,
    /// Other titles of the same thing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alt_titles: Vec<String>,
    /// Of which kind.
    pub kind: FindingKind,
}

/// What a run ran on, as its result says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ground {
    /// The kernel's name, as it was asked for: it names the configuration.
    pub kernel: String,
    /// `uname -r`, as the guest said.
    pub release: Option<String>,
    /// Timer ticks a second.
    pub hz: Option<u32>,
    /// The preemption model; none where the kernel was built with one only.
    pub preemption: Option<String>,
    /// vCPUs.
    pub cpus: u8,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Whose KVM, in words.
    pub host: String,
}

impl Ground {
    /// Of a result. None if its guest never spoke: there is nothing to tell of.
    #[must_use]
    pub fn of(result: &RunResult) -> Option<Self> {
        let guest = &result.guest;
        guest.release.as_ref()?;
        Some(Self {
            kernel: guest.kernel.clone(),
            release: guest.release.clone(),
            hz: guest.hz,
            preemption: guest.preemption.clone(),
            cpus: guest.cpus,
            memory_bytes: guest.memory_bytes,
            host: match result.host.kind {
                HostKind::Kvm => "KVM of this machine".into(),
                HostKind::Nested => HostKind::Nested.describe().into(),
            },
        })
    }
}

/// Which run a result must be of.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// The scenario's name.
    pub scenario: &'a str,
    /// The design under all devices that our module drives.
    pub design: Design,
    /// The seed.
    pub seed: u64,
    /// The kernel, as it was asked for.
    pub kernel: &'a str,
    /// Cycles.
    pub cycles: u32,
    /// The version of plugstorm.
    pub plugstorm: &'a str,
}

impl Key<'_> {
    /// Is this the result of that run, and did it come to its end? The digests of the scenario's file and of the guest are the
    /// matrix's: its folder takes no other.
    #[must_use]
    pub fn fits(&self, result: &RunResult) -> bool {
        let devices = result.devices.iter().filter_map(|device| device.design);
        let ended = matches!(result.verdict, Verdict::Clean | Verdict::Found | Verdict::Inconclusive);
        ended
            && result.version == VERSION
            && result.plugstorm == self.plugstorm
            && result.scenario == self.scenario
            && result.seed == self.seed
            && result.guest.kernel == self.kernel
            && result.cycles.asked == self.cycles
            && devices.clone().count() > 0
            && devices.into_iter().all(|design| design == self.design)
    }
}

/// What came of the run with this result. None if it was interrupted or killed.
#[must_use]
pub fn came(result: &RunResult) -> Option<Came> {
    match result.verdict {
        Verdict::Running | Verdict::Interrupted => None,
        Verdict::Clean => Some(Came::Passed),
        Verdict::Inconclusive => {
            let reason = result.reason.clone().unwrap_or_else(|| "the result does not say why".into());
            Some(Came::Inconclusive { reason })
        }
        Verdict::Found => {
            let is_hang = |kind: FindingKind| kind == FindingKind::RemovalStuck;
            // A removal that hangs says more than what the kernel says of it: the same order as the verdict's.
            let (hangs, others): (Vec<_>, Vec<_>) = result.findings.iter().partition(|finding| is_hang(finding.kind));
            let titles = hangs.iter().chain(&others).map(|finding| Title {
                title: finding.title.clone(),
                alt_titles: finding.alt_titles.clone(),
                kind: finding.kind,
            });
            let first = result.findings.iter().map(|finding| finding.cycle).min().unwrap_or(0);
            Some(Came::Found { cycle: first.saturating_add(1), hung: !hangs.is_empty(), titles: titles.collect() })
        }
    }
}
