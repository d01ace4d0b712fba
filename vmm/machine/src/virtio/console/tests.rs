use std::sync::{Arc, Mutex};

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::control::{self, Control, NO_PORT};
use super::device::FEATURE_MULTIPORT;
use super::*;
use crate::virtio::test_driver::{DEVICE, Driver, Messages, SUBSYSTEM, WRITE, memory};
use crate::virtio::{FEATURE_VERSION_1, VirtioError};

/// A sink that the test can look into.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<(Vec<u8>, Vec<bool>)>>);

impl ConsoleSink for Sink {
    fn write(&mut self, bytes: &[u8]) {
        self.0.lock().unwrap().0.extend(bytes);
    }

    fn opened(&mut self, open: bool) {
        self.0.lock().unwrap().1.push(open);
    }
}

impl Sink {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap().0)
    }
}

fn setup() -> (Driver, ConsoleHandle, Vec<Sink>) {
    let sinks = vec![Sink::default(), Sink::default()];
    let ports = vec![
        PortConfig { name: String::new(), sink: Box::new(sinks[0].clone()) },
        PortConfig { name: "org.plugstorm.agent".to_owned(), sink: Box::new(sinks[1].clone()) },
    ];
    let (memory, messages) = (memory(), Arc::new(Messages::default()));
    let (function, handle) = console(ports, memory.clone(), messages.clone(), SUBSYSTEM).unwrap();
    (Driver::new(function, memory, messages), handle, sinks)
}

fn tell(driver: &mut Driver, port: u32, event: u16, value: u16) {
    let posted = driver.post(3, &Control { port, event, value }.to_bytes(), 0);
    driver.kick(3);
    assert_eq!(driver.used(3), Some((posted.head, 0)), "a control message is answered within the kick");
}

/// Gives control receive buffers and collects what comes back, as (message, what follows it).
fn heard(driver: &mut Driver) -> Vec<(Control, Vec<u8>)> {
    let posted: Vec<_> = (0..16).map(|_| driver.post(2, &[], 256)).collect();
    driver.kick(2);
    let mut messages = Vec::new();
    for buffer in posted {
        let Some((_, length)) = driver.used(2) else { break };
        let bytes = driver.answer(buffer);
        let header = Control::from_bytes(bytes[..8].try_into().unwrap());
        messages.push((header, bytes[8..length as usize].to_vec()));
    }
    messages
}

/// The handshake of the stock driver (virtio_console.c, virtcons_probe, handle_control_message).
fn connect(driver: &mut Driver) {
    driver.start(FEATURE_VERSION_1 | FEATURE_MULTIPORT);
    for _ in 0..32 {
        driver.post(2, &[], 256);
    }
    tell(driver, NO_PORT, control::DEVICE_READY, 1);
    for port in 0..2 {
        tell(driver, port, control::PORT_READY, 1);
    }
    tell(driver, 0, control::PORT_OPEN, 1);
    while driver.used(2).is_some() {}
    driver.messages.take();
}

#[test]
fn tells_the_driver_of_its_ports() {
    let (mut driver, handle, _) = setup();
    driver.start(FEATURE_VERSION_1 | FEATURE_MULTIPORT);
    assert_eq!(driver.read32(DEVICE + 4), 2, "max_nr_ports");
    tell(&mut driver, NO_PORT, control::DEVICE_READY, 1);
    let add = |port| (Control { port, event: control::PORT_ADD, value: 0 }, Vec::new());
    assert_eq!(heard(&mut driver), [add(0), add(1)]);

    tell(&mut driver, 0, control::PORT_READY, 1);
    tell(&mut driver, 1, control::PORT_READY, 1);
    // The buffers that were left over take these.
    let mut events = Vec::new();
    while let Some((_, length)) = driver.used(2) {
        events.push(length);
    }
    assert_eq!(events, [8, 8, 8 + 19, 8], "console, open; name, open");
    assert!(handle.port(0).unwrap().ready && handle.port(1).unwrap().ready);
    assert!(!handle.port(1).unwrap().open);
}

#[test]
fn names_a_port_without_a_terminator() {
    let (mut driver, _, _) = setup();
    driver.start(FEATURE_VERSION_1 | FEATURE_MULTIPORT);
    tell(&mut driver, NO_PORT, control::DEVICE_READY, 1);
    tell(&mut driver, 1, control::PORT_READY, 1);
    let name = heard(&mut driver).into_iter().find(|(header, _)| header.event == control::PORT_NAME).unwrap();
    assert_eq!(name.0, Control { port: 1, event: control::PORT_NAME, value: 1 });
    assert_eq!(name.1, b"org.plugstorm.agent");
}

