//! The storm: boots guests, runs the plan's cycles against them, and collects evidence.
//!
//! `engine.rs` goes from boot to boot and from cycle to cycle; `boot.rs` and `begin.rs` get a guest ready; `steps.rs` and `removal.rs` do the steps; `hearing.rs` takes
//! what the guest says; `stuck.rs` finds out why something did not end, `silent.rs` and `look.rs` also where the guest cannot say it any more. Every wait has an end: a time-out of the scenario
//! times the measured slowdown.

mod balance;
mod begin;
mod boot;
mod console;
mod engine;
pub mod fork;
pub mod guest;
mod hearing;
mod inbox;
mod leaks;
mod locks;
mod look;
pub mod machine;
mod points;
mod program;
mod record;
mod removal;
mod sign;
mod signal;
mod silent;
mod start;
mod steps;
mod stuck;
mod timeline;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::atomic::AtomicBool;

use plugstorm_observe::timing::TimingReport;

use crate::plan::Plan;
use crate::progress::Progress;
use crate::results::{EndedBy, Journal};
use crate::scenario::Scenario;
use guest::Guest;

pub(crate) use begin::{entropy, watchdogs};
pub use boot::configuration;
pub use engine::Storm;
pub(crate) use engine::{clamp_slowdown, ratio};
pub use points::PointRecord;
pub use record::{HammerRecord, Record, RemovalRecord};

/// What a storm works with.
pub struct Setting<'a> {
    /// What to do.
    pub scenario: &'a Scenario,
    /// When exactly.
    pub plan: &'a Plan,
    /// To whom.
    pub guest: &'a mut dyn Guest,
    /// Where it is written down.
    pub journal: &'a mut dyn Journal,
    /// What a person watching sees.
    pub progress: &'a mut dyn Progress,
    /// Set when the user wants it to end.
    pub interrupt: &'a AtomicBool,
    /// How much slower than hardware KVM the host is, as its probe measured.
    pub host_slowdown: f64,
    /// The host's processor is emulated in software: see [`engine`] on triple faults.
    pub emulated: bool,
    /// The kernel as the user named it.
    pub kernel: &'a str,
}

/// What a storm comes back with.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// What it adds up to.
    pub record: Record,
    /// The guest's trace.
    pub timings: TimingReport,
    /// Why it ended before the plan did.
    pub ending: Ending,
    /// How long it took, in nanoseconds.
    pub duration_ns: u64,
    /// What time-outs were multiplied by in the end.
    pub slowdown: f64,
}

/// Why a storm ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Ending {
    /// The plan is done, or a finding ended it as the scenario wants.
    Done,
    /// The guest, the set-up or the agent failed: one sentence.
    Failed(String),
    /// The host failed, whatever the guest would have done: one sentence.
    Host(String),
    /// The user asked for what cannot be had: one sentence.
    User(String),
    /// The user ended it.
    Interrupted,
    /// The results could not be written.
    Output(io::Error),
}

impl Ending {
    /// As results have it.
    #[must_use]
    pub fn ended_by(&self) -> EndedBy {
        match self {
            Self::Done => EndedBy::Itself,
            Self::Interrupted => EndedBy::Signal,
            Self::User(_) => EndedBy::User,
            Self::Failed(_) => EndedBy::Machine,
            Self::Host(_) | Self::Output(_) => EndedBy::Host,
        }
    }
}

/// The clamp of the slowdown: beyond a hundred, waits would no longer end in any useful time.
pub const MOST_SLOWDOWN: f64 = 100.0;

/// How long the agent's calibration loop takes on the machine that time-outs are written for, in nanoseconds: 10⁷ dependent
/// additions at one a cycle and 1 GHz. Faster machines count as this one.
pub const CALIBRATION_REFERENCE_NS: u64 = 10_000_000;

/// Starts one guest as a storm does, and stops it: for the snapshot that its keeper makes of it. The record has a fork then, the
/// first of that snapshot.
#[must_use]
pub fn prepare(setting: Setting<'_>) -> Outcome {
    Storm::new(setting).prepare()
}

/// Runs a storm to its end.
#[must_use]
pub fn run(setting: Setting<'_>) -> Outcome {
    Storm::new(setting).run()
}
