//! Where a nested machine puts the snapshots that it makes, and how they come into the cache.

use std::fs;
use std::path::Path;

use super::claim::{self, Claim, Purpose};
use super::read::Parts;
use super::{Kind, Replace, SnapshotError, Store, name};

/// What jobs of a nested machine find in their environment: where snapshots that they make are to go.
pub(crate) const OUT: &str = "PLUGSTORM_SNAPSHOTS_OUT";
/// How a snapshot is called there before it is whole.
pub(super) const UNFINISHED: &str = ".draft-";
/// How an empty file is called that says that a snapshot of the cache was used.
pub(super) const USED: &str = ".used-";

/// How an empty file is called that says that a snapshot of the cache is of no use.
pub(super) const USELESS: &str = ".useless-";

/// A folder that a nested machine can write to, for as long as we live.
#[derive(Debug)]
pub(crate) struct Incoming {
    store: Store,
    claim: Claim,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// The names of the snapshots that are in the cache now.
    pub(crate) names: Vec<String>,
    /// What could not be put there, and why.
    pub(crate) failed: Vec<SnapshotError>,
}

impl Incoming {
    /// Makes the folder, and removes those of the dead.
    pub(crate) fn begin(store: Store) -> Result<Self, SnapshotError> {
        claim::sweep(&store.folder());
        let claim = Claim::make(&store.folder(), Purpose::Incoming)?;
        Ok(Self { store, claim })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.claim.path()
    }

    /// Moves what is whole into the cache, and removes the folder. The nested machine must have ended.
    pub(crate) fn collect(self, progress: &mut dyn FnMut(&str)) -> Collected {
        let mut collected = Collected::default();
        let entries = match fs::read_dir(self.folder()) {
            Ok(entries) => entries,
            Err(source) => {
                collected.failed.push(SnapshotError::io("cannot read", self.folder(), source));
                return collected;
            }
        };
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        for used in names.iter().filter_map(|name| name.strip_prefix(USED)) {
            self.store.touch(used);
        }
        for useless in names.iter().filter_map(|name| name.strip_prefix(USELESS)) {
            // Users' own are theirs to remove.
            if Kind::of(useless) == Kind::Storm && self.store.holds(useless).is_ok() {
                collected.failed.extend(self.store.remove(useless, progress).err());
            }
        }
        for name in names.into_iter().filter(|name| name::check(name).is_ok()) {
            match self.collect_one(&name, progress) {
                Ok(()) => collected.names.push(name),
                Err(error) => collected.failed.push(error),
            }
        }
        collected
    }

    fn collect_one(&self, name: &str, progress: &mut dyn FnMut(&str)) -> Result<(), SnapshotError> {
        // Of its content, only what whoever opens it verifies again anyway is left out.
        drop(Parts::open(self.folder(), name)?);
        self.store.publish(&self.folder().join(name), name, Replace::Automatic, progress)
    }
}

#[cfg(test)]
impl Incoming {
    /// Closes it as the kernel does for a process that is killed: its folder stays.
    pub(super) fn abandon(self) {
        self.claim.settled();
    }
}
