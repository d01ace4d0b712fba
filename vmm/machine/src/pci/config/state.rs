//! The state of a configuration space: its bytes. Who may change which bit is the layout's, and that the constructors make.

use serde::{Deserialize, Serialize};

use super::{CONFIG_BYTES, ConfigSpace};
use crate::state::{StateError, hex};

/// The 256 bytes; serialised as 512 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConfigState(#[serde(with = "hex")] [u8; CONFIG_BYTES]);

impl ConfigSpace {
    /// The bytes as they are now.
    #[must_use]
    pub fn state(&self) -> ConfigState {
        ConfigState(self.bytes)
    }

    /// Takes over what the guest did to a space of the same layout. Nothing changes on an error.
    ///
    /// # Errors
    /// If a bit differs that the guest can neither write nor clear: the state is another function's.
    pub fn restore(&mut self, state: &ConfigState) -> Result<(), StateError> {
        let guests = self.writable.iter().zip(&self.write_one_to_clear).map(|(writable, clear)| writable | clear);
        for (at, ((&here, &saved), guests)) in self.bytes.iter().zip(&state.0).zip(guests).enumerate() {
            if (here ^ saved) & !guests != 0 {
                let reason =
                    format!("byte {at:#04x} is {saved:#04x}, but {here:#04x} here, and no guest can change that");
                return Err(StateError::new("configuration space", reason));
            }
        }
        self.bytes = state.0;
        Ok(())
    }
}
