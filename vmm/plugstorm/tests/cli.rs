//! What needs no guest, bad input above all: each ends at once, with one clear sentence and the right exit code.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

#[path = "cli/bisect.rs"]
mod bisect;
#[path = "cli/kernels.rs"]
mod kernels;
#[path = "cli/matrix.rs"]
mod matrix;
#[path = "cli/report.rs"]
mod report;
#[path = "cli/selftest.rs"]
mod selftest;
#[path = "cli/snapshots.rs"]
mod snapshots;
#[path = "cli/symbols.rs"]
mod symbols;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const PLUGSTORM: &str = env!("CARGO_BIN_EXE_plugstorm");

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        bench.file("kernel", &kernel());
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn scenario(&self) -> String {
        self.file("storm.toml", SCENARIO.as_bytes()).display().to_string()
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PLUGSTORM);
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("PLUGSTORM_CACHE", self.path("cache"))
            // Any static program will do: nothing is booted here.
            .env("PLUGSTORM_AGENT", PLUGSTORM);
        command
    }

    /// The exit code, and what a user reads of why.
    fn refuses(&self, args: &[&str], code: i32, sentence: &str) {
        let began = Instant::now();
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        // miette breaks long lines.
        let flat = said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert!(flat.contains(sentence), "{args:?}: {said}");
        assert!(!said.contains("panicked"), "{args:?}: {said}");
        assert!(began.elapsed() < Duration::from_secs(30), "{args:?} took {:?}", began.elapsed());
    }
}

const SCENARIO: &str = r#"
cycles = 1
[[device]]
name = "gpio"
driver = "gpio-virtio"
[[step]]
do = "add"
device = "gpio"
[[step]]
do = "remove"
device = "gpio"
how = "surprise"
"#;

/// An ELF file that a machine would load: one segment of 16 bytes at 16 MiB.
fn kernel() -> Vec<u8> {
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2u16, 62] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1u32.to_le_bytes());
    for address in [0x100_0000u64, 64, 0] {
        elf.extend(address.to_le_bytes());
    }
    elf.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1u32.to_le_bytes());
    elf.extend(7u32.to_le_bytes());
    for word in [120u64, 0x100_0000, 0x100_0000, 16, 16, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend([0xf4; 16]);
    elf
}

#[test]
fn kernels_that_are_none() {
    let bench = Bench::new();
    bench.refuses(&["run", "--kernel", "./missing"], 2, "check the path and its permissions");
    bench.refuses(&["run", "--kernel", "."], 2, "not a file");
    bench.refuses(&["run", "--kernel", "debian-6.12"], 2, "plugstorm kernel fetch debian-6.12");
    bench.file("text", b"this is no kernel\n");
    bench.refuses(&["run", "--kernel", "./text"], 2, "neither a bzImage nor an ELF vmlinux");
    bench.file("empty", b"");
    bench.refuses(&["run", "--kernel", "./empty"], 2, "neither a bzImage nor an ELF vmlinux");
    let mut narrow = kernel();
    narrow[4] = 1;
    narrow[18] = 3;
    bench.file("narrow", &narrow);
    bench.refuses(&["run", "--kernel", "./narrow"], 2, "not a 64-bit x86 one");
    bench.file("short", &kernel()[..100]);
    bench.refuses(&["run", "--kernel", "./short"], 2, "is cut short");
}

