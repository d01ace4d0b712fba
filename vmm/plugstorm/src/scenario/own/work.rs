//! What hammers and steps do with what the user brings along: any device node, and programs.

use std::ops::Range;
use std::time::Duration;

use plugstorm_wire::{IoctlArgument, IoctlSpec, Operation};
use serde::Deserialize;
use toml::Spanned;

use super::super::check::{LONGEST_TIME_OUT, operation_name, within};
use super::super::quantity::Time;
use super::super::table::{HammerTable, StepTable};
use super::super::{Driver, Mistake};
use super::{Node, Program, Work, check_pattern, unfit_path};

/// Words of a program's command line, and all of them together, in bytes.
const MOST_WORDS: usize = 64;
const LONGEST_PROGRAM: usize = 4096;
/// What is read, written or mapped in one call of a hammer on any node, at most, in bytes.
const MOST_CALL_BYTES: u64 = 1 << 16;
/// Bytes of an `ioctl()`'s argument that a scenario may spell out.
const MOST_ARGUMENT_BYTES: usize = 512;
/// The largest argument of an `ioctl()`, in bytes: more than a number has bits for.
const LARGEST_ARGUMENT: u64 = 1 << 16;
/// How long a program may take if the scenario says nothing.
const PROGRAM_TIME_OUT: Duration = Duration::from_secs(10);

/// An `ioctl()` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::scenario) struct IoctlTable {
    number: Spanned<u64>,
    argument: Option<Spanned<u64>>,
    bytes: Option<Spanned<String>>,
    size: Option<Spanned<u64>>,
}

/// What a hammer works on. `device`: the driver and node of the device that it names.
pub(in crate::scenario) fn work(
    table: &HammerTable,
    device: Option<(Driver, Option<&Spanned<String>>)>,
    mistakes: &mut Vec<Mistake>,
) -> Work {
    if let Some(program) = &table.program {
        let keys = [
            ("node", table.node.as_ref().map(Spanned::span)),
            ("operations", table.operations.as_ref().map(Spanned::span)),
            ("descriptor", table.descriptor.as_ref().map(Spanned::span)),
            ("ioctl", table.ioctl.as_ref().map(Spanned::span)),
            ("bytes", table.bytes.as_ref().map(Spanned::span)),
            ("lines", table.lines.as_ref().map(Spanned::span)),
            ("edge", table.edge.as_ref().map(Spanned::span)),
        ];
        no_meaning(keys, "a hammer that runs a program", mistakes);
        check_program(program, mistakes);
        return Work::Program { program: program.get_ref().clone(), span: program.span() };
    }
    let of_device = device.and_then(|(driver, node)| matches!(driver, Driver::Other { .. }).then_some(node));
    let pattern = table.node.as_ref().or_else(|| of_device.flatten());
    let Some(pattern) = pattern else {
        if of_device.is_some() {
            let message =
                format!("hammer `{}` names no `node`, and its device names none either", table.name.get_ref());
            mistakes.push(Mistake::new(
                table.name.span(),
                message,
                "add node = \"/dev/…\" to the hammer or the device",
            ));
        } else if table.device.is_none() {
            let message = format!("hammer `{}` has nothing to work on", table.name.get_ref());
            let help = "add device = \"…\", node = \"/dev/…\" or program = [\"/bin/…\"]";
            mistakes.push(Mistake::new(table.name.span(), message, help));
        }
        let keys =
            [("ioctl", table.ioctl.as_ref().map(Spanned::span)), ("bytes", table.bytes.as_ref().map(Spanned::span))];
        no_meaning(keys, "a hammer without a `node`", mistakes);
        return Work::Device;
    };
    check_pattern(pattern, mistakes);
    let keys = [("lines", table.lines.as_ref().map(Spanned::span)), ("edge", table.edge.as_ref().map(Spanned::span))];
    no_meaning(keys, "a hammer on a `node`", mistakes);
    let operations = table.operations.iter().flat_map(Spanned::get_ref);
    for operation in operations {
        let kind = *operation.get_ref();
        if !on_any_node(kind) {
            let message = format!("`{}` cannot be done to any node", operation_name(kind));
            let help =
                "possible are: `open`, `read`, `read-nonblocking`, `write`, `ioctl`, `poll`, `poll-wait`, `mmap-read`";
            mistakes.push(Mistake::new(operation.span(), message, help));
        } else if kind == Operation::Ioctl && table.ioctl.is_none() {
            let message = "`ioctl` needs a number and an argument";
            mistakes.push(Mistake::new(operation.span(), message, "add ioctl = { number = 0x5001, argument = 0 }"));
        }
    }
    let bytes = within(table.bytes.as_ref(), 4096, 1..=MOST_CALL_BYTES, "bytes", mistakes);
    Work::Node(Node {
        pattern: pattern.get_ref().clone(),
        ioctl: table.ioctl.as_ref().map(|ioctl| read_ioctl(ioctl.get_ref(), mistakes)),
        bytes: u32::try_from(bytes).unwrap_or(4096),
    })
}

