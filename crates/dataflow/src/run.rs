//! A run: a sorted sequence of records, in memory while there is room, else in a run file.

use crate::block::{self, BLOCK_BYTES, BlockError, RecordSpan, record_at};
use crate::digest::Digest;
use crate::memory::Reservation;
use crate::run_file::{BlockEntry, RunError, RunFileReader, RunFileWriter, RunIndex};
use crate::scratch::{Scratch, ScratchError, ScratchFile};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;

/// Why a run could not be opened or read.
#[derive(Debug, Error)]
pub enum ReadRunError {
    /// Its file cannot be opened.
    #[error(transparent)]
    Open(#[from] ScratchError),
    /// Its file cannot be read, or is damaged.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A finished run. Its file or its memory is given back when it is dropped.
#[derive(Debug)]
pub struct Run {
    /// What it holds, and where.
    pub index: RunIndex,
    bytes: RunBytes,
}

#[derive(Debug)]
enum RunBytes {
    Resident { blocks: Vec<Arc<Vec<u8>>>, _held: Reservation },
    Stored { file: ScratchFile, stored_bytes: u64 },
}

impl Run {
    /// Bytes as they would cross a network: compressed if the run is in a file.
    pub fn stored_bytes(&self) -> u64 {
        match &self.bytes {
            RunBytes::Resident { .. } => self.index.raw_bytes(),
            RunBytes::Stored { stored_bytes, .. } => *stored_bytes,
        }
    }
}

/// Builds the blocks of one segment out of records, for files that are not sorted and have no key index.
#[derive(Default)]
pub(crate) struct BlockBuilder {
    bytes: Vec<u8>,
    records: u32,
    digest: Digest,
}

impl BlockBuilder {
    /// Whether a record has to wait for the next block.
    pub(crate) fn is_full_for(&self, key: &[u8], value: &[u8]) -> bool {
        self.records > 0 && self.bytes.len() + block::record_bytes(key, value) > BLOCK_BYTES
    }

    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        block::put_record(key, value, &mut self.bytes);
        self.digest.add(&self.bytes[start..]);
        self.records += 1;
    }

    /// What was pushed so far.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Writes the block, if there is anything in it, and begins another.
    pub(crate) fn write<W: Write>(&mut self, out: &mut RunFileWriter<W>) -> io::Result<()> {
        if self.records > 0 {
            out.block(&self.bytes, self.records, &[])?;
            self.bytes.clear();
            // A block with one huge record does not stay: the next ones are small again.
            self.bytes.shrink_to(2 * BLOCK_BYTES);
            self.records = 0;
        }
        Ok(())
    }
}

/// Writes one run; records come partition by partition, sorted.
pub(crate) struct RunWriter {
    scratch: Scratch,
    target: Target,
    index_keys: bool,
    block: Vec<u8>,
    records: u32,
    partition: u32,
    digest: Digest,
}

enum Target {
    Resident { blocks: Vec<Arc<Vec<u8>>>, index: RunIndex, held: Reservation },
    Stored { file: ScratchFile, out: RunFileWriter<File> },
}

impl RunWriter {
    /// `index_keys`: keep the first key of each block, for reading by key range.
    pub(crate) fn new(scratch: &Scratch, index_keys: bool) -> Self {
        let held = scratch.resident().reserve_none();
        Self {
            scratch: scratch.clone(),
            target: Target::Resident { blocks: Vec::new(), index: RunIndex::default(), held },
            index_keys,
            block: Vec::new(),
            records: 0,
            partition: 0,
            digest: Digest::default(),
        }
    }

    /// Adds a record that is encoded already: lengths, key, value.
    #[inline]
    pub(crate) fn push_encoded(&mut self, partition: u32, record: &[u8]) -> Result<(), ScratchError> {
        if partition != self.partition || self.block.len() + record.len() > BLOCK_BYTES {
            self.make_room(partition, record.len())?;
        }
        self.block.extend_from_slice(record);
        self.count(self.block.len() - record.len());
        Ok(())
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, partition: u32, key: &[u8], value: &[u8]) -> Result<(), ScratchError> {
        let bytes = block::record_bytes(key, value);
        if partition != self.partition || self.block.len() + bytes > BLOCK_BYTES {
            self.make_room(partition, bytes)?;
        }
        let start = self.block.len();
        block::put_record(key, value, &mut self.block);
        self.count(start);
        Ok(())
    }

