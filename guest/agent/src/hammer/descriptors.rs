//! What threads hold open and call.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use plugstorm_wire::{HammerSpec, HammerTarget, Operation, Sharing};
use rand_chacha::ChaCha8Rng;

use super::count::Failure;
use super::gpiochip::Gpiochip;
use super::node::Node;
use super::plugstorm::Plugstorm;
use super::program::Program;
use super::{find, share};

/// How long [`Operation::PollWait`] waits at a time, in milliseconds.
const POLL_SLICE_MS: u16 = 100;

/// Why descriptors could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum OpenError {
    /// The device is not there yet, or not ready: worth another try.
    #[error("{0}")]
    NotYet(String),
    /// Another try would end in the same way.
    #[error("{0}")]
    Never(String),
}

impl OpenError {
    /// Of opening a node: it may be there before what it stands for (`ENXIO`), or for longer (`ENODEV`).
    pub(super) fn of_open(what: &str, errno: Errno) -> Self {
        match errno {
            Errno::ENOENT | Errno::EACCES | Errno::ENXIO | Errno::EBUSY => {
                Self::NotYet(format!("cannot {what}: {errno}"))
            }
            _ => Self::of_request(what, errno),
        }
    }

    /// Of a call on what is open. `EBUSY`: a line stays taken until the last descriptor of an earlier run is closed.
    pub(super) fn of_request(what: &str, errno: Errno) -> Self {
        let text = format!("cannot {what}: {errno}");
        match errno {
            // The unknown one is EPROBE_DEFER (517), which has no name in user space.
            Errno::ENODEV | Errno::EBUSY | Errno::EINTR | Errno::UnknownErrno => Self::NotYet(text),
            _ => Self::Never(text),
        }
    }
}

/// What a thread needs besides descriptors.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Values to write.
    pub(super) source: ChaCha8Rng,
    /// Counts the thread's calls, to take lines in turn.
    pub(super) turn: usize,
    /// Events are read into it; aligned as the kernel's structures are.
    pub(super) words: Vec<u64>,
    /// Levels are read into it and written from it.
    pub(super) bytes: Vec<u8>,
    /// The argument of an `ioctl()` of any node; aligned as any structure is.
    pub(super) argument: Vec<u64>,
}

impl Scratch {
    /// For a thread with these choices.
    pub(super) fn new(source: ChaCha8Rng, first_turn: usize) -> Self {
        // 16 line events (48 bytes each) or two changes of line info (288 bytes each).
        Self { source, turn: first_turn, words: vec![0; 96], bytes: vec![0; 512], argument: Vec::new() }
    }
}

/// The descriptors of one thread, or of all.
#[derive(Debug)]
pub(super) enum Descriptors {
    /// Of the GPIO character device.
    Gpiochip(Gpiochip),
    /// Of our device.
    Plugstorm(Plugstorm),
    /// Of any node.
    Node(Node),
    /// None: a program is run.
    Program(Program),
}

impl Descriptors {
    /// Makes one call.
    ///
    /// # Errors
    /// What the call gave. `poll()` has no errno for a device that has gone: `POLLHUP` and `POLLERR` give `ENODEV`.
    pub(super) fn call(&self, operation: Operation, scratch: &mut Scratch) -> Result<(), Failure> {
        scratch.turn = scratch.turn.wrapping_add(1);
        match self {
            Self::Gpiochip(gpiochip) => Ok(gpiochip.call(operation, scratch)?),
            Self::Plugstorm(plugstorm) => Ok(plugstorm.call(operation, scratch)?),
            Self::Node(node) => Ok(node.call(operation, scratch)?),
            Self::Program(program) => program.call(operation),
        }
    }

    /// The same open files under other descriptors.
    fn duplicate(&self, how: fn(&File) -> io::Result<File>) -> Result<Self, OpenError> {
        let duplicate = match self {
            Self::Gpiochip(gpiochip) => gpiochip.duplicate(how).map(Self::Gpiochip),
            Self::Plugstorm(plugstorm) => plugstorm.duplicate(how).map(Self::Plugstorm),
            Self::Node(node) => node.duplicate(how).map(Self::Node),
            Self::Program(_) => Err(io::Error::other("a program has no descriptor")),
        };
        duplicate.map_err(|error| OpenError::Never(format!("cannot duplicate a descriptor: {error}")))
    }

