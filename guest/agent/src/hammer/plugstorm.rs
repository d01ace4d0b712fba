//! Calls of `/dev/plugstormN`, the character device of our module (guest/module/plugstorm_uapi.h).
#![allow(unsafe_code, reason = "ioctl() takes whatever a driver says it takes")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::errno::Errno;
use plugstorm_wire::Operation;
use rand::Rng;

use super::descriptors::{OpenError, Scratch, poll_once};

/// How long [`Operation::IoctlHold`] stays inside, in microseconds.
const HOLD_US: u32 = 100;

/// `struct plugstorm_line`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Line {
    line: u32,
    value: u32,
}

/// The numbers of the device's calls, from the header.
mod number {
    #![allow(unreachable_pub, reason = "nix's macros make public functions")]
    use super::Line;

    nix::ioctl_none!(touch, b'P', 1);
    nix::ioctl_readwrite!(get, b'P', 2, Line);
    nix::ioctl_write_ptr!(hold, b'P', 4, u32);
}

/// Our device, open.
#[derive(Debug)]
pub(super) struct Plugstorm {
    file: File,
    /// Lines to get; not empty.
    lines: Vec<u32>,
}

/// Whether our device has this operation.
pub(super) fn supports(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Read
            | Operation::Write
            | Operation::Poll
            | Operation::PollWait
            | Operation::IoctlTouch
            | Operation::IoctlGet
            | Operation::IoctlHold
    )
}

impl Plugstorm {
    /// Opens the node.
    pub(super) fn open(node: &Path, lines: &[u32]) -> Result<Self, OpenError> {
        let file = OpenOptions::new().read(true).write(true).open(node).map_err(|error| {
            OpenError::of_open(&format!("open {}", node.display()), Errno::from_raw(error.raw_os_error().unwrap_or(0)))
        })?;
        Ok(Self { file, lines: if lines.is_empty() { vec![0] } else { lines.to_vec() } })
    }

    /// The same open file under another descriptor.
    pub(super) fn duplicate(&self, how: fn(&File) -> io::Result<File>) -> io::Result<Self> {
        Ok(Self { file: how(&self.file)?, lines: self.lines.clone() })
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
            Operation::Poll => poll_once(self.file.as_fd(), false),
            Operation::PollWait => poll_once(self.file.as_fd(), true),
            Operation::IoctlTouch => self.touch(),
            Operation::IoctlGet => {
                let index = scratch.turn.checked_rem(self.lines.len()).unwrap_or(0);
                self.get(self.lines.get(index).copied().unwrap_or(0))
            }
            Operation::IoctlHold => self.hold(),
            _ => Err(Errno::ENOTTY),
        }
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
}

fn done(result: std::io::Result<usize>) -> nix::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{descriptors::Scratch, pause};
    use super::*;

    #[test]
    fn calls_give_the_kernels_errno() {
        let device = Plugstorm::open(Path::new("/dev/null"), &[]).unwrap();
        let mut scratch = Scratch::new(pause::source(1, 0), 0);
        assert_eq!(device.call(Operation::Read, &mut scratch), Ok(()));
        assert_eq!(device.call(Operation::Write, &mut scratch), Ok(()));
        for operation in [Operation::IoctlTouch, Operation::IoctlGet, Operation::IoctlHold, Operation::GetValues] {
            assert_eq!(device.call(operation, &mut scratch), Err(Errno::ENOTTY), "{operation:?}");
        }
    }
}
