//! The file systems that the agent needs.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

/// Type of the file system and where it goes. tracefs has its own place (`/sys/kernel/tracing`), so that it is there
/// even in a kernel without debugfs.
const MOUNTS: [(&str, &str); 5] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tracefs", "/sys/kernel/tracing"),
    ("debugfs", "/sys/kernel/debug"),
];

/// Mounts all of them; gives a sentence for each that failed. None is fatal by itself: what needs it will say so.
pub(crate) fn mount_all() -> Vec<String> {
    MOUNTS.iter().filter_map(|&(kind, place)| mount_one(kind, Path::new(place)).err()).collect()
}

fn mount_one(kind: &str, place: &Path) -> Result<(), String> {
    if !place.exists() {
        std::fs::create_dir_all(place)
            .map_err(|error| format!("cannot make {} to mount {kind}: {error}", place.display()))?;
    }
    match mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>) {
        // The kernel mounts devtmpfs by itself if it was built so.
        Ok(()) | Err(Errno::EBUSY) => Ok(()),
        Err(errno) => Err(format!("cannot mount {kind} on {}: {errno}", place.display())),
    }
}