/// Notes keys that have no meaning.
fn no_meaning<const N: usize>(keys: [(&str, Option<Range<usize>>); N], here: &str, mistakes: &mut Vec<Mistake>) {
    for (key, place) in keys {
        if let Some(place) = place {
            mistakes.push(Mistake::new(place, format!("`{key}` has no meaning for {here}"), "leave it out"));
        }
    }
}

fn on_any_node(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Open
            | Operation::Read
            | Operation::ReadNonblocking
            | Operation::Write
            | Operation::Ioctl
            | Operation::Poll
            | Operation::PollWait
            | Operation::MmapRead
    )
}

fn read_ioctl(table: &IoctlTable, mistakes: &mut Vec<Mistake>) -> IoctlSpec {
    let number = within(Some(&table.number), 0, 0..=u64::from(u32::MAX), "number", mistakes);
    let number = u32::try_from(number).unwrap_or(0);
    let size = table.size.as_ref().map(|size| within(Some(size), 1, 1..=LARGEST_ARGUMENT, "size", mistakes));
    let buffer = table.bytes.as_ref().map(|bytes| match hexadecimal(bytes.get_ref()) {
        Some(read) if size.is_none_or(|size| read.len() as u64 <= size) => read,
        Some(_) => {
            mistakes.push(Mistake::new(
                bytes.span(),
                "these are more bytes than `size`",
                "give fewer, or a greater `size`",
            ));
            Vec::new()
        }
        None => {
            let message = "these are no bytes in hexadecimal digits";
            let help =
                format!("write two digits for each, at most {MOST_ARGUMENT_BYTES} of them, such as \"00 01 ff\"");
            mistakes.push(Mistake::new(bytes.span(), message, help));
            Vec::new()
        }
    });
    if let (Some(argument), true) = (&table.argument, buffer.is_some() || size.is_some()) {
        let message = "an `ioctl` has one argument: a number (`argument`) or a buffer (`bytes`, `size`)";
        mistakes.push(Mistake::new(argument.span(), message, "leave one of them out"));
    }
    let argument = match (buffer, size) {
        (None, None) => IoctlArgument::Value(table.argument.as_ref().map_or(0, |argument| *argument.get_ref())),
        (buffer, size) => {
            let bytes = buffer.unwrap_or_default();
            let size = size.and_then(|size| u32::try_from(size).ok()).unwrap_or_else(|| {
                // At most MOST_ARGUMENT_BYTES.
                u32::try_from(bytes.len()).unwrap_or(u32::MAX)
            });
            IoctlArgument::Buffer { bytes, size }
        }
    };
    IoctlSpec { number, argument }
}

/// Bytes as two digits each, with or without white space between them.
fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for word in text.split_ascii_whitespace() {
        if !word.len().is_multiple_of(2) || !word.bytes().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        for at in (0..word.len()).step_by(2) {
            bytes.push(u8::from_str_radix(word.get(at..at + 2)?, 16).ok()?);
        }
    }
    (!bytes.is_empty() && bytes.len() <= MOST_ARGUMENT_BYTES).then_some(bytes)
}

fn check_program(program: &Spanned<Vec<String>>, mistakes: &mut Vec<Mistake>) {
    let words = program.get_ref();
    let length = words.iter().map(|word| word.len() + 1).sum::<usize>();
    let path = words.first().map_or("", String::as_str);
    if let Some(why) = unfit_path(path) {
        let message = format!("`{}` {why}, and a program needs one", path.escape_debug());
        mistakes.push(Mistake::new(
            program.span(),
            message,
            "begin with its path in the guest, such as [\"/bin/x\", \"-v\"]",
        ));
    } else if words.len() > MOST_WORDS || length > LONGEST_PROGRAM || words.iter().any(|word| word.contains('\0')) {
        let help = format!("use at most {MOST_WORDS} words of {LONGEST_PROGRAM} bytes together");
        mistakes.push(Mistake::new(program.span(), "this cannot be a program's command line", help));
    }
}

/// The program of a step `run`.
pub(in crate::scenario) fn program(step: &StepTable, mistakes: &mut Vec<Mistake>) -> Option<Program> {
    let program = step.program.as_ref()?;
    check_program(program, mistakes);
    let expect = within(step.expect.as_ref(), 0, 0..=255, "expect", mistakes);
    let time_out = step.time_out.as_ref().map_or(PROGRAM_TIME_OUT, |time_out: &Spanned<Time>| time_out.get_ref().0);
    if let Some(place) = &step.time_out
        && !(Duration::from_millis(1)..=LONGEST_TIME_OUT).contains(&time_out)
    {
        let help = "give 1ms to 60min; it is multiplied by the measured slowdown";
        mistakes.push(Mistake::new(place.span(), "the time-out of a program is out of bounds", help));
    }
    Some(Program {
        program: program.get_ref().clone(),
        expect: u8::try_from(expect).unwrap_or(0),
        time_out,
        span: program.span(),
    })
}
