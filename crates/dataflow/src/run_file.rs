//! Run files: blocks, an index, a trailer. Spills, map outputs and Gristmill's own sequence files are all run
//! files. `docs/formats.md` draws the bytes.
//!
//! ```text
//!  header | block | block | ... | footer (segments, blocks) | trailer
//! ```

use crate::block::{self, BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES, BlockError, BlockHeader, Codec};
use crate::digest::Digest;
use crate::varint;
use gristmill_dfs::ReadAt;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

const HEADER: [u8; 16] = *b"GRISTRUN\x01\0\0\0\0\0\0\0";
const TRAILER_MAGIC: [u8; 8] = *b"GRISTEND";
const TRAILER_BYTES: usize = 24;
/// Bytes of a block's first key that the index keeps: enough to tell keys apart, little for the index.
pub(crate) const INDEX_KEY_BYTES: usize = 32;
/// A footer is about 40 bytes a block; this is the index of a run of 1 TiB.
const FOOTER_BYTES_MAX: u64 = 1 << 30;

/// Why a run file cannot be read: always with the file and the offset.
#[derive(Debug, Error)]
pub enum RunError {
    /// The operating system refused.
    #[error("cannot read {path} at offset {offset}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Where in it.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file ends too early.
    #[error("{path} is truncated: nothing at offset {offset}")]
    Truncated {
        /// The file.
        path: String,
        /// Where bytes were expected.
        offset: u64,
    },
    /// The file is no run file, or its header, footer or trailer is damaged.
    #[error("{path} is damaged at offset {offset}: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A block is damaged.
    #[error("{path} is damaged in the block at offset {offset}: {source}")]
    Block {
        /// The file.
        path: String,
        /// Where the block starts.
        offset: u64,
        /// What is wrong.
        #[source]
        source: BlockError,
    },
}

/// One block, as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockEntry {
    pub(crate) offset: u64,
    pub(crate) stored_bytes: u32,
    pub(crate) raw_bytes: u32,
    pub(crate) records: u32,
    key_end: u32,
}

/// The part of a run that belongs to one reduce partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The partition.
    pub partition: u32,
    /// Its blocks, numbered over the whole run.
    pub blocks: Range<u32>,
    /// What it holds.
    pub digest: Digest,
}

/// What a run file holds, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunIndex {
    /// Partitions with at least one record, ascending.
    pub segments: Vec<Segment>,
    pub(crate) blocks: Vec<BlockEntry>,
    keys: Vec<u8>,
}

impl RunIndex {
    /// Records in all.
    pub fn records(&self) -> u64 {
        self.segments.iter().map(|segment| segment.digest.records).sum()
    }

