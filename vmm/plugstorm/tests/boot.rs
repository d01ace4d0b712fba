//! Real boots: a batch of scenarios through the command line, in one nested machine where KVM is missing, then a test for
//! each over its `result.json`.
//!
//! Wanted: the kernels debian-6.12 and debian-6.1 in the cache (`plugstorm kernel fetch NAME`) and the agent beside the
//! executable or in `$PLUGSTORM_AGENT`. `PLUGSTORM_BOOT_TESTS=0` leaves these tests out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use plugstorm::results::{FindingKind, RunResult, Verdict};
use plugstorm::scenario::How;
use plugstorm_wire::Operation;

struct Batch {
    results: HashMap<String, RunResult>,
    folder: tempfile::TempDir,
    exit_code: Option<i32>,
    said: String,
}

static BATCH: OnceLock<Option<Batch>> = OnceLock::new();

/// From what to what.
type Changes = &'static [(&'static str, &'static str)];

/// Scenarios of the fixtures, with what is changed in them to be quick.
const SCENARIOS: &[(&str, &str, Changes)] = &[
    ("steady", "steady.toml", &[("cycles = 100", "cycles = 5")]),
    ("unbind", "unbind.toml", &[("cycles = 10", "cycles = 2")]),
    ("remove", "remove.toml", &[("cycles = 10", "cycles = 2")]),
    ("sleeping-reader", "sleeping-reader.toml", &[]),
    ("sleeping-watcher", "sleeping-watcher.toml", &[]),
    ("request-in-flight", "request-in-flight.toml", &[]),
    ("event-in-flight", "event-in-flight.toml", &[]),
    ("all-ones", "all-ones.toml", &[]),
    ("shared-handle", "shared-handle.toml", &[]),
    ("stack-token", "shared-handle.toml", &[("shared-handle\"", "stack-token\""), ("cycles = 50", "cycles = 5")]),
    ("unprotected", "unprotected.toml", &[]),
    (
        "protected",
        "unprotected.toml",
        &[("design = \"unprotected\"", "design = \"stack-token\""), ("cycles = 50", "cycles = 3")],
    ),
    ("surfaces", "lab/every-surface.toml", &[("cycles = 20", "cycles = 4")]),
    ("sleeping-reader-own", "lab/sleeping-reader-own.toml", &[]),
    ("neighbours", "neighbours.toml", &[("cycles = 10", "cycles = 2")]),
    ("forks", "forks.toml", &[("cycles = 200", "cycles = 6")]),
    ("migrate", "migrate.toml", &[("cycles = 20", "cycles = 2")]),
    ("own", "own/own.toml", &[]),
    ("own-fails", "own/own.toml", &[(PROBE, "program = [\"/opt/bin/probe\", \"one\"]")]),
    (
        "own-hangs",
        "own/own.toml",
        &[
            (PROBE, "program = [\"/opt/bin/probe\", \"1\", \"2\", \"3\"]"),
            ("time-out = \"5s\"", "time-out = \"200ms\""),
        ],
    ),
    ("silent", "bad-guests/silent.toml", &[]),
    ("panic", "bad-guests/panic.toml", &[]),
    ("panic-late", "bad-guests/panic-late.toml", &[]),
    ("reset", "bad-guests/reset.toml", &[]),
    ("spin", "bad-guests/spin.toml", &[]),
    ("flood", "bad-guests/flood.toml", &[]),
    ("lie", "bad-guests/lie.toml", &[]),
    ("exit", "bad-guests/exit.toml", &[]),
    ("older", "steady.toml", &[("cycles = 100", "cycles = 2"), ("debian-6.12", "debian-6.1")]),
    ("wide", "steady.toml", &[("cycles = 100", "cycles = 1"), ("cpus = 2", "cpus = 16"), ("512MiB", "4GiB")]),
];

/// Those whose boots are looked at: with a word on the command line that no other run has they are not forked from what
/// an earlier one left in the cache.
const BOOTED: [&str; 2] = ["own", "wide"];

/// How the step of own.toml names its program.
const PROBE: &str = "program = [\"/opt/bin/probe\"]";

