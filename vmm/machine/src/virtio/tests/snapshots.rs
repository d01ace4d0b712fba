//! A device that was saved and made again, over a copy of guest memory, does what the first one does from then on.

mod cases;

use std::mem::take;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::StateError;
use crate::pci::SharedFunction;
use crate::virtio::FEATURE_VERSION_1;
use crate::virtio::console::{ConsoleHandle, ConsoleSink, ConsoleState, PortConfig, console, console_from_state};
use crate::virtio::gpio::{
    Fault, FaultRule, Faults, GpioConfig, GpioHandle, GpioState, WaitState, gpio, gpio_from_state,
};
use crate::virtio::test_driver::*;

/// What a port told its sink.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Heard {
    bytes: Vec<u8>,
    opened: Vec<bool>,
}

#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Heard>>);

impl ConsoleSink for Sink {
    fn write(&mut self, bytes: &[u8]) {
        self.0.lock().unwrap().bytes.extend(bytes);
    }

    fn opened(&mut self, open: bool) {
        self.0.lock().unwrap().opened.push(open);
    }
}

/// The host's side of either device.
enum Host {
    Console(ConsoleHandle),
    Gpio(GpioHandle),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Console(Box<ConsoleState>),
    Gpio(Box<GpioState>),
}

impl State {
    /// The same through the text of a snapshot.
    fn through_text(&self) -> Self {
        fn pass<T: serde::Serialize + serde::de::DeserializeOwned>(state: &T) -> T {
            serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap()
        }
        let passed = match self {
            Self::Console(state) => Self::Console(pass(state)),
            Self::Gpio(state) => Self::Gpio(pass(state)),
        };
        assert_eq!(passed, *self);
        passed
    }

    /// Times to wait in hundreds of seconds, so that two that were looked at a moment apart are equal.
    fn rounded(mut self) -> Self {
        const STEP_NS: u64 = 100_000_000_000;
        if let Self::Gpio(state) = &mut self {
            for answer in &mut state.device.answers {
                if let WaitState::Due { in_ns } = &mut answer.wait {
                    *in_ns = in_ns.saturating_add(STEP_NS / 2) / STEP_NS;
                }
            }
        }
        self
    }
}

/// A device with a guest on one side and a host on the other.
struct World {
    driver: Driver,
    host: Host,
    sinks: Vec<Sink>,
    severed: bool,
}

const NAMES: [&str; 2] = ["", "agent"];

fn ports() -> (Vec<Sink>, Vec<PortConfig>) {
    let sinks = NAMES.map(|_| Sink::default()).to_vec();
    let port = |(name, sink): (&&str, &Sink)| PortConfig { name: (*name).to_owned(), sink: Box::new(sink.clone()) };
    let ports = NAMES.iter().zip(&sinks).map(port).collect();
    (sinks, ports)
}

fn restored(
    state: &State,
    ports: Vec<PortConfig>,
    memory: &GuestMemoryMmap,
    messages: &Arc<Messages>,
) -> Result<(SharedFunction, Host), StateError> {
    let (memory, messages) = (memory.clone(), Arc::clone(messages));
    Ok(match state {
        State::Console(state) => {
            let (function, handle) = console_from_state(ports, state, memory, messages)?;
            (function, Host::Console(handle))
        }
        State::Gpio(state) => {
            let (function, handle) = gpio_from_state(state, memory, messages)?;
            (function, Host::Gpio(handle))
        }
    })
}

fn all_of(memory: &GuestMemoryMmap) -> Vec<u8> {
    let mut bytes = vec![0; MEMORY_BYTES];
    memory.read_slice(&mut bytes, GuestAddress(0)).unwrap();
    bytes
}

