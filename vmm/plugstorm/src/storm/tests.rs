//! The engine against scripted guests: what each misbehaviour comes to, and in which time.

use std::sync::atomic::AtomicBool;

use plugstorm_wire::ToGuest;

use super::fake::{FakeGuest, Fault, Memory};
use super::*;
use crate::progress::Quiet;
use crate::results::{Event, EventKind, FindingKind, Verdict};
use crate::scenario::{How, Renew, Step, Until, parse};
use crate::verdict::judge;

mod leaks;
mod locks;
mod own;
mod points;

const SCENARIO: &str = r#"
cycles = 3
[[device]]
name = "gpio"
driver = "gpio-virtio"
[[hammer]]
name = "pollers"
device = "gpio"
threads = 2
operations = ["poll"]
[[step]]
do = "add"
device = "gpio"
[[step]]
do = "start"
hammer = "pollers"
[[step]]
do = "pause"
for = ["1ms", "20ms"]
[[step]]
do = "remove"
device = "gpio"
how = "surprise"
[[step]]
do = "stop"
hammer = "pollers"
"#;

struct Ran {
    verdict: Verdict,
    reason: String,
    outcome: Outcome,
    journal: Memory,
    guest: FakeGuest,
}

fn scenario() -> Scenario {
    parse(SCENARIO, "storm.toml", "storm").unwrap()
}

fn run_with(scenario: &Scenario, guest: FakeGuest, journal: Memory, interrupted: bool) -> Ran {
    let emulated = matches!(guest.fault, Fault::TripleFaults(_) | Fault::Impossible(_) | Fault::BreaksInBoot(_));
    run_as(scenario, guest, journal, interrupted, emulated)
}

fn run_as(scenario: &Scenario, guest: FakeGuest, journal: Memory, interrupted: bool, emulated: bool) -> Ran {
    let (mut guest, mut journal) = (guest, journal);
    let plan = Plan::new(scenario, 7);
    let interrupt = AtomicBool::new(interrupted);
    let outcome = run(Setting {
        scenario,
        plan: &plan,
        guest: &mut guest,
        journal: &mut journal,
        progress: &mut Quiet,
        interrupt: &interrupt,
        host_slowdown: 1.0,
        emulated,
        kernel: "fake",
    });
    let (verdict, reason) = judge(scenario, &outcome);
    Ran { verdict, reason: reason.unwrap_or_default(), outcome, journal, guest }
}

fn run_fault(fault: Fault) -> Ran {
    run_with(&scenario(), FakeGuest::new(fault), Memory::default(), false)
}

fn seconds_of(ran: &Ran) -> u64 {
    ran.outcome.duration_ns / 1_000_000_000
}

#[test]
fn a_sound_guest_is_clean() {
    let ran = run_fault(Fault::None);
    assert_eq!((ran.verdict, ran.reason.as_str()), (Verdict::Clean, ""));
    assert_eq!(ran.guest.boots, 1);
    let removal = &ran.outcome.record.removal_totals()[0];
    assert_eq!(
        (removal.how, removal.asked, removal.seen, removal.finished, removal.stuck),
        (How::Surprise, 3, 3, 3, 0)
    );
    let hammer = &ran.outcome.record.hammer_totals(&scenario())[0];
    assert_eq!((hammer.runs, hammer.operations[0].calls), (3, 3000));
    assert_eq!(hammer.operations[0].errors[0].count, 300);
    let asked = ran.journal.events.iter().filter(|event| matches!(event.kind, EventKind::RemovalAsked { .. })).count();
    let finished =
        ran.journal.events.iter().filter(|event| matches!(event.kind, EventKind::RemovalFinished { .. })).count();
    assert_eq!((asked, finished), (3, 3));
    assert!(ran.journal.console.starts_with(b"Linux version"));
}