/// The smallest of programs: writes a line, and ends with as many as it has arguments; with three it
/// waits in vfork() for a child that never ends, a wait that no signal but a deadly one ends.
fn probe() -> Vec<u8> {
    #[rustfmt::skip]
    let code = [
        0x48, 0x8b, 0x1c, 0x24,                   // mov rbx, [rsp]: how many arguments, and its name
        0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0,       // mov eax, 1 (write); mov edi, 1
        0x48, 0x8d, 0x35, 36, 0, 0, 0,            // lea rsi, [rip + 36]: the line
        0xba, 6, 0, 0, 0, 0x0f, 0x05,             // mov edx, 6; syscall
        0x83, 0xfb, 4, 0x75, 14,                  // cmp ebx, 4; jne past the next four
        0xb8, 58, 0, 0, 0, 0x0f, 0x05,            // mov eax, 58 (vfork); syscall
        0xb8, 34, 0, 0, 0, 0x0f, 0x05,            // mov eax, 34 (pause); syscall
        0x8d, 0x7b, 0xff,                         // lea edi, [rbx - 1]
        0xb8, 60, 0, 0, 0, 0x0f, 0x05,            // mov eax, 60 (exit); syscall
        b'p', b'r', b'o', b'b', b'e', b'\n',
    ];
    let (base, headers) = (0x40_0000_u64, 64 + 56);
    let length = headers + code.len() as u64;
    let mut file = Vec::new();
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]); // executable, x86-64
    file.extend([base + headers, 64, 0].map(u64::to_le_bytes).concat()); // entry, segments, sections
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]); // flags, sizes and numbers of headers
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]); // to be loaded; read, execute
    file.extend([0, base, base, length, length, 0x1000].map(u64::to_le_bytes).concat());
    file.extend(code);
    file
}

/// Whether tests that boot are to run.
fn wanted() -> bool {
    std::env::var_os("PLUGSTORM_BOOT_TESTS").is_none_or(|value| value != "0")
}

fn batch() -> Option<&'static Batch> {
    BATCH.get_or_init(|| wanted().then(run)).as_ref()
}

fn run() -> Batch {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/scenarios");
    // Not in /tmp: a nested machine has one of its own.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let files: Vec<PathBuf> = SCENARIOS
        .iter()
        .map(|(name, file, changes)| {
            let mut text = fs::read_to_string(fixtures.join(file)).unwrap();
            for (from, to) in *changes {
                assert!(text.contains(from), "{file}: {from}");
                text = text.replacen(from, to, 1);
            }
            if BOOTED.contains(name) {
                text = text.replacen("[guest]\n", &format!("[guest]\nappend = \"test={}\"\n", std::process::id()), 1);
            }
            let path = folder.path().join(format!("{name}.toml"));
            fs::write(&path, text).unwrap();
            path
        })
        .collect();
    // What own.toml names.
    let kernel = plugstorm::kernels::resolve("debian-6.12", &mut |_| {}).unwrap();
    let module = kernel.modules.iter().find(|path| path.ends_with("plugstorm.ko")).unwrap();
    fs::copy(module, folder.path().join("plugstorm.ko")).unwrap();
    fs::write(folder.path().join("probe"), probe()).unwrap();
    let out = folder.path().join("out");
    let mut command = Command::new(env!("CARGO_BIN_EXE_plugstorm"));
    command.args(["storm", "--out"]).arg(&out).args(&files);
    let output = with_progress(command);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let results = SCENARIOS
        .iter()
        .filter_map(|(name, ..)| {
            let text = fs::read(out.join(format!("{name}-1/result.json"))).ok()?;
            Some(((*name).to_owned(), serde_json::from_slice(&text).unwrap()))
        })
        .collect();
    Batch { results, folder, exit_code: output.status.code(), said }
}

/// Runs it, and shows what it says of its progress: a batch takes minutes.
fn with_progress(mut command: Command) -> Output {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let shown = std::thread::spawn(move || {
        let (mut all, mut line) = (Vec::new(), Vec::new());
        while errors.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            println!("  {}", String::from_utf8_lossy(&line).trim_end());
            all.append(&mut line);
        }
        all
    });
    let mut stdout = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    Output { stdout, stderr: shown.join().unwrap(), status: child.wait().unwrap() }
}

