//! Snapshots made by hand: a few MiB, sparse, without a guest.

mod damage;
mod nested;
mod publish;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use plugstorm_wire::FromGuest;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use super::*;

const MEMORY_BYTES: u64 = 3 << 20;
const EXTENTS: [Range<u64>; 3] = [4096..12288, 1 << 20..(1 << 20) + 300_000, (2 << 20) + 77..(2 << 20) + 78];

/// A cache of its own.
pub(super) struct Ground {
    _folder: TempDir,
    pub(super) store: Store,
}

pub(super) fn made_of() -> MadeOf {
    MadeOf {
        kernel: KernelFile { name: "debian-6.12".into(), digest: "k".into() },
        initrd_digest: Some("i".into()),
        command_line: "console=ttyS0".into(),
        cpus: 2,
        memory_bytes: MEMORY_BYTES,
        root_ports: 8,
        cpu: "plain".into(),
        cpuid_digest: "c".into(),
        told_digest: "t".into(),
    }
}

pub(super) fn facts() -> Facts {
    let agent = vec![FromGuest::Configured { probes_failed: Vec::new() }];
    Facts { made_of: made_of(), tsc_khz: 2_000_000, boot_ns: 1_234_567_890, agent: Some(agent) }
}

/// A state that differs from `seed` to `seed`.
fn state(seed: u8) -> Vec<u8> {
    format!("{{\"vcpus\": [{seed}], \"filler\": \"{}\"}}", "x".repeat(2000)).into_bytes()
}

pub(super) fn fill(draft: &Draft, seed: u8) {
    let mut random = ChaCha8Rng::seed_from_u64(seed.into());
    for extent in EXTENTS {
        let content: Vec<u8> = extent.clone().map(|_| random.random_range(1..=255)).collect();
        draft.memory_file().write_all_at(&content, extent.start).unwrap();
    }
}

pub(super) fn automatic(number: u8) -> String {
    format!("auto-{number:032x}")
}

impl Ground {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("cache"));
        Self { _folder: folder, store }
    }

    pub(super) fn snapshot(&self, name: &str) -> Snapshot {
        save(&self.store, name, 1).unwrap()
    }

    fn file(&self, name: &str, file: &str) -> PathBuf {
        self.store.folder().join(name).join(file)
    }

    /// What is in the store's folder, hidden things too.
    fn entries(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.store.folder()).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    /// The sentence on a snapshot that cannot be opened.
    fn refused(&self, name: &str, file: &str) -> String {
        let sentence = self.store.open(name).unwrap_err().to_string();
        assert!(sentence.contains(&self.file(name, file).display().to_string()), "{sentence}");
        assert!(sentence.contains(&format!("plugstorm snapshot drop {name}")), "{sentence}");
        sentence
    }
}

pub(super) fn save(store: &Store, name: &str, seed: u8) -> Result<Snapshot, SnapshotError> {
    let draft = store.draft(name)?;
    fill(&draft, seed);
    draft.finish(facts(), state(seed), &EXTENTS, &mut |_| ())
}

pub(super) fn memory(snapshot: &Snapshot) -> Vec<u8> {
    let mut content = vec![0; MEMORY_BYTES as usize];
    snapshot.memory.read_exact_at(&mut content, 0).unwrap();
    content
}

#[test]
fn what_is_saved_is_opened() {
    let ground = Ground::new();
    let saved = ground.snapshot("one");
    let opened = ground.store.open("one").unwrap();
    assert_eq!((&opened.manifest, &opened.state), (&saved.manifest, &state(1)));
    assert_eq!(opened.manifest.agent, facts().agent);
    let content = memory(&opened);
    assert_eq!(content, memory(&saved));
    for (at, byte) in content.iter().enumerate() {
        let inside = EXTENTS.iter().any(|extent| extent.contains(&(at as u64)));
        assert_eq!(*byte != 0, inside, "{at}");
    }
    assert!(opened.memory.write_all_at(b"x", 0).is_err(), "it is to be read only");
    assert_eq!(ground.entries(), BTreeSet::from(["one".to_owned()]));
    let files = fs::read_dir(ground.store.folder().join("one")).unwrap().count();
    assert_eq!(files, 3);
}

