//! Task dumps of removals that do not end, and what is said of them.

use plugstorm_observe::hang::{Clock, DomainBalance, Evidence, LockReader, Movement, StackedTask, WaitKind, explain};
use plugstorm_observe::timing::Timings;
use plugstorm_observe::trace::parse_line;
use proptest::prelude::*;

fn task(tid: u32, comm: &str, hammer: Option<(&str, &str)>, stack: &[&str]) -> StackedTask {
    StackedTask {
        pid: tid,
        tid,
        comm: comm.into(),
        state: 'D',
        switches: 7,
        stack: stack.iter().map(|frame| format!("{frame}+0x10/0x200")).collect(),
        hammer: hammer.map(|(hammer, _)| hammer.into()),
        operation: hammer.map(|(_, operation)| operation.into()),
    }
}

fn remover(inner: &[&str]) -> StackedTask {
    let outer = [
        "device_release_driver_internal",
        "pci_stop_bus_device",
        "pci_stop_and_remove_bus_device",
        "pciehp_unconfigure_device",
        "pciehp_disable_slot",
        "pciehp_ist",
        "irq_thread_fn",
        "irq_thread",
        "kthread",
    ];
    task(85, "irq/27-pciehp", None, &[inner, &outer].concat())
}

fn sleeping_reader(tid: u32) -> StackedTask {
    task(
        tid,
        "plugstorm-agent",
        Some(("readers", "read-event")),
        &["linereq_read", "vfs_read", "ksys_read", "do_syscall_64"],
    )
}

#[test]
fn a_reader_asleep_in_gpiolib_holds_up_the_removal() {
    let dump = [
        task(1, "plugstorm-agent", None, &["do_epoll_wait"]),
        remover(&["__synchronize_srcu", "gpiochip_remove", "virtio_gpio_remove", "virtio_dev_remove"]),
        sleeping_reader(412),
        sleeping_reader(413),
        task(500, "reboot", None, &["device_shutdown", "kernel_restart", "__do_sys_reboot"]),
    ];
    let mut timings = Timings::new(1_000_000_u32);
    for line in [
        "irq/27-pciehp-85 [001] ..... 1000000: unplug_begin: (pciehp_unconfigure_device+0x0/0x1) caller=pciehp_disable_slot+0x1/0x2",
        "irq/27-pciehp-85 [001] ..... 2000000: srcu_begin: (synchronize_srcu+0x0/0x1) domain=0x20 caller=gpiochip_remove+0x80/0x160",
    ] {
        timings.push(&parse_line(line).unwrap());
    }
    let open = timings.open();
    let evidence = Evidence {
        first: &dump,
        second: &dump,
        open: &open,
        clock: Some(Clock { now_ticks: 30_002_000_000, tsc_khz: 1_000_000 }),
        balances: &[],
        locks: &[],
    };
    let report = explain(&evidence).unwrap();
    assert_eq!(report.title, "removal never ends: gpiochip_remove waits in synchronize_srcu for linereq_read");
    assert_eq!(report.waiters.len(), 2);
    assert_eq!((report.waiters[0].tid, report.waiters[0].removal.as_str()), (85, "pciehp_ist"));
    assert_eq!(report.waited_for.len(), 2);
    insta::assert_snapshot!(report.explanation);
}

/// Each device has its own domain, and a stack does not tell whose it is in.
#[test]
fn who_is_waited_for_is_known_where_the_counters_say_it() {
    let revoke = remover(&["__synchronize_srcu", "plugstorm_revoke", "plugstorm_remove"]);
    let reader =
        task(412, "reader", Some(("reader", "read-event")), &["plugstorm_event_wait", "plugstorm_read", "vfs_read"]);
    let dump = [revoke, reader];
    let told = |balances: &[DomainBalance]| {
        explain(&Evidence { first: &dump, second: &dump, balances, ..Evidence::default() }).unwrap().explanation
    };
    let domain = |inside: u64| DomainBalance { name: "plugstorm0".into(), entered: [10 + inside, 7], left: [10, 7] };
    let waits = "So thread 85, in plugstorm_revoke, waits for thread 412 to leave plugstorm_event_wait.";
    let may = "So thread 85, in plugstorm_revoke, may wait for thread 412 to leave plugstorm_event_wait: it does if that one is at \
               the device that is taken away. Then neither side can go on: what that one sleeps for would";
    assert!(told(&[domain(1)]).contains(waits), "{}", told(&[domain(1)]));
    // More readers than threads, another device beside it, or no counters.
    for balances in [vec![domain(2)], vec![domain(1), domain(0)], Vec::new()] {
        assert!(told(&balances).contains(may), "{}", told(&balances));
    }
}

#[test]
fn a_device_that_does_not_answer_holds_up_the_removal() {
    let stuck = task(
        600,
        "plugstorm-agent",
        Some(("writers", "set-values")),
        &["_virtio_gpio_req", "virtio_gpio_set", "gpiod_set_raw_value_commit", "linereq_set_values", "linereq_ioctl"],
    );
    let dump = [remover(&["__synchronize_srcu", "gpiochip_remove", "virtio_gpio_remove"]), stuck];
    let report = explain(&Evidence { first: &dump, second: &dump, ..Evidence::default() }).unwrap();
    assert_eq!(report.title, "removal never ends: gpiochip_remove waits in synchronize_srcu for virtio_gpio_req");
}

