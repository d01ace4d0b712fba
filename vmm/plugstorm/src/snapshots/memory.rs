//! The file with the guest's memory: as long as that, sparse, and only what is not zero is looked at.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::{io, iter};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use serde::{Deserialize, Serialize};

use super::digest;

/// The most that one digest covers. Also how much is read at once.
pub(super) const PIECE_BYTES: u64 = 4 << 20;
/// Extents that are no further apart are one: each costs a line in the manifest, and on a nested machine's shared folder a
/// call of a millisecond, in which four pages go.
const JOIN_BYTES: u64 = 16 << 10;

/// `memory` of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryFile {
    /// Its length.
    pub bytes: u64,
    /// What is not zero, in order. What is outside is.
    pub extents: Vec<Extent>,
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// Where it begins.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// Of its content.
    pub digest: String,
}

/// Why a memory file could not be gone through.
#[derive(Debug)]
pub(super) enum Fault {
    /// Reading failed.
    Read(io::Error),
    /// Writing a copy failed.
    Write(io::Error),
    /// It does not hold what it should.
    Damaged {
        /// Where.
        offset: u64,
        /// The length of what has one digest, or is all zero.
        bytes: u64,
    },
}

impl MemoryFile {
    /// Digests what is at `extents` in `file`, which is to have `bytes` bytes.
    pub(super) fn describe(file: &File, bytes: u64, extents: &[Range<u64>]) -> Result<Self, Fault> {
        let mut described = Vec::new();
        let mut buffer = Buffer::default();
        for piece in pieces(&joined(extents)) {
            let digest = digest::of(buffer.fill(file, piece.clone())?);
            described.push(Extent { offset: piece.start, bytes: piece.end - piece.start, digest });
        }
        Ok(Self { bytes, extents: described })
    }

    /// Is `file` what was described, in and outside the extents?
    pub(super) fn verify(&self, file: &File) -> Result<(), Fault> {
        let mut buffer = Buffer::default();
        for extent in &self.extents {
            extent.check(buffer.fill(file, extent.range())?)?;
        }
        self.verify_outside(file)
    }

    /// Is everything outside the extents zero? Only what the file system has data for is read.
    pub(super) fn verify_outside(&self, file: &File) -> Result<(), Fault> {
        let mut buffer = Buffer::default();
        for mut gap in self.gaps() {
            while let Some(data) = data_in(file, gap.clone()).map_err(Fault::Read)? {
                gap.start = data.end.min(data.start + PIECE_BYTES);
                let bytes = buffer.fill(file, data.start..gap.start)?;
                if let Some(stray) = bytes.iter().position(|byte| *byte != 0) {
                    return Err(Fault::Damaged { offset: data.start + stray as u64, bytes: 1 });
                }
            }
        }
        Ok(())
    }

    /// What is before, between and after the extents.
    fn gaps(&self) -> impl Iterator<Item = Range<u64>> {
        let ends = self.extents.iter().map(|extent| extent.range().end);
        let starts = self.extents.iter().map(|extent| extent.offset);
        iter::once(0).chain(ends).zip(starts.chain([self.bytes])).map(|(end, start)| end..start)
    }

    /// Copies what is not zero to `to`, an empty file, and verifies it on the way.
    pub(super) fn copy(&self, from: &File, to: &File) -> Result<(), Fault> {
        to.set_len(self.bytes).map_err(Fault::Write)?;
        let mut buffer = Buffer::default();
        for extent in &self.extents {
            let content = buffer.fill(from, extent.range())?;
            extent.check(content)?;
            to.write_all_at(content, extent.offset).map_err(Fault::Write)?;
        }
        Ok(())
    }
}

impl Extent {
    fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.bytes
    }

    fn check(&self, content: &[u8]) -> Result<(), Fault> {
        if digest::of(content) == self.digest {
            Ok(())
        } else {
            Err(Fault::Damaged { offset: self.offset, bytes: self.bytes })
        }
    }
}

/// What is wrong with extents of a file with `length` bytes: they are to follow each other, within it.
pub(super) fn out_of_order(extents: &[Range<u64>], length: u64) -> Option<String> {
    let mut end = 0;
    for extent in extents {
        if extent.start < end || extent.end < extent.start || extent.end > length {
            return Some(format!("its extent {extent:?} overlaps the one before it or the end of memory at {length}"));
        }
        end = extent.end;
    }
    None
}

/// Makes one of those that lie close together.
fn joined(extents: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for extent in extents.iter().filter(|extent| !extent.is_empty()) {
        match joined.last_mut() {
            Some(last) if extent.start - last.end <= JOIN_BYTES => last.end = extent.end,
            _ => joined.push(extent.clone()),
        }
    }
    joined
}

/// Cuts extents to the size of one digest.
fn pieces(extents: &[Range<u64>]) -> impl Iterator<Item = Range<u64>> {
    extents.iter().flat_map(|extent| {
        let starts = (extent.start..extent.end).step_by(PIECE_BYTES as usize);
        starts.map(|start| start..extent.end.min(start + PIECE_BYTES))
    })
}