    fn count(&mut self, start: usize) {
        self.digest.add(&self.block[start..]);
        self.records += 1;
    }

    #[cold]
    fn make_room(&mut self, partition: u32, bytes: usize) -> Result<(), ScratchError> {
        self.end_block()?;
        if partition != self.partition {
            self.end_segment();
            self.partition = partition;
        }
        if self.block.capacity() < bytes {
            self.block = Vec::with_capacity(bytes.max(BLOCK_BYTES));
        }
        Ok(())
    }

    fn end_segment(&mut self) {
        if self.digest.records == 0 {
            return;
        }
        let digest = std::mem::take(&mut self.digest);
        match &mut self.target {
            Target::Resident { index, .. } => index.add_segment(self.partition, digest),
            Target::Stored { out, .. } => out.end_segment(self.partition, digest),
        }
    }

    fn end_block(&mut self) -> Result<(), ScratchError> {
        if self.records == 0 {
            return Ok(());
        }
        let keeps = match &mut self.target {
            Target::Resident { held, .. } => held.grow(self.block.capacity()),
            Target::Stored { .. } => false,
        };
        if !keeps {
            self.move_to_file()?;
        }
        let records = std::mem::take(&mut self.records);
        match &mut self.target {
            Target::Resident { blocks, index, .. } => {
                let entry = BlockEntry::resident(self.block.len() as u32, records);
                index.add_block(entry, first_key(&self.block, self.index_keys));
                let mut block = std::mem::take(&mut self.block);
                // The last block of each of many small segments must not hold a whole block's memory.
                if block.len() < block.capacity() / 2 {
                    block.shrink_to_fit();
                }
                blocks.push(Arc::new(block));
            }
            Target::Stored { file, out } => {
                out.block(&self.block, records, first_key(&self.block, self.index_keys))
                    .map_err(|source| file.error("write", source))?;
                self.block.clear();
                // A block with one huge record does not stay: the next ones are small again.
                if self.block.capacity() > 2 * BLOCK_BYTES {
                    self.block = Vec::new();
                }
            }
        }
        Ok(())
    }

    /// Memory is full: what was resident goes into a file, and the rest follows it.
    fn move_to_file(&mut self) -> Result<(), ScratchError> {
        let Target::Resident { blocks, index, .. } = &mut self.target else { return Ok(()) };
        let (file, handle) = self.scratch.file()?;
        let failed = |source| file.error("write", source);
        let mut out = RunFileWriter::new(handle, self.scratch.codec()).map_err(failed)?;
        let mut segments = index.segments.iter().peekable();
        for (number, bytes) in (0u32..).zip(std::mem::take(blocks)) {
            if let Some(ended) = segments.next_if(|segment| segment.blocks.end == number) {
                out.end_segment(ended.partition, ended.digest);
            }
            let records = index.blocks[number as usize].records;
            out.block(&bytes, records, first_key(&bytes, self.index_keys)).map_err(failed)?;
        }
        segments.for_each(|ended| out.end_segment(ended.partition, ended.digest));
        self.target = Target::Stored { file, out };
        Ok(())
    }

    /// Ends the run.
    pub(crate) fn finish(mut self) -> Result<Run, ScratchError> {
        self.end_block()?;
        self.end_segment();
        match self.target {
            Target::Resident { blocks, index, held } => {
                Ok(Run { index, bytes: RunBytes::Resident { blocks, _held: held } })
            }
            Target::Stored { file, out } => {
                let (_, index) = out.finish().map_err(|source| file.error("write", source))?;
                let stored_bytes = file.path().metadata().map_err(|source| file.error("stat", source))?.len();
                self.scratch.count_written(stored_bytes);
                Ok(Run { index, bytes: RunBytes::Stored { file, stored_bytes } })
            }
        }
    }
}

fn first_key(block: &[u8], wanted: bool) -> &[u8] {
    match record_at(block, 0) {
        Ok(span) if wanted => &block[span.key..span.value],
        Ok(_) | Err(_) => &[],
    }
}

/// Some blocks of a run, and optionally a range of keys within them: what one reduce reads of one map output.
#[derive(Clone, Debug)]
pub struct RunPart {
    run: Arc<Run>,
    blocks: Range<u32>,
    /// Keys from this one on.
    from: Option<Arc<[u8]>>,
    /// Keys before this one.
    until: Option<Arc<[u8]>>,
}

impl RunPart {
    /// The segment of `partition`, unless it is empty.
    pub fn partition(run: &Arc<Run>, partition: u32) -> Option<Self> {
        let blocks = run.index.segment(partition)?.blocks.clone();
        Some(Self { run: run.clone(), blocks, from: None, until: None })
    }

