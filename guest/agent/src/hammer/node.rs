//! Calls of any device node.
#![allow(unsafe_code, reason = "ioctl() takes whatever a driver says it takes, and nothing else makes a mapping")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use plugstorm_wire::{HammerSpec, IoctlArgument, IoctlSpec, NodeTarget, Operation};
use rand::Rng;

use super::descriptors::{OpenError, Scratch, poll_once};

/// The least size of a buffer that an `ioctl()` is given: a number has 14 bits for the size of its argument
/// (include/uapi/asm-generic/ioctl.h), so that a scenario that gives too small a one does no harm.
const LEAST_ARGUMENT_BYTES: usize = 1 << 14;

/// How much the kernel reads of a mapping.
const READ_OF_MAPPING_BYTES: usize = 8;

/// A node, open as often as the hammer's operations need it.
#[derive(Debug)]
pub(super) struct Node {
    path: PathBuf,
    /// None if all that is done is to open it, or to read without blocking.
    blocking: Option<File>,
    nonblocking: Option<File>,
    ioctl: Option<IoctlSpec>,
    bytes: usize,
    /// Where the kernel puts what it reads of mappings.
    sink: File,
}

/// Whether any node has this operation, as far as the agent is concerned.
pub(super) fn supports(operation: Operation) -> bool {
    operation == Operation::Open || operation == Operation::ReadNonblocking || needs_blocking(operation)
}

fn needs_blocking(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Read
            | Operation::Write
            | Operation::Ioctl
            | Operation::Poll
            | Operation::PollWait
            | Operation::MmapRead
    )
}

impl Node {
    /// Opens the node for what the hammer does to it.
    pub(super) fn open(spec: &HammerSpec, target: &NodeTarget, path: &Path) -> Result<Self, OpenError> {
        let opened = |wanted: bool, nonblocking| if wanted { open(path, nonblocking).map(Some) } else { Ok(None) };
        let failed = |errno| OpenError::of_open(&format!("open {}", path.display()), errno);
        let sink = memfd_create(c"plugstorm-mapping", MFdFlags::MFD_CLOEXEC)
            .map_err(|errno| OpenError::Never(format!("cannot make a file in memory: {errno}")))?;
        Ok(Self {
            path: path.to_path_buf(),
            blocking: opened(spec.operations.iter().copied().any(needs_blocking), false).map_err(failed)?,
            nonblocking: opened(spec.operations.contains(&Operation::ReadNonblocking), true).map_err(failed)?,
            ioctl: target.ioctl.clone(),
            bytes: usize::try_from(target.bytes).unwrap_or(1).max(1),
            sink: sink.into(),
        })
    }

    /// The same open files under other descriptors.
    pub(super) fn duplicate(&self, how: fn(&File) -> io::Result<File>) -> io::Result<Self> {
        Ok(Self {
            path: self.path.clone(),
            blocking: self.blocking.as_ref().map(how).transpose()?,
            nonblocking: self.nonblocking.as_ref().map(how).transpose()?,
            ioctl: self.ioctl.clone(),
            bytes: self.bytes,
            sink: self.sink.try_clone()?,
        })
    }

    /// Descriptors of the node that are held.
    pub(super) fn count(&self) -> u32 {
        u32::from(self.blocking.is_some()) + u32::from(self.nonblocking.is_some())
    }

    /// Makes one call.
    pub(super) fn call(&self, operation: Operation, scratch: &mut Scratch) -> nix::Result<()> {
        let blocking = || self.blocking.as_ref().ok_or(Errno::EBADF);
        scratch.bytes.resize(self.bytes, 0);
        match operation {
            Operation::Open => open(&self.path, true).map(drop),
            Operation::Read => done(blocking()?.read(&mut scratch.bytes)),
            Operation::ReadNonblocking => done(self.nonblocking.as_ref().ok_or(Errno::EBADF)?.read(&mut scratch.bytes)),
            Operation::Write => {
                scratch.source.fill_bytes(&mut scratch.bytes);
                done(blocking()?.write(&scratch.bytes))
            }
            Operation::Poll => poll_once(blocking()?.as_fd(), false),
            Operation::PollWait => poll_once(blocking()?.as_fd(), true),
            Operation::Ioctl => {
                let ioctl = self.ioctl.as_ref().ok_or(Errno::ENOTTY)?;
                call_ioctl(blocking()?, ioctl, &mut scratch.argument)
            }
            Operation::MmapRead => map_and_read(blocking()?, self.bytes, &self.sink),
            _ => Err(Errno::ENOTTY),
        }
    }
}

/// Opens a node for reading and writing. Without waiting, whatever the driver would wait for; a descriptor that is to block
/// blocks from then on.
fn open(path: &Path, nonblocking: bool) -> nix::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    if !nonblocking {
        fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    }
    Ok(file)
}

fn call_ioctl(file: &File, ioctl: &IoctlSpec, buffer: &mut Vec<u64>) -> nix::Result<()> {
    let argument = match &ioctl.argument {
        IoctlArgument::Value(value) => libc::c_ulong::from(*value),
        IoctlArgument::Buffer { bytes, size } => {
            let size = usize::try_from(*size).unwrap_or(0).max(bytes.len()).max(LEAST_ARGUMENT_BYTES);
            buffer.clear();
            buffer.resize(size.div_ceil(8), 0);
            // In the order that they have in memory.
            for (word, bytes) in buffer.iter_mut().zip(bytes.chunks(8)) {
                let mut whole = [0; 8];
                for (to, from) in whole.iter_mut().zip(bytes) {
                    *to = *from;
                }
                *word = u64::from_ne_bytes(whole);
            }
            buffer.as_mut_ptr() as libc::c_ulong
        }
    };
    // SAFETY: a buffer is writable and as large as the number can say, or as the scenario says. What a driver does with a
    // plain number that it takes for an address can hit this process only, which is there for that.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::Ioctl::from(ioctl.number), argument) };
    Errno::result(result).map(drop)
}

