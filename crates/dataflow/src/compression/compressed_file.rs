//! A compressed file as decoders read it: a stretch of bytes, one after the other.

use gristmill_dfs::ReadAt;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;

/// The store failed, and not the format: kept apart through decoders that know `io::Error` only.
#[derive(Debug, Error)]
#[error("{source}")]
pub(super) struct StoreError {
    /// Where in the file.
    pub(super) offset: u64,
    /// Why.
    #[source]
    pub(super) source: io::Error,
}

/// The bytes of a file from one offset to another.
pub(super) struct CompressedFile {
    file: Arc<dyn ReadAt + Sync>,
    /// File offset of `buffer[0]`.
    base: u64,
    buffer: Vec<u8>,
    at: usize,
    filled: usize,
    end: u64,
    /// File offset up to which decoders have taken bytes, for whoever watches.
    taken: Arc<AtomicU64>,
}

/// A file that several readers of one thread share.
pub(super) struct Shared(pub(super) std::sync::Mutex<Box<dyn ReadAt>>);

impl ReadAt for Shared {
    fn bytes(&self) -> u64 {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).read_at(buffer, offset)
    }
}

impl CompressedFile {
    /// The bytes of `file` from `start` to `end`, read `buffer_bytes` at a time.
    pub(super) fn new(
        file: Arc<dyn ReadAt + Sync>,
        start: u64,
        end: u64,
        buffer_bytes: usize,
        taken: Arc<AtomicU64>,
    ) -> Self {
        let buffer = vec![0; buffer_bytes.min(usize::try_from(end - start).unwrap_or(usize::MAX)).max(1)];
        Self { file, base: start, buffer, at: 0, filled: 0, end, taken }
    }

    /// File offset of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Whether no byte is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.offset() >= self.end
    }
}

impl BufRead for CompressedFile {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.filled && !self.is_at_end() {
            let offset = self.offset();
            let wanted = usize::try_from(self.end - offset).unwrap_or(usize::MAX).min(self.buffer.len());
            (self.base, self.at, self.filled) = (offset, 0, 0);
            let store = |source: io::Error| io::Error::other(StoreError { offset, source });
            self.filled = loop {
                match self.file.read_at(&mut self.buffer[..wanted], offset) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // The file has become shorter than it was when it was opened.
                    Ok(0) => return Err(store(io::ErrorKind::UnexpectedEof.into())),
                    result => break result.map_err(store)?,
                }
            };
        }
        Ok(&self.buffer[self.at..self.filled])
    }

    fn consume(&mut self, bytes: usize) {
        self.at += bytes;
        self.taken.store(self.offset(), Ordering::Relaxed);
    }
}

impl Read for CompressedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.fill_buf()?;
        let read = bytes.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}