impl Batch {
    fn result(&self, name: &str) -> &RunResult {
        self.results.get(name).unwrap_or_else(|| panic!("no result of {name}: {}", self.said))
    }

    /// The sum of a field over the events of a kind in the first cycle.
    fn sum_of_first_cycle(&self, name: &str, event: &str, field: &str) -> u64 {
        let events = self.file(name, "events.jsonl");
        let events = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        events.filter(|it| it["event"] == event && it["cycle"] == 0).filter_map(|it| it[field].as_u64()).sum()
    }

    /// A field of all events of a kind.
    fn numbers(&self, name: &str, event: &str, field: &str) -> Vec<u64> {
        let events = self.file(name, "events.jsonl");
        let events = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        events.filter(|it| it["event"] == event).filter_map(|it| it[field].as_u64()).collect()
    }

    fn file(&self, name: &str, file: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join(format!("out/{name}-1/{file}"))).unwrap())
            .into_owned()
    }
}

/// A clean run with all its evidence, and these removals.
fn assert_clean(result: &RunResult, ways: &[(How, u64)]) {
    assert_eq!((result.verdict, &result.reason), (Verdict::Clean, &None), "{result:#?}");
    assert_eq!(result.cycles.completed, result.cycles.asked);
    let removals: Vec<_> = result.removals.iter().map(|removal| (removal.how, removal.finished)).collect();
    assert_eq!(removals, ways);
    for removal in &result.removals {
        assert_eq!((removal.seen, removal.stuck), (removal.asked, 0), "{removal:?}");
    }
    for hammer in &result.hammers {
        assert!(hammer.operations.iter().any(|operation| operation.calls > 0), "{hammer:?}");
    }
}