    /// The whole run.
    pub fn whole(run: &Arc<Run>) -> Self {
        Self { run: run.clone(), blocks: 0..run.index.blocks.len() as u32, from: None, until: None }
    }

    /// No records.
    pub fn none(run: &Arc<Run>) -> Self {
        Self { run: run.clone(), blocks: 0..0, from: None, until: None }
    }

    /// The records with `from <= key < until`, found by the keys in the index.
    pub fn keys(run: &Arc<Run>, from: Option<Arc<[u8]>>, until: Option<Arc<[u8]>>) -> Self {
        let blocks = run.index.blocks.len() as u32;
        let below = |bound: &Arc<[u8]>| {
            partition_point(blocks, |number| run.index.first_key(number) < indexed(bound))
        };
        // The index has only the first bytes of keys. A block whose indexed key is below the bound's begins below
        // the bound; the last such block may reach it. The same holds at the end, where equal ones may be below.
        let start = from.as_ref().map_or(0, |bound| below(bound).saturating_sub(1));
        let end = until.as_ref().map_or(blocks, |bound| {
            partition_point(blocks, |number| run.index.first_key(number) <= indexed(bound))
        });
        Self { run: run.clone(), blocks: start..end.max(start), from, until }
    }

    /// Memory that reading it takes: its largest block, twice if it is stored.
    pub(crate) fn buffer_bytes(&self) -> usize {
        let blocks = &self.run.index.blocks[self.blocks.start as usize..self.blocks.end as usize];
        let largest = blocks.iter().map(|block| block.raw_bytes as usize).max().unwrap_or(0);
        match self.run.bytes {
            RunBytes::Resident { .. } => 0,
            RunBytes::Stored { .. } => 2 * largest.max(BLOCK_BYTES / 4),
        }
    }

    /// Bytes as they would cross a network.
    pub fn stored_bytes(&self) -> u64 {
        let blocks = &self.run.index.blocks[self.blocks.start as usize..self.blocks.end as usize];
        blocks.iter().map(|block| u64::from(block.stored_bytes)).sum()
    }

