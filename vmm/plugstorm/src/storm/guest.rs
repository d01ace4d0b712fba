//! What a storm needs of a guest. The real one is in `machine.rs`; tests script their own.

use std::time::Duration;

use plugstorm_observe::hang::{Processor, StackedTask};
use plugstorm_wire::{FromGuest, PciAddress, ToGuest};
use thiserror::Error;

use crate::results::Holdings;

/// A guest, and the slots of its machine. Devices are named by their index in the scenario, which is their slot's.
///
/// All times are nanoseconds since the run's start, on one monotonic clock that goes on from boot to boot.
pub trait Guest {
    /// Looks for the snapshot that guests start from: that costs more than a start, and is done once.
    fn prepare(&mut self);

    /// Starts a fresh guest with empty slots, by a boot or from a snapshot. The one before it has been stopped.
    ///
    /// # Errors
    /// That the machine cannot be made.
    fn boot(&mut self) -> Result<Started, GuestError>;

    /// Whether a guest that was booted is to be kept, for others to start from it.
    fn is_to_be_kept(&self) -> bool;

    /// Lets the guest stand still, for [`Self::keep`]. One that has ended meanwhile says so as an event.
    ///
    /// # Errors
    /// That it cannot be made to.
    fn hold(&mut self) -> Result<(), GuestError>;

    /// Makes a snapshot of the guest that stands still: it is stopped then, and the next [`Self::boot`] starts from there. False if no
    /// snapshot could be made and the guest runs on. `introduction`: what its agent has said of itself; `boot_ns`: what its
    /// boot took, in nanoseconds.
    ///
    /// # Errors
    /// That the guest can neither be kept nor run on.
    fn keep(&mut self, introduction: Vec<FromGuest>, boot_ns: u64) -> Result<bool, GuestError>;

    /// The fork that runs has begun: the snapshot that it comes from is good, and is kept for others.
    fn settle(&mut self);

    /// Throws the snapshot away that guests start from: they are booted from now on.
    fn distrust(&mut self, reason: &str);

    /// Sentences for the user on all this, since the last call.
    fn notes(&mut self) -> Vec<String>;

    /// Ends the guest, whatever it is doing. Does nothing if none runs. Ends in bounded time.
    fn stop(&mut self);

    /// Keeps for other runs the snapshot that a fork has begun from, if that has not been done. Takes its time; no guest runs.
    fn publish(&mut self);

    /// What this process holds of the host now; nothing where that is not known.
    fn holdings(&self) -> Option<Holdings>;

    /// Now.
    fn now_ns(&self) -> u64;

    /// The address of the device's root port, as sysfs writes it.
    fn port(&self, device: usize) -> PciAddress;

    /// Plugs the device in.
    ///
    /// # Errors
    /// That the machine refuses.
    fn plug(&mut self, device: usize) -> Result<(), GuestError>;

    /// Pulls the device out.
    ///
    /// # Errors
    /// That the machine refuses.
    fn surprise_remove(&mut self, device: usize) -> Result<(), GuestError>;

    /// Saves the guest where it is and goes on with it in another machine. No time passes for it. False if it has ended
    /// meanwhile, which comes as an event.
    ///
    /// # Errors
    /// That it cannot be saved or gone on with; it does not run any more then.
    fn migrate(&mut self) -> Result<bool, GuestError>;

    /// Sends a message to the agent, without waiting.
    ///
    /// # Errors
    /// That the channel takes no more: the agent does not read.
    fn send(&mut self, message: &ToGuest) -> Result<(), GuestError>;

    /// Sends the guest's first CPU a non-maskable interrupt. A kernel that was told `unknown_nmi_panic` panics at it and
    /// shows where its CPUs are, even with interrupts off.
    fn send_nmi(&mut self);

    /// Where the guest's processors and tasks are, seen from outside while it stands still for that moment. Nothing if it has
    /// ended, or there is no way to look.
    ///
    /// # Errors
    /// That it cannot be made to stand still, or to go on; it does not run any more then.
    fn look(&mut self) -> Result<Option<Sight>, GuestError> {
        Ok(None)
    }

    /// The next thing that happens; nothing if nothing does before the deadline.
    fn next_event(&mut self, deadline_ns: u64) -> Option<Stamped>;

    /// When the guest's time-stamp counter showed this, if that is known.
    fn tsc_to_ns(&self, tsc: u64) -> Option<u64>;

    /// The rate of the guest's time-stamp counter.
    fn tsc_khz(&self) -> u32;
}

