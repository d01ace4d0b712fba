//! Moments worth a test of their own, and states that are refused.

use super::*;

/// A world with its gpio device at work: lines 0 to 2 are inputs that interrupt on a rising edge.
fn gpio_at_work() -> World {
    let mut world = World::new(true);
    world.start();
    for line in 0_u8..3 {
        world.post(0, &[3, 0, line, 0, 2, 0, 0, 0], 2, true);
        world.post(0, &[6, 0, line, 0, 1, 0, 0, 0], 2, true);
        world.post(1, &[line, 0], 1, true);
    }
    while world.driver.used(0).is_some() {}
    world.driver.messages.take();
    world
}

fn handle_of(world: &World) -> &GpioHandle {
    match &world.host {
        Host::Gpio(handle) => handle,
        Host::Console(_) => panic!("not a gpio device"),
    }
}

#[test]
fn stalled_and_delayed_answers_and_event_buffers_survive() {
    let mut world = gpio_at_work();
    let faults = [Fault::Stall, Fault::Delay(Duration::from_secs(1000))];
    let rules = faults.map(|fault| FaultRule { times: Some(1), ..FaultRule::always(fault) });
    handle_of(&world).set_faults(Faults { rules: rules.into() });
    for line in [0, 1, 0] {
        world.post(0, &[4, 0, line, 0, 0, 0, 0, 0], 2, true);
    }
    let mut copy = world.fork();
    let handle = handle_of(&copy).clone();
    assert_eq!((handle.unanswered(), handle.line(2).unwrap().unmasked), (3, true));
    let due = handle.next_due().unwrap().duration_since(Instant::now());
    assert!(due > Duration::from_secs(990) && due <= Duration::from_secs(1000), "the rest of its time: {due:?}");
    handle.set_level(2, true).unwrap();
    assert_eq!(copy.driver.used(1).map(|(_, length)| length), Some(1));
    assert_eq!(handle.release_stalled(), 2);
    assert_eq!(handle.complete_due(Instant::now()), 0);
    assert_eq!(handle.complete_due(Instant::now() + Duration::from_secs(1001)), 1);
    assert_eq!(copy.driver.messages.take(), [2, 1, 1]);
    assert_eq!(handle.faults().rules.iter().map(|rule| rule.times).collect::<Vec<_>>(), [Some(0), Some(0)]);
    assert_eq!(handle_of(&world).unanswered(), 3, "the original is another device");
}

#[test]
fn a_severed_device_stays_severed() {
    let world = gpio_at_work();
    handle_of(&world).sever();
    let copy = world.fork();
    assert_eq!(copy.driver.config32(0), u32::MAX);
    handle_of(&copy).pulse(0).unwrap();
    assert!(copy.driver.messages.take().is_empty());
    assert!(handle_of(&copy).interrupt_after_removal(1), "the fault one may ask for");
    assert_eq!(copy.driver.messages.take(), [2]);
    copy.driver.function.lock().unwrap().reset();
    assert!(handle_of(&copy.fork()).interrupt_after_removal(1), "the link went down later");
}

#[test]
fn a_message_behind_a_mask_survives() {
    let mut world = gpio_at_work();
    world.apply(&Operation::Mask { vector: 2, masked: true });
    handle_of(&world).pulse(1).unwrap();
    let mut copy = world.fork();
    assert_eq!(copy.apply(&Operation::Read { offset: TABLE + 0x1000, width: 1 }), [1 << 2]);
    copy.apply(&Operation::Mask { vector: 2, masked: false });
    assert_eq!(copy.driver.messages.take(), [2]);
}

#[test]
fn isr_status_and_the_generation_survive() {
    let mut world = gpio_at_work();
    world.apply(&Operation::Msix { control: 0 });
    handle_of(&world).pulse(1).unwrap();
    handle_of(&world).lock().with(|_, rings| rings.config_changed());
    let mut copy = world.fork();
    assert_eq!(copy.apply(&Operation::Read { offset: COMMON + 0x15, width: 1 }), [1]);
    assert_eq!(copy.apply(&Operation::Read { offset: ISR, width: 1 }), [3]);
    assert_eq!(copy.apply(&Operation::Read { offset: ISR, width: 1 }), [0]);
}

