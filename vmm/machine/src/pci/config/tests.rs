use proptest::prelude::*;

use super::*;

pub(crate) const IDENTITY: Identity = Identity {
    vendor: 0x1234,
    device: 0x5678,
    revision: 9,
    class: [0x01, 0x02, 0x03],
    subsystem_vendor: 0x5053,
    subsystem_device: 0x0005,
};

#[test]
fn header_of_an_endpoint() {
    let config = ConfigSpace::endpoint(&IDENTITY);
    assert_eq!(config.u32_at(0), 0x5678_1234);
    assert_eq!(config.u32_at(8), 0x0102_0309);
    assert_eq!(config.u8_at(0x0e), 0);
    assert_eq!(config.u32_at(0x2c), 0x0005_5053);
    assert_eq!(config.u8_at(0x34), 0, "no list yet");
    assert_eq!(config.u16_at(register::STATUS), 0);
}

#[test]
fn bars_of_32_bits_tell_their_size_and_claim_it() {
    let mut config = ConfigSpace::endpoint(&IDENTITY);
    config.add_bar(0, BarKind::Memory32, 0x4000).unwrap();
    config.write(0x10, &[0xff; 4]);
    assert_eq!(config.u32_at(0x10), 0xffff_c000);
    config.write(0x10, &0xc000_0000_u32.to_le_bytes());
    assert_eq!(config.decode(0xc000_0004), None, "memory space is off");
    config.write(register::COMMAND, &COMMAND_MEMORY.to_le_bytes());
    assert_eq!(config.decode(0xc000_0004), Some((0, 4)));
    assert_eq!(config.decode(0xc000_3fff), Some((0, 0x3fff)));
    assert_eq!(config.decode(0xc000_4000), None);
    assert_eq!(config.decode(0xbfff_ffff), None);
    config.write(0x14, &[0xff; 4]);
    assert_eq!(config.u32_at(0x14), 0, "an absent BAR reads zero");
}

#[test]
fn bars_of_64_bits_take_two_registers() {
    let mut config = ConfigSpace::endpoint(&IDENTITY);
    config.add_bar(2, BarKind::Memory64 { prefetchable: true }, 1 << 33).unwrap();
    config.write(0x18, &[0xff; 4]);
    config.write(0x1c, &[0xff; 4]);
    assert_eq!((config.u32_at(0x18), config.u32_at(0x1c)), (0x0000_000c, 0xffff_fffe));
    config.write(0x1c, &0x40_u32.to_le_bytes());
    config.write(register::COMMAND, &COMMAND_MEMORY.to_le_bytes());
    assert_eq!(config.decode(0x41_ffff_ffff), Some((2, 0x1_ffff_ffff)));
    assert_eq!(config.decode(0x42_0000_0000), None);
    assert_eq!(config.add_bar(3, BarKind::Memory32, 0x1000), Err(ConfigError::BarTaken(3)));
}

#[test]
fn bars_that_cannot_be_are_refused() {
    let mut config = ConfigSpace::endpoint(&IDENTITY);
    for size_bytes in [0, 8, 0x1800, 1 << 32] {
        let refused = config.add_bar(0, BarKind::Memory32, size_bytes);
        assert_eq!(refused, Err(ConfigError::BarSize { index: 0, size_bytes }));
    }
    assert_eq!(config.add_bar(5, BarKind::Memory64 { prefetchable: false }, 16), Err(ConfigError::BarTaken(5)));
    assert_eq!(config.add_bar(255, BarKind::Memory64 { prefetchable: false }, 16), Err(ConfigError::BarTaken(255)));
    assert_eq!(ConfigSpace::bridge(&IDENTITY).add_bar(2, BarKind::Memory32, 16), Err(ConfigError::BarTaken(2)));
}

#[test]
fn capabilities_form_a_list() {
    let mut config = ConfigSpace::endpoint(&IDENTITY);
    assert_eq!(config.add_capability(0x09, &[1; 11]), Ok(0x40));
    assert_eq!(config.add_capability(0x11, &[2; 10]), Ok(0x50));
    assert_eq!(config.u8_at(0x34), 0x40);
    assert_eq!((config.u8_at(0x40), config.u8_at(0x41)), (0x09, 0x50));
    assert_eq!((config.u8_at(0x50), config.u8_at(0x51)), (0x11, 0x00));
    assert_eq!(config.u16_at(register::STATUS), 0x10);
    assert_eq!(config.find_capability(0x11), Some(0x50));
    assert_eq!(config.find_capability(0x10), None);
    assert_eq!(config.add_capability(9, &[0; 162]), Ok(0x5c), "exactly to the end");
    assert_eq!(config.add_capability(9, &[]), Err(ConfigError::NoSpace { id: 9, bytes: 2 }));
}

