//! Console output as a guest of plugstorm prints it, and what the detector makes of it.

use std::fmt::Write as _;

use plugstorm_observe::splat::{Detector, MAX_TEXT_BYTES, Splat, SplatKind, detect, spread_panics};
use proptest::prelude::*;

const BOOT: &str = "\
[    0.000000] Linux version 6.12.117+deb12-amd64 (debian-kernel@lists.debian.org) (gcc-12) #1 SMP\r
[    0.000000] Command line: console=hvc0 panic=-1\r
";

const HUNG_REMOVAL: &str = "\
[  243.201337][   T35] INFO: task irq/27-pciehp:85 blocked for more than 120 seconds.
[  243.202001][   T35]       Not tainted 6.12.117+deb12-amd64 #1
[  243.202777][   T35] \"echo 0 > /proc/sys/kernel/hung_task_timeout_secs\" disables this message.
[  243.203711][   T35] task:irq/27-pciehp   state:D stack:0     pid:85    tgid:85    ppid:2      flags:0x00004000
[  243.204802][   T35] Call Trace:
[  243.205120][   T35]  <TASK>
[  243.205404][   T35]  __schedule+0x505/0xc00
[  243.205871][   T35]  schedule+0x27/0xf0
[  243.206301][   T35]  schedule_timeout+0x12f/0x160
[  243.206801][   T35]  __wait_for_common+0x8f/0x1d0
[  243.207311][   T35]  ? __pfx_schedule_timeout+0x10/0x10
[  243.207877][   T35]  __synchronize_srcu.part.0+0xa4/0x120
[  243.208460][   T35]  gpiochip_remove+0x66/0x160
[  243.208950][   T35]  virtio_gpio_remove+0x1d/0x50 [gpio_virtio]
[  243.209590][   T35]  virtio_dev_remove+0x3a/0x90
[  243.210080][   T35]  device_release_driver_internal+0x19f/0x200
[  243.210720][   T35]  pciehp_unconfigure_device+0x9b/0x140
[  243.211300][   T35]  pciehp_ist+0x1a0/0x1c0
[  243.211760][   T35]  irq_thread_fn+0x20/0x60
[  243.212220][   T35]  kthread+0xcf/0x100
[  243.212640][   T35]  ret_from_fork_asm+0x1a/0x30
[  243.213130][   T35]  </TASK>
";

const USE_AFTER_FREE: &str = "\
[   12.000001] ==================================================================
[   12.000002] BUG: KASAN: slab-use-after-free in mutex_lock+0x76/0xe0
[   12.000003] Write of size 8 at addr ffff888106a10028 by task plugstorm-agent/412
[   12.000004] 
[   12.000005] CPU: 1 UID: 0 PID: 412 Comm: hammer reads Not tainted 6.12.117 #1
[   12.000006] Call Trace:
[   12.000007]  <TASK>
[   12.000008]  dump_stack_lvl+0x53/0x70
[   12.000009]  print_report+0xce/0x620
[   12.000010]  kasan_report+0xba/0xf0
[   12.000011]  mutex_lock+0x76/0xe0
[   12.000012]  plugstorm_ioctl+0x44/0x210 [plugstorm]
[   12.000013]  __x64_sys_ioctl+0x12f/0x190
[   12.000014]  do_syscall_64+0x60/0x120
[   12.000015]  entry_SYSCALL_64_after_hwframe+0x76/0x7e
[   12.000016]  </TASK>
[   12.000017] ==================================================================
";

const LEAKED_DOMAIN: &str = "\
------------[ cut here ]------------
WARNING: CPU: 0 PID: 85 at kernel/rcu/srcutree.c:684 cleanup_srcu_struct+0x1c3/0x230
Modules linked in: plugstorm(O)
CPU: 0 UID: 0 PID: 85 Comm: irq/27-pciehp Tainted: G           O       6.12.117 #1
RIP: 0010:cleanup_srcu_struct+0x1c3/0x230
Call Trace:
 <TASK>
 plugstorm_provider_free+0x2a/0x60 [plugstorm]
 plugstorm_remove+0x71/0xb0 [plugstorm]
 virtio_dev_remove+0x3a/0x90
 </TASK>
---[ end trace 0000000000000000 ]---
";

const OOPS: &str = "\
BUG: kernel NULL pointer dereference, address: 0000000000000018
#PF: supervisor read access in kernel mode
Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI
CPU: 1 UID: 0 PID: 7 Comm: hammer Not tainted 6.12.117 #1
RIP: 0010:linereq_set_values+0x21/0x80
Call Trace:
 <TASK>
 linereq_ioctl+0x1a/0x90
 </TASK>
---[ end trace 0000000000000000 ]---
Kernel panic - not syncing: Fatal exception
Kernel Offset: 0x1e600000 from 0xffffffff81000000
Rebooting in 1 seconds..
";

