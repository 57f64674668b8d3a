//! Writes runs: into memory while there is room, else into a run file.

use crate::block::{self, BLOCK_BYTES, record_at};
use crate::digest::Digest;
use crate::memory::Reservation;
use crate::run::{Run, RunBytes};
use crate::run_file::{BlockEntry, RunFileWriter, RunIndex};
use crate::scratch::{Scratch, ScratchError, ScratchFile};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

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
    Resident {
        blocks: Vec<Arc<Vec<u8>>>,
        index: RunIndex,
        held: Reservation,
    },
    Stored {
        file: ScratchFile,
        out: RunFileWriter<File>,
        /// Because memory was full.
        spilled: bool,
    },
}

impl RunWriter {
    /// `index_keys`: keep the first key of each block, for reading by key range.
    pub(crate) fn new(scratch: &Scratch, index_keys: bool) -> Self {
        let held = scratch.resident().reserve_none();
        let target = Target::Resident { blocks: Vec::new(), index: RunIndex::default(), held };
        Self::with_target(scratch, target, index_keys)
    }

    /// The same for a whole map output. If others are to have it as a file, it is never in memory: fresh memory for all
    /// of it costs more than the sort.
    pub(crate) fn of_output(scratch: &Scratch, index_keys: bool) -> Result<Self, ScratchError> {
        if !scratch.hands_outputs_on() {
            return Ok(Self::new(scratch, index_keys));
        }
        let (file, handle) = scratch.file()?;
        let out =
            RunFileWriter::new(handle, scratch.codec()).map_err(|source| file.error("write", source))?;
        Ok(Self::with_target(scratch, Target::Stored { file, out, spilled: false }, index_keys))
    }

    fn with_target(scratch: &Scratch, target: Target, index_keys: bool) -> Self {
        Self {
            scratch: scratch.clone(),
            target,
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
            Target::Stored { file, out, .. } => {
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
        out.resident_blocks(index, &std::mem::take(blocks)).map_err(failed)?;
        self.target = Target::Stored { file, out, spilled: true };
        Ok(())
    }

    /// Ends the run.
    pub(crate) fn finish(mut self) -> Result<Run, ScratchError> {
        self.end_block()?;
        self.end_segment();
        match self.target {
            Target::Resident { blocks, index, held } => Ok(Run {
                index,
                bytes: RunBytes::Resident { blocks, _held: held, codec: self.scratch.codec() },
            }),
            Target::Stored { file, out, spilled } => {
                let (_, index) = out.finish().map_err(|source| file.error("write", source))?;
                let stored_bytes = file.path().metadata().map_err(|source| file.error("stat", source))?.len();
                if spilled {
                    self.scratch.count_written(stored_bytes);
                }
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
