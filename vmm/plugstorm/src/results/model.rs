//! The shape of `result.json`, version 1. Fields may be added within a version; none changes its meaning.

use plugstorm_observe::hang::{HangReport, ProcessorReport};
use plugstorm_observe::timing::{Summary, TimingReport};
use plugstorm_wire::{ErrnoCount, ExitCount, ModuleOutcome, Operation, ProbeFailure, Sharing};
use serde::{Deserialize, Serialize};

use super::origin::Origin;
use crate::scenario::{Cpu, Design, GoneReads, How};

/// The version of [`RunResult`].
pub const VERSION: u32 = 1;

/// Everything that one run found out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// [`VERSION`].
    pub version: u32,
    /// The version of plugstorm.
    pub plugstorm: String,
    /// What came out. `running` in a file means that the run was killed before it could say.
    pub verdict: Verdict,
    /// Why, in one sentence, for every verdict but `running` and `clean`.
    pub reason: Option<String>,
    /// The scenario's name.
    pub scenario: String,
    /// What the scenario is for.
    pub about: String,
    /// The seed that decided every pause and choice.
    pub seed: u64,
    /// What it takes to run it again. None in results of earlier versions.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// When the run began, in seconds since 1970.
    pub started_unix_s: u64,
    /// How long it took, in nanoseconds.
    pub duration_ns: u64,
    /// What ended it, whatever it found until then.
    #[serde(default)]
    pub ended_by: EndedBy,
    /// What it ran on.
    pub host: HostFacts,
    /// What plugstorm held after its first guest was gone and after the last: a difference is something left behind. None
    /// where the system does not tell, or only one guest was started.
    #[serde(default)]
    pub holdings: Option<(Holdings, Holdings)>,
    /// The guest.
    pub guest: GuestFacts,
    /// Its devices.
    pub devices: Vec<DeviceFacts>,
    /// Delay points of our module that were armed: with them, races are lost more often than they would be.
    #[serde(default)]
    pub points: Vec<PointFacts>,
    /// What all time-outs were multiplied by.
    pub slowdown: Slowdown,
    /// Cycles.
    pub cycles: Cycles,
    /// What each hammer did, over all cycles.
    pub hammers: Vec<HammerTotals>,
    /// Removals, by way.
    pub removals: Vec<RemovalTotals>,
    /// From plugging in (or binding, or rescanning) to the device node, in nanoseconds.
    pub adds: Option<Summary>,
    /// From the start of the vCPUs to the agent's first message, in nanoseconds.
    pub boots: Option<Summary>,
    /// From the beginning of a restore to the agent's being ready for a cycle, in nanoseconds.
    #[serde(default)]
    pub forks: Option<Summary>,
    /// From the beginning of a guest to the first hot-plug event that its kernel took note of.
    #[serde(default)]
    pub first_events: FirstEvents,
    /// From the guest's own trace: grace periods by caller, parts of removals, and how many events were lost.
    pub timings: TimingReport,
    /// Guests whose kernels were asked at their end for memory that nobody points to any more. 0 where the kernel cannot tell
    /// (CONFIG_DEBUG_KMEMLEAK).
    #[serde(default)]
    pub leaks_looked_for: u32,
    /// What was found, each once, in the order of their first appearance.
    pub findings: Vec<Finding>,
    /// Findings that came when as many were there as are kept. Nothing is known of them: such a run is never accepted.
    #[serde(default)]
    pub findings_left_out: u64,
    /// The console.
    pub console: ConsoleTotals,
    /// The channel to the agent.
    pub channel: ChannelTotals,
    /// Things worth knowing that change no verdict, one sentence each.
    pub warnings: Vec<String>,
}

/// What came out of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Not ended yet, or killed.
    Running,
    /// Every cycle completed, every hammer at work in every cycle, every removal seen and finished, no splat.
    Clean,
    /// There are findings.
    Found,
    /// No findings, and not enough evidence to call it clean: the machine or the set-up failed.
    Inconclusive,
    /// A signal ended it before it found anything.
    Interrupted,
}

/// What ended a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    /// Its last cycle, or a finding after which it was to end. What results of earlier versions do not tell.
    #[default]
    Itself,
    /// A signal.
    Signal,
    /// What the user asked for cannot be had.
    User,
    /// The guest, the set-up or the agent failed. In results of earlier versions also what is [`Self::Host`] now.
    Machine,
    /// The host failed, or the disk for the results is full: it would have been so with any guest.
    Host,
}

