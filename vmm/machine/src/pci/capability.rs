//! Capabilities: ids, and the PCI Express one for endpoints and root ports.

use super::config::{ConfigError, ConfigSpace};

/// Message-signalled interrupts (PCI 3.0, 6.8.1).
pub const ID_MSI: u8 = 0x05;
/// Vendor specific; virtio describes its structures in these (virtio 1.2, 4.1.4).
pub const ID_VENDOR: u8 = 0x09;
/// PCI Express (PCIe 7.5.3).
pub const ID_EXPRESS: u8 = 0x10;
/// MSI-X (PCI 3.0, 6.8.2).
pub const ID_MSIX: u8 = 0x11;

/// Offset of the byte that points to the next capability.
pub(super) fn next_pointer(capability: u8) -> u16 {
    u16::from(capability).saturating_add(1)
}

/// Registers of the PCI Express capability, relative to it, and the bits that matter here (PCIe 7.5.3).
pub mod express {
    /// PCI Express capabilities register, 2 bytes.
    pub const CAPABILITIES: u16 = 0x02;
    /// Device capabilities, 4 bytes.
    pub const DEVICE_CAPABILITIES: u16 = 0x04;
    /// Device control, 2 bytes.
    pub const DEVICE_CONTROL: u16 = 0x08;
    /// Link capabilities, 4 bytes.
    pub const LINK_CAPABILITIES: u16 = 0x0c;
    /// Link control, 2 bytes.
    pub const LINK_CONTROL: u16 = 0x10;
    /// Link status, 2 bytes.
    pub const LINK_STATUS: u16 = 0x12;
    /// Slot capabilities, 4 bytes.
    pub const SLOT_CAPABILITIES: u16 = 0x14;
    /// Slot control, 2 bytes.
    pub const SLOT_CONTROL: u16 = 0x18;
    /// Slot status, 2 bytes.
    pub const SLOT_STATUS: u16 = 0x1a;
    /// Root control, 2 bytes.
    pub const ROOT_CONTROL: u16 = 0x1c;
    /// Link capabilities 2, 4 bytes.
    pub const LINK_CAPABILITIES_2: u16 = 0x2c;
    /// Link control 2, 2 bytes.
    pub const LINK_CONTROL_2: u16 = 0x30;
    /// Length of the capability at version 2.
    pub const BYTES: usize = 0x3c;

    /// Link control: the port takes the link down (PCIe 7.5.3.7).
    pub const LINK_DISABLE: u16 = 1 << 4;
    /// Link status: the data link layer is up (PCIe 7.5.3.8).
    pub const LINK_ACTIVE: u16 = 1 << 13;
    /// Slot control: presence detect changed enable (PCIe 7.5.3.10).
    pub const PRESENCE_CHANGED_ENABLE: u16 = 1 << 3;
    /// Slot control: hot-plug interrupt enable.
    pub const HOT_PLUG_INTERRUPT_ENABLE: u16 = 1 << 5;
    /// Slot control: data link layer state changed enable.
    pub const LINK_CHANGED_ENABLE: u16 = 1 << 12;
    /// Slot status: presence detect changed (PCIe 7.5.3.11).
    pub const PRESENCE_CHANGED: u16 = 1 << 3;
    /// Slot status: something is in the slot.
    pub const PRESENCE_STATE: u16 = 1 << 6;
    /// Slot status: data link layer state changed.
    pub const LINK_CHANGED: u16 = 1 << 8;

    /// 2.5 GT/s, one lane, as link capabilities and link status write it. Linux takes a width of 0 for a failed link.
    pub(super) const LINK_X1: u16 = 0x0011;
}

/// Role-based error reporting, which every device since PCIe 1.1 must have (PCIe 7.5.3.3); 128-byte payloads.
const DEVICE_CAPABILITIES: u32 = 1 << 15;
/// Relaxed ordering, no snoop, 512-byte read requests: the reset value (PCIe 7.5.3.4).
pub(super) const DEVICE_CONTROL_RESET: u16 = 0x2810;
/// Error reporting, relaxed ordering, no snoop, size of read requests. The payload size has one value and is fixed.
const DEVICE_CONTROL_WRITABLE: u16 = 0x781f;
/// Link control 2 and link capabilities 2: 2.5 GT/s is the target and the only speed.
const TARGET_SPEED: u16 = 0x0001;
const SUPPORTED_SPEEDS: u32 = 1 << 1;

/// Version 2 with device/port type and the slot bit (PCIe 7.5.3.2).
const ENDPOINT: u16 = 0x0002;
const ROOT_PORT_WITH_SLOT: u16 = 0x0142;

