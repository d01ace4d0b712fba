//! What a scenario's author brings along: modules, files and programs for the guest, drivers and device nodes of their own.
//!
//! Here it is checked as far as words go. That the files are there, and fit the kernel, is found in `crate::own`, before
//! anything boots.

mod work;

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use plugstorm_wire::IoctlSpec;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};
use toml::Spanned;

use super::check::within;
use super::table::{DeviceTable, GuestTable};
use super::{Driver, Mistake};

pub(super) use work::{IoctlTable, program, work};

/// Modules that a scenario may name.
const MOST_MODULES: usize = 32;
/// Files that a scenario may put into its guest.
const MOST_FILES: usize = 1024;
/// The longest options of a module, in bytes.
const LONGEST_OPTIONS: usize = 1024;
/// The longest path in a guest, in bytes.
const LONGEST_PATH: usize = 1024;
/// What the guest has of its own, or mounts.
const RESERVED: [&str; 5] = ["/init", "/dev", "/proc", "/sys", "/plugstorm"];
/// What a virtio-gpio device of anybody's shows (virtio 1.2, 4.1.2.1).
const ANY_VENDOR: u16 = 0x1af4;
const ANY_SUBSYSTEM: u16 = 0x1129;

/// A module file to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleFile {
    /// The file as the scenario names it: relative to the scenario's own file.
    pub file: String,
    /// What the module is told.
    pub options: String,
    /// Where it is named in the scenario, in bytes.
    pub span: Range<usize>,
}

/// A file to put into the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFile {
    /// The file as the scenario names it: relative to the scenario's own file.
    pub from: String,
    /// Its absolute path in the guest.
    pub to: String,
    /// Its permission bits.
    pub mode: u32,
    /// Where it is named in the scenario, in bytes.
    pub span: Range<usize>,
}

/// A program to run as a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its absolute path in the guest, and its arguments.
    pub program: Vec<String>,
    /// The exit code that it is to end with.
    pub expect: u8,
    /// How long it may take, before the slowdown.
    pub time_out: Duration,
    /// Where it is named in the scenario, in bytes.
    pub span: Range<usize>,
}

/// What a hammer works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// The node that its device's driver makes: a gpiochip, or one of our module's.
    Device,
    /// Any device node.
    Node(Node),
    /// A program, which each thread runs again and again.
    Program {
        /// Its absolute path in the guest, and its arguments.
        program: Vec<String>,
        /// Where it is named in the scenario, in bytes.
        span: Range<usize>,
    },
}

/// A device node, and what is done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its path, or a pattern.
    pub pattern: String,
    /// What the operation `ioctl` does.
    pub ioctl: Option<IoctlSpec>,
    /// How much is read, written or mapped in one call, in bytes.
    pub bytes: u32,
}

/// A module as it is written: a file, or a file with options.
#[derive(Debug)]
pub(super) struct ModuleTable {
    file: String,
    options: String,
}

