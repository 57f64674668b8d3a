//! Reads the records of a run part, one after the other.

use crate::block::{self, BlockError, RecordSpan, record_at};
use crate::prefix::prefix;
use crate::run::{ReadRunError, RunBytes, RunPart};
use crate::run_file::{BlockEntry, RunError, RunFileReader};
use std::sync::Arc;

/// Reads the records of a part in order.
pub(crate) struct Cursor {
    part: RunPart,
    /// Boxed: cursors are moved about.
    file: Option<Box<RunFileReader>>,
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
        let file = part.run.open()?;
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
            (None, RunBytes::Held { blocks, .. }) => {
                let entry = &self.part.run.index.blocks[number];
                let raw = Arc::make_mut(&mut self.block);
                block::open(&blocks[number], entry.offset, entry.raw_bytes, entry.records, raw)
                    .map_err(|source| in_memory(entry, source))?;
            }
            (None, _) => unreachable!("a run that is not in memory has an open file"),
        }
        self.next_block += 1;
        self.span = RecordSpan::default();
        Ok(true)
    }

    fn malformed(&self, source: BlockError) -> ReadRunError {
        let entry = &self.part.run.index.blocks[self.next_block as usize - 1];
        match &self.file {
            Some(file) => file.malformed(entry, source).into(),
            None => in_memory(entry, source),
        }
    }
}

fn in_memory(entry: &BlockEntry, source: BlockError) -> ReadRunError {
    RunError::Block { path: String::from("a run in memory"), offset: entry.offset, source }.into()
}
