//! From a function and an offset, as kernels print them, to file and line, with what is inlined there.
//!
//! ```text
//! gpiochip_remove+0x66/0x160  ->  drivers/gpio/gpiolib.c:1215
//! ```
//!
//! A kernel prints places relative to functions, so it is of no account where KASLR has put it. The function is found in the
//! symbol table of a vmlinux or a module, told from others of its name by its size, and the debug information has the rest.
//! Where the file is not of the build that printed the log, there would be lines all the same, and wrong ones: hence
//! [`Symbolizer::compare`].
//!
//! [`elf`] reads files, [`functions`] their symbols, [`relocate`] and [`dwarf`] their debug information, [`inlined`] and
//! [`lines`] what that says of an address; [`log`] reads what a log says of its kernel, [`identity`] compares, [`annotate`]
//! writes.

mod annotate;
mod dwarf;
mod elf;
mod error;
mod functions;
mod identity;
mod image;
mod inlined;
mod lines;
mod log;
mod paths;
mod relocate;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use plugstorm_observe::place::Place;
use serde::{Deserialize, Serialize};

pub use annotate::ReportFrame;
pub use error::SymbolError;
pub use log::LogFacts;

use crate::kernels::{self, canonical};
use elf::Kind;
use image::Image;
use log::Slide;

/// Answers that are kept: reports of one run ask for the same frames again and again.
const MAX_KEPT: usize = 1 << 14;

/// Modules without a file that are named.
const MAX_MISSING: usize = 8;

/// A place in the source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceFrame {
    /// The function by its name in the source. Assembler has none.
    pub function: Option<String>,
    /// The file, from the top of the kernel's tree, or of the module's own.
    pub file: Option<String>,
    /// The line, unless the compiler made the code of no line.
    pub line: Option<u32>,
    /// It was inlined into the next one.
    pub inlined: bool,
}

impl SourceFrame {
    /// `drivers/gpio/gpiolib.c:1215`.
    #[must_use]
    pub fn line_of_file(&self) -> String {
        let file = self.file.as_deref().unwrap_or("?");
        self.line.map_or_else(|| format!("{file}:?"), |line| format!("{file}:{line}"))
    }
}

impl fmt::Display for SourceFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.function.as_deref().unwrap_or("?"), self.line_of_file())
    }
}

/// What is known of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Located {
    /// What is inlined there, innermost first, and last the function itself. Never empty.
    Found(Vec<SourceFrame>),
    /// There are several functions of this name and size: what it would be in each of them.
    Ambiguous(Vec<Vec<SourceFrame>>),
    /// Nothing.
    Unknown(Unknown),
}

impl Located {
    /// The frames of the one place that it can be; none where that is not known.
    #[must_use]
    pub fn frames(&self) -> &[SourceFrame] {
        match self {
            Self::Found(frames) => frames,
            _ => &[],
        }
    }
}

/// Why nothing is known of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Unknown {
    /// There is no file for the kernel, or for this module.
    #[error("no file with debug information for it")]
    NoFile,
    /// The file is of another build.
    #[error("the file is of another build")]
    OtherBuild,
    /// The file's functions have other names.
    #[error("no function of this name")]
    NoFunction,
    /// Functions of this name have other sizes.
    #[error("the function has another size")]
    OtherSize,
    /// The function is there, and the debug information says nothing of it: assembler without it, mostly.
    #[error("no line for it")]
    NoLine,
    /// The file cannot be read on; [`Symbolizer::notes`] has it.
    #[error("the file is damaged")]
    Damaged,
}

/// Files with debug information, asked for places.
///
/// Opening reads headers; symbols and debug information are read when the first place of a file is asked for. It holds what
/// it has read: of a vmlinux, its debug sections without those about variables. A report of 130 places takes 60 ms of CPU and
/// 42 MiB with a vmlinux of 62 MB, 0.4 s and 240 MiB with one of 267 MB; another place, about a millisecond.
#[derive(Debug)]
pub struct Symbolizer {
    vmlinux: Option<Image>,
    modules: BTreeMap<String, Image>,
    slide: Option<Slide>,
    notes: Vec<String>,
    kept: RefCell<HashMap<(Place, bool), Located>>,
}

impl Symbolizer {
    /// Opens a vmlinux, modules, or both. A module's name is that of its file; of several with one name the first counts.
    ///
    /// # Errors
    /// [`SymbolError`]: one of them is not there, is something else, or has no debug information.
    pub fn open(vmlinux: Option<&Path>, modules: &[PathBuf]) -> Result<Self, SymbolError> {
        let mut this = Self {
            vmlinux: vmlinux.map(|path| Image::open(path, Kind::Vmlinux)).transpose()?,
            modules: BTreeMap::new(),
            slide: None,
            notes: Vec::new(),
            kept: RefCell::default(),
        };
        for path in modules {
            let image = Image::open(path, Kind::Module)?;
            this.modules.entry(module_name(path)).or_insert(image);
        }
        Ok(this)
    }

