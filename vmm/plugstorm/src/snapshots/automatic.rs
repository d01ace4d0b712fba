//! The snapshots that storms make by themselves: one for each kind of guest, by the name of what it is made of. And those that a
//! user wants of the same guests, by another name.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use plugstorm_machine::{Extent, MachineState, MemoryImage, WorkingSet, check_size};
use serde::{Deserialize, Serialize};

use super::read::STATE;
use super::{Draft, Facts, MadeOf, Snapshot, SnapshotError, Store};
use crate::storm::fork::{Keeper, Saved};

/// Snapshots that this process has verified, for all runs that it carries out: to verify one takes longer than to fork it
/// a hundred times.
#[derive(Debug, Default, Clone)]
pub struct Shelf(Arc<Mutex<HashMap<String, Place>>>);

/// Snapshots on the shelf at most: in a nested machine each takes RAM, also when its store has let go of it.
const MOST_ON_SHELF: usize = 2;

/// Of one snapshot. Held locked by the one who looks for it, so that those who come meanwhile wait instead of doing the same.
type Place = Arc<Mutex<Option<Arc<Saved>>>>;

impl Shelf {
    fn place(&self, name: &str) -> Place {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= MOST_ON_SHELF && !places.contains_key(name) {
            // Not those that somebody is at. Guests keep what they were forked from.
            places.retain(|_, place| Arc::strong_count(place) > 1);
        }
        Arc::clone(places.entry(name.to_owned()).or_default())
    }

    fn put(&self, name: &str, saved: &Arc<Saved>) {
        *self.place(name).lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(saved));
    }

    /// Takes it away, if it is still this one.
    fn take_away(&self, name: &str, saved: &Arc<Saved>) {
        let place = self.place(name);
        let mut there = place.lock().unwrap_or_else(PoisonError::into_inner);
        if there.as_ref().is_some_and(|there| Arc::ptr_eq(there, saved)) {
            *there = None;
        }
    }
}

/// Finds and keeps the snapshot of one kind of guest.
#[derive(Debug)]
pub struct Automatic {
    store: Store,
    shelf: Shelf,
    name: String,
    made_of: MadeOf,
    /// Rate of this host's time-stamp counter.
    tsc_khz: u32,
    looked_for: bool,
    found: Option<Arc<Saved>>,
    /// What is not kept yet: no fork of it has begun.
    draft: Option<Draft>,
    boot_ns: u64,
}

/// `state.json`, to be read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    machine: MachineState,
    working_set: WorkingSet,
}

/// `state.json`, to be written.
#[derive(Serialize)]
struct ToStore<'a> {
    machine: &'a MachineState,
    working_set: &'a WorkingSet,
}

impl Automatic {
    /// For guests of these ingredients, on a host with such a time-stamp counter.
    #[must_use]
    pub fn new(store: Store, made_of: MadeOf, tsc_khz: u32) -> Self {
        let (name, shelf) = (made_of.key(), Shelf::default());
        Self { store, shelf, name, made_of, tsc_khz, looked_for: false, found: None, draft: None, boot_ns: 0 }
    }

    /// Together with others of this process.
    #[must_use]
    pub fn sharing(self, shelf: &Shelf) -> Self {
        Self { shelf: shelf.clone(), ..self }
    }

    /// The same, for a snapshot that is to be made now and called `name`.
    #[must_use]
    pub fn named(store: Store, name: &str, made_of: MadeOf, tsc_khz: u32) -> Self {
        Self { name: name.to_owned(), looked_for: true, ..Self::new(store, made_of, tsc_khz) }
    }

    fn open(&self) -> Result<Option<Arc<Saved>>, SnapshotError> {
        let snapshot = match self.store.open(&self.name) {
            Err(error) if error.is_absent() => return Ok(None),
            opened => opened?,
        };
        snapshot.manifest.fits(&self.made_of, self.tsc_khz)?;
        Ok(Some(Arc::new(saved(snapshot)?)))
    }
}

