//! The shape of a line of `events.jsonl`.

use plugstorm_observe::trace::TraceEvent;
use plugstorm_wire::OperationCount;
use serde::{Deserialize, Serialize};

use super::model::{FindingKind, Verdict};
use crate::scenario::How;

/// One event: `{"t_ns":…,"source":"host","event":"removal_asked",…}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds since the run's start, on the host's monotonic clock, when the host learnt of it.
    pub t_ns: u64,
    /// Who says so.
    pub source: Source,
    /// When it happened by the guest's own clock, on the same scale as `t_ns`, where the guest told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_t_ns: Option<u64>,
    /// What happened; its name is under `event`.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Who says that something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The storm itself, or the machine's hardware side.
    Host,
    /// The guest's kernel or agent.
    Guest,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are what their names say; names of devices and hammers are the scenario's")]
pub enum EventKind {
    /// The run begins.
    RunBegan { scenario: String, seed: u64, cycles: u32, kernel: String },
    /// A guest is booted.
    BootBegan { boot: u32 },
    /// A guest is started from a snapshot; its vCPUs run after so long.
    ForkBegan { fork: u32, snapshot: String, ns: u64 },
    /// The agent said hello.
    AgentHello { release: String, cpus: u32, calibration_ns: u64, slowdown: f64 },
    /// A module could not be loaded.
    ModuleFailed { file: String, error: String },
    /// The guest's trace is set up, apart from these events.
    Configured { probes_failed: Vec<String> },
    /// The guest is this run's own from here on: its hammers, clock, random numbers and limits are. `random` is one of these
    /// numbers.
    Begun { calibration_ns: u64, slowdown: f64, random: u64 },
    /// A cycle begins.
    CycleBegan { cycle: u32 },
    /// A cycle ran to its end.
    CycleCompleted { cycle: u32 },
    /// The device is being plugged in, bound or rescanned for.
    AddAsked { cycle: u32, device: String, by: String },
    /// Its node is there.
    AddFinished { cycle: u32, device: String, node: String },
    /// The hammer was told to start.
    HammerAsked { cycle: u32, hammer: String, seed: u64 },
    /// All of its threads are at work.
    HammerStarted { cycle: u32, hammer: String, node: String, descriptors: u32, threads: u32 },
    /// It was told to stop, and reported; `operations` are its calls since it started.
    HammerReported {
        cycle: u32,
        hammer: String,
        ended: bool,
        calls: u64,
        hanging: usize,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        operations: Vec<OperationCount>,
    },
    /// Nothing is done for so long.
    Pause { cycle: u32, ns: u64 },
    /// The guest was saved where it was, and gone on with in another machine, after so long.
    Migrated { cycle: u32, ns: u64 },
    /// A program is to be run.
    ProgramAsked { cycle: u32, program: String },
    /// It ended so, after so long; the beginning of what it wrote, and how much that was in all.
    ProgramEnded { cycle: u32, program: String, end: String, ns: u64, output: String, output_bytes: u64 },
    /// A removal is asked for.
    RemovalAsked { cycle: u32, device: String, how: How },
    /// The guest took note of it, at `at_ns` on this clock: that is told after its end.
    RemovalSeen {
        cycle: u32,
        device: String,
        how: How,
        by: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_ns: Option<u64>,
    },
    /// It ended, at `at_ns` on this clock; `after_ns` is counted from the asking.
    RemovalFinished {
        cycle: u32,
        device: String,
        how: How,
        after_ns: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_ns: Option<u64>,
    },
    /// It did not end in time; `on` says on what, as far as the guest's stacks tell.
    RemovalStuck { cycle: u32, device: String, how: How, after_ns: u64, on: String },
    /// The guest touched a slot's registers, or was interrupted by it.
    Slot { slot: u8, what: String },
    /// A uevent of the guest's kernel, except those of devices that are not ours.
    Uevent { action: String, devpath: String, subsystem: String, devname: Option<String> },
    /// An event of the guest's trace.
    Trace { trace: TraceEvent },
    /// Trace events were lost.
    TraceLost { events: u64 },
    /// The guest answers nothing and is sent a non-maskable interrupt, to show where it is: it ends by that.
    NmiSent {},
    /// The tasks of the guest were listed.
    TasksListed { tasks: usize, left_out: u32 },
    /// The guest's kernel was told to list who holds which locks, and named so many tasks; or why it did not.
    LocksListed {
        tasks: usize,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    /// The machine looked at the guest, twice, by its registers and its memory.
    SeenFromOutside { processors: usize, tasks: usize, compared: usize, alike: usize, difference: Option<String> },
    /// How often each point was reached so far, in all guests that told.
    PointsReached { hits: Vec<(String, u64)> },
    /// The guest's kernel looked for memory that nobody points to any more, and has lost so many objects.
    LeaksLookedFor { found: u64 },
    /// The agent says something.
    Note { text: String },
    /// The agent sent what is no message, or an answer to nothing.
    ChannelFault { reason: String, excerpt: String },
    /// The kernel's report on the console.
    Splat { title: String },
    /// Something was found.
    Found { cycle: u32, kind: FindingKind, title: String },
    /// The guest ended.
    GuestEnded { cause: String },
    /// The run ends.
    RunEnded { verdict: Verdict, reason: Option<String> },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_64_bits_survives_its_line() {
        let kind = EventKind::Begun { calibration_ns: 1, slowdown: 1.5, random: u64::MAX - 1 };
        let event = Event { t_ns: 7, source: Source::Guest, guest_t_ns: Some(6), kind };
        let line = serde_json::to_string(&event).unwrap();
        assert!(line.contains("\"random\":18446744073709551614"), "{line}");
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }
}
