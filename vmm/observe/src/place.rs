//! Places in kernel code with their offsets, as `%pS` and `%pB` print them, and where they stand in a report's lines.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::symbol::{Symbol, is_identifier, strip_compiler_suffix};

/// The longest symbol name read: `KSYM_NAME_LEN` of the kernel.
const MAX_NAME_BYTES: usize = 512;
/// How far into a line places are looked for. The kernel's own lines are shorter (`PRINTKRB_RECORD_MAX`, 1 KiB).
const MAX_LINE_BYTES: usize = 4096;
/// Places looked for in one line: arm names a caller beside each function, lockdep up to two.
const MAX_IN_LINE: usize = 4;

/// A function and how far into it: `virtio_gpio_remove+0x1d/0x50 [gpio_virtio]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The function as the symbol table has it, with what the compiler appended (`.isra.0`, `.constprop.2`, `.cold`).
    pub function: String,
    /// Bytes from its beginning.
    pub offset: u64,
    /// Bytes from its beginning to that of the next function, if they were printed.
    pub size: Option<u64>,
    /// The module, unless the function is in the kernel itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The module's build id in hexadecimal, which a kernel with `CONFIG_STACKTRACE_BUILD_ID` prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
}

impl Place {
    /// Reads `gpiochip_remove+0x66/0x160` or `plugstorm_revoke+0x12/0x40 [plugstorm]`, with what stands before it in a
    /// stack (`[<0>] `, `? `). Gives nothing for a name without an offset, an address, or anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let sighting = sightings(text.trim()).into_iter().next()?;
        (sighting.role != Role::Mention).then_some(())?;
        match sighting.spot {
            Spot::Place(place) => Some(place),
            Spot::Address(_) => None,
        }
    }

    /// The function without its offset, as titles name it.
    #[must_use]
    pub fn symbol(&self) -> Symbol {
        Symbol { name: strip_compiler_suffix(&self.function).to_owned(), module: self.module.clone() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}", self.function, self.offset)?;
        if let Some(size) = self.size {
            write!(f, "/{size:#x}")?;
        }
        match (&self.module, &self.build_id) {
            (Some(module), Some(id)) => write!(f, " [{module} {id}]"),
            (Some(module), None) => write!(f, " [{module}]"),
            _ => Ok(()),
        }
    }
}

/// What a place is in its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Role {
    /// The instruction that a CPU was at: `RIP:`, `pc :`, a `WARNING` or KFENCE's heading.
    Pointer,
    /// A frame of a stack: the address that a call returns to.
    Frame,
    /// Named in a sentence, `BUG: KASAN: … in f+0x1/0x2`. The kernel knows these from the call that reported, so they too
    /// are addresses that a call returns to (`_RET_IP_`).
    Mention,
}

/// What stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spot {
    /// A function and an offset.
    Place(Place),
    /// An address without a name.
    Address(u64),
}

/// A place found in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// What it is.
    pub spot: Spot,
    /// What it is there for.
    pub role: Role,
    /// False for what the unwinder is not sure of: `? f+0x1/0x2`, `f+0x1/0x2 (unreliable)`.
    pub reliable: bool,
    /// The address printed before it, where the kernel prints both.
    pub address: Option<u64>,
    /// Where it stands in the line, in bytes: from the function's name to the end of the module's.
    pub range: Range<usize>,
}

/// How a line begins that says where a CPU was.
const POINTERS: [&str; 12] = [
    "RIP: ",
    "EIP: ",
    "IP: ",
    "PC is at ",
    "pc : ",
    "pc: ",
    "PC: ",
    "epc : ",
    "NIP ",
    "Krnl PSW : ",
    "WARNING: ",
    "CFAR: ",
];
/// KFENCE has the registers of the access at hand, and no call reported it (mm/kfence/report.c, `kfence_report_error()`).
const KFENCE_ACCESSES: [&str; 3] =
    ["BUG: KFENCE: use-after-free ", "BUG: KFENCE: out-of-bounds ", "BUG: KFENCE: invalid "];
/// Not an access but a call: kfence has no registers of it.
const KFENCE_CALL: &str = "BUG: KFENCE: invalid free";
/// User space, by the code segment: `RIP: 0033:0x7f75593f9a2b`.
const USER_SEGMENTS: [&str; 4] = ["0033", "0023", "0073", "002b"];

/// The places in one line of a report, with its time stamp or without, in the order in which they stand.
#[must_use]
pub fn sightings(line: &str) -> Vec<Sighting> {
    let line = head(line);
    let mut found = Vec::new();
    let mut from = 0;
    while found.len() < MAX_IN_LINE
        && let Some(at) = line.get(from..).and_then(|rest| rest.find("+0x"))
    {
        let plus = from + at;
        from = plus + 3;
        if let Some((place, range)) = place_around(line, plus) {
            from = range.end;
            found.push(sighting(line, Spot::Place(place), range));
        }
    }
    if found.is_empty() {
        found.extend(bare_address(line));
    }
    found
}

/// As much of a line as is read, in whole characters.
fn head(line: &str) -> &str {
    let mut end = line.len().min(MAX_LINE_BYTES);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.get(..end).unwrap_or_default()
}

