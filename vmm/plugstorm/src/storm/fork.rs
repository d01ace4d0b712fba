//! Guests that start from a snapshot instead of a boot.

use std::fmt;
use std::fs::File;
use std::sync::{Arc, OnceLock};

use plugstorm_machine::{MachineState, MemoryImage, WorkingSet};
use plugstorm_wire::FromGuest;

/// A guest that was saved when its agent was ready, before anything of a scenario reached it: what every fork needs.
#[derive(Debug)]
pub struct Saved {
    /// The snapshot's name.
    pub name: String,
    /// The machine.
    pub state: MachineState,
    /// Its memory.
    pub image: MemoryImage,
    /// What its agent had said of itself: forks do not say it again.
    pub introduction: Vec<FromGuest>,
    /// What a fork needs at once, as the first one has shown.
    pub working_set: OnceLock<WorkingSet>,
}

/// Finds the snapshot of one kind of guest, and keeps it. The store on disk is one (`snapshots/automatic.rs`).
pub trait Keeper: fmt::Debug {
    /// The snapshot, if there is one.
    ///
    /// # Errors
    /// One sentence on a snapshot that is there and cannot be used. The next one that is kept takes its place.
    fn find(&mut self) -> Result<Option<Arc<Saved>>, String>;

    /// An empty file for a guest's memory.
    ///
    /// # Errors
    /// One sentence.
    fn file(&mut self) -> Result<Arc<File>, String>;

    /// Takes a guest that was saved into the file that [`Self::file`] gave last. `boot_ns`: what its boot took, in
    /// nanoseconds. From now on [`Self::find`] gives it.
    ///
    /// # Errors
    /// One sentence.
    fn keep(&mut self, saved: Saved, boot_ns: u64) -> Result<(), String>;

    /// A fork has begun: what it was forked from is good. `working_set` is asked if it is not known what forks need at once.
    fn settle(&mut self, working_set: &mut dyn FnMut() -> WorkingSet);

    /// Keeps for other runs what has been settled and is not kept yet. Takes its time.
    ///
    /// # Errors
    /// One sentence.
    fn publish(&mut self) -> Result<(), String>;

    /// Throws the snapshot away: its forks are of no use.
    fn discard(&mut self);
}