impl World {
    fn new(is_gpio: bool) -> Self {
        let (memory, messages) = (memory(), Arc::new(Messages::default()));
        let (sinks, ports) = ports();
        let (function, host) = if is_gpio {
            let config = GpioConfig { lines: 4, names: Some(vec!["a".to_owned(), String::new()]), irq: true };
            let (function, handle) = gpio(&config, memory.clone(), messages.clone(), SUBSYSTEM).unwrap();
            (function, Host::Gpio(handle))
        } else {
            let (function, handle) = console(ports, memory.clone(), messages.clone(), SUBSYSTEM).unwrap();
            (function, Host::Console(handle))
        };
        Self { driver: Driver::new(function, memory, messages), host, sinks, severed: false }
    }

    fn start(&mut self) {
        let feature = if matches!(self.host, Host::Gpio(_)) { 1 } else { 2 };
        self.driver.start(FEATURE_VERSION_1 | feature);
    }

    fn state(&self) -> State {
        match &self.host {
            Host::Console(handle) => State::Console(Box::new(handle.snapshot())),
            Host::Gpio(handle) => State::Gpio(Box::new(handle.snapshot())),
        }
    }

    /// Another world that goes on from this one's state and memory.
    fn fork(&self) -> Self {
        let (copy, messages) = (memory(), Arc::new(Messages::default()));
        copy.write_slice(&all_of(&self.driver.memory), GuestAddress(0)).unwrap();
        let (sinks, ports) = ports();
        let (function, host) = restored(&self.state().through_text(), ports, &copy, &messages).unwrap();
        let mut driver = Driver::new(function, copy, messages);
        driver.queues = self.driver.queues.clone();
        let fork = Self { driver, host, sinks, severed: self.severed };
        assert!(fork.driver.messages.take().is_empty(), "a restore sends nothing");
        assert!(fork.heard().iter().all(|heard| *heard == Heard::default()), "and tells nothing");
        assert_eq!(all_of(&fork.driver.memory), all_of(&self.driver.memory), "and writes nothing");
        fork
    }

    fn heard(&self) -> Vec<Heard> {
        self.sinks.iter().map(|sink| take(&mut *sink.0.lock().unwrap())).collect()
    }

    fn bar_write(&self, offset: u64, data: &[u8]) {
        self.driver.function.lock().unwrap().bar_write(0, offset, data);
    }

    fn post(&mut self, queue: u16, readable: &[u8], room: usize, kick: bool) {
        if usize::from(queue) >= self.driver.queues.len() || (readable.is_empty() && room == 0) {
            return;
        }
        self.driver.post(queue, readable, room);
        if kick {
            self.bar_write(NOTIFY + u64::from(queue) * 4, &queue.to_le_bytes());
        }
    }

    /// Gives what can be read of it at once.
    fn apply(&mut self, operation: &Operation) -> Vec<u8> {
        match *operation {
            Operation::Start if self.severed => {}
            Operation::Start => self.start(),
            Operation::Post { queue, ref readable, room, kick } => self.post(queue, readable, room, kick),
            Operation::Suppress { queue, suppress } => {
                if usize::from(queue) < self.driver.queues.len() {
                    self.driver.suppress_interrupts(queue, suppress);
                }
            }
            Operation::Mask { vector, masked } => {
                self.bar_write(TABLE + u64::from(vector) * 16 + 12, &u32::from(masked).to_le_bytes());
            }
            Operation::Msix { control } => {
                // A severed function has no capabilities to look through.
                if !self.severed {
                    let msix = self.driver.find_capability(0x11, None).unwrap();
                    self.driver.config_write(msix + 2, &control.to_le_bytes());
                }
            }
            Operation::ConfigWrite { offset, value, width } => {
                self.driver.config_write(offset, &value.to_le_bytes()[..width]);
            }
            Operation::Write { offset, value, width } => self.bar_write(offset, &value.to_le_bytes()[..width]),
            Operation::Read { offset, width } => {
                let mut data = vec![0; width];
                self.driver.function.lock().unwrap().bar_read(0, offset, &mut data);
                return data;
            }
            Operation::LinkLost => self.driver.function.lock().unwrap().reset(),
            Operation::Sever => {
                self.severed = true;
                match &self.host {
                    Host::Console(handle) => handle.sever(),
                    Host::Gpio(handle) => handle.sever(),
                }
            }
            Operation::Host { what, line, fault } => return vec![self.host.act(what, line, fault)],
        }
        Vec::new()
    }
}