    fn count(&self) -> u32 {
        match self {
            Self::Gpiochip(gpiochip) => gpiochip.count(),
            Self::Plugstorm(plugstorm) => plugstorm.count(),
            Self::Node(node) => node.count(),
            Self::Program(_) => 0,
        }
    }
}

/// All descriptors of a hammer.
#[derive(Debug)]
pub(super) struct Opened {
    /// The node that was opened, or the program.
    pub(super) node: PathBuf,
    /// For each thread.
    pub(super) per_thread: Vec<Arc<Descriptors>>,
    /// Descriptors, each counted once.
    pub(super) count: u32,
}

/// Refuses what can never work, before anything is opened.
///
/// # Errors
/// One sentence.
pub(super) fn check(spec: &HammerSpec) -> Result<(), String> {
    if spec.operations.is_empty() || spec.threads == 0 {
        return Err(format!("hammer {} has nothing to do: it needs threads and operations", spec.name));
    }
    let supports = match spec.target {
        HammerTarget::Gpiochip => super::gpiochip::supports,
        HammerTarget::Plugstorm => super::plugstorm::supports,
        HammerTarget::Node => super::node::supports,
        HammerTarget::Program => super::program::supports,
    };
    match spec.operations.iter().find(|&&operation| !supports(operation)) {
        Some(operation) => {
            Err(format!("hammer {}: {operation:?} is no operation of the target {:?}", spec.name, spec.target))
        }
        None => Ok(()),
    }
}

/// Finds the node and opens what the hammer's threads need.
///
/// # Errors
/// See [`OpenError`]; what had been opened is closed again.
pub(super) fn open(spec: &HammerSpec) -> Result<Opened, OpenError> {
    let node = find::node(spec).map_err(OpenError::NotYet)?;
    let threads = spec.threads;
    let mut per_thread = Vec::new();
    match spec.sharing {
        Sharing::Shared | Sharing::Fork => {
            let shared = Arc::new(open_one(spec, &node, &spec.lines)?);
            per_thread.resize(usize::try_from(threads).unwrap_or(0), shared);
        }
        Sharing::Own => {
            for thread in 0..threads {
                per_thread.push(Arc::new(open_one(spec, &node, &lines_of_thread(spec, thread))?));
            }
        }
        Sharing::Dup | Sharing::Passed => {
            let how = if spec.sharing == Sharing::Dup { share::duplicated } else { share::passed };
            let first = open_one(spec, &node, &spec.lines)?;
            for _ in 0..threads {
                per_thread.push(Arc::new(first.duplicate(how)?));
            }
        }
    }
    let count = match spec.sharing {
        Sharing::Shared | Sharing::Fork => per_thread.first().map_or(0, |descriptors| descriptors.count()),
        Sharing::Own | Sharing::Dup | Sharing::Passed => per_thread.iter().map(|descriptors| descriptors.count()).sum(),
    };
    Ok(Opened { node, per_thread, count })
}

fn open_one(spec: &HammerSpec, node: &Path, lines: &[u32]) -> Result<Descriptors, OpenError> {
    Ok(match spec.target {
        HammerTarget::Gpiochip => Descriptors::Gpiochip(Gpiochip::open(spec, node, lines)?),
        HammerTarget::Plugstorm => Descriptors::Plugstorm(Plugstorm::open(spec, node, lines)?),
        HammerTarget::Node => {
            let target = spec.node.as_ref().ok_or_else(|| OpenError::Never("the hammer names no node".into()))?;
            Descriptors::Node(Node::open(spec, target, node)?)
        }
        HammerTarget::Program => Descriptors::Program(Program::open(spec)?),
    })
}

/// The lines of a thread with descriptors of its own. A line of a GPIO chip can be requested once only, so threads
/// share them out; our device knows no such rule.
fn lines_of_thread(spec: &HammerSpec, thread: u32) -> Vec<u32> {
    match spec.target {
        HammerTarget::Plugstorm | HammerTarget::Node | HammerTarget::Program => spec.lines.clone(),
        HammerTarget::Gpiochip => {
            let step = usize::try_from(spec.threads).unwrap_or(1).max(1);
            let first = usize::try_from(thread).unwrap_or(0);
            spec.lines.iter().copied().skip(first).step_by(step).collect()
        }
    }
}