    /// Bytes before compression, in all.
    pub fn raw_bytes(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.raw_bytes)).sum()
    }

    /// The segment of `partition`, unless it is empty.
    pub fn segment(&self, partition: u32) -> Option<&Segment> {
        let found = self.segments.binary_search_by_key(&partition, |segment| segment.partition);
        found.ok().map(|index| &self.segments[index])
    }

    /// The first bytes of the first key of a block (at most [`INDEX_KEY_BYTES`]); empty if keys are not indexed.
    pub(crate) fn first_key(&self, block: u32) -> &[u8] {
        let start = if block == 0 { 0 } else { self.blocks[block as usize - 1].key_end };
        &self.keys[start as usize..self.blocks[block as usize].key_end as usize]
    }

    /// 16 bytes that stand for all records and the partitions they are in. A map that gives the same records, and
    /// scatters them otherwise, has another digest.
    pub(crate) fn digest(&self) -> [u8; 16] {
        let mut hasher = Xxh3::new();
        for segment in &self.segments {
            hasher.update(&segment.partition.to_le_bytes());
            hasher.update(&segment.digest.records.to_le_bytes());
            hasher.update(&segment.digest.sum.to_le_bytes());
        }
        hasher.digest128().to_le_bytes()
    }

    /// The blocks that may hold keys with `from <= key < until`.
    pub(crate) fn blocks_of_keys(&self, from: Option<&[u8]>, until: Option<&[u8]>) -> Range<u32> {
        let blocks = self.blocks.len() as u32;
        // The index has only the first bytes of keys. A block whose indexed key is below the bound's begins below
        // the bound; the last such block may reach it. The same holds at the end, where equal ones may be below.
        let start = from.map_or(0, |bound| {
            partition_point(blocks, |number| self.first_key(number) < indexed(bound)).saturating_sub(1)
        });
        let end = until.map_or(blocks, |bound| {
            partition_point(blocks, |number| self.first_key(number) <= indexed(bound))
        });
        start..end.max(start)
    }

    /// The index of some blocks alone, without keys and segments: they stay at their offsets.
    pub(crate) fn of_blocks(&self, blocks: Range<u32>) -> Self {
        let mut index = Self::default();
        for block in &self.blocks[blocks.start as usize..blocks.end as usize] {
            index.add_block(*block, &[]);
        }
        index
    }

    /// First keys of blocks and the bytes from each up to the next, at most `entries_max` (and at least one) of them.
    pub(crate) fn sample(&self, entries_max: u32) -> Vec<(&[u8], u64)> {
        let step = self.blocks.len().div_ceil(entries_max.max(1) as usize).max(1);
        let entry = |(number, blocks): (usize, &[BlockEntry])| {
            let bytes = blocks.iter().map(|block| u64::from(block.raw_bytes)).sum();
            (self.first_key((number * step) as u32), bytes)
        };
        self.blocks.chunks(step).enumerate().map(entry).collect()
    }

    /// Memory that it takes, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.segments.len() * size_of::<Segment>()
            + self.blocks.len() * size_of::<BlockEntry>()
            + self.keys.len()
    }

    /// The blocks that start within `range` of the file.
    pub(crate) fn blocks_within(&self, range: Range<u64>) -> Range<u32> {
        let at = |offset| self.blocks.partition_point(|block| block.offset < offset) as u32;
        at(range.start)..at(range.end)
    }

    /// Adds a block that ends where `next_offset` says the next begins.
    pub(crate) fn add_block(&mut self, mut entry: BlockEntry, first_key: &[u8]) {
        self.keys.extend_from_slice(&first_key[..first_key.len().min(INDEX_KEY_BYTES)]);
        entry.key_end = self.keys.len() as u32;
        self.blocks.push(entry);
    }

    /// Ends the segment of all blocks since the last one.
    pub(crate) fn add_segment(&mut self, partition: u32, digest: Digest) {
        let start = self.segments.last().map_or(0, |segment| segment.blocks.end);
        self.segments.push(Segment { partition, blocks: start..self.blocks.len() as u32, digest });
    }

    fn encode(&self, out: &mut Vec<u8>) {
        varint::put(self.segments.len() as u64, out);
        for segment in &self.segments {
            varint::put(segment.partition.into(), out);
            varint::put(segment.blocks.len() as u64, out);
            varint::put(segment.digest.records, out);
            out.extend_from_slice(&segment.digest.sum.to_le_bytes());
        }
        varint::put(self.blocks.len() as u64, out);
        for (index, block) in self.blocks.iter().enumerate() {
            let key = self.first_key(index as u32);
            varint::put(block.stored_bytes.into(), out);
            varint::put(block.raw_bytes.into(), out);
            varint::put(block.records.into(), out);
            varint::put(key.len() as u64, out);
            out.extend_from_slice(key);
        }
    }

    /// Reads what [`Self::encode`] wrote; `None` if it is damaged. Counts are not trusted before their bytes are
    /// there: an entry takes at least four.
    fn decode(footer: &[u8]) -> Option<Self> {
        let mut index = Self::default();
        let mut at = 0;
        let segments = varint::take(footer, &mut at)?;
        let mut blocks_before = 0u32;
        for _ in 0..segments {
            let partition = u32::try_from(varint::take(footer, &mut at)?).ok()?;
            let blocks_end = blocks_before.checked_add(varint::take(footer, &mut at)?.try_into().ok()?)?;
            let records = varint::take(footer, &mut at)?;
            let sum = u128::from_le_bytes(footer.get(at..at + 16)?.try_into().ok()?);
            at += 16;
            index.segments.push(Segment {
                partition,
                blocks: blocks_before..blocks_end,
                digest: Digest { records, sum },
            });
            blocks_before = blocks_end;
        }
        if varint::take(footer, &mut at)? != u64::from(blocks_before) {
            return None;
        }
        let mut offset = HEADER.len() as u64;
        for _ in 0..blocks_before {
            let mut field = || u32::try_from(varint::take(footer, &mut at)?).ok();
            let (stored_bytes, raw_bytes, records, key_bytes) = (field()?, field()?, field()?, field()?);
            let key = footer.get(at..at.checked_add(key_bytes as usize)?)?;
            at += key.len();
            index.add_block(BlockEntry { offset, stored_bytes, raw_bytes, records, key_end: 0 }, key);
            offset = offset.checked_add(BLOCK_HEADER_BYTES as u64 + u64::from(stored_bytes))?;
        }
        let sane = index.blocks.iter().all(|block| {
            block.stored_bytes as usize <= BLOCK_BYTES_MAX && block.raw_bytes as usize <= BLOCK_BYTES_MAX
        });
        (sane && at == footer.len()).then_some(index)
    }
}

