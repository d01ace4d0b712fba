//! Held locks, of guests whose removal does not end.

use super::*;

/// As a guest with the kernel `debug` printed it, with other names.
const LIST: &[u8] = b"\
[  226.959819][   T55] sysrq: Show Locks Held
[  226.990825][   T55]
[  226.990825][   T55] Showing all locks held in the system:
[  227.035234][   T55] 4 locks held by show-locks/55:
[  227.063994][   T55]  #0: ffff888003b81b38 (&f->f_pos_lock){+.+.}-{3:3}, at: fdget_pos+0x1cb/0x2c0
[  227.115417][   T55]  #1: ffff888004a8e3f0 (sb_writers#3){.+.+}-{0:0}, at: ksys_write+0xe7/0x1a0
[  227.139821][   T55]  #2: ffffffff823268c0 (rcu_read_lock){....}-{1:2}, at: __handle_sysrq+0x75/0x550
[  227.154364][   T55]  #3: ffffffff823268c0 (rcu_read_lock){....}-{1:2}, at: debug_show_all_locks+0x71/0x330
[  227.175016][   T55] 3 locks held by irq/24-pciehp/24:
[  227.179621][   T55]  #0: ffffffff823fc688 (pci_rescan_remove_lock){+.+.}-{3:3}, at: pciehp_unconfigure_device+0xd2/0x2b0
[  227.208205][   T55]  #1: ffff888003bc01f0 (&dev->mutex){....}-{3:3}, at: device_release_driver_internal+0x95/0x680
[  227.229677][   T55]  #2: ffff888003d9f1b8 (&dev->mutex){....}-{3:3}, at: device_release_driver_internal+0x95/0x680
[  227.264306][   T55] 1 lock held by hammer/0/70:
[  227.287997][   T55]  #0: ffff888003bc9548 (&gdev->srcu){.+.+}-{0:0}, at: linereq_read+0x11b/0x7d0
[  227.310833][   T55]
[  227.320197][   T55] =============================================
[  227.320197][   T55]
";

fn hanging(locks: Option<&[u8]>) -> Ran {
    let mut guest = FakeGuest::new(Fault::RemovalHangs(1));
    guest.locks = locks.map(<[u8]>::to_vec);
    run_with(&scenario(), guest, Memory::default(), false)
}

fn listed(ran: &Ran) -> Vec<(usize, Option<String>)> {
    let told = |event: &Event| match &event.kind {
        EventKind::LocksListed { tasks, problem } => Some((*tasks, problem.clone())),
        _ => None,
    };
    ran.journal.events.iter().filter_map(told).collect()
}

#[test]
fn who_holds_what_is_part_of_a_hang() {
    let ran = hanging(Some(LIST));
    let [finding] = &ran.outcome.record.findings[..] else { panic!("{:?}", ran.outcome.record.findings) };
    assert_eq!(finding.kind, FindingKind::RemovalStuck, "a list of locks is no report of the kernel's");
    assert_eq!(finding.title, "removal never ends: gpiochip_remove waits in synchronize_srcu for linereq_read");
    let hang = finding.hang.as_ref().unwrap();
    assert_eq!(
        hang.locks.iter().map(|holder| (holder.tid, holder.locks.len())).collect::<Vec<_>>(),
        [(24, 3), (70, 1)]
    );
    for sentence in [
        "By lockdep, irq/24-pciehp (24) holds pci_rescan_remove_lock (taken in pciehp_unconfigure_device), &dev->mutex (taken in \
         device_release_driver_internal), &dev->mutex (taken in device_release_driver_internal).",
        "By lockdep, hammer/0 (70) holds &gdev->srcu (taken in linereq_read).",
    ] {
        assert!(finding.explanation.contains(sentence), "{}", finding.explanation);
    }
    // The console's last lines are what it said besides.
    assert_eq!(finding.console, ["Linux version 6.12.0-fake"]);
    assert_eq!(listed(&ran), [(3, None)]);
}

#[test]
fn a_kernel_without_lockdep_is_asked_once_and_that_is_no_failure() {
    let ran = hanging(None);
    assert_eq!(ran.verdict, Verdict::Found);
    assert_eq!(listed(&ran), [(0, Some("this kernel keeps no account of locks".to_owned()))]);
    assert!(ran.outcome.record.findings[0].hang.as_ref().unwrap().locks.is_empty());
    assert!(ran.outcome.record.warnings.is_empty(), "{:?}", ran.outcome.record.warnings);
}

#[test]
fn lockdep_that_has_given_up_and_a_list_without_end_are_told_and_not_waited_for_long() {
    let off = hanging(Some(b"[   20.000001][   T80] INFO: lockdep is turned off.\n"));
    let (without_end, _) = LIST.split_at(LIST.len() - 100);
    let cut = hanging(Some(without_end));
    for (ran, tasks, words) in [(off, 0, "turned off"), (cut, 3, "did not come to its end")] {
        assert_eq!(ran.outcome.record.findings.len(), 1);
        assert_eq!(ran.outcome.record.findings[0].kind, FindingKind::RemovalStuck);
        let [(listed, Some(problem))] = &listed(&ran)[..] else { panic!("{:?}", listed(&ran)) };
        assert!(*listed == tasks && problem.contains(words), "{listed} {problem}");
        assert!(seconds_of(&ran) < 30);
    }
}

#[test]
fn a_removal_that_is_slow_is_asked_twice_and_ends() {
    let mut guest = FakeGuest::new(Fault::RemovalLate);
    guest.locks = Some(LIST.to_vec());
    let ran = run_with(&scenario(), guest, Memory::default(), false);
    assert!(ran.outcome.record.findings.iter().all(|finding| finding.kind == FindingKind::RemovalSlow));
}