fn show(splats: &[Splat]) -> String {
    let mut text = String::new();
    for splat in splats {
        let _ = writeln!(text, "{}", splat.title);
        let _ = writeln!(
            text,
            "  {:?}, lines {} to {}, panicked {}",
            splat.kind, splat.start_line, splat.end_line, splat.panicked
        );
        let _ = writeln!(text, "  task {:?} {:?}, corrupted {:?}", splat.task, splat.pid, splat.corrupted);
        for alt in &splat.alt_titles {
            let _ = writeln!(text, "  or {alt}");
        }
    }
    text
}

fn at_power_on(text: &str) -> Vec<Splat> {
    let mut splats = Vec::new();
    let mut detector = Detector::new();
    detector.push(text.as_bytes(), |splat| splats.push(splat));
    detector.finish(|splat| splats.push(splat));
    splats
}

#[test]
fn reports_of_our_guests_are_read() {
    let console = [BOOT, USE_AFTER_FREE, HUNG_REMOVAL, LEAKED_DOMAIN, OOPS].concat();
    insta::assert_snapshot!(show(&at_power_on(&console)));
}

#[test]
fn a_hang_in_synchronize_srcu_is_named_after_its_caller() {
    assert_eq!(detect(HUNG_REMOVAL.as_bytes())[0].title, "INFO: task hung in gpiochip_remove");
}

#[test]
fn the_first_boot_is_no_report_and_the_second_is() {
    assert_eq!(show(&at_power_on(BOOT)), "");
    assert_eq!(show(&detect(BOOT.as_bytes())), "");
    assert_eq!(detect(format!("executing program\n{BOOT}").as_bytes())[0].kind, SplatKind::Reboot);
    let twice = at_power_on(&[BOOT, "debian login: \n", BOOT].concat());
    assert_eq!(twice.len(), 1);
    assert_eq!(twice[0].kind, SplatKind::Reboot);
}

#[test]
fn the_boot_after_a_panic_is_asked_for() {
    let splats = at_power_on(&[BOOT, OOPS, BOOT, USE_AFTER_FREE].concat());
    let titles: Vec<_> = splats.iter().map(|splat| splat.title.as_str()).collect();
    assert_eq!(
        titles,
        [
            "BUG: unable to handle kernel NULL pointer dereference in linereq_set_values",
            "KASAN: slab-use-after-free Write in plugstorm_ioctl"
        ]
    );
    assert!(splats[0].panicked && !splats[1].panicked);
}

#[test]
fn a_fault_after_a_complete_report_is_another() {
    let fault = OOPS.replace(
        "BUG: kernel NULL pointer dereference, address: 0000000000000018",
        "general protection fault: 0000 [#1] SMP",
    );
    let titles: Vec<_> =
        detect([LEAKED_DOMAIN, &fault].concat().as_bytes()).into_iter().map(|splat| splat.title).collect();
    assert_eq!(titles, ["WARNING in cleanup_srcu_struct", "general protection fault in linereq_set_values"]);
}

#[test]
fn reports_of_two_tasks_printed_at_once_are_told_apart() {
    let other = USE_AFTER_FREE.replace("] ", "][  T412] ").replace("hammer reads", "hammer");
    let mixed: String = HUNG_REMOVAL.lines().zip(other.lines()).map(|(one, two)| format!("{one}\n{two}\n")).collect();
    let titles: Vec<_> = detect(mixed.as_bytes()).into_iter().map(|splat| (splat.title, splat.corrupted)).collect();
    assert_eq!(titles.len(), 2);
    assert!(titles.contains(&("INFO: task hung in gpiochip_remove".to_owned(), None)));
    assert!(titles.contains(&("KASAN: slab-use-after-free Write in plugstorm_ioctl".to_owned(), None)));
}

#[test]
fn reports_come_in_the_order_in_which_they_began() {
    let lines = |log: &str, task: u32| -> String {
        log.lines().map(|line| format!("[   12.000000][ T{task}] {line}\n")).collect()
    };
    let hung: String = HUNG_REMOVAL.lines().take(12).map(|line| format!("{line}\n")).collect();
    let console = (0..40).fold(hung, |console, task| console + &lines(LEAKED_DOMAIN, 100 + task));
    let mut detector = Detector::for_log();
    let mut began = Vec::new();
    detector.push(console.as_bytes(), |splat| began.push(splat.start_line));
    // The one that is not over holds the others back, but not for ever.
    assert!(began.len() > 20, "{began:?}");
    detector.finish(|splat| began.push(splat.start_line));
    assert_eq!(began.len(), 41);
    assert!(began.is_sorted(), "{began:?}");
}

