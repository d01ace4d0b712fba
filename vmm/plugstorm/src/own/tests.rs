//! What cannot go into a guest is found before it boots, and said at its place.

use super::*;
use crate::scenario::parse;

/// An ELF file with sections, as an assembler makes one: `.modinfo` with this in it.
fn module(modinfo: &[u8]) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let (header, entry) = (64, 64);
    let modinfo_at = header;
    let names_at = modinfo_at + modinfo.len();
    let sections_at = (names_at + names.len()).next_multiple_of(8);
    let mut file = vec![0; sections_at + 3 * entry];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[1, 0, 62, 0, 1]); // e_type: relocatable; e_machine: x86-64; e_version
    put(40, &(sections_at as u64).to_le_bytes()); // e_shoff
    put(52, &64_u16.to_le_bytes()); // e_ehsize
    put(58, &64_u16.to_le_bytes()); // e_shentsize
    put(60, &3_u16.to_le_bytes()); // e_shnum
    put(62, &2_u16.to_le_bytes()); // e_shstrndx
    put(modinfo_at, modinfo);
    put(names_at, names);
    for (index, name, kind, at, length) in
        [(1, 1_u32, 1_u32, modinfo_at, modinfo.len()), (2, 10, 3, names_at, names.len())]
    {
        let section = sections_at + index * entry;
        put(section, &name.to_le_bytes());
        put(section + 4, &kind.to_le_bytes());
        put(section + 24, &(at as u64).to_le_bytes());
        put(section + 32, &(length as u64).to_le_bytes());
    }
    file
}

/// A program that asks for this interpreter, if any.
fn program(interpreter: Option<&str>) -> Vec<u8> {
    let mut file = vec![0; 64 + 56];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16..21].copy_from_slice(&[2, 0, 62, 0, 1]);
    file[32] = 64; // e_phoff
    file[52] = 64; // e_ehsize
    file[54] = 56; // e_phentsize
    file[56] = 1; // e_phnum
    file[64] = 1; // p_type
    if let Some(interpreter) = interpreter {
        file[64] = 3;
        file[64 + 8] = 120; // p_offset
        file[64 + 32] = u8::try_from(interpreter.len() + 1).unwrap(); // p_filesz
        file.extend(interpreter.as_bytes());
        file.push(0);
    }
    file
}

const SCENARIO: &str = r#"
[guest]
modules = ["my-driver.ko", { file = "gpio-virtio.ko", options = "a=1" }]
[[guest.file]]
from = "probe"
to = "/bin/probe"
[[guest.file]]
from = "data"
to = "/etc/data"
mode = 0o600
[[step]]
do = "run"
program = ["/bin/probe"]
"#;

struct Ground {
    folder: tempfile::TempDir,
    kernel: GuestKernel,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let ours = b"name=x\0vermagic=6.12.1 SMP preempt mod_unload \0";
        for name in ["plugstorm.ko", "gpio_virtio.ko", "virtio_pci.ko", "my-driver.ko", "gpio-virtio.ko"] {
            let file =
                if name.contains('_') || name == "plugstorm.ko" { format!("kernel-{name}") } else { name.into() };
            fs::write(path(&file), module(ours)).unwrap();
        }
        fs::create_dir(path("kernel")).unwrap();
        for name in ["plugstorm.ko", "gpio_virtio.ko", "virtio_pci.ko"] {
            fs::rename(path(&format!("kernel-{name}")), path(&format!("kernel/{name}"))).unwrap();
        }
        fs::write(path("probe"), program(None)).unwrap();
        fs::write(path("data"), "D").unwrap();
        fs::write(path("own.toml"), SCENARIO).unwrap();
        let kernel = GuestKernel {
            name: "debian-6.12".into(),
            image: path("bzImage"),
            release: Some("6.12.1".into()),
            modules: ["plugstorm.ko", "gpio_virtio.ko", "virtio_pci.ko"].map(|name| path("kernel").join(name)).to_vec(),
            self_tests: Vec::new(),
            measures: Vec::new(),
            scale_tests: Vec::new(),
            watchers: Vec::new(),
            notes: Vec::new(),
            is_file: false,
        };
        Self { folder, kernel }
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }

    fn pack(&self) -> Result<Parcel, ScenarioError> {
        let file = self.folder.path().join("own.toml");
        let scenario = parse(&fs::read_to_string(&file).unwrap(), "own.toml", "own").unwrap();
        pack(&scenario, &file, &self.kernel)
    }

    fn complaint(&self) -> String {
        match self.pack().unwrap_err() {
            ScenarioError::Wrong(wrong) => {
                let told = wrong.mistakes.iter().map(|it| format!("{} ({})", it.message, it.help.as_deref().unwrap()));
                told.collect::<Vec<_>>().join("\n")
            }
            other @ ScenarioError::Unreadable { .. } => other.to_string(),
        }
    }
}

