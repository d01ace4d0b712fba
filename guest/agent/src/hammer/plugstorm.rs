//! Calls of `/dev/plugstormN`, the character device of our module (guest/module/plugstorm_uapi.h).
#![allow(unsafe_code, reason = "ioctl() takes whatever a driver says it takes")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use plugstorm_wire::{Edge, HammerSpec, Operation};
use rand::Rng;

use super::descriptors::{OpenError, Scratch, poll_once};
use super::find;
use super::page::Page;

/// How long [`Operation::IoctlHold`] stays inside, in microseconds.
const HOLD_US: u32 = 100;

/// `struct plugstorm_line`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Line {
    line: u32,
    value: u32,
}

/// `struct plugstorm_loan`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Loan {
    fd: libc::c_int,
    line: u32,
}

/// The numbers of the device's calls, from the header.
mod number {
    #![allow(unreachable_pub, reason = "nix's macros make public functions")]
    use super::{Line, Loan};

    nix::ioctl_none!(touch, b'P', 1);
    nix::ioctl_readwrite!(get, b'P', 2, Line);
    nix::ioctl_write_ptr!(hold, b'P', 4, u32);
    nix::ioctl_write_ptr!(watch, b'P', 5, Line);
    nix::ioctl_read!(work, b'P', 6, u32);
    nix::ioctl_read!(timer, b'P', 7, u32);
    nix::ioctl_write_ptr!(borrow, b'P', 8, Loan);
    nix::ioctl_read!(borrowed_get, b'P', 9, u32);
}

/// Our device, open.
///
/// A description that watches lines gives events where another gives levels, and `O_NONBLOCK` belongs to a description: so
/// reads of events have descriptions of their own, one for each kind.
#[derive(Debug)]
pub(super) struct Plugstorm {
    file: File,
    /// Only with blocking reads of events.
    events: Option<File>,
    /// Only with non-blocking ones.
    nonblocking_events: Option<File>,
    /// Only with reads of a mapping.
    page: Option<Page>,
    /// Lines to get; not empty.
    lines: Vec<u32>,
}

/// Whether our device has this operation.
pub(super) fn supports(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Read
            | Operation::Write
            | Operation::ReadEvent
            | Operation::ReadEventNonblocking
            | Operation::Poll
            | Operation::PollWait
            | Operation::IoctlTouch
            | Operation::IoctlGet
            | Operation::IoctlHold
            | Operation::MmapRead
            | Operation::Work
            | Operation::Timer
            | Operation::BorrowGet
    )
}

impl Plugstorm {
    /// Opens the node, watches `lines` if events of them are to be read, maps the page if it is to be read, and borrows a
    /// line if one is to be had from another device.
    pub(super) fn open(spec: &HammerSpec, node: &Path, lines: &[u32]) -> Result<Self, OpenError> {
        let has = |operation| spec.operations.contains(&operation);
        let lines = if lines.is_empty() { vec![0] } else { lines.to_vec() };
        let file = open_node(node, false)?;
        if has(Operation::BorrowGet) {
            borrow(spec, &file, lines.first().copied().unwrap_or(0))?;
        }
        let page = if has(Operation::MmapRead) {
            Some(Page::of(&file).map_err(|errno| OpenError::of_request("map a page of the device", errno))?)
        } else {
            None
        };
        let watching = |wanted: bool, nonblocking| {
            wanted.then(|| open_node(node, nonblocking).and_then(|file| watch(file, &lines, spec.edge))).transpose()
        };
        Ok(Self {
            events: watching(has(Operation::ReadEvent), false)?,
            nonblocking_events: watching(has(Operation::ReadEventNonblocking), true)?,
            file,
            page,
            lines,
        })
    }

    /// Descriptors held.
    pub(super) fn count(&self) -> u32 {
        1 + u32::from(self.events.is_some()) + u32::from(self.nonblocking_events.is_some())
    }

    /// The same open files under other descriptors, and a mapping of its own.
    pub(super) fn duplicate(&self, how: fn(&File) -> io::Result<File>) -> io::Result<Self> {
        let file = how(&self.file)?;
        let page = self.page.is_some().then(|| Page::of(&file)).transpose()?;
        Ok(Self {
            events: self.events.as_ref().map(how).transpose()?,
            nonblocking_events: self.nonblocking_events.as_ref().map(how).transpose()?,
            file,
            page,
            lines: self.lines.clone(),
        })
    }

