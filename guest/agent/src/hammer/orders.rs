//! What the agent and the process of a hammer tell each other, as lines over the process's standard input and output.

use plugstorm_wire::{HammerSpec, HangingThread, Operation, OperationCount};
use serde::{Deserialize, Serialize};

/// From the agent to a hammer's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// The first one, and the next one after a run that has ended: open the descriptors and begin.
    Start {
        /// What to do.
        spec: Box<HammerSpec>,
        /// Decides pauses and values.
        seed: u64,
    },
    /// A device has come: if it is still awaited, look for it now.
    Look,
    /// Answered by [`Answer::Status`].
    Status,
    /// End. Answered by [`Answer::Report`].
    Stop {
        /// How long threads may take, in milliseconds.
        grace_ms: u64,
    },
}

/// From a hammer's process to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// All threads have begun.
    Started {
        /// When the last one had.
        tsc: u64,
        /// The node that was opened.
        node: String,
        /// Descriptors opened.
        descriptors: u32,
        /// Threads begun.
        threads: u32,
    },
    /// The hammer could not be started. The process ends.
    Failed {
        /// One sentence.
        error: String,
    },
    /// Where the threads are.
    Status {
        /// Those that have not ended.
        threads: Vec<ThreadStatus>,
    },
    /// What has been done.
    Report {
        /// All threads ended and all descriptors were closed. The process awaits the next [`Order::Start`].
        ended: bool,
        /// From the first call to the last, in nanoseconds.
        active_ns: u64,
        /// Calls by operation.
        operations: Vec<OperationCount>,
        /// Threads that did not come back.
        hanging: Vec<HangingThread>,
    },
    /// Something the user should know.
    Note {
        /// One sentence.
        text: String,
    },
}

/// Where a thread is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ThreadStatus {
    /// Its thread id.
    pub(super) tid: u32,
    /// The call that it is in.
    pub(super) operation: Option<Operation>,
}
