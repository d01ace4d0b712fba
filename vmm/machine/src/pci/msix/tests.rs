use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::pci::config::{ConfigState, Identity};

#[derive(Debug, Default)]
struct Sent(Mutex<Vec<MsiMessage>>);

impl MsiSink for Sent {
    fn signal(&self, message: MsiMessage) {
        self.0.lock().unwrap().push(message);
    }
}

impl Sent {
    fn take(&self) -> Vec<u32> {
        self.0.lock().unwrap().drain(..).map(|message| message.data).collect()
    }
}

fn function(vectors: u16) -> (ConfigSpace, Msix) {
    let identity =
        Identity { vendor: 1, device: 2, revision: 0, class: [0; 3], subsystem_vendor: 0, subsystem_device: 0 };
    let mut config = ConfigSpace::endpoint(&identity);
    let layout = MsixLayout { vectors, table_bar: 1, table_offset: 0x2000, pba_bar: 1, pba_offset: 0x3000 };
    let state = Msix::add_to(&mut config, &layout).unwrap();
    (config, state)
}

fn set_control(config: &mut ConfigSpace, state: &mut Msix, control: u16, sink: &Sent) {
    config.write(state.capability + CONTROL, &control.to_le_bytes());
    state.config_written(config, sink);
}

/// Address, data, unmasked; the data is the vector's number and 0x40.
fn arm(state: &mut Msix, vector: u8, config: &ConfigSpace, sink: &Sent) {
    let mut entry = [0; 16];
    entry[..8].copy_from_slice(&0xfee0_0003_u64.to_le_bytes());
    entry[8] = 0x40 + vector;
    state.table_write(u64::from(vector) * 16, &entry, config, sink);
}

#[test]
fn capability_says_where_things_are() {
    let (config, state) = function(3);
    assert_eq!(config.u8_at(0x40), ID_MSIX);
    assert_eq!(config.u16_at(0x42), 2);
    assert_eq!((config.u32_at(0x44), config.u32_at(0x48)), (0x2001, 0x3001));
    assert_eq!((state.table_bytes(), state.pba_bytes()), (48, 8));
}

#[test]
fn layouts_that_cannot_be_are_refused() {
    let (mut config, _) = function(1);
    for (vectors, table_offset) in [(0, 0), (2049, 0), (1, 4)] {
        let layout = MsixLayout { vectors, table_bar: 0, table_offset, pba_bar: 0, pba_offset: 0 };
        assert!(Msix::add_to(&mut config, &layout).is_err());
    }
}

#[test]
fn nothing_is_sent_or_kept_while_disabled() {
    let (mut config, mut state) = function(2);
    let sink = Sent::default();
    arm(&mut state, 0, &config, &sink);
    state.signal(0, &config, &sink);
    assert!(!state.is_pending(0));
    set_control(&mut config, &mut state, ENABLE, &sink);
    assert!(sink.take().is_empty());
    state.signal(0, &config, &sink);
    state.signal(7, &config, &sink);
    state.signal(0xffff, &config, &sink);
    assert_eq!(sink.take(), [0x40]);
}

#[test]
fn address_loses_its_reserved_bits() {
    let (mut config, mut state) = function(1);
    let sink = Sent::default();
    set_control(&mut config, &mut state, ENABLE, &sink);
    arm(&mut state, 0, &config, &sink);
    state.signal(0, &config, &sink);
    assert_eq!(*sink.0.lock().unwrap(), [MsiMessage { address: 0xfee0_0000, data: 0x40 }]);
}

#[test]
fn masked_vector_waits_and_is_replayed_once() {
    let (mut config, mut state) = function(2);
    let sink = Sent::default();
    set_control(&mut config, &mut state, ENABLE, &sink);
    arm(&mut state, 1, &config, &sink);
    state.table_write(16 + 12, &[0xff; 4], &config, &sink);
    let mut control = [0; 4];
    state.table_read(16 + 12, &mut control);
    assert_eq!(control, [1, 0, 0, 0], "reserved bits stay zero");
    state.signal(1, &config, &sink);
    state.signal(1, &config, &sink);
    let mut pba = [0; 8];
    state.pba_read(0, &mut pba);
    assert_eq!((sink.take(), pba[0]), (vec![], 0b10));
    state.table_write(16 + 12, &[0; 4], &config, &sink);
    assert_eq!(sink.take(), [0x41]);
    assert!(!state.is_pending(1));
}