impl Host {
    /// What an owner may do; gives what it is told. Times are far apart, so that no test is late for one.
    fn act(&self, what: u8, line: u16, fault: Fault) -> u8 {
        let said = match self {
            Self::Console(handle) => match what % 4 {
                0..=2 => handle.send(usize::from(line % 3), &vec![what; usize::from(what) * 3]),
                _ => {
                    handle.set_host_open(usize::from(line % 3), what < 128);
                    0
                }
            },
            Self::Gpio(handle) => match what % 9 {
                0 => usize::from(handle.set_level(line, what < 128).is_ok()),
                1 => usize::from(handle.pulse(line).is_ok()),
                2 => usize::from(handle.pattern(line, &[true, false, true]).is_ok()),
                3 => handle.release_stalled(),
                4 | 5 => handle.complete_due(Instant::now() + Duration::from_secs(500 + u64::from(what % 4) * 1000)),
                6 => {
                    handle.spurious_interrupt(line);
                    0
                }
                7 => usize::from(handle.interrupt_after_removal(line)),
                _ => {
                    let rule = FaultRule { skip: u64::from(what % 3), ..FaultRule::always(fault) };
                    handle.set_faults(Faults { rules: vec![FaultRule { times: Some(3), ..rule }] });
                    0
                }
            },
        };
        said.to_le_bytes()[0]
    }
}

/// What guest, host or fate may do.
#[derive(Debug, Clone)]
enum Operation {
    Start,
    Post { queue: u16, readable: Vec<u8>, room: usize, kick: bool },
    Suppress { queue: u16, suppress: bool },
    Mask { vector: u16, masked: bool },
    Msix { control: u16 },
    ConfigWrite { offset: u16, value: u32, width: usize },
    Write { offset: u64, value: u32, width: usize },
    Read { offset: u64, width: usize },
    LinkLost,
    Sever,
    Host { what: u8, line: u16, fault: Fault },
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::Stall),
        4 => (1_u64..4).prop_map(|thousands| Fault::Delay(Duration::from_secs(thousands * 1000))),
        1 => Just(Fault::Delay(Duration::MAX)),
        1 => Just(Fault::ShortResponse),
        1 => Just(Fault::LongResponse),
        1 => Just(Fault::DuplicateCompletion),
        1 => Just(Fault::SpuriousInterrupt),
        1 => any::<u8>().prop_map(Fault::Status),
    ]
}

/// Buffers as the device's driver puts them up, and some that are wrong.
fn post(is_gpio: bool) -> BoxedStrategy<Operation> {
    let words = |words: Vec<u16>| words.into_iter().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let kick = prop_oneof![3 => Just(true), 1 => Just(false)];
    let orderly = if is_gpio {
        let request = (1_u16..8, 0_u16..5, 0_u16..5).prop_map(|(kind, line, value)| (0, vec![kind, line, value, 0], 8));
        let event = (0_u16..5).prop_map(|line| (1, vec![line], 1));
        prop_oneof![3 => request, 2 => event].boxed()
    } else {
        let control = (0_u16..3, prop_oneof![Just(0_u16), Just(3), Just(6)], 0_u16..2);
        let control = control.prop_map(|(port, event, value)| (3, vec![port, 0, event, value], 0));
        let output = (prop_oneof![Just(1_u16), Just(5)], prop::collection::vec(any::<u16>(), 1..20));
        let output = output.prop_map(|(queue, data)| (queue, data, 0));
        let input = (prop_oneof![Just(0_u16), Just(2), Just(4)], 1_usize..300);
        let input = input.prop_map(|(queue, room)| (queue, Vec::new(), room));
        prop_oneof![3 => control, 2 => output, 4 => input].boxed()
    };
    let wild = (0_u16..6, prop::collection::vec(any::<u16>(), 0..4), 0_usize..20);
    (prop_oneof![12 => orderly, 1 => wild], kick)
        .prop_map(move |((queue, data, room), kick)| Operation::Post { queue, readable: words(data), room, kick })
        .boxed()
}