#[test]
fn a_report_is_out_with_the_line_after_its_end() {
    let mut detector = Detector::for_log();
    let mut titles = Vec::new();
    let mut hear = |text: &str| {
        detector.push(text.as_bytes(), |splat| titles.push(splat.title));
        titles.len()
    };
    assert_eq!(hear(LEAKED_DOMAIN), 0);
    assert_eq!(hear("pciehp: Slot(1): Link Up\n"), 1);
    // No mark ends it: a panic would follow at once.
    assert_eq!(hear(HUNG_REMOVAL), 1);
    let quiet: String = (0..20).map(|line| format!("[  250.000000][   T35] line {line}\n")).collect();
    assert_eq!(hear(&quiet), 1);
    assert_eq!(hear("[  250.000000][   T35] one more\n"), 2);
}

#[test]
fn a_report_without_end_is_bounded() {
    let mut console = HUNG_REMOVAL.to_owned();
    for line in 0..100_000 {
        let _ = writeln!(console, "[  243.300000][   T35]  function_{line}+0x1/0x2");
    }
    let splats = detect(console.as_bytes());
    assert_eq!(splats.len(), 1);
    assert!(splats[0].text.len() <= MAX_TEXT_BYTES);
}

#[test]
fn benign_lines_are_no_report() {
    for line in [
        "INFO: lockdep is turned off.",
        "rmt_storage:INFO:main: Done with init",
        "WARNING: /etc/ssh/moduli does not exist, using fixed modulus",
        "[    1.0] systemd[1]: Started something: WARNING something",
        "pcieport 0000:00:01.0: pciehp: Slot(1): Link Down",
        "gpiochip gpiochip0: REMOVING GPIOCHIP WITH GPIOS STILL REQUESTED",
    ] {
        assert!(detect(line.as_bytes()).is_empty(), "{line}");
    }
}

#[test]
fn kinds_serialise_as_the_words_of_the_public_corpus() {
    let word = |kind| serde_json::to_value(kind).unwrap().as_str().unwrap().to_owned();
    assert_eq!(word(SplatKind::KasanUseAfterFreeRead), "kasan-use-after-free-read");
    assert_eq!(word(SplatKind::NullPointerDereference), "null-pointer-dereference");
    assert_eq!(word(SplatKind::DenialOfService), "dos");
    assert_eq!(word(SplatKind::KcsanDatarace), "kcsan-datarace");
    assert_eq!(word(SplatKind::MemorySafetyBug), "memory-safety-bug");
}

/// Lines of reports, whole and in pieces, and noise.
fn console() -> impl Strategy<Value = Vec<u8>> {
    let all: Vec<String> = [BOOT, HUNG_REMOVAL, USE_AFTER_FREE, LEAKED_DOMAIN, OOPS]
        .iter()
        .flat_map(|text| text.lines())
        .map(|line| format!("{line}\n"))
        .collect();
    let line = prop_oneof![
        8 => proptest::sample::select(all).prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..80),
        1 => "(BUG|INFO|WARNING|Kernel panic - not syncing|\\[ *1\\.000\\]|at: |RIP: |Call Trace:)[ -~]{0,40}\n".prop_map(String::into_bytes),
    ];
    proptest::collection::vec(line, 0..120).prop_map(|lines| lines.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let _ = detect(&bytes);
    }

    #[test]
    fn pieces_give_what_the_whole_gives(bytes in console(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut detector = Detector::for_log();
        let mut splats = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            detector.push(&bytes[from..cut], |splat| splats.push(splat));
            from = cut;
        }
        detector.finish(|splat| splats.push(splat));
        spread_panics(&mut splats);
        prop_assert_eq!(splats, detect(&bytes));
    }

    #[test]
    fn reports_lie_within_the_console(bytes in console()) {
        let lines = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64 + 1;
        for splat in detect(&bytes) {
            prop_assert!(splat.start_line <= splat.end_line && splat.end_line < lines);
            prop_assert!(splat.text.len() <= MAX_TEXT_BYTES);
            prop_assert!(!splat.title.is_empty() && splat.title.chars().count() <= 160);
        }
    }
}

/// Consoles of our own guests, as `console.log` had them, and the titles in them.
const OWN_LOGS: [(&str, &[&str]); 6] = [
    ("unprotected-6.12.log", &["WARNING in plugstorm_used_after_free"]),
    ("nmi-6.12.log", &["kernel panic: NMI: Not continuing"]),
    ("panic-6.12.log", &["kernel panic: sysrq triggered crash"]),
    ("init-killed-6.1.log", &["kernel panic: Attempted to kill init!"]),
    ("steady-6.12.log", &[]),
    (
        "kasan-6.12.log",
        &[
            "KASAN: slab-use-after-free Write in shared_handle_open",
            "WARNING: refcount bug in shared_handle_open",
            "WARNING: refcount bug in shared_handle_close",
        ],
    ),
];

#[test]
fn consoles_of_our_own_guests_are_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/logs");
    for (file, titles) in OWN_LOGS {
        let found: Vec<String> =
            detect(&std::fs::read(folder.join(file)).unwrap()).into_iter().map(|splat| splat.title).collect();
        assert_eq!(found, titles, "{file}");
    }
    // None is in the folder that is not in the table.
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), OWN_LOGS.len());
}
