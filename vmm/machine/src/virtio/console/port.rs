//! One port: where its output goes, and what waits to go in.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::control::Due;
use crate::state::{StateError, hex};
use crate::virtio::ring::Rings;

/// Most bytes that wait for the guest at one port.
pub const PENDING_LIMIT_BYTES: usize = 64 * 1024;

/// Most bytes taken out of one chain. Chains may name the same memory again and again, so their length is the guest's
/// choice; the stock driver sends 32 KiB at once and up to 64 KiB when it splices.
const OUTPUT_LIMIT_BYTES: usize = 1024 * 1024;

/// Bytes copied at once.
const PIECE_BYTES: usize = 4096;

/// Where a port's output goes. Called in the vCPU's thread with the device locked: it must be quick, and it must not
/// call the device's handle.
pub trait ConsoleSink: Send {
    /// The guest wrote these bytes.
    fn write(&mut self, bytes: &[u8]);

    /// The guest opened (or closed) the port.
    fn opened(&mut self, open: bool) {
        let _ = open;
    }
}

/// A port to be.
pub struct PortConfig {
    /// What the guest finds in `/sys/class/virtio-ports/*/name`, 1 to 64 bytes; empty for port 0, which is the console.
    pub name: String,
    /// Where its output goes.
    pub sink: Box<dyn ConsoleSink>,
}

impl fmt::Debug for PortConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PortConfig").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a port has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortStatus {
    /// The driver has set the port up.
    pub ready: bool,
    /// A program in the guest has it open (for the console: the driver has it in use).
    pub open: bool,
    /// How often it was opened.
    pub opens: u64,
    /// Bytes that came from the guest.
    pub bytes_out: u64,
    /// Bytes that went to the guest.
    pub bytes_in: u64,
    /// Bytes given to `send` that were thrown away since the guest closed the port or reset the device.
    pub bytes_dropped: u64,
}

/// A port as plain data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortState {
    /// Its name; empty for port 0.
    pub name: String,
    /// The host's end is open.
    pub host_open: bool,
    /// Bytes that wait for the guest, at most [`PENDING_LIMIT_BYTES`].
    #[serde(with = "hex")]
    pub pending: Vec<u8>,
    /// What it has seen.
    pub status: PortStatus,
    /// Messages it still owes the guest.
    pub due: Due,
}

pub(super) struct Port {
    pub(super) name: String,
    sink: Box<dyn ConsoleSink>,
    pending: VecDeque<u8>,
    pub(super) host_open: bool,
    pub(super) status: PortStatus,
    pub(super) due: Due,
}

impl fmt::Debug for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Port")
            .field("name", &self.name)
            .field("pending_bytes", &self.pending.len())
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Port {
    pub(super) fn new(config: PortConfig) -> Self {
        Self {
            name: config.name,
            sink: config.sink,
            pending: VecDeque::new(),
            host_open: true,
            status: PortStatus::default(),
            due: Due::default(),
        }
    }

    pub(super) fn state(&self) -> PortState {
        PortState {
            name: self.name.clone(),
            host_open: self.host_open,
            pending: self.pending.iter().copied().collect(),
            status: self.status,
            due: self.due,
        }
    }

    /// Takes over what a port of the same name was. The sink is told nothing, not even that the port is open: to the guest
    /// it has been all the time.
    pub(super) fn restore(&mut self, state: &PortState) -> Result<(), StateError> {
        if state.name != self.name {
            return Err(StateError::new("console", format!("it has a port {:?} for {:?}", state.name, self.name)));
        }
        if state.pending.len() > PENDING_LIMIT_BYTES {
            let reason = format!("{} bytes wait at port {:?}", state.pending.len(), self.name);
            return Err(StateError::new("console", format!("{reason}, where {PENDING_LIMIT_BYTES} can")));
        }
        self.host_open = state.host_open;
        self.pending = state.pending.iter().copied().collect();
        self.status = state.status;
        self.due = state.due;
        Ok(())
    }

    /// Takes as many bytes as there is room for; gives their number.
    pub(super) fn accept(&mut self, bytes: &[u8]) -> usize {
        let accepted = bytes.len().min(PENDING_LIMIT_BYTES.saturating_sub(self.pending.len()));
        self.pending.extend(bytes.iter().take(accepted));
        accepted
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Hands pending bytes to the guest, as far as it gave buffers. Not before the port is open: the stock driver
    /// throws away what arrives at a closed port (virtio_console.c, in_intr).
    pub(super) fn deliver(&mut self, queue: u16, rings: &mut Rings<'_>) {
        while self.status.open && !self.pending.is_empty() {
            let Some(chain) = rings.pop(queue) else { return };
            let room = usize::try_from(chain.writable_bytes()).unwrap_or(usize::MAX);
            let bytes: Vec<u8> = self.pending.iter().copied().take(room).collect();
            let written = rings.write(&chain, 0, &bytes);
            self.pending.drain(..written);
            self.status.bytes_in = self.status.bytes_in.saturating_add(written as u64);
            // At most `PENDING_LIMIT_BYTES`.
            rings.complete(queue, &chain, u32::try_from(written).unwrap_or(0));
        }
    }

    /// Takes everything the guest has written. The driver spins for its buffers, so they are given back here and now.
    pub(super) fn drain(&mut self, queue: u16, rings: &mut Rings<'_>) {
        let mut piece = [0; PIECE_BYTES];
        while let Some(chain) = rings.pop(queue) {
            let mut done = 0_usize;
            while done < OUTPUT_LIMIT_BYTES {
                let read = rings.read(&chain, done as u64, &mut piece);
                self.emit(piece.get(..read).unwrap_or(&[]));
                done += read;
                if read < PIECE_BYTES {
                    break;
                }
            }
            rings.complete(queue, &chain, 0);
        }
    }

    /// One piece of output.
    pub(super) fn emit(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.status.bytes_out = self.status.bytes_out.saturating_add(bytes.len() as u64);
            self.sink.write(bytes);
        }
    }

    /// The guest opened or closed the port. What was meant for one opener is not for the next.
    pub(super) fn set_open(&mut self, open: bool) {
        if open == self.status.open {
            return;
        }
        self.status.open = open;
        if open {
            self.status.opens = self.status.opens.saturating_add(1);
        } else {
            self.status.bytes_dropped = self.status.bytes_dropped.saturating_add(self.pending.len() as u64);
            self.pending.clear();
        }
        self.sink.opened(open);
    }

    /// The device was reset.
    pub(super) fn reset(&mut self) {
        self.set_open(false);
        self.status.ready = false;
        self.due = Due::default();
    }
}
