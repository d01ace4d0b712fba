//! A name comes with all of a snapshot or not at all.

use std::process::{Command, Stdio};
use std::time::Instant;

use super::*;

#[test]
fn contradictions_are_found_before_anything_is_published() {
    let ground = Ground::new();
    let finish = |draft: Draft, extents: &[Range<u64>]| {
        let error = draft.finish(facts(), state(1), extents, &mut |_| ()).unwrap_err();
        assert!(matches!(error, SnapshotError::Contradiction { .. }), "{error}");
        error.to_string()
    };
    let filled = || {
        let draft = ground.store.draft("one").unwrap();
        fill(&draft, 1);
        draft
    };
    assert!(finish(filled(), &EXTENTS[..2]).contains("its memory at 2097229 is not zero"));
    let reversed: Vec<_> = EXTENTS.into_iter().rev().collect();
    assert!(finish(filled(), &reversed).contains("overlaps"));
    let long = filled();
    long.memory_file().set_len(MEMORY_BYTES + 1).unwrap();
    assert!(finish(long, &EXTENTS).contains("its guest 3145728"));
    assert_eq!(ground.entries(), BTreeSet::new());
}

#[test]
fn a_draft_that_is_given_up_leaves_nothing() {
    let ground = Ground::new();
    fill(&ground.store.draft("one").unwrap(), 1);
    assert_eq!(ground.entries(), BTreeSet::new());
}

#[test]
fn what_a_killed_process_leaves_is_never_opened_and_is_swept() {
    let ground = Ground::new();
    // At each step of its work, a copy of its folder as it would stay behind.
    let draft = ground.store.draft("one").unwrap();
    let copy = |number: u8| {
        let to = ground.store.folder().join(format!(".draft-dead-{number}"));
        fs::create_dir(&to).unwrap();
        for entry in fs::read_dir(ground.draft_folder()).unwrap().flatten() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    copy(1);
    fill(&draft, 1);
    copy(2);
    draft.finish(facts(), state(1), &EXTENTS, &mut |_| ()).unwrap();
    ground.store.remove("one", &mut |_| ()).unwrap();
    assert!(ground.store.open("one").unwrap_err().is_absent());
    assert!(ground.store.list().unwrap().is_empty());
    // One is at work while another finishes.
    let draft = ground.store.draft("two").unwrap();
    fill(&draft, 1);
    ground.snapshot("three");
    draft.finish(facts(), state(1), &EXTENTS, &mut |_| ()).unwrap();
    assert_eq!(ground.entries(), ["three", "two"].map(str::to_owned).into());
}

impl Ground {
    fn draft_folder(&self) -> PathBuf {
        let names = self.entries();
        let name = names.iter().find(|name| name.starts_with(".draft-") && !name.contains("dead")).unwrap();
        self.store.folder().join(name)
    }
}

#[test]
fn a_killed_process_itself_leaves_nothing_that_can_be_opened() {
    let ground = Ground::new();
    let draft = ground.store.draft("one").unwrap();
    fill(&draft, 1);
    // Its destructors do not run, but its descriptors are closed.
    draft.abandon();
    assert_eq!(ground.entries().len(), 1);
    assert!(ground.store.open("one").unwrap_err().is_absent());
    drop(ground.store.draft("one").unwrap());
    assert_eq!(ground.entries(), BTreeSet::new());
}

#[test]
fn an_automatic_one_is_replaced_and_a_users_is_not() {
    let ground = Ground::new();
    let key = automatic(1);
    let first = save(&ground.store, &key, 1).unwrap();
    save(&ground.store, &key, 2).unwrap();
    assert_eq!(ground.store.open(&key).unwrap().state, state(2));
    // Whoever has the first open goes on with it.
    assert_ne!(memory(&first), memory(&ground.store.open(&key).unwrap()));
    // A damaged one is no obstacle.
    fs::remove_file(ground.file(&key, STATE)).unwrap();
    save(&ground.store, &key, 3).unwrap();
    assert_eq!(ground.store.open(&key).unwrap().state, state(3));

    let late = ground.store.draft("one").unwrap();
    fill(&late, 2);
    ground.snapshot("one");
    let taken = |error: SnapshotError| assert!(matches!(error, SnapshotError::Taken { .. }), "{error}");
    taken(ground.store.draft("one").unwrap_err());
    taken(late.finish(facts(), state(2), &EXTENTS, &mut |_| ()).unwrap_err());
    assert_eq!(ground.store.open("one").unwrap().state, state(1));
    assert_eq!(ground.entries(), [key, "one".to_owned()].into());
}

#[test]
fn many_publish_the_same_name_and_readers_see_one_of_them() {
    let ground = Ground::new();
    let key = automatic(1);
    thread::scope(|scope| {
        let writers: Vec<_> = (1..=2)
            .map(|seed| {
                let (store, key) = (&ground.store, &key);
                scope.spawn(move || (0..12).for_each(|_| drop(save(store, key, seed).unwrap())))
            })
            .collect();
        let mut opened = 0;
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            match ground.store.open(&key) {
                Ok(snapshot) => {
                    assert!([state(1), state(2)].contains(&snapshot.state));
                    opened += 1;
                }
                // Between two renames there is none.
                Err(error) => assert!(error.is_absent(), "{error}"),
            }
        }
        assert!(opened > 0);
    });
    ground.store.open(&key).unwrap();
    assert_eq!(ground.entries(), [key].into());
}