/// The KVM that guests ran on, and its speed, as the probe measured it just before the first run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Whose KVM.
    pub kind: HostKind,
    /// Rounds of a two-instruction guest loop in a second.
    pub loop_rounds_per_second: Option<f64>,
    /// Entries into a guest and exits from it in a second.
    pub exits_per_second: Option<f64>,
}

/// What plugstorm's own process holds of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdings {
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// Mappings of memory.
    pub mappings: u64,
    /// Memory in use, in bytes.
    pub resident_bytes: u64,
}

/// Whose KVM guests ran on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostKind {
    /// This machine's.
    Kvm,
    /// That of a nested machine under QEMU's software emulation.
    Nested,
}

impl HostKind {
    /// For a person.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Nested => "nested (QEMU's software emulation)",
        }
    }
}

/// The guest, as it presented itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFacts {
    /// The kernel as it was asked for: a name in the cache or a file.
    pub kernel: String,
    /// The snapshot that guests were started from, if any was.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// `uname -r`, as the agent said.
    pub release: Option<String>,
    /// Timer ticks a second (CONFIG_HZ), as the agent said.
    pub hz: Option<u32>,
    /// The preemption model, as the agent said; none where the kernel was built with one only.
    pub preemption: Option<String>,
    /// Which processor it saw.
    pub cpu: Cpu,
    /// vCPUs.
    pub cpus: u8,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// What was added to its kernel's command line.
    pub append: String,
    /// What a vanished device answered.
    pub gone_reads: GoneReads,
    /// Modules the agent loaded.
    pub modules: Vec<ModuleOutcome>,
    /// Trace events that this kernel does not have.
    pub probes_failed: Vec<ProbeFailure>,
}

/// A device of the scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFacts {
    /// Its name.
    pub name: String,
    /// `gpio-virtio`, `plugstorm` or `other`.
    pub driver: String,
    /// The design, if our module drives it.
    pub design: Option<Design>,
    /// Its lines.
    pub lines: u16,
}

/// A delay point that was armed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointFacts {
    /// Its name.
    pub name: String,
    /// The delay, in nanoseconds; none for a point that is no delay.
    pub delay_ns: Option<u64>,
    /// Who came there was delayed each so manieth time.
    pub every: u32,
    /// How often it was reached, as guests told at the end of each cycle and where they hung: what the last one did before it
    /// died is not in it. None if no guest has told.
    #[serde(default)]
    pub hits: Option<u64>,
    /// How often whoever came was held there; for a point that is no delay, how often it was asked.
    #[serde(default)]
    pub turns: u64,
    /// Whether a device of the scenario has the design that it is a point of: others cannot reach it.
    #[serde(default)]
    pub concerned: bool,
}

/// How much slower this machine is than the unloaded one with hardware KVM that scenarios are written for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slowdown {
    /// As the host's probe measured it, times what guests beside it may take from this one.
    pub host: f64,
    /// As the agent's loop measured it, the greatest of all boots.
    pub guest: f64,
    /// What the last guest's time-outs were multiplied by: the greater one of the host's and its own, within 1 and 100.
    pub used: f64,
}

/// Cycles of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cycles {
    /// How many the scenario asked for.
    pub asked: u32,
    /// How many ran to their end.
    pub completed: u32,
    /// How many guests were booted for them.
    pub boots: u32,
    /// How many guests were started from a snapshot for them.
    #[serde(default)]
    pub forks: u32,
    /// How often a guest was saved and gone on with in another machine (step `migrate`).
    #[serde(default)]
    pub migrations: u32,
}

/// From the beginning of a guest, its machine included, to the first hot-plug event that its kernel took note of, in
/// nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstEvents {
    /// Of guests that were booted.
    pub booted: Option<Summary>,
    /// Of guests that were started from a snapshot.
    pub forked: Option<Summary>,
}

/// What a hammer did, over all cycles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HammerTotals {
    /// Its name.
    pub name: String,
    /// Its device's name; without a device, the node that it works on or the program that it runs.
    pub device: String,
    /// Its threads.
    pub threads: u32,
    /// Whether they shared one descriptor.
    pub sharing: Sharing,
    /// How often it was started and reported.
    pub runs: u64,
    /// Runs in which it made no call on a device that was there: they prove nothing.
    pub idle_runs: u64,
    /// From the first call to the last, summed over all runs, in nanoseconds.
    pub active_ns: u64,
    /// Calls by operation.
    pub operations: Vec<OperationTotals>,
}