#[test]
fn machines_that_cannot_be() {
    let bench = Bench::new();
    let kernel = ["run", "--kernel", "./kernel"];
    let with = |more: &[&'static str]| [&kernel[..], more].concat();
    bench.refuses(&with(&["--cpus", "0"]), 2, "1 to 16");
    bench.refuses(&with(&["--cpus", "17"]), 2, "1 to 16");
    bench.refuses(&with(&["--cpus", "many"]), 2, "invalid value");
    bench.refuses(&with(&["--cpu", "hosts"]), 2, "possible values: plain, host");
    bench.refuses(&with(&["--memory", "512"]), 2, "has no unit");
    bench.refuses(&with(&["--memory", "1MiB"]), 2, "a machine has");
    bench.refuses(&with(&["--memory", "0MiB"]), 2, "a machine has");
    bench.refuses(&with(&["--memory", "1000GiB"]), 2, "does not fit: this machine has");
    bench.refuses(&with(&["--initrd", "missing"]), 2, "cannot read the initramfs");
    let huge = fs::File::create(bench.path("huge")).unwrap();
    huge.set_len(160 << 20).unwrap();
    bench.refuses(&with(&["--memory", "128MiB", "--initrd", "huge"]), 2, "give it more with --memory");
}

#[test]
fn scenarios_that_cannot_run() {
    let bench = Bench::new();
    bench.refuses(&["storm", "missing.toml"], 2, "cannot be read");
    for (from, to, sentence) in [
        ("cycles", "cycels", "did you mean `cycles`"),
        ("driver", "[nonsense", "storm.toml"),
        ("cycles = 1", "cycles = 0", "give 1 to"),
        ("cycles = 1", "cycles = 1\n[guest]\nmemory = \"512MB\"", "no unit of memory"),
        ("cycles = 1", "cycles = 1\n[guest]\ncpus = 99", "give 1 to 16"),
        ("device = \"gpio\"\nhow", "device = \"gpoi\"\nhow", "there is no device `gpoi`"),
        ("do = \"add\"", "do = \"rescan\"", "can never run"),
        ("cycles = 1", "cycles = 1\n[guest]\nkernel = \"debian-6.12\"", "plugstorm kernel fetch debian-6.12"),
    ] {
        let file = bench.file("storm.toml", SCENARIO.replacen(from, to, 1).as_bytes());
        bench.refuses(&["storm", &file.display().to_string()], 2, sentence);
        bench.refuses(&["storm", &file.display().to_string()], 2, "storm.toml:");
    }
    let scenario = bench.scenario();
    bench.refuses(&["storm", &scenario, "--design", "magic"], 2, "no such design");
    bench.refuses(
        &["storm", &scenario, "--kernel", "./kernel", "--design", "stack-token"],
        2,
        "driver = \"plugstorm\"",
    );
    bench.refuses(&["storm", &scenario, "--kernel", "./kernel", "--cycles", "0"], 2, "--cycles");
    for jobs in ["0", "65", "many"] {
        bench.refuses(&["storm", &scenario, "--kernel", "./kernel", "--jobs", jobs], 2, "give 1 to 64, or auto");
    }
    bench.file("text", b"this is no kernel\n");
    bench.refuses(&["storm", &scenario, "--kernel", "./text"], 2, "neither a bzImage nor an ELF vmlinux");
}

#[test]
fn folders_that_take_no_results() {
    let bench = Bench::new();
    let scenario = bench.scenario();
    let storm = |out: &Path| {
        let out = out.display().to_string();
        bench.refuses(&["storm", &scenario, "--kernel", "./kernel", "--out", &out], 2, "name another one with --out");
    };
    storm(Path::new("/proc/plugstorm"));
    storm(&bench.path("kernel"));
    fs::create_dir(bench.path("foreign")).unwrap();
    fs::write(bench.path("foreign/thesis.tex"), "").unwrap();
    storm(&bench.path("foreign"));
    assert!(bench.path("foreign/thesis.tex").exists());
}

#[test]
fn no_emulator() {
    let bench = Bench::new();
    let scenario = bench.scenario();
    let mut command = bench.command(&["storm", &scenario, "--kernel", "./kernel", "--host", "nested"]);
    let output = command.env("PATH", bench.path("nothing")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("apt-get install qemu-system-x86"), "{said}");
}

#[test]
fn a_kvm_that_is_none_or_too_slow_is_not_waited_for() {
    let bench = Bench::new();
    let doctor = bench.run(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    if report["probe"]["kvm"]["state"] == "usable" {
        // The storm would run.
        return;
    }
    let scenario = bench.scenario();
    bench.refuses(&["run", "--kernel", "./kernel", "--host", "kvm"], 3, "--host nested");
    let out = bench.path("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("result.json"), "{}").unwrap();
    let out_name = out.display().to_string();
    let storm = ["storm", &scenario, "--kernel", "./kernel", "--host", "kvm", "--out", &out_name];
    bench.refuses(&storm, 3, "--host auto");
    // Nothing ran that could have replaced it.
    assert_eq!(fs::read_to_string(out.join("result.json")).unwrap(), "{}");
}

#[test]
fn splats_of_saved_logs() {
    let bench = Bench::new();
    bench.file("quiet.log", b"[    0.000000] Command line: quiet\nlogin:\n");
    let quiet = bench.run(&["splat", "quiet.log", "--json"]);
    assert_eq!(quiet.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&quiet.stdout), "{\"file\":\"quiet.log\",\"title\":null}\n");
    bench.file("loud.log", LOUD.as_bytes());
    let loud = bench.run(&["splat", "loud.log", "quiet.log", "--json"]);
    assert_eq!(loud.status.code(), Some(1));
    let lines: Vec<serde_json::Value> =
        String::from_utf8_lossy(&loud.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for key in ["file", "title", "alt_titles", "kind", "corrupted", "start_line", "end_line"] {
        assert!(lines[0].get(key).is_some(), "{key}: {}", lines[0]);
    }
    assert!(lines[0]["title"].as_str().unwrap().contains("gpiochip_remove"), "{}", lines[0]);
    // A log that comes while it is read.
    let mut command = bench.command(&["splat", "-"]);
    let mut reader = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    reader.stdin.take().unwrap().write_all(LOUD.as_bytes()).unwrap();
    let heard = reader.wait_with_output().unwrap();
    assert_eq!(heard.status.code(), Some(1));
    let heard = String::from_utf8_lossy(&heard.stdout).into_owned();
    assert!(heard.starts_with("-:") && heard.contains("gpiochip_remove"), "{heard}");
    bench.refuses(&["splat", "missing.log"], 2, "cannot read the console log");
    bench.refuses(&["splat", "."], 2, "cannot read the console log");
}

const LOUD: &str = "\
[   12.000000] gpio gpiochip0: something
[   12.345678] ------------[ cut here ]------------
[   12.345679] WARNING: CPU: 1 PID: 62 at drivers/gpio/gpiolib.c:1175 gpiochip_remove+0x1d0/0x210
[   12.345680] Modules linked in: gpio_virtio(OE)
[   12.345681] CPU: 1 UID: 0 PID: 62 Comm: irq/25-pciehp Tainted: G           OE      6.12.117+deb12-amd64 #1
[   12.345682] RIP: 0010:gpiochip_remove+0x1d0/0x210
[   12.345683] Call Trace:
[   12.345684]  <TASK>
[   12.345685]  virtio_gpio_remove+0x1d/0x40 [gpio_virtio]
[   12.345686]  virtio_dev_remove+0x3d/0x90
[   12.345687]  device_release_driver_internal+0x19f/0x200
[   12.345688]  </TASK>
[   12.345689] ---[ end trace 0000000000000000 ]---
";

#[test]
fn help_has_examples() {
    let bench = Bench::new();
    let help = bench.run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(text.contains("plugstorm storm fixtures/scenarios/steady.toml"), "{text}");
    bench.refuses(&[], 2, "Usage");
    bench.refuses(&["strom"], 2, "storm");
    let help = bench.run(&["snapshot", "--help"]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("plugstorm snapshot show booted"));
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    for example in ["snapshot save booted", "--when 'login:'", "run --from shell", "snapshot measure booted --idle 10"]
    {
        assert!(text.contains(example), "{example}: {text}");
    }
}