/// Writes to registers, at offsets where there are some.
fn registers() -> impl Strategy<Value = Operation> {
    let width = prop_oneof![Just(1_usize), Just(2), Just(4)];
    let value = prop_oneof![Just(0_u32), Just(1), Just(0x0f), 0_u32..0x100, any::<u32>()];
    let offset = prop_oneof![
        4 => (0_u64..0x10).prop_map(|register| register * 4),
        1 => Just(0x14_u64),
        2 => (0_u64..6).prop_map(|queue| NOTIFY + queue * 4),
        1 => ISR..ISR + 4,
        1 => DEVICE..DEVICE + 12,
        1 => TABLE..TABLE + 0x60,
        1 => Just(TABLE + 0x1000),
    ];
    // Command, BAR, and the capabilities: MSI-X control and the window among them.
    let config = prop_oneof![Just(4_u16), Just(0x10), 0x40_u16..0x100];
    prop_oneof![
        (config, value.clone(), width.clone()).prop_map(|(offset, value, width)| Operation::ConfigWrite {
            offset,
            value,
            width
        }),
        (offset.clone(), value, width.clone()).prop_map(|(offset, value, width)| Operation::Write {
            offset,
            value,
            width
        }),
        (offset, width).prop_map(|(offset, width)| Operation::Read { offset, width }),
    ]
}

fn operation(is_gpio: bool) -> impl Strategy<Value = Operation> {
    prop_oneof![
        30 => post(is_gpio),
        20 => (any::<u8>(), 0_u16..5, fault()).prop_map(|(what, line, fault)| Operation::Host { what, line, fault }),
        4 => (0_u16..6, any::<bool>()).prop_map(|(queue, suppress)| Operation::Suppress { queue, suppress }),
        4 => (0_u16..7, any::<bool>()).prop_map(|(vector, masked)| Operation::Mask { vector, masked }),
        4 => registers(),
        2 => prop::sample::select(vec![0, 0x4000, 0x8000, 0xc000]).prop_map(|control| Operation::Msix { control }),
        1 => prop::sample::select(vec![0x402, 0x406])
            .prop_map(|value| Operation::ConfigWrite { offset: 4, value, width: 2 }),
        1 => Just(Operation::Read { offset: ISR, width: 1 }),
        2 => Just(Operation::Start),
        1 => Just(Operation::LinkLost),
        1 => prop_oneof![4 => Just(Operation::Start), 1 => Just(Operation::Sever)],
    ]
}

/// Which device, what happens before it is saved, and what after.
fn story() -> impl Strategy<Value = (bool, Vec<Operation>, Vec<Operation>)> {
    any::<bool>().prop_flat_map(|is_gpio| {
        let part = || prop::collection::vec(operation(is_gpio), 0..60);
        (Just(is_gpio), part(), part())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restored_device_does_what_the_original_does((is_gpio, before, after) in story(), started: bool) {
        let mut original = World::new(is_gpio);
        if started {
            original.start();
        }
        for operation in &before {
            original.apply(operation);
        }
        original.driver.messages.take();
        original.heard();
        let mut copy = original.fork();
        prop_assert_eq!(copy.state().rounded(), original.state().rounded());
        for operation in &after {
            prop_assert_eq!(copy.apply(operation), original.apply(operation), "{:?}", operation);
            prop_assert_eq!(copy.driver.messages.take(), original.driver.messages.take(), "{:?}", operation);
            prop_assert_eq!(copy.heard(), original.heard(), "{:?}", operation);
            prop_assert_eq!(copy.state().rounded(), original.state().rounded(), "{:?}", operation);
        }
        prop_assert!(all_of(&copy.driver.memory) == all_of(&original.driver.memory), "guest memory differs");
    }
}
