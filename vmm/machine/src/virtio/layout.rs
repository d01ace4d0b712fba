//! Where things are: the BAR, and the capabilities that tell the driver (virtio 1.2, 4.1.4).

use super::common::COMMON_BYTES;
use crate::pci::capability::ID_VENDOR;
use crate::pci::{BarKind, ConfigError, ConfigSpace, Msix, MsixLayout};

/// The one BAR, 32-bit memory.
pub(super) const BAR: u8 = 0;
const BAR_BYTES: u64 = 0x8000;

/// One page each, so that the MSI-X table shares its page with nothing (PCI 3.0, 6.8.2).
const PAGE_BYTES: u64 = 0x1000;
const ISR_OFFSET: u32 = 0x1000;
const DEVICE_OFFSET: u32 = 0x2000;
const NOTIFY_OFFSET: u32 = 0x3000;
const TABLE_OFFSET: u32 = 0x4000;
const PBA_OFFSET: u32 = 0x5000;

/// Each queue has a notification address of its own, this many bytes apart (4.1.4.4).
pub(super) const NOTIFY_MULTIPLIER: u32 = 4;

/// As many queues as a function may have: a vector each and one for the configuration, well inside the table's page.
pub(super) const MAX_QUEUES: usize = 64;

/// `cfg_type` (4.1.4).
const TYPE_COMMON: u8 = 1;
const TYPE_NOTIFY: u8 = 2;
const TYPE_ISR: u8 = 3;
const TYPE_DEVICE: u8 = 4;
const TYPE_WINDOW: u8 = 5;

/// Fields of the capability, relative to its start (4.1.4); what the window capability adds is at the end.
const FIELD_BAR: u16 = 4;
const FIELD_OFFSET: u16 = 8;
const FIELD_LENGTH: u16 = 12;
const FIELD_DATA: u16 = 16;

/// What is at an offset of the BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Region {
    Common,
    Isr,
    Device,
    Notify,
    Table,
    Pending,
    Nothing,
}

/// The region an access begins in, and the offset therein.
pub(super) fn region(offset: u64) -> (Region, u64) {
    let region = match offset / PAGE_BYTES {
        0 => Region::Common,
        1 => Region::Isr,
        2 => Region::Device,
        3 => Region::Notify,
        4 => Region::Table,
        5 => Region::Pending,
        _ => Region::Nothing,
    };
    (region, offset % PAGE_BYTES)
}

/// Lays out BAR and capabilities. Gives the MSI-X state and the window capability.
pub(super) fn add_to(config: &mut ConfigSpace, queues: u16, device_bytes: u32) -> Result<(Msix, Window), ConfigError> {
    config.add_bar(BAR, BarKind::Memory32, BAR_BYTES)?;
    let msix = Msix::add_to(
        config,
        &MsixLayout {
            vectors: queues.saturating_add(1),
            table_bar: BAR,
            table_offset: TABLE_OFFSET,
            pba_bar: BAR,
            pba_offset: PBA_OFFSET,
        },
    )?;
    add(config, TYPE_COMMON, 0, COMMON_BYTES, None)?;
    add(config, TYPE_ISR, ISR_OFFSET, 1, None)?;
    if device_bytes > 0 {
        add(config, TYPE_DEVICE, DEVICE_OFFSET, device_bytes, None)?;
    }
    let notify_bytes = u32::from(queues) * NOTIFY_MULTIPLIER;
    add(config, TYPE_NOTIFY, NOTIFY_OFFSET, notify_bytes, Some(NOTIFY_MULTIPLIER))?;
    let window = u16::from(add(config, TYPE_WINDOW, 0, 0, Some(0))?);
    config.set_writable(window + FIELD_BAR, &[0xff]);
    config.set_writable(window + FIELD_OFFSET, &[0xff; 12]);
    Ok((msix, Window { capability: window }))
}

/// One `struct virtio_pci_cap`, with four bytes behind it where `extra` is given.
fn add(config: &mut ConfigSpace, kind: u8, offset: u32, length: u32, extra: Option<u32>) -> Result<u8, ConfigError> {
    let cap_len = if extra.is_some() { 20 } else { 16 };
    let mut body = vec![cap_len, kind, BAR, 0, 0, 0];
    body.extend(offset.to_le_bytes());
    body.extend(length.to_le_bytes());
    body.extend(extra.iter().flat_map(|value| value.to_le_bytes()));
    config.add_capability(ID_VENDOR, &body)
}

/// The PCI configuration access capability: a BAR access through configuration space, for firmware that has not placed
/// the BAR (4.1.4.9).
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    capability: u16,
}

impl Window {
    /// Whether an access to configuration space touches the window's data.
    pub(super) fn is_touched(self, offset: u16, length: usize) -> bool {
        let data = usize::from(self.capability + FIELD_DATA);
        let offset = usize::from(offset);
        offset < data + 4 && data < offset.saturating_add(length)
    }

    /// The BAR access the driver has set up: offset and length. None if it is not one the driver may make.
    pub(super) fn target(self, config: &ConfigSpace) -> Option<(u64, usize)> {
        let offset = config.u32_at(self.capability + FIELD_OFFSET);
        let length = config.u32_at(self.capability + FIELD_LENGTH);
        let valid = config.u8_at(self.capability + FIELD_BAR) == BAR
            && matches!(length, 1 | 2 | 4)
            && offset.is_multiple_of(length)
            && u64::from(offset) + u64::from(length) <= BAR_BYTES;
        valid.then_some((u64::from(offset), length as usize))
    }

    /// The data field.
    pub(super) fn data(self, config: &ConfigSpace) -> [u8; 4] {
        config.u32_at(self.capability + FIELD_DATA).to_le_bytes()
    }

    /// Sets the data field, as a read through the window does.
    pub(super) fn set_data(self, config: &mut ConfigSpace, data: [u8; 4]) {
        config.set_bytes(self.capability + FIELD_DATA, &data);
    }
}