/// A snapshot as a machine wants it.
///
/// # Errors
/// [`SnapshotError::NotASnapshot`]: its state is none of this build's.
pub fn saved(snapshot: Snapshot) -> Result<Saved, SnapshotError> {
    let name = snapshot.manifest.name.clone();
    let not = |reason: String| SnapshotError::NotASnapshot { name: name.clone(), path: STATE.into(), reason };
    let Stored { machine: state, working_set } =
        serde_json::from_slice(&snapshot.state).map_err(|error| not(format!("is no state of a machine ({error})")))?;
    check_size(state.shape.cpus, state.shape.memory_bytes)
        .map_err(|error| not(format!("is of no machine ({error})")))?;
    if state.shape.memory_bytes != snapshot.manifest.made_of.memory_bytes {
        return Err(not("is of a machine with other memory".into()));
    }
    let extents =
        snapshot.manifest.memory.extents.iter().map(|extent| Extent { offset: extent.offset, bytes: extent.bytes });
    let image = MemoryImage { file: Arc::new(snapshot.memory), extents: extents.collect() };
    Ok(Saved {
        name,
        state,
        image,
        introduction: snapshot.manifest.agent.unwrap_or_default(),
        working_set: OnceLock::from(working_set),
    })
}

/// Gives a machine that was saved into a draft its name.
///
/// # Errors
/// [`SnapshotError`].
pub fn finish(draft: Draft, saved: &Saved, made_of: MadeOf, boot_ns: u64) -> Result<Snapshot, SnapshotError> {
    let name = draft.name().to_owned();
    let working_set = saved.working_set.get().cloned().unwrap_or_default();
    let state = serde_json::to_vec(&ToStore { machine: &saved.state, working_set: &working_set }).map_err(|error| {
        SnapshotError::Contradiction { name, reason: format!("its state cannot be written ({error})") }
    })?;
    let extents: Vec<_> =
        saved.image.extents.iter().map(|extent| extent.offset..extent.offset.saturating_add(extent.bytes)).collect();
    let agent = (!saved.introduction.is_empty()).then(|| saved.introduction.clone());
    let facts = Facts { made_of, tsc_khz: saved.state.clock.tsc_khz(), boot_ns, agent };
    draft.finish(facts, state, &extents, &mut |_| ())
}

impl Keeper for Automatic {
    fn find(&mut self) -> Result<Option<Arc<Saved>>, String> {
        if !std::mem::replace(&mut self.looked_for, true) {
            let place = self.shelf.place(&self.name);
            let mut there = place.lock().unwrap_or_else(PoisonError::into_inner);
            if there.is_none() {
                *there = self.open().map_err(|error| format!("the snapshot of this guest cannot be used: {error}"))?;
            }
            self.found.clone_from(&there);
        }
        Ok(self.found.clone())
    }

    fn file(&mut self) -> Result<Arc<File>, String> {
        let draft = self.store.draft(&self.name).map_err(|error| error.to_string())?;
        let file = draft.memory_file().try_clone().map_err(|error| error.to_string())?;
        self.draft = Some(draft);
        Ok(Arc::new(file))
    }

    fn keep(&mut self, mut kept: Saved, boot_ns: u64) -> Result<(), String> {
        if self.draft.is_none() {
            return Err("there is no file for it".into());
        }
        kept.name.clone_from(&self.name);
        (self.found, self.boot_ns) = (Some(Arc::new(kept)), boot_ns);
        Ok(())
    }

    fn settle(&mut self, working_set: &mut dyn FnMut() -> WorkingSet) {
        if let Some(saved) = &self.found {
            saved.working_set.get_or_init(working_set);
            // Only what was made here: what came from the shelf is there, unless somebody found it to be of no use.
            if self.draft.is_some() {
                self.shelf.put(&self.name, saved);
            }
        }
    }

    fn publish(&mut self) -> Result<(), String> {
        let Some(saved) = self.found.as_ref().filter(|saved| saved.working_set.get().is_some()) else { return Ok(()) };
        let Some(draft) = self.draft.take() else { return Ok(()) };
        finish(draft, saved, self.made_of.clone(), self.boot_ns).map(drop).map_err(|error| error.to_string())
    }

    fn discard(&mut self) {
        if let Some(saved) = self.found.take() {
            self.shelf.take_away(&self.name, &saved);
        }
        self.draft = None;
        self.looked_for = true;
        self.store.discard(&self.name);
    }
}
