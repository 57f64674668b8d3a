//! One file of a job's output, as one attempt writes it: invisible until the job commits.

use crate::block::Codec;
use crate::commit::Outputs;
use crate::compression::{Compression, Encoder};
use crate::memory::{RECORD_BYTES_MAX, TaskMemory};
use crate::run_file::RunFileWriter;
use crate::run_writer::BlockBuilder;
use gristmill_dfs::{StageError, StagedFile, StagedWriter};
use std::io::{self, Write};
use std::sync::Arc;
use thiserror::Error;

/// Larger writes lose: the page cache takes memory in pieces as large as the write, and has small ones at hand.
const WRITE_BYTES_MAX: usize = 64 << 10;

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
    /// A record cannot be written in the output's format.
    #[error("cannot write a record to {name} of the output as {format}: {source}")]
    Format {
        /// Which file.
        name: String,
        /// The format.
        format: &'static str,
        /// What its writer says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A task writes to more directories at once than it can.
    #[error(
        "a task writes to more than {limit} directories of the output at once (the last one: {directory}); make what names them the key of a reduce"
    )]
    TooManyDirectories {
        /// The one too many.
        directory: String,
        /// How many a task may have open.
        limit: usize,
    },
    /// A record does not fit into a block of a sequence file.
    #[error(
        "a record of {bytes} bytes is larger than the limit of {limit_bytes} bytes of sequence files ({name})"
    )]
    RecordTooLarge {
        /// Which file.
        name: String,
        /// Key and value together.
        bytes: usize,
        /// [`RECORD_BYTES_MAX`].
        limit_bytes: usize,
    },
}

/// A file that is written, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedPart {
    /// The file.
    pub file: StagedFile,
    /// CRC-32C of its bytes.
    pub crc32c: u32,
}

/// Makes the files of one output of one attempt.
#[derive(Clone)]
pub struct PartFiles {
    pub(crate) outputs: Arc<Outputs>,
    pub(crate) output: usize,
    pub(crate) attempt: String,
    /// `part-r-00003`.
    pub(crate) name: String,
    pub(crate) memory: TaskMemory,
}

impl PartFiles {
    /// Begins a file below `directory` of the output (none if it is empty); the name of a task's file is followed by `suffix`
    /// and, if it is compressed, by that of the compression.
    pub fn create(
        &self,
        directory: &str,
        suffix: &str,
        compression: Option<Compression>,
    ) -> Result<PartFile, PartError> {
        let slash = if directory.is_empty() { "" } else { "/" };
        let mut name = format!("{directory}{slash}{}{suffix}", self.name);
        if let Some(compression) = compression {
            name = format!("{name}.{}", compression.suffix());
        }
        let encoder = Encoder::new(compression);
        let encoder = encoder.map_err(|source| PartError::Write { name: name.clone(), source })?;
        let writer = self.outputs.create(self.output, &self.attempt, &name)?;
        Ok(PartFile::new(name, writer, encoder, self.memory))
    }

    /// What the task may use.
    pub fn memory(&self) -> TaskMemory {
        self.memory
    }
}

/// A buffered output file.
pub struct PartFile {
    name: String,
    writer: Box<dyn StagedWriter>,
    encoder: Encoder,
    buffer: Vec<u8>,
    encoded: Vec<u8>,
    write_bytes: usize,
    crc32c: u32,
}

impl PartFile {
    fn new(name: String, writer: Box<dyn StagedWriter>, encoder: Encoder, memory: TaskMemory) -> Self {
        let write_bytes = (memory.bytes / 16).min(WRITE_BYTES_MAX);
        Self { name, writer, encoder, buffer: Vec::new(), encoded: Vec::new(), write_bytes, crc32c: 0 }
    }

    /// Its name below the output.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Appends what `write` puts into the buffer.
    #[inline]
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), PartError> {
        write(&mut self.buffer);
        if self.buffer.len() < self.write_bytes {
            return Ok(());
        }
        self.flush_buffer().map_err(|source| PartError::Write { name: self.name.clone(), source })
    }

    fn flush_buffer(&mut self) -> io::Result<()> {
        if matches!(self.encoder, Encoder::Plain) {
            put(&mut *self.writer, &mut self.crc32c, &self.buffer)?;
        } else {
            self.encoder.write(&self.buffer, &mut self.encoded)?;
            self.put_encoded()?;
        }
        self.buffer.clear();
        // One huge record must not keep its memory.
        self.buffer.shrink_to(2 * self.write_bytes);
        Ok(())
    }

    fn put_encoded(&mut self) -> io::Result<()> {
        put(&mut *self.writer, &mut self.crc32c, &self.encoded)?;
        self.encoded.clear();
        self.encoded.shrink_to(2 * self.write_bytes);
        Ok(())
    }

    /// Closes the file.
    pub fn finish(mut self) -> Result<FinishedPart, PartError> {
        let written = self.flush_buffer().and_then(|()| {
            self.encoder.finish(&mut self.encoded)?;
            self.put_encoded()
        });
        written.map_err(|source| PartError::Write { name: self.name.clone(), source })?;
        Ok(FinishedPart { file: self.writer.finish()?, crc32c: self.crc32c })
    }
}

/// Writes stored bytes, and sums them up.
fn put(writer: &mut dyn StagedWriter, crc32c: &mut u32, bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes)?;
    *crc32c = crc32c::crc32c_append(*crc32c, bytes);
    Ok(())
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= self.write_bytes {
            self.flush_buffer()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_buffer()
    }
}

/// A sequence file: a run file with one segment.
pub struct SequencePart {
    name: String,
    file: RunFileWriter<PartFile>,
    block: BlockBuilder,
}

impl SequencePart {
    /// Begins a file.
    pub fn new(part: PartFile) -> Result<Self, PartError> {
        let name = part.name.clone();
        let file = RunFileWriter::new(part, Codec::Lz4);
        let file = file.map_err(|source| PartError::Write { name: name.clone(), source })?;
        Ok(Self { name, file, block: BlockBuilder::default() })
    }

    /// Adds a record.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), PartError> {
        let bytes = key.len() + value.len();
        if bytes > RECORD_BYTES_MAX {
            let (name, limit_bytes) = (self.name.clone(), RECORD_BYTES_MAX);
            return Err(PartError::RecordTooLarge { name, bytes, limit_bytes });
        }
        if self.block.is_full_for(key, value) {
            self.write_block()?;
        }
        self.block.push(key, value);
        Ok(())
    }

    fn write_block(&mut self) -> Result<(), PartError> {
        let written = self.block.write(&mut self.file);
        written.map_err(|source| PartError::Write { name: self.name.clone(), source })
    }

    /// Closes the file.
    pub fn finish(mut self) -> Result<FinishedPart, PartError> {
        self.write_block()?;
        if self.block.digest().records > 0 {
            self.file.end_segment(0, self.block.digest());
        }
        let finished = self.file.finish();
        let (part, _) = finished.map_err(|source| PartError::Write { name: self.name, source })?;
        part.finish()
    }
}
