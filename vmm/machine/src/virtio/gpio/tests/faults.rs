use std::time::{Duration, Instant};

use super::*;

fn always(fault: Fault) -> Faults {
    Faults { rules: vec![FaultRule::always(fault)] }
}

#[test]
fn a_stalled_answer_waits_for_its_release() {
    let mut guest = Guest::new();
    guest.handle.set_faults(always(Fault::Stall));
    let posted = guest.post(5, 1, 1);
    guest.driver.kick(0);
    assert_eq!(guest.driver.used(0), None);
    assert!(guest.driver.messages.take().is_empty());
    assert_eq!((guest.handle.unanswered(), guest.handle.next_due()), (1, None));
    assert!(guest.handle.line(1).unwrap().output, "the request is carried out");
    assert_eq!(guest.handle.complete_due(Instant::now()), 0);
    assert_eq!(guest.handle.release_stalled(), 1);
    assert_eq!(guest.driver.used(0), Some((posted.head, 2)));
    assert_eq!(guest.answer(posted), (OK, 0));
    assert_eq!(guest.driver.messages.take(), [1]);
    assert_eq!(guest.handle.release_stalled(), 0);
}

#[test]
fn a_lines_requests_wait_behind_a_stalled_one_and_others_do_not() {
    let mut guest = Guest::new();
    let rule = FaultRule { times: Some(1), ..FaultRule::always(Fault::Stall) };
    guest.handle.set_faults(Faults { rules: vec![rule] });
    let stalled = guest.post(5, 1, 1);
    let behind = guest.post(4, 1, 0);
    let other = guest.post(4, 2, 0);
    let last = guest.post(5, 1, 0);
    guest.driver.kick(0);
    assert_eq!(guest.driver.used(0), Some((other.head, 2)));
    assert_eq!(guest.driver.used(0), None);
    assert_eq!(guest.handle.release_stalled(), 3);
    let order: Vec<_> = std::iter::from_fn(|| guest.driver.used(0)).map(|(head, _)| head).collect();
    assert_eq!(order, [stalled.head, behind.head, last.head]);
}

#[test]
fn a_delayed_answer_comes_when_it_is_due() {
    let mut guest = Guest::new();
    guest.handle.set_faults(always(Fault::Delay(Duration::from_secs(60))));
    let before = Instant::now();
    let posted = guest.post(2, 0, 0);
    guest.driver.kick(0);
    let due = guest.handle.next_due().unwrap();
    assert!(due >= before + Duration::from_secs(60));
    assert_eq!(guest.handle.complete_due(due - Duration::from_nanos(1)), 0);
    assert_eq!(guest.handle.release_stalled(), 0, "delayed is not stalled");
    assert_eq!(guest.handle.complete_due(due), 1);
    assert_eq!(guest.driver.used(0), Some((posted.head, 2)));
    assert_eq!(guest.handle.next_due(), None);
}

#[test]
fn a_delay_beyond_time_is_a_stall() {
    let mut guest = Guest::new();
    guest.handle.set_faults(always(Fault::Delay(Duration::MAX)));
    guest.post(2, 0, 0);
    guest.driver.kick(0);
    assert_eq!((guest.handle.unanswered(), guest.handle.next_due()), (1, None));
    assert_eq!(guest.handle.release_stalled(), 1);
}

#[test]
fn a_wrong_status() {
    let mut guest = Guest::new();
    guest.handle.set_faults(always(Fault::Status(0x7f)));
    assert_eq!(guest.ask(3, 0, 2), (0x7f, 0));
    assert_eq!(guest.handle.line(0).unwrap().direction, Direction::In);
    assert_eq!((guest.handle.counters().faults, guest.handle.counters().errors), (1, 0));
}

#[test]
fn a_short_and_a_long_response() {
    let mut guest = Guest::new();
    guest.handle.set_faults(always(Fault::ShortResponse));
    let short = guest.post(2, 0, 0);
    guest.driver.kick(0);
    assert_eq!(guest.driver.used(0), Some((short.head, 1)));
    assert_eq!(guest.answer(short), (OK, 0xaa), "the value is not written");
    guest.handle.set_faults(always(Fault::LongResponse));
    let long = guest.post(2, 0, 0);
    guest.driver.kick(0);
    assert_eq!(guest.driver.used(0), Some((long.head, 3)));
    assert_eq!(guest.answer(long), (OK, 0));
}

#[test]
fn a_duplicate_completion() {
    let mut guest = Guest::new();
    guest.handle.set_faults(always(Fault::DuplicateCompletion));
    let posted = guest.post(2, 0, 0);
    guest.driver.kick(0);
    assert_eq!((guest.driver.used(0), guest.driver.used(0)), (Some((posted.head, 2)), Some((posted.head, 2))));
    assert_eq!(guest.driver.used(0), None);
    assert_eq!(guest.handle.state().rings[0].in_flight, 0);
}

#[test]
fn a_spurious_interrupt_by_script_and_by_hand() {
    let mut guest = Guest::new();
    guest.handle.set_faults(always(Fault::SpuriousInterrupt));
    guest.ask(2, 0, 0);
    assert_eq!(guest.driver.messages.take(), [1, 1]);
    guest.driver.suppress_interrupts(0, true);
    guest.handle.spurious_interrupt(REQUEST_QUEUE);
    guest.handle.spurious_interrupt(EVENT_QUEUE);
    guest.handle.spurious_interrupt(9);
    assert_eq!(guest.driver.messages.take(), [1, 2]);
}

#[test]
fn rules_choose_by_kind_line_and_count() {
    let mut guest = Guest::new();
    let rule = FaultRule {
        request: Some(RequestKind::GetValue),
        line: Some(4),
        skip: 1,
        times: Some(2),
        fault: Fault::Status(9),
    };
    let fallback = FaultRule { request: Some(RequestKind::GetValue), ..FaultRule::always(Fault::Status(8)) };
    guest.handle.set_faults(Faults { rules: vec![rule, FaultRule { line: Some(4), skip: 3, ..fallback }] });
    let statuses: Vec<_> = (0..6).map(|_| guest.ask(4, 4, 0).0).collect();
    assert_eq!(statuses, [0, 9, 9, 0, 0, 8]);
    assert_eq!(guest.ask(4, 5, 0).0, OK);
    assert_eq!(guest.ask(2, 4, 0).0, OK);
    assert_eq!(guest.handle.faults().rules[0].times, Some(0));
}

#[test]
fn a_stalled_request_dies_with_a_reset_or_a_removal() {
    let mut guest = Guest::new();
    guest.handle.set_faults(always(Fault::Stall));
    let posted = guest.post(2, 0, 0);
    guest.driver.kick(0);
    guest.driver.start(crate::virtio::FEATURE_VERSION_1 | 1);
    assert_eq!(guest.handle.release_stalled(), 0);
    assert_eq!(guest.driver.answer(posted), [0xaa; 2]);
    let removed = guest.post(2, 0, 0);
    guest.driver.kick(0);
    guest.driver.messages.take();
    guest.handle.sever();
    assert_eq!((guest.handle.release_stalled(), guest.handle.unanswered()), (0, 0));
    assert_eq!(guest.driver.used(0), None);
    assert_eq!(guest.driver.answer(removed), [0xaa; 2]);
    assert!(guest.driver.messages.take().is_empty());
    assert_eq!(guest.handle.counters().abandoned, 2);
}
