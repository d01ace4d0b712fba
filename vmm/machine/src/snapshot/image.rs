//! Guest memory in a file: written at a save, mapped privately at a restore, so that any number of guests share what none of
//! them has written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::pagemap::{Page, Pagemap};
use crate::memory::{self, GuestRam};

/// Pages as x86 has them.
pub(super) const PAGE_BYTES: u64 = 4096;
/// Copied at once.
const PIECE_BYTES: u64 = 256 * PAGE_BYTES;
/// Zeroes up to this length do not end an extent: fewer and longer pieces are quicker to read than none of them is to skip.
const GAP_BYTES: u64 = 16 * PAGE_BYTES;

/// A piece of the image that may hold something else than zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// From the start of the file, in bytes.
    pub offset: u64,
    /// Length, in bytes.
    pub bytes: u64,
}

/// The memory of a saved guest: its RAM in the order of addresses, without the hole between low and high RAM. Between the
/// extents are zeroes.
#[derive(Debug, Clone)]
pub struct MemoryImage {
    /// Not to be written while a machine runs from it.
    pub file: Arc<File>,
    /// In ascending order, not overlapping.
    pub extents: Vec<Extent>,
}

/// Writes memory into an empty file. `base` is the image that the memory was mapped from, if it was.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(memory: &GuestRam, base: Option<&MemoryImage>, file: &File) -> io::Result<Vec<Extent>> {
    if file.metadata()?.len() != 0 {
        return Err(io::Error::other("the file is not empty, and what is in it would show between the extents"));
    }
    let mut writer = Writer { file, extents: Vec::new() };
    let mut start = 0;
    let pagemap = Pagemap::open();
    for region in memory.iter() {
        let length = region.len();
        let slice = region.as_volatile_slice().map_err(io::Error::other)?;
        let mut offset = 0;
        while offset < length {
            let bytes = PIECE_BYTES.min(length - offset);
            let touched =
                pagemap.as_ref().is_none_or(|pagemap| is_touched(pagemap, region.as_ptr() as u64 + offset, bytes));
            if touched || base.is_some_and(|base| base.overlaps(start + offset, bytes)) {
                // Both are below the length of a mapping.
                let (at, count) = (offset as usize, bytes as usize);
                let mut piece = vec![0u8; count];
                slice.subslice(at, count).map_err(io::Error::other)?.copy_to(&mut piece);
                writer.piece(start + offset, &piece)?;
            }
            offset += bytes;
        }
        start += length;
    }
    file.set_len(start)?;
    Ok(writer.extents)
}

/// Whether a part of our address space has pages of its own. What cannot be asked counts as touched.
fn is_touched(pagemap: &Pagemap, address: u64, bytes: u64) -> bool {
    pagemap.pages(address, bytes).map_or(true, |pages| pages.into_iter().any(Page::is_there))
}

struct Writer<'a> {
    file: &'a File,
    extents: Vec<Extent>,
}

impl Writer<'_> {
    /// Writes the runs of pages in this piece that are not all zeroes.
    fn piece(&mut self, offset: u64, piece: &[u8]) -> io::Result<()> {
        let mut run: Option<(u64, u64)> = None;
        for (page, at) in piece.chunks(PAGE_BYTES as usize).zip((0u64..).step_by(PAGE_BYTES as usize)) {
            if is_zero(page) {
                continue;
            }
            let end = at + page.len() as u64;
            match &mut run {
                Some((_, last)) if at - *last <= GAP_BYTES => *last = end,
                _ => {
                    if let Some(run) = run.replace((at, end)) {
                        self.run(offset, piece, run)?;
                    }
                }
            }
        }
        run.map_or(Ok(()), |run| self.run(offset, piece, run))
    }

    fn run(&mut self, offset: u64, piece: &[u8], (from, to): (u64, u64)) -> io::Result<()> {
        let bytes = piece.get(from as usize..to as usize).unwrap_or_default();
        self.file.write_all_at(bytes, offset + from)?;
        let extent = Extent { offset: offset + from, bytes: to - from };
        match self.extents.last_mut() {
            // Pieces are looked at one by one, and extents know nothing of them.
            Some(last) if last.offset + last.bytes == extent.offset => last.bytes += extent.bytes,
            _ => self.extents.push(extent),
        }
        Ok(())
    }
}

impl MemoryImage {
    /// Whether there may be something else than zeroes in this part.
    fn overlaps(&self, offset: u64, bytes: u64) -> bool {
        let after = self.extents.partition_point(|extent| extent.offset.saturating_add(extent.bytes) <= offset);
        self.extents.get(after).is_some_and(|extent| extent.offset < offset.saturating_add(bytes))
    }