/// `poll()` on one descriptor, at once or for a slice.
pub(super) fn poll_once(descriptor: std::os::fd::BorrowedFd<'_>, wait: bool) -> nix::Result<()> {
    let timeout = if wait { PollTimeout::from(POLL_SLICE_MS) } else { PollTimeout::ZERO };
    let mut descriptors = [PollFd::new(descriptor, PollFlags::POLLIN)];
    poll(&mut descriptors, timeout)?;
    let [descriptor] = descriptors;
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
    if descriptor.revents().is_some_and(|events| events.intersects(gone)) { Err(Errno::ENODEV) } else { Ok(()) }
}

#[cfg(test)]
pub(super) fn spec(target: HammerTarget, operations: &[Operation]) -> HammerSpec {
    HammerSpec {
        name: "test".into(),
        port: plugstorm_wire::PciAddress("0000:00:01.0".into()),
        target,
        node: None,
        program: Vec::new(),
        threads: 2,
        sharing: Sharing::Own,
        operations: operations.to_vec(),
        lines: vec![0, 1, 2, 5, 7],
        edge: plugstorm_wire::Edge::Both,
        from: None,
        pause_min_ns: 0,
        pause_max_ns: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_can_never_work_is_refused() {
        assert!(check(&spec(HammerTarget::Gpiochip, &[Operation::ReadEvent, Operation::LineInfo])).is_ok());
        assert!(check(&spec(HammerTarget::Gpiochip, &[Operation::IoctlTouch])).unwrap_err().contains("IoctlTouch"));
        assert!(check(&spec(HammerTarget::Plugstorm, &[Operation::GetValues])).is_err());
        assert!(check(&spec(HammerTarget::Plugstorm, &[])).is_err());
    }

    #[test]
    fn every_way_of_sharing_opens_as_often_as_it_says() {
        let node = plugstorm_wire::NodeTarget { pattern: "/dev/zer*".into(), port: None, ioctl: None, bytes: 1 };
        for (sharing, count) in
            [(Sharing::Shared, 1), (Sharing::Fork, 1), (Sharing::Own, 3), (Sharing::Dup, 3), (Sharing::Passed, 3)]
        {
            let spec = HammerSpec {
                node: Some(node.clone()),
                threads: 3,
                sharing,
                ..spec(HammerTarget::Node, &[Operation::Read])
            };
            let opened = open(&spec).unwrap();
            assert_eq!((opened.count, opened.per_thread.len()), (count, 3), "{sharing:?}");
            for descriptors in opened.per_thread {
                let mut scratch = Scratch::new(super::super::pause::source(1, 0), 0);
                assert_eq!(descriptors.call(Operation::Read, &mut scratch), Ok(()));
            }
        }
    }

    #[test]
    fn lines_are_shared_out() {
        let gpio = spec(HammerTarget::Gpiochip, &[Operation::GetValues]);
        assert_eq!(lines_of_thread(&gpio, 0), [0, 2, 7]);
        assert_eq!(lines_of_thread(&gpio, 1), [1, 5]);
        assert_eq!(lines_of_thread(&spec(HammerTarget::Plugstorm, &[Operation::Read]), 1), gpio.lines);
    }

    #[test]
    fn a_hang_up_is_told_as_enodev() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        assert_eq!(poll_once(reader.as_fd(), false), Ok(()));
        assert_eq!(poll_once(reader.as_fd(), true), Ok(()));
        drop(writer);
        assert_eq!(poll_once(reader.as_fd(), true), Err(Errno::ENODEV));
    }

    #[test]
    fn a_device_that_is_coming_is_worth_another_try() {
        assert!(matches!(OpenError::of_open("open", Errno::ENOENT), OpenError::NotYet(_)));
        assert!(matches!(OpenError::of_open("open", Errno::ENODEV), OpenError::NotYet(_)));
        assert!(matches!(OpenError::of_open("open", Errno::EINVAL), OpenError::Never(_)));
        // A chip without interrupts: edges of its lines will never be had.
        assert!(matches!(OpenError::of_request("request", Errno::ENXIO), OpenError::Never(_)));
    }
}
