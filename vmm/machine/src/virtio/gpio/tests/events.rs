use super::*;

const RISING: u32 = 1;
const FALLING: u32 = 2;
const BOTH: u32 = 3;
const HIGH: u32 = 4;
const LOW: u32 = 8;

/// An input with its interrupt enabled.
fn listening(trigger: u32) -> Guest {
    let mut guest = Guest::new();
    guest.ask(3, 3, 2);
    assert_eq!(guest.ask(6, 3, trigger), (OK, 0));
    guest.driver.messages.take();
    guest
}

#[test]
fn an_edge_returns_the_buffer_as_valid() {
    for (trigger, levels) in [(RISING, [true, false]), (FALLING, [true, false]), (BOTH, [true, true])] {
        let mut guest = listening(trigger);
        let buffer = guest.unmask(3);
        assert_eq!(guest.event(buffer), None);
        guest.handle.pattern(3, &levels).unwrap();
        assert_eq!(guest.event(buffer), Some(1));
        assert_eq!(guest.driver.messages.take(), [2]);
        assert_eq!(guest.handle.counters().events, 1);
    }
}

#[test]
fn the_wrong_edge_is_none() {
    let mut guest = listening(FALLING);
    let buffer = guest.unmask(3);
    guest.handle.set_level(3, true).unwrap();
    guest.handle.set_level(3, true).unwrap();
    guest.handle.pulse(2).unwrap();
    assert_eq!(guest.event(buffer), None);
    assert!(guest.driver.messages.take().is_empty());
}

#[test]
fn an_edge_is_latched_while_masked() {
    let mut guest = listening(RISING);
    for _ in 0..3 {
        guest.handle.pulse(3).unwrap();
    }
    assert!(guest.handle.line(3).unwrap().latched);
    let first = guest.unmask(3);
    assert_eq!(guest.event(first), Some(1), "told when unmasked, and once");
    let second = guest.unmask(3);
    assert_eq!(guest.event(second), None);
    let counters = guest.handle.counters();
    assert_eq!((counters.events, counters.edges_latched), (1, 1));
}

#[test]
fn a_pulse_on_both_edges_leaves_one_latched() {
    let mut guest = listening(BOTH);
    let first = guest.unmask(3);
    guest.handle.pulse(3).unwrap();
    assert_eq!(guest.event(first), Some(1));
    let second = guest.unmask(3);
    assert_eq!(guest.event(second), Some(1), "the falling edge came while masked");
}

#[test]
fn a_level_interrupts_for_as_long_as_it_lasts() {
    for (trigger, active) in [(HIGH, true), (LOW, false)] {
        let mut guest = listening(trigger);
        guest.handle.set_level(3, !active).unwrap();
        let idle = guest.unmask(3);
        assert_eq!(guest.event(idle), None);
        guest.handle.set_level(3, active).unwrap();
        assert_eq!(guest.event(idle), Some(1));
        for _ in 0..3 {
            let again = guest.unmask(3);
            assert_eq!(guest.event(again), Some(1));
        }
        // A level that comes and goes while masked is not latched.
        guest.handle.pattern(3, &[!active, active, !active]).unwrap();
        let quiet = guest.unmask(3);
        assert_eq!(guest.event(quiet), None);
    }
}

#[test]
fn a_level_that_is_there_already_interrupts_when_enabled_or_unmasked() {
    let mut guest = listening(HIGH);
    guest.handle.set_level(3, true).unwrap();
    assert!(guest.driver.messages.take().is_empty());
    let buffer = guest.unmask(3);
    assert_eq!(guest.event(buffer), Some(1));
}

#[test]
fn trigger_none_returns_the_queued_buffer_as_invalid() {
    let mut guest = listening(RISING);
    let buffer = guest.unmask(3);
    assert_eq!(guest.ask(6, 3, 0), (OK, 0));
    assert_eq!(guest.event(buffer), Some(0));
    assert_eq!(guest.driver.messages.take(), [1, 2]);
    guest.handle.pulse(3).unwrap();
    assert!(!guest.handle.line(3).unwrap().latched);
    assert_eq!(guest.handle.counters().events_invalid, 1);
}

