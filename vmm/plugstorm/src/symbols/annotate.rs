//! A report's text with files and lines in it.

use plugstorm_observe::place::{Place, Role, Sighting, Spot, sightings, stamp_bytes};
use serde::Serialize;

use super::{Located, SourceFrame, Symbolizer, Unknown};

/// Places of one name that are shown of one that could be any of them.
const MAX_SHOWN: usize = 4;

/// A frame of a report, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReportFrame {
    /// The function, with what the compiler appended. Nothing for an address outside of what is known.
    pub function: Option<String>,
    /// Bytes from its beginning.
    pub offset: Option<u64>,
    /// Bytes to the next function.
    pub size: Option<u64>,
    /// The module, unless it is of the kernel itself.
    pub module: Option<String>,
    /// The address in hexadecimal, for one that was printed without a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Where a CPU was, or a frame of a stack.
    pub role: Role,
    /// The unwinder was sure of it.
    pub reliable: bool,
    /// Where it is in the source: what is inlined there first, the function itself last. Empty if that is not known.
    pub source: Vec<SourceFrame>,
    /// Why `source` is empty: a few words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

impl Symbolizer {
    /// The frames of a report's stacks and where its CPUs were, in order.
    #[must_use]
    pub fn report_frames(&self, text: &str) -> Vec<ReportFrame> {
        let of_stacks = |sighting: &Sighting| sighting.role != Role::Mention;
        text.lines().flat_map(sightings).filter(of_stacks).map(|sighting| self.report_frame(&sighting)).collect()
    }

    fn report_frame(&self, sighting: &Sighting) -> ReportFrame {
        let (place, located) = self.sighted(sighting);
        let unknown = describe(&located);
        let source = match located {
            Located::Found(frames) => frames,
            _ => Vec::new(),
        };
        let address = match sighting.spot {
            Spot::Address(address) => Some(format!("{address:#x}")),
            Spot::Place(_) => None,
        };
        let (role, reliable) = (sighting.role, sighting.reliable);
        let offset = place.as_ref().map(|place| place.offset);
        let size = place.as_ref().and_then(|place| place.size);
        let (function, module) = place.map(|place| (place.function, place.module)).unzip();
        ReportFrame { function, offset, size, module: module.flatten(), address, role, reliable, source, unknown }
    }

    /// A report's text with `(file:line)` after each place in it. Above a frame of a stack stand the functions that are inlined
    /// there, as lines of their own with `[inlined]` at their end; not for frames that the unwinder is not sure of.
    #[must_use]
    pub fn annotate(&self, text: &str) -> String {
        let mut annotated = String::new();
        for line in text.lines() {
            self.annotate_line(line, &mut annotated);
            annotated.push('\n');
        }
        if !text.ends_with('\n') {
            annotated.pop();
        }
        annotated
    }

    fn annotate_line(&self, line: &str, annotated: &mut String) {
        let found = sightings(line);
        let mut notes = Vec::new();
        for sighting in &found {
            // A warning says where it is itself.
            if names_a_line(line.get(..sighting.range.start).unwrap_or_default()) {
                continue;
            }
            let (place, located) = self.sighted(sighting);
            let name = match (&sighting.spot, place) {
                (Spot::Address(_), Some(place)) => format!("{}+{:#x} ", place.function, place.offset),
                _ => String::new(),
            };
            match located {
                Located::Found(frames) if sighting.role == Role::Frame && sighting.reliable => {
                    let indent = indent(line);
                    let (inlined, own) = frames.split_at(frames.len().saturating_sub(1));
                    for frame in inlined {
                        annotated.push_str(&format!("{indent}{frame} [inlined]\n"));
                    }
                    notes.extend(own.iter().map(|frame| format!("{name}{}", frame.line_of_file())));
                }
                Located::Found(frames) if sighting.role == Role::Frame => {
                    notes.extend(frames.last().map(|frame| format!("{name}{}", frame.line_of_file())));
                }
                Located::Found(frames) => notes.push(format!("{name}{}", in_a_row(&frames))),
                Located::Ambiguous(_) => notes.extend(describe(&located)),
                Located::Unknown(_) => {}
            }
        }
        annotated.push_str(line);
        if !notes.is_empty() {
            annotated.push_str(&format!(" ({})", notes.join("; ")));
        }
    }

    fn sighted(&self, sighting: &Sighting) -> (Option<Place>, Located) {
        let is_return_address = sighting.role != Role::Pointer;
        match &sighting.spot {
            Spot::Place(place) => (Some(place.clone()), self.frames(place, is_return_address)),
            Spot::Address(address) => match self.at_address(*address, is_return_address) {
                Some((place, frames)) if frames.is_empty() => (Some(place), Located::Unknown(Unknown::NoLine)),
                Some((place, frames)) => (Some(place), Located::Found(frames)),
                None => (None, Located::Unknown(Unknown::NoFunction)),
            },
        }
    }
}

/// What stands before the text of a line: its time stamp, and blanks.
fn indent(line: &str) -> &str {
    let stamp = stamp_bytes(line);
    let text = line.get(stamp..).unwrap_or_default().trim_start();
    line.get(..line.len() - text.len()).unwrap_or_default()
}

/// `… at drivers/gpio/gpiolib.c:1168 `.
fn names_a_line(before: &str) -> bool {
    let word = before.trim_end().trim_end_matches(" at").rsplit(' ').next().unwrap_or_default();
    let Some((file, line)) = word.rsplit_once(':') else { return false };
    let is_source = [".c", ".h", ".S", ".rs"].iter().any(|ending| file.ends_with(ending));
    is_source && !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit())
}

/// `drivers/gpio/gpiolib.c:1168; inlined there: srcu_read_lock, include/linux/srcu.h:305`: the function's own line, and where
/// exactly it was. What is between them is in the stack, or can be read there.
fn in_a_row(frames: &[SourceFrame]) -> String {
    let own = frames.last().map(SourceFrame::line_of_file).unwrap_or_default();
    match frames.first().filter(|frame| frame.inlined) {
        None => own,
        Some(frame) => {
            let function = frame.function.as_deref().unwrap_or("?");
            format!("{own}; inlined there: {function}, {}", frame.line_of_file())
        }
    }
}

/// Why there is no source, in a few words.
fn describe(located: &Located) -> Option<String> {
    match located {
        Located::Found(_) => None,
        Located::Unknown(unknown) => Some(unknown.to_string()),
        Located::Ambiguous(all) => {
            let name = |frames: &Vec<SourceFrame>| frames.last().map_or("unknown".into(), SourceFrame::line_of_file);
            let shown: Vec<String> = all.iter().take(MAX_SHOWN).map(name).collect();
            let more = if all.len() > MAX_SHOWN { ", …" } else { "" };
            Some(format!("one of {} functions of this name: {}{more}", all.len(), shown.join(", ")))
        }
    }
}