#[test]
fn a_write_touches_the_bytes_it_names_and_no_others() {
    let mut config = ConfigSpace::endpoint(&IDENTITY);
    config.add_capability(9, &[0; 6]).unwrap();
    config.set_writable(0x44, &[0xff; 2]);
    config.set_write_one_to_clear(0x46, &[0xff; 2]);
    config.set_u16(0x46, 0x0108);
    config.write(0x44, &[0xff, 0xff]);
    assert_eq!(config.u16_at(0x46), 0x0108, "a 16-bit write beside write-1-to-clear bits");
    config.write(0x44, &[0x12, 0x34, 0x08, 0x00]);
    assert_eq!(config.u32_at(0x44), 0x0100_3412);
    config.write(0x47, &[0x01]);
    assert_eq!(config.u16_at(0x46), 0);
}

#[test]
fn a_state_of_another_layout_is_refused() {
    let mut config = ConfigSpace::endpoint(&IDENTITY);
    config.add_bar(0, BarKind::Memory32, 0x4000).unwrap();
    let before = config.clone();
    let mut larger = ConfigSpace::endpoint(&IDENTITY);
    larger.add_bar(0, BarKind::Memory32, 0x1000).unwrap();
    larger.write(register::COMMAND, &COMMAND_MEMORY.to_le_bytes());
    larger.write(register::BAR0, &0xc000_1000_u32.to_le_bytes());
    let refused = config.restore(&larger.state()).unwrap_err();
    assert_eq!(refused.what, "configuration space");
    assert!(refused.reason.starts_with("byte 0x11 is 0x10, but 0x00 here"), "{refused}");
    assert_eq!(config, before, "all or nothing");
    let other = Identity { revision: 8, ..IDENTITY };
    assert!(config.restore(&ConfigSpace::endpoint(&other).state()).is_err());
    let mut more = before.clone();
    more.add_capability(9, &[]).unwrap();
    assert!(config.restore(&more.state()).is_err());
}

#[test]
fn a_state_is_a_string_of_512_digits() {
    let text = serde_json::to_string(&ConfigSpace::endpoint(&IDENTITY).state()).unwrap();
    assert_eq!((text.len(), &text[..9]), (514, "\"34127856"));
    assert!(serde_json::from_str::<ConfigState>(&text.replace("34127856", "341278")).is_err());
}

#[test]
fn extended_space_reads_zero() {
    let mut config = ConfigSpace::endpoint(&IDENTITY);
    config.write(0x100, &[0xff; 4]);
    assert_eq!(config.u32_at(0x100), 0);
    assert_eq!(config.u32_at(0xffc), 0);
    let mut data = [0xff; 8];
    config.read(0xffff, &mut data);
    assert_eq!(data, [0; 8]);
}

proptest! {
    #[test]
    fn read_only_bits_never_change(
        writes in prop::collection::vec((0_u16..0x110, prop::collection::vec(any::<u8>(), 0..9)), 0..64),
    ) {
        let mut config = ConfigSpace::bridge(&IDENTITY);
        config.add_prefetchable_window();
        config.add_bar(0, BarKind::Memory64 { prefetchable: false }, 0x1000).unwrap();
        crate::pci::capability::add_express_root_port(&mut config, 3).unwrap();
        let before = config.clone();
        for (offset, data) in writes {
            config.write(offset, &data);
            let _ = config.decode(u64::from(offset) << 20);
        }
        for at in 0..CONFIG_BYTES {
            let guests = before.writable[at] | before.write_one_to_clear[at];
            prop_assert_eq!(before.bytes[at] & !guests, config.bytes[at] & !guests);
            prop_assert_eq!(config.bytes[at] & before.write_one_to_clear[at] & !before.bytes[at], 0);
        }
        let text = serde_json::to_string(&config.state()).unwrap();
        let mut restored = before.clone();
        restored.restore(&serde_json::from_str(&text).unwrap()).unwrap();
        prop_assert_eq!(&restored, &config);
        config.clear_guest_bits();
        prop_assert_eq!(config.u32_at(0), before.u32_at(0));
    }
}