#[test]
fn modules_files_and_options_are_where_the_agent_looks() {
    let ground = Ground::new();
    let parcel = ground.pack().unwrap();
    let names: Vec<_> =
        parcel.modules.iter().map(|path| path.strip_prefix(ground.folder.path()).unwrap().to_str().unwrap()).collect();
    // The user's gpio-virtio takes the place of the kernel's.
    assert_eq!(names, ["kernel/plugstorm.ko", "kernel/virtio_pci.ko", "my-driver.ko", "gpio-virtio.ko"]);
    let extra: Vec<_> = parcel.extra.iter().map(|file| (file.path.as_str(), file.mode, file.content.len())).collect();
    assert_eq!(
        extra,
        [
            ("plugstorm/modules/02-my-driver.ko", 0o644, 328),
            ("plugstorm/modules/02-my-driver.options", 0o644, 0),
            ("plugstorm/modules/03-gpio-virtio.ko", 0o644, 328),
            ("plugstorm/modules/03-gpio-virtio.options", 0o644, 3),
            ("bin/probe", 0o755, 120),
            ("etc/data", 0o600, 1),
        ]
    );
}

#[test]
fn the_kernels_virtio_gpio_driver_comes_last_and_only_then() {
    let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
    let kernel = paths(&["k/virtio.ko", "k/plugstorm.ko", "k/gpio-virtio.ko", "k/virtio_pci.ko"]);
    assert_eq!(order(&kernel, &[]), kernel);
    let own = paths(&["b.ko", "a.ko"]);
    assert_eq!(
        order(&kernel, &own),
        paths(&["k/virtio.ko", "k/plugstorm.ko", "k/virtio_pci.ko", "b.ko", "a.ko", "k/gpio-virtio.ko"])
    );
}

#[test]
fn all_sources_are_named_for_those_who_must_share_them() {
    let scenario = parse(SCENARIO, "own.toml", "own").unwrap();
    let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
    assert_eq!(
        sources(&scenario, Path::new("a/own.toml")),
        paths(&["a/my-driver.ko", "a/gpio-virtio.ko", "a/probe", "a/data"])
    );
    assert_eq!(sources(&scenario, Path::new("own.toml")).first(), Some(&PathBuf::from("my-driver.ko")));
}

#[test]
fn a_module_for_another_kernel_is_said_so() {
    let ground = Ground::new();
    for (vermagic, expected) in [
        (
            "6.1.0 SMP preempt mod_unload ",
            "built for another kernel: for `6.1.0 SMP preempt mod_unload`, and debian-6.12 is `6.12.1 SMP",
        ),
        ("6.12.1 SMP mod_unload ", "and debian-6.12 is `6.12.1 SMP preempt mod_unload`"),
    ] {
        ground.write("my-driver.ko", &module(format!("vermagic={vermagic}\0").as_bytes()));
        let complaint = ground.complaint();
        assert!(
            complaint.contains(expected) && complaint.contains("build it against the headers of 6.12.1"),
            "{complaint}"
        );
    }
    // Where no module goes with the kernel, its release is all there is to compare.
    let mut ground = Ground::new();
    ground.kernel.modules.clear();
    ground.write("my-driver.ko", &module(b"vermagic=6.12.1 SMP something else\0"));
    ground.pack().unwrap();
    ground.kernel.release = None;
    ground.write("my-driver.ko", &module(b"vermagic=6.1.0\0"));
    ground.pack().unwrap();
}

#[test]
fn what_is_no_module_is_said_so() {
    let ground = Ground::new();
    for (content, expected) in [
        (&b"\xfd7zXZ\0..."[..], "`my-driver.ko` is compressed (unpack it: `xz -dk my-driver.ko`)"),
        (b"\x1f\x8b...", "gzip -dk"),
        (b"hello", "is no kernel module"),
        (b"", "is no kernel module"),
    ] {
        ground.write("my-driver.ko", content);
        assert!(ground.complaint().contains(expected), "{}", ground.complaint());
    }
}

