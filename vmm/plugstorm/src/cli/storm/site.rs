//! Where runs are carried out: on this machine's KVM, or in nested machines.

use super::super::run::tell_why;
use super::{Failure, Ready, Way, here, nested};
use crate::host::{self, Chosen, HostChoice, HostProbe};
use crate::progress::Board;

/// Chosen once for all runs of a command: its speed is measured with that.
pub(in crate::cli) struct Site {
    /// None: in nested machines.
    probe: Option<HostProbe>,
}

impl Site {
    /// Looks at this machine, and says so if it is to be nested ones.
    pub(in crate::cli) fn choose(host: HostChoice, board: &Board) -> Result<Self, Failure> {
        let probe = match host::choose(host).map_err(|error| Failure::machine(&error))? {
            Chosen::Kvm(probe) => Some(probe),
            Chosen::Nested { why } => {
                board.aside(|| tell_why(why));
                None
            }
        };
        Ok(Self { probe })
    }

    /// Carries out all runs. The gravest exit code.
    pub(in crate::cli) fn carry_out(&self, runs: &[Ready], way: &Way<'_>) -> Result<u8, Failure> {
        match &self.probe {
            Some(probe) => here::here(runs, probe, way),
            None => nested::all(runs, way),
        }
    }
}