/// How often an operation was called, and how that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationTotals {
    /// Which.
    pub operation: Operation,
    /// Calls begun.
    pub calls: u64,
    /// Calls that succeeded.
    pub succeeded: u64,
    /// Calls that failed, by errno.
    pub errors: Vec<ErrnoCount>,
    /// Runs of a program that did not end with exit code 0, by their end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exits: Vec<ExitCount>,
    /// The longest call, in nanoseconds.
    pub longest_ns: u64,
    /// Calls in a second of the hammer's activity.
    pub calls_per_second: f64,
}

/// The removals of one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalTotals {
    /// In which way.
    pub how: How,
    /// Asked for.
    pub asked: u64,
    /// Taken note of by the guest.
    pub seen: u64,
    /// Ended within their time-out.
    pub finished: u64,
    /// Not ended within it.
    pub stuck: u64,
    /// From asking to the guest's taking note, in nanoseconds.
    pub seen_after: Option<Summary>,
    /// From asking to the end, in nanoseconds.
    pub finished_after: Option<Summary>,
}

/// Something wrong with the guest's kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable from run to run; two findings with one title are one.
    pub title: String,
    /// Other titles under which the same thing is known.
    pub alt_titles: Vec<String>,
    /// Of which kind.
    pub kind: FindingKind,
    /// How often it was found in this run.
    pub count: u64,
    /// The cycle of its first appearance, counted from 0.
    pub cycle: u32,
    /// The seed: with the same scenario it gives the same stimulus.
    pub seed: u64,
    /// The device concerned, by its name in the scenario.
    pub device: Option<String>,
    /// How it was being removed.
    pub how: Option<How>,
    /// A paragraph for people.
    pub explanation: String,
    /// Who waits and who is waited for, with both stacks.
    pub hang: Option<HangReport>,
    /// Where the guest's processors were, read by the machine: of a guest that did not answer any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processors: Option<ProcessorReport>,
    /// The kernel's report, word for word, shortened.
    pub splat: Option<String>,
    /// The last lines of the console.
    pub console: Vec<String>,
    /// It is one of those that the user accepts for now (`--known`). The verdict is `found` all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub known: bool,
    /// Why it is accepted, as the user's file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_reason: Option<String>,
    /// Where there is more on it, as the user's file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_url: Option<String>,
}

impl Finding {
    /// All its titles, the main one first.
    pub fn titles(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.title).chain(&self.alt_titles).map(String::as_str)
    }

    /// Whether two are one: of one kind, and any of their titles meet. The rule of syzkaller's alternative titles; a guest that
    /// died of a hang is another thing than the hang.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.kind == other.kind && self.titles().any(|title| other.titles().any(|other| other == title))
    }
}

/// Kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FindingKind {
    /// The kernel reported something itself.
    Splat,
    /// A removal did not end.
    RemovalStuck,
    /// A removal ended, after its time-out.
    RemovalSlow,
    /// A device did not come (back), and a task in the kernel hangs over it.
    AddStuck,
    /// Threads of a hammer did not come back from a call.
    HammerStuck,
    /// The guest ended by itself: reset, power-off or triple fault, with no report.
    GuestDied,
    /// The guest runs and its agent no longer answers.
    GuestSilent,
    /// A program of the scenario's ended otherwise than it was to.
    ProgramFailed,
    /// A program of the scenario's did not end: it waits in the kernel.
    ProgramStuck,
}

impl FindingKind {
    /// Its name, as in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Splat => "splat",
            Self::RemovalStuck => "removal-stuck",
            Self::RemovalSlow => "removal-slow",
            Self::AddStuck => "add-stuck",
            Self::HammerStuck => "hammer-stuck",
            Self::GuestDied => "guest-died",
            Self::GuestSilent => "guest-silent",
            Self::ProgramFailed => "program-failed",
            Self::ProgramStuck => "program-stuck",
        }
    }
}

/// What the console gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleTotals {
    /// Bytes the guest wrote.
    pub bytes: u64,
    /// Of these, bytes that are not in `console.log`.
    pub dropped_bytes: u64,
}

/// What the channel to the agent gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelTotals {
    /// Messages.
    pub messages: u64,
    /// Lines that were no messages.
    pub malformed: u64,
    /// Answers to what was not asked.
    pub unexpected: u64,
    /// Events left out of `events.jsonl` because the file had reached its cap.
    pub events_dropped: u64,
}
