//! QEMU's command line.

use std::ffi::OsString;
use std::path::Path;

use super::PORT;
use super::share::{Access, Mount};

/// The emulator's program.
pub(super) const PROGRAM: &str = "qemu-system-x86_64";

/// What the outer kernel is told. `panic=-1` and `-no-reboot` end the emulator when it dies. Its mitigations guard
/// against leaks that an emulated processor does not have, and cost time.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off random.trust_cpu=on";

/// The machine to start.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    pub(super) console: &'a Path,
    pub(super) memory_mib: u64,
    pub(super) cpus: u32,
    pub(super) mounts: &'a [Mount],
}

/// QEMU's arguments. Frames go over its standard input and output: both close when either side ends.
pub(super) fn arguments(machine: &Machine<'_>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut option = |name: &str, value: &str| arguments.extend([OsString::from(name), OsString::from(value)]);
    option("-name", "plugstorm-nested");
    option("-machine", "pc");
    // A store to a page from which code was translated costs up to a millisecond while QEMU 7.2 still has that code, and a
    // guest's memory is full of such pages when the next guest gets it: its boot took 95 s instead of 13. So less code is
    // kept (in MiB), and the kernel clears pages by words instead of bytes (-erms, -fsrm: memory is cleared and copied
    // with `rep stosq`, not `rep stosb`).
    option("-accel", "tcg,thread=multi,tb-size=128");
    // Without -xsaves Linux finds the sizes of its states inconsistent; -la57 spares a level of each page walk.
    option("-cpu", "max,-xsaves,-la57,-erms,-fsrm");
    option("-smp", &machine.cpus.to_string());
    option("-m", &format!("{}M", machine.memory_mib));
    option("-display", "none");
    option("-monitor", "none");
    option("-append", KERNEL_ARGUMENTS);
    option("-device", "virtio-serial-pci,max_ports=2");
    option("-chardev", "stdio,id=frames,signal=off");
    option("-device", &format!("virtserialport,chardev=frames,name={PORT}"));
    arguments.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(OsString::from));
    let mut with_path = |name: &str, start: &str, path: &Path, end: &str| {
        let mut value = OsString::from(start);
        // -kernel and -initrd take a plain path, the others a list with commas.
        value.push(if start.is_empty() { path.as_os_str().to_owned() } else { escaped(path) });
        value.push(end);
        arguments.extend([OsString::from(name), value]);
    };
    with_path("-kernel", "", machine.kernel, "");
    with_path("-initrd", "", machine.initramfs, "");
    with_path("-chardev", "file,id=console,path=", machine.console, "");
    for mount in machine.mounts {
        let read_only = if mount.access == Access::Read { ",readonly=on" } else { "" };
        let start = format!("local,id={},path=", mount.tag);
        // Inode numbers of several file systems below one folder are kept apart.
        with_path("-fsdev", &start, &mount.source, &format!(",security_model=none,multidevs=remap{read_only}"));
    }
    for mount in machine.mounts {
        let device = format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}", tag = mount.tag);
        arguments.extend([OsString::from("-device"), device.into()]);
    }
    arguments.extend(["-serial", "chardev:console"].map(OsString::from));
    arguments
}

/// A comma in a value is written twice.
fn escaped(path: &Path) -> OsString {
    let mut value = OsString::new();
    for (index, part) in path.as_os_str().as_encoded_bytes().split(|byte| *byte == b',').enumerate() {
        if index > 0 {
            value.push(",,");
        }
        value.push(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(part));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_9p_devices_and_commas_survive() {
        let mounts = [
            Mount { tag: "share0".into(), source: "/a,b".into(), target: "/a,b".into(), access: Access::Read },
            Mount { tag: "share1".into(), source: "/out".into(), target: "/out".into(), access: Access::Write },
        ];
        let arguments = arguments(&Machine {
            kernel: Path::new("/k,1"),
            initramfs: Path::new("/i"),
            console: Path::new("/c"),
            memory_mib: 2048,
            cpus: 2,
            mounts: &mounts,
        });
        let has = |name: &str, value: &str| arguments.windows(2).any(|pair| pair[0] == name && pair[1] == value);
        assert!(has("-fsdev", "local,id=share0,path=/a,,b,security_model=none,multidevs=remap,readonly=on"));
        assert!(has("-fsdev", "local,id=share1,path=/out,security_model=none,multidevs=remap"));
        assert!(has("-device", "virtio-9p-pci,fsdev=share1,mount_tag=share1"));
        assert!(has("-kernel", "/k,1"));
        assert!(has("-m", "2048M"));
        assert!(has("-accel", "tcg,thread=multi,tb-size=128"));
    }
}
