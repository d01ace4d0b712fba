use proptest::prelude::*;

use crate::interrupt::MsiMessage;
use crate::pci::capability::{ID_EXPRESS, ID_MSI, express};
use crate::pci::config::register;
use crate::pci::test_devices::{Card, Log, Seen, WINDOW, find, machine, read16, read32, set_up_card, set_up_port};
use crate::pci::{GoneReads, RootComplex, SharedFunction, SlotError, SlotEvent};

const PRESENCE: u16 = express::PRESENCE_CHANGED;
const LINK: u16 = express::LINK_CHANGED;
const EVENTS: u16 = PRESENCE | LINK;
const ENABLES: u16 =
    express::PRESENCE_CHANGED_ENABLE | express::LINK_CHANGED_ENABLE | express::HOT_PLUG_INTERRUPT_ENABLE;
const MESSAGE: MsiMessage = MsiMessage { address: 0x1_fee0_1000, data: 0x4021 };

/// Writes 16 bits of the first port's PCI Express capability.
fn write(root: &RootComplex, register: u16, value: u16) {
    root.config_write(0, 1, 0, find(root, 0, 1, ID_EXPRESS) + register, &value.to_le_bytes());
}

/// Reads 16 bits of it.
fn read(root: &RootComplex, register: u16) -> u16 {
    read16(root, 0, 1, find(root, 0, 1, ID_EXPRESS) + register)
}

fn set_msi(root: &RootComplex, enabled: bool) {
    let at = find(root, 0, 1, ID_MSI);
    root.config_write(0, 1, 0, at + 4, &0xfee0_1003_u32.to_le_bytes());
    root.config_write(0, 1, 0, at + 8, &1_u32.to_le_bytes());
    root.config_write(0, 1, 0, at + 12, &0x4021_u16.to_le_bytes());
    root.config_write(0, 1, 0, at + 2, &u16::from(enabled).to_le_bytes());
}

/// A guest whose hot-plug driver is up.
fn armed() -> (RootComplex, std::sync::Arc<Log>) {
    let (root, log) = machine(2, GoneReads::AllOnes);
    set_up_port(&root, 1);
    set_msi(&root, true);
    write(&root, express::SLOT_STATUS, EVENTS);
    write(&root, express::SLOT_CONTROL, ENABLES);
    log.take();
    (root, log)
}

#[test]
fn a_port_shows_linux_what_its_driver_wants() {
    let (root, _) = machine(3, GoneReads::AllOnes);
    let mut numbers = Vec::new();
    for slot in root.slots() {
        let device = slot.device();
        assert_eq!(read32(&root, 0, device, 8) >> 8, 0x06_0400);
        assert_eq!(read16(&root, 0, device, register::HEADER_TYPE) & 0xff, 1);
        let at = find(&root, 0, device, ID_EXPRESS);
        assert_eq!(read16(&root, 0, device, at + 2), 0x0142, "version 2, root port, slot implemented");
        let link = read32(&root, 0, device, at + express::LINK_CAPABILITIES);
        assert_ne!(link & 1 << 20, 0, "link-active reporting");
        assert_ne!(read16(&root, 0, device, at + express::LINK_STATUS) & 0x3f0, 0, "a width");
        assert_eq!(read16(&root, 0, device, at + express::LINK_STATUS) & 1 << 11, 0, "not training");
        let capabilities = read32(&root, 0, device, at + express::SLOT_CAPABILITIES);
        assert_eq!(capabilities & 0x7_ffff, 0x4_0060, "surprise, capable, no command completed; no button, no power");
        numbers.push(capabilities >> 19);
    }
    assert_eq!(numbers, [1, 2, 3], "unique");
    assert_eq!(root.slot(2).unwrap().address(), "0000:00:03.0");
    assert!(root.slot(3).is_none());
}

#[test]
fn slot_control_keeps_only_what_the_slot_has() {
    let (root, _) = machine(1, GoneReads::AllOnes);
    write(&root, express::SLOT_CONTROL, 0xffff);
    assert_eq!(read(&root, express::SLOT_CONTROL), ENABLES);
}

#[test]
fn plugging_in_shows_everything_at_once_and_sends_one_message() {
    let (root, log) = armed();
    let slot = root.slot(0).unwrap();
    assert_eq!(read(&root, express::SLOT_STATUS), 0);
    assert_eq!(read(&root, express::LINK_STATUS) & express::LINK_ACTIVE, 0);
    slot.plug(Card::shared()).unwrap();
    assert_eq!(log.take(), [Seen::Event(0, SlotEvent::Interrupt), Seen::Message(MESSAGE)]);
    assert_eq!(read(&root, express::SLOT_STATUS), EVENTS | express::PRESENCE_STATE);
    assert_ne!(read(&root, express::LINK_STATUS) & express::LINK_ACTIVE, 0);
    assert_eq!(read32(&root, 2, 0, 0), 0xcafe_1234);
    assert_eq!(slot.plug(Card::shared()), Err(SlotError::Occupied(0)));
    assert!(log.take().is_empty());
}

