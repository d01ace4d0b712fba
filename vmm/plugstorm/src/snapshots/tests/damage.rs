//! Whatever is wrong with a file is seen, and the file is named.

use super::*;

#[test]
fn a_bit_anywhere_in_the_manifest_is_seen() {
    let ground = Ground::new();
    ground.snapshot("one");
    let path = ground.file("one", MANIFEST);
    let good = fs::read(&path).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bad).unwrap();
        ground.refused("one", MANIFEST);
    }
    fs::write(&path, good).unwrap();
    ground.store.open("one").unwrap();
}

#[test]
fn random_bits_of_state_and_memory_are_seen() {
    let ground = Ground::new();
    ground.snapshot("one");
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for file in [STATE, MEMORY] {
        let path = ground.file("one", file);
        let length = fs::metadata(&path).unwrap().len();
        let opened = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        for _ in 0..200 {
            let (at, bit) = (random.random_range(0..length), random.random_range(0..8));
            let mut byte = [0];
            opened.read_exact_at(&mut byte, at).unwrap();
            opened.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
            let sentence = ground.refused("one", file);
            assert!(sentence.contains("is damaged"), "{sentence}");
            opened.write_all_at(&byte, at).unwrap();
        }
    }
    ground.store.open("one").unwrap();
}

#[test]
fn files_that_are_cut_short_or_gone_are_named() {
    let ground = Ground::new();
    for file in [MANIFEST, STATE, MEMORY] {
        ground.snapshot("one");
        let path = ground.file("one", file);
        let opened = OpenOptions::new().write(true).open(&path).unwrap();
        let whole = opened.metadata().unwrap().len();
        let mut lengths: Vec<u64> = (0..40).map(|part| whole * part / 40).collect();
        lengths.extend([1, 31, 32, 33, 34, whole - 1, whole + 1]);
        let content = fs::read(&path).unwrap();
        for length in lengths {
            opened.set_len(length).unwrap();
            let sentence = ground.refused("one", file);
            assert!(file == MANIFEST || sentence.contains(&format!("has {length} bytes")), "{sentence}");
            opened.set_len(0).unwrap();
            opened.write_all_at(&content, 0).unwrap();
        }
        ground.store.open("one").unwrap();
        fs::remove_file(&path).unwrap();
        assert!(ground.refused("one", file).contains("is not there"));
        fs::create_dir(&path).unwrap();
        assert!(ground.refused("one", file).contains("is no plain file"));
        ground.store.remove("one", &mut |_| ()).unwrap();
    }
}

#[test]
fn what_is_no_snapshot_is_told() {
    let ground = Ground::new();
    let absent = ground.store.open("one").unwrap_err();
    assert!(absent.is_absent() && absent.to_string().contains("plugstorm snapshot list"), "{absent}");
    assert!(ground.store.open("../one").unwrap_err().to_string().contains("is no name"));
    ground.snapshot("one");
    // A link out of the store is not followed.
    let other = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(ground.store.folder().join("one"), ground.store.folder().join("link")).unwrap();
    assert!(ground.store.open("link").unwrap_err().to_string().contains("is no folder"));
    fs::copy(ground.file("one", STATE), other.path().join(STATE)).unwrap();
    fs::remove_file(ground.file("one", STATE)).unwrap();
    std::os::unix::fs::symlink(other.path().join(STATE), ground.file("one", STATE)).unwrap();
    assert!(ground.refused("one", STATE).contains("is no plain file"));
    // One that was copied under another name.
    ground.snapshot("two");
    fs::rename(ground.store.folder().join("two"), ground.store.folder().join("three")).unwrap();
    assert!(ground.refused("three", MANIFEST).contains("a snapshot called two"));
}
