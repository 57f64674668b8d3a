//! The checksum file of a replica (docs/formats.md, "Block files"): whose it is, and a CRC32C for each chunk.
//!
//! Two marks in its header say where a partial last chunk ends. A mark is written after the bytes it speaks of; the one
//! for synced bytes only once they are durable. So whatever a crash leaves of a later rewrite of that chunk's sum,
//! one of them still tells a length and a sum for which the bytes are there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gristmill_proto::chunks::{CHUNK_BYTES, SUM_BYTES, sums_bytes};
use gristmill_proto::ids::{BlockId, Generation};

use super::broken_disk;
use super::error::{DiskError, Fault, Trouble};

/// Version of the format.
pub(super) const VERSION: u32 = 1;
/// Where the sums start in a checksum file.
pub const SUMS_START: u64 = HEAD_BYTES as u64 + 2 * MARK_BYTES as u64;

const MAGIC: [u8; 8] = *b"GRISTSUM";
pub(super) const HEAD_BYTES: usize = 48;
pub(super) const MARK_BYTES: usize = 16;

/// What a checksum file is about. Never changed in place: another head is another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SumHead {
    pub(super) block: BlockId,
    /// What the replica was written under.
    pub(super) generation: Generation,
    /// Whoever comes with an older generation than this is refused. At least `generation`.
    pub(super) fence: Generation,
}

/// A length of the replica, and the sum of its last chunk at that length (0 if it has none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) bytes: u64,
    pub(super) last_sum: u32,
}

/// Which of the two marks.
#[derive(Clone, Copy, Debug)]
pub(super) enum MarkKind {
    /// Written, perhaps not durable.
    Written = 0,
    /// Durable.
    Synced = 1,
}

/// An open checksum file.
#[derive(Clone, Debug)]
pub(super) struct SumFile {
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    pub(super) head: SumHead,
}

impl SumFile {
    /// Makes the file, which may only be there already if `replace`.
    pub(super) fn create(path: PathBuf, head: SumHead, replace: bool) -> Result<SumFile, DiskError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).create_new(!replace).truncate(replace);
        let file = options.open(&path).map_err(DiskError::on("create", &path))?;
        let mut start = [0; SUMS_START as usize];
        start[..HEAD_BYTES].copy_from_slice(&head.encode());
        file.write_all_at(&start, 0).map_err(DiskError::on("write", &path))?;
        Ok(SumFile { file: Arc::new(file), path, head })
    }

    /// Opens the file of exactly this replica.
    pub(super) fn open(path: PathBuf, block: BlockId, generation: Generation) -> Result<SumFile, Trouble> {
        let file = File::open(&path).map_err(|source| Trouble::reading("open", &path, source))?;
        SumFile::adopt(file, path, block, generation)
    }

    /// The same for a file that is open already. `path` is for messages.
    pub(super) fn adopt(
        file: File,
        path: PathBuf,
        block: BlockId,
        generation: Generation,
    ) -> Result<SumFile, Trouble> {
        let mut bytes = [0; HEAD_BYTES];
        read_exact(&file, &path, &mut bytes, 0)?;
        let head = SumHead::decode(&bytes).map_err(|fault| Trouble::fault(&path, fault))?;
        if (head.block, head.generation) != (block, generation) {
            let fault = Fault::OfAnother { block: head.block, generation: head.generation };
            return Err(Trouble::fault(&path, fault));
        }
        Ok(SumFile { file: Arc::new(file), path, head })
    }

    /// Checks that this is the whole checksum file of a finished replica of `bytes` bytes.
    pub(super) fn check_finished(&self, bytes: u64) -> Result<Mark, Trouble> {
        let wrong = || Trouble::fault(&self.path, Fault::Length { bytes });
        let [written, synced] = self.marks()?;
        let mark = synced.filter(|mark| mark.bytes == bytes && written == synced).ok_or_else(wrong)?;
        check_length(&self.file, &self.path, SUMS_START + sums_bytes(bytes))?;
        let last_sum = match bytes.div_ceil(CHUNK_BYTES) {
            0 => 0,
            chunks => self.sum(chunks - 1)?,
        };
        if mark.last_sum == last_sum { Ok(mark) } else { Err(wrong()) }
    }

    pub(super) fn marks(&self) -> Result<[Option<Mark>; 2], Trouble> {
        let mut bytes = [0; 2 * MARK_BYTES];
        read_exact(&self.file, &self.path, &mut bytes, HEAD_BYTES as u64)?;
        let (written, synced) = bytes.split_at(MARK_BYTES);
        Ok([Mark::decode(written, &self.head), Mark::decode(synced, &self.head)])
    }

    pub(super) fn write_mark(&self, kind: MarkKind, mark: Mark) -> Result<(), DiskError> {
        let offset = HEAD_BYTES + kind as usize * MARK_BYTES;
        let written = self.file.write_all_at(&mark.encode(&self.head), offset as u64);
        written.map_err(DiskError::on("write", &self.path))
    }

    /// Writes both marks, as a finished replica has them.
    pub(super) fn write_marks(&self, mark: Mark) -> Result<(), DiskError> {
        self.write_mark(MarkKind::Written, mark)?;
        self.write_mark(MarkKind::Synced, mark)
    }

    pub(super) fn write_sums(&self, first_chunk: u64, sums: &[u8]) -> Result<(), DiskError> {
        let written = self.file.write_all_at(sums, SUMS_START + first_chunk * SUM_BYTES);
        written.map_err(DiskError::on("write", &self.path))
    }

    /// Fills `sums` with those of the chunks from `first_chunk` on.
    pub(super) fn read_sums(&self, first_chunk: u64, sums: &mut [u8]) -> Result<(), Trouble> {
        read_exact(&self.file, &self.path, sums, SUMS_START + first_chunk * SUM_BYTES)
    }

    pub(super) fn sum(&self, chunk: u64) -> Result<u32, Trouble> {
        let mut sum = [0; SUM_BYTES as usize];
        self.read_sums(chunk, &mut sum)?;
        Ok(u32::from_le_bytes(sum))
    }

    pub(super) fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(DiskError::on("sync", &self.path))
    }
}

