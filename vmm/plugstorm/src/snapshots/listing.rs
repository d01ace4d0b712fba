//! What is in the store, and what of it goes first.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::read::{MANIFEST, Parts};
use super::{Kind, Manifest, SnapshotError, Store, name, set_aside};
use crate::cache::CacheLock;

/// A snapshot, without a look at its memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Who made it.
    pub kind: Kind,
    /// Can it be used?
    #[serde(flatten)]
    pub state: State,
    /// What it really takes.
    pub bytes_on_disk: u64,
    /// When it was last used, or made, in seconds since 1970.
    pub last_used_unix_s: u64,
    /// What its manifest says, if that can be read.
    pub summary: Option<Summary>,
}

/// Can it be used, as far as can be told without a look at its memory?
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "why", rename_all = "lowercase")]
pub enum State {
    /// It can.
    Usable,
    /// It is whole and of no use to this plugstorm: why.
    Stale(String),
    /// It is not whole: why.
    Damaged(String),
}

/// The short form of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Who wrote it.
    pub build: String,
    /// When, in seconds since 1970.
    pub created_unix_s: u64,
    /// The kernel's name.
    pub kernel: String,
    /// The command line.
    pub command_line: String,
    /// vCPUs.
    pub cpus: u8,
    /// The guest's memory.
    pub memory_bytes: u64,
    /// Of it, what is kept.
    pub memory_kept_bytes: u64,
    /// Root ports.
    pub root_ports: u8,
    /// The CPU template's name.
    pub cpu: String,
    /// The guest's TSC.
    pub tsc_khz: u32,
    /// What its boot took.
    pub boot_ns: u64,
    /// There is an agent in it, which waits for a storm.
    pub has_agent: bool,
}

impl From<&Manifest> for Summary {
    fn from(manifest: &Manifest) -> Self {
        let made_of = &manifest.made_of;
        Self {
            build: manifest.build.clone(),
            created_unix_s: manifest.created_unix_s,
            kernel: made_of.kernel.name.clone(),
            command_line: made_of.command_line.clone(),
            cpus: made_of.cpus,
            memory_bytes: made_of.memory_bytes,
            memory_kept_bytes: manifest.memory_kept_bytes(),
            root_ports: made_of.root_ports,
            cpu: made_of.cpu.clone(),
            tsc_khz: manifest.tsc_khz,
            boot_ns: manifest.boot_ns,
            has_agent: manifest.agent.is_some(),
        }
    }
}

impl Store {
    /// All snapshots, by name. What cannot have been made by plugstorm is left out.
    ///
    /// # Errors
    /// [`SnapshotError::Io`] if the store is there and cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, SnapshotError> {
        Ok(self.names()?.into_iter().filter_map(|name| self.listed(&name)).collect())
    }

    /// One of them; nothing if there is none of this name.
    #[must_use]
    pub fn listed(&self, name: &str) -> Option<Listed> {
        name::check(name).ok()?;
        let folder = self.folder();
        let path = folder.join(name).join(MANIFEST);
        let (state, summary) = match Parts::open(&folder, name) {
            Ok(parts) => (State::Usable, Some(Summary::from(&parts.manifest))),
            // It went while we looked.
            Err(error) if error.is_absent() => return None,
            Err(error) => {
                let glimpse = fs::read(&path).ok().and_then(|bytes| Manifest::glimpse(&bytes, name, &path));
                let why = error.to_string();
                let state = if error.is_stale() { State::Stale(why) } else { State::Damaged(why) };
                (state, glimpse.as_ref().map(Summary::from))
            }
        };
        let (bytes_on_disk, last_used) = weigh(&folder.join(name));
        let (name, kind, last_used_unix_s) = (name.to_owned(), Kind::of(name), last_used.as_secs());
        Some(Listed { name, kind, state, bytes_on_disk, last_used_unix_s, summary })
    }

    /// Removes automatic snapshots until they take no more than `limit_bytes` together, those first that were not used for
    /// longest. Gives the names of those that are gone. `progress` is told if another process keeps us waiting.
    ///
    /// # Errors
    /// [`SnapshotError`]: the cache cannot be written.
    pub fn prune(&self, limit_bytes: u64, progress: &mut dyn FnMut(&str)) -> Result<Vec<String>, SnapshotError> {
        if self.names()?.is_empty() {
            return Ok(Vec::new());
        }
        self.prune_under(&CacheLock::take(&self.root, progress)?, limit_bytes, None)
    }

    /// The same, but for one, which counts and stays.
    pub(super) fn prune_under(
        &self,
        lock: &CacheLock,
        limit_bytes: u64,
        keep: Option<&str>,
    ) -> Result<Vec<String>, SnapshotError> {
        let names = self.names()?.into_iter().filter(|name| Kind::of(name) == Kind::Storm);
        let mut automatic: Vec<(Duration, u64, String)> = names
            .map(|name| {
                let (bytes, last_used) = weigh(&self.folder().join(&name));
                (last_used, bytes, name)
            })
            .collect();
        automatic.sort();
        let mut total: u64 = automatic.iter().map(|(_, bytes, _)| bytes).sum();
        let mut gone = Vec::new();
        for (_, bytes, name) in automatic.into_iter().filter(|(_, _, name)| Some(name.as_str()) != keep) {
            if total <= limit_bytes {
                break;
            }
            set_aside(lock, &self.folder().join(&name))?;
            total -= bytes;
            gone.push(name);
        }
        Ok(gone)
    }

    /// The names of all folders that can be snapshots.
    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        let folder = self.folder();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| SnapshotError::io("cannot read", &folder, source))?,
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name::check(name).is_ok())
            .collect();
        names.sort();
        Ok(names)
    }
}

/// What a snapshot takes on disk, and when it was last used, since 1970.
fn weigh(folder: &Path) -> (u64, Duration) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    // stat(2): blocks are of 512 bytes, whatever the file system's are.
    let bytes = entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.blocks() * 512).sum();
    let used = fs::metadata(folder.join(MANIFEST)).or_else(|_| fs::metadata(folder));
    let used = used.and_then(|metadata| metadata.modified()).ok();
    let used = used.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    (bytes, used)
}
