//! The pages that a fork needs at once: noted of one fork, given to the next before it runs. A page that is missing costs the
//! guest an exit and a fault of the host, one page at a time; given beforehand, neither.
//!
//! It is a hint: with another set, or none, a guest runs the same, slower.

#![expect(unsafe_code, reason = "madvise and KVM_PRE_FAULT_MEMORY take memory by address")]

use kvm_bindings::{KVMIO, kvm_pre_fault_memory};
use kvm_ioctls::VcpuFd;
use serde::{Deserialize, Serialize};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl_iowr_nr;

use super::image::{Extent, PAGE_BYTES};
use super::pagemap::Pagemap;
use crate::machine::Machine;

// include/uapi/linux/kvm.h, since Linux 6.11
ioctl_iowr_nr!(KVM_PRE_FAULT_MEMORY, KVMIO, 0xd5, kvm_pre_fault_memory);

/// Looked at at once, in bytes.
const PART_BYTES: u64 = 4096 * PAGE_BYTES;
/// Ranges of a set that are taken: a file may say anything.
const MOST_RANGES: usize = 1 << 16;

/// Pages of a guest's memory, as offsets into its image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkingSet {
    /// Pages that were written.
    pub written: Vec<Extent>,
    /// Pages that were read only.
    pub read: Vec<Extent>,
}

impl WorkingSet {
    /// Its size, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.written.iter().chain(&self.read).fold(0, |sum, extent| sum.saturating_add(extent.bytes))
    }
}

impl Machine {
    /// The pages that this machine, made from an image, has touched so far. Empty where the system does not tell.
    #[must_use]
    pub fn working_set(&self) -> WorkingSet {
        let mut set = WorkingSet::default();
        let Some(pagemap) = Pagemap::open() else { return set };
        let mut start = 0;
        for region in self.memory.iter() {
            for from in (0..region.len()).step_by(PART_BYTES as usize) {
                let bytes = PART_BYTES.min(region.len() - from);
                let Ok(pages) = pagemap.pages(region.as_ptr() as u64 + from, bytes) else {
                    return WorkingSet::default();
                };
                for (page, offset) in pages.into_iter().zip((start + from..).step_by(PAGE_BYTES as usize)) {
                    if page.is_there() {
                        add(if page.is_our_own() { &mut set.written } else { &mut set.read }, offset);
                    }
                }
            }
            start += region.len();
        }
        set
    }

    /// Gives a machine that was restored, and does not run, these pages at once. What cannot be given comes when it is
    /// touched.
    pub fn prefault(&self, set: &WorkingSet) {
        // A file may say anything, also the same pages again and again.
        let mut room = self.shape.memory_bytes;
        for (extents, advice) in [(&set.written, libc::MADV_POPULATE_WRITE), (&set.read, libc::MADV_POPULATE_READ)] {
            for extent in extents.iter().take(MOST_RANGES) {
                let Some(left) = room.checked_sub(extent.bytes) else { continue };
                room = left;
                self.prefault_extent(*extent, advice);
            }
        }
    }

    fn prefault_extent(&self, extent: Extent, advice: libc::c_int) {
        let mut start = 0;
        for region in self.memory.iter() {
            let inside = extent.offset.checked_sub(start).filter(|offset| {
                offset.is_multiple_of(PAGE_BYTES)
                    && extent.bytes.is_multiple_of(PAGE_BYTES)
                    && offset.checked_add(extent.bytes).is_some_and(|end| end <= region.len())
            });
            if let Some(offset) = inside {
                // Both are below the length of a mapping.
                let (at, length) = (offset as usize, extent.bytes as usize);
                // SAFETY: the range lies in the mapping of `region`, which `self.memory` keeps; populating it changes
                // nothing that can be read there.
                let populated = unsafe { libc::madvise(region.as_ptr().wrapping_add(at).cast(), length, advice) };
                if populated == 0
                    && let Some(vcpu) = self.waiting.first()
                {
                    map_for_guest(&vcpu.fd, region.start_addr().0.saturating_add(offset), extent.bytes);
                }
            }
            start += region.len();
        }
    }
}

/// Has KVM map pages that the host has: as a fault of the guest would, without the guest (api.rst, KVM_PRE_FAULT_MEMORY).
fn map_for_guest(vcpu: &VcpuFd, gpa: u64, size: u64) {
    let mut range = kvm_pre_fault_memory { gpa, size, ..Default::default() };
    while range.size > 0 {
        let left = range.size;
        // SAFETY: the descriptor is a vCPU's, and the structure outlives the call. KVM refuses addresses without memory.
        let done = unsafe { ioctl_with_mut_ref(vcpu, KVM_PRE_FAULT_MEMORY(), &mut range) };
        // It may stop half-way, and says how much is left.
        if done != 0 || range.size >= left {
            return;
        }
    }
}

/// Adds a page to ranges in ascending order.
fn add(ranges: &mut Vec<Extent>, offset: u64) {
    match ranges.last_mut() {
        Some(last) if last.offset + last.bytes == offset => last.bytes += PAGE_BYTES,
        _ => ranges.push(Extent { offset, bytes: PAGE_BYTES }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_beside_each_other_are_one_range() {
        let mut ranges = Vec::new();
        for page in [0, 1, 2, 5, 7, 8] {
            add(&mut ranges, page * PAGE_BYTES);
        }
        let expected = [(0, 3), (5, 1), (7, 2)];
        assert_eq!(
            ranges,
            expected.map(|(page, pages)| Extent { offset: page * PAGE_BYTES, bytes: pages * PAGE_BYTES })
        );
        assert_eq!(WorkingSet { written: ranges.clone(), read: ranges }.bytes(), 12 * PAGE_BYTES);
    }
}
