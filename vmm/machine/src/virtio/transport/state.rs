//! The state of a virtio function, and a function made from it again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;

use super::{Attachment, ISR_CONFIG, ISR_QUEUE, Subsystem, VirtioPci};
use crate::interrupt::{MsiMessage, MsiSink};
use crate::pci::config::register;
use crate::pci::{ConfigState, MsixState};
use crate::state::StateError;
use crate::virtio::common::CommonState;
use crate::virtio::device::VirtioDevice;
use crate::virtio::ring::{Ring, RingState};

/// All of a function but its device, as plain data: for reports and snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionState {
    /// Configuration space.
    pub config: ConfigState,
    /// MSI-X table and pending bits.
    pub msix: MsixState,
    /// The registers that are not a queue's.
    pub common: CommonState,
    /// The queues.
    pub rings: Vec<RingState>,
    /// ISR status.
    pub isr: u8,
    /// Chains that were given back since they were malformed.
    pub malformed_chains: u64,
    /// How often the device asked to be reset since a ring was malformed.
    pub rings_broken: u64,
    /// Message of each queue when the link was lost; empty once a driver has started the device again.
    pub lost_messages: Vec<Option<MsiMessage>>,
    /// The owner has cut the device off.
    pub severed: bool,
}

impl<D: VirtioDevice> VirtioPci<D> {
    /// The function's plain state.
    #[must_use]
    pub fn state(&self) -> FunctionState {
        FunctionState {
            config: self.config.state(),
            msix: self.msix.state(),
            common: self.common,
            rings: self.rings.iter().map(Ring::state).collect(),
            isr: self.isr,
            malformed_chains: self.malformed_chains,
            rings_broken: self.rings_broken,
            lost_messages: self.lost_messages.clone(),
            severed: self.is_severed(),
        }
    }

    /// The subsystem ids it was made with.
    #[must_use]
    pub fn subsystem(&self) -> Subsystem {
        Subsystem {
            vendor: self.config.u16_at(register::SUBSYSTEM_VENDOR),
            device: self.config.u16_at(register::SUBSYSTEM_DEVICE),
        }
    }

    /// A function around a device that was made from its own state. The guest is told nothing, and the device is not
    /// called: to both it is as if the time in between had not been. One that was severed stays so.
    ///
    /// # Errors
    /// If no guest could have brought a function around such a device to this state.
    pub fn from_state(
        device: D,
        state: &FunctionState,
        memory: GuestMemoryMmap,
        msi: Arc<dyn MsiSink>,
        subsystem: Subsystem,
        attachment: Attachment,
    ) -> Result<Self, StateError> {
        let sizes = device.queue_sizes();
        let mut function =
            Self::new(device, memory, msi, subsystem, attachment).map_err(|error| refused(error.to_string()))?;
        if state.severed {
            function.memory = None;
        }
        function.config.restore(&state.config)?;
        function.msix.restore(&state.msix)?;
        let vectors = function.msix.vectors();
        state.common.check(function.offered(), vectors).map_err(refused)?;
        function.common = state.common;
        if state.rings.len() != sizes.len() {
            return Err(refused(format!("it has {} queues, and {} here", state.rings.len(), sizes.len())));
        }
        function.rings.clear();
        for (queue, (&max_size, ring)) in sizes.iter().zip(&state.rings).enumerate() {
            let ring = Ring::from_state(max_size, vectors, ring, function.memory.as_ref());
            function.rings.push(ring.map_err(|reason| refused(format!("queue {queue} {reason}")))?);
        }
        function.check_held(state)?;
        if state.isr & !(ISR_QUEUE | ISR_CONFIG) != 0 {
            return Err(refused(format!("ISR status is {:#04x}", state.isr)));
        }
        if !state.lost_messages.is_empty() && state.lost_messages.len() != sizes.len() {
            return Err(refused(format!("{} queues have lost their messages", state.lost_messages.len())));
        }
        function.isr = state.isr;
        function.malformed_chains = state.malformed_chains;
        function.rings_broken = state.rings_broken;
        function.lost_messages = state.lost_messages.clone();
        Ok(function)
    }

    /// Whether the device holds the chains that its rings have given out: else a driver's descriptors would never come
    /// back, or there would be more than the driver has.
    fn check_held(&self, state: &FunctionState) -> Result<(), StateError> {
        let mut held = vec![0_usize; self.rings.len()];
        for (queue, chain) in self.device.held() {
            let (Some(ring), Some(held)) = (self.rings.get(usize::from(queue)), held.get_mut(usize::from(queue)))
            else {
                return Err(refused(format!("a chain is of queue {queue}, which there is not")));
            };
            if chain.head() >= ring.queue.size() {
                return Err(refused(format!("chain {} is of queue {queue}, which is shorter", chain.head())));
            }
            *held = held.saturating_add(chain.descriptors());
        }
        for (queue, (held, ring)) in held.into_iter().zip(&state.rings).enumerate() {
            if held != ring.in_flight || held > usize::from(ring.size) {
                let RingState { in_flight, size, .. } = ring;
                let reason = format!("{held} descriptors of queue {queue} are held, {in_flight} in flight, of {size}");
                return Err(refused(reason));
            }
        }
        Ok(())
    }
}

fn refused(reason: String) -> StateError {
    StateError::new("virtio function", reason)
}
