//! Gristmill's own sequence files: run files in an output directory.

use super::{ReadError, check_unchanged};
use crate::block::{RecordSpan, record_at};
use crate::run_file::{RunFileReader, RunIndex};
use crate::split::FileRange;
use gristmill_dfs::{ReadAt, Uri};
use std::ops::Range;

/// A record of a sequence file: the file offset of its block, its key, its value.
pub type SequenceRecord<'r> = (u64, &'r [u8], &'r [u8]);

/// Reads the records of the blocks that start within a range.
pub struct SequenceReader {
    uri: Uri,
    file: RunFileReader,
    index: RunIndex,
    blocks: Range<u32>,
    block: Vec<u8>,
    block_offset: u64,
    at: usize,
    end: u64,
}

impl SequenceReader {
    /// Verifies the file's footer and stands before the first record of the range.
    pub fn open(range: &FileRange) -> Result<Self, ReadError> {
        Self::over(range.uri.store()?.open(&range.uri)?, range)
    }

    /// The same over a file that is open already.
    pub fn over(file: Box<dyn ReadAt>, range: &FileRange) -> Result<Self, ReadError> {
        let uri = range.uri.clone();
        check_unchanged(range, &*file)?;
        let (file, index) = RunFileReader::open(file, uri.to_string())?;
        let blocks = index.blocks_within(range.start..range.end);
        Ok(Self {
            uri,
            file,
            index,
            blocks,
            block: Vec::new(),
            block_offset: range.start,
            at: 0,
            end: range.end,
        })
    }

    /// The next record; `None` after the last.
    pub fn next_record(&mut self) -> Result<Option<SequenceRecord<'_>>, ReadError> {
        if self.at == self.block.len() && !self.load()? {
            return Ok(None);
        }
        let span: RecordSpan = match record_at(&self.block, self.at) {
            Ok(span) => span,
            Err(source) => {
                let entry = &self.index.blocks[self.blocks.start as usize - 1];
                return Err(self.file.malformed(entry, source).into());
            }
        };
        self.at = span.end;
        let (key, value) = (&self.block[span.key..span.value], &self.block[span.value..span.end]);
        Ok(Some((self.block_offset, key, value)))
    }

    fn load(&mut self) -> Result<bool, ReadError> {
        let Some(number) = self.blocks.next() else { return Ok(false) };
        let entry = self.index.blocks[number as usize];
        self.file.block(&entry, &mut self.block)?;
        (self.block_offset, self.at) = (entry.offset, 0);
        Ok(true)
    }

    /// File offset up to which blocks were read.
    pub fn offset(&self) -> u64 {
        self.index.blocks.get(self.blocks.start as usize).map_or(self.end, |next| next.offset)
    }

    /// The file.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }
}
