//! A nested machine and the cache outside.

use super::*;

/// A nested machine's store beside the cache of the machine outside, with what it hands out to.
struct Both {
    outside: Ground,
    incoming: Option<Incoming>,
    inside: Store,
    _ram: TempDir,
}

impl Both {
    fn new() -> Self {
        let outside = Ground::new();
        let incoming = Incoming::begin(outside.store.clone()).unwrap();
        let ram = tempfile::tempdir().unwrap();
        let out = Some(incoming.folder().to_path_buf());
        let inside = Store::nested(ram.path().join("own"), &outside.store.root, out, u64::MAX);
        Self { outside, incoming: Some(incoming), inside, _ram: ram }
    }

    fn collect(&mut self) -> incoming::Collected {
        self.incoming.take().unwrap().collect(&mut |_| ())
    }
}

#[test]
fn a_nested_machine_brings_what_it_lacks_into_ram() {
    let mut both = Both::new();
    let saved = both.outside.snapshot("one");
    let age = Duration::from_secs(3600);
    File::open(both.outside.file("one", MANIFEST)).unwrap().set_modified(SystemTime::now() - age).unwrap();
    assert!(both.inside.open("two").unwrap_err().is_absent());
    let opened = both.inside.open("one").unwrap();
    assert_eq!((&opened.manifest, &opened.state), (&saved.manifest, &saved.state));
    assert_eq!(memory(&opened), memory(&saved));
    // From now on, from there.
    both.outside.store.remove("one", &mut |_| ()).unwrap();
    assert_eq!(memory(&both.inside.open("one").unwrap()), memory(&saved));
    // It was used, and that is noted outside.
    both.outside.snapshot("one");
    File::open(both.outside.file("one", MANIFEST)).unwrap().set_modified(SystemTime::now() - age).unwrap();
    let before = both.outside.store.listed("one").unwrap().last_used_unix_s;
    assert!(both.collect().names.is_empty());
    assert!(both.outside.store.listed("one").unwrap().last_used_unix_s > before + 3000);
}

#[test]
fn a_nested_machine_does_not_bring_what_is_damaged() {
    let both = Both::new();
    both.outside.snapshot("one");
    let path = both.outside.file("one", MEMORY);
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"\0", 5000).unwrap();
    let sentence = both.inside.open("one").unwrap_err().to_string();
    assert!(sentence.contains(&path.display().to_string()) && sentence.contains("offset 4096"), "{sentence}");
    assert!(both.inside.list().unwrap().is_empty());
    assert_eq!(fs::read_dir(both.inside.folder()).unwrap().count(), 0);
}

#[test]
fn what_a_nested_machine_makes_comes_into_the_cache() {
    let mut both = Both::new();
    let key = automatic(1);
    let saved = save(&both.inside, &key, 1).unwrap();
    assert_eq!(memory(&both.inside.open(&key).unwrap()), memory(&saved));
    save(&both.inside, "mine", 2).unwrap();
    // What it was killed over.
    let folder = both.incoming.as_ref().unwrap().folder().to_path_buf();
    fs::create_dir(folder.join(".draft-half")).unwrap();
    fs::create_dir(folder.join("half")).unwrap();
    fs::write(folder.join("half").join(MEMORY), "x").unwrap();
    // Another run of the same scenario was faster; and a user has taken a name meanwhile.
    save(&both.outside.store, &key, 3).unwrap();
    save(&both.inside, "taken", 2).unwrap();
    save(&both.outside.store, "taken", 3).unwrap();
    // Until it is collected it is not there.
    assert!(both.outside.store.open("mine").unwrap_err().is_absent());
    let collected = both.collect();
    assert_eq!(collected.names, [key.clone(), "mine".to_owned()]);
    let failed: Vec<String> = collected.failed.iter().map(ToString::to_string).collect();
    assert!(failed.len() == 2 && failed[0].contains("half/manifest") && failed[1].contains("taken"), "{failed:?}");
    assert_eq!(memory(&both.outside.store.open(&key).unwrap()), memory(&saved));
    assert_eq!(both.outside.store.open("mine").unwrap().state, state(2));
    assert_eq!(both.outside.store.open("taken").unwrap().state, state(3));
    assert_eq!(both.outside.entries(), [key, "mine".to_owned(), "taken".to_owned()].into());
}

#[test]
fn a_nested_machine_takes_no_name_of_the_cache_and_no_more_ram_than_its_share() {
    let both = Both::new();
    both.outside.snapshot("one");
    assert!(matches!(both.inside.draft("one"), Err(SnapshotError::Taken { .. })));
    for number in 1..=3 {
        both.outside.snapshot(&automatic(number));
    }
    let tight = Store { limit_bytes: 400_000, ..both.inside.clone() };
    for number in 1..=3 {
        tight.open(&automatic(number)).unwrap();
        let names: Vec<String> = tight.list().unwrap().into_iter().map(|one| one.name).collect();
        assert_eq!(names, [automatic(number)]);
    }
}

#[test]
fn the_folder_of_a_killed_parent_is_swept_by_the_next() {
    let ground = Ground::new();
    let dead = Incoming::begin(ground.store.clone()).unwrap();
    fs::create_dir(dead.folder().join("half")).unwrap();
    fs::write(dead.folder().join("half").join(MEMORY), "x").unwrap();
    let alive = Incoming::begin(ground.store.clone()).unwrap();
    dead.abandon();
    assert_eq!(ground.entries().len(), 2);
    let next = Incoming::begin(ground.store.clone()).unwrap();
    assert!(alive.folder().exists());
    drop((alive, next));
    assert_eq!(ground.entries(), BTreeSet::new());
}
