//! The messages of virtio 1.2, 5.18.6 and 5.18.7.

use serde::{Deserialize, Serialize};

/// Requests (5.18.2).
pub const REQUEST_QUEUE: u16 = 0;
/// Interrupts; there only with the feature (5.18.2).
pub const EVENT_QUEUE: u16 = 1;

/// Bytes of `struct virtio_gpio_request`.
pub(super) const REQUEST_BYTES: usize = 8;
/// Bytes of `struct virtio_gpio_response`.
pub(super) const RESPONSE_BYTES: u64 = 2;
/// Bytes of `struct virtio_gpio_irq_request`.
pub(super) const EVENT_REQUEST_BYTES: usize = 2;

/// `VIRTIO_GPIO_STATUS_OK`.
pub(super) const STATUS_OK: u8 = 0;
/// `VIRTIO_GPIO_STATUS_ERR`.
pub(super) const STATUS_ERROR: u8 = 1;
/// `VIRTIO_GPIO_IRQ_STATUS_INVALID`: the buffer is returned unused.
pub(super) const EVENT_INVALID: u8 = 0;
/// `VIRTIO_GPIO_IRQ_STATUS_VALID`: an interrupt.
pub(super) const EVENT_VALID: u8 = 1;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// `VIRTIO_GPIO_MSG_GET_LINE_NAMES`.
    GetNames,
    /// `VIRTIO_GPIO_MSG_GET_DIRECTION`.
    GetDirection,
    /// `VIRTIO_GPIO_MSG_SET_DIRECTION`.
    SetDirection,
    /// `VIRTIO_GPIO_MSG_GET_VALUE`.
    GetValue,
    /// `VIRTIO_GPIO_MSG_SET_VALUE`.
    SetValue,
    /// `VIRTIO_GPIO_MSG_SET_IRQ_TYPE`.
    SetTrigger,
    /// A number the specification does not have.
    Unknown,
}

impl RequestKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::GetNames,
        Self::GetDirection,
        Self::SetDirection,
        Self::GetValue,
        Self::SetValue,
        Self::SetTrigger,
        Self::Unknown,
    ];

    fn from_number(number: u16) -> Self {
        match number {
            1 => Self::GetNames,
            2 => Self::GetDirection,
            3 => Self::SetDirection,
            4 => Self::GetValue,
            5 => Self::SetValue,
            6 => Self::SetTrigger,
            _ => Self::Unknown,
        }
    }
}

/// Which way a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Not in use.
    #[default]
    None,
    /// The guest drives it.
    Out,
    /// The host drives it.
    In,
}

impl Direction {
    pub(super) fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Out),
            2 => Some(Self::In),
            _ => None,
        }
    }

    pub(super) fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Out => 1,
            Self::In => 2,
        }
    }
}

/// What makes a line interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Nothing: interrupts are disabled.
    #[default]
    None,
    /// Low to high.
    Rising,
    /// High to low.
    Falling,
    /// Each change.
    Both,
    /// As long as it is high.
    High,
    /// As long as it is low.
    Low,
}

impl Trigger {
    pub(super) fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Rising),
            2 => Some(Self::Falling),
            3 => Some(Self::Both),
            4 => Some(Self::High),
            8 => Some(Self::Low),
            _ => None,
        }
    }

    /// Whether the line's going from one level to another is an interrupt.
    pub(super) fn is_edge(self, from: bool, to: bool) -> bool {
        match self {
            Self::Rising => !from && to,
            Self::Falling => from && !to,
            Self::Both => from != to,
            Self::None | Self::High | Self::Low => false,
        }
    }

    /// Whether the line's being at a level is an interrupt.
    pub(super) fn is_level(self, level: bool) -> bool {
        match self {
            Self::High => level,
            Self::Low => !level,
            Self::None | Self::Rising | Self::Falling | Self::Both => false,
        }
    }
}

/// A request as the driver wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) kind: RequestKind,
    pub(super) line: u16,
    pub(super) value: u32,
}

impl Request {
    pub(super) fn from_bytes([a, b, c, d, e, f, g, h]: [u8; REQUEST_BYTES]) -> Self {
        Self {
            kind: RequestKind::from_number(u16::from_le_bytes([a, b])),
            line: u16::from_le_bytes([c, d]),
            value: u32::from_le_bytes([e, f, g, h]),
        }
    }
}
