//! Which pages of our address space are there (Documentation/admin-guide/mm/pagemap.rst).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::image::PAGE_BYTES;

/// The page is in memory, or swapped out.
const PRESENT_OR_SWAPPED: u64 = 1 << 63 | 1 << 62;
/// The page is a file's, or shared; of memory mapped privately, one that was not written.
const FILES_PAGE: u64 = 1 << 61;
const ENTRY_BYTES: usize = 8;

/// `/proc/self/pagemap`.
#[derive(Debug)]
pub(super) struct Pagemap(File);

/// What is known of a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page(u64);

impl Pagemap {
    /// None where the system does not tell.
    pub(super) fn open() -> Option<Self> {
        File::open("/proc/self/pagemap").ok().map(Self)
    }

    /// The pages from an address on.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn pages(&self, address: u64, bytes: u64) -> io::Result<Vec<Page>> {
        // As many as fit into a mapping.
        let mut raw = vec![0u8; (bytes / PAGE_BYTES) as usize * ENTRY_BYTES];
        self.0.read_exact_at(&mut raw, address / PAGE_BYTES * ENTRY_BYTES as u64)?;
        let (entries, _) = raw.as_chunks::<ENTRY_BYTES>();
        Ok(entries.iter().map(|entry| Page(u64::from_le_bytes(*entry))).collect())
    }
}

impl Page {
    /// It has been touched.
    pub(super) fn is_there(self) -> bool {
        self.0 & PRESENT_OR_SWAPPED != 0
    }

    /// Of memory that is mapped privately: it has been written.
    pub(super) fn is_our_own(self) -> bool {
        self.is_there() && self.0 & FILES_PAGE == 0
    }
}
