//! Finding the device node of what a root port has below it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use plugstorm_wire::{HammerSpec, HammerTarget, NodeTarget, node_matches};

use crate::sysfs;

/// Where our module's devices are listed.
const PLUGSTORM_CLASS: &str = "/sys/class/plugstorm";
/// What their names begin with.
const PLUGSTORM: &str = "plugstorm";

/// What a hammer opens, or runs.
///
/// # Errors
/// What is not there (yet), in words.
pub(super) fn node(spec: &HammerSpec) -> Result<PathBuf, String> {
    let port = &spec.port.0;
    let found = match spec.target {
        HammerTarget::Gpiochip => newest_below(Path::new("/sys/bus/gpio/devices"), "gpiochip", port),
        HammerTarget::Plugstorm => newest_below(Path::new(PLUGSTORM_CLASS), PLUGSTORM, port),
        HammerTarget::Node => {
            let target = spec.node.as_ref().ok_or("the hammer names no node")?;
            return matching(target).ok_or_else(|| match &target.port {
                Some(port) => format!("there is no device node {} below {}", target.pattern, port.0),
                None => format!("there is no device node {}", target.pattern),
            });
        }
        HammerTarget::Program => return Ok(spec.program.first().map(PathBuf::from).unwrap_or_default()),
    };
    found.map(in_dev).ok_or_else(|| format!("there is no {:?} device below {port}", spec.target))
}

/// The node of the device of our module below a root port.
pub(super) fn plugstorm(port: &str) -> Option<PathBuf> {
    newest_below(Path::new(PLUGSTORM_CLASS), PLUGSTORM, port).map(in_dev)
}

fn in_dev(name: String) -> PathBuf {
    Path::new("/dev").join(name)
}

/// Of the device nodes that fit, the one with the greatest number at its end: one that is being removed may still be there
/// beside the one that took its place.
fn matching(target: &NodeTarget) -> Option<PathBuf> {
    let folder = Path::new(&target.pattern).parent()?;
    let fits = |path: &Path| node_matches(&target.pattern, &path.to_string_lossy()) && is_node(path, target);
    let names = sysfs::list(folder).ok()?.into_iter();
    names
        .map(|name| folder.join(name))
        .filter(|path| fits(path))
        .max_by_key(|path| (trailing_number(path), path.clone()))
}

/// A character or block device, below the target's port if it names one.
fn is_node(path: &Path, target: &NodeTarget) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => "char",
        kind if kind.is_block_device() => "block",
        _ => return false,
    };
    let Some(port) = &target.port else { return true };
    let number = metadata.rdev();
    is_below(Path::new(&format!("/sys/dev/{kind}/{}:{}", major(number), minor(number))), &port.0)
}

/// `pcmC0D10` is 10; a name without a number is 0.
fn trailing_number(path: &Path) -> u64 {
    let name = path.to_string_lossy();
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    name.get(name.len() - digits..).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Whether a link of sysfs leads to a device below the port.
///
/// A port is a whole component of the device's path, so that other buses do as well as PCI (`gpio-sim.0`).
fn is_below(link: &Path, port: &str) -> bool {
    link.canonicalize().is_ok_and(|path| path.components().any(|component| component.as_os_str() == port))
}

/// The entry of a sysfs directory of links with the greatest number after `prefix`, of those whose device is below
/// `port`: a device that is being removed may still be listed beside the one that took its place.
fn newest_below(directory: &Path, prefix: &str, port: &str) -> Option<String> {
    let mut found: Option<(u32, String)> = None;
    for name in sysfs::list(directory).ok()? {
        let Some(number) = name.strip_prefix(prefix).and_then(|digits| digits.parse().ok()) else { continue };
        if is_below(&directory.join(&name), port) && found.as_ref().is_none_or(|(greatest, _)| number > *greatest) {
            found = Some((number, name));
        }
    }
    found.map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn target(pattern: &str, port: Option<&str>) -> NodeTarget {
        let port = port.map(|port| plugstorm_wire::PciAddress(port.into()));
        NodeTarget { pattern: pattern.into(), port, ioctl: None, bytes: 1 }
    }

    #[test]
    fn a_node_is_found_by_its_pattern() {
        assert_eq!(matching(&target("/dev/nul*", None)).as_deref(), Some(Path::new("/dev/null")));
        assert_eq!(matching(&target("/dev/zero", None)).as_deref(), Some(Path::new("/dev/zero")));
        assert_eq!(matching(&target("/dev/no-such-*", None)), None);
        assert_eq!(matching(&target("/no/such/folder/x", None)), None);
        // A file is no device node, and a node of no device is below no port.
        assert_eq!(matching(&target("/proc/versio?", None)), None);
        assert_eq!(matching(&target("/dev/nul*", Some("0000:00:01.0"))), None);
    }

    #[test]
    fn the_greatest_number_counts() {
        for (path, number) in
            [("/dev/mydev10", 10), ("/dev/pcmC0D2", 2), ("/dev/mydev", 0), ("/dev/99999999999999999999", 0)]
        {
            assert_eq!(trailing_number(Path::new(path)), number, "{path}");
        }
    }

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
