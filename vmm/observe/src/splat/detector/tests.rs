//! Lines that could begin a report, and whether they do.

use crate::splat::{Detector, Splat, SplatKind, detect};

const BOOT: &str = "[    0.000000] Linux version 6.12.117 (a@b) (gcc-12) #1 SMP\n";

const FAULT: &str = "\
[    9.000001] Oops: general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] SMP
[    9.000002] CPU: 1 UID: 0 PID: 412 Comm: hammer Not tainted 6.12.117 #1
[    9.000003] RIP: 0010:gpio_ioctl+0x100/0x900
[    9.000004] Call Trace:
[    9.000005]  <TASK>
[    9.000006]  __x64_sys_ioctl+0x12f/0x190
[    9.000007]  do_syscall_64+0x60/0x120
[    9.000008]  </TASK>
[    9.000009] ---[ end trace 0000000000000000 ]---
";

const SUSPICIOUS: &str = "\
[    8.000001] =============================
[    8.000002] WARNING: suspicious RCU usage
[    8.000003] 6.12.117 #1 Not tainted
[    8.000004] -----------------------------
[    8.000005] drivers/gpio/gpiolib.c:4321 suspicious rcu_dereference_check() usage!
[    8.000006] other info that might help us debug this:
[    8.000007] rcu_scheduler_active = 2, debug_locks = 1
[    8.000008] no locks held by hammer/412.
[    8.000009] stack backtrace:
[    8.000010] CPU: 1 UID: 0 PID: 412 Comm: hammer Not tainted 6.12.117 #1
[    8.000011] Call Trace:
[    8.000012]  <TASK>
[    8.000013]  dump_stack_lvl+0x53/0x70
[    8.000014]  lockdep_rcu_suspicious+0x14a/0x1b0
[    8.000015]  gpiod_get_label+0x60/0x90
[    8.000016]  gpiolib_seq_show+0x120/0x300
[    8.000017]  </TASK>
";

fn titles(log: &str) -> Vec<String> {
    detect(log.as_bytes()).into_iter().map(|splat| splat.title).collect()
}

fn at_power_on(log: &str) -> Vec<Splat> {
    let mut splats = Vec::new();
    let mut detector = Detector::new();
    detector.push(log.as_bytes(), |splat| splats.push(splat));
    detector.finish(|splat| splats.push(splat));
    splats
}

#[test]
fn a_panic_is_not_lost_behind_a_line_that_is_no_report() {
    let panic = "\
[    3.100000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100
[    3.100001] CPU: 0 UID: 0 PID: 1 Comm: init Not tainted 6.12.117 #1
[    3.100002] Call Trace:
[    3.100003]  <TASK>
[    3.100004]  dump_stack_lvl+0x53/0x70
[    3.100005]  panic+0x118/0x2f0
[    3.100006]  do_exit+0x8f0/0xac0
[    3.100007]  </TASK>
";
    let end = "[    3.100009] ---[ end Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100 ]---\n";
    let warning = "[    3.000000] WARNING: Support for this device is deprecated\n";
    for panic in [format!("{}{end}", panic.lines().next().unwrap().to_owned() + "\n"), format!("{panic}{end}")] {
        let splats = at_power_on(&format!("{BOOT}{warning}{panic}"));
        assert_eq!(splats.len(), 1, "{splats:?}");
        assert_eq!(splats[0].title, "kernel panic: Attempted to kill init!");
        assert!(splats[0].panicked);
    }
}

#[test]
fn a_panic_over_a_warning_with_a_stack_is_the_warnings() {
    let console = "\
[    3.000000] WARNING: something new
[    3.000001] Call Trace:
[    3.000002]  gpio_ioctl+0x100/0x900
[    3.000003]  __x64_sys_ioctl+0x12f/0x190
[    3.000004] Kernel panic - not syncing: kernel: panic_on_warn set ...
";
    let splats = detect(console.as_bytes());
    assert_eq!(splats.len(), 1, "{splats:?}");
    assert_eq!((splats[0].title.as_str(), splats[0].panicked), ("WARNING: something new", true));
}

#[test]
fn an_oops_does_not_go_under_the_name_of_a_scripts_line() {
    assert_eq!(titles(&format!("INFO: starting the test\n{FAULT}")), ["general protection fault in gpio_ioctl"]);
}

#[test]
fn an_oops_after_a_report_that_has_no_end_mark_is_another() {
    let expected = ["WARNING: suspicious RCU usage in gpiod_get_label", "general protection fault in gpio_ioctl"];
    assert_eq!(titles(&format!("{SUSPICIOUS}{FAULT}")), expected);
    // Before its stack it is what the report was cut off by.
    let begun: String = SUSPICIOUS.lines().take(8).map(|line| format!("{line}\n")).collect();
    assert_eq!(titles(&format!("{begun}{FAULT}")).len(), 1);
}

#[test]
fn objects_that_leaked_are_one_report() {
    let object = "\
unreferenced object 0xffff888106a10028 (size 576):
  comm \"hammer\", pid 412, jiffies 4294944321
  backtrace (crc 1234):
    kmalloc_trace+0x20/0x90
    gpio_ioctl+0x100/0x900
";
    assert_eq!(titles(&format!("BUG: memory leak\n{object}{object}")), ["memory leak in gpio_ioctl"]);
}

#[test]
fn only_the_line_that_is_printed_again_is_taken_back() {
    let console = "\
[    5.000000][  T412] BUG: Bad rss-counter state mm:00000000abcdef01 type:MM_ANONPAGES val:1
[    5.000001][  T500] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 3
[    5.000001] ** replaying previous printk message **
[    5.000001][  T500] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!
";
    assert_eq!(titles(console), ["BUG: Bad rss-counter state", "BUG: workqueue lockup"]);
}

#[test]
fn a_program_that_prints_the_kernels_version_has_not_started_one() {
    let version = BOOT.split_once("] ").unwrap().1;
    assert!(at_power_on(&format!("{BOOT}{version}")).is_empty());
    assert!(at_power_on(&format!("{BOOT}[   12.500000] {version}")).is_empty());
    assert!(detect(format!("[   12.000000] a: b\n{version}").as_bytes()).is_empty());
    // What comes after a panic is still about the panic, whoever prints a version in it.
    let panic = "[   12.000000] Kernel panic - not syncing: sysrq triggered crash\n";
    assert_eq!(titles(&format!("{BOOT}{panic}{version}{FAULT}")), ["kernel panic: sysrq triggered crash"]);
    for first in [BOOT, "early console in extract_kernel\n", "Booting the kernel.\n"] {
        let splats = at_power_on(&format!("{BOOT}[   12.000000] a: b\n{first}"));
        assert_eq!(splats.iter().map(|splat| splat.kind).collect::<Vec<_>>(), [SplatKind::Reboot], "{first}");
    }
    // A kernel without a clock.
    assert_eq!(titles(&format!("executing program\n{version}")), ["unexpected kernel reboot"]);
}
