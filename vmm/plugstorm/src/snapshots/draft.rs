//! A snapshot that is being written.

use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use plugstorm_wire::FromGuest;

use super::claim::{self, Claim, Purpose};
use super::memory::{self, Fault, MemoryFile};
use super::read::{MANIFEST, MEMORY, STATE};
use super::{FORMAT, Kind, MadeOf, Manifest, Replace, Snapshot, SnapshotError, StateFile, Store, build, digest, name};

/// A snapshot without a name yet. Dropped, or killed with its process, it leaves nothing that could be opened.
#[derive(Debug)]
pub struct Draft {
    store: Store,
    name: String,
    claim: Claim,
}

/// What a snapshot says of its guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The guest.
    pub made_of: MadeOf,
    /// The guest's TSC.
    pub tsc_khz: u32,
    /// What its boot took.
    pub boot_ns: u64,
    /// What the agent said of itself, in order. None of a guest without one.
    pub agent: Option<Vec<FromGuest>>,
}

impl Store {
    /// Can a user save a snapshot as `name`?
    ///
    /// # Errors
    /// [`SnapshotError`]: nothing can be called this, or another one is.
    pub fn is_free(&self, name: &str) -> Result<(), SnapshotError> {
        name::check_name(name)?;
        let is_taken = |folder: &Path| fs::symlink_metadata(folder.join(name)).is_ok();
        if self.folders().iter().any(|folder| is_taken(folder)) {
            return Err(SnapshotError::Taken { name: name.to_owned() });
        }
        Ok(())
    }

    /// Begins a snapshot: of the name [`MadeOf::key`], or of one that a user chose ([`super::check_name`]).
    ///
    /// # Errors
    /// [`SnapshotError`]: also if a user's snapshot has the name. An automatic one is replaced.
    pub fn draft(&self, name: &str) -> Result<Draft, SnapshotError> {
        name::check(name)?;
        if Kind::of(name) == Kind::User {
            self.is_free(name)?;
        }
        claim::sweep(&self.folder());
        let claim = Claim::make(&self.folder(), Purpose::Draft)?;
        Ok(Draft { store: self.clone(), name: name.to_owned(), claim })
    }
}

impl Draft {
    /// The name that it will have.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that the guest's memory is to be written to. It is empty.
    #[must_use]
    pub fn memory_file(&self) -> &File {
        self.claim.file()
    }

    /// Writes the rest, and gives the snapshot its name: from here on it can be opened. `extents` are those parts of
    /// [`Self::memory_file`] that are not zero, in order. `progress` is told if another process keeps us waiting.
    ///
    /// # Errors
    /// [`SnapshotError`]. In a nested machine, where the last step is to copy it out, it can be opened there all the same
    /// if that step fails.
    pub fn finish(
        self,
        facts: Facts,
        state: Vec<u8>,
        extents: &[Range<u64>],
        progress: &mut dyn FnMut(&str),
    ) -> Result<Snapshot, SnapshotError> {
        let manifest = self.manifest(facts, &state, extents)?;
        let bytes = manifest.encode().map_err(|error| {
            let reason = format!("its manifest cannot be written ({error})");
            SnapshotError::Contradiction { name: self.name.clone(), reason }
        })?;
        let memory = self.store.settle(self.claim, &manifest.name, (&bytes, &state), Replace::Automatic, progress)?;
        self.store.hand_out(&manifest.name)?;
        Ok(Snapshot { manifest, state, memory })
    }

    fn manifest(&self, facts: Facts, state: &[u8], extents: &[Range<u64>]) -> Result<Manifest, SnapshotError> {
        let contradiction = |reason| SnapshotError::Contradiction { name: self.name.clone(), reason };
        let Facts { made_of, tsc_khz, boot_ns, agent } = facts;
        let length = made_of.memory_bytes;
        if let Some(reason) = memory::out_of_order(extents, length) {
            return Err(contradiction(reason));
        }
        let path = self.claim.path().join(MEMORY);
        let file = self.memory_file();
        let written = file.metadata().map_err(|source| SnapshotError::io("cannot read", &path, source))?.len();
        if written > length {
            return Err(contradiction(format!("its memory file has {written} bytes and its guest {length}")));
        }
        file.set_len(length).map_err(|source| SnapshotError::io("cannot write", &path, source))?;
        let described = MemoryFile::describe(file, length, extents);
        // What is left out now would be found damaged whenever it is opened.
        let memory = described.and_then(|memory| memory.verify_outside(file).map(|()| memory));
        let memory = memory.map_err(|fault| match fault {
            Fault::Damaged { offset, .. } => {
                contradiction(format!("its memory at {offset} is not zero, and in no extent"))
            }
            Fault::Read(source) | Fault::Write(source) => SnapshotError::io("cannot read", &path, source),
        })?;
        // A clock before 1970 is as good as none.
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Manifest {
            format: FORMAT,
            build: build().to_owned(),
            name: self.name.clone(),
            created_unix_s: created.as_secs(),
            made_of,
            tsc_khz,
            boot_ns,
            agent,
            state: StateFile { bytes: state.len() as u64, digest: digest::of(state) },
            memory,
        })
    }
}

impl Store {
    /// Writes manifest and state beside the memory of `claim`, and puts it in place. Gives the memory, to be read only.
    pub(super) fn settle(
        &self,
        claim: Claim,
        name: &str,
        (manifest, state): (&[u8], &[u8]),
        replace: Replace,
        progress: &mut dyn FnMut(&str),
    ) -> Result<File, SnapshotError> {
        let write = |file: &str, content: &[u8]| {
            let path = claim.path().join(file);
            fs::write(&path, content).map_err(|source| SnapshotError::io("cannot write", &path, source))
        };
        write(STATE, state)?;
        write(MANIFEST, manifest)?;
        let path = claim.path().join(MEMORY);
        let memory = File::open(&path).map_err(|source| SnapshotError::io("cannot read", &path, source))?;
        self.publish(claim.path(), name, replace, progress)?;
        claim.settled();
        Ok(memory)
    }
}

#[cfg(test)]
impl Draft {
    /// Closes it as the kernel does for a process that is killed: its folder stays.
    pub(super) fn abandon(self) {
        self.claim.settled();
    }
}