#[test]
fn a_reset_that_polls_is_the_devices_fault() {
    let first = [remover(&["msleep", "vp_reset", "virtio_reset_device", "virtio_gpio_remove"]), sleeping_reader(1)];
    let mut second = first.clone();
    second[0].switches += 100;
    let report = explain(&Evidence { first: &first, second: &second, ..Evidence::default() }).unwrap();
    assert_eq!(report.waiters[0].wait.kind, WaitKind::DeviceReset);
    assert_eq!(report.waiters[0].movement, Movement::SamePlace);
    assert_eq!(report.title, "removal never ends: virtio_gpio_remove waits in vp_reset");
}

#[test]
fn held_locks_are_told_of_those_who_wait_and_those_who_are_waited_for() {
    let mut reader = LockReader::default();
    for line in [
        "[   60.1][   T27] Showing all locks held in the system:",
        "[   60.2][   T27] 1 lock held by khungtaskd/27:",
        "[   60.3][   T27]  #0: ffffffff82e5a3a0 (rcu_read_lock){....}-{1:3}, at: debug_show_all_locks+0x32/0x1c0",
        "[   60.4][   T27] 2 locks held by irq/27-pciehp/85:",
        "[   60.5][   T27]  #0: ffff888004a5c1d0 (&ctrl->reset_lock){.+.+}-{4:4}, at: pciehp_ist+0x83/0x110",
        "[   60.6][   T27]  #1: ffffffff82f4c2e8 (pci_rescan_remove_lock){+.+.}-{4:4}, at: pciehp_unconfigure_device+0x5a/0x170",
    ] {
        reader.line(line);
    }
    let dump = [remover(&["__synchronize_srcu", "gpiochip_remove"]), sleeping_reader(412)];
    let evidence = Evidence { first: &dump, second: &dump, locks: reader.holders(), ..Evidence::default() };
    let report = explain(&evidence).unwrap();
    assert_eq!(report.locks.len(), 1, "the one that made the list is not concerned");
    let sentence = "By lockdep, irq/27-pciehp (85) holds &ctrl->reset_lock (taken in pciehp_ist), pci_rescan_remove_lock (taken \
                    in pciehp_unconfigure_device).";
    assert!(report.explanation.contains(sentence), "{}", report.explanation);
}

#[test]
fn an_overwritten_index_is_told_by_the_counters() {
    let dump = [remover(&["__synchronize_srcu", "plugstorm_revoke", "plugstorm_remove"])];
    let balances = [DomainBalance { name: "plugstorm0".into(), entered: [10, 10], left: [9, 11] }];
    let evidence = Evidence { first: &dump, second: &dump, balances: &balances, ..Evidence::default() };
    let report = explain(&evidence).unwrap();
    assert_eq!(
        report.title,
        "removal never ends: plugstorm_revoke waits in synchronize_srcu for a reader that does not exist"
    );
    insta::assert_snapshot!(report.explanation);
}

#[test]
fn threads_that_come_and_go_are_not_blamed() {
    let first = [remover(&["__synchronize_srcu", "plugstorm_revoke"]), sleeping_reader(5)];
    let mut second = first.clone();
    second[1].switches += 1;
    let report = explain(&Evidence { first: &first, second: &second, ..Evidence::default() }).unwrap();
    assert_eq!(report.title, "removal never ends: plugstorm_revoke waits in synchronize_srcu");
    assert!(report.explanation.contains("none of them stands still"), "{}", report.explanation);
}

#[test]
fn a_waiter_behind_a_lock_is_not_the_cause() {
    let dump = [
        task(10, "tee", None, &["device_release_driver_internal", "unbind_store", "kernfs_fop_write_iter"]),
        remover(&["__synchronize_srcu", "gpiochip_remove"]),
    ];
    let report = explain(&Evidence { first: &dump, second: &dump, ..Evidence::default() }).unwrap();
    assert_eq!(report.waiters[0].tid, 85);
    assert_eq!(report.waiters[1].wait.kind, WaitKind::Lock);
}

#[test]
fn nobody_removing_is_no_hang() {
    let dump = [sleeping_reader(1)];
    assert_eq!(explain(&Evidence { first: &dump, ..Evidence::default() }), None);
}

#[test]
fn without_a_dump_the_trace_tells() {
    let mut timings = Timings::new(1_000_000_u32);
    timings.push(&parse_line("a-85 [001] ..... 1: unplug_begin: (f+0x0/0x1) caller=g+0x1/0x2").unwrap());
    let open = timings.open();
    let report = explain(&Evidence { open: &open, ..Evidence::default() }).unwrap();
    assert_eq!(report.title, "removal never ends: pciehp_unconfigure_device has not returned");
}

proptest! {
    #[test]
    fn any_stacks_are_survived(stacks in proptest::collection::vec((any::<u32>(), any::<u64>(),
        proptest::collection::vec("(gpiochip_remove|linereq_read|__synchronize_srcu|pciehp_ist|msleep|[ -~]{0,12})(\\+0x1/0x2)?", 0..8)), 0..12)) {
        let dump: Vec<_> = stacks.into_iter().map(|(tid, switches, stack)| StackedTask {
            pid: tid, tid, comm: stack.concat(), state: 'D', switches, stack, hammer: None, operation: None,
        }).collect();
        if let Some(report) = explain(&Evidence { first: &dump, second: &dump, ..Evidence::default() }) {
            prop_assert!(report.title.starts_with("removal never ends: "));
        }
    }
}