/// How a guest came to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// Its kernel boots.
    Booted,
    /// It goes on from where a guest was saved whose agent was ready.
    Forked {
        /// The snapshot's name.
        snapshot: String,
        /// What that agent had said of itself.
        introduction: Vec<FromGuest>,
    },
}

/// A guest at one moment, seen from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// In the order of their numbers.
    pub processors: Vec<Processor>,
    /// Tasks; none where the kernel does not describe its structures (`CONFIG_DEBUG_INFO_BTF`).
    pub tasks: Vec<StackedTask>,
    /// More tasks, whose stacks were not read.
    pub tasks_left_out: usize,
    /// The kernel's list of tasks goes on where it could not be followed.
    pub task_list_is_cut: bool,
    /// Timer ticks that the kernel has counted.
    pub ticks: Option<u64>,
    /// Whether the kernel's symbols were found.
    pub has_symbols: bool,
}

impl Sight {
    /// What has to be said of tasks that were not seen, as a sentence.
    pub(super) fn unseen(&self) -> Option<String> {
        let left_out = match self.tasks_left_out {
            0 => None,
            1 => Some("1 more task was not looked at".to_owned()),
            many => Some(format!("{many} more tasks were not looked at")),
        };
        let cut = self.task_list_is_cut.then(|| "the list of its tasks could be followed only so far".to_owned());
        let parts: Vec<String> = left_out.into_iter().chain(cut).collect();
        (!parts.is_empty()).then(|| format!("Of its tasks {} were seen: {}.", self.tasks.len(), parts.join(", and ")))
    }
}

/// Something that happened, and when the host learnt of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamped {
    /// When.
    pub t_ns: u64,
    /// What.
    pub event: GuestEvent,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestEvent {
    /// The agent sent a message.
    Message(FromGuest),
    /// The agent's port gave a line that is no message.
    Malformed {
        /// Why.
        reason: String,
        /// Its first bytes.
        excerpt: String,
    },
    /// The guest wrote to its console.
    Console(Vec<u8>),
    /// Output came faster than it was taken; so much of it was dropped.
    Overrun {
        /// Bytes lost.
        bytes: u64,
    },
    /// The hardware side of a slot.
    Slot {
        /// Which, from 0.
        slot: u8,
        /// What.
        what: SlotChange,
    },
    /// The guest ended.
    Ended(EndCause),
}

/// What the guest did to a slot, or the slot to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotChange {
    /// The slot interrupted the guest.
    Interrupt,
    /// The guest cleared event bits of the slot's status: it took note of them.
    EventsCleared {
        /// Presence detect changed.
        presence: bool,
        /// Data link layer state changed.
        link: bool,
    },
    /// The guest wrote the slot's control register.
    ControlWritten(u16),
    /// The guest disabled (or enabled) the link.
    LinkDisabled(bool),
}

/// Why a guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndCause {
    /// It powered itself off.
    PowerOff,
    /// It reset itself.
    Reset,
    /// Its kernel panicked and did not restart the machine.
    Panicked,
    /// An exception that no handler could take.
    TripleFault,
    /// The monitor or KVM failed: says nothing about the guest.
    Machine(String),
}

impl EndCause {
    /// As the end of a sentence that begins with "the guest".
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::PowerOff => "powered itself off".into(),
            Self::Reset => "reset itself".into(),
            Self::Panicked => "panicked".into(),
            Self::TripleFault => "ended with a triple fault".into(),
            Self::Machine(reason) => format!("could not be run any further: {reason}"),
        }
    }
}

/// Why something could not be done to a guest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GuestError {
    /// What the user asked for cannot be had: a file that is no kernel, an initramfs larger than memory. One sentence.
    #[error("{0}")]
    User(String),
    /// The guest does not do its part. One sentence.
    #[error("{0}")]
    Guest(String),
    /// The machine that it runs in failed, or the host below that. One sentence.
    #[error("{0}")]
    Machine(String),
}

/// A duration as the storm's clock has it.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_were_not_seen_are_told() {
        let told = |tasks_left_out, task_list_is_cut| {
            Sight { tasks_left_out, task_list_is_cut, ..Sight::default() }.unseen().unwrap_or_default()
        };
        assert_eq!(told(0, false), "");
        assert_eq!(told(1, false), "Of its tasks 0 were seen: 1 more task was not looked at.");
        assert_eq!(
            told(312, true),
            "Of its tasks 0 were seen: 312 more tasks were not looked at, and the list of its tasks could be followed only so far."
        );
    }
}
