//! Calls of the GPIO character device, version 2 (Documentation/userspace-api/gpio/chardev.rst).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use gpiocdev_uapi::v2::{
    LineConfig, LineFlags, LineRequest, LineValues, Name, Offsets, get_chip_info, get_line, get_line_info,
    get_line_values, read_event, set_line_values, unwatch_line_info, watch_line_info,
};
use gpiocdev_uapi::{Error, NUM_LINES_MAX};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use plugstorm_wire::{Edge, HammerSpec, Operation};
use rand::Rng;

use super::descriptors::{OpenError, Scratch, poll_once};

/// A chip and line requests on it.
///
/// `O_NONBLOCK` belongs to an open file, and is set on a chip or a request if none of the reads on it may block. A
/// hammer that has both kinds of reads needs two of them: it opens the chip twice; and since a line can be requested
/// only once, it requests the first half of its lines for blocking reads and the second half for the others.
#[derive(Debug)]
pub(super) struct Gpiochip {
    chip: File,
    /// Only if the hammer has both kinds of reads of line info. Nothing is watched on it.
    nonblocking_chip: Option<File>,
    /// Offsets of the lines, for info; not empty.
    offsets: Vec<u32>,
    request: Option<Request>,
    /// Only if the hammer has both kinds of reads of events.
    nonblocking_request: Option<Request>,
}

/// Lines that were requested together.
#[derive(Debug)]
struct Request {
    file: File,
    /// One bit for each line.
    mask: u64,
}

/// Whether the GPIO character device has this operation.
pub(super) fn supports(operation: Operation) -> bool {
    needs_request(operation)
        || matches!(
            operation,
            Operation::LineInfo
                | Operation::ChipInfo
                | Operation::LineInfoWatch
                | Operation::ReadLineInfoNonblocking
                | Operation::ReadLineInfo
        )
}

fn needs_request(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::GetValues
            | Operation::SetValues
            | Operation::ReadEventNonblocking
            | Operation::ReadEvent
            | Operation::Poll
            | Operation::PollWait
    )
}

impl Gpiochip {
    /// Opens the chip, and requests `lines` if an operation needs them: as outputs if levels are to be set, else as
    /// inputs with the edges of the hammer.
    pub(super) fn open(spec: &HammerSpec, node: &Path, lines: &[u32]) -> Result<Self, OpenError> {
        let has = |operation| spec.operations.contains(&operation);
        let (chip, nonblocking_chip) = match (has(Operation::ReadLineInfo), has(Operation::ReadLineInfoNonblocking)) {
            (true, true) => (open_chip(node, false)?, Some(open_chip(node, true)?)),
            (_, nonblocking) => (open_chip(node, nonblocking)?, None),
        };
        let offsets = if lines.is_empty() { vec![0] } else { lines.to_vec() };
        let mut opened = Self { chip, nonblocking_chip, offsets, request: None, nonblocking_request: None };
        if spec.operations.iter().copied().any(needs_request) {
            let (blocking, nonblocking) = (has(Operation::ReadEvent), has(Operation::ReadEventNonblocking));
            if blocking && nonblocking {
                let (first, second) = lines.split_at(lines.len().div_ceil(2));
                opened.request = Some(request(spec, &opened.chip, first, false)?);
                opened.nonblocking_request = Some(request(spec, &opened.chip, second, true)?);
            } else {
                opened.request = Some(request(spec, &opened.chip, lines, nonblocking)?);
            }
        }
        Ok(opened)
    }

    /// The same open files under other descriptors.
    pub(super) fn duplicate(&self, how: fn(&File) -> io::Result<File>) -> io::Result<Self> {
        let request = |request: &Request| Ok::<_, io::Error>(Request { file: how(&request.file)?, mask: request.mask });
        Ok(Self {
            chip: how(&self.chip)?,
            nonblocking_chip: self.nonblocking_chip.as_ref().map(how).transpose()?,
            offsets: self.offsets.clone(),
            request: self.request.as_ref().map(request).transpose()?,
            nonblocking_request: self.nonblocking_request.as_ref().map(request).transpose()?,
        })
    }

    /// Descriptors held.
    pub(super) fn count(&self) -> u32 {
        let optional = [self.nonblocking_chip.is_some(), self.request.is_some(), self.nonblocking_request.is_some()];
        1 + optional.into_iter().map(u32::from).sum::<u32>()
    }