    /// Maps it for one guest, who shares with others what it does not write.
    ///
    /// # Errors
    /// The file is not as long as the guest's memory, or cannot be mapped.
    pub(crate) fn map(&self, memory_bytes: u64) -> Result<GuestRam, String> {
        let length = self.file.metadata().map_err(|error| error.to_string())?.len();
        if length != memory_bytes {
            return Err(format!("the image has {length} bytes of {memory_bytes}"));
        }
        memory::map_private(&self.file, memory_bytes)
    }
}

fn is_zero(page: &[u8]) -> bool {
    // In words: this looks at every page of a guest.
    let (words, rest) = page.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{Bytes, GuestAddress};

    const BYTES: u64 = 64 << 20;

    fn saved(memory: &GuestRam, base: Option<&MemoryImage>) -> MemoryImage {
        let file = tempfile::tempfile().unwrap();
        let extents = write(memory, base, &file).unwrap();
        MemoryImage { file: Arc::new(file), extents }
    }

    #[test]
    fn what_was_written_comes_back_and_zeroes_take_no_room() {
        let memory = memory::map(BYTES).unwrap();
        for address in [0, 0x1000, 0x20_0fff, BYTES - 1] {
            memory.write_obj(0x5a_u8, GuestAddress(address)).unwrap();
        }
        let image = saved(&memory, None);
        assert_eq!(image.file.metadata().unwrap().len(), BYTES);
        let offsets: Vec<_> = image.extents.iter().map(|extent| (extent.offset, extent.bytes)).collect();
        assert_eq!(offsets, [(0, 0x2000), (0x20_0000, 0x1000), (BYTES - 0x1000, 0x1000)]);
        let fork = image.map(BYTES).unwrap();
        for address in [0, 0x1000, 0x20_0fff, BYTES - 1] {
            assert_eq!(fork.read_obj::<u8>(GuestAddress(address)).unwrap(), 0x5a);
        }
        assert_eq!(fork.read_obj::<u64>(GuestAddress(0x10_0000)).unwrap(), 0);
    }

    #[test]
    fn forks_share_the_image_and_not_what_they_write() {
        let memory = memory::map(BYTES).unwrap();
        memory.write_obj(1_u64, GuestAddress(0x1000)).unwrap();
        let image = saved(&memory, None);
        let (first, second) = (image.map(BYTES).unwrap(), image.map(BYTES).unwrap());
        first.write_obj(2_u64, GuestAddress(0x1000)).unwrap();
        first.write_obj(3_u64, GuestAddress(0x80_0000)).unwrap();
        assert_eq!(second.read_obj::<u64>(GuestAddress(0x1000)).unwrap(), 1);
        assert_eq!(second.read_obj::<u64>(GuestAddress(0x80_0000)).unwrap(), 0);
        // A fork is saved with what it shares, touched or not, and what it has written.
        let again = saved(&first, Some(&image)).map(BYTES).unwrap();
        assert_eq!(again.read_obj::<u64>(GuestAddress(0x1000)).unwrap(), 2);
        assert_eq!(again.read_obj::<u64>(GuestAddress(0x80_0000)).unwrap(), 3);
        let untouched = saved(&second, Some(&image)).map(BYTES).unwrap();
        assert_eq!(untouched.read_obj::<u64>(GuestAddress(0x1000)).unwrap(), 1);
    }

    #[test]
    fn a_page_that_became_zero_again_is_zero_in_the_next_image() {
        let memory = memory::map(BYTES).unwrap();
        memory.write_obj(1_u64, GuestAddress(0x1000)).unwrap();
        let image = saved(&memory, None);
        let fork = image.map(BYTES).unwrap();
        fork.write_obj(0_u64, GuestAddress(0x1000)).unwrap();
        assert_eq!(saved(&fork, Some(&image)).extents, []);
    }

    #[test]
    fn an_image_cut_short_is_refused() {
        let image = saved(&memory::map(BYTES).unwrap(), None);
        image.file.set_len(BYTES - 1).unwrap();
        assert!(image.map(BYTES).unwrap_err().contains("67108863 bytes"));
    }

    #[test]
    fn memory_beyond_the_hole_follows_what_is_below_it() {
        let bytes = memory::HOLE_START + (16 << 20);
        let memory = memory::map(bytes).unwrap();
        memory.write_obj(7_u64, GuestAddress(memory::HOLE_END + 0x2000)).unwrap();
        let image = saved(&memory, None);
        assert_eq!(image.extents, [Extent { offset: memory::HOLE_START + 0x2000, bytes: 0x1000 }]);
        let fork = image.map(bytes).unwrap();
        assert_eq!(fork.read_obj::<u64>(GuestAddress(memory::HOLE_END + 0x2000)).unwrap(), 7);
    }
}