#[test]
fn a_removal_that_hangs_is_found_with_both_stacks() {
    let ran = run_fault(Fault::RemovalHangs(1));
    assert_eq!(ran.verdict, Verdict::Found);
    let finding = &ran.outcome.record.findings[0];
    assert_eq!((finding.kind, finding.cycle, finding.how), (FindingKind::RemovalStuck, 1, Some(How::Surprise)));
    assert_eq!(finding.device.as_deref(), Some("gpio"));
    let hang = finding.hang.as_ref().unwrap();
    assert!(hang.waiters[0].stack[0].starts_with("__synchronize_srcu"));
    assert!(hang.waited_for[0].stack[0].starts_with("linereq_read"));
    assert!(finding.title.contains("linereq_read"), "{}", finding.title);
    assert_eq!(ran.outcome.record.completed, 1);
    assert!((10..20).contains(&seconds_of(&ran)));
}

#[test]
fn all_cycles_go_on_in_a_new_guest_after_a_finding() {
    let mut scenario = scenario();
    scenario.until = Until::AllCycles;
    let ran = run_with(&scenario, FakeGuest::new(Fault::RemovalSpins), Memory::default(), false);
    assert_eq!(ran.guest.boots, 3);
    let [finding] = &ran.outcome.record.findings[..] else { panic!("{:?}", ran.outcome.record.findings) };
    assert_eq!((finding.kind, finding.count), (FindingKind::GuestSilent, 3));
    assert!(finding.title.contains("stopped answering during a removal"), "{}", finding.title);
    // The panic is the harness's own doing: it is evidence, and no finding of its own.
    assert!(finding.explanation.contains("found its CPUs in vp_reset"), "{}", finding.explanation);
    assert!(finding.splat.as_ref().unwrap().contains("Not continuing"));
    // What the machine saw before that: the processor, the agent, the task that carries the removal out.
    for sentence in [
        "vCPU 0 has interrupts off and is in vp_reset, called by virtio_pci_remove for the task irq/25-pciehp (62), at the same \
         instruction at both looks.",
        "The kernel counted no timer tick",
        "The agent is ready to run and was given no processor",
        "The task irq/25-pciehp (62) is taking the device away (pciehp_ist)",
    ] {
        assert!(finding.explanation.contains(sentence), "{}", finding.explanation);
    }
    assert_eq!(finding.processors.as_ref().unwrap().busy(), ["vp_reset"]);
    assert!(finding.hang.is_some() && finding.alt_titles.is_empty(), "it is not that hang alone");
}

/// What is found stands, whatever befalls the look at it.
#[test]
fn a_finding_survives_a_disk_that_fills_up_while_it_is_looked_at() {
    for fault in [Fault::RemovalSpins, Fault::RemovalHangs(1)] {
        let all = run_fault(fault);
        let looked = |event: &Event| matches!(event.kind, EventKind::SeenFromOutside { .. });
        let place = all.journal.events.iter().position(looked).unwrap();
        let journal = Memory { full_after: Some(place), ..Memory::default() };
        let ran = run_with(&scenario(), FakeGuest::new(fault), journal, false);
        assert_eq!((ran.verdict, ran.journal.events.len()), (Verdict::Found, place), "{fault:?}");
        assert_eq!(ran.outcome.record.findings[0].title, all.outcome.record.findings[0].title);
        assert!(ran.reason.contains("could not be written"), "{}", ran.reason);
    }
}

