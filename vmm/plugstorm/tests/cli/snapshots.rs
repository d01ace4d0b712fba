//! What the command line says of snapshots.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use plugstorm::snapshots::{Facts, Ingredients, Store};

use super::Bench;

/// A snapshot of 1 MiB with 5000 bytes in it.
fn save(bench: &Bench, name: &str) -> PathBuf {
    let store = Store::at(bench.path("cache"));
    let draft = store.draft(name).unwrap();
    draft.memory_file().write_all_at(&[7; 5000], 4096).unwrap();
    let kernel = bench.path("kernel");
    let made_of = Ingredients {
        kernel: &kernel,
        kernel_name: "debian-6.12",
        initrd: None,
        command_line: "console=ttyS0",
        cpus: 2,
        memory_bytes: 1 << 20,
        root_ports: 8,
        cpu: "plain",
        cpuid_digest: "c",
        told: b"",
    };
    let made_of = made_of.made_of().unwrap();
    let facts = Facts { made_of, tsc_khz: 2_000_000, boot_ns: 1_500_000_000, agent: None };
    #[expect(clippy::single_range_in_vec_init, reason = "one extent")]
    draft.finish(facts, b"{}".to_vec(), &[4096..9096], &mut |_| ()).unwrap();
    store.folder().join(name)
}