    /// Makes one call.
    pub(super) fn call(&self, operation: Operation, scratch: &mut Scratch) -> nix::Result<()> {
        match operation {
            Operation::Read => done((&self.file).read(&mut scratch.bytes)),
            Operation::Write => {
                // A byte for each line that we know of, so that the number of calls to the device is ours to choose.
                let count = self.lines.len().min(scratch.bytes.len());
                let levels = scratch.source.next_u64();
                let bytes = scratch.bytes.get_mut(..count).unwrap_or_default();
                for (index, byte) in bytes.iter_mut().enumerate() {
                    *byte = u8::from((levels >> (index % 64)) & 1 == 1);
                }
                done((&self.file).write(bytes))
            }
            Operation::ReadEvent => read_events(self.events.as_ref(), scratch),
            Operation::ReadEventNonblocking => read_events(self.nonblocking_events.as_ref(), scratch),
            Operation::Poll => poll_once(self.polled(scratch.turn).as_fd(), false),
            Operation::PollWait => poll_once(self.polled(scratch.turn).as_fd(), true),
            Operation::IoctlTouch => self.touch(),
            Operation::IoctlGet => {
                let index = scratch.turn.checked_rem(self.lines.len()).unwrap_or(0);
                self.get(self.lines.get(index).copied().unwrap_or(0))
            }
            Operation::IoctlHold => self.hold(),
            // `open()` made it if an operation needs it.
            Operation::MmapRead => self.page.as_ref().ok_or(Errno::EBADF)?.read(scratch.turn % 2 == 1),
            Operation::Work => self.work(),
            Operation::Timer => self.timer(),
            Operation::BorrowGet => self.borrowed_get(),
            _ => Err(Errno::ENOTTY),
        }
    }

    /// In turn, those that read events and the one that does not.
    fn polled(&self, turn: usize) -> &File {
        let all = [Some(&self.file), self.events.as_ref(), self.nonblocking_events.as_ref()];
        let there = all.iter().flatten().count();
        let nth = turn.checked_rem(there).unwrap_or(0);
        all.into_iter().flatten().nth(nth).unwrap_or(&self.file)
    }

    fn touch(&self) -> nix::Result<()> {
        // SAFETY: the call has no argument, so the kernel touches no memory of ours.
        unsafe { number::touch(self.file.as_raw_fd()) }.map(drop)
    }

    fn get(&self, line: u32) -> nix::Result<()> {
        let mut argument = Line { line, value: 0 };
        // SAFETY: the kernel reads and writes eight bytes at the pointer, which is what the structure has; any eight
        // bytes are a valid one.
        unsafe { number::get(self.file.as_raw_fd(), &raw mut argument) }.map(drop)
    }

    fn hold(&self) -> nix::Result<()> {
        let hold_us = HOLD_US;
        // SAFETY: the kernel reads four bytes at the pointer, which is what the number has.
        unsafe { number::hold(self.file.as_raw_fd(), &raw const hold_us) }.map(drop)
    }

    fn work(&self) -> nix::Result<()> {
        let mut runs = 0;
        // SAFETY: the kernel writes four bytes at the pointer, which is what the number has.
        unsafe { number::work(self.file.as_raw_fd(), &raw mut runs) }.map(drop)
    }

    fn timer(&self) -> nix::Result<()> {
        let mut runs = 0;
        // SAFETY: the kernel writes four bytes at the pointer, which is what the number has.
        unsafe { number::timer(self.file.as_raw_fd(), &raw mut runs) }.map(drop)
    }

    fn borrowed_get(&self) -> nix::Result<()> {
        let mut level = 0;
        // SAFETY: the kernel writes four bytes at the pointer, which is what the number has.
        unsafe { number::borrowed_get(self.file.as_raw_fd(), &raw mut level) }.map(drop)
    }
}

