//! Taking devices away and bringing them back from inside, by files of sysfs (Documentation/ABI/testing/sysfs-bus-pci).

use std::path::{Path, PathBuf};

use plugstorm_wire::{FromGuest, PciAddress};

use crate::clock::tsc;
use crate::sysfs;

const PCI: &str = "/sys/bus/pci";

/// What to do with the device below a root port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Part it from its driver.
    Unbind,
    /// Have the bus look for its driver again.
    Bind,
    /// Take it off the bus.
    Remove,
    /// Look for devices below the port.
    Rescan,
}

impl Action {
    /// Its name, for threads and messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unbind => "unbind",
            Self::Bind => "bind",
            Self::Remove => "remove",
            Self::Rescan => "rescan",
        }
    }
}

/// Does it, which may take for ever: call it in a thread of its own. Gives the answer to the command `id`.
pub(crate) fn perform(action: Action, id: u64, port: &PciAddress) -> FromGuest {
    // Whatever fails before the write, it begins here; the write itself is timed from just before it.
    let mut began_tsc = tsc();
    let error = target(Path::new(PCI), action, &port.0)
        .and_then(|(path, text)| {
            began_tsc = tsc();
            sysfs::write(path, &text).map_err(|error| error.to_string())
        })
        .err();
    FromGuest::Done { id, began_tsc, ended_tsc: tsc(), error }
}

/// The file to write to, and what.
fn target(bus: &Path, action: Action, port: &str) -> Result<(PathBuf, String), String> {
    let port_directory = bus.join("devices").join(port);
    if action == Action::Rescan {
        // The port's own bus directory: `rescan` of the port itself would look at the bus that the port is on.
        let buses = sysfs::list(port_directory.join("pci_bus")).map_err(|error| error.to_string())?;
        let below = buses.first().ok_or_else(|| format!("{port} has no bus below it: it is no bridge"))?;
        return Ok((port_directory.join("pci_bus").join(below).join("rescan"), "1".into()));
    }
    let device = device_below(&port_directory)?;
    let device_directory = port_directory.join(&device);
    match action {
        Action::Unbind => Ok((device_directory.join("driver/unbind"), device)),
        // Not the driver's `bind`: without a driver there is nothing in sysfs that says which one it was.
        Action::Bind => Ok((bus.join("drivers_probe"), device)),
        Action::Remove | Action::Rescan => Ok((device_directory.join("remove"), "1".into())),
    }
}

/// The address of the first function below a port.
fn device_below(port_directory: &Path) -> Result<String, String> {
    let entries = sysfs::list(port_directory).map_err(|error| error.to_string())?;
    entries
        .into_iter()
        .find(|entry| is_pci_address(entry))
        .ok_or_else(|| format!("there is no device below {}", port_directory.display()))
}

/// Whether a name has the form `0000:01:00.0`.
fn is_pci_address(name: &str) -> bool {
    let mut fields = name.split([':', '.']);
    let widths = [4, 2, 2, 1];
    let as_expected = widths.into_iter().all(|width| {
        fields.next().is_some_and(|field| field.len() == width && field.bytes().all(|byte| byte.is_ascii_hexdigit()))
    });
    as_expected && fields.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn addresses_are_told_from_other_names() {
        assert!(is_pci_address("0000:01:00.0"));
        for name in ["0000:00:01.0:pcie004", "pci_bus", "0000:01", "driver", "0000:01:00.", ""] {
            assert!(!is_pci_address(name), "{name}");
        }
    }

    #[test]
    fn the_right_files_are_written() {
        let bus = std::env::temp_dir().join(format!("plugstorm-agent-pci-{}", std::process::id()));
        let port = bus.join("devices/0000:00:01.0");
        for directory in ["0000:00:01.0:pcie004", "0000:01:00.0", "pci_bus/0000:01", "power"] {
            fs::create_dir_all(port.join(directory)).unwrap();
        }
        let at = |action| target(&bus, action, "0000:00:01.0").unwrap();
        let device = port.join("0000:01:00.0");
        assert_eq!(at(Action::Unbind), (device.join("driver/unbind"), "0000:01:00.0".into()));
        assert_eq!(at(Action::Bind), (bus.join("drivers_probe"), "0000:01:00.0".into()));
        assert_eq!(at(Action::Remove), (device.join("remove"), "1".into()));
        assert_eq!(at(Action::Rescan), (port.join("pci_bus/0000:01/rescan"), "1".into()));
        assert!(target(&bus, Action::Remove, "0000:00:09.0").unwrap_err().contains("0000:00:09.0"));
        fs::remove_dir_all(&device).unwrap();
        assert!(target(&bus, Action::Remove, "0000:00:01.0").unwrap_err().contains("no device below"));
        fs::remove_dir_all(&bus).unwrap();
    }
}
