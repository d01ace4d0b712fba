//! Points that were armed: what was never reached is missing in the evidence.

use super::*;

/// The scenario with a device of our module, the points of two designs and one of the driver's.
fn armed() -> Scenario {
    let ours = "driver = \"plugstorm\"\ndesign = \"by-value-copy\"";
    let mut text = SCENARIO.replacen("driver = \"gpio-virtio\"", ours, 1);
    for point in ["by-value.cleared\"\ndelay = \"1ms", "shared-handle.cleared\"\ndelay = \"1ms", "driver.revoke-twice"]
    {
        text += &format!("[[point]]\nname = \"{point}\"\n");
    }
    parse(&text, "storm.toml", "storm").unwrap()
}

fn ran(fault: Fault) -> Ran {
    run_with(&armed(), FakeGuest::new(fault), Memory::default(), false)
}

fn hits(ran: &Ran) -> Vec<Option<u64>> {
    ran.outcome.record.points.iter().map(|point| point.hits).collect()
}

#[test]
fn hits_are_what_the_last_cycle_told() {
    let ran = ran(Fault::None);
    assert_eq!((ran.verdict, ran.reason.as_str()), (Verdict::Clean, ""));
    // The guest counts from its beginning, and was asked in each cycle.
    assert_eq!(hits(&ran), [Some(28); 3]);
    let asked = ran.guest.sent.iter().filter(|sent| matches!(sent, ToGuest::ReadPoints { .. })).count();
    assert_eq!(asked, 3);
}

#[test]
fn guests_of_their_own_add_up() {
    let mut scenario = armed();
    scenario.renew = Renew::EachCycle;
    let ran = run_with(&scenario, FakeGuest::new(Fault::None), Memory::default(), false);
    // 14, 21 and 28: this guest does not begin anew.
    assert_eq!(hits(&ran), [Some(63); 3]);
}

#[test]
fn a_guest_without_points_is_not_asked() {
    let ran = run_fault(Fault::None);
    assert!(!ran.guest.sent.iter().any(|sent| matches!(sent, ToGuest::ReadPoints { .. })));
}

#[test]
fn a_point_of_the_design_that_nobody_came_to_is_a_gap() {
    let ran = ran(Fault::ReachesNoPoint);
    assert_eq!(ran.verdict, Verdict::Inconclusive);
    assert_eq!(ran.reason, "point `by-value.cleared` was armed and never reached, so it proves nothing");
    // With another design, only the driver's is missing.
    let mut other = armed();
    other.override_design(crate::scenario::Design::StackToken).unwrap();
    let ran = run_with(&other, FakeGuest::new(Fault::ReachesNoPoint), Memory::default(), false);
    assert!(ran.reason.starts_with("point `driver.revoke-twice` was armed and never"), "{}", ran.reason);
    other.points.pop();
    let ran = run_with(&other, FakeGuest::new(Fault::ReachesNoPoint), Memory::default(), false);
    assert_eq!((ran.verdict, ran.reason.as_str()), (Verdict::Clean, ""));
}

#[test]
fn hits_that_are_not_told_are_a_gap() {
    for fault in [Fault::CountsNoPoints, Fault::InventsPoints] {
        let ran = ran(fault);
        assert_eq!((ran.verdict, hits(&ran)), (Verdict::Inconclusive, vec![None; 3]));
        assert!(ran.reason.starts_with("no guest told whether point `by-value.cleared`"), "{}", ran.reason);
    }
    let ran = ran(Fault::CountsNoPoints);
    let told = "a guest could not tell how often points were reached: no such file";
    assert!(ran.outcome.record.warnings.iter().any(|warning| warning == told), "{:?}", ran.outcome.record.warnings);
}

#[test]
fn a_guest_that_falls_silent_over_them_is_found() {
    let ran = ran(Fault::SilentOverPoints);
    assert_eq!(ran.verdict, Verdict::Found, "{}", ran.reason);
    assert_eq!(ran.outcome.record.findings[0].kind, FindingKind::GuestSilent);
}

#[test]
fn a_hang_tells_of_them_too() {
    let ran = ran(Fault::RemovalHangs(0));
    assert_eq!((ran.verdict, hits(&ran)), (Verdict::Found, vec![Some(7); 3]));
}