#[test]
fn output_reaches_the_sink_within_the_kick() {
    let (mut driver, handle, sinks) = setup();
    connect(&mut driver);
    let posted = driver.post(1, b"hello, console\n", 0);
    driver.kick(1);
    assert_eq!(driver.used(1), Some((posted.head, 0)));
    assert_eq!(sinks[0].take(), b"hello, console\n");
    driver.post(5, b"hello, agent", 0);
    driver.kick(5);
    assert_eq!(sinks[1].take(), b"hello, agent");
    assert_eq!(handle.port(1).unwrap().bytes_out, 12);
    assert_eq!(driver.messages.take(), [2, 6]);
}

#[test]
fn a_buffer_longer_than_a_piece_comes_whole() {
    let (mut driver, _, sinks) = setup();
    connect(&mut driver);
    let bytes: Vec<u8> = (0..20_000_u32).map(|value| value as u8).collect();
    driver.post(1, &bytes, 0);
    driver.kick(1);
    assert_eq!(sinks[0].take(), bytes);
}

#[test]
fn input_waits_for_the_port_to_be_opened() {
    let (mut driver, handle, sinks) = setup();
    connect(&mut driver);
    let buffers: Vec<_> = (0..2).map(|_| driver.post(4, &[], 4)).collect();
    driver.kick(4);
    assert_eq!(handle.send(1, b"abcdef"), 6);
    assert_eq!(driver.used(4), None);
    tell(&mut driver, 1, control::PORT_OPEN, 1);
    assert_eq!(driver.used(4), Some((buffers[0].head, 4)));
    assert_eq!(driver.used(4), Some((buffers[1].head, 2)));
    assert_eq!(driver.answer(buffers[0]), b"abcd");
    assert_eq!(&driver.answer(buffers[1])[..2], b"ef");
    assert_eq!(sinks[1].0.lock().unwrap().1, [true]);
    // A buffer that comes later is filled by the kick that brings it.
    assert_eq!(handle.send(1, b"later"), 5);
    assert_eq!(handle.pending_bytes(1), 5);
    let late = driver.post(4, &[], 64);
    driver.kick(4);
    assert_eq!(driver.used(4), Some((late.head, 5)));
}

#[test]
fn pending_input_is_bounded_and_dropped_on_close() {
    let (mut driver, handle, _) = setup();
    connect(&mut driver);
    tell(&mut driver, 1, control::PORT_OPEN, 1);
    assert_eq!(handle.send(1, &vec![1; PENDING_LIMIT_BYTES + 10]), PENDING_LIMIT_BYTES);
    assert_eq!(handle.send(1, b"more"), 0);
    tell(&mut driver, 1, control::PORT_OPEN, 0);
    assert_eq!(handle.pending_bytes(1), 0);
    assert_eq!(handle.port(1).unwrap().bytes_dropped, PENDING_LIMIT_BYTES as u64);
    assert_eq!(handle.send(7, b"no such port"), 0);
}

#[test]
fn without_multiport_port_0_is_simply_there() {
    let (mut driver, handle, sinks) = setup();
    driver.start(FEATURE_VERSION_1);
    let buffer = driver.post(0, &[], 16);
    driver.kick(0);
    assert_eq!(handle.send(0, b"hi"), 2);
    assert_eq!(driver.used(0), Some((buffer.head, 2)));
    driver.post(1, b"out", 0);
    driver.kick(1);
    assert_eq!(sinks[0].take(), b"out");
}

#[test]
fn emergency_write_needs_no_driver() {
    let (driver, _, sinks) = setup();
    driver.enable_pci();
    for byte in b"oops" {
        driver.write32(DEVICE + 8, u32::from(*byte));
    }
    assert_eq!(sinks[0].take(), b"oops");
}

#[test]
fn configuration_beyond_its_end_is_zero() {
    let (driver, _, _) = setup();
    driver.enable_pci();
    assert_eq!(driver.read32(DEVICE + 12), 0);
    assert_eq!(driver.read32(DEVICE + 0xffc), 0);
    driver.write32(DEVICE + 0xffc, 1);
}

#[test]
fn a_guest_that_asks_for_ever_makes_nothing_grow() {
    let (mut driver, _, _) = setup();
    driver.start(FEATURE_VERSION_1 | FEATURE_MULTIPORT);
    for _ in 0..1000 {
        tell(&mut driver, NO_PORT, control::DEVICE_READY, 1);
        tell(&mut driver, 1, control::PORT_READY, 1);
        tell(&mut driver, 99, control::PORT_READY, 1);
        tell(&mut driver, 1, 4242, 1);
    }
    assert_eq!(heard(&mut driver).len(), 3, "add of port 0; name and open of port 1");
}