#[test]
fn surprise_removal_drops_everything_at_once() {
    let (root, log) = armed();
    let slot = root.slot(0).unwrap();
    let card = Card::shared();
    slot.plug(card.clone()).unwrap();
    write(&root, express::SLOT_STATUS, EVENTS);
    log.take();
    slot.surprise_remove().unwrap();
    assert_eq!(log.take(), [Seen::Event(0, SlotEvent::Interrupt), Seen::Message(MESSAGE)]);
    assert_eq!(read(&root, express::SLOT_STATUS), EVENTS);
    assert_eq!(read(&root, express::LINK_STATUS) & express::LINK_ACTIVE, 0);
    assert_ne!(read(&root, express::LINK_STATUS) & 0x3f0, 0);
    assert_eq!(read32(&root, 2, 0, 0), u32::MAX);
    assert!(!slot.is_occupied());
    assert_eq!(card.lock().unwrap().resets, 1);
    assert!(matches!(slot.surprise_remove(), Err(SlotError::Empty(0))));
}

#[test]
fn no_second_message_until_all_events_are_cleared() {
    let (root, log) = armed();
    let slot = root.slot(0).unwrap();
    slot.plug(Card::shared()).unwrap();
    assert_eq!(log.messages(), 1);
    let card = slot.surprise_remove().unwrap();
    write(&root, express::SLOT_STATUS, PRESENCE);
    slot.plug(card).unwrap();
    assert_eq!(log.messages(), 0, "the link's event was still there");
    write(&root, express::SLOT_STATUS, EVENTS);
    assert_eq!(log.messages(), 0);
    slot.surprise_remove().unwrap();
    assert_eq!(log.messages(), 1);
}

#[test]
fn an_event_behind_a_disabled_interrupt_is_told_when_it_is_enabled() {
    // Each of the conditions of PCIe 6.7.3.4 comes last once.
    let (root, log) = armed();
    write(&root, express::SLOT_CONTROL, ENABLES & !express::HOT_PLUG_INTERRUPT_ENABLE);
    root.slot(0).unwrap().plug(Card::shared()).unwrap();
    assert_eq!(log.messages(), 0);
    write(&root, express::SLOT_CONTROL, ENABLES);
    assert_eq!(log.messages(), 1, "hot-plug interrupt enable");
    write(&root, express::SLOT_CONTROL, ENABLES);
    assert_eq!(log.messages(), 0, "the same value again is no edge");
    write(&root, express::SLOT_CONTROL, express::HOT_PLUG_INTERRUPT_ENABLE);
    write(&root, express::SLOT_CONTROL, express::HOT_PLUG_INTERRUPT_ENABLE | express::LINK_CHANGED_ENABLE);
    assert_eq!(log.messages(), 1, "the enable of the event");
    set_msi(&root, false);
    set_msi(&root, true);
    assert_eq!(log.messages(), 1, "MSI itself");
}

#[test]
fn an_event_that_is_not_enabled_is_not_told() {
    let (root, log) = armed();
    write(&root, express::SLOT_CONTROL, express::HOT_PLUG_INTERRUPT_ENABLE);
    root.slot(0).unwrap().plug(Card::shared()).unwrap();
    assert_eq!(log.messages(), 0);
    assert_eq!(read(&root, express::SLOT_STATUS) & EVENTS, EVENTS);
}

#[test]
fn a_write_to_slot_control_leaves_slot_status_alone() {
    let (root, log) = armed();
    root.slot(0).unwrap().plug(Card::shared()).unwrap();
    log.take();
    write(&root, express::SLOT_CONTROL, ENABLES | EVENTS);
    assert_eq!(read(&root, express::SLOT_STATUS) & EVENTS, EVENTS);
    assert_eq!(log.take(), [Seen::Event(0, SlotEvent::ControlWritten(ENABLES))]);
    let at = find(&root, 0, 1, ID_EXPRESS);
    root.config_write(0, 1, 0, at + express::SLOT_STATUS + 1, &[0xff]);
    let cleared = SlotEvent::EventsCleared { presence: false, link: true };
    assert_eq!(log.take(), [Seen::Event(0, cleared)], "the high byte holds the link's event");
    let both = u32::from(ENABLES) | u32::from(EVENTS) << 16;
    root.config_write(0, 1, 0, at + express::SLOT_CONTROL, &both.to_le_bytes());
    let cleared = SlotEvent::EventsCleared { presence: true, link: false };
    assert_eq!(log.take(), [Seen::Event(0, cleared), Seen::Event(0, SlotEvent::ControlWritten(ENABLES))]);
}

