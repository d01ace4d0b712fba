//! A machine without vCPUs: its devices at work, and everything they tell.

use std::mem::take;
use std::sync::{Arc, Mutex};

use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::StateError;
use crate::devices_state::{Devices, DevicesState, Surroundings};
use crate::interrupt::{MsiMessage, MsiSink};
use crate::memory::{ECAM_BASE, GuestRam};
use crate::pci::{GoneReads, LegacyConfigPorts, RootComplex, SharedFunction, SlotEvent, SlotObserver};
use crate::serial::SerialPort;
use crate::stop::StopLatch;
use crate::virtio::FEATURE_VERSION_1;
use crate::virtio::console::{ConsoleSink, PortConfig, console};
use crate::virtio::gpio::{Fault, FaultRule, Faults, GpioConfig, gpio};
use crate::virtio::test_driver::{Driver, MEMORY_BYTES, Messages, SUBSYSTEM, memory};

/// Where the guest has put the BARs of the console and of the device in the first slot.
pub(super) const CONSOLE_BAR: u64 = 0xd800_0000;
pub(super) const GPIO_BAR: u64 = 0xd000_0000;
/// The ports of the console.
pub(super) const PORT_NAMES: [&str; 2] = ["", "agent"];
/// Lines of each gpio device.
pub(super) const LINES: u16 = 4;

/// Where the PCI Express capability of a root port is, and its registers.
const LINK_CONTROL: u16 = 0x40 + 0x10;
const SLOT_CONTROL: u16 = 0x40 + 0x18;

/// One thing that a machine told the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Message(MsiMessage),
    Slot(u8, SlotEvent),
    Output(usize, Vec<u8>),
    Opened(usize, bool),
}

#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Vec<Told>>);

impl Log {
    fn tell(&self, told: Told) {
        self.0.lock().unwrap().push(told);
    }

    /// Data of the messages since the last look.
    pub(super) fn messages(&self) -> Vec<u32> {
        let data = |told| if let Told::Message(message) = told { Some(message.data) } else { None };
        take(&mut *self.0.lock().unwrap()).into_iter().filter_map(data).collect()
    }

    /// Events of the slots since the last look.
    pub(super) fn events(&self) -> Vec<(u8, SlotEvent)> {
        let event = |told| if let Told::Slot(slot, event) = told { Some((slot, event)) } else { None };
        take(&mut *self.0.lock().unwrap()).into_iter().filter_map(event).collect()
    }
}

impl MsiSink for Log {
    fn signal(&self, message: MsiMessage) {
        self.tell(Told::Message(message));
    }
}

impl SlotObserver for Log {
    fn slot_event(&self, slot: u8, event: SlotEvent) {
        self.tell(Told::Slot(slot, event));
    }
}

/// The sink of one port; the serial port's number is [`SERIAL`].
struct Sink(usize, Arc<Log>);

const SERIAL: usize = 99;

impl ConsoleSink for Sink {
    fn write(&mut self, bytes: &[u8]) {
        self.1.tell(Told::Output(self.0, bytes.to_vec()));
    }

    fn opened(&mut self, open: bool) {
        self.1.tell(Told::Opened(self.0, open));
    }
}

fn ports(names: &[&str], log: &Arc<Log>) -> Vec<PortConfig> {
    let sink = |index| Box::new(Sink(index, Arc::clone(log)));
    names.iter().enumerate().map(|(index, &name)| PortConfig { name: name.to_owned(), sink: sink(index) }).collect()
}

/// Devices, and all that they are connected to.
#[derive(Debug)]
pub(super) struct World {
    pub(super) devices: Devices,
    pub(super) log: Arc<Log>,
    pub(super) memory: GuestRam,
    interrupt: EventFd,
}