    /// Makes one call.
    pub(super) fn call(&self, operation: Operation, scratch: &mut Scratch) -> nix::Result<()> {
        let turn = scratch.turn;
        let offset =
            turn.checked_rem(self.offsets.len()).and_then(|index| self.offsets.get(index)).copied().unwrap_or(0);
        match operation {
            Operation::GetValues => {
                let request = self.request_in_turn(turn)?;
                let mut values = LineValues { bits: 0, mask: request.mask };
                get_line_values(&request.file, &mut values).map_err(errno)
            }
            Operation::SetValues => {
                let request = self.request_in_turn(turn)?;
                let values = LineValues { bits: scratch.source.next_u64(), mask: request.mask };
                set_line_values(&request.file, &values).map_err(errno)
            }
            Operation::ReadEvent => read_into(&self.request_of(false)?.file, scratch),
            Operation::ReadEventNonblocking => read_into(&self.request_of(true)?.file, scratch),
            Operation::Poll => poll_once(self.request_in_turn(turn)?.file.as_fd(), false),
            Operation::PollWait => poll_once(self.request_in_turn(turn)?.file.as_fd(), true),
            Operation::LineInfo => get_line_info(&self.chip, offset).map(drop).map_err(errno),
            Operation::ChipInfo => get_chip_info(&self.chip).map(drop).map_err(errno),
            Operation::LineInfoWatch => {
                // Where threads share the chip, one may find the line watched already (EBUSY): that one is not its own
                // to unwatch.
                watch_line_info(&self.chip, offset).map_err(errno)?;
                unwatch_line_info(&self.chip, offset).map_err(errno)
            }
            Operation::ReadLineInfo => read_into(&self.chip, scratch),
            Operation::ReadLineInfoNonblocking => {
                read_into(self.nonblocking_chip.as_ref().unwrap_or(&self.chip), scratch)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn request_of(&self, nonblocking: bool) -> nix::Result<&Request> {
        let second = if nonblocking { self.nonblocking_request.as_ref() } else { None };
        // `open()` made one if any operation needs it.
        second.or(self.request.as_ref()).ok_or(Errno::EBADF)
    }

    fn request_in_turn(&self, turn: usize) -> nix::Result<&Request> {
        self.request_of(turn % 2 == 1)
    }
}

fn open_chip(node: &Path, nonblocking: bool) -> Result<File, OpenError> {
    let flags = if nonblocking { OFlag::O_NONBLOCK } else { OFlag::empty() };
    OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(node).map_err(|error| {
        OpenError::of_open(&format!("open {}", node.display()), Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    })
}

fn request(spec: &HammerSpec, chip: &File, lines: &[u32], nonblocking: bool) -> Result<Request, OpenError> {
    if lines.is_empty() || lines.len() > NUM_LINES_MAX {
        return Err(OpenError::Never(format!(
            "hammer {}: {} lines for one request; 1 to {NUM_LINES_MAX} can be requested, and threads with descriptors of \
             their own, as well as blocking reads beside others, need at least one each",
            spec.name,
            lines.len()
        )));
    }
    let wanted = LineRequest {
        offsets: Offsets::from_slice(lines),
        consumer: Name::from(spec.name.as_str()),
        config: LineConfig { flags: flags(spec), ..LineConfig::default() },
        num_lines: u32::try_from(lines.len()).unwrap_or(u32::MAX),
        ..LineRequest::default()
    };
    let file = get_line(chip, wanted)
        .map_err(|error| OpenError::of_request(&format!("request lines {lines:?}"), errno(error)))?;
    if nonblocking {
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|errno| OpenError::Never(format!("cannot make a line request nonblocking: {errno}")))?;
    }
    Ok(Request { file, mask: mask(lines.len()) })
}

fn flags(spec: &HammerSpec) -> LineFlags {
    if spec.operations.contains(&Operation::SetValues) {
        return LineFlags::OUTPUT;
    }
    LineFlags::INPUT
        | match spec.edge {
            Edge::None => LineFlags::empty(),
            Edge::Rising => LineFlags::EDGE_RISING,
            Edge::Falling => LineFlags::EDGE_FALLING,
            Edge::Both => LineFlags::EDGE_RISING | LineFlags::EDGE_FALLING,
        }
}

/// As many ones as there are lines, at most 64.
fn mask(lines: usize) -> u64 {
    let unused = NUM_LINES_MAX.saturating_sub(lines);
    u32::try_from(unused).ok().and_then(|bits| u64::MAX.checked_shr(bits)).unwrap_or(0)
}

fn read_into(file: &File, scratch: &mut Scratch) -> nix::Result<()> {
    read_event(file, &mut scratch.words).map(drop).map_err(errno)
}

fn errno(error: Error) -> Errno {
    match error {
        Error::Os(errno) => Errno::from_raw(errno.0),
        // A number of bytes that is no whole number of events: no such kernel is known.
        Error::UnderRead(_) => Errno::EBADMSG,
    }
}

#[cfg(test)]
mod tests {
    use super::super::descriptors::spec;
    use super::*;
    use plugstorm_wire::HammerTarget;

    #[test]
    fn masks_have_a_bit_for_each_line() {
        assert_eq!(
            (mask(0), mask(1), mask(3), mask(63), mask(64), mask(65)),
            (0, 1, 7, u64::MAX >> 1, u64::MAX, u64::MAX)
        );
    }

    #[test]
    fn lines_are_outputs_only_if_they_are_set() {
        let reader = spec(HammerTarget::Gpiochip, &[Operation::ReadEvent, Operation::GetValues]);
        assert_eq!(flags(&reader), LineFlags::INPUT | LineFlags::EDGE_RISING | LineFlags::EDGE_FALLING);
        let writer = spec(HammerTarget::Gpiochip, &[Operation::GetValues, Operation::SetValues]);
        assert_eq!(flags(&writer), LineFlags::OUTPUT);
    }

    #[test]
    fn a_node_that_is_not_there_is_worth_another_try() {
        let wanted = spec(HammerTarget::Gpiochip, &[Operation::ChipInfo]);
        let error = Gpiochip::open(&wanted, Path::new("/dev/gpiochip-none"), &[]).unwrap_err();
        assert!(matches!(error, OpenError::NotYet(text) if text.contains("/dev/gpiochip-none")));
    }
}
