//! What a snapshot says of itself: a line with the digest of what follows, then JSON.

use std::path::Path;

use plugstorm_wire::FromGuest;
use serde::{Deserialize, Serialize};

use super::memory::{Extent, MemoryFile};
use super::{Kind, MadeOf, SnapshotError, digest};

/// The layout of folder and manifest.
pub const FORMAT: u32 = 1;

/// The build that writes and reads here: what decides whether a saved machine can be understood (build.rs).
#[must_use]
pub fn build() -> &'static str {
    env!("PLUGSTORM_BUILD")
}

/// `manifest` of a snapshot, without its first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// [`build`].
    pub build: String,
    /// The snapshot's name, which is also its folder's.
    pub name: String,
    /// When it was saved, in seconds since 1970.
    pub created_unix_s: u64,
    /// The guest.
    pub made_of: MadeOf,
    /// The guest's TSC.
    pub tsc_khz: u32,
    /// What the guest's boot took.
    pub boot_ns: u64,
    /// What the agent said of itself before the save, in order. None of a guest without one.
    pub agent: Option<Vec<FromGuest>>,
    /// `state.json`.
    pub state: StateFile,
    /// `memory`.
    pub memory: MemoryFile,
}

/// A file with one digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateFile {
    /// Its length.
    pub bytes: u64,
    /// Of all of it.
    pub digest: String,
}

/// What every format has, and is read before the rest.
#[derive(Deserialize)]
struct Head {
    format: u32,
    build: String,
}

impl Manifest {
    /// Who made it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::of(&self.name)
    }

    /// Of the guest's memory, what is kept on disk.
    #[must_use]
    pub fn memory_kept_bytes(&self) -> u64 {
        self.memory.extents.iter().map(|extent| extent.bytes).sum()
    }

    /// The whole file.
    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = serde_json::to_vec(self)?;
        json.push(b'\n');
        let mut bytes = digest::of(&json).into_bytes();
        bytes.push(b'\n');
        bytes.append(&mut json);
        Ok(bytes)
    }

    /// Reads the file of the snapshot `name`, at `path`.
    pub(super) fn decode(bytes: &[u8], name: &str, path: &Path) -> Result<Self, SnapshotError> {
        let not = |reason: String| SnapshotError::NotASnapshot { name: name.into(), path: path.into(), reason };
        let json = checked(bytes, name, path)?;
        // Format and build first: what they allow to differ is no mistake.
        let head: Head = serde_json::from_slice(json).map_err(|error| not(format!("is no manifest ({error})")))?;
        if head.format != FORMAT {
            return Err(SnapshotError::OtherFormat { name: name.into(), found: head.format, wanted: FORMAT });
        }
        if head.build != build() {
            let wanted = build().to_owned();
            return Err(SnapshotError::OtherBuild { name: name.into(), found: head.build, wanted });
        }
        let manifest: Self = serde_json::from_slice(json).map_err(|error| not(format!("is no manifest ({error})")))?;
        if manifest.name != name {
            return Err(not(format!("is the manifest of a snapshot called {}", manifest.name)));
        }
        manifest.memory.check(manifest.made_of.memory_bytes).map_err(|reason| not(format!("is wrong: {reason}")))?;
        Ok(manifest)
    }

    /// What can be read of a manifest of another build, for a person to see.
    pub(super) fn glimpse(bytes: &[u8], name: &str, path: &Path) -> Option<Self> {
        serde_json::from_slice(checked(bytes, name, path).ok()?).ok()
    }
}

/// What follows the first line, if the first line says so.
fn checked<'a>(bytes: &'a [u8], name: &str, path: &Path) -> Result<&'a [u8], SnapshotError> {
    let is_digest = |line: &[u8]| line.iter().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(digit));
    let (line, rest) = bytes.split_at_checked(digest::DIGITS).unwrap_or_default();
    let (true, Some((b'\n', json))) = (is_digest(line), rest.split_first()) else {
        let reason = "does not begin with a digest".to_owned();
        return Err(SnapshotError::NotASnapshot { name: name.into(), path: path.into(), reason });
    };
    if digest::of(json).as_bytes() != line {
        let offset = (digest::DIGITS + 1) as u64;
        return Err(SnapshotError::Damaged { name: name.into(), path: path.into(), offset, bytes: json.len() as u64 });
    }
    Ok(json)
}