#[test]
fn bytes_wait_at_a_port_that_the_guest_has_not_opened() {
    let mut world = World::new(false);
    world.start();
    world.post(4, &[], 4, true);
    let Host::Console(handle) = &world.host else { panic!("not a console") };
    assert_eq!(handle.send(1, b"abcdef"), 6);
    let mut copy = world.fork();
    for event in [3, 6] {
        copy.post(3, &[1, 0, 0, 0, event, 0, 1, 0], 0, true);
    }
    assert_eq!(copy.driver.used(4).map(|(_, length)| length), Some(4));
    assert_eq!(copy.heard()[1].opened, [true]);
    let Host::Console(handle) = &copy.host else { panic!("not a console") };
    assert_eq!((handle.pending_bytes(1), handle.port(1).unwrap().bytes_in), (2, 4));
    copy.fork();
}

/// What is refused, and by which part.
fn refused(state: &State, ports: Vec<PortConfig>) -> StateError {
    restored(state, ports, &memory(), &Arc::new(Messages::default())).map(|_| ()).unwrap_err()
}

#[test]
fn the_ports_must_be_those_that_were_saved() {
    let state = World::new(false).state();
    let none = refused(&state, Vec::new());
    let fewer = refused(&state, ports().1.drain(..1).collect());
    let (_, mut renamed) = ports();
    renamed[1].name = "other".to_owned();
    let renamed = refused(&state, renamed);
    for error in [&none, &fewer, &renamed] {
        assert_eq!(error.what, "console", "{error}");
    }
    assert_eq!(
        renamed.to_string(),
        r#"the snapshot's console does not fit this machine: it has a port "agent" for "other""#
    );
}

/// Makes a state one that cannot be.
type Edit = fn(&mut GpioState);

#[test]
fn states_that_no_guest_can_make_are_refused() {
    let mut world = gpio_at_work();
    handle_of(&world).set_faults(Faults { rules: vec![FaultRule::always(Fault::Stall)] });
    world.post(0, &[4, 0, 0, 0, 0, 0, 0, 0], 2, true);
    let State::Gpio(good) = world.state() else { panic!("not a gpio device") };
    assert_eq!(good.function.rings[1].in_flight, 6, "two descriptors a line");
    let edits: &[(&str, Edit)] = &[
        ("virtio function", |state| state.function.rings[1].in_flight = 5),
        ("virtio function", |state| state.device.answers.clear()),
        ("virtio function", |state| state.device.lines[3].buffer = state.device.lines[0].buffer.clone()),
        ("virtio function", |state| state.device.answers[0].chain.head = 64),
        ("virtio function", |state| state.function.rings[0].size = 128),
        ("virtio function", |state| state.function.rings[0].size = 48),
        ("virtio function", |state| state.function.rings[0].descriptor_table = MEMORY_BYTES as u64),
        ("virtio function", |state| state.function.rings[0].used_ring = 2),
        ("virtio function", |state| state.function.rings[0].ready = false),
        ("virtio function", |state| state.function.rings[0].vector = 3),
        ("virtio function", |state| state.function.rings.truncate(1)),
        ("virtio function", |state| state.function.common.config_vector = 3),
        ("virtio function", |state| state.function.common.driver_features = 1),
        ("virtio function", |state| state.function.common.status = 7),
        ("virtio function", |state| state.function.isr = 4),
        ("virtio function", |state| state.function.lost_messages = vec![None]),
        ("MSI-X table", |state| state.function.msix.vectors.truncate(2)),
        ("configuration space", |state| state.subsystem.device ^= 1),
        ("descriptor chain", |state| state.device.answers[0].chain.readable[0].address = MEMORY_BYTES as u64 - 1),
        ("descriptor chain", |state| state.device.answers[0].chain.writable[0].length_bytes = u32::MAX),
        ("descriptor chain", |state| {
            let chain = &mut state.device.answers[0].chain;
            (chain.readable, chain.writable) = (Vec::new(), Vec::new());
        }),
        ("gpio device", |state| state.device.config.lines = 5),
        ("gpio device", |state| state.device.config.lines = 0),
        ("gpio device", |state| state.device.config.irq = false),
    ];
    for (index, (what, edit)) in edits.iter().enumerate() {
        let mut state = good.clone();
        edit(&mut state);
        let error = refused(&State::Gpio(state), Vec::new());
        assert_eq!(error.what, *what, "edit {index}: {error}");
    }
}