/// The first part of `range` for which there is data.
fn data_in(file: &File, range: Range<u64>) -> io::Result<Option<Range<u64>>> {
    if range.is_empty() {
        return Ok(None);
    }
    let start = match seek(file, range.start, Whence::SeekData) {
        Ok(start) => start,
        // lseek(2): no more data.
        Err(Errno::ENXIO) => return Ok(None),
        // A file system that knows nothing of holes.
        Err(Errno::EINVAL) => return Ok(Some(range)),
        Err(errno) => return Err(errno.into()),
    };
    if start >= range.end {
        return Ok(None);
    }
    let end = seek(file, start, Whence::SeekHole).map_err(io::Error::from)?;
    Ok(Some(start..end.min(range.end)))
}

fn seek(file: &File, offset: u64, whence: Whence) -> Result<u64, Errno> {
    let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
    lseek(file, offset, whence).map(i64::cast_unsigned)
}

/// What was read last.
#[derive(Default)]
struct Buffer(Vec<u8>);

impl Buffer {
    /// Reads a part of a file; no more than [`PIECE_BYTES`].
    fn fill(&mut self, file: &File, range: Range<u64>) -> Result<&[u8], Fault> {
        self.0.resize((range.end - range.start) as usize, 0);
        file.read_exact_at(&mut self.0, range.start).map_err(Fault::Read)?;
        Ok(&self.0)
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one extent")]
mod tests {
    use super::*;

    fn sparse(bytes: u64, data: &[(u64, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        for (offset, content) in data {
            file.write_all_at(content, *offset).unwrap();
        }
        file
    }

    #[test]
    fn extents_are_joined_and_cut() {
        let cut = |extents: &[Range<u64>]| pieces(&joined(extents)).collect::<Vec<_>>();
        let piece = PIECE_BYTES;
        assert_eq!(cut(&[0..4096, 4096 + JOIN_BYTES..8192 + JOIN_BYTES]), [0..8192 + JOIN_BYTES]);
        let apart = [0..4096, 8192..8192, 4097 + JOIN_BYTES..4098 + JOIN_BYTES];
        assert_eq!(cut(&apart), [apart[0].clone(), apart[2].clone()]);
        assert_eq!(
            cut(&[4096..2 * piece + 4097]),
            [4096..piece + 4096, piece + 4096..2 * piece + 4096, 2 * piece + 4096..2 * piece + 4097]
        );
    }

    #[test]
    fn extents_must_follow_each_other() {
        assert_eq!(out_of_order(&[0..1, 1..2, 5..10], 10), None);
        #[expect(clippy::reversed_empty_ranges, reason = "that is what is wrong with it")]
        for wrong in [vec![0..2, 1..3], vec![4..5, 0..1], vec![3..2], vec![5..11]] {
            assert!(out_of_order(&wrong, 10).is_some(), "{wrong:?}");
        }
    }

    #[test]
    fn anything_outside_the_extents_is_found() {
        let length = 3 * PIECE_BYTES + 5;
        let full = vec![7; 8192];
        let extents = [4096..12288, PIECE_BYTES..PIECE_BYTES + 1];
        let file = sparse(length, &[(4096, &full), (PIECE_BYTES, b"x")]);
        let memory = MemoryFile::describe(&file, length, &extents).unwrap();
        memory.verify(&file).unwrap();
        for offset in [0, 4095, 12288, PIECE_BYTES - 1, PIECE_BYTES + 1, 2 * PIECE_BYTES, length - 1] {
            file.write_all_at(b"\x01", offset).unwrap();
            let found = memory.verify(&file);
            assert!(
                matches!(found, Err(Fault::Damaged { offset: at, bytes: 1 }) if at == offset),
                "{offset}: {found:?}"
            );
            file.write_all_at(b"\0", offset).unwrap();
            memory.verify(&file).unwrap();
        }
        // Nothing described, nothing there.
        MemoryFile::describe(&file, length, &[]).unwrap().verify(&sparse(length, &[])).unwrap();
    }

    #[test]
    fn damage_inside_is_found_at_its_extent() {
        let content = vec![9; PIECE_BYTES as usize + 4096];
        let file = sparse(2 * PIECE_BYTES, &[(4096, &content)]);
        let memory = MemoryFile::describe(&file, 2 * PIECE_BYTES, &[4096..8192 + PIECE_BYTES]).unwrap();
        assert_eq!(memory.extents.len(), 2);
        file.write_all_at(b"\x08", PIECE_BYTES + 4096 + 17).unwrap();
        assert!(matches!(
            memory.verify(&file),
            Err(Fault::Damaged { offset, bytes: 4096 }) if offset == PIECE_BYTES + 4096
        ));
    }

    #[test]
    fn copies_are_alike_and_verified() {
        let length = 4 * PIECE_BYTES;
        let scattered = (0..50).map(|index| index * 100_000..index * 100_000 + 4096);
        let extents: Vec<Range<u64>> = scattered.chain([3 * PIECE_BYTES..3 * PIECE_BYTES + 100]).collect();
        let data: Vec<(u64, &[u8])> = extents.iter().map(|extent| (extent.start, &[5; 100][..])).collect();
        let file = sparse(length, &data);
        let memory = MemoryFile::describe(&file, length, &extents).unwrap();
        let copy = tempfile::tempfile().unwrap();
        memory.copy(&file, &copy).unwrap();
        assert_eq!(copy.metadata().unwrap().len(), length);
        memory.verify(&copy).unwrap();
        file.write_all_at(b"\x01", 100_001).unwrap();
        let copied = memory.copy(&file, &tempfile::tempfile().unwrap());
        assert!(matches!(copied, Err(Fault::Damaged { offset: 100_000, .. })), "{copied:?}");
    }
}
