//! One file with what it says of functions: a vmlinux or a module.

use std::cell::{Cell, OnceCell};
use std::path::Path;

use plugstorm_observe::place::Place;

use super::dwarf::{Dwarf, RawFrame};
use super::elf::{Elf, Kind};
use super::functions::{Function, Functions};
use super::paths;
use super::{Located, SourceFrame, SymbolError, Unknown};

/// Functions of one name that are looked at. Of `cleanup` and its like a kernel may have some dozens.
const MAX_CANDIDATES: usize = 64;
/// A symbol name of the kernel that every kernel has, and the file that it is in: scripts/decode_stacktrace.sh finds the top
/// of the tree by it.
const KNOWN: (&str, &str) = ("panic", "/kernel/panic.c");

/// A file, and what has been read of it so far.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) elf: Elf,
    functions: OnceCell<Result<Functions, SymbolError>>,
    dwarf: OnceCell<Result<Dwarf, SymbolError>>,
    roots: OnceCell<Vec<String>>,
    /// It is known not to be what has printed the log.
    pub(super) is_other_build: Cell<bool>,
}

impl Image {
    pub(super) fn open(path: &Path, kind: Kind) -> Result<Self, SymbolError> {
        Ok(Self {
            elf: Elf::open(path, kind)?,
            functions: OnceCell::new(),
            dwarf: OnceCell::new(),
            roots: OnceCell::new(),
            is_other_build: Cell::new(false),
        })
    }

    pub(super) fn functions(&self) -> Option<&Functions> {
        self.functions.get_or_init(|| Functions::read(&self.elf)).as_ref().ok()
    }

    fn dwarf(&self) -> Option<&Dwarf> {
        self.dwarf.get_or_init(|| Dwarf::read(&self.elf)).as_ref().ok()
    }

    /// What turned out to be wrong with it after it was opened.
    pub(super) fn fault(&self) -> Option<&SymbolError> {
        let functions = self.functions.get().and_then(|read| read.as_ref().err());
        functions.or_else(|| self.dwarf.get().and_then(|read| read.as_ref().err()))
    }

    /// Whether it has a function that would be printed with this name, size and offset.
    pub(super) fn has(&self, place: &Place) -> bool {
        !self.candidates(place).is_empty()
    }

    /// The only function that would be printed so.
    pub(super) fn only(&self, place: &Place) -> Option<&Function> {
        match self.candidates(place)[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    fn candidates(&self, place: &Place) -> Vec<&Function> {
        let Some(functions) = self.functions() else { return Vec::new() };
        let named = functions.named(&place.function);
        let fitting = named.filter(|function| function.fits(place.size) && function.reaches(place.offset));
        fitting.take(MAX_CANDIDATES).collect()
    }

    /// Where a place is from.
    pub(super) fn locate(&self, place: &Place, is_return_address: bool, tree: &[String]) -> Located {
        if self.is_other_build.get() {
            return Located::Unknown(Unknown::OtherBuild);
        }
        let candidates = self.candidates(place);
        if candidates.is_empty() {
            let Some(functions) = self.functions() else { return Located::Unknown(Unknown::Damaged) };
            let is_there = functions.named(&place.function).next().is_some();
            return Located::Unknown(if is_there { Unknown::OtherSize } else { Unknown::NoFunction });
        }
        let mut found: Vec<Vec<SourceFrame>> = Vec::new();
        for function in candidates {
            let Some(address) = function.address.checked_add(place.offset) else { continue };
            let frames = self.frames(place, called_from(address, place.offset, is_return_address), tree);
            // One function that several units have a copy of is in one place, whichever it is.
            if !found.contains(&frames) {
                found.push(frames);
            }
        }
        if self.dwarf().is_none() {
            return Located::Unknown(Unknown::Damaged);
        }
        match found.len() {
            0 => Located::Unknown(Unknown::NoLine),
            1 if found.first().is_some_and(Vec::is_empty) => Located::Unknown(Unknown::NoLine),
            1 => Located::Found(found.pop().unwrap_or_default()),
            _ => Located::Ambiguous(found),
        }
    }

    /// The function that an address of the file is in, with the offset, and where it is from.
    pub(super) fn at(&self, address: u64, is_return_address: bool) -> Option<(Place, Vec<SourceFrame>)> {
        let (function, offset) = self.functions()?.around(address)?;
        let place = Place { function, offset, size: None, module: None, build_id: None };
        let frames = self.frames(&place, called_from(address, offset, is_return_address), &[]);
        Some((place, frames))
    }

    fn frames(&self, place: &Place, address: u64, tree: &[String]) -> Vec<SourceFrame> {
        let Some(dwarf) = self.dwarf() else { return Vec::new() };
        let roots = self.roots();
        let name = |path: String| {
            let own = paths::relative(&path, roots);
            if own == path { paths::relative(&path, tree) } else { own }
        };
        let mut frames: Vec<SourceFrame> = dwarf
            .frames(address)
            .into_iter()
            .map(|RawFrame { function, file, line }| SourceFrame {
                function,
                file: file.map(name),
                line: line.and_then(|line| u32::try_from(line).ok()),
                inlined: true,
            })
            .collect();
        if let Some(last) = frames.last_mut() {
            last.inlined = false;
            // Assembler has lines only; the symbol has its name.
            last.function.get_or_insert_with(|| place.symbol().name);
        }
        frames.retain(|frame| frame.file.is_some());
        frames
    }

    /// The folders that its source files' paths begin at.
    pub(super) fn roots(&self) -> &[String] {
        self.roots.get_or_init(|| {
            let Some(dwarf) = self.dwarf() else { return Vec::new() };
            let mut roots = Vec::new();
            if self.elf.kind == Kind::Vmlinux {
                let (name, file) = KNOWN;
                let known = self.functions().and_then(|functions| functions.named(name).next());
                let frames = known.map(|function| dwarf.frames(function.address)).unwrap_or_default();
                let path = frames.last().and_then(|frame| frame.file.clone()).unwrap_or_default();
                roots.extend(path.strip_suffix(file).map(str::to_owned));
            }
            roots.extend(dwarf.folder.iter().cloned());
            roots.extend(dwarf.sources.iter().cloned());
            roots.dedup();
            roots
        })
    }
}

/// The address to look at. Where a call returns to is the next line already, and after a call of what never returns
/// it is another function.
fn called_from(address: u64, offset: u64, is_return_address: bool) -> u64 {
    if is_return_address && offset > 0 { address.saturating_sub(1) } else { address }
}