fn indexed(bound: &[u8]) -> &[u8] {
    &bound[..bound.len().min(INDEX_KEY_BYTES)]
}

fn partition_point(blocks: u32, below: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (0, blocks);
    while low < high {
        let middle = low + (high - low) / 2;
        if below(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Writes a run file, block by block.
pub(crate) struct RunFileWriter<W> {
    out: W,
    offset: u64,
    codec: Codec,
    index: RunIndex,
    stored: Vec<u8>,
}

impl<W: Write> RunFileWriter<W> {
    pub(crate) fn new(mut out: W, codec: Codec) -> io::Result<Self> {
        out.write_all(&HEADER)?;
        let offset = HEADER.len() as u64;
        Ok(Self { out, offset, codec, index: RunIndex::default(), stored: Vec::new() })
    }

    pub(crate) fn block(&mut self, raw: &[u8], records: u32, first_key: &[u8]) -> io::Result<()> {
        self.stored.clear();
        // One record that is larger than a block is not compressed: that would need a second copy of it.
        let codec = if raw.len() > 4 * block::BLOCK_BYTES { Codec::Raw } else { self.codec };
        block::seal(raw, records, codec, self.offset, &mut self.stored);
        self.out.write_all(&self.stored)?;
        let stored_bytes = (self.stored.len() - BLOCK_HEADER_BYTES) as u32;
        let raw_bytes = raw.len() as u32;
        let entry = BlockEntry { offset: self.offset, stored_bytes, raw_bytes, records, key_end: 0 };
        self.index.add_block(entry, first_key);
        self.offset += self.stored.len() as u64;
        if self.stored.capacity() > 8 * block::BLOCK_BYTES {
            self.stored = Vec::new();
        }
        Ok(())
    }

    pub(crate) fn end_segment(&mut self, partition: u32, digest: Digest) {
        self.index.add_segment(partition, digest);
    }

    /// Writes the blocks of a run that was in memory, with all its segments.
    pub(crate) fn resident_blocks(&mut self, index: &RunIndex, blocks: &[Arc<Vec<u8>>]) -> io::Result<()> {
        let mut segments = index.segments.iter().peekable();
        for (number, bytes) in (0u32..).zip(blocks) {
            if let Some(ended) = segments.next_if(|segment| segment.blocks.end == number) {
                self.end_segment(ended.partition, ended.digest);
            }
            self.block(bytes, index.blocks[number as usize].records, index.first_key(number))?;
        }
        segments.for_each(|ended| self.end_segment(ended.partition, ended.digest));
        Ok(())
    }

    /// Writes footer and trailer; gives the writer back for whatever closes it.
    pub(crate) fn finish(mut self) -> io::Result<(W, RunIndex)> {
        let mut end = Vec::new();
        self.index.encode(&mut end);
        let footer_bytes = end.len() as u32;
        end.extend_from_slice(&self.offset.to_le_bytes());
        end.extend_from_slice(&footer_bytes.to_le_bytes());
        let crc = crc32c::crc32c(&end);
        end.extend_from_slice(&crc.to_le_bytes());
        end.extend_from_slice(&TRAILER_MAGIC);
        self.out.write_all(&end)?;
        Ok((self.out, self.index))
    }
}

/// Reads blocks of a run file.
pub(crate) struct RunFileReader {
    file: Box<dyn ReadAt>,
    path: String,
    stored: Vec<u8>,
    moved: Moved,
}

/// Blocks that were copied to another file keep the offsets that their checksums cover.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved {
    /// Offset of the first byte in the run file,
    pub(crate) from: u64,
    /// and in this one.
    pub(crate) to: u64,
}

impl RunFileReader {
    /// A file whose index is known already.
    pub(crate) fn with_known_index(file: Box<dyn ReadAt>, path: String) -> Self {
        Self::with_moved_blocks(file, path, Moved::default())
    }

    /// A file with blocks of another one.
    pub(crate) fn with_moved_blocks(file: Box<dyn ReadAt>, path: String, moved: Moved) -> Self {
        Self { file, path, stored: Vec::new(), moved }
    }

    /// Opens a file and verifies header, trailer and footer.
    pub(crate) fn open(file: Box<dyn ReadAt>, path: String) -> Result<(Self, RunIndex), RunError> {
        let reader = Self::with_known_index(file, path);
        let file_bytes = reader.file.bytes();
        let trailer_at = file_bytes
            .checked_sub(TRAILER_BYTES as u64)
            .filter(|&at| at >= HEADER.len() as u64)
            .ok_or_else(|| RunError::Truncated { path: reader.path.clone(), offset: file_bytes })?;
        if reader.read(0, HEADER.len())? != HEADER {
            return Err(reader.damaged(0, "no header of a run file of version 1"));
        }
        let trailer = reader.read(trailer_at, TRAILER_BYTES)?;
        if trailer[16..] != TRAILER_MAGIC {
            return Err(reader.damaged(trailer_at, "no trailer, the file is truncated or is no run file"));
        }
        let footer_at = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| trailer[i]));
        let footer_bytes = u64::from(u32::from_le_bytes([8, 9, 10, 11].map(|i| trailer[i])));
        if footer_bytes > FOOTER_BYTES_MAX || footer_at.checked_add(footer_bytes) != Some(trailer_at) {
            return Err(reader.damaged(trailer_at, "footer and trailer do not meet"));
        }
        let end = reader.read(footer_at, footer_bytes as usize + 12)?;
        let crc = u32::from_le_bytes([12, 13, 14, 15].map(|i| trailer[i]));
        if crc32c::crc32c(&end) != crc {
            return Err(reader.damaged(footer_at, "checksum mismatch in the footer"));
        }
        let index = RunIndex::decode(&end[..footer_bytes as usize])
            .filter(|index| index.blocks.last().map_or(16, end_of) == footer_at)
            .ok_or_else(|| reader.damaged(footer_at, "malformed footer"))?;
        Ok((reader, index))
    }

    /// Reads and verifies one block; its records are in `raw` afterwards.
    pub(crate) fn block(&mut self, entry: &BlockEntry, raw: &mut Vec<u8>) -> Result<(), RunError> {
        let mut stored = std::mem::take(&mut self.stored);
        self.stored_block(entry, &mut stored)?;
        block::open(&stored, entry.offset, entry.raw_bytes, entry.records, raw)
            .map_err(|source| self.malformed(entry, source))?;
        if stored.capacity() <= 8 * block::BLOCK_BYTES {
            self.stored = stored;
        }
        Ok(())
    }

    /// Reads a block as it is stored, header and all; nothing is verified.
    pub(crate) fn stored_block(&self, entry: &BlockEntry, stored: &mut Vec<u8>) -> Result<(), RunError> {
        stored.resize(BLOCK_HEADER_BYTES + entry.stored_bytes as usize, 0);
        self.fill(entry.offset - self.moved.from + self.moved.to, stored)
    }

    /// A block that is not as it should be.
    pub(crate) fn malformed(&self, entry: &BlockEntry, source: BlockError) -> RunError {
        let offset = entry.offset - self.moved.from + self.moved.to;
        RunError::Block { path: self.path.clone(), offset, source }
    }

    fn read(&self, offset: u64, bytes: usize) -> Result<Vec<u8>, RunError> {
        let mut buffer = vec![0; bytes];
        self.fill(offset, &mut buffer)?;
        Ok(buffer)
    }

    fn fill(&self, offset: u64, buffer: &mut [u8]) -> Result<(), RunError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            match self.file.read_at(&mut buffer[filled..], at) {
                Ok(0) => return Err(RunError::Truncated { path: self.path.clone(), offset: at }),
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(RunError::Io { path: self.path.clone(), offset: at, source }),
            }
        }
        Ok(())
    }

    fn damaged(&self, offset: u64, what: &'static str) -> RunError {
        RunError::Damaged { path: self.path.clone(), offset, what }
    }
}

fn end_of(block: &BlockEntry) -> u64 {
    block.offset + block.file_bytes()
}

impl BlockEntry {
    /// A block that stands at `offset`, as its header says.
    pub(crate) fn of_header(offset: u64, header: &BlockHeader) -> Self {
        let BlockHeader { stored_bytes, raw_bytes, records } = *header;
        Self { offset, stored_bytes, raw_bytes, records, key_end: 0 }
    }

    /// What it takes in a file: header and payload.
    pub(crate) fn file_bytes(&self) -> u64 {
        BLOCK_HEADER_BYTES as u64 + u64::from(self.stored_bytes)
    }

    /// A block that stays in memory: it has no place in a file.
    pub(crate) fn resident(raw_bytes: u32, records: u32) -> Self {
        Self { offset: 0, stored_bytes: raw_bytes, raw_bytes, records, key_end: 0 }
    }
}
