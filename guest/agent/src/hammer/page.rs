//! A page of a device, mapped for reading.
#![allow(unsafe_code, reason = "memory is mapped and unmapped")]

use std::ffi::{c_int, c_void};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};

/// Bytes of a page, and of what is mapped.
const PAGE_BYTES: usize = 4096;
/// Bytes of the kernel's set of signals, which it wants to be told.
const SIGNALS_BYTES: usize = 8;
/// Nothing that can be done with a set of signals.
const NO_WAY: c_int = -1;

/// The mapping. It keeps what it maps open, also when the descriptor it was made with is closed.
#[derive(Debug)]
pub(super) struct Page {
    address: NonNull<c_void>,
}

// SAFETY: an address; nothing is loaded through it, and what is done with it, the kernel does.
unsafe impl Send for Page {}
// SAFETY: as above; calls on one mapping at the same time are the kernel's to sort out.
unsafe impl Sync for Page {}

impl Page {
    /// Maps the first page.
    pub(super) fn of(file: impl AsFd) -> nix::Result<Self> {
        let length = NonZeroUsize::new(PAGE_BYTES).ok_or(Errno::EINVAL)?;
        // SAFETY: at an address of the kernel's choice, so nothing of ours is mapped over.
        let address = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { address })
    }

    /// Reads it; with `fault`, by way of a page fault.
    ///
    /// By a system call and not by a load: that one would end in `SIGBUS` when there is nothing behind the mapping any more.
    /// Here it is `EFAULT` of the kernel's, which, like the hang-up of `poll()`, is told as `ENODEV`. Of the calls that read memory,
    /// `rt_sigprocmask()` is in every kernel (`process_vm_readv()` is not), takes no lock and no descriptor, and changes nothing
    /// where it is told to do what there is not: it reads the set before it looks at that.
    pub(super) fn read(&self, fault: bool) -> nix::Result<()> {
        if fault {
            // SAFETY: drops the page from the page table; the mapping, which is never written to, stays.
            unsafe { madvise(self.address, PAGE_BYTES, MmapAdvise::MADV_DONTNEED) }?;
        }
        let (set, old) = (self.address.as_ptr().cast_const(), std::ptr::null_mut::<c_void>());
        // SAFETY: reads so many bytes at the address, if it can, and fails; the mask stays as it is.
        let failed = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, NO_WAY, set, old, SIGNALS_BYTES) };
        match Errno::result(failed) {
            Err(Errno::EINVAL) => Ok(()),
            Err(Errno::EFAULT) => Err(Errno::ENODEV),
            Err(errno) => Err(errno),
            Ok(_) => Err(Errno::EIO),
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by `of()` with this length, and nobody has kept the address. It cannot fail for a whole mapping.
        let _ = unsafe { munmap(self.address, PAGE_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_with_nothing_behind_it_is_told_as_enodev() {
        // A page beyond the end of a file is what a page of a device that has gone is: SIGBUS for a load.
        let path = std::env::temp_dir().join(format!("plugstorm-agent-page-{}", std::process::id()));
        std::fs::write(&path, [7; 10]).unwrap();
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let page = Page::of(&file).unwrap();
        assert_eq!((page.read(false), page.read(true)), (Ok(()), Ok(())));
        file.set_len(0).unwrap();
        assert_eq!((page.read(false), page.read(true)), (Err(Errno::ENODEV), Err(Errno::ENODEV)));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_mask_of_signals_stays_as_it_is() {
        use nix::sys::signal::SigSet;
        let path = std::env::temp_dir().join(format!("plugstorm-agent-page-mask-{}", std::process::id()));
        std::fs::write(&path, [0xff; 64]).unwrap();
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let before = SigSet::thread_get_mask().unwrap();
        assert_eq!(Page::of(&file).unwrap().read(true), Ok(()));
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_cannot_be_mapped_is_refused() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(Page::of(&null).unwrap_err(), Errno::ENODEV);
    }
}