    /// Records, at most (a range of keys may hold fewer).
    pub(crate) fn records(&self) -> u64 {
        let blocks = &self.run.index.blocks[self.blocks.start as usize..self.blocks.end as usize];
        blocks.iter().map(|block| u64::from(block.records)).sum()
    }
}

fn indexed(bound: &[u8]) -> &[u8] {
    &bound[..bound.len().min(crate::run_file::INDEX_KEY_BYTES)]
}

fn partition_point(blocks: u32, below: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (0, blocks);
    while low < high {
        let middle = low + (high - low) / 2;
        if below(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Reads the records of a part in order.
pub(crate) struct Cursor {
    part: RunPart,
    file: Option<RunFileReader>,
    next_block: u32,
    block: Arc<Vec<u8>>,
    span: RecordSpan,
    /// First 16 bytes of the key, zero-padded, big-endian: orders most keys without touching the block.
    pub(crate) prefix: u128,
    pub(crate) ended: bool,
}

impl Cursor {
    /// Stands on the first record.
    pub(crate) fn open(part: RunPart) -> Result<Self, ReadRunError> {
        let file = match &part.run.bytes {
            RunBytes::Resident { .. } => None,
            RunBytes::Stored { file, .. } => {
                Some(RunFileReader::with_known_index(file.open()?, file.path().display().to_string()))
            }
        };
        let (next_block, block) = (part.blocks.start, Arc::new(Vec::new()));
        let mut cursor =
            Self { part, file, next_block, block, span: RecordSpan::default(), prefix: 0, ended: false };
        cursor.advance()?;
        cursor.skip_below()?;
        Ok(cursor)
    }

    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        &self.block[self.span.key..self.span.value]
    }

    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        &self.block[self.span.value..self.span.end]
    }

    /// The record as it is encoded.
    #[inline]
    pub(crate) fn record(&self) -> &[u8] {
        &self.block[self.span.start..self.span.end]
    }

    /// Goes to the next record.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<(), ReadRunError> {
        if self.span.end == self.block.len() && !self.load()? {
            self.ended = true;
            self.prefix = u128::MAX;
            return Ok(());
        }
        self.span = record_at(&self.block, self.span.end).map_err(|source| self.malformed(source))?;
        self.prefix = prefix(self.key());
        if self.part.until.is_some() {
            self.check_until();
        }
        Ok(())
    }

    fn check_until(&mut self) {
        if self.part.until.as_ref().is_some_and(|until| self.key() >= &until[..]) {
            self.ended = true;
            self.prefix = u128::MAX;
        }
    }

    fn skip_below(&mut self) -> Result<(), ReadRunError> {
        let Some(from) = self.part.from.clone() else { return Ok(()) };
        while !self.ended && self.key() < &from[..] {
            self.advance()?;
        }
        Ok(())
    }

    /// Takes the next block; false at the end.
    fn load(&mut self) -> Result<bool, ReadRunError> {
        if self.next_block == self.part.blocks.end {
            return Ok(false);
        }
        let number = self.next_block as usize;
        match (&mut self.file, &self.part.run.bytes) {
            (Some(file), _) => {
                let raw = Arc::make_mut(&mut self.block);
                file.block(&self.part.run.index.blocks[number], raw)?;
            }
            (None, RunBytes::Resident { blocks, .. }) => self.block = blocks[number].clone(),
            (None, RunBytes::Stored { .. }) => unreachable!("a stored run has an open file"),
        }
        self.next_block += 1;
        self.span = RecordSpan::default();
        Ok(true)
    }

    fn malformed(&self, source: BlockError) -> ReadRunError {
        let entry = &self.part.run.index.blocks[self.next_block as usize - 1];
        let path = match &self.file {
            Some(file) => return file.malformed(entry, source).into(),
            None => String::from("a run in memory"),
        };
        RunError::Block { path, offset: entry.offset, source }.into()
    }
}

/// The first 16 bytes of `key`, zero-padded, as a big-endian number.
///
/// Short keys are put together from overlapping loads: copying them to a padded buffer would make the processor
/// wait for the copy before it can load all 16 bytes.
#[inline]
pub(crate) fn prefix(key: &[u8]) -> u128 {
    let unused_bits = |bytes: usize| 8 * (bytes - key.len()) as u32;
    if let Some(first) = key.first_chunk::<16>() {
        return u128::from_be_bytes(*first);
    }
    if let (Some(first), Some(last)) = (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        let rest = (u128::from(u64::from_be_bytes(*last)) << unused_bits(16)) as u64;
        return u128::from(u64::from_be_bytes(*first)) << 64 | u128::from(rest);
    }
    let high = if let (Some(first), Some(last)) = (key.first_chunk::<4>(), key.last_chunk::<4>()) {
        let rest = (u64::from(u32::from_be_bytes(*last)) << unused_bits(8)) as u32;
        u64::from(u32::from_be_bytes(*first)) << 32 | u64::from(rest)
    } else if let [first, .., last] = key {
        // Two or three bytes: the middle one is the last one again if there are two.
        let middle = u64::from(key[1]) << 48;
        u64::from(*first) << 56 | middle | u64::from(*last) << (64 - 8 * key.len())
    } else {
        key.first().map_or(0, |&only| u64::from(only) << 56)
    };
    u128::from(high) << 64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_prefix_is_the_first_bytes_padded_with_zeros(key in prop::collection::vec(any::<u8>(), 0..20)) {
            let mut padded = key.clone();
            padded.resize(16, 0);
            prop_assert_eq!(&prefix(&key).to_be_bytes()[..], &padded[..16]);
        }
    }
}
