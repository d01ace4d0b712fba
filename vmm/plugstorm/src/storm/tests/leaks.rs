//! Memory that the guest's kernel lost.

use super::*;

fn asked(ran: &Ran) -> usize {
    ran.guest.sent.iter().filter(|sent| matches!(sent, ToGuest::FindLeaks { .. })).count()
}

#[test]
fn a_kernel_that_cannot_tell_is_not_asked() {
    let ran = run_fault(Fault::None);
    assert_eq!((asked(&ran), ran.outcome.record.leaks_looked_for), (0, 0));
}

#[test]
fn one_that_lost_nothing_is_clean() {
    let ran = run_fault(Fault::LosesNothing);
    assert_eq!((ran.verdict, asked(&ran), ran.outcome.record.leaks_looked_for), (Verdict::Clean, 1, 1));
}

#[test]
fn each_object_is_a_finding_and_those_of_one_allocator_are_one() {
    let ran = run_fault(Fault::LosesMemory);
    assert_eq!(ran.verdict, Verdict::Found);
    let findings: Vec<_> =
        ran.outcome.record.findings.iter().map(|finding| (finding.title.as_str(), finding.count)).collect();
    assert_eq!(findings, [("memory leak in gpiochip_add_data_with_key", 2), ("memory leak in shared_handle_open", 1)]);
    let splat = ran.outcome.record.findings[0].splat.as_ref().unwrap();
    assert!(splat.starts_with("unreferenced object") && !splat.contains('\u{1b}'), "{splat}");
    assert!(ran.outcome.record.warnings.iter().any(|warning| warning.contains("lost 5 objects; 2 of them")));
}

#[test]
fn in_guests_of_their_own_each_is_asked() {
    let mut scenario = parse(SCENARIO, "storm.toml", "storm").unwrap();
    scenario.renew = Renew::EachCycle;
    let ran = run_with(&scenario, FakeGuest::new(Fault::LosesNothing), Memory::default(), false);
    assert_eq!((ran.verdict, asked(&ran)), (Verdict::Clean, 3));
    let ran = run_with(&scenario, FakeGuest::new(Fault::LosesMemory), Memory::default(), false);
    assert_eq!((ran.verdict, asked(&ran)), (Verdict::Found, 1));
}

#[test]
fn one_that_cannot_tell_after_all_is_said_so() {
    let ran = run_fault(Fault::CannotTellLeaks);
    assert_eq!((ran.verdict, ran.outcome.record.leaks_looked_for), (Verdict::Clean, 0));
    let told = "leaks could not be looked for: cannot write \"scan\"";
    assert!(
        ran.outcome.record.warnings.iter().any(|warning| warning.starts_with(told)),
        "{:?}",
        ran.outcome.record.warnings
    );
}

#[test]
fn one_that_falls_silent_over_it_is_a_finding() {
    let ran = run_fault(Fault::SilentOverLeaks);
    let kinds: Vec<_> = ran.outcome.record.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [FindingKind::GuestSilent]);
}