#[test]
fn of_two_users_one_gets_the_name() {
    let ground = Ground::new();
    let saved: Vec<bool> = thread::scope(|scope| {
        let savers = [1, 2, 3, 4].map(|seed| {
            scope.spawn({
                let store = &ground.store;
                move || match save(store, "one", seed) {
                    Ok(_) => true,
                    Err(SnapshotError::Taken { .. }) => false,
                    Err(error) => panic!("{error}"),
                }
            })
        });
        savers.map(|saver| saver.join().unwrap()).into()
    });
    assert_eq!(saved.iter().filter(|saved| **saved).count(), 1);
    ground.store.open("one").unwrap();
}

/// Where the test below finds, as a process to be killed, the cache that it is to write to.
const VICTIM: &str = "PLUGSTORM_TEST_VICTIM";

#[test]
fn a_process_may_be_killed_at_any_moment() {
    let key = automatic(1);
    if let Some(root) = std::env::var_os(VICTIM) {
        let store = Store::at(PathBuf::from(root));
        loop {
            save(&store, &key, 1).unwrap();
        }
    }
    let ground = Ground::new();
    let victim = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = "snapshots::tests::publish::a_process_may_be_killed_at_any_moment";
        let command = command.args(["--exact", name]).env(VICTIM, &ground.store.root);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let kill = |mut victim: std::process::Child| {
        victim.kill().unwrap();
        victim.wait().unwrap();
    };
    // How long one takes here to its first snapshot: the others are killed in about that time.
    let began = Instant::now();
    let first = victim();
    while ground.store.open(&key).is_err() {
        assert!(began.elapsed() < Duration::from_secs(600), "there is none");
        thread::sleep(Duration::from_millis(1));
    }
    let usual = began.elapsed();
    kill(first);
    let mut random = ChaCha8Rng::seed_from_u64(11);
    for _ in 0..30 {
        let victims = [victim(), victim()];
        thread::sleep(usual.mul_f64(random.random_range(0.1..2.0)));
        victims.into_iter().for_each(kill);
        match ground.store.open(&key) {
            Ok(snapshot) => assert_eq!(snapshot.state, state(1)),
            Err(error) => assert!(error.is_absent(), "{error}"),
        }
    }
    ground.snapshot("mine");
    save(&ground.store, &key, 2).unwrap();
    assert_eq!(ground.entries(), [key, "mine".to_owned()].into());
}