/// The place whose `+0x` is at `plus`.
fn place_around(line: &str, plus: usize) -> Option<(Place, Range<usize>)> {
    let before = line.get(..plus)?;
    let fit = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '$');
    let function = before.get(before.trim_end_matches(fit).len()..)?;
    let first = function.chars().next()?;
    if function.len() > MAX_NAME_BYTES || first.is_ascii_digit() || first == '.' {
        return None;
    }
    let (offset, mut rest) = hexadecimal(line.get(plus + 1..)?)?;
    let mut size = None;
    if let Some((bytes, after)) = rest.strip_prefix('/').and_then(hexadecimal) {
        (size, rest) = (Some(bytes), after);
    }
    let mut place = Place { function: function.to_owned(), offset, size, module: None, build_id: None };
    if let Some((inside, after)) = rest.strip_prefix(" [").and_then(|rest| rest.split_once(']')) {
        let (module, id) = inside.split_once(' ').map_or((inside, None), |(module, id)| (module, Some(id)));
        let is_id = |id: &str| id.len() <= 64 && id.len() >= 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_identifier(module) && id.is_none_or(is_id) {
            (place.module, place.build_id, rest) = (Some(module.to_owned()), id.map(str::to_owned), after);
        }
    }
    Some((place, plus - function.len()..line.len() - rest.len()))
}

/// A hexadecimal number of up to 64 bits with its `0x`, and what follows it.
fn hexadecimal(text: &str) -> Option<(u64, &str)> {
    let digits = text.strip_prefix("0x")?;
    let length = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
    let (digits, rest) = digits.split_at_checked(length)?;
    Some((u64::from_str_radix(digits, 16).ok()?, rest))
}

fn sighting(line: &str, spot: Spot, range: Range<usize>) -> Sighting {
    let before = line.get(..range.start).unwrap_or_default();
    let after = line.get(range.end..).unwrap_or_default();
    let (before, question) = without_question(before.strip_suffix('(').unwrap_or(before));
    let (before, address) = without_addresses(before);
    // Older kernels have the question mark on the other side of the address.
    let (before, other_question) = without_question(before);
    let reliable = !question && !other_question && !after.contains("(unreliable)");
    Sighting { spot, role: role(before), reliable, address, range }
}

fn role(before: &str) -> Role {
    let before = before.get(stamp_bytes(before)..).unwrap_or_default().trim();
    let begins = |starts: &[&str]| starts.iter().any(|start| before.starts_with(start.trim_end()));
    let kfence = before.starts_with("BUG: KFENCE: ") && !before.starts_with(KFENCE_CALL);
    if before.is_empty() || before.ends_with(" from") {
        Role::Frame
    } else if begins(&POINTERS) || kfence && begins(&KFENCE_ACCESSES) {
        Role::Pointer
    } else {
        Role::Mention
    }
}

/// How much of a line is its time stamp and who printed it: `[   12.345678][  T123]`. Nothing of a line without.
#[must_use]
pub fn stamp_bytes(line: &str) -> usize {
    let is_stamp = |inside: &str| {
        let inside = inside.trim_start_matches([' ', 'T', 'C']);
        !inside.is_empty() && inside.len() <= 20 && inside.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    let mut rest = line;
    while let Some((inside, after)) = rest.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']'))
        && is_stamp(inside)
    {
        rest = after;
    }
    line.len() - rest.len()
}

/// Takes off the mark of a frame that the unwinder is not sure of.
fn without_question(before: &str) -> (&str, bool) {
    match before.trim_end().strip_suffix('?') {
        Some(rest) => (rest, true),
        None => (before, false),
    }
}

/// Takes off `[<ffffffff81d90469>]`, of which older kernels print two, and gives the last. `[<0>]` hides an address.
fn without_addresses(before: &str) -> (&str, Option<u64>) {
    let mut before = before.trim_end();
    let mut address = None;
    while let Some((rest, inside)) = before.strip_suffix(']').and_then(|rest| rest.rsplit_once('[')) {
        let digits = inside.strip_prefix('<').and_then(|inside| inside.strip_suffix('>')).unwrap_or(inside);
        let is_address =
            !digits.is_empty() && digits.len() <= 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_address {
            break;
        }
        address = address.or(u64::from_str_radix(digits, 16).ok().filter(|&address| address != 0));
        before = rest.trim_end();
    }
    (before, address)
}

/// A frame or pointer that has no name: `0xffffffffc0401234`, `[<ffffffff81d90469>]`, `pc : ffff800080012345`.
fn bare_address(line: &str) -> Option<Sighting> {
    let text = line.trim_end();
    let word = text.rsplit(char::is_whitespace).next()?;
    let start = text.len() - word.len();
    let (segment, number) = match word.split_once(':') {
        Some((segment, number)) if segment.len() == 4 => (segment, number),
        _ => ("", word),
    };
    if USER_SEGMENTS.contains(&segment) {
        return None;
    }
    let range = start..text.len();
    let digits = number.strip_prefix("0x").or_else(|| number.strip_prefix("[<")?.strip_suffix(">]"));
    let is_address =
        |digits: &str| (8..=16).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    // Without a mark digits could be anything, unless the line is about nothing else.
    let digits = digits.or_else(|| (role(text.get(..start)?) == Role::Pointer).then_some(number))?;
    let address = is_address(digits).then(|| u64::from_str_radix(digits, 16).ok()).flatten()?;
    let found = sighting(line, Spot::Address(address), range);
    (found.role != Role::Mention && !text.trim_start().starts_with("WARNING: ")).then_some(found)
}

#[cfg(test)]
mod tests;
