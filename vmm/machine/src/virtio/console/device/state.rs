//! The state of a console without its transport.

use serde::{Deserialize, Serialize};

use super::ConsoleDevice;
use crate::state::StateError;
use crate::virtio::console::port::{Port, PortConfig, PortState};

/// A console as plain data. It holds no chains between two calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleDeviceState {
    /// The guest's driver has agreed on several ports.
    pub multiport: bool,
    /// The ports, in their order.
    pub ports: Vec<PortState>,
}

impl ConsoleDevice {
    /// The console as plain data.
    #[must_use]
    pub fn state(&self) -> ConsoleDeviceState {
        ConsoleDeviceState { multiport: self.multiport, ports: self.ports.iter().map(Port::state).collect() }
    }

    /// A console that goes on where another was saved, with new sinks, which are told nothing: whether the guest has a
    /// port open is to be asked for.
    ///
    /// # Errors
    /// If these are not the ports it had, by number and name, or more bytes wait at one than can.
    pub fn from_state(ports: Vec<PortConfig>, state: &ConsoleDeviceState) -> Result<Self, StateError> {
        let refused = |reason: String| StateError::new("console", reason);
        let mut device = Self::new(ports).map_err(|error| refused(error.to_string()))?;
        if state.ports.len() != device.ports.len() {
            return Err(refused(format!("it has {} ports, and {} here", state.ports.len(), device.ports.len())));
        }
        for (port, state) in device.ports.iter_mut().zip(&state.ports) {
            port.restore(state)?;
        }
        device.multiport = state.multiport;
        Ok(device)
    }
}
