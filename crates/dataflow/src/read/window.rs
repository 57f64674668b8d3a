//! A sliding window over a file: the bytes from the current record on, as many as one read brings.

use super::ReadError;
use crate::memory::TaskMemory;
use crate::split::FileRange;
use gristmill_dfs::{ReadAt, Uri};
use std::io;

/// The file's bytes from [`Window::offset`] on, in part.
pub(super) struct Window {
    file: Box<dyn ReadAt>,
    uri: Uri,
    file_bytes: u64,
    buffer: Vec<u8>,
    /// File offset of `buffer[0]`.
    base: u64,
    /// Everything before has been consumed.
    at: usize,
    filled: usize,
    read_bytes: usize,
    record_bytes_max: usize,
}

impl Window {
    /// A window on `file`, the one that `range` names, that starts at `offset`, empty.
    pub(super) fn over(
        file: Box<dyn ReadAt>,
        range: &FileRange,
        offset: u64,
        memory: TaskMemory,
    ) -> Result<Self, ReadError> {
        let (uri, file_bytes) = (range.uri.clone(), range.file_bytes);
        if file.bytes() != file_bytes {
            return Err(ReadError::Changed { uri, listed_bytes: file_bytes, found_bytes: file.bytes() });
        }
        let read_bytes = memory.read_bytes();
        // A small file needs no large buffer; one byte more shows its end without another read.
        let buffer = vec![0; read_bytes.min((file_bytes - offset) as usize + 1)];
        let record_bytes_max = memory.record_bytes_max();
        Ok(Self {
            file,
            uri,
            file_bytes,
            buffer,
            base: offset,
            at: 0,
            filled: 0,
            read_bytes,
            record_bytes_max,
        })
    }

    /// File offset of the first byte that is not consumed.
    #[inline]
    pub(super) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The bytes at hand that are not consumed.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.at..self.filled]
    }

    /// Consumes `count` bytes and returns those of them from `start` to `end`.
    #[inline]
    pub(super) fn consume(&mut self, count: usize, end: usize) -> &[u8] {
        let start = self.at;
        self.at += count;
        &self.buffer[start..start + end]
    }

    /// Brings more bytes after those at hand; false at the end of the file.
    #[cold]
    pub(super) fn extend(&mut self) -> Result<bool, ReadError> {
        if self.at > 0 {
            self.buffer.copy_within(self.at..self.filled, 0);
            self.base += self.at as u64;
            self.filled -= self.at;
            self.at = 0;
        }
        self.fit_buffer()?;
        let end = self.base + self.filled as u64;
        let wanted = (self.buffer.len() - self.filled).min((self.file_bytes - end) as usize);
        if wanted == 0 {
            return Ok(false);
        }
        let target = &mut self.buffer[self.filled..self.filled + wanted];
        let bytes = read_some(&*self.file, target, end).map_err(|source| ReadError::Io {
            uri: self.uri.clone(),
            offset: end,
            source,
        })?;
        self.filled += bytes;
        if bytes == 0 {
            let (uri, listed_bytes) = (self.uri.clone(), self.file_bytes);
            return Err(ReadError::Changed { uri, listed_bytes, found_bytes: end });
        }
        Ok(true)
    }

    /// A record fills the buffer: it grows up to the limit; after the record it goes back to its size.
    fn fit_buffer(&mut self) -> Result<(), ReadError> {
        if self.filled > self.record_bytes_max {
            let (uri, offset) = (self.uri.clone(), self.base);
            return Err(ReadError::RecordTooLarge { uri, offset, limit_bytes: self.record_bytes_max });
        }
        if self.filled == self.buffer.len() {
            let wider = (2 * self.filled).clamp(1, self.record_bytes_max + 1);
            self.buffer.reserve_exact(wider - self.filled);
            self.buffer.resize(wider, 0);
        } else if self.buffer.len() > self.read_bytes && self.filled < self.read_bytes {
            self.buffer.truncate(self.read_bytes);
            self.buffer.shrink_to_fit();
        }
        Ok(())
    }
}

fn read_some(file: &dyn ReadAt, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