impl<'de> Deserialize<'de> for ModuleTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ModuleTable;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a module's file, or { file = \"x.ko\", options = \"a=1\" }")
            }

            fn visit_str<E: Error>(self, file: &str) -> Result<ModuleTable, E> {
                Ok(ModuleTable { file: file.to_owned(), options: String::new() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ModuleTable, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Whole {
                    file: String,
                    #[serde(default)]
                    options: String,
                }
                let Whole { file, options } = Whole::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ModuleTable { file, options })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A file for the guest as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct FileTable {
    from: Spanned<String>,
    to: Spanned<String>,
    mode: Option<Spanned<u64>>,
}

pub(super) fn modules(table: &GuestTable, mistakes: &mut Vec<Mistake>) -> Vec<ModuleFile> {
    if let Some(module) = table.modules.get(MOST_MODULES) {
        mistakes.push(Mistake::new(
            module.span(),
            format!("these are more than {MOST_MODULES} modules"),
            "leave some out",
        ));
    }
    let mut seen = HashSet::new();
    for module in &table.modules {
        let ModuleTable { file, options } = module.get_ref();
        let name = file.rsplit('/').next().unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
        if !name.chars().all(is_plain) || name.strip_suffix(".ko").is_none_or(str::is_empty) {
            mistakes.push(Mistake::new(
                module.span(),
                format!("`{}` is no name of a module's file", file.escape_debug()),
                "name a file that ends in `.ko`, relative to this one; unpack it if it is compressed",
            ));
        } else if !seen.insert(name.replace('-', "_")) {
            let message = format!("a module `{name}` is named twice, and a kernel takes it once");
            mistakes.push(Mistake::new(module.span(), message, "leave one out"));
        }
        if options.len() > LONGEST_OPTIONS || !options.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
            mistakes.push(Mistake::new(
                module.span(),
                "these options cannot be given to a module",
                format!("use at most {LONGEST_OPTIONS} printable ASCII characters, such as \"debug=1 lines=4\""),
            ));
        }
    }
    let read = |module: &Spanned<ModuleTable>| {
        let ModuleTable { file, options } = module.get_ref();
        ModuleFile { file: file.clone(), options: options.clone(), span: module.span() }
    };
    table.modules.iter().map(read).collect()
}

pub(super) fn files(table: &GuestTable, mistakes: &mut Vec<Mistake>) -> Vec<GuestFile> {
    if let Some(file) = table.file.get(MOST_FILES) {
        mistakes.push(Mistake::new(
            file.from.span(),
            format!("these are more than {MOST_FILES} files"),
            "leave some out",
        ));
    }
    let mut seen: HashSet<&str> = HashSet::new();
    for file in &table.file {
        let to = file.to.get_ref().as_str();
        if let Some(why) = unfit_path(to) {
            let help = "give an absolute path of plain components, such as \"/bin/x\"";
            mistakes.push(Mistake::new(file.to.span(), format!("`{}` {why}", to.escape_debug()), help));
        } else if let Some(own) = RESERVED.iter().find(|own| is_at_or_below(to, own)) {
            let message = format!("`{to}` is not to be had: `{own}` is the guest's own");
            mistakes.push(Mistake::new(file.to.span(), message, "put it somewhere else, such as below /bin or /opt"));
        } else if let Some(other) = seen.iter().find(|other| is_at_or_below(to, other) || is_at_or_below(other, to)) {
            let message = format!("`{to}` is in the way of `{other}`, which is a file");
            mistakes.push(Mistake::new(file.to.span(), message, "give each file a path of its own"));
        } else {
            seen.insert(to);
        }
        if file.from.get_ref().is_empty() {
            mistakes.push(Mistake::new(file.from.span(), "`from` is empty", "name a file, relative to this one"));
        }
    }
    let read = |file: &FileTable| GuestFile {
        from: file.from.get_ref().clone(),
        to: file.to.get_ref().clone(),
        mode: u32::try_from(within(file.mode.as_ref(), 0o755, 0..=0o7777, "mode", &mut *mistakes)).unwrap_or(0o755),
        span: file.from.span(),
    };
    table.file.iter().map(read).collect()
}

/// Why a path cannot be one of a guest's; nothing if it can.
fn unfit_path(path: &str) -> Option<&'static str> {
    let components = || path.split('/').skip(1);
    if !path.starts_with('/') || path.ends_with('/') {
        Some("is no absolute path of a file")
    } else if path.len() > LONGEST_PATH || components().any(|component| component.len() > 255) {
        Some("is too long for a path")
    } else if path.chars().any(char::is_control) || components().any(|it| matches!(it, "" | "." | "..")) {
        Some("has a component that is none")
    } else if path == "/TRAILER!!!" {
        // It would end the archive that the guest starts from.
        Some("has a meaning of its own in an initramfs")
    } else {
        None
    }
}

fn is_at_or_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The driver of a device with driver = "other".
pub(super) fn other_driver(table: &DeviceTable, mistakes: &mut Vec<Mistake>) -> Driver {
    let mut id = |value: Option<&Spanned<u64>>, default: u16, key: &str| {
        let id = within(value, default.into(), 0..=0xffff, key, mistakes);
        u16::try_from(id).unwrap_or(default)
    };
    let vendor = id(table.vendor.as_ref(), ANY_VENDOR, "vendor");
    let subsystem = id(table.subsystem.as_ref(), ANY_SUBSYSTEM, "subsystem");
    if let Some(node) = &table.node {
        check_pattern(node, mistakes);
    }
    if let Some(design) = &table.design {
        let message = "a device with driver = \"other\" has no `design`: that is for our module";
        mistakes.push(Mistake::new(design.span(), message, "leave it out, or write driver = \"plugstorm\""));
    }
    Driver::Other { vendor, subsystem }
}

/// Keys that only a device with a driver of the user's has.
pub(super) fn only_of_others(table: &DeviceTable, mistakes: &mut Vec<Mistake>) {
    let keys = [
        ("vendor", table.vendor.as_ref().map(Spanned::span)),
        ("subsystem", table.subsystem.as_ref().map(Spanned::span)),
        ("node", table.node.as_ref().map(Spanned::span)),
    ];
    for (key, place) in keys {
        if let Some(place) = place {
            let message = format!("`{key}` has no meaning here: plugstorm knows what this driver wants and makes");
            mistakes.push(Mistake::new(place, message, "leave it out, or write driver = \"other\""));
        }
    }
}

fn check_pattern(node: &Spanned<String>, mistakes: &mut Vec<Mistake>) {
    let path = node.get_ref();
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let why = match unfit_path(path) {
        None if !path.starts_with("/dev/") => Some("is no path below /dev"),
        None if folder.contains(['*', '?']) => Some("has a `*` or `?` before its last component"),
        why => why,
    };
    if let Some(why) = why {
        let message = format!("`{}` {why}", path.escape_debug());
        mistakes.push(Mistake::new(
            node.span(),
            message,
            "name a device node, such as \"/dev/mydev0\" or \"/dev/mydev*\"",
        ));
    }
}

#[cfg(test)]
mod tests;