#[test]
fn trigger_none_forgets_what_was_latched() {
    let mut guest = listening(RISING);
    guest.handle.pulse(3).unwrap();
    guest.ask(6, 3, 0);
    guest.ask(6, 3, RISING);
    let buffer = guest.unmask(3);
    assert_eq!(guest.event(buffer), None);
}

#[test]
fn a_buffer_for_a_disabled_interrupt_is_returned_as_invalid() {
    let mut guest = Guest::new();
    let buffer = guest.unmask(3);
    assert_eq!(guest.event(buffer), Some(0));
}

#[test]
fn a_second_buffer_for_one_line_is_returned_as_invalid() {
    let mut guest = listening(RISING);
    let first = guest.unmask(3);
    let second = guest.unmask(3);
    assert_eq!(guest.event(second), Some(0));
    guest.handle.pulse(3).unwrap();
    assert_eq!(guest.event(first), Some(1));
}

#[test]
fn malformed_event_buffers_come_back() {
    let mut guest = listening(RISING);
    let short = guest.driver.post(1, &[3], 1);
    let mute = guest.driver.post(1, &[3, 0], 0);
    guest.driver.kick(1);
    assert_eq!(guest.driver.used(1), Some((short.head, 1)));
    assert_eq!(guest.driver.used(1), Some((mute.head, 0)));
    assert_eq!(guest.driver.answer(short), [0]);
    let good = guest.unmask(3);
    guest.handle.pulse(3).unwrap();
    assert_eq!(guest.event(good), Some(1));
}

#[test]
fn triggers_that_cannot_be_are_errors() {
    let mut guest = Guest::new();
    for trigger in [5, 6, 7, 9, 0x100] {
        assert_eq!(guest.ask(6, 0, trigger), (ERROR, 0));
    }
    guest.ask(3, 0, 1);
    assert_eq!(guest.ask(6, 0, RISING), (ERROR, 0), "the line goes out");
    assert_eq!(guest.ask(6, 0, 0), (OK, 0));
}

#[test]
fn without_the_feature_the_event_queue_is_left_alone() {
    let mut guest = Guest::new();
    guest.driver.start(crate::virtio::FEATURE_VERSION_1);
    guest.ask(3, 3, 2);
    assert_eq!(guest.ask(6, 3, RISING), (ERROR, 0));
    let buffer = guest.unmask(3);
    assert_eq!(guest.event(buffer), None);
}

#[test]
fn a_reset_forgets_buffers_and_triggers_but_not_the_world() {
    let mut guest = listening(RISING);
    guest.unmask(3);
    guest.handle.set_level(5, true).unwrap();
    guest.driver.start(crate::virtio::FEATURE_VERSION_1 | 1);
    let line = guest.handle.line(3).unwrap();
    assert_eq!((line.trigger, line.unmasked, line.direction), (Trigger::None, false, Direction::None));
    assert_eq!(guest.handle.level(5), Some(true));
    guest.handle.pulse(3).unwrap();
    assert_eq!(guest.driver.used(1), None);
}

#[test]
fn severed_lines_move_alone() {
    let mut guest = listening(RISING);
    let buffer = guest.unmask(3);
    guest.driver.messages.take();
    guest.handle.sever();
    guest.handle.pulse(3).unwrap();
    guest.handle.set_level(3, true).unwrap();
    guest.handle.spurious_interrupt(EVENT_QUEUE);
    assert_eq!(guest.handle.level(3), Some(true));
    assert_eq!(guest.event(buffer), None);
    assert!(guest.driver.messages.take().is_empty());
    assert!(guest.handle.interrupt_after_removal(EVENT_QUEUE));
    assert_eq!(guest.driver.messages.take(), [2]);
}