#[test]
fn clearing_nothing_is_no_evidence() {
    let (root, log) = armed();
    write(&root, express::SLOT_STATUS, EVENTS);
    assert!(log.take().is_empty());
}

#[test]
fn link_disable_is_a_surprise_removal_of_the_guests_own() {
    let (root, log) = armed();
    let card = Card::shared();
    root.slot(0).unwrap().plug(card.clone()).unwrap();
    set_up_card(&root);
    write(&root, express::SLOT_STATUS, EVENTS);
    log.take();
    write(&root, express::LINK_CONTROL, express::LINK_DISABLE);
    let disabled = Seen::Event(0, SlotEvent::LinkDisabled(true));
    assert_eq!(log.take(), [disabled, Seen::Event(0, SlotEvent::Interrupt), Seen::Message(MESSAGE)]);
    assert_eq!(read(&root, express::SLOT_STATUS), EVENTS, "events, and no presence");
    assert_eq!(read(&root, express::LINK_STATUS) & express::LINK_ACTIVE, 0);
    assert_eq!(read32(&root, 2, 0, 0), u32::MAX);
    let mut data = [0; 4];
    root.memory_read(WINDOW, &mut data);
    assert_eq!(data, [0xff; 4]);
    assert!(root.slot(0).unwrap().is_occupied(), "the card is where it was");
    assert_eq!(card.lock().unwrap().resets, 1);

    write(&root, express::SLOT_STATUS, EVENTS);
    log.take();
    write(&root, express::LINK_CONTROL, 0);
    assert_eq!(log.messages(), 1);
    assert_eq!(read(&root, express::SLOT_STATUS), EVENTS | express::PRESENCE_STATE);
    assert_eq!(read32(&root, 2, 0, 0), 0xcafe_1234);
    assert_eq!(read16(&root, 2, 0, register::COMMAND), 0, "it came back as from a reset");
}

#[test]
fn a_card_plugged_in_below_a_disabled_link_shows_when_the_link_is_enabled() {
    let (root, log) = armed();
    write(&root, express::LINK_CONTROL, express::LINK_DISABLE);
    root.slot(0).unwrap().plug(Card::shared()).unwrap();
    assert_eq!(log.messages(), 0);
    assert_eq!(read(&root, express::SLOT_STATUS), 0);
    write(&root, express::LINK_CONTROL, 0);
    assert_eq!(log.messages(), 1);
    write(&root, express::LINK_CONTROL, express::LINK_DISABLE);
    log.take();
    root.slot(0).unwrap().surprise_remove().unwrap();
    assert!(log.take().is_empty(), "it was gone for the guest already");
}

#[test]
fn a_slot_knows_whether_somebody_listens() {
    let (root, _) = machine(1, GoneReads::AllOnes);
    let slot = root.slot(0).unwrap();
    write(&root, express::SLOT_CONTROL, ENABLES);
    assert!(!slot.is_armed(), "no message to send");
    set_msi(&root, true);
    assert!(slot.is_armed());
    write(&root, express::SLOT_CONTROL, 0);
    assert!(!slot.is_armed());
    assert_eq!(slot.secondary_bus(), None);
}

#[test]
fn slots_do_not_share_anything() {
    let (root, log) = armed();
    root.slot(1).unwrap().plug(Card::shared()).unwrap();
    assert!(log.take().is_empty());
    assert_eq!(read(&root, express::SLOT_STATUS), 0);
    assert_eq!(root.slots().filter(|slot| slot.is_occupied()).map(crate::pci::Slot::index).collect::<Vec<_>>(), [1]);
}

/// A second machine whose first slot was restored from this one's, with the same card.
fn restored(root: &RootComplex, card: Option<SharedFunction>) -> (RootComplex, std::sync::Arc<Log>) {
    let (copy, log) = machine(2, GoneReads::AllOnes);
    let (registers, occupied) = root.slot(0).unwrap().registers();
    assert_eq!(occupied, card.is_some());
    let text = serde_json::to_string(&registers).unwrap();
    copy.slot(0).unwrap().restore(&serde_json::from_str(&text).unwrap(), card).unwrap();
    assert!(log.take().is_empty(), "a restore is no event");
    (copy, log)
}

