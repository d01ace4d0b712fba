//! The DSDT: processors, serial port, PCI host bridge with `_OSC`, power-off.

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Else, Equal, IO, If, Interrupt,
    Memory32Fixed, Method, Name, ONE, Or, Package, Path, ResourceTemplate, Return, Scope, Uuid, ZERO,
};

use crate::memory;
use crate::pci::legacy;
use crate::serial;

/// `_OSC` of a PCI host bridge (PCI Firmware 3.3, 4.5.1).
const OSC_UUID: &str = "33DB4D5B-1FF7-401C-9657-7441C03DD766";
/// What the guest may control: native hot-plug (bit 0) and the PCIe capability structure (bit 4). Not PME, AER, LTR:
/// the root ports have none.
const OSC_GRANTED: u32 = 1 << 0 | 1 << 4;
/// "Unrecognised UUID" of the status word.
const OSC_UNKNOWN_UUID: u8 = 1 << 2;

/// The definition block without its header.
pub(super) fn body(cpus: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    processors(cpus, &mut bytes);
    serial_port(&mut bytes);
    host_bridge(&mut bytes);
    // SLP_TYP 5 goes to the sleep control register (ACPI 6.5, 4.8.3.7).
    Name::new("_S5_".into(), &Package::new(vec![&5u8, &ZERO, &ZERO, &ZERO])).to_aml_bytes(&mut bytes);
    bytes
}

fn processors(cpus: u8, bytes: &mut Vec<u8>) {
    for index in 0..cpus {
        let name = format!("CP{index:02X}");
        let id = Name::new("_HID".into(), &"ACPI0007");
        let uid = Name::new("_UID".into(), &index);
        let device = Device::new(Path::new(&name), vec![&id, &uid]);
        Scope::new("_SB_".into(), vec![&device]).to_aml_bytes(bytes);
    }
}

/// The guest has no legacy interrupts of its own on hardware-reduced ACPI: the port has to name its own.
fn serial_port(bytes: &mut Vec<u8>) {
    let ports = IO::new(serial::PORT, serial::PORT, 1, serial::PORTS);
    let interrupt = Interrupt::new(true, true, false, false, serial::GSI);
    let device = [
        &Name::new("_HID".into(), &EISAName::new("PNP0501")) as &dyn Aml,
        &Name::new("_UID".into(), &ZERO),
        &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&ports, &interrupt])),
    ];
    let device = Device::new("COM1".into(), device.to_vec());
    Scope::new("_SB_".into(), vec![&device]).to_aml_bytes(bytes);
}

fn host_bridge(bytes: &mut Vec<u8>) {
    let buses = AddressSpace::new_bus_number(0u16, u16::from(memory::ECAM_LAST_BUS));
    let ports = IO::new(*legacy::PORTS.start(), *legacy::PORTS.start(), 1, 8);
    let window = AddressSpace::new_memory(
        AddressSpaceCacheable::NotCacheable,
        true,
        memory_word(memory::PCI_WINDOW.start),
        memory_word(memory::PCI_WINDOW.end - 1),
        None,
    );
    let bridge = [
        &Name::new("_HID".into(), &EISAName::new("PNP0A08")) as &dyn Aml,
        &Name::new("_CID".into(), &EISAName::new("PNP0A03")),
        &Name::new("_UID".into(), &ZERO),
        &Name::new("_SEG".into(), &ZERO),
        &Name::new("_BBN".into(), &ZERO),
        // Memory accesses need no translation; DMA is coherent.
        &Name::new("_CCA".into(), &ONE),
        &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&buses, &ports, &window])),
    ];
    let osc = osc();
    let mut bridge = bridge.to_vec();
    bridge.push(&osc);
    let bridge = Device::new("PCI0".into(), bridge);

    // Linux wants ECAM reserved by a motherboard device too (PCI Firmware 3.3, 4.1.2).
    let ecam = Memory32Fixed::new(true, memory_word(memory::ECAM_BASE), memory_word(memory::ECAM_BYTES));
    let board = [
        &Name::new("_HID".into(), &EISAName::new("PNP0C02")) as &dyn Aml,
        &Name::new("_UID".into(), &ZERO),
        &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&ecam])),
    ];
    let board = Device::new("MBRD".into(), board.to_vec());
    Scope::new("_SB_".into(), vec![&bridge, &board]).to_aml_bytes(bytes);
}

/// `_OSC(uuid, revision, count, capabilities)`: hands native hot-plug to the guest.
fn osc() -> impl Aml {
    struct Osc;
    impl Aml for Osc {
        fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
            let status = Path::new("CDW1");
            let control = Path::new("CDW3");
            let eight = 8u8;
            let status_field = CreateDWordField::new(&status, &Arg(3), &ZERO);
            let control_field = CreateDWordField::new(&control, &Arg(3), &eight);
            let mask = And::new(&control, &control, &OSC_GRANTED);
            let unknown = Or::new(&status, &status, &OSC_UNKNOWN_UUID);
            let uuid = Uuid::new(OSC_UUID);
            let is_pci = Equal::new(&Arg(0), &uuid);
            let granted = If::new(&is_pci, vec![&control_field, &mask]);
            let refused = Else::new(vec![&unknown]);
            let answer = Return::new(&Arg(3));
            Method::new("_OSC".into(), 4, true, vec![&status_field, &granted, &refused, &answer]).to_aml_bytes(sink);
        }
    }
    Osc
}

/// Everything the DSDT names lies below 4 GiB.
fn memory_word(address: u64) -> u32 {
    u32::try_from(address).unwrap_or(u32::MAX)
}
