//! The store of a nested machine: in RAM, with the cache beyond it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, io};

use super::claim::{Claim, Purpose};
use super::read::{MANIFEST, MEMORY, Parts, STATE};
use super::{FOLDER, OUT, Replace, Snapshot, SnapshotError, Store, incoming, name};
use crate::cache;
use crate::host::{memory, nested};

/// Of the nested machine's memory, the part that snapshots may take.
const SHARE: u64 = 4;

/// What a nested machine has of the one outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beyond {
    /// The snapshots of the cache, which can only be read.
    cache: PathBuf,
    /// Where what is made here goes; it is also read.
    out: Option<PathBuf>,
}

impl Store {
    /// The store of this nested machine.
    pub(super) fn in_ram() -> Self {
        let out = env::var_os(OUT).map(PathBuf::from);
        let meminfo = fs::read_to_string(memory::MEMINFO).unwrap_or_default();
        let total_bytes = memory::total_mib(&meminfo).unwrap_or(0) << 20;
        Self::nested(nested::own_cache(), &cache::root(), out, total_bytes / SHARE)
    }

    pub(super) fn nested(root: PathBuf, cache: &Path, out: Option<PathBuf>, limit_bytes: u64) -> Self {
        Self { root, limit_bytes, beyond: Some(Beyond { cache: cache.join(FOLDER), out }) }
    }

    /// All folders that have snapshots, our own first.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.folder()];
        if let Some(beyond) = &self.beyond {
            folders.extend([beyond.cache.clone()].into_iter().chain(beyond.out.clone()));
        }
        folders
    }

    /// Brings a snapshot that RAM lacks there. Nothing if there is none, or nowhere to bring it from.
    pub(super) fn stage(&self, name: &str) -> Result<Option<Snapshot>, SnapshotError> {
        for folder in self.folders().iter().skip(1) {
            match self.stage_from(folder, name) {
                Err(error) if error.is_absent() => {}
                staged => return staged.map(Some),
            }
        }
        Ok(None)
    }

    fn stage_from(&self, folder: &Path, name: &str) -> Result<Snapshot, SnapshotError> {
        let parts = Parts::open(folder, name)?;
        let state = parts.state()?;
        // Before it is here: both would not fit for a moment.
        let left = self.limit_bytes.saturating_sub(parts.manifest.memory_kept_bytes());
        let _ = self.prune(left, &mut |_| ());
        let claim = Claim::make(&self.folder(), Purpose::Draft)?;
        let copied = parts.manifest.memory.copy(&parts.memory, claim.file());
        copied.map_err(|fault| parts.fault(fault, &claim.path().join(MEMORY)))?;
        // The lock is this machine's own: other jobs have it for a moment only.
        let memory = self.settle(claim, name, (&parts.bytes, &state), Replace::Anything, &mut |_| ())?;
        Ok(Snapshot { manifest: parts.manifest, state, memory })
    }

    /// Copies a snapshot that was made here to the machine outside.
    pub(super) fn hand_out(&self, name: &str) -> Result<(), SnapshotError> {
        let Some(out) = self.beyond.as_ref().and_then(|beyond| beyond.out.as_ref()) else { return Ok(()) };
        let parts = Parts::open(&self.folder(), name)?;
        let state = parts.state()?;
        // Of our own: another job, or another run of this one, may make the same one.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let draft = out.join(format!("{}{process}-{number}-{name}", incoming::UNFINISHED));
        remove(&draft)?;
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| SnapshotError::io("cannot write", &path, source)
        };
        fs::create_dir(&draft).map_err(failed(&draft))?;
        let path = draft.join(MEMORY);
        let memory = File::create_new(&path).map_err(failed(&path))?;
        let copied = parts.manifest.memory.copy(&parts.memory, &memory);
        copied.map_err(|fault| parts.fault(fault, &path))?;
        for (file, content) in [(STATE, &state), (MANIFEST, &parts.bytes)] {
            let path = draft.join(file);
            fs::write(&path, content).map_err(failed(&path))?;
        }
        let to = out.join(name);
        remove(&to)?;
        fs::rename(&draft, &to).map_err(failed(&to))
    }

    /// Tells the machine outside that a snapshot of its cache was used here.
    pub(super) fn tell_used(&self, name: &str) {
        // At worst it is pruned early.
        self.leave_word(incoming::USED, name);
    }

    /// Tells the machine outside that a snapshot of its cache is of no use, and takes back what was made of that name here.
    pub(super) fn tell_useless(&self, name: &str) {
        if let Some(out) = self.beyond.as_ref().and_then(|beyond| beyond.out.as_ref())
            && name::check(name).is_ok()
        {
            let _ = remove(&out.join(name));
        }
        // At worst the next machine finds out again.
        self.leave_word(incoming::USELESS, name);
    }

    fn leave_word(&self, word: &str, name: &str) {
        if let Some(out) = self.beyond.as_ref().and_then(|beyond| beyond.out.as_ref())
            && name::check(name).is_ok()
        {
            let _ = File::create(out.join(format!("{word}{name}")));
        }
    }
}

fn remove(folder: &Path) -> Result<(), SnapshotError> {
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(SnapshotError::io("cannot remove", folder, source))
        }
        _ => Ok(()),
    }
}