impl World {
    /// Three slots: one with a device at work that answers late and whose plugging the guest has not noted yet, one with
    /// a device behind a disabled link, an empty one. A console with bytes for a port that is not open.
    pub(super) fn at_work() -> Self {
        let (memory, log) = (memory(), Arc::new(Log::default()));
        let interrupt = EventFd::new(EFD_NONBLOCK).unwrap();
        let serial = SerialPort::new(interrupt.try_clone().unwrap(), Box::new(Sink(SERIAL, log.clone())));
        let pci = Arc::new(RootComplex::new(3, GoneReads::AllOnes, log.clone(), log.clone()).unwrap());
        let (function, console) = console(ports(&PORT_NAMES, &log), memory.clone(), log.clone(), SUBSYSTEM).unwrap();
        pci.add_integrated(function.clone()).unwrap();
        let bus = crate::bus::Bus {
            serial,
            config_ports: LegacyConfigPorts::new(Arc::clone(&pci)),
            pci,
            stop: Arc::new(StopLatch::default()),
        };
        let devices = Devices { bus, console: Some(console), gpios: std::collections::BTreeMap::new() };
        let mut world = Self { devices, log, memory, interrupt };
        world.drive(function, 2, CONSOLE_BAR, |driver| {
            driver.post(4, &[], 2);
            driver.kick(4);
        });
        assert_eq!(world.devices.console.as_ref().unwrap().send(1, b"abc"), 3);
        world.set_up_ports();
        assert!(world.plug(1));
        world.ecam_write(0, 2, LINK_CONTROL, &[0x10, 0]);
        world.plug_running();
        assert_eq!(world.devices.bus.serial.input(b"xyz"), 3);
        world.devices.bus.port_write(0xcf8, &0x8000_0000_u32.to_le_bytes());
        world.forget_what_was_seen();
        world
    }

    /// Lets a driver start a function and do what is asked, then moves its BAR.
    fn drive(&self, function: SharedFunction, feature: u64, bar: u64, act: impl FnOnce(&mut Driver)) {
        let mut driver = Driver::new(function, self.memory.clone(), Arc::new(Messages::default()));
        // Not among the queues of another function.
        driver.queues_at = if bar == GPIO_BAR { 0x20_0000 } else { driver.queues_at };
        driver.start(FEATURE_VERSION_1 | feature);
        act(&mut driver);
        driver.config_write(0x10, &u32::try_from(bar).unwrap().to_le_bytes());
    }

    /// Bus numbers for all ports, a window for the first, and hot-plug interrupts for the first two.
    fn set_up_ports(&self) {
        for device in 1_u8..=3 {
            self.ecam_write(0, device, 0x18, &[0, device + 1, device + 1]);
        }
        self.ecam_write(0, 1, 0x20, &[0x00, 0xd0, 0x00, 0xd0]);
        for device in 1..=2 {
            self.ecam_write(0, device, 4, &[6, 0]);
            // MSI, behind the 60 bytes of the other capability: address, data, enable.
            self.ecam_write(0, device, 0x80, &0xfee0_2000_u32.to_le_bytes());
            self.ecam_write(0, device, 0x88, &[0x30 + device, 0]);
            self.ecam_write(0, device, 0x7e, &[1, 0]);
            self.ecam_write(0, device, SLOT_CONTROL, &[0x28, 0x10]);
        }
    }

    fn plug_running(&mut self) {
        let (function, handle) = gpio(&config(), self.memory.clone(), self.log.clone(), SUBSYSTEM).unwrap();
        self.drive(function.clone(), 1, GPIO_BAR, |driver| {
            for line in 0_u8..3 {
                driver.post(0, &[3, 0, line, 0, 2, 0, 0, 0], 2);
                driver.post(0, &[6, 0, line, 0, 1, 0, 0, 0], 2);
                driver.post(1, &[line, 0], 1);
            }
            driver.kick(0);
            driver.kick(1);
            handle.set_faults(Faults { rules: vec![FaultRule::always(Fault::Stall)] });
            driver.post(0, &[4, 0, 0, 0, 0, 0, 0, 0], 2);
            driver.kick(0);
        });
        self.devices.bus.pci.slot(0).unwrap().plug(function).unwrap();
        self.devices.gpios.insert(0, handle);
    }

