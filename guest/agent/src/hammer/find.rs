//! Finding the device node of what a root port has below it.

use std::path::{Path, PathBuf};

use plugstorm_wire::HammerTarget;

use crate::sysfs;

/// The node of the target below the port; nothing if it is not there (yet).
pub(super) fn node(target: HammerTarget, port: &str) -> Option<PathBuf> {
    let (directory, prefix) = match target {
        HammerTarget::Gpiochip => ("/sys/bus/gpio/devices", "gpiochip"),
        HammerTarget::Plugstorm => ("/sys/class/plugstorm", "plugstorm"),
    };
    newest_below(Path::new(directory), prefix, port).map(|name| Path::new("/dev").join(name))
}

/// The entry of a sysfs directory of links with the greatest number after `prefix`, of those whose device is below
/// `port`: a device that is being removed may still be listed beside the one that took its place.
///
/// A port is a whole component of the device's path, so that other buses do as well as PCI (`gpio-sim.0`).
fn newest_below(directory: &Path, prefix: &str, port: &str) -> Option<String> {
    let mut found: Option<(u32, String)> = None;
    for name in sysfs::list(directory).ok()? {
        let Some(number) = name.strip_prefix(prefix).and_then(|digits| digits.parse().ok()) else { continue };
        let is_below = directory
            .join(&name)
            .canonicalize()
            .is_ok_and(|path| path.components().any(|component| component.as_os_str() == port));
        if is_below && found.as_ref().is_none_or(|(greatest, _)| number > *greatest) {
            found = Some((number, name));
        }
    }
    found.map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_newest_device_below_the_port_is_found() {
        let root = std::env::temp_dir().join(format!("plugstorm-agent-find-{}", std::process::id()));
        let bus = root.join("bus");
        fs::create_dir_all(&bus).unwrap();
        for (name, parent) in [
            ("gpiochip0", "0000:00:1f.0"),
            ("gpiochip9", "0000:00:01.0/0000:01:00.0/virtio3"),
            ("gpiochip10", "0000:00:01.0/0000:01:00.0/virtio4"),
            ("gpiochip11", "0000:00:02.0/0000:02:00.0/virtio5"),
            ("gpio-line", "0000:00:01.0"),
        ] {
            let device = root.join(parent).join(name);
            fs::create_dir_all(&device).unwrap();
            symlink(&device, bus.join(name)).unwrap();
        }
        assert_eq!(newest_below(&bus, "gpiochip", "0000:00:01.0").as_deref(), Some("gpiochip10"));
        assert_eq!(newest_below(&bus, "gpiochip", "0000:00:02.0").as_deref(), Some("gpiochip11"));
        assert_eq!(newest_below(&bus, "gpiochip", "0000:00:03.0"), None);
        assert_eq!(newest_below(&root.join("nothing"), "gpiochip", "0000:00:01.0"), None);
        fs::remove_dir_all(&root).unwrap();
    }
}