#[test]
fn snapshots_are_listed_shown_and_dropped() {
    let bench = Bench::new();
    let ok = |args: &[&str]| {
        let output = bench.run(&[&["snapshot"], args].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    assert_eq!(ok(&["list"]), "no snapshots in the cache\n");
    assert_eq!(ok(&["list", "--json"]), "[]\n");
    assert_eq!(ok(&["drop", "--all"]), "nothing to remove\n");
    save(&bench, "booted");
    let automatic = format!("auto-{}", "0a".repeat(16));
    save(&bench, &automatic);
    let list = ok(&["list"]);
    assert!(
        list.lines().count() == 2 && list.contains("booted") && list.contains("debian-6.12, 2 CPUs, 1 MiB"),
        "{list}"
    );
    let json: serde_json::Value = serde_json::from_str(&ok(&["list", "--json"])).unwrap();
    assert_eq!((&json[0]["name"], &json[0]["kind"]), (&automatic.as_str().into(), &"storm".into()));
    assert_eq!((&json[1]["state"], &json[1]["summary"]["cpus"]), (&"usable".into(), &2.into()));
    let shown = ok(&["show", "booted"]);
    assert!(shown.contains("all of it: 2 bytes of state, 1 MiB of memory in 1 pieces"), "{shown}");
    assert!(shown.contains("after a boot of 1.5 s") && shown.contains("made by a user"), "{shown}");
    let json: serde_json::Value = serde_json::from_str(&ok(&["show", "booted", "--json"])).unwrap();
    assert_eq!((&json["verified"], &json["summary"]["tsc_khz"]), (&true.into(), &2_000_000.into()));
    // Nothing goes if one of several is not there.
    bench.refuses(&["snapshot", "drop", "booted", "boted"], 2, "there is no snapshot boted");
    assert_eq!(ok(&["drop", "--stale"]), "nothing to remove\n");
    assert!(ok(&["drop", "booted", "booted"]).starts_with("removed booted"));
    assert_eq!(ok(&["list"]).lines().count(), 1);
    save(&bench, "booted");
    assert_eq!(ok(&["drop", "--all"]).lines().count(), 2);
    assert_eq!(ok(&["list"]), "no snapshots in the cache\n");
}

#[test]
fn snapshots_that_cannot_be_used() {
    let bench = Bench::new();
    bench.refuses(&["snapshot", "show", "booted"], 2, "there is no snapshot booted");
    bench.refuses(&["snapshot", "drop", "booted"], 2, "plugstorm snapshot list");
    bench.refuses(&["snapshot", "show", "../kernels"], 2, "is no name for a snapshot");
    bench.refuses(&["snapshot", "drop", "../kernel"], 2, "is no name for a snapshot");
    assert!(bench.path("kernel").exists());
    bench.refuses(&["snapshot", "drop"], 2, "<NAME>");
    bench.refuses(&["snapshot", "drop", "booted", "--all"], 2, "cannot be used with");
    let folder = save(&bench, "booted");
    let memory = fs::OpenOptions::new().write(true).open(folder.join("memory")).unwrap();
    memory.write_all_at(b"\x08", 5000).unwrap();
    bench.refuses(&["snapshot", "show", "booted"], 2, "booted/memory is damaged: its 5000 bytes at offset 4096");
    bench.refuses(&["snapshot", "show", "booted", "--json"], 2, "plugstorm snapshot drop booted");
    memory.set_len(4096).unwrap();
    let list = bench.run(&["snapshot", "list"]);
    let said = String::from_utf8_lossy(&list.stdout);
    assert!(said.contains("damaged\n") && said.contains("has 4096 bytes and was saved with 1048576"), "{said}");
    assert_eq!(list.status.code(), Some(0));
    fs::write(folder.join("manifest"), "rubbish").unwrap();
    bench.refuses(&["snapshot", "show", "booted"], 2, "booted/manifest does not begin with a digest");
    let dropped = bench.run(&["snapshot", "drop", "--stale"]);
    assert!(String::from_utf8_lossy(&dropped.stdout).starts_with("removed booted"));
    assert!(!folder.exists());
}

#[test]
fn snapshots_that_cannot_be_saved() {
    let bench = Bench::new();
    save(&bench, "booted");
    bench.file("box.cpio", b"");
    let refuses = |args: &[&str], sentence: &str| {
        bench.refuses(&[&["snapshot", "save"], args, &["--host", "nested"]].concat(), 2, sentence);
    };
    refuses(&[], "<NAME>");
    // Before anything is looked for.
    refuses(&["../booted", "--kernel", "./missing"], "is no name for a snapshot");
    refuses(&["auto-mine", "--kernel", "./kernel"], "is no name for a snapshot");
    refuses(&[&format!("auto-{}", "0a".repeat(16))], "names that begin with auto- are given by storms");
    refuses(&["booted", "--kernel", "./missing"], "plugstorm snapshot drop booted");
    refuses(&["new", "--kernel", "./missing"], "check the path and its permissions");
    refuses(&["new", "--kernel", "./kernel", "--initrd", "box.cpio"], "--when <TEXT>");
    refuses(&["new", "--kernel", "./kernel", "--when", "login:"], "--initrd <FILE>");
    refuses(&["new", "--kernel", "./kernel", "--within", "9"], "--initrd <FILE>");
    let serial = ["new", "--kernel", "./kernel", "--initrd", "box.cpio", "--when"];
    let with = |more: &[&'static str]| [&serial[..], more].concat();
    refuses(&with(&[""]), "a value is required");
    refuses(&with(&["login:", "--within", "0"]), "0 is not in");
    refuses(&with(&["login:", "--within", "soon"]), "invalid digit");
    refuses(&with(&["login:", "--cpus", "17"]), "1 to 16");
    refuses(&with(&["login:", "--memory", "512"]), "has no unit");
    refuses(&["new", "--kernel", "./kernel", "--initrd", "missing", "--when", "x"], "cannot read the initramfs");
    refuses(&["new", "--kernel", "./kernel", "--cpus", "0"], "1 to 16");
    // Nothing is left of them.
    let list = bench.run(&["snapshot", "list"]);
    assert_eq!(String::from_utf8_lossy(&list.stdout).lines().count(), 1);
}

#[test]
fn snapshots_that_cannot_be_gone_on_from() {
    let bench = Bench::new();
    let folder = save(&bench, "booted");
    for command in [&["run", "--from"][..], &["snapshot", "measure"]] {
        let refuses = |name: &str, sentence: &str| {
            bench.refuses(&[command, &[name, "--host", "nested"]].concat(), 2, sentence);
        };
        refuses("boted", "there is no snapshot boted");
        refuses("../kernels", "is no name for a snapshot");
    }
    for (option, value) in
        [("kernel", "./kernel"), ("initrd", "x"), ("append", "x"), ("cpus", "1"), ("cpu", "host"), ("memory", "1GiB")]
    {
        let option = format!("--{option}={value}");
        bench.refuses(&["run", "--from", "booted", &option], 2, "cannot be used with");
    }
    bench.refuses(&["run"], 2, "--kernel <FILE>");
    for copies in ["0", "1", "101", "many"] {
        bench.refuses(&["snapshot", "measure", "booted", "--idle", copies], 2, "invalid value");
    }
    let memory = fs::OpenOptions::new().write(true).open(folder.join("memory")).unwrap();
    memory.write_all_at(b"\x08", 5000).unwrap();
    for command in [&["run", "--from", "booted"][..], &["snapshot", "measure", "booted"]] {
        bench.refuses(&[command, &["--host", "nested"]].concat(), 2, "booted/memory is damaged: its 5000 bytes");
    }
    fs::write(folder.join("manifest"), of_another_build(&folder)).unwrap();
    for command in [&["run", "--from", "booted"][..], &["snapshot", "measure", "booted"]] {
        bench.refuses(&[command, &["--host", "nested"]].concat(), 2, "saved by another build of plugstorm (0.0.1-old;");
    }
}

/// The manifest with another build in it, and a digest that fits.
fn of_another_build(folder: &Path) -> Vec<u8> {
    let manifest = fs::read_to_string(folder.join("manifest")).unwrap();
    let (_, json) = manifest.split_once('\n').unwrap();
    let mut json: serde_json::Value = serde_json::from_str(json).unwrap();
    json["build"] = "0.0.1-old".into();
    let json = json.to_string();
    format!("{:032x}\n{json}", twox_hash::XxHash3_128::oneshot(json.as_bytes())).into_bytes()
}