#[test]
fn a_surprise_under_eight_threads_is_clean() {
    let Some(batch) = batch() else { return };
    let result = batch.result("steady");
    assert_clean(result, &[(How::Surprise, 5)]);
    assert_eq!(batch.sum_of_first_cycle("steady", "hammer_started", "threads"), 8);
    assert!(!result.timings.grace_periods.is_empty(), "{:?}", result.timings);
    assert_eq!(result.guest.hz, Some(250), "Debian's");
    let events = batch.file("steady", "events.jsonl");
    assert_eq!(events.matches("\"event\":\"removal_finished\"").count(), 5);
    assert!(events.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn an_unbind_is_clean() {
    let Some(batch) = batch() else { return };
    assert_clean(batch.result("unbind"), &[(How::Surprise, 2), (How::Unbind, 2)]);
}

#[test]
fn a_removal_through_sysfs_is_clean() {
    let Some(batch) = batch() else { return };
    assert_clean(batch.result("remove"), &[(How::Surprise, 2), (How::Remove, 2)]);
}

/// A removal that never ends: the waiter is in one of these functions, and so is one of those it waits for, if any is named.
fn assert_stuck(result: &RunResult, waiter_in: &str, waited_for_in: Option<&str>) {
    assert_eq!(result.verdict, Verdict::Found, "{result:#?}");
    let stuck = result.findings.iter().find(|finding| finding.kind == FindingKind::RemovalStuck).unwrap();
    let hang = stuck.hang.as_ref().unwrap();
    let has = |stack: &[String], function: &str| stack.iter().any(|frame| frame.starts_with(function));
    assert!(hang.waiters.iter().any(|waiter| has(&waiter.stack, waiter_in)), "{hang:#?}");
    if let Some(function) = waited_for_in {
        assert!(hang.waited_for.iter().any(|holder| has(&holder.stack, function)), "{hang:#?}");
    }
}

#[test]
fn a_sleeping_reader_stops_the_unplug_for_ever() {
    let Some(batch) = batch() else { return };
    assert_stuck(batch.result("sleeping-reader"), "gpiochip_remove", Some("linereq_read"));
    assert_stuck(batch.result("sleeping-watcher"), "gpiochip_remove", Some("lineinfo_watch_read"));
}

#[test]
fn a_request_in_flight_stops_the_unplug_for_ever() {
    let Some(batch) = batch() else { return };
    assert_stuck(batch.result("request-in-flight"), "gpiochip_remove", Some("_virtio_gpio_req"));
    assert_stuck(batch.result("event-in-flight"), "gpiochip_remove", None);
}

#[test]
fn a_reset_that_polls_all_ones_never_ends() {
    let Some(batch) = batch() else { return };
    assert_stuck(batch.result("all-ones"), "vp_reset", None);
}

#[test]
fn a_kernel_whose_virtio_is_modules_is_stormed() {
    let Some(batch) = batch() else { return };
    let result = batch.result("older");
    // 6.1 frees the interrupts of lines that are still requested: a finding of its own.
    let titles: Vec<_> = result.findings.iter().map(|finding| finding.title.as_str()).collect();
    assert_eq!(titles, ["WARNING in remove_proc_entry"], "{result:#?}");
    assert!(
        result.findings[0].splat.as_ref().is_some_and(|splat| splat.contains("gpiochip_irqchip_remove")),
        "{result:#?}"
    );
    assert!(
        result.removals.iter().all(|removal| removal.finished == removal.asked && removal.asked > 0),
        "{result:#?}"
    );
    assert!(result.guest.release.as_deref().is_some_and(|release| release.starts_with("6.1.")), "{result:#?}");
}

#[test]
fn sixteen_cpus_and_memory_beyond_the_hole_are_stormed() {
    let Some(batch) = batch() else { return };
    let result = batch.result("wide");
    assert_clean(result, &[(How::Surprise, 1)]);
    // As the guest counts them.
    let events = batch.file("wide", "events.jsonl");
    assert!(events.lines().any(|line| line.contains("agent_hello") && line.contains("\"cpus\":16")));
}

/// The kernel inside a bzImage, which a Debian package does not have by itself. This one is compressed with xz; where it
/// lies says the header (Documentation/arch/x86/boot.rst, payload_offset and payload_length).
fn vmlinux(image: &[u8]) -> Vec<u8> {
    let field = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize;
    let start = (usize::from(image[0x1f1]) + 1) * 512 + field(0x248);
    // The last four bytes are the length of what comes out.
    let packed = &image[start..start + field(0x24c) - 4];
    let mut kernel = Vec::new();
    liblzma::read::XzDecoder::new(packed).read_to_end(&mut kernel).unwrap();
    kernel
}

#[test]
fn an_elf_vmlinux_boots_on_the_terminal() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("vmlinux");
    let kernel = plugstorm::kernels::resolve("debian-6.1", &mut |_| {}).unwrap();
    fs::write(&file, vmlinux(&fs::read(kernel.image).unwrap())).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_plugstorm"));
    command.args(["run", "--cpus", "16", "--memory", "4GiB", "--kernel"]).arg(&file);
    let output = with_progress(command);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Brought up 1 node, 16 CPUs"), "{said}");
    // "Memory: 5022580K/5242488K available": the second is what the memory map has given it.
    let memory = said.lines().find_map(|line| line.split_once("Memory: ")?.1.split_once("K available"));
    let kib: u64 = memory.and_then(|(sizes, _)| sizes.split_once('/')?.1.parse().ok()).unwrap();
    assert!(kib > (4 << 20) - (64 << 10), "{kib} KiB");
    // Without an initramfs there is no root: the kernel panics, and that is what was found.
    assert!(said.contains("Unable to mount root fs"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_shared_handle_hangs_the_revoke_and_a_stack_token_does_not() {
    let Some(batch) = batch() else { return };
    let result = batch.result("shared-handle");
    assert_eq!(result.verdict, Verdict::Found, "{result:#?}");
    assert_stuck(result, "shared_handle_revoke", None);
    // The proof: as many readers left at one index as entered at the other.
    let counts = |text: &str| -> Option<(i64, i64)> {
        let (first, rest) = text.split_once(" at index 0 and ")?;
        let (second, _) = rest.split_once(" at index 1")?;
        Some((first.rsplit(' ').next()?.parse().ok()?, second.parse().ok()?))
    };
    let unbalanced = |(first, second): (i64, i64)| first != 0 && first + second == 0;
    let explained = |finding: &plugstorm::results::Finding| counts(&finding.explanation).is_some_and(unbalanced);
    assert!(result.findings.iter().any(explained), "{result:#?}");
    assert_clean(batch.result("stack-token"), &[(How::Surprise, 5)]);
}

#[test]
fn a_resource_without_protection_is_caught_and_with_it_is_clean() {
    let Some(batch) = batch() else { return };
    let result = batch.result("unprotected");
    assert_eq!(result.verdict, Verdict::Found, "{result:#?}");
    assert!(result.findings.iter().any(|finding| finding.kind == FindingKind::Splat), "{result:#?}");
    assert_clean(batch.result("protected"), &[(How::Surprise, 3)]);
}

/// Each operation has worked and has met the device's end: what never happened proves nothing.
#[test]
fn every_surface_works_and_is_clean_with_a_right_design() {
    let Some(batch) = batch() else { return };
    let result = batch.result("surfaces");
    assert_clean(result, &[(How::Surprise, 8)]);
    let operations = |name: &str| &result.hammers.iter().find(|hammer| hammer.name == name).unwrap().operations;
    for operation in operations("mix").iter().chain(operations("borrow")) {
        assert!(operation.succeeded > 0, "{operation:?}");
        assert!(operation.errors.iter().any(|error| error.name == "ENODEV"), "{operation:?}");
        let allowed = ["ENODEV", "EAGAIN"];
        assert!(operation.errors.iter().all(|error| allowed.contains(&error.name.as_str())), "{operation:?}");
    }
    let [asleep] = &operations("sleeper")[..] else { panic!("{:?}", result.hammers) };
    assert!(asleep.errors.iter().any(|error| error.name == "EINTR"), "{asleep:?}");
}

#[test]
fn a_reader_asleep_inside_our_section_stops_the_revoke_for_ever() {
    let Some(batch) = batch() else { return };
    assert_stuck(batch.result("sleeping-reader-own"), "plugstorm_revoke", Some("plugstorm_event_wait"));
}

#[test]
fn two_devices_vanish_one_after_the_other() {
    let Some(batch) = batch() else { return };
    assert_clean(batch.result("neighbours"), &[(How::Surprise, 4)]);
    let events = batch.file("neighbours", "events.jsonl");
    assert!(events.contains("\"slot\":1,\"what\":\"events cleared"), "{events}");
}

#[test]
fn each_fork_meets_its_own_hot_plug_events_and_leaves_nothing_behind() {
    let Some(batch) = batch() else { return };
    let result = batch.result("forks");
    assert_clean(result, &[(How::Surprise, 6)]);
    assert_eq!((result.cycles.forks, result.first_events.forked.as_ref().map(|times| times.n)), (6, Some(6)));
    // A fork that went on with the numbers of another would tell the same ones.
    let random = batch.numbers("forks", "begun", "random");
    let different: HashSet<_> = random.iter().collect();
    assert_eq!((random.len(), different.len()), (6, 6), "{random:?}");
    let (first, last) = result.holdings.unwrap();
    assert_eq!(
        (last.descriptors, last.threads, last.mappings),
        (first.descriptors, first.threads, first.mappings),
        "{result:#?}"
    );
    // No watchdog of the guest's speaks of the time between save and start.
    // Where it boots, because this is the first run of its kind in its machine, the command line names them.
    let console = batch.file("forks", "console.log");
    let said: Vec<&str> = console.lines().skip_while(|line| !line.contains("pciehp: Slot")).collect();
    assert!(!said.is_empty(), "{console}");
    for word in ["stall", "lockup", "hung", "unstable", "clocksource"] {
        assert!(!said.iter().any(|line| line.contains(word)), "{word}: {console}");
    }
}

#[test]
fn a_guest_does_not_notice_that_it_is_migrated() {
    let Some(batch) = batch() else { return };
    let result = batch.result("migrate");
    assert_clean(result, &[(How::Surprise, 2)]);
    assert_eq!(result.cycles.migrations, 6);
    assert_eq!(batch.sum_of_first_cycle("migrate", "hammer_started", "threads"), 8);
    // What the guest timed lies before the moment at which it was heard, whatever stood still in between.
    let events = batch.file("migrate", "events.jsonl");
    for line in events.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        if let Some(guest_ns) = event["guest_t_ns"].as_u64() {
            assert!(guest_ns <= event["t_ns"].as_u64().unwrap(), "{line}");
        }
    }
}

#[test]
fn what_a_user_brings_along_is_loaded_run_and_stormed() {
    let Some(batch) = batch() else { return };
    let result = batch.result("own");
    assert_clean(result, &[(How::Surprise, 2)]);
    // The user's module, not the one that goes with the kernel: only that one was told this.
    assert!(batch.file("own", "console.log").contains("plugstorm: unknown parameter 'nosuch' ignored"));
    let hammer = |name: &str| result.hammers.iter().find(|hammer| hammer.name == name).unwrap();
    for name in ["forked", "passed"] {
        assert_eq!(hammer(name).device, "mine");
        let ioctl = hammer(name).operations.iter().find(|it| it.operation == Operation::Ioctl).unwrap();
        assert!(ioctl.succeeded > 0 && ioctl.errors.iter().any(|error| error.name == "ENODEV"), "{ioctl:?}");
    }
    assert_eq!(hammer("zero").device, "/dev/zer?");
    assert!(hammer("zero").operations.iter().all(|it| it.calls > 0 && it.errors.is_empty()), "{result:#?}");
    let exits = &hammer("probes").operations[0].exits;
    assert!(exits.len() == 1 && exits[0].status == "exit 1" && exits[0].count > 0, "{exits:?}");
    let events = batch.file("own", "events.jsonl");
    assert_eq!(events.matches("\"end\":\"exit 0\"").count(), 2);
    assert_eq!(events.matches("\"output\":\"probe\\n\"").count(), 2);
}

#[test]
fn a_program_that_fails_or_hangs_is_found() {
    let Some(batch) = batch() else { return };
    let found = |name: &str| {
        let [finding] = &batch.result(name).findings[..] else { panic!("{:#?}", batch.result(name)) };
        (finding.kind, finding.title.clone(), finding.explanation.clone())
    };
    let (kind, title, explanation) = found("own-fails");
    assert_eq!(
        (kind, title.as_str()),
        (FindingKind::ProgramFailed, "program /opt/bin/probe ended with exit 1, not exit 0")
    );
    assert!(explanation.contains("It wrote:\nprobe"), "{explanation}");
    let (kind, title, explanation) = found("own-hangs");
    assert_eq!(kind, FindingKind::ProgramStuck);
    assert!(title.starts_with("program /opt/bin/probe does not end: "), "{title}");
    assert!(["kernel_clone", "vfork"].iter().any(|place| title.contains(place)), "{title}");
    assert!(explanation.contains("kernel_clone"), "{explanation}");
}

/// What the plan decided, as it was carried out.
fn plan_of(events: &str) -> Vec<(String, u64)> {
    let events = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let decided = events.filter_map(|it| {
        let key = match it["event"].as_str()? {
            "pause" => "ns",
            "hammer_asked" => "seed",
            "add_asked" | "removal_asked" => "cycle",
            _ => return None,
        };
        Some((it["event"].as_str()?.to_owned(), it[key].as_u64()?))
    });
    decided.collect()
}

#[test]
fn a_boot_and_a_snapshot_come_to_the_same_and_the_snapshot_is_quicker() {
    let Some(batch) = batch() else { return };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_plugstorm"));
    command.args(["storm", "--cold", "--out"]).arg(folder.path()).arg(batch.folder.path().join("steady.toml"));
    let output = with_progress(command);
    assert_eq!(output.status.code(), Some(0));
    let read = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap();
    let cold: RunResult = serde_json::from_str(&read("result.json")).unwrap();
    let warm = batch.result("steady");
    assert_eq!((cold.cycles.boots, cold.cycles.forks, warm.cycles.forks), (1, 0, 1));
    assert_eq!((cold.verdict, cold.guest.snapshot.is_some()), (warm.verdict, false));
    assert_eq!(plan_of(&read("events.jsonl")), plan_of(&batch.file("steady", "events.jsonl")));
    // Far from what it is on an idle machine: this one may be anything but.
    let booted = cold.first_events.booted.unwrap().p50_ns;
    let forked = batch.result("forks").first_events.forked.as_ref().unwrap().p50_ns;
    assert!(forked * 10 < booted, "fork {forked} ns, boot {booted} ns to the first hot-plug event");
}

#[test]
fn bad_guests_end_with_one_sentence() {
    let Some(batch) = batch() else { return };
    for (name, verdicts, words) in [
        ("silent", &[Verdict::Inconclusive][..], &["never started its agent"][..]),
        ("panic", &[Verdict::Found], &["panic", "sysrq", "NULL"]),
        ("panic-late", &[Verdict::Found], &["panic", "sysrq", "NULL"]),
        ("reset", &[Verdict::Found], &["reset itself", "rebooted"]),
        ("spin", &[Verdict::Found], &["stopped answering", "stall", "hung", "lockup"]),
        // Its own watchdogs may end it first, by a panic whose message is among the lines that the flood made it drop.
        ("flood", &[Verdict::Found, Verdict::Inconclusive], &["flood", "faster than", "KASAN", "reset itself"]),
        ("lie", &[Verdict::Inconclusive], &["agent channel", "faster than"]),
        ("exit", &[Verdict::Inconclusive], &["agent in the guest ended"]),
    ] {
        let result = batch.result(name);
        assert!(verdicts.contains(&result.verdict), "{name}: {:?} {:?}: {}", result.verdict, result.reason, batch.said);
        let reason = result.reason.as_deref().unwrap_or_default();
        assert!(words.iter().any(|word| reason.contains(word)), "{name}: {reason}");
        assert!(!reason.contains('\n'), "{name}: {reason}");
        // What was collected is kept, whole.
        assert!(!batch.file(name, "console.log").is_empty(), "{name}");
        let events = batch.file(name, "events.jsonl");
        assert!(events.lines().last().unwrap().contains("run_ended"), "{name}: {events}");
    }
    // Of all these runs a finding is the gravest.
    assert_eq!(batch.exit_code, Some(1), "{}", batch.said);
}

#[test]
fn what_the_machine_reads_of_a_guest_is_what_the_guest_says() {
    let Some(batch) = batch() else { return };
    // The agent reads /proc/PID/stack, the machine the same tasks' stacks out of the guest's memory.
    for name in ["sleeping-reader", "sleeping-watcher", "request-in-flight", "event-in-flight", "shared-handle"] {
        let compared = batch.numbers(name, "seen_from_outside", "compared");
        let events = batch.file(name, "events.jsonl");
        assert_eq!(compared, batch.numbers(name, "seen_from_outside", "alike"), "{name}: {events}");
        assert!(!compared.is_empty() && compared.iter().all(|&tasks| tasks > 0), "{name}: {compared:?}");
    }
    // Without its help. A watchdog of the kernel's may have spoken first.
    let spin = batch.result("spin");
    for finding in spin.findings.iter().filter(|finding| finding.kind == FindingKind::GuestSilent) {
        let seen = finding.processors.as_ref().unwrap();
        assert_eq!(seen.processors.len(), 2, "{seen:?}");
        assert!(seen.processors.iter().all(|processor| processor.task.is_some()), "{seen:?}");
        assert!(finding.explanation.contains("Seen from outside: vCPU "), "{}", finding.explanation);
    }
}

#[test]
fn a_matrix_says_who_survives_and_goes_on_where_it_was() {
    if !wanted() {
        return;
    }
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/scenarios/lab");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let expected = folder.path().join("expected.toml");
    fs::write(&expected, "[uses-after-removal]\nunprotected = \"found\"\nstack-token = \"clean\"\n").unwrap();
    let out = folder.path().join("matrix");
    let matrix = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plugstorm"));
        command.args(["matrix", "--designs", "unprotected,stack-token", "--runs", "1", "--cycles", "5"]);
        command.arg("--scenarios").arg(lab.join("uses-after-removal.toml")).arg("--expect").arg(&expected);
        command.arg("--out").arg(&out);
        let output = with_progress(command);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
        let json = fs::read(out.join("matrix.json")).unwrap();
        (serde_json::from_slice::<serde_json::Value>(&json).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (first, _) = matrix();
    assert_eq!(first["state"], "complete");
    let cells = first["cells"].as_array().unwrap();
    assert_eq!((&cells[0]["design"], &cells[1]["design"]), (&"unprotected".into(), &"stack-token".into()));
    assert_eq!((&cells[0]["passed"], &cells[1]["passed"]), (&0.into(), &1.into()), "{first:#}");
    for cell in cells {
        // As `storm` leaves it, with the seed that the matrix says.
        let run = &cell["runs"][0];
        let result = fs::read(out.join(run["folder"].as_str().unwrap()).join("result.json")).unwrap();
        let result: RunResult = serde_json::from_slice(&result).unwrap();
        assert_eq!((Some(result.seed), result.cycles.asked), (run["seed"].as_u64(), 5));
        assert_eq!(result.devices[0].design.map(plugstorm::scenario::Design::name), cell["design"].as_str());
    }
    assert_eq!(first["grounds"][0]["hz"], 250, "Debian's");
    // Nothing is left to do, and no guest is started for it.
    let began = Instant::now();
    let (second, said) = matrix();
    assert!(said.contains("2 runs, 2 of them done earlier"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(second["cells"], first["cells"]);
}

/// A storm of many cycles that is in its first.
struct UnderWay {
    child: Child,
    folder: tempfile::TempDir,
}

impl UnderWay {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/scenarios/steady.toml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_plugstorm"));
        command.args(["storm", "--out"]).arg(folder.path()).arg(scenario);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut way = Self { child: command.spawn().unwrap(), folder };
        let began = Instant::now();
        while !way.file("events.jsonl").contains("\"removal_finished\"") {
            assert_eq!(way.child.try_wait().unwrap(), None, "it ended by itself");
            assert!(began.elapsed() < Duration::from_secs(1200), "it does not get to its first removal");
            std::thread::sleep(Duration::from_millis(200));
        }
        way
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn tell(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        self.tell(signal);
        self.child.wait().unwrap()
    }

    /// Processes that were told of this folder: the nested machine's emulator, if there is one.
    fn left_behind(&self) -> usize {
        let name = self.folder.path().to_str().unwrap();
        // Of a process that has ended meanwhile there is no command line, nor of one of the kernel's.
        let lines =
            fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| String::from_utf8_lossy(line).contains(name)).count()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // Where the test has failed half-way; nothing happens to one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_interruption_ends_a_run_in_order() {
    if !wanted() {
        return;
    }
    let mut way = UnderWay::new();
    // Twice, as timeout(1) does; so that the two are not taken as one by the kernel, the process has time to take the first.
    way.tell(Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(way.end(Signal::SIGINT).code(), Some(130));
    assert_eq!(way.left_behind(), 0);
    let result: RunResult = serde_json::from_str(&way.file("result.json")).unwrap();
    assert_eq!(result.verdict, Verdict::Interrupted, "{result:#?}");
    assert!(result.removals.iter().all(|removal| removal.finished > 0), "{result:#?}");
    assert!(way.file("events.jsonl").lines().last().unwrap().contains("run_ended"));
}

#[test]
fn a_kill_leaves_what_was_seen_and_nothing_else() {
    if !wanted() {
        return;
    }
    let mut way = UnderWay::new();
    way.end(Signal::SIGKILL);
    // The kernel ends the emulator with its parent, but not in the same moment.
    let began = Instant::now();
    while way.left_behind() > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "the emulator is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
    let events = way.file("events.jsonl");
    assert!(events.ends_with('\n') && events.contains("\"removal_finished\""));
    assert!(events.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    let result: RunResult = serde_json::from_str(&way.file("result.json")).unwrap();
    assert_eq!(result.verdict, Verdict::Running);
}
