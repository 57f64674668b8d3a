//! One file of a job's output, as one attempt writes it: invisible until the job commits.

use crate::block::Codec;
use crate::memory::TaskMemory;
use crate::run::BlockBuilder;
use crate::run_file::RunFileWriter;
use gristmill_dfs::{StageError, StagedFile, StagedWriter};
use std::io::{self, Write};
use thiserror::Error;

/// Larger writes gain nothing.
const WRITE_BYTES_MAX: usize = 512 << 10;

/// Why a part of the output cannot be written.
#[derive(Debug, Error)]
pub enum PartError {
    /// The file cannot be made or closed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The file cannot be written.
    #[error("cannot write {name} of the output: {source}")]
    Write {
        /// Which file.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A buffered output file.
pub struct PartFile {
    name: String,
    writer: Box<dyn StagedWriter>,
    buffer: Vec<u8>,
    write_bytes: usize,
}

impl PartFile {
    pub(crate) fn new(name: String, writer: Box<dyn StagedWriter>, memory: TaskMemory) -> Self {
        let write_bytes = (memory.bytes / 16).min(WRITE_BYTES_MAX);
        Self { name, writer, buffer: Vec::new(), write_bytes }
    }

    /// Appends what `write` puts into the buffer.
    #[inline]
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), PartError> {
        write(&mut self.buffer);
        if self.buffer.len() >= self.write_bytes { self.flush_buffer() } else { Ok(()) }
    }

    fn flush_buffer(&mut self) -> Result<(), PartError> {
        let written = self.writer.write_all(&self.buffer);
        written.map_err(|source| PartError::Write { name: self.name.clone(), source })?;
        self.buffer.clear();
        // One huge record must not keep its memory.
        self.buffer.shrink_to(2 * self.write_bytes);
        Ok(())
    }

    /// Closes the file.
    pub fn finish(mut self) -> Result<StagedFile, PartError> {
        self.flush_buffer()?;
        Ok(self.writer.finish()?)
    }
}

/// A sequence file: a run file with one segment.
pub struct SequencePart {
    name: String,
    file: RunFileWriter<Box<dyn StagedWriter>>,
    block: BlockBuilder,
}

impl SequencePart {
    /// Begins a file.
    pub fn new(part: PartFile) -> Result<Self, PartError> {
        let PartFile { name, writer, .. } = part;
        let file = RunFileWriter::new(writer, Codec::Lz4);
        let file = file.map_err(|source| PartError::Write { name: name.clone(), source })?;
        Ok(Self { name, file, block: BlockBuilder::default() })
    }

    /// Adds a record.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), PartError> {
        self.block.push(key, value);
        if self.block.is_full() { self.write_block() } else { Ok(()) }
    }

    fn write_block(&mut self) -> Result<(), PartError> {
        let written = self.block.write(&mut self.file);
        written.map_err(|source| PartError::Write { name: self.name.clone(), source })
    }

    /// Closes the file.
    pub fn finish(mut self) -> Result<StagedFile, PartError> {
        self.write_block()?;
        if self.block.digest().records > 0 {
            self.file.end_segment(0, self.block.digest());
        }
        let finished = self.file.finish();
        let (writer, _) = finished.map_err(|source| PartError::Write { name: self.name, source })?;
        Ok(writer.finish()?)
    }
}
