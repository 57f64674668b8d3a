//! A sliding window over a file: the bytes from the current record on, as many as one read brings. Of a compressed file
//! they are the decompressed ones, and offsets count those from where decompression began.

use super::{ReadError, check_unchanged};
use crate::compression::{Compression, Decompression};
use crate::memory::TaskMemory;
use crate::split::FileRange;
use gristmill_dfs::{ReadAt, Uri};
use std::io;

/// Where the bytes come from.
enum Bytes {
    Stored { file: Box<dyn ReadAt>, file_bytes: u64 },
    Decompressed(Decompression),
}

/// The file's bytes from [`Window::offset`] on, in part.
pub(super) struct Window {
    source: Bytes,
    uri: Uri,
    /// Of the range.
    start: u64,
    end: u64,
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
    /// A window on `file`, the one that `range` names, that starts at `offset`, empty. A compressed file is decompressed from
    /// the first frame or block that begins in the range, and `offset` means nothing.
    pub(super) fn over(
        file: Box<dyn ReadAt>,
        range: &FileRange,
        offset: u64,
        memory: TaskMemory,
    ) -> Result<Self, ReadError> {
        let (uri, file_bytes) = (range.uri.clone(), range.file_bytes);
        check_unchanged(range, &*file)?;
        let read_bytes = memory.read_bytes();
        let (source, base, first_bytes) = match Compression::of(&uri) {
            Some(compression) if file_bytes == 0 => {
                return Err(ReadError::Truncated { uri, compression, offset: 0, from: 0, decompressed: 0 });
            }
            Some(compression) => {
                let decompression = Decompression::start(compression, file, range, memory)?;
                (Bytes::Decompressed(decompression), 0, read_bytes)
            }
            // A small file needs no large buffer; one byte more shows its end without another read.
            None => {
                let first_bytes = read_bytes.min((file_bytes - offset) as usize + 1);
                (Bytes::Stored { file, file_bytes }, offset, first_bytes)
            }
        };
        let (start, end) = (range.start, range.end);
        let (buffer, record_bytes_max) = (vec![0; first_bytes], memory.record_bytes_max());
        Ok(Self { source, uri, start, end, buffer, base, at: 0, filled: 0, read_bytes, record_bytes_max })
    }

    /// Whether a record that follows a line end, and begins where the window stands, is of the range: of a stored file, if its
    /// first byte is; of a compressed one, if the byte before it is, because nothing but decompressing what comes before
    /// the range could tell that a record begins at its first byte.
    #[inline]
    pub(super) fn is_within(&self) -> bool {
        match &self.source {
            Bytes::Stored { .. } => self.offset() < self.end,
            Bytes::Decompressed(bytes) => bytes.own_bytes().is_none_or(|own| self.offset() <= own),
        }
    }

    /// Whether the byte where the window stands is of the range.
    pub(super) fn is_byte_within(&self) -> bool {
        match &self.source {
            Bytes::Stored { .. } => self.offset() < self.end,
            Bytes::Decompressed(bytes) => bytes.own_bytes().is_none_or(|own| self.offset() < own),
        }
    }

    /// Where decompression began, if the file is compressed.
    pub(super) fn decompressed_from(&self) -> Option<u64> {
        match &self.source {
            Bytes::Stored { .. } => None,
            Bytes::Decompressed(bytes) => Some(bytes.start_offset()),
        }
    }

    /// Stored bytes of the range that were read, about.
    pub(super) fn taken_bytes(&self) -> u64 {
        let taken = match &self.source {
            Bytes::Stored { .. } => self.offset().saturating_sub(self.start),
            Bytes::Decompressed(bytes) => bytes.taken_bytes(),
        };
        taken.min(self.end - self.start)
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
        let target = &mut self.buffer[self.filled..];
        let bytes = match &mut self.source {
            Bytes::Decompressed(source) => source.read(target)?,
            Bytes::Stored { file, file_bytes } => {
                let wanted = target.len().min((*file_bytes - end) as usize);
                if wanted == 0 {
                    return Ok(false);
                }
                let read = read_some(&**file, &mut target[..wanted], end);
                let bytes = read.map_err(|source| {
                    let uri = self.uri.clone();
                    ReadError::Io { uri, offset: end, source }
                })?;
                if bytes == 0 {
                    let (uri, listed_bytes) = (self.uri.clone(), *file_bytes);
                    return Err(ReadError::Changed { uri, listed_bytes, found_bytes: end });
                }
                bytes
            }
        };
        self.filled += bytes;
        Ok(bytes > 0)
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
