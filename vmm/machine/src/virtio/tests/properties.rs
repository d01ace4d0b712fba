//! A guest that writes anything anywhere: nothing panics, nothing runs for long, nothing grows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use crate::virtio::console::{ConsoleHandle, ConsoleSink, PENDING_LIMIT_BYTES, PortConfig, console};
use crate::virtio::gpio::{Fault, FaultRule, Faults, GpioConfig, GpioHandle, gpio};
use crate::virtio::test_driver::*;
use crate::virtio::{FEATURE_VERSION_1, FunctionState};

struct Nowhere;

impl ConsoleSink for Nowhere {
    fn write(&mut self, _bytes: &[u8]) {}
}

/// Either device, and its host side.
enum Host {
    Console(ConsoleHandle),
    Gpio(GpioHandle),
}

fn device(is_gpio: bool) -> (Driver, Host) {
    let (memory, messages) = (memory(), Arc::new(Messages::default()));
    if is_gpio {
        let config = GpioConfig { lines: 8, names: Some(vec!["a".to_owned()]), irq: true };
        let (function, handle) = gpio(&config, memory.clone(), messages.clone(), SUBSYSTEM).unwrap();
        (Driver::new(function, memory, messages), Host::Gpio(handle))
    } else {
        let ports = ["", "agent"].map(|name| PortConfig { name: name.to_owned(), sink: Box::new(Nowhere) });
        let (function, handle) = console(ports.into(), memory.clone(), messages.clone(), SUBSYSTEM).unwrap();
        (Driver::new(function, memory, messages), Host::Console(handle))
    }
}

impl Host {
    fn state(&self) -> FunctionState {
        match self {
            Self::Console(handle) => handle.state(),
            Self::Gpio(handle) => handle.state(),
        }
    }

    /// What an owner may do at any time.
    fn act(&self, what: u8, line: u16) {
        match self {
            Self::Console(handle) => match what % 3 {
                0 => drop(handle.send(usize::from(line % 3), &[what; 5000])),
                1 => handle.set_host_open(usize::from(line % 3), what < 128),
                _ => drop(handle.port(usize::from(line))),
            },
            Self::Gpio(handle) => match what % 6 {
                0 => drop(handle.set_level(line, what < 128)),
                1 => drop(handle.pulse(line)),
                2 => drop(handle.release_stalled()),
                3 => drop(handle.complete_due(Instant::now() + Duration::from_secs(10))),
                4 => handle.spurious_interrupt(line),
                _ => drop(handle.interrupt_after_removal(line)),
            },
        }
    }

    /// The books: what the device holds is bounded by its queues, whatever the guest did.
    fn check(&self) {
        let state = self.state();
        for ring in &state.rings {
            assert!(ring.in_flight <= usize::from(ring.size));
        }
        match self {
            Self::Console(handle) => (0..2).for_each(|port| assert!(handle.pending_bytes(port) <= PENDING_LIMIT_BYTES)),
            Self::Gpio(handle) => assert!(handle.unanswered() <= usize::from(state.rings[0].size)),
        }
    }
}

/// One access to the function.
#[derive(Debug, Clone)]
enum Access {
    ConfigRead { offset: u16, width: usize },
    ConfigWrite { offset: u16, width: usize, value: u64 },
    BarRead { bar: u8, offset: u64, width: usize },
    BarWrite { bar: u8, offset: u64, width: usize, value: u64 },
    Host { what: u8, line: u16 },
}

/// Registers are hit more often than chance would have it.
fn bar_offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0_u64..0x10).prop_map(|register| register * 4),
        2 => 0_u64..0x40,
        2 => (0_u64..6).prop_map(|queue| NOTIFY + queue * 4),
        1 => DEVICE..DEVICE + 0x20,
        1 => TABLE..TABLE + 0x80,
        1 => 0_u64..0x8000,
        1 => any::<u64>(),
    ]
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(0x0f), Just(0x0b), 0_u64..0x100, 0_u64..0x40_0000, any::<u64>()]
}

fn access() -> impl Strategy<Value = Access> {
    let config_width = prop_oneof![Just(1_usize), Just(2), Just(4)];
    let width = prop_oneof![Just(1_usize), Just(2), Just(4), Just(4), Just(8), 1_usize..=8];
    let config = (prop_oneof![0_u16..0x100, 0_u16..0x1000], config_width);
    prop_oneof![
        config.clone().prop_map(|(offset, width)| Access::ConfigRead { offset, width }),
        (config, value()).prop_map(|((offset, width), value)| Access::ConfigWrite { offset, width, value }),
        (0_u8..2, bar_offset(), width.clone()).prop_map(|(bar, offset, width)| Access::BarRead { bar, offset, width }),
        (bar_offset(), width, value()).prop_map(|(offset, width, value)| Access::BarWrite {
            bar: 0,
            offset,
            width,
            value
        }),
        (any::<u8>(), 0_u16..10).prop_map(|(what, line)| Access::Host { what, line }),
    ]
}