#[test]
fn each_misbehaviour_ends_with_one_sentence() {
    for (fault, verdict, sentence, at_most_s) in [
        (Fault::Mute, Verdict::Inconclusive, "never started its agent within 30 s", 31),
        (Fault::Chatters, Verdict::Inconclusive, "the last line of its console is: again", 31),
        (Fault::EndsInBoot, Verdict::Inconclusive, "triple fault before its agent was ready", 1),
        (Fault::Deaf, Verdict::Inconclusive, "took no configuration", 6),
        (Fault::NeverBegins, Verdict::Inconclusive, "the agent did not begin within 5.0 s", 6),
        (Fault::StrayNmi, Verdict::Inconclusive, "that plugstorm did not send", 1),
        (Fault::Foreign, Verdict::Inconclusive, "speaks version", 1),
        (Fault::RemovalLate, Verdict::Found, "slower than its time-out", 15),
        (Fault::ResetsInRemoval, Verdict::Found, "the guest reset itself during a removal (surprise)", 1),
        (Fault::MachineFails, Verdict::Inconclusive, "KVM_RUN gave EFAULT", 1),
        (Fault::AgentEnds, Verdict::Inconclusive, "the agent in the guest ended", 1),
        (Fault::NoNode, Verdict::Inconclusive, "no node for it came within 5.0 s", 10),
        (Fault::StartFails, Verdict::Inconclusive, "EACCES", 1),
        (Fault::HammerHangs, Verdict::Found, "threads do not come back from the kernel: linereq_read", 3),
        (Fault::Idle, Verdict::Inconclusive, "made no call on a device that was there in 3 of its 3 runs", 2),
        (Fault::Vain, Verdict::Inconclusive, "failed with EBADF", 2),
        (Fault::Lies, Verdict::Inconclusive, "agent channel", 1),
        (Fault::Invents, Verdict::Inconclusive, "agent channel", 1),
        (Fault::Floods, Verdict::Inconclusive, "flooded its console", 1),
    ] {
        let ran = run_fault(fault);
        assert_eq!(ran.verdict, verdict, "{fault:?}: {}", ran.reason);
        assert!(ran.reason.contains(sentence), "{fault:?}: {}", ran.reason);
        assert!(!ran.reason.contains('\n'), "{fault:?}: {}", ran.reason);
        assert!(seconds_of(&ran) <= at_most_s, "{fault:?} took {} s", seconds_of(&ran));
    }
}

#[test]
fn a_guest_that_breaks_in_boot_gets_a_second_chance_and_no_third() {
    let once = run_fault(Fault::BreaksInBoot(1));
    assert_eq!((once.verdict, once.guest.boots), (Verdict::Clean, 2), "{}", once.reason);
    assert!(once.outcome.record.warnings[0].contains("another one was booted"), "{:?}", once.outcome.record.warnings);
    let twice = run_fault(Fault::BreaksInBoot(2));
    assert_eq!((twice.verdict, twice.guest.boots), (Verdict::Found, 2), "{}", twice.reason);
    assert_eq!(twice.outcome.record.findings[0].count, 2);
}

#[test]
fn an_emulator_may_lose_a_guest_but_not_twice_at_one_place() {
    let once = run_fault(Fault::TripleFaults(1));
    assert_eq!((once.verdict, once.guest.boots), (Verdict::Clean, 2), "{}", once.reason);
    assert_eq!(once.outcome.record.emulation_faults, 1);
    assert!(once.outcome.record.warnings[0].contains("the cycle was repeated"), "{:?}", once.outcome.record.warnings);
    let twice = run_fault(Fault::TripleFaults(2));
    assert_eq!(twice.verdict, Verdict::Found, "{}", twice.reason);
    assert!(twice.reason.contains("triple fault during a removal"), "{}", twice.reason);
}

#[test]
fn an_interrupt_that_cannot_have_come_is_the_emulators_once() {
    let once = run_fault(Fault::Impossible(1));
    assert_eq!((once.verdict, once.guest.boots), (Verdict::Clean, 2), "{}", once.reason);
    let warnings = &once.outcome.record.warnings;
    assert!(warnings[0].contains("interrupts off") && warnings[0].contains("the cycle was repeated"), "{warnings:?}");
    let twice = run_fault(Fault::Impossible(2));
    assert_eq!(twice.verdict, Verdict::Found, "{}", twice.reason);
    // A processor that does it is one to report.
    let real = run_as(&scenario(), FakeGuest::new(Fault::Impossible(1)), Memory::default(), false, false);
    assert_eq!(real.verdict, Verdict::Found, "{}", real.reason);
}

#[test]
fn a_guest_that_breaks_in_boot_on_real_hardware_is_found() {
    let ran = run_as(&scenario(), FakeGuest::new(Fault::BreaksInBoot(1)), Memory::default(), false, false);
    assert_eq!((ran.verdict, ran.guest.boots), (Verdict::Found, 1), "{}", ran.reason);
}