    /// Plugs a device in, as `Machine` does.
    pub(super) fn plug(&mut self, slot: u8) -> bool {
        let (function, handle) = gpio(&config(), self.memory.clone(), self.log.clone(), SUBSYSTEM).unwrap();
        let plugged = self.devices.bus.pci.slot(slot).unwrap().plug(function).is_ok();
        if plugged {
            self.devices.gpios.insert(slot, handle);
        }
        plugged
    }

    /// Pulls a device out, as `Machine` does.
    pub(super) fn remove(&mut self, slot: u8) -> bool {
        let removed = self.devices.bus.pci.slot(slot).unwrap().surprise_remove().is_ok();
        if let Some(handle) = self.devices.gpios.remove(&slot) {
            handle.sever();
        }
        removed
    }

    pub(super) fn save_with<R>(&self, still: impl FnOnce() -> R) -> Result<(DevicesState, R), StateError> {
        DevicesState::save(&self.devices.bus, self.devices.console.as_ref(), &self.devices.gpios, still)
    }

    pub(super) fn state(&self) -> DevicesState {
        self.save_with(|| ()).unwrap().0
    }

    /// Devices made from a state over this world's memory, told by nobody's log.
    pub(super) fn restored(&self, state: &DevicesState, names: &[&str]) -> Result<Self, StateError> {
        restored(state, names, &self.memory)
    }

    /// Another world that goes on from this one's state, through its text, over a copy of memory.
    pub(super) fn fork(&self) -> Self {
        let (state, bytes) = self.save_with(|| self.all_memory()).unwrap();
        let copy = memory();
        copy.write_slice(&bytes, GuestAddress(0)).unwrap();
        let text = serde_json::to_string(&state).unwrap();
        let fork = restored(&serde_json::from_str(&text).unwrap(), &PORT_NAMES, &copy).unwrap();
        assert_eq!(fork.log.0.lock().unwrap().len(), 0, "a restore tells nobody anything");
        // The serial port may raise its interrupt once more.
        fork.forget_what_was_seen();
        fork
    }

    pub(super) fn all_memory(&self) -> Vec<u8> {
        let mut bytes = vec![0; MEMORY_BYTES];
        self.memory.read_slice(&mut bytes, GuestAddress(0)).unwrap();
        bytes
    }

    /// What was told since the last look, and whether the serial port has interrupted.
    pub(super) fn seen(&self) -> (Vec<Told>, bool) {
        (take(&mut *self.log.0.lock().unwrap()), self.interrupt.read().is_ok())
    }

    pub(super) fn forget_what_was_seen(&self) {
        self.seen();
    }

    pub(super) fn ecam_read(&self, bus: u8, device: u8, register: u16, bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        self.devices.bus.memory_read(ecam(bus, device, register), &mut data);
        data
    }

    /// Byte by byte if it is not aligned.
    pub(super) fn ecam_write(&self, bus: u8, device: u8, register: u16, data: &[u8]) {
        let whole = data.len().is_power_of_two() && usize::from(register).is_multiple_of(data.len());
        for (register, part) in (register..).zip(data.chunks(if whole { data.len() } else { 1 })) {
            self.devices.bus.memory_write(ecam(bus, device, register), part);
        }
    }
}

fn config() -> GpioConfig {
    GpioConfig { lines: LINES, names: Some(vec!["reset".to_owned()]), irq: true }
}

fn ecam(bus: u8, device: u8, register: u16) -> u64 {
    ECAM_BASE + (u64::from(bus) << 20 | u64::from(device) << 15 | u64::from(register))
}

fn restored(state: &DevicesState, names: &[&str], memory: &GuestRam) -> Result<World, StateError> {
    let (log, interrupt) = (Arc::new(Log::default()), EventFd::new(EFD_NONBLOCK).unwrap());
    let devices = state.restore(Surroundings {
        memory: memory.clone(),
        msi: log.clone(),
        stop: Arc::new(StopLatch::default()),
        serial_interrupt: interrupt.try_clone().unwrap(),
        serial: Box::new(Sink(SERIAL, log.clone())),
        ports: ports(names, &log),
        gone_reads: GoneReads::AllOnes,
        slot_observer: log.clone(),
    })?;
    Ok(World { devices, log, memory: memory.clone(), interrupt })
}