impl SumHead {
    pub(super) fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(CHUNK_BYTES as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.block.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.generation.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.fence.0.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<SumHead, Fault> {
        if bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..44]) != u32_at(bytes, 44) {
            return Err(Fault::Header);
        }
        if u32_at(bytes, 8) != VERSION {
            return Err(Fault::Version { version: u32_at(bytes, 8) });
        }
        if u64::from(u32_at(bytes, 12)) != CHUNK_BYTES || u32_at(bytes, 40) != 0 {
            return Err(Fault::Header);
        }
        let [block, generation, fence] = [16, 24, 32].map(|at| u64_at(bytes, at));
        if fence < generation {
            return Err(Fault::Header);
        }
        Ok(SumHead { block: BlockId(block), generation: Generation(generation), fence: Generation(fence) })
    }
}

impl Mark {
    pub(super) fn encode(self, head: &SumHead) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        bytes[..8].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.last_sum.to_le_bytes());
        let sum = mark_sum(&bytes[..12], head);
        bytes[12..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The mark, if one was written.
    pub(super) fn decode(bytes: &[u8], head: &SumHead) -> Option<Mark> {
        let mark = Mark { bytes: u64_at(bytes, 0), last_sum: u32_at(bytes, 8) };
        (mark_sum(&bytes[..12], head) == u32_at(bytes, 12)).then_some(mark)
    }
}

/// The sum of a mark covers block and generation, too.
fn mark_sum(bytes: &[u8], head: &SumHead) -> u32 {
    let sum = crc32c::crc32c(&head.block.0.to_le_bytes());
    let sum = crc32c::crc32c_append(sum, &head.generation.0.to_le_bytes());
    crc32c::crc32c_append(sum, bytes)
}

/// Whether `file` has at least `wanted` bytes.
pub(super) fn check_length(file: &File, path: &Path, wanted: u64) -> Result<(), Trouble> {
    let bytes = file.metadata().map_err(|source| Trouble::reading("stat", path, source))?.len();
    if bytes < wanted { Err(Trouble::fault(path, Fault::Truncated { bytes, wanted })) } else { Ok(()) }
}

/// Reads exactly `into`; a file that ends before is truncated.
pub(super) fn read_exact(file: &File, path: &Path, into: &mut [u8], offset: u64) -> Result<(), Trouble> {
    let read =
        broken_disk::heed(broken_disk::Access::Read, path).and_then(|()| file.read_exact_at(into, offset));
    let Err(source) = read else { return Ok(()) };
    if source.kind() == io::ErrorKind::UnexpectedEof {
        check_length(file, path, offset + into.len() as u64)?;
    }
    Err(Trouble::reading("read", path, source))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at + 4)) << 32 | u64::from(u32_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: SumHead = SumHead { block: BlockId(0x1234), generation: Generation(7), fence: Generation(9) };

    #[test]
    fn the_head_is_what_the_formats_say() {
        let bytes = HEAD.encode();
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let [named, crc] = [&text[..88], &text[88..]];
        assert_eq!(
            named,
            "4752495354 53554d 01000000 00400000 3412000000000000 0700000000000000 0900000000000000 00000000"
                .replace(' ', "")
        );
        assert_eq!(crc, format!("{:08x}", crc32c::crc32c(&bytes[..44]).swap_bytes()));
        assert_eq!(SumHead::decode(&bytes), Ok(HEAD));
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = HEAD.encode();
        bytes[8] = 2;
        let sum = crc32c::crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(SumHead::decode(&bytes), Err(Fault::Version { version: 2 }));
    }

    proptest! {
        #[test]
        fn no_flipped_bit_of_a_head_or_mark_passes(bit in 0..HEAD_BYTES * 8, mark_bit in 0..MARK_BYTES * 8, bytes: u64) {
            let mut head = HEAD.encode();
            head[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(SumHead::decode(&head).is_err());
            let mark = Mark { bytes, last_sum: 5 };
            let mut encoded = mark.encode(&HEAD);
            prop_assert_eq!(Mark::decode(&encoded, &HEAD), Some(mark));
            encoded[mark_bit / 8] ^= 1 << (mark_bit % 8);
            prop_assert_eq!(Mark::decode(&encoded, &HEAD), None);
        }

        #[test]
        fn any_bytes_are_decoded_without_panic(head: [u8; 32], rest: [u8; 16]) {
            let bytes: [u8; HEAD_BYTES] = std::array::from_fn(|at| if at < 32 { head[at] } else { rest[at - 32] });
            prop_assert!(SumHead::decode(&bytes).is_err());
        }
    }
}