#[test]
fn function_mask_holds_all_vectors() {
    let (mut config, mut state) = function(2);
    let sink = Sent::default();
    set_control(&mut config, &mut state, ENABLE | FUNCTION_MASK, &sink);
    for vector in [0, 1] {
        arm(&mut state, vector, &config, &sink);
        state.signal(u16::from(vector), &config, &sink);
    }
    assert!(sink.take().is_empty());
    set_control(&mut config, &mut state, ENABLE, &sink);
    assert_eq!(sink.take(), [0x40, 0x41]);
}

#[test]
fn disabling_forgets_what_waited() {
    let (mut config, mut state) = function(1);
    let sink = Sent::default();
    set_control(&mut config, &mut state, ENABLE | FUNCTION_MASK, &sink);
    arm(&mut state, 0, &config, &sink);
    state.signal(0, &config, &sink);
    set_control(&mut config, &mut state, 0, &sink);
    set_control(&mut config, &mut state, ENABLE, &sink);
    assert!(sink.take().is_empty());
}

/// A copy of a function's space and MSI-X state, by way of what a snapshot holds.
fn restored(vectors: u16, config: &ConfigSpace, state: &Msix) -> (ConfigSpace, Msix) {
    let (mut new_config, mut new_state) = function(vectors);
    let text = serde_json::to_string(&(config.state(), state.state())).unwrap();
    let (config, state) = serde_json::from_str::<(ConfigState, MsixState)>(&text).unwrap();
    new_config.restore(&config).unwrap();
    new_state.restore(&state).unwrap();
    (new_config, new_state)
}

#[test]
fn what_waits_behind_a_mask_survives_a_restore() {
    let (mut config, mut state) = function(70);
    let sink = Sent::default();
    set_control(&mut config, &mut state, ENABLE, &sink);
    for vector in [1, 69] {
        arm(&mut state, vector, &config, &sink);
        state.table_write(u64::from(vector) * 16 + 12, &[1], &config, &sink);
        state.signal(u16::from(vector), &config, &sink);
    }
    let (config, mut copy) = restored(70, &config, &state);
    assert_eq!(copy, state);
    assert!(copy.is_pending(1) && copy.is_pending(69) && !copy.is_pending(2));
    assert!(sink.take().is_empty(), "a restore sends nothing");
    copy.table_write(69 * 16 + 12, &[0; 4], &config, &sink);
    assert_eq!(sink.take(), [0x40 + 69]);
    assert!(copy.is_pending(1));
}

#[test]
fn what_waits_behind_the_function_mask_survives_a_restore() {
    let (mut config, mut state) = function(2);
    let sink = Sent::default();
    set_control(&mut config, &mut state, ENABLE | FUNCTION_MASK, &sink);
    arm(&mut state, 0, &config, &sink);
    state.signal(0, &config, &sink);
    let (mut config, mut copy) = restored(2, &config, &state);
    assert!(sink.take().is_empty());
    set_control(&mut config, &mut copy, ENABLE, &sink);
    assert_eq!(sink.take(), [0x40]);
}

#[test]
fn a_table_of_another_size_is_refused() {
    let (_, mut state) = function(2);
    let (_, other) = function(3);
    let before = state.clone();
    assert_eq!(state.restore(&other.state()).unwrap_err().what, "MSI-X table");
    assert_eq!(state, before);
}

proptest! {
    #[test]
    fn no_access_panics(
        vectors in 1_u16..70,
        accesses in prop::collection::vec((any::<u64>(), 0_u64..1200, prop::collection::vec(any::<u8>(), 0..9)), 0..64),
    ) {
        let (mut config, mut state) = function(vectors);
        let sink = Sent::default();
        for (wild, near, mut data) in accesses {
            for offset in [wild, near] {
                state.table_write(offset, &data, &config, &sink);
                state.table_read(offset, &mut data);
                state.pba_read(offset, &mut data);
            }
            config.write(u16::try_from(near).unwrap(), &data);
            state.config_written(&config, &sink);
            state.signal(u16::try_from(wild & 0xff).unwrap(), &config, &sink);
        }
        let (new_config, new_state) = restored(vectors, &config, &state);
        prop_assert_eq!((new_config, &new_state), (config, &state));
        let mut control = [0; 4];
        state.table_read(12, &mut control);
        prop_assert_eq!(&control[1..], &[0; 3]);
    }
}
