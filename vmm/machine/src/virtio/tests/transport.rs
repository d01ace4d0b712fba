use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};

use vm_memory::GuestMemoryMmap;

use crate::pci::PciFunction;
use crate::virtio::test_driver::*;
use crate::virtio::*;

/// A device that answers each request with its bytes, and keeps those on queue 1.
#[derive(Debug, Default)]
struct Echo {
    held: Vec<Chain>,
    resets: u32,
}

const FEATURE_ECHO: u64 = 1 << 3;

impl VirtioDevice for Echo {
    fn device_type(&self) -> u16 {
        41
    }
    fn features(&self) -> u64 {
        FEATURE_ECHO
    }
    fn queue_sizes(&self) -> Vec<u16> {
        vec![16, 16]
    }
    fn config_bytes(&self) -> u32 {
        8
    }
    fn read_config(&self, offset: u32, data: &mut [u8]) {
        for (byte, value) in data.iter_mut().zip([1, 2, 3, 4, 5, 6, 7, 8_u8].into_iter().skip(offset as usize)) {
            *byte = value;
        }
    }
    fn write_config(&mut self, _offset: u32, _data: &[u8]) {}
    fn activate(&mut self, _features: u64, _rings: &mut Rings<'_>) {}
    fn notified(&mut self, queue: u16, rings: &mut Rings<'_>) {
        while let Some(chain) = rings.pop(queue) {
            if queue == 1 {
                self.held.push(chain);
                continue;
            }
            let mut data = vec![0; usize::try_from(chain.readable_bytes()).unwrap().min(64)];
            let read = rings.read(&chain, 0, &mut data);
            let written = rings.write(&chain, 0, &data[..read]);
            rings.complete(queue, &chain, u32::try_from(written).unwrap());
        }
    }
    fn held(&self) -> Vec<(u16, &Chain)> {
        self.held.iter().map(|chain| (1, chain)).collect()
    }
    fn reset(&mut self) {
        self.held.clear();
        self.resets += 1;
    }
}

struct Setup {
    driver: Driver,
    function: Arc<std::sync::Mutex<VirtioPci<Echo>>>,
}

fn setup_in(memory: GuestMemoryMmap, attachment: Attachment) -> Setup {
    let messages = Arc::new(Messages::default());
    let function = VirtioPci::new(Echo::default(), memory.clone(), messages.clone(), SUBSYSTEM, attachment).unwrap();
    let function = Arc::new(std::sync::Mutex::new(function));
    Setup { driver: Driver::new(function.clone(), memory, messages), function }
}

fn setup() -> Setup {
    setup_in(memory(), Attachment::Slot)
}

fn started() -> Setup {
    let mut setup = setup();
    setup.driver.start(FEATURE_VERSION_1);
    setup
}

#[test]
fn identity_is_modern() {
    let Setup { driver, .. } = setup();
    assert_eq!(driver.config32(0x00), 0x1069_1af4);
    assert_eq!(driver.config32(0x08) & 0xff, 1);
    assert_eq!(driver.config32(0x2c), 0x0002_5053);
    assert_eq!(driver.config32(0x3c) >> 8 & 0xff, 0, "no interrupt pin");
    assert!(driver.find_capability(0x10, None).is_some());
    let integrated = setup_in(memory(), Attachment::RootComplex);
    assert_eq!(integrated.driver.find_capability(0x10, None), None);
}

#[test]
fn capabilities_describe_the_bar() {
    let Setup { driver, .. } = setup();
    let mut found = Vec::new();
    let mut at = None;
    while let Some(capability) = driver.find_capability(0x09, at) {
        let head = driver.config32(capability);
        let bar = driver.config32(capability + 4) & 0xff;
        found.push((
            head >> 24,
            head >> 16 & 0xff,
            bar,
            driver.config32(capability + 8),
            driver.config32(capability + 12),
        ));
        at = Some(capability);
    }
    assert_eq!(
        found,
        [(1, 16, 0, 0, 0x3c), (3, 16, 0, 0x1000, 1), (4, 16, 0, 0x2000, 8), (2, 20, 0, 0x3000, 8), (5, 20, 0, 0, 0)]
    );
    let msix = driver.find_capability(0x11, None).unwrap();
    assert_eq!(driver.config32(msix) >> 16 & 0x7ff, 2, "three vectors");
    assert_eq!(driver.config32(msix + 4), 0x4000);
}

#[test]
fn features_must_be_agreed_on() {
    let Setup { driver, .. } = setup();
    driver.enable_pci();
    driver.write32(COMMON, 0);
    assert_eq!(driver.read32(COMMON + 4), FEATURE_ECHO as u32);
    driver.write32(COMMON, 1);
    assert_eq!(driver.read32(COMMON + 4), 1);
    driver.write32(COMMON, 2);
    assert_eq!(driver.read32(COMMON + 4), 0);
    driver.negotiate(0);
    assert_eq!(driver.status(), 3, "without VERSION_1");
    driver.negotiate(FEATURE_VERSION_1 | 1 << 20);
    assert_eq!(driver.status(), 3, "with a feature that was not offered");
    driver.write8(COMMON + 0x14, 0x0f);
    assert_eq!(driver.status(), 3, "no DRIVER_OK without FEATURES_OK");
    driver.negotiate(FEATURE_VERSION_1 | FEATURE_ECHO);
    assert_eq!(driver.status(), 0x0b);
    driver.write32(COMMON + 0x0c, 0);
    assert_eq!(driver.read32(COMMON + 0x0c), 1, "features are fixed once agreed on");
}

#[test]
fn a_feature_above_the_64th_is_refused() {
    let Setup { driver, .. } = setup();
    driver.enable_pci();
    driver.write8(COMMON + 0x14, 3);
    driver.write32(COMMON + 8, 1);
    driver.write32(COMMON + 0x0c, 1);
    driver.write32(COMMON + 8, 2);
    driver.write32(COMMON + 0x0c, 1);
    driver.write8(COMMON + 0x14, 0x0b);
    assert_eq!(driver.status(), 3);
}

#[test]
fn requests_are_answered_within_the_kick() {
    let Setup { mut driver, .. } = started();
    let posted = driver.post(0, b"request", 16);
    driver.kick(0);
    assert_eq!(driver.used(0), Some((posted.head, 7)));
    assert_eq!(&driver.answer(posted)[..8], b"request\xaa");
    assert_eq!(driver.messages.take(), [1]);
}

#[test]
fn framing_is_the_drivers() {
    let Setup { mut driver, .. } = started();
    driver.memory.write_slice(b"abcdefgh", GuestAddress(0x1000)).unwrap();
    let chain = [(0x1000, 1, 0), (0x1001, 0, 0), (0x1001, 5, 0), (0x2000, 2, WRITE), (0x2010, 4, WRITE)];
    driver.post_chain(0, &chain);
    driver.kick(0);
    assert_eq!(driver.used(0), Some((0, 6)));
    let mut data = [0; 2];
    driver.memory.read_slice(&mut data, GuestAddress(0x2000)).unwrap();
    assert_eq!(&data, b"ab");
    driver.memory.read_slice(&mut data, GuestAddress(0x2010)).unwrap();
    assert_eq!(&data, b"cd");
}

#[test]
fn interrupts_are_suppressed_when_asked() {
    let Setup { mut driver, .. } = started();
    driver.suppress_interrupts(0, true);
    driver.post(0, b"quiet", 8);
    driver.kick(0);
    assert!(driver.used(0).is_some());
    assert!(driver.messages.take().is_empty());
    driver.suppress_interrupts(0, false);
    driver.post(0, b"loud", 8);
    driver.post(0, b"loud", 8);
    driver.kick(0);
    assert_eq!(driver.messages.take(), [1], "one interrupt a batch");
}

#[test]
fn a_malformed_chain_does_not_stop_the_batch() {
    let Setup { mut driver, function } = started();
    let first = driver.post(0, b"first", 8);
    let bad = driver.post_chain(0, &[(MEMORY_BYTES as u64, 4, 0)]);
    let wrap = driver.post_chain(0, &[(u64::MAX - 1, 4, 0)]);
    let order = driver.post_chain(0, &[(0x1000, 4, WRITE), (0x1000, 4, 0)]);
    let indirect = driver.post_chain(0, &[(0x1000, 16, INDIRECT)]);
    let last = driver.post(0, b"last", 8);
    driver.kick(0);
    let used: Vec<_> = std::iter::from_fn(|| driver.used(0)).collect();
    let expected = [(first.head, 5), (bad, 0), (wrap, 0), (order, 0), (indirect, 0), (last.head, 4)];
    assert_eq!(used, expected);
    assert_eq!(driver.status(), 0x0f);
    assert_eq!(function.lock().unwrap().state().malformed_chains, 4);
}

#[test]
fn a_loop_ends() {
    let Setup { mut driver, .. } = started();
    driver.set_descriptor(0, 3, Descriptor { address: 0x1000, length: 1, flags: NEXT, next: 3 });
    driver.make_available(0, 3);
    driver.set_descriptor(0, 4, Descriptor { address: 0x1000, length: 1, flags: NEXT, next: 16 });
    driver.make_available(0, 4);
    driver.kick(0);
    assert_eq!((driver.used(0), driver.used(0)), (Some((3, 0)), Some((4, 0))));
}

#[test]
fn a_head_outside_the_table_needs_a_reset() {
    let Setup { mut driver, function } = started();
    driver.make_available(0, 16);
    driver.kick(0);
    assert_eq!(driver.status(), 0x4f);
    assert_eq!(driver.messages.take(), [0], "a configuration change");
    driver.post(0, b"ignored", 8);
    driver.kick(0);
    assert_eq!(driver.used(0), None);
    assert_eq!(function.lock().unwrap().state().rings_broken, 1);
    driver.start(FEATURE_VERSION_1);
    driver.post(0, b"again", 8);
    driver.kick(0);
    assert!(driver.used(0).is_some());
}

#[test]
fn an_index_that_runs_ahead_needs_a_reset() {
    let Setup { driver, .. } = started();
    driver.make_available_raw(0, 17);
    driver.kick(0);
    assert_eq!(driver.status(), 0x4f);
}

#[test]
fn held_descriptors_are_bounded() {
    let Setup { mut driver, function } = started();
    for _ in 0..16 {
        driver.post_chain(1, &[(0x1000, 1, 0)]);
    }
    driver.kick(1);
    assert_eq!(function.lock().unwrap().device().held.len(), 16);
    driver.make_available(1, 0);
    driver.kick(1);
    assert_eq!(driver.status(), 0x4f, "one more than there are");
    assert_eq!(function.lock().unwrap().state().rings[1].in_flight, 16, "the one refused is not held");
}

#[test]
fn rings_outside_memory_are_refused() {
    let Setup { mut driver, .. } = setup();
    driver.enable_pci();
    driver.negotiate(FEATURE_VERSION_1);
    driver.write16(COMMON + 0x16, 0);
    driver.write32(COMMON + 0x20, MEMORY_BYTES as u32);
    driver.write32(COMMON + 0x28, 0x1000);
    driver.write32(COMMON + 0x30, 0x2000);
    driver.write16(COMMON + 0x1c, 1);
    assert_eq!(driver.read16(COMMON + 0x1c), 0);
    assert_eq!(driver.status() & status::NEEDS_RESET, status::NEEDS_RESET);
    driver.start(FEATURE_VERSION_1);
}

#[test]
fn queue_registers_keep_to_the_rules() {
    let Setup { driver, .. } = started();
    driver.write16(COMMON + 0x16, 0);
    driver.write16(COMMON + 0x18, 8);
    driver.write32(COMMON + 0x20, 0x10);
    driver.write16(COMMON + 0x1c, 0);
    assert_eq!((driver.read16(COMMON + 0x18), driver.read16(COMMON + 0x1c)), (16, 1));
    assert_eq!(driver.read32(COMMON + 0x20), 0x1_0000);
    driver.write16(COMMON + 0x1a, 3);
    assert_eq!(driver.read16(COMMON + 0x1a), 0xffff, "no such vector");
    driver.write16(COMMON + 0x16, 2);
    assert_eq!((driver.read16(COMMON + 0x18), driver.read32(COMMON + 0x20)), (0, 0), "no such queue");
    driver.write16(COMMON + 0x1c, 1);
    driver.write16(COMMON + 0x16, 0);
    driver.write8(COMMON + 0x14, 0);
    driver.write16(COMMON + 0x18, 12);
    assert_eq!(driver.read16(COMMON + 0x18), 16, "not a power of two");
    assert_eq!(driver.read16(COMMON + 0x1a), 0xffff);
    assert_eq!(driver.read32(COMMON + 0x38), 0, "no queue_reset");
}

#[test]
fn a_kick_before_driver_ok_does_nothing() {
    let Setup { mut driver, .. } = setup();
    driver.enable_pci();
    driver.negotiate(FEATURE_VERSION_1);
    driver.setup_queues();
    driver.post(0, b"early", 8);
    driver.kick(0);
    assert_eq!(driver.used(0), None);
    driver.write8(COMMON + 0x14, 0x0f);
    driver.kick(0);
    assert!(driver.used(0).is_some());
}

#[test]
fn nothing_moves_without_bus_master() {
    let Setup { mut driver, function } = started();
    driver.config_write(4, &0x0402_u16.to_le_bytes());
    driver.post(0, b"request", 8);
    driver.kick(0);
    function.lock().unwrap().with(|_, rings| rings.interrupt(0));
    assert_eq!(driver.used(0), None);
    assert!(driver.messages.take().is_empty());
}

#[test]
fn isr_status_stands_in_without_msix() {
    let Setup { mut driver, .. } = started();
    let msix = driver.find_capability(0x11, None).unwrap();
    driver.config_write(msix + 2, &0_u16.to_le_bytes());
    driver.post(0, b"request", 8);
    driver.kick(0);
    assert!(driver.messages.take().is_empty());
    assert_eq!((driver.read8(ISR), driver.read8(ISR)), (1, 0));
}

#[test]
fn a_configuration_change_counts_up_and_interrupts() {
    let Setup { driver, function } = started();
    function.lock().unwrap().with(|_, rings| rings.config_changed());
    assert_eq!(driver.read8(COMMON + 0x15), 1);
    assert_eq!(driver.messages.take(), [0]);
    assert_eq!(driver.read32(DEVICE + 4), 0x0807_0605);
    assert_eq!(driver.read32(DEVICE + 8), 0);
}

#[test]
fn the_window_reaches_the_bar() {
    let Setup { driver, .. } = setup();
    let mut window = None;
    while let Some(at) = driver.find_capability(0x09, window) {
        window = Some(at);
    }
    let window = window.unwrap();
    // No BAR placed, no memory decoding: that is what it is for.
    driver.config_write(window + 8, &0x2004_u32.to_le_bytes());
    driver.config_write(window + 12, &4_u32.to_le_bytes());
    assert_eq!(driver.config32(window + 16), 0x0807_0605);
    driver.config_write(window + 8, &0x14_u32.to_le_bytes());
    driver.config_write(window + 12, &1_u32.to_le_bytes());
    driver.config_write(window + 16, &3_u32.to_le_bytes());
    assert_eq!(driver.config32(window + 16) & 0xff, 3, "status through the window");
    for (offset, length) in [(0x2001_u32, 2_u32), (0x8000, 4), (0xffff_fffc, 4), (0, 3), (0, 0), (0, 8)] {
        driver.config_write(window + 8, &offset.to_le_bytes());
        driver.config_write(window + 12, &length.to_le_bytes());
        driver.config_write(window + 16, &0xdead_beef_u32.to_le_bytes());
        assert_eq!(driver.config32(window + 16), 0xdead_beef, "not an access: just bytes");
    }
}

#[test]
fn reset_forgets_the_driver() {
    let Setup { mut driver, function } = started();
    driver.post(1, b"held", 8);
    driver.kick(1);
    driver.write8(COMMON + 0x14, 0);
    assert_eq!(driver.status(), 0);
    let state = function.lock().unwrap().state();
    assert_eq!(state.common, CommonState::default());
    assert!(state.rings.iter().all(|ring| !ring.ready && ring.in_flight == 0 && ring.vector == 0xffff));
    assert!(function.lock().unwrap().device().held.is_empty());
}

#[test]
fn severed_means_no_memory_and_no_messages() {
    let Setup { mut driver, function } = started();
    let held = driver.post(1, b"held", 8);
    driver.kick(1);
    let mut function = function.lock().unwrap();
    function.sever();
    function.with(|device, rings| {
        assert!(!rings.is_live());
        for chain in std::mem::take(&mut device.held) {
            assert_eq!(rings.write(&chain, 0, b"late"), 0);
            rings.complete(1, &chain, 4);
        }
        rings.interrupt(1);
        rings.config_changed();
    });
    let mut data = [0; 4];
    function.bar_read(0, 0x14, &mut data);
    function.bar_write(0, 0x3000, &[0; 2]);
    assert_eq!(data, [0xff; 4]);
    assert_eq!(function.decode(0xe000_0000), None);
    drop(function);
    assert_eq!(driver.config32(0), 0xffff_ffff);
    assert!(driver.messages.take().is_empty());
    assert_eq!(driver.used(1), None);
    assert_eq!(driver.answer(held), [0xaa; 8]);
}

#[test]
fn an_interrupt_after_removal_is_a_fault_one_may_ask_for() {
    let Setup { driver, function } = started();
    let mut function = function.lock().unwrap();
    function.sever();
    assert!(function.interrupt_regardless(1));
    assert!(!function.interrupt_regardless(2), "no such queue");
    assert_eq!(driver.messages.take(), [2]);
}

#[test]
fn status_bits_stay_and_needs_reset_is_the_devices() {
    let Setup { driver, .. } = started();
    driver.write8(COMMON + 0x14, status::ACKNOWLEDGE | status::NEEDS_RESET);
    assert_eq!(driver.status(), 0x0f);
    driver.make_available_raw(0, 17);
    driver.kick(0);
    driver.write8(COMMON + 0x14, 0x0f);
    assert_eq!(driver.status(), 0x4f);
    driver.write8(COMMON + 0x14, status::FAILED);
    assert_eq!(driver.status(), 0xcf);
}

#[test]
fn devices_and_handles_go_to_other_threads() {
    fn shared<T: Clone + Send + Sync>() {}
    shared::<console::ConsoleHandle>();
    shared::<gpio::GpioHandle>();
    shared::<crate::pci::SharedFunction>();
}

#[test]
fn a_lost_link_resets_the_device_and_its_bus_address() {
    let Setup { driver, function } = started();
    assert_ne!(driver.config32(0x04) & 6, 0);
    let resets = function.lock().unwrap().device().resets;
    function.lock().unwrap().reset();
    assert_eq!(driver.config32(0x04) & 6, 0, "neither memory nor bus mastering");
    assert_eq!(driver.config32(0x10) & !0xf, 0, "no BAR");
    let state = function.lock().unwrap().state();
    assert_eq!(state.common.status, 0);
    assert_eq!(function.lock().unwrap().device().resets, resets + 1);
}

#[test]
fn a_lost_link_takes_the_vector_table_with_it() {
    let Setup { driver, function } = started();
    driver.write32(TABLE + 2 * 16 + 12, 1);
    function.lock().unwrap().with(|_, rings| rings.interrupt(1));
    assert!(driver.messages.take().is_empty(), "masked");
    function.lock().unwrap().reset();
    let msix = driver.find_capability(0x11, None).unwrap();
    driver.config_write(0x10, &0xe000_0000_u32.to_le_bytes());
    driver.config_write(0x04, &0x0406_u16.to_le_bytes());
    driver.config_write(msix + 2, &0x8000_u16.to_le_bytes());
    assert_eq!((driver.read32(TABLE + 2 * 16), driver.read32(TABLE + 2 * 16 + 12)), (0, 1), "masked, as after a reset");
    driver.write32(TABLE + 2 * 16 + 12, 0);
    assert!(driver.messages.take().is_empty(), "the next driver gets none of the last one's interrupts");
}

#[test]
fn an_interrupt_under_way_when_the_link_was_lost_still_arrives() {
    let Setup { driver, function } = started();
    driver.messages.take();
    function.lock().unwrap().reset();
    assert!(function.lock().unwrap().interrupt_regardless(1));
    assert_eq!(driver.messages.take().len(), 1);
}