    /// Opens what the cache has for a kernel of this name, with `modules` before those of the cache. A file without debug
    /// information is no error but one of [`Symbolizer::notes`]: Debian's stock kernels have none.
    ///
    /// # Errors
    /// [`SymbolError`]: the cache has no such kernel, or one of `modules` cannot be used.
    pub fn for_kernel(name: &str, modules: &[PathBuf]) -> Result<Self, SymbolError> {
        let files = kernels::debug_files(name)?;
        let mut this = Self::open(None, modules)?;
        match files.vmlinux.as_deref().map(|path| Image::open(path, Kind::Vmlinux)) {
            Some(Ok(image)) => this.vmlinux = Some(image),
            Some(Err(error)) => this.notes.push(error.to_string()),
            None => this.notes.push(format!(
                "the cache has no debug information of {name} itself{}, so its functions stay as function+offset",
                files.hint
            )),
        }
        for path in files.modules {
            // A stock module has none, and that is no news.
            match Image::open(&path, Kind::Module) {
                Ok(image) => drop(this.modules.entry(module_name(&path)).or_insert(image)),
                Err(SymbolError::NoDebugInfo { .. }) => {}
                Err(error) => this.notes.push(error.to_string()),
            }
        }
        Ok(this)
    }

    /// What is missing or damaged: a sentence each.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let faults = self.images().filter_map(|(_, image)| image.fault().map(ToString::to_string));
        self.notes.iter().cloned().chain(faults).collect()
    }

    /// Compares the files with the log that is to be looked at, and learns how far its kernel was moved. A file of another
    /// build gives no lines from then on. A sentence for each such file that the log has places of, and one for modules
    /// that there is no file for.
    pub fn compare(&mut self, facts: &LogFacts) -> Vec<String> {
        self.kept.borrow_mut().clear();
        self.slide = self.vmlinux.as_ref().and_then(|image| identity::slide(image, facts));
        let mut sentences = Vec::new();
        for (module, image) in self.images() {
            // What the log has nothing of is not asked for anything.
            let is_asked = facts.of_module(module).next().is_some();
            let other = identity::other_build(image, facts, module).filter(|_| is_asked || module.is_none());
            image.is_other_build.set(other.is_some());
            sentences.extend(other.map(|reason| {
                format!("{} is of another build than the log ({reason}): it gives no lines", image.elf.path.display())
            }));
        }
        let named = facts.places.iter().filter_map(|place| place.module.as_deref());
        let missing: BTreeSet<&str> = named.filter(|module| !self.modules.contains_key(*module)).collect();
        if !missing.is_empty() {
            let some: Vec<&str> = missing.iter().take(MAX_MISSING).copied().collect();
            let more = if missing.len() > MAX_MISSING { ", …" } else { "" };
            sentences.push(format!(
                "no file with debug information for {}{more}, which the log names: --module takes them",
                some.join(", ")
            ));
        }
        sentences
    }

    /// Where a place is in the source. A return address is that of the instruction after a call; the line is the call's.
    #[must_use]
    pub fn frames(&self, place: &Place, is_return_address: bool) -> Located {
        let key = (place.clone(), is_return_address);
        if let Some(known) = self.kept.borrow().get(&key) {
            return known.clone();
        }
        let image = match &place.module {
            None => self.vmlinux.as_ref(),
            Some(module) => self.modules.get(&canonical(module)),
        };
        let tree = self.vmlinux.as_ref().filter(|_| place.module.is_some()).map_or(&[][..], |vmlinux| vmlinux.roots());
        let located = match image {
            Some(image) => image.locate(place, is_return_address, tree),
            None => Located::Unknown(Unknown::NoFile),
        };
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(key, located.clone());
        located
    }

    /// The function of the kernel itself that an address is in, and where that is in the source. Nothing if the log has not
    /// told how far its kernel was moved.
    #[must_use]
    pub fn at_address(&self, address: u64, is_return_address: bool) -> Option<(Place, Vec<SourceFrame>)> {
        let image = self.vmlinux.as_ref().filter(|image| !image.is_other_build.get())?;
        image.at(address.checked_sub(self.slide?.0)?, is_return_address)
    }

    fn images(&self) -> impl Iterator<Item = (Option<&str>, &Image)> {
        let modules = self.modules.iter().map(|(name, image)| (Some(name.as_str()), image));
        self.vmlinux.iter().map(|image| (None, image)).chain(modules)
    }
}

/// `gpio-virtio.ko`, and `gpio-virtio.ko.debug` as some distributions have it, is `gpio_virtio`.
fn module_name(path: &Path) -> String {
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    canonical(file.split(".ko").next().unwrap_or_default())
}

#[cfg(test)]
mod tests;