fn perform(driver: &Driver, host: &Host, access: &Access) {
    let mut data = [0; 8];
    let mut function = driver.function.lock().unwrap();
    match *access {
        Access::ConfigRead { offset, width } => function.config_read(offset, &mut data[..width]),
        Access::ConfigWrite { offset, width, value } => {
            function.config_write(offset, &value.to_le_bytes()[..width]);
        }
        Access::BarRead { bar, offset, width } => function.bar_read(bar, offset, &mut data[..width]),
        Access::BarWrite { bar, offset, width, value } => {
            function.bar_write(bar, offset, &value.to_le_bytes()[..width]);
        }
        Access::Host { what, line } => {
            drop(function);
            host.act(what, line);
        }
    }
}

/// A descriptor that is often nearly right.
fn descriptor() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let address = prop_oneof![8 => 0_u64..MEMORY_BYTES as u64, 1 => any::<u64>()];
    let length = prop_oneof![Just(0_u32), Just(1), Just(2), Just(8), 0_u32..0x1000, any::<u32>()];
    let flags = prop_oneof![Just(0_u16), Just(NEXT), Just(WRITE), Just(NEXT | WRITE), any::<u16>()];
    let next = prop_oneof![8 => 0_u16..64, 1 => any::<u16>()];
    (address, length, flags, next)
}

/// A request or control message that is often nearly right.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![8 => 0_u16..10, 1 => any::<u16>()];
    prop::collection::vec(word, 1..5).prop_map(|words| words.into_iter().flat_map(u16::to_le_bytes).collect())
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Stall),
        Just(Fault::Delay(Duration::from_secs(1))),
        Just(Fault::ShortResponse),
        Just(Fault::LongResponse),
        Just(Fault::DuplicateCompletion),
        Just(Fault::SpuriousInterrupt),
        any::<u8>().prop_map(Fault::Status),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_accesses_are_survived(
        is_gpio: bool,
        started: bool,
        severed_at in 0_usize..400,
        accesses in prop::collection::vec(access(), 1..200),
    ) {
        let (mut driver, host) = device(is_gpio);
        if started {
            driver.start(FEATURE_VERSION_1 | if is_gpio { 1 } else { 2 });
        }
        for (index, access) in accesses.iter().enumerate() {
            if index == severed_at {
                match &host {
                    Host::Console(handle) => handle.sever(),
                    Host::Gpio(handle) => handle.sever(),
                }
            }
            perform(&driver, &host, access);
            host.check();
        }
    }

    #[test]
    fn any_descriptor_tables_are_survived(
        is_gpio: bool,
        faults in prop::collection::vec(fault(), 0..3),
        descriptors in prop::collection::vec(descriptor(), 64),
        heads in prop::collection::vec(prop_oneof![12 => 0_u16..64, 1 => any::<u16>()], 64),
        kicks in prop::collection::vec((0_u16..6, 0_u16..66, any::<u8>(), 0_u16..10), 1..12),
        contents in prop::collection::vec(message(), 16),
    ) {
        let (mut driver, host) = device(is_gpio);
        driver.start(FEATURE_VERSION_1 | if is_gpio { 1 } else { 2 });
        if let Host::Gpio(handle) = &host {
            handle.set_faults(Faults { rules: faults.into_iter().map(FaultRule::always).collect() });
        }
        let queues = u16::try_from(driver.queues.len()).unwrap();
        // The buffers hold near-messages, wherever the descriptors point.
        for (index, content) in contents.iter().enumerate() {
            driver.memory.write_slice(content, GuestAddress(index as u64 * 8)).unwrap();
        }
        for queue in 0..queues {
            for (index, &(address, length, flags, next)) in descriptors.iter().enumerate() {
                let address = if index % 3 == 0 { address % 128 } else { address };
                driver.set_descriptor(queue, index as u16, Descriptor { address, length, flags, next });
            }
        }
        for (queue, available, what, line) in kicks {
            let queue = queue % queues;
            for head in heads.iter().cycle().skip(usize::from(what)).take(usize::from(available)) {
                driver.make_available(queue, *head);
            }
            let before = host.state().rings[usize::from(queue)].next_available;
            driver.kick(queue);
            let after = host.state().rings[usize::from(queue)];
            prop_assert!(after.next_available.wrapping_sub(before) <= after.size, "one kick takes one queue at most");
            host.act(what, line);
            host.check();
        }
    }

    #[test]
    fn well_formed_requests_are_always_answered(
        requests in prop::collection::vec((0_u16..8, 0_u16..10, prop_oneof![0_u32..10, any::<u32>()]), 1..30),
    ) {
        let (mut driver, host) = device(true);
        driver.start(FEATURE_VERSION_1 | 1);
        for (kind, line, value) in requests {
            let mut bytes = kind.to_le_bytes().to_vec();
            bytes.extend(line.to_le_bytes());
            bytes.extend(value.to_le_bytes());
            let posted = driver.post(0, &bytes, 32);
            driver.kick(0);
            let (head, length) = driver.used(0).unwrap();
            prop_assert_eq!(head, posted.head);
            let answer = driver.answer(posted);
            prop_assert!(answer[0] <= 1 && (length == 2 || (kind == 1 && length == 10)));
        }
        prop_assert_eq!(host.state().malformed_chains, 0);
    }
}
