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

fn locks(list: &str) -> LockReader {
    let mut reader = LockReader::default();
    assert!(reader.line("[   60.1][   T27] Showing all locks held in the system:"));
    list.lines().for_each(|line| assert!(reader.line(line), "{line}"));
    reader
}

#[test]
fn who_waits_for_whose_lock_is_told_through_all_of_them() {
    // One waits for the reader, the next for a lock of that one, the last for a lock of the next.
    let mut unbinding =
        task(10, "tee", None, &["device_driver_detach", "unbind_store", "kernfs_fop_write_iter", "vfs_write"]);
    unbinding.stack[0] = "device_driver_detach+0x2c/0xc0".into();
    let mut listing = task(11, "ls", None, &["kernfs_iop_permission", "inode_permission"]);
    listing.stack[0] = "kernfs_iop_permission+0x3a/0xb0".into();
    let mut stranger = task(12, "stranger", None, &["other_read", "vfs_read"]);
    stranger.stack[0] = "other_read+0x1/0x2".into();
    let dump =
        [unbinding, listing, stranger, remover(&["__synchronize_srcu", "gpiochip_remove"]), sleeping_reader(412)];
    let list = locks(
        " 4 locks held by tee/10:
  #0: ffff888003c5a3f8 (sb_writers#4){.+.+}-{0:0}, at: vfs_write+0x10/0x200
  #1: ffff888003c5a4f8 (kn->active#12){++++}-{0:0}, at: kernfs_fop_write_iter+0x133/0x210
  #2: ffffffff82f4d2e8 (kernfs_lock){+.+.}-{4:4}, at: unbind_store+0x10/0x200
  #3: ffff888004b0a1b8 (&dev->mutex){....}-{4:4}, at: device_driver_detach+0x2c/0xc0
 1 lock held by ls/11:
  #0: ffffffff82f4d2e8 (kernfs_lock){+.+.}-{4:4}, at: kernfs_iop_permission+0x3a/0xb0
 1 lock held by stranger/12:
  #0: ffff888004fffff8 (other){+.+.}-{4:4}, at: other_read+0x1/0x2
 1 lock held by irq/27-pciehp/85:
  #0: ffff888004b0a1b8 (&dev->mutex){....}-{4:4}, at: device_release_driver_internal+0x4a/0x200
 1 lock held by plugstorm-agent/412:
  #0: ffff888004b0c2c8 (&gdev->srcu){.+.+}-{0:0}, at: linereq_read+0x5d/0x2f0
 =============================================",
    );
    let evidence = Evidence { first: &dump, second: &dump, locks: list.holders(), ..Evidence::default() };
    let report = explain(&evidence).unwrap();
    assert_eq!(report.title, "removal never ends: gpiochip_remove waits in synchronize_srcu for linereq_read");
    let waits: Vec<_> = report
        .lock_waits
        .iter()
        .map(|wait| (wait.tid, wait.lock.name.as_str(), wait.held_by.iter().map(|owner| owner.tid).collect()))
        .collect::<Vec<(u32, &str, Vec<u32>)>>();
    assert_eq!(waits, [(10, "&dev->mutex", vec![85]), (11, "kernfs_lock", vec![10])]);
    assert_eq!(
        report.locks.iter().map(|holder| (holder.tid, holder.locks.len())).collect::<Vec<_>>(),
        [(10, 3), (85, 1), (412, 1)]
    );
    insta::assert_snapshot!(report.explanation);
}

#[test]
fn a_removal_that_waits_for_a_lock_only_is_told_with_the_one_who_has_it() {
    let mut remover = remover(&[]);
    remover.stack[0] = "device_release_driver_internal+0x4a/0x200".into();
    let owner = task(300, "probe", None, &["msleep", "other_probe", "really_probe"]);
    let list = locks(
        "1 lock held by irq/27-pciehp/85:
 #0: ffff888004b0a1b8 (&dev->mutex){....}-{4:4}, at: device_release_driver_internal+0x4a/0x200
1 lock held by probe/300:
 #0: ffff888004b0a1b8 (&dev->mutex){....}-{4:4}, at: __driver_attach+0x1/0x2",
    );
    let dump = [remover, owner];
    let evidence = Evidence { first: &dump, second: &dump, locks: list.holders(), ..Evidence::default() };
    let report = explain(&evidence).unwrap();
    assert_eq!(report.title, "removal never ends: device_release_driver_internal waits in device_lock for other_probe");
    assert_eq!(report.waited_for.len(), 1);
    insta::assert_snapshot!(report.explanation);
}

#[test]
fn a_lock_that_was_taken_is_not_one_that_is_waited_for() {
    // As `sb_start_write()`: known by the return address of the function it is inlined in, which works on under the lock.
    let mut writer = task(10, "tee", None, &["other_write", "vfs_write", "ksys_write", "unbind_store"]);
    writer.stack[2] = "ksys_write+0x6f/0xf0".into();
    let list =
        locks("1 lock held by tee/10:\n #0: ffff888003c5a3f8 (sb_writers#4){.+.+}-{0:0}, at: ksys_write+0x6f/0xf0");
    let dump = [writer];
    let evidence = Evidence { first: &dump, second: &dump, locks: list.holders(), ..Evidence::default() };
    let report = explain(&evidence).unwrap();
    assert_eq!((report.lock_waits.len(), report.locks.len()), (0, 1));
}

#[test]
fn many_readers_with_the_same_lock_are_one_sentence() {
    let readers: Vec<_> = (0..40).map(|number| sleeping_reader(400 + number)).collect();
    let dump = [vec![remover(&["__synchronize_srcu", "gpiochip_remove"])], readers].concat();
    let list: Vec<_> = (0..40)
        .map(|number| {
            let tid = 400 + number;
            format!("1 lock held by reader/{tid}:\n #0: ffff888003c5a3f8 (&gdev->srcu){{.+.+}}-{{0:0}}, at: linereq_read+0x5d/0x2f0")
        })
        .collect();
    let list = locks(&list.join("\n"));
    let evidence = Evidence { first: &dump, second: &dump, locks: list.holders(), ..Evidence::default() };
    let report = explain(&evidence).unwrap();
    let sentence =
        "By lockdep, reader (400), reader (401), reader (402), 37 more each hold &gdev->srcu (taken in linereq_read).";
    assert!(report.explanation.contains(sentence), "{}", report.explanation);
    assert_eq!(report.locks.len(), 40);
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