/// Link capabilities: the port reports the state of the link, so Linux waits 100 ms and not 1.1 s (pciehp_hpc.c,
/// pciehp_check_link_status; pci.c, pcie_wait_for_link_delay).
const LINK_ACTIVE_REPORTING: u32 = 1 << 20;
/// Link control bits of a root port: link disable, common clock, extended synch.
const LINK_CONTROL_WRITABLE: u16 = express::LINK_DISABLE | 1 << 6 | 1 << 7;
/// Slot capabilities: hot-plug surprise, hot-plug capable, no command completed. Nothing else: an attention button
/// brings a 5 s blink, a power controller 1 s at each removal, command completion an event at each write to slot
/// control.
const SLOT_CAPABILITIES: u32 = 1 << 5 | 1 << 6 | 1 << 18;
/// Slot control bits that lead to something in such a slot; the others are hard-wired to zero (PCIe 7.5.3.10).
const SLOT_CONTROL_WRITABLE: u16 =
    express::PRESENCE_CHANGED_ENABLE | express::HOT_PLUG_INTERRUPT_ENABLE | express::LINK_CHANGED_ENABLE;
/// Root control: error and PME interrupt enables, kept and without effect (PCIe 7.5.3.12).
const ROOT_CONTROL_WRITABLE: u16 = 0x000f;

/// Adds the PCI Express capability of an endpoint. Returns its offset.
///
/// # Errors
/// If it does not fit.
pub fn add_express_endpoint(config: &mut ConfigSpace) -> Result<u8, ConfigError> {
    let at = add_express(config, ENDPOINT)?;
    config.set_u32(at + express::LINK_CAPABILITIES, u32::from(express::LINK_X1));
    offset_of(at)
}

/// Adds the PCI Express capability of a root port with a hot-plug slot (PCIe 6.7). `number` is that of both the port
/// and the slot; Linux names the slot after it (drivers/pci/slot.c, make_slot_name), so it should be unique. Returns
/// the offset of the capability.
///
/// # Errors
/// If it does not fit.
pub fn add_express_root_port(config: &mut ConfigSpace, number: u8) -> Result<u8, ConfigError> {
    use express::{LINK_CAPABILITIES, LINK_CONTROL, ROOT_CONTROL, SLOT_CONTROL, SLOT_STATUS};
    let at = add_express(config, ROOT_PORT_WITH_SLOT)?;
    let link = u32::from(express::LINK_X1) | LINK_ACTIVE_REPORTING | u32::from(number) << 24;
    config.set_u32(at + LINK_CAPABILITIES, link);
    config.set_writable(at + LINK_CONTROL, &LINK_CONTROL_WRITABLE.to_le_bytes());
    config.set_u32(at + express::SLOT_CAPABILITIES, SLOT_CAPABILITIES | u32::from(number) << 19);
    config.set_writable(at + SLOT_CONTROL, &SLOT_CONTROL_WRITABLE.to_le_bytes());
    let changed = express::PRESENCE_CHANGED | express::LINK_CHANGED;
    config.set_write_one_to_clear(at + SLOT_STATUS, &changed.to_le_bytes());
    config.set_writable(at + ROOT_CONTROL, &ROOT_CONTROL_WRITABLE.to_le_bytes());
    offset_of(at)
}

/// What both have in common.
fn add_express(config: &mut ConfigSpace, kind: u16) -> Result<u16, ConfigError> {
    let at = u16::from(config.add_capability(ID_EXPRESS, &[0; express::BYTES - 2])?);
    config.set_u16(at + express::CAPABILITIES, kind);
    config.set_u32(at + express::DEVICE_CAPABILITIES, DEVICE_CAPABILITIES);
    config.set_u16(at + express::DEVICE_CONTROL, DEVICE_CONTROL_RESET);
    config.set_writable(at + express::DEVICE_CONTROL, &DEVICE_CONTROL_WRITABLE.to_le_bytes());
    config.set_u16(at + express::LINK_STATUS, express::LINK_X1);
    config.set_u32(at + express::LINK_CAPABILITIES_2, SUPPORTED_SPEEDS);
    config.set_u16(at + express::LINK_CONTROL_2, TARGET_SPEED);
    Ok(at)
}

fn offset_of(at: u16) -> Result<u8, ConfigError> {
    u8::try_from(at).map_err(|_| ConfigError::NoSpace { id: ID_EXPRESS, bytes: express::BYTES })
}