#[test]
fn automatic_ones_go_in_the_order_of_their_use() {
    let ground = Ground::new();
    let keys = [1, 2, 3, 4].map(automatic);
    for key in &keys {
        ground.snapshot(key);
    }
    ground.snapshot("mine");
    let age = |name: &str, hours: u64| {
        let manifest = File::open(ground.file(name, MANIFEST)).unwrap();
        manifest.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    };
    for (key, hours) in keys.iter().zip([4, 3, 2, 1]) {
        age(key, hours);
    }
    age("mine", 1000);
    // It was the oldest.
    ground.store.open(&keys[0]).unwrap();
    let listed = ground.store.list().unwrap();
    let each = listed[0].bytes_on_disk;
    assert!((300_000..MEMORY_BYTES).contains(&each), "{each}");
    let prune = |limit| ground.store.prune(limit, &mut |_| ()).unwrap();
    assert_eq!(prune(4 * each), Vec::<String>::new());
    assert_eq!(prune(3 * each), [keys[1].clone()]);
    assert_eq!(prune(each * 3 / 2), [keys[2].clone(), keys[3].clone()]);
    // What is published counts and stays, however little room there is.
    let tight = Store { limit_bytes: 0, ..ground.store.clone() };
    save(&tight, &keys[2], 1).unwrap();
    assert_eq!(ground.entries(), [keys[2].clone(), "mine".to_owned()].into());
    assert_eq!(prune(0), [keys[2].clone()]);
    ground.store.open("mine").unwrap();
}

#[test]
fn a_list_tells_what_is_usable() {
    let ground = Ground::new();
    assert_eq!(ground.store.list().unwrap(), []);
    ground.snapshot("good");
    ground.snapshot("cut");
    OpenOptions::new().write(true).open(ground.file("cut", MEMORY)).unwrap().set_len(7).unwrap();
    ground.snapshot("old");
    let path = ground.file("old", MANIFEST);
    let mut manifest = ground.store.open("old").unwrap().manifest;
    manifest.build = "0.0.1-abc".into();
    fs::write(&path, manifest.encode().unwrap()).unwrap();
    fs::create_dir(ground.store.folder().join("empty")).unwrap();
    // Neither is a snapshot.
    fs::create_dir(ground.store.folder().join("has blank")).unwrap();
    fs::write(ground.store.folder().join("file"), "").unwrap();
    let listed = ground.store.list().unwrap();
    let states: Vec<(&str, bool)> = listed.iter().map(|one| (one.name.as_str(), one.summary.is_some())).collect();
    assert_eq!(states, [("cut", true), ("empty", false), ("good", true), ("old", true)]);
    assert!(matches!(&listed[0].state, State::Damaged(why) if why.contains("has 7 bytes")), "{listed:?}");
    assert!(matches!(&listed[1].state, State::Damaged(why) if why.contains("empty/manifest is not there")));
    assert_eq!(listed[2].state, State::Usable);
    assert!(matches!(&listed[3].state, State::Stale(why) if why.contains("0.0.1-abc")));
    let json = serde_json::to_value(&listed).unwrap();
    assert_eq!((&json[2]["state"], &json[2]["kind"]), (&"usable".into(), &"user".into()));
    assert_eq!(json[3]["state"], "stale");
    assert!(json[3]["why"].is_string());
    // Each can be removed as it is.
    for one in &listed {
        ground.store.remove(&one.name, &mut |_| ()).unwrap();
        assert!(ground.store.remove(&one.name, &mut |_| ()).unwrap_err().is_absent());
    }
    assert_eq!(ground.store.list().unwrap(), []);
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let store = Store::at("/proc/plugstorm");
    let error = store.draft("one").unwrap_err().to_string();
    assert!(error.contains("/proc/plugstorm/snapshots"), "{error}");
    assert_eq!(store.list().unwrap(), []);
    assert!(store.remove("one", &mut |_| ()).unwrap_err().is_absent());
}