#[test]
fn a_file_that_cannot_be_had_is_named() {
    let ground = Ground::new();
    let path = |name: &str| ground.folder.path().join(name);
    fs::remove_file(path("data")).unwrap();
    fs::remove_file(path("my-driver.ko")).unwrap();
    let complaint = ground.complaint();
    assert!(complaint.contains("data cannot be read: No such file") && complaint.lines().count() == 2, "{complaint}");
    fs::create_dir(path("data")).unwrap();
    assert!(ground.complaint().contains("data is no file"));
    fs::remove_dir(path("data")).unwrap();
    nix::unistd::mkfifo(&path("data"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(ground.complaint().contains("data is no file"));
    fs::remove_file(path("data")).unwrap();
    File::create(path("data")).unwrap().set_len(MOST_FILE_BYTES + 1).unwrap();
    assert!(ground.complaint().contains("data is larger than 64 MiB"));
}

#[test]
fn all_files_together_have_a_bound() {
    let ground = Ground::new();
    let mut read = Reader { folder: ground.folder.path(), left: 121 };
    assert_eq!(read.whole("probe").map(|content| content.len()), Ok(120));
    assert_eq!(read.whole("data").map(|content| content.len()), Ok(1));
    assert!(read.whole("data").unwrap_err().contains("the files for the guest are more than"));
}

#[test]
fn a_program_that_cannot_run_is_said_so_before_anything_boots() {
    let ground = Ground::new();
    for (content, expected) in [
        (program(Some("/lib64/ld-linux-x86-64.so.2")), Some("needs `/lib64/ld-linux-x86-64.so.2` to run")),
        (b"#! /bin/sh -e\necho".to_vec(), Some("needs `/bin/sh` to run")),
        (b"echo".to_vec(), Some("is no program: it is no 64-bit ELF file and no script")),
        (program(None)[..80].to_vec(), Some("it is cut short")),
        (program(Some("/etc/data")), None),
        (b"#!/etc/data".to_vec(), None),
    ] {
        ground.write("probe", &content);
        match expected {
            Some(expected) => assert!(ground.complaint().contains(expected), "{}", ground.complaint()),
            None => drop(ground.pack().unwrap()),
        }
    }
    let ground = Ground::new();
    ground.write("own.toml", SCENARIO.replace("to = \"/bin/probe\"", "to = \"/bin/other\"").as_bytes());
    assert!(ground.complaint().contains("there is no `/bin/probe` in the guest"));
    ground.write("own.toml", SCENARIO.replace("to = \"/bin/probe\"", "to = \"/bin/probe\"\nmode = 0o644").as_bytes());
    assert!(ground.complaint().contains("its `mode` is 0o644"));
}

#[test]
fn what_is_wrong_is_shown_at_its_place() {
    let ground = Ground::new();
    ground.write("my-driver.ko", &module(b"vermagic=6.1.0 SMP\0"));
    let mut out = String::new();
    let error = ground.pack().unwrap_err();
    miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor())
        .with_width(120)
        .render_report(&mut out, &error)
        .unwrap();
    let folder = ground.folder.path().to_str().unwrap();
    insta::assert_snapshot!(out.replace(folder, "FOLDER"));
}

#[test]
fn what_is_packed_is_what_was_checked() {
    let ground = Ground::new();
    ground.write("agent", &program(None));
    let agent = ground.folder.path().join("agent");
    let archive = |parcel: &Parcel| crate::initramfs::build(&agent, &parcel.modules, &parcel.extra).unwrap();
    let parcel = ground.pack().unwrap();
    let first = archive(&parcel);
    // Built anew between check and packing.
    ground.write("my-driver.ko", &module(b"vermagic=6.1.0 SMP\0"));
    assert!(archive(&parcel) == first);
}

#[test]
fn what_the_user_brings_changes_the_snapshots_key() {
    let ground = Ground::new();
    ground.write("agent", &program(None));
    let archive = || {
        let parcel = ground.pack().unwrap();
        crate::snapshots::digest(
            &crate::initramfs::build(&ground.folder.path().join("agent"), &parcel.modules, &parcel.extra).unwrap(),
        )
    };
    let mut digests = vec![archive()];
    assert_eq!(archive(), digests[0]);
    ground.write("data", b"E");
    digests.push(archive());
    ground.write("my-driver.ko", &module(b"x=1\0vermagic=6.12.1 SMP preempt mod_unload \0"));
    digests.push(archive());
    ground.write("own.toml", SCENARIO.replace("a=1", "a=2").as_bytes());
    digests.push(archive());
    ground.write("own.toml", SCENARIO.replace("0o600", "0o601").as_bytes());
    digests.push(archive());
    let all = digests.len();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), all);
}

#[test]
fn the_agent_is_a_program_that_writes_and_nothing_else() {
    let ground = Ground::new();
    let with = |program: &str| ground.write("own.toml", SCENARIO.replace("[\"/bin/probe\"]", program).as_bytes());
    with("[\"/init\", \"write\", \"/sys/kernel/debug/provoke-crash/DIRECT\", \"BUG\"]");
    ground.pack().unwrap();
    for wrong in ["[\"/init\"]", "[\"/init\", \"hammer\"]", "[\"/init\", \"write\", \"/sys/x\"]"] {
        with(wrong);
        assert!(ground.complaint().starts_with("the agent as a program can write to a file"), "{wrong}");
    }
}