impl MemoryFile {
    /// Can it be the memory of a guest with so much?
    fn check(&self, guest_bytes: u64) -> Result<(), String> {
        if self.bytes != guest_bytes {
            return Err(format!("its memory has {} bytes, its guest's has {guest_bytes}", self.bytes));
        }
        let mut end = 0;
        for Extent { offset, bytes, .. } in &self.extents {
            let fits = *bytes > 0 && *bytes <= super::memory::PIECE_BYTES && *offset >= end;
            end = offset.saturating_add(*bytes);
            if !fits || end > self.bytes {
                return Err(format!("its extent of {bytes} bytes at {offset} is out of place"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Ground;
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Manifest, SnapshotError> {
        Manifest::decode(bytes, "one", Path::new("/s/one/manifest"))
    }

    /// The manifest with another value at one key.
    fn with(manifest: &Manifest, key: &str, value: serde_json::Value) -> Vec<u8> {
        let mut json = serde_json::to_value(manifest).unwrap();
        json[key] = value;
        let json = json.to_string();
        format!("{}\n{json}", digest::of(json.as_bytes())).into_bytes()
    }

    #[test]
    fn what_is_written_is_read() {
        let manifest = Ground::new().snapshot("one").manifest;
        assert_eq!(decode(&manifest.encode().unwrap()).unwrap(), manifest);
        assert_eq!(manifest.build, build());
        let build = build().strip_prefix(env!("CARGO_PKG_VERSION")).unwrap();
        assert!(build.len() == 17 && build.starts_with('-'), "{build}");
    }

    #[test]
    fn other_formats_and_builds_are_told_apart_from_damage() {
        let manifest = Ground::new().snapshot("one").manifest;
        let error = decode(&with(&manifest, "format", 7.into())).unwrap_err();
        assert!(error.is_stale() && error.to_string().contains("format 7"), "{error}");
        let bytes = with(&manifest, "build", "0.0.1-abc".into());
        let error = decode(&bytes).unwrap_err();
        assert!(error.is_stale() && error.to_string().contains("(0.0.1-abc; this one is"), "{error}");
        assert_eq!(Manifest::glimpse(&bytes, "one", Path::new("")).unwrap().made_of, manifest.made_of);
    }

    #[test]
    fn what_is_out_of_place_is_refused() {
        let manifest = Ground::new().snapshot("one").manifest;
        let refused = |bytes: &[u8], reason: &str| {
            let error = decode(bytes).unwrap_err().to_string();
            assert!(error.contains("/s/one/manifest") && error.contains(reason), "{error}");
        };
        refused(&with(&manifest, "extra", 1.into()), "unknown field `extra`");
        refused(&with(&manifest, "state", serde_json::Value::Null), "is no manifest");
        refused(&with(&manifest, "name", "two".into()), "a snapshot called two");
        refused(b"", "does not begin with a digest");
        refused(b"99aa06d3014798d86001c324468d497f", "does not begin with a digest");
        refused(b"99aa06d3014798d86001c324468d497f\n", "is no manifest");
        refused(b"99AA06D3014798D86001C324468D497F\n", "does not begin with a digest");
        let memory = |change: &dyn Fn(&mut MemoryFile)| {
            let mut memory = manifest.memory.clone();
            change(&mut memory);
            with(&manifest, "memory", serde_json::to_value(memory).unwrap())
        };
        refused(&memory(&|memory| memory.bytes += 1), "its guest's has");
        refused(&memory(&|memory| memory.extents.reverse()), "out of place");
        refused(&memory(&|memory| memory.extents[0].bytes = 0), "out of place");
        refused(&memory(&|memory| memory.extents[0].bytes = u64::MAX), "out of place");
        refused(&memory(&|memory| memory.extents[0].offset = u64::MAX), "out of place");
    }
}