#[test]
fn the_host_can_close_its_end() {
    let (mut driver, handle, _) = setup();
    connect(&mut driver);
    handle.set_host_open(1, false);
    assert_eq!(driver.used(2).map(|(_, length)| length), Some(8));
    assert_eq!(driver.messages.take(), [3]);
}

#[test]
fn a_chain_that_names_memory_again_and_again_is_cut() {
    let (mut driver, handle, _) = setup();
    connect(&mut driver);
    let chain = [(0, 0x20_0000, 0); 60];
    driver.post_chain(1, &chain);
    driver.kick(1);
    assert!(driver.used(1).is_some());
    assert_eq!(handle.port(0).unwrap().bytes_out, 1024 * 1024);
}

#[test]
fn a_writable_buffer_in_the_transmit_queue_is_no_output() {
    let (mut driver, handle, _) = setup();
    connect(&mut driver);
    driver.post_chain(1, &[(0x1000, 16, WRITE)]);
    driver.kick(1);
    assert!(driver.used(1).is_some());
    assert_eq!(handle.port(0).unwrap().bytes_out, 0);
}

#[test]
fn reset_and_sever_close_the_ports() {
    let (mut driver, handle, sinks) = setup();
    connect(&mut driver);
    tell(&mut driver, 1, control::PORT_OPEN, 1);
    assert!(handle.port(1).unwrap().open);
    driver.write8(0x14, 0);
    assert!(!handle.port(1).unwrap().open);
    connect(&mut driver);
    tell(&mut driver, 1, control::PORT_OPEN, 1);
    handle.sever();
    assert_eq!(sinks[1].0.lock().unwrap().1, [true, false, true, false]);
    assert_eq!(handle.send(1, b"gone"), 0);
    assert!(handle.state().severed);
}

#[test]
fn refuses_ports_that_cannot_be() {
    let port = |name: &str| PortConfig { name: name.to_owned(), sink: Box::new(Sink::default()) };
    assert!(matches!(ConsoleDevice::new(Vec::new()), Err(VirtioError::PortCount { .. })));
    let many = (0..=MAX_PORTS).map(|index| port(&index.to_string())).collect();
    assert!(matches!(ConsoleDevice::new(many), Err(VirtioError::PortCount { .. })));
    assert!(matches!(ConsoleDevice::new(vec![port(""), port("")]), Err(VirtioError::PortName { port: 1, .. })));
    let long = "x".repeat(65);
    assert!(matches!(ConsoleDevice::new(vec![port(""), port(&long)]), Err(VirtioError::PortName { .. })));
    let twice = vec![port(""), port("a"), port("a")];
    assert!(matches!(ConsoleDevice::new(twice), Err(VirtioError::PortName { port: 2, .. })));
    let most = (0..MAX_PORTS).map(|index| port(&format!("p{index}"))).collect();
    assert!(console(most, memory(), Arc::new(Messages::default()), SUBSYSTEM).is_ok());
}

/// Stands in for a second vCPU: for each output it makes the same chain available once more.
struct Treadmill {
    memory: GuestMemoryMmap,
    index_address: GuestAddress,
    writes: Arc<Mutex<u32>>,
}

impl ConsoleSink for Treadmill {
    fn write(&mut self, _bytes: &[u8]) {
        let index: u16 = self.memory.read_obj(self.index_address).unwrap();
        self.memory.write_obj(index.wrapping_add(1), self.index_address).unwrap();
        *self.writes.lock().unwrap() += 1;
    }
}

#[test]
fn a_guest_that_adds_as_fast_as_the_device_takes_holds_it_for_one_queue_only() {
    let (memory, messages) = (memory(), Arc::new(Messages::default()));
    let writes = Arc::new(Mutex::new(0));
    // The available ring of queue 1, as the test's driver lays it out.
    let index_address = GuestAddress(0x1_0000 + 0x2_0000 + 0x8000 + 2);
    let sink = Treadmill { memory: memory.clone(), index_address, writes: writes.clone() };
    let ports = vec![PortConfig { name: String::new(), sink: Box::new(sink) }];
    let (function, _handle) = console(ports, memory.clone(), messages.clone(), SUBSYSTEM).unwrap();
    let mut driver = Driver::new(function, memory, messages);
    driver.start(FEATURE_VERSION_1);
    assert_eq!(driver.queues[1].available() + 2, index_address.0);
    driver.post(1, b"again", 0);
    driver.kick(1);
    assert_eq!(*writes.lock().unwrap(), 64);
    driver.kick(1);
    assert_eq!(*writes.lock().unwrap(), 128, "the next kick goes on");
    assert_eq!(driver.status(), 0x0f);
}