fn open_node(node: &Path, nonblocking: bool) -> Result<File, OpenError> {
    let flags = if nonblocking { libc::O_NONBLOCK } else { 0 };
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(node).map_err(|error| {
        OpenError::of_open(&format!("open {}", node.display()), Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    })
}

/// Asks for the lines' edges: from here on reads of the description give events.
fn watch(file: File, lines: &[u32], edge: Edge) -> Result<File, OpenError> {
    let edges = match edge {
        Edge::None => 0,
        Edge::Rising => 1,
        Edge::Falling => 2,
        Edge::Both => 3,
    };
    for &line in lines {
        let argument = Line { line, value: edges };
        // SAFETY: the kernel reads eight bytes at the pointer, which is what the structure has.
        unsafe { number::watch(file.as_raw_fd(), &raw const argument) }
            .map_err(|errno| OpenError::of_request(&format!("watch line {line}"), errno))?;
    }
    Ok(file)
}

/// Borrows a line of the device that the hammer's `from` names. That device's descriptor is closed again: what is borrowed
/// does not need it.
fn borrow(spec: &HammerSpec, file: &File, line: u32) -> Result<(), OpenError> {
    let Some(port) = &spec.from else {
        return Err(OpenError::Never(format!("hammer {}: there is no device to borrow a line from", spec.name)));
    };
    let node = find::plugstorm(&port.0)
        .ok_or_else(|| OpenError::NotYet(format!("there is no device of our module below {}", port.0)))?;
    let lender = open_node(&node, false)?;
    let loan = Loan { fd: lender.as_raw_fd(), line };
    // SAFETY: the kernel reads eight bytes at the pointer, which is what the structure has.
    unsafe { number::borrow(file.as_raw_fd(), &raw const loan) }
        .map(drop)
        .map_err(|errno| OpenError::of_request(&format!("borrow line {line} of {}", node.display()), errno))
}

fn read_events(file: Option<&File>, scratch: &mut Scratch) -> nix::Result<()> {
    // `open()` made one if an operation needs it.
    let mut file = file.ok_or(Errno::EBADF)?;
    done(file.read(&mut scratch.bytes))
}

fn done(result: std::io::Result<usize>) -> nix::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use plugstorm_wire::HammerTarget;

    use super::super::descriptors::spec;
    use super::super::{descriptors::Scratch, pause};
    use super::*;

    fn open(operations: &[Operation]) -> Result<Plugstorm, OpenError> {
        Plugstorm::open(&spec(HammerTarget::Plugstorm, operations), Path::new("/dev/null"), &[])
    }

    #[test]
    fn calls_give_the_kernels_errno() {
        let device = open(&[Operation::Read]).unwrap();
        let mut scratch = Scratch::new(pause::source(1, 0), 0);
        assert_eq!(device.call(Operation::Read, &mut scratch), Ok(()));
        assert_eq!(device.call(Operation::Write, &mut scratch), Ok(()));
        for operation in [
            Operation::IoctlTouch,
            Operation::IoctlGet,
            Operation::IoctlHold,
            Operation::Work,
            Operation::Timer,
            Operation::BorrowGet,
            Operation::GetValues,
        ] {
            assert_eq!(device.call(operation, &mut scratch), Err(Errno::ENOTTY), "{operation:?}");
        }
    }

    #[test]
    fn what_was_not_opened_is_not_used() {
        let device = open(&[Operation::Read]).unwrap();
        let mut scratch = Scratch::new(pause::source(1, 0), 0);
        for operation in [Operation::ReadEvent, Operation::ReadEventNonblocking, Operation::MmapRead] {
            assert_eq!(device.call(operation, &mut scratch), Err(Errno::EBADF), "{operation:?}");
        }
        assert_eq!(device.count(), 1);
    }

    #[test]
    fn a_device_without_what_an_operation_needs_is_refused() {
        for (operations, expected) in [
            (&[Operation::ReadEvent], "watch line 0"),
            (&[Operation::ReadEventNonblocking], "watch line 0"),
            (&[Operation::MmapRead], "map a page"),
            (&[Operation::BorrowGet], "no device to borrow"),
        ] {
            let error = open(operations).unwrap_err();
            assert!(error.to_string().contains(expected), "{error:?}");
        }
    }

    #[test]
    fn the_one_to_borrow_from_may_still_be_coming() {
        let mut wanted = spec(HammerTarget::Plugstorm, &[Operation::BorrowGet]);
        wanted.from = Some(plugstorm_wire::PciAddress("ffff:ff:1f.7".into()));
        let error = Plugstorm::open(&wanted, Path::new("/dev/null"), &[]).unwrap_err();
        assert!(matches!(&error, OpenError::NotYet(text) if text.contains("ffff:ff:1f.7")), "{error:?}");
    }

    #[test]
    fn descriptors_are_polled_in_turn() {
        let null = || open_node(Path::new("/dev/null"), false).unwrap();
        let mut device = open(&[Operation::Poll]).unwrap();
        assert!(std::ptr::eq(device.polled(7), &raw const device.file));
        device.nonblocking_events = Some(null());
        let second: *const File = device.nonblocking_events.as_ref().unwrap();
        assert!(std::ptr::eq(device.polled(1), second) && std::ptr::eq(device.polled(2), &raw const device.file));
        assert_eq!(device.count(), 2);
    }
}