#[test]
fn a_report_and_a_silence_in_one_cycle_are_both_found() {
    let kinds = |fault| {
        let findings = run_fault(fault).outcome.record.findings;
        findings.iter().map(|finding| finding.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(Fault::WarnsAndSpins), [FindingKind::Splat, FindingKind::GuestSilent]);
}

#[test]
fn a_report_that_has_only_begun_is_found_whatever_ends_the_run() {
    let ran = run_fault(Fault::OopsesAndRefuses);
    assert_eq!(ran.verdict, Verdict::Found, "{}", ran.reason);
    assert!(ran.reason.contains("int3") && ran.reason.contains("could not start"), "{}", ran.reason);
}

#[test]
fn what_a_guest_does_after_its_last_cycle_counts() {
    let silent = run_fault(Fault::SilentAtTheEnd);
    assert_eq!(silent.verdict, Verdict::Found, "{}", silent.reason);
    assert!(silent.reason.contains("stopped answering after the last cycle"), "{}", silent.reason);
    for (emulated, verdict) in [(true, Verdict::Inconclusive), (false, Verdict::Found)] {
        let ran = run_as(&scenario(), FakeGuest::new(Fault::FaultsAtTheEnd), Memory::default(), false, emulated);
        assert_eq!(ran.verdict, verdict, "{}", ran.reason);
    }
}

#[test]
fn a_guest_begins_once_and_when_it_is_told_to() {
    let sound = run_fault(Fault::None);
    let begun = |event: &Event| match event.kind {
        EventKind::Begun { calibration_ns, slowdown, random } => Some((calibration_ns, slowdown, random)),
        _ => None,
    };
    let begun: Vec<_> = sound.journal.events.iter().filter_map(begun).collect();
    assert_eq!(begun, [(4_000_000, 1.0, u64::MAX)]);
    let order: Vec<_> = sound.guest.sent.iter().take(2).collect();
    let [ToGuest::Configure { .. }, ToGuest::Begin { hammers, .. }] = order[..] else { panic!("{order:?}") };
    assert_eq!(hammers[0].name, "pollers");
    assert_eq!(sound.outcome.record.channel.unexpected, 0);
    for (fault, unexpected) in [(Fault::BeginsTwice, 1), (Fault::BeginsUnasked, 2)] {
        let ran = run_fault(fault);
        assert_eq!((ran.verdict, ran.outcome.record.channel.unexpected), (Verdict::Clean, unexpected), "{fault:?}");
    }
}

#[test]
fn what_a_guest_could_not_begin_with_is_a_warning_once_each() {
    let mut scenario = scenario();
    scenario.until = Until::AllCycles;
    let ran = run_with(&scenario, FakeGuest::new(Fault::BeginsWithProblems), Memory::default(), false);
    assert_eq!((ran.verdict, ran.reason.as_str()), (Verdict::Clean, ""));
    let warnings: Vec<_> = ran.outcome.record.warnings.iter().map(String::as_str).collect();
    assert_eq!(warnings, ["a guest began with a problem: no clock", "a guest began with a problem: no [2Jlimit"]);
}

#[test]
fn a_point_that_cannot_be_armed_ends_the_run() {
    for keeps in [false, true] {
        let mut guest = FakeGuest::new(Fault::KnowsNoPoint);
        guest.keeps = keeps;
        let ran = run_with(&scenario(), guest, Memory::default(), false);
        assert_eq!((ran.verdict, ran.guest.settled), (Verdict::Inconclusive, 0), "{}", ran.reason);
        assert!(ran.reason.contains("points cannot be armed: our module has no point `a.b`"), "{}", ran.reason);
        assert!(matches!(ran.outcome.ending, super::Ending::User(_)), "{:?}", ran.outcome.ending);
    }
}

#[test]
fn a_slow_guest_gets_more_time() {
    let slow = run_fault(Fault::Slow(30));
    assert_eq!(slow.verdict, Verdict::Clean);
    assert!((slow.outcome.slowdown - 30.0).abs() < 1e-9);
    let mut guest = FakeGuest::new(Fault::RemovalTakes(15_000));
    assert_eq!(run_with(&scenario(), guest, Memory::default(), false).verdict, Verdict::Found);
    guest = FakeGuest::new(Fault::Slow(u64::MAX / super::CALIBRATION_REFERENCE_NS));
    let slowest = run_with(&scenario(), guest, Memory::default(), false);
    assert!((slowest.outcome.slowdown - MOST_SLOWDOWN).abs() < 1e-9);
}

#[test]
fn every_way_of_removal_is_followed_to_its_end() {
    let steps = [
        "do = \"add\"\ndevice = \"gpio\"",
        "do = \"remove\"\ndevice = \"gpio\"\nhow = \"unbind\"",
        "do = \"bind\"\ndevice = \"gpio\"",
        "do = \"remove\"\ndevice = \"gpio\"\nhow = \"remove\"",
        "do = \"rescan\"\ndevice = \"gpio\"",
        "do = \"remove\"\ndevice = \"gpio\"\nhow = \"remove\"",
        "do = \"remove\"\ndevice = \"gpio\"\nhow = \"surprise\"",
    ];
    let head = SCENARIO.split("[[hammer]]").next().unwrap();
    let text = format!("{head}{}", steps.map(|step| format!("[[step]]\n{step}\n")).concat());
    let scenario = parse(&text, "f", "s").unwrap();
    let ran = run_with(&scenario, FakeGuest::new(Fault::None), Memory::default(), false);
    assert_eq!((ran.verdict, ran.reason.as_str()), (Verdict::Clean, ""));
    let finished: Vec<_> =
        ran.outcome.record.removal_totals().iter().map(|removal| (removal.how, removal.finished)).collect();
    assert_eq!(finished, [(How::Surprise, 3), (How::Unbind, 3), (How::Remove, 6)]);
    let refused = run_with(&scenario, FakeGuest::new(Fault::UnbindRefused), Memory::default(), false);
    assert_eq!(refused.verdict, Verdict::Inconclusive);
    assert!(refused.reason.contains("could not unbind device `gpio`"), "{}", refused.reason);
}

#[test]
fn a_full_disk_stops_it_in_order() {
    let journal = Memory { full_after: Some(20), ..Memory::default() };
    let ran = run_with(&scenario(), FakeGuest::new(Fault::None), journal, false);
    assert_eq!(ran.verdict, Verdict::Inconclusive);
    assert!(ran.reason.contains("could not be written"), "{}", ran.reason);
    assert_eq!(ran.journal.events.len(), 20);
}

#[test]
fn an_interruption_ends_it_at_once() {
    let ran = run_with(&scenario(), FakeGuest::new(Fault::Mute), Memory::default(), true);
    assert_eq!(ran.verdict, Verdict::Interrupted);
    assert_eq!(seconds_of(&ran), 0);
}

#[test]
fn same_seed_same_stimulus() {
    // All but what must never be the same twice.
    let seeded = |message: &ToGuest| match message.clone() {
        ToGuest::Begin { hammers, watchdogs, points, .. } => {
            ToGuest::Begin { hammers, realtime_ns: 0, entropy: String::new(), watchdogs, points }
        }
        other => other,
    };
    let stimulus = |ran: &Ran| ran.guest.sent.iter().map(seeded).collect::<Vec<_>>();
    let (one, other) = (run_fault(Fault::None), run_fault(Fault::None));
    assert_eq!(stimulus(&one), stimulus(&other));
    assert_ne!(one.guest.sent, other.guest.sent);
}

#[test]
fn an_operation_that_was_never_called_is_a_gap() {
    let text = SCENARIO.replace("operations = [\"poll\"]", "operations = [\"poll\", \"line-info\"]");
    let scenario = parse(&text, "storm.toml", "storm").unwrap();
    let ran = run_with(&scenario, FakeGuest::new(Fault::None), Memory::default(), false);
    assert_eq!(ran.verdict, Verdict::Inconclusive);
    assert!(ran.reason.contains("never came to call `line-info`"), "{}", ran.reason);
}

fn run_kept(fault: Fault, change: impl FnOnce(&mut Scenario)) -> Ran {
    let mut scenario = scenario();
    change(&mut scenario);
    let mut guest = FakeGuest::new(fault);
    guest.keeps = true;
    run_with(&scenario, guest, Memory::default(), false)
}

#[test]
fn a_guest_that_is_kept_is_forked_at_once() {
    let ran = run_kept(Fault::None, |_| {});
    assert_eq!((ran.verdict, ran.outcome.record.boots, ran.outcome.record.forks), (Verdict::Clean, 1, 1));
    assert_eq!(ran.outcome.record.snapshot.as_deref(), Some("fake"));
    assert_eq!(ran.guest.settled, 1, "once a fork has begun");
    assert_eq!(ran.outcome.record.release.as_deref(), Some("6.12.0-fake"), "told by the guest before the snapshot");
    assert_eq!((ran.outcome.record.forks_ns.len(), ran.outcome.record.boots_ns.len()), (1, 1));
    // The add is what its kernel took note of first; the fake one says so at the removal.
    assert_eq!(ran.outcome.record.first_events_forked_ns.len(), 1);
    assert!(ran.outcome.record.first_events_booted_ns.is_empty());
    let begins = ran.guest.sent.iter().filter(|message| matches!(message, ToGuest::Begin { .. })).count();
    assert_eq!(begins, 1, "what was kept has not begun");
}

#[test]
fn each_cycle_may_have_a_guest_of_its_own() {
    let ran = run_kept(Fault::None, |scenario| scenario.renew = Renew::EachCycle);
    assert_eq!((ran.verdict, ran.outcome.record.boots, ran.outcome.record.forks), (Verdict::Clean, 1, 3));
    assert_eq!(ran.outcome.record.first_events_forked_ns.len(), 3);
    let flushes = ran.guest.sent.iter().filter(|message| matches!(message, ToGuest::FlushTrace { .. })).count();
    assert_eq!(flushes, 4, "of the guest that is kept, and of each cycle: no trace is lost with its guest");
}

#[test]
fn a_finding_costs_a_fork_and_no_boot() {
    let ran = run_kept(Fault::RemovalHangs(1), |scenario| scenario.until = Until::AllCycles);
    assert_eq!((ran.verdict, ran.outcome.record.boots, ran.outcome.record.forks), (Verdict::Found, 1, 2));
}

#[test]
fn a_snapshot_whose_forks_do_not_begin_is_thrown_away_and_a_guest_booted() {
    for fault in [Fault::ForkNeverBegins, Fault::ForkBreaks] {
        let ran = run_kept(fault, |_| {});
        assert_eq!((ran.verdict, ran.outcome.record.boots), (Verdict::Clean, 2), "{fault:?}: {}", ran.reason);
        assert_eq!(ran.guest.settled, 0);
        let warnings = ran.outcome.record.warnings.join("\n");
        assert!(warnings.contains("distrusted: ") && warnings.contains("booted in its place"), "{warnings}");
    }
}

#[test]
fn a_migration_is_a_step_like_others() {
    let migrate = |scenario: &mut Scenario| scenario.steps.insert(2, Step::Migrate);
    let ran = run_kept(Fault::None, migrate);
    assert_eq!((ran.verdict, ran.outcome.record.migrations, ran.guest.migrations), (Verdict::Clean, 3, 3));
    let ran = run_kept(Fault::MigrationFails, migrate);
    assert_eq!(ran.verdict, Verdict::Inconclusive);
    assert!(ran.reason.contains("cannot be migrated"), "{}", ran.reason);
}

#[test]
fn a_guest_that_complains_before_it_is_kept_is_not_kept() {
    assert_eq!(run_kept(Fault::None, |_| {}).guest.published, 1);
    for fault in [Fault::WarnsLate, Fault::WarnsInBoot] {
        let ran = run_kept(fault, |_| {});
        assert_eq!((ran.verdict, ran.outcome.record.forks), (Verdict::Found, 0), "{fault:?}: {}", ran.reason);
    }
}