/// Maps a file, lets the kernel read at the beginning, and unmaps it. The kernel's own read gives `EFAULT` where a program's
/// would end in SIGBUS, and other than process_vm_readv(2) it takes mappings of I/O memory too.
fn map_and_read(file: &File, bytes: usize, sink: &File) -> nix::Result<()> {
    let (kind, flags) = (libc::PROT_READ, libc::MAP_SHARED);
    // SAFETY: the kernel chooses the place, so that nothing is replaced.
    let address = unsafe { libc::mmap(ptr::null_mut(), bytes, kind, flags, file.as_raw_fd(), 0) };
    if address == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    let count = READ_OF_MAPPING_BYTES.min(bytes);
    // SAFETY: only the kernel reads there, within the mapping, and checks what it reads.
    let read = Errno::result(unsafe { libc::pwrite(sink.as_raw_fd(), address, count, 0) });
    // SAFETY: it is the mapping just made, and nothing points into it.
    let unmapped = Errno::result(unsafe { libc::munmap(address, bytes) });
    read?;
    unmapped.map(drop)
}

fn done(result: io::Result<usize>) -> nix::Result<()> {
    result.map(drop).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::super::{descriptors, pause};
    use super::*;
    use plugstorm_wire::HammerTarget;

    const ALL: [Operation; 8] = [
        Operation::Open,
        Operation::Read,
        Operation::ReadNonblocking,
        Operation::Write,
        Operation::Poll,
        Operation::PollWait,
        Operation::Ioctl,
        Operation::MmapRead,
    ];

    fn target(argument: IoctlArgument, number: u32) -> NodeTarget {
        NodeTarget { pattern: "/dev/x".into(), port: None, ioctl: Some(IoctlSpec { number, argument }), bytes: 4096 }
    }

    fn node(path: &str, operations: &[Operation], target: &NodeTarget) -> Node {
        let spec = descriptors::spec(HammerTarget::Node, operations);
        Node::open(&spec, target, Path::new(path)).unwrap()
    }

    fn scratch() -> Scratch {
        Scratch::new(pause::source(1, 0), 0)
    }

    #[test]
    fn each_call_is_made() {
        let zero = node("/dev/zero", &ALL, &target(IoctlArgument::Value(0), 0x5001));
        assert_eq!(zero.count(), 2);
        let mut scratch = scratch();
        for operation in ALL {
            let wanted = if operation == Operation::Ioctl { Err(Errno::ENOTTY) } else { Ok(()) };
            assert_eq!(zero.call(operation, &mut scratch), wanted, "{operation:?}");
        }
        assert_eq!(zero.call(Operation::GetValues, &mut scratch), Err(Errno::ENOTTY));
        assert_eq!(scratch.bytes.len(), 4096);
    }

    #[test]
    fn only_what_is_needed_is_opened() {
        let target = target(IoctlArgument::Value(0), 1);
        assert_eq!(node("/dev/null", &[Operation::Open], &target).count(), 0);
        let reader = node("/dev/null", &[Operation::ReadNonblocking], &target);
        assert_eq!((reader.count(), reader.blocking.is_none()), (1, true));
        let duplicate = reader.duplicate(File::try_clone).unwrap();
        assert_eq!(duplicate.call(Operation::ReadNonblocking, &mut scratch()), Ok(()));
        assert_eq!(duplicate.call(Operation::Read, &mut scratch()), Err(Errno::EBADF));
    }

    #[test]
    fn an_ioctl_has_its_argument() {
        // FIONBIO (include/uapi/asm-generic/ioctls.h) takes the address of a number: not 0 makes reads not block.
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        let file = File::from(reader);
        let flags = || OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL).unwrap()).contains(OFlag::O_NONBLOCK);
        let mut buffer = Vec::new();
        for (bytes, wanted) in [(vec![1], true), (vec![0], false), (vec![0, 0, 0, 1], true)] {
            let ioctl = IoctlSpec { number: 0x5421, argument: IoctlArgument::Buffer { bytes, size: 4 } };
            assert_eq!(call_ioctl(&file, &ioctl, &mut buffer), Ok(()));
            assert_eq!(flags(), wanted);
        }
        assert_eq!(buffer.len() * 8, LEAST_ARGUMENT_BYTES);
        let ioctl = IoctlSpec { number: 0x5421, argument: IoctlArgument::Value(0) };
        assert_eq!(call_ioctl(&file, &ioctl, &mut buffer), Err(Errno::EFAULT));
    }

    #[test]
    fn a_mapping_with_nothing_behind_it_gives_an_errno_and_no_signal() {
        let sink = File::from(memfd_create(c"sink", MFdFlags::MFD_CLOEXEC).unwrap());
        let empty = File::from(memfd_create(c"empty", MFdFlags::MFD_CLOEXEC).unwrap());
        assert_eq!(map_and_read(&empty, 4096, &sink), Err(Errno::EFAULT));
        empty.set_len(4096).unwrap();
        assert_eq!(map_and_read(&empty, 4096, &sink), Ok(()));
    }

    #[test]
    fn a_node_that_is_not_there_is_worth_another_try() {
        let spec = descriptors::spec(HammerTarget::Node, &[Operation::Read]);
        let error = Node::open(&spec, &target(IoctlArgument::Value(0), 1), Path::new("/dev/no-such-node")).unwrap_err();
        assert!(matches!(error, OpenError::NotYet(text) if text.contains("/dev/no-such-node")));
    }
}