#[test]
fn events_and_their_card_survive_a_restore() {
    let (root, _) = armed();
    let card = Card::shared();
    root.slot(0).unwrap().plug(card.clone()).unwrap();
    let (copy, log) = restored(&root, Some(card.clone()));
    assert_eq!(read(&copy, express::SLOT_STATUS), EVENTS | express::PRESENCE_STATE);
    assert_ne!(read(&copy, express::LINK_STATUS) & express::LINK_ACTIVE, 0);
    assert_eq!(read32(&copy, 2, 0, 0), 0xcafe_1234, "the bus has its number");
    assert!(copy.slot(0).unwrap().is_armed());
    copy.slot(0).unwrap().surprise_remove().unwrap();
    assert!(log.take().is_empty(), "the message for these events was sent before");
    assert_eq!(card.lock().unwrap().resets, 1);
    write(&copy, express::SLOT_STATUS, EVENTS);
    let cleared = SlotEvent::EventsCleared { presence: true, link: true };
    assert_eq!(log.take(), [Seen::Event(0, cleared)]);
    copy.slot(0).unwrap().plug(card).unwrap();
    assert_eq!(log.messages(), 1);
}

#[test]
fn a_disabled_link_survives_a_restore() {
    let (root, _) = armed();
    let card = Card::shared();
    root.slot(0).unwrap().plug(card.clone()).unwrap();
    write(&root, express::LINK_CONTROL, express::LINK_DISABLE);
    write(&root, express::SLOT_STATUS, EVENTS);
    let (copy, log) = restored(&root, Some(card.clone()));
    assert_eq!((read(&copy, express::SLOT_STATUS), read32(&copy, 2, 0, 0)), (0, u32::MAX));
    assert!(copy.slot(0).unwrap().is_occupied());
    assert_eq!(card.lock().unwrap().resets, 1, "as often as the link went down");
    write(&copy, express::LINK_CONTROL, 0);
    assert_eq!(log.messages(), 1);
    assert_eq!(read32(&copy, 2, 0, 0), 0xcafe_1234);
}

#[test]
fn a_slot_takes_no_state_but_its_own() {
    let (root, log) = machine(2, GoneReads::AllOnes);
    let (first, second) = (root.slot(0).unwrap(), root.slot(1).unwrap());
    let before = second.registers();
    assert_eq!(second.restore(&first.registers().0, Some(Card::shared())).unwrap_err().what, "configuration space");
    assert_eq!(second.registers(), before, "neither registers nor card");
    second.plug(Card::shared()).unwrap();
    assert_eq!(second.restore(&before.0, None).unwrap_err().what, "slot");
    assert!(second.is_occupied());
    assert!(log.take().is_empty());
}

proptest! {
    /// The edge rule against a model: a message is sent exactly when the conditions go from false to true.
    #[test]
    fn messages_follow_the_edge(steps in prop::collection::vec((0_u8..6, any::<u16>()), 1..80)) {
        let (root, log) = armed();
        let slot = root.slot(0).unwrap();
        let pending = |root: &RootComplex| {
            let (control, status) = (read(root, express::SLOT_CONTROL), read(root, express::SLOT_STATUS));
            let msi = read16(root, 0, 1, find(root, 0, 1, ID_MSI) + 2) & 1 != 0;
            let presence = control & status & PRESENCE != 0;
            let link = control & express::LINK_CHANGED_ENABLE != 0 && status & LINK != 0;
            msi && control & express::HOT_PLUG_INTERRUPT_ENABLE != 0 && (presence || link)
        };
        let mut before = pending(&root);
        for (kind, value) in steps {
            match kind {
                0 if slot.is_occupied() => drop(slot.surprise_remove()),
                0 => slot.plug(Card::shared()).unwrap(),
                1 => write(&root, express::SLOT_CONTROL, value),
                2 => write(&root, express::SLOT_STATUS, value),
                3 => write(&root, express::LINK_CONTROL, value),
                4 => write(&root, express::SLOT_CONTROL, ENABLES),
                _ => {
                    let at = find(&root, 0, 1, ID_MSI) + 2;
                    root.config_write(0, 1, 0, at, &(value & 1).to_le_bytes());
                }
            }
            let after = pending(&root);
            prop_assert_eq!(log.messages(), usize::from(after && !before));
            let disabled = read(&root, express::LINK_CONTROL) & express::LINK_DISABLE != 0;
            let present = read(&root, express::SLOT_STATUS) & express::PRESENCE_STATE != 0;
            let active = read(&root, express::LINK_STATUS) & express::LINK_ACTIVE != 0;
            prop_assert_eq!((present, active), (slot.is_occupied() && !disabled, present));
            before = after;
        }
    }
}
