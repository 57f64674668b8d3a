//! A Parquet file as the parquet crate reads it: the columns that are wanted, and nothing else, in reads of a useful size.

use super::parquet_footer;
use super::parquet_page::{PageHeader, PartTooLarge};
use super::parquet_scan::ScanError;
use bytes::{Buf, Bytes, buf};
use gristmill_dfs::ReadAt;
use parquet::basic::CompressionCodec;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Page headers are read first: so much is read for each, within its column.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// How a file ends, after the length of its metadata.
const FOOTER_END: &[u8] = b"PAR1";

/// An open file. Clones are the same file.
#[derive(Clone)]
pub(super) struct ParquetFile {
    inner: Arc<Mutex<Inner>>,
    bytes: u64,
    /// Neither pages nor the metadata may be larger.
    part_bytes_max: usize,
}

struct Inner {
    file: Box<dyn ReadAt>,
    /// Columns of the row groups that are read: what was read ahead of each. While there are none, no page is read.
    ahead: Vec<Ahead>,
    ahead_bytes: usize,
    /// Metadata that was looked at, and where it is: until the pages are read.
    kept: Vec<(u64, Bytes)>,
    /// From the store.
    read_bytes: u64,
}

/// A column of a row group.
pub(super) struct Column {
    pub(super) bytes: Range<u64>,
    pub(super) compression: CompressionCodec,
}

/// A column of a row group, and the part of it that is at hand.
struct Ahead {
    column: Range<u64>,
    compression: CompressionCodec,
    at: u64,
    bytes: Bytes,
}

impl ParquetFile {
    pub(super) fn new(file: Box<dyn ReadAt>, part_bytes_max: usize) -> Self {
        let bytes = file.bytes();
        let inner = Inner { file, ahead: Vec::new(), ahead_bytes: 0, kept: Vec::new(), read_bytes: 0 };
        Self { inner: Arc::new(Mutex::new(inner)), bytes, part_bytes_max }
    }

    pub(super) fn part_bytes_max(&self) -> usize {
        self.part_bytes_max
    }

    /// Refuses metadata that would cost too much; what else is wrong with it the crate says. It is kept for the crate.
    pub(super) fn check_footer(&self) -> std::result::Result<(), ScanError> {
        let Some(end) = self.bytes.checked_sub(FOOTER_END.len() as u64 + 4) else { return Ok(()) };
        let footer_end = self.bytes_at(end, FOOTER_END.len() + 4)?;
        let bytes = u64::from(footer_end.clone().get_u32_le());
        if !footer_end.ends_with(FOOTER_END) || bytes > end {
            return Ok(());
        }
        let limit_bytes = self.part_bytes_max;
        if bytes > limit_bytes as u64 {
            return Err(PartTooLarge::Footer { bytes, limit_bytes }.into());
        }
        let start = end - bytes;
        let footer = self.bytes_at(start, bytes as usize)?;
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).kept =
            vec![(start, footer.clone()), (end, footer_end)];
        parquet_footer::check(&footer)
    }

    /// Reads ahead in these columns, up to `ahead_bytes` each.
    pub(super) fn read_ahead(&self, columns: Vec<Column>, ahead_bytes: usize) {
        let mut inner = self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        inner.ahead = columns
            .into_iter()
            .map(|Column { bytes: column, compression }| Ahead {
                at: column.start,
                column,
                compression,
                bytes: Bytes::new(),
            })
            .collect();
        inner.ahead_bytes = ahead_bytes;
        inner.kept = Vec::new();
    }

    /// Bytes that were read.
    pub(super) fn read_bytes(&self) -> u64 {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).read_bytes
    }

    /// Looks at the page whose header is at `offset` before the crate does.
    fn check_page(&self, offset: u64) -> Result<()> {
        let file = self.clone();
        let header =
            PageHeader::read(Stretch { file, at: offset, bytes: Bytes::new().reader(), is_checked: true })?;
        let refused = |error: PartTooLarge| ParquetError::External(Box::new(error));
        header.check(offset, self.part_bytes_max).map_err(refused)?;
        let compressions: Vec<CompressionCodec> = {
            let inner = self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let columns = inner.ahead.iter().filter(|ahead| ahead.column.contains(&offset));
            columns.map(|ahead| ahead.compression).collect()
        };
        if compressions.is_empty() {
            return Err(ParquetError::General(format!("a page at offset {offset}, where no column is")));
        }
        for compression in compressions {
            if !header.may_burst(compression, self.part_bytes_max) {
                continue;
            }
            let page = self.bytes_at(offset + header.header_bytes, header.compressed_bytes as usize)?;
            if header.bursts(compression, &page) {
                return Err(refused(PartTooLarge::Bomb { offset, bytes: header.uncompressed_bytes }));
            }
        }
        Ok(())
    }

    fn bytes_at(&self, start: u64, length: usize) -> Result<Bytes> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.bytes);
        let Some(end) = end else {
            let sentence = format!("{length} bytes at offset {start} of a file of {}", self.bytes);
            return Err(ParquetError::EOF(sentence));
        };
        let mut inner = self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        inner.bytes_at(start..end)
    }
}

impl Inner {
    fn bytes_at(&mut self, wanted: Range<u64>) -> Result<Bytes> {
        let within = |(start, bytes): &&(u64, Bytes)| {
            *start <= wanted.start && wanted.end <= *start + bytes.len() as u64
        };
        if let Some((start, bytes)) = self.kept.iter().find(within) {
            let at = (wanted.start - start) as usize;
            return Ok(bytes.slice(at..at + (wanted.end - wanted.start) as usize));
        }
        let ahead = self
            .ahead
            .iter()
            .position(|ahead| ahead.column.start <= wanted.start && wanted.end <= ahead.column.end);
        let Some(column) = ahead else { return self.read(wanted) };
        let ahead = &self.ahead[column];
        if wanted.start < ahead.at || wanted.end > ahead.at + ahead.bytes.len() as u64 {
            let end = wanted.end.max(ahead.column.end.min(wanted.start + self.ahead_bytes as u64));
            let bytes = self.read(wanted.start..end)?;
            (self.ahead[column].at, self.ahead[column].bytes) = (wanted.start, bytes);
        }
        let ahead = &self.ahead[column];
        let at = (wanted.start - ahead.at) as usize;
        Ok(ahead.bytes.slice(at..at + (wanted.end - wanted.start) as usize))
    }

    fn read(&mut self, wanted: Range<u64>) -> Result<Bytes> {
        let mut bytes = vec![0; (wanted.end - wanted.start) as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], wanted.start + filled as u64) {
                Ok(0) => return Err(ParquetError::EOF("the file became shorter".to_owned())),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.read_bytes += bytes.len() as u64;
        Ok(bytes.into())
    }
}

impl Length for ParquetFile {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for ParquetFile {
    type T = Stretch;

    fn get_read(&self, start: u64) -> Result<Stretch> {
        let has_pages = {
            let inner = self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            !inner.ahead.is_empty()
        };
        Ok(Stretch { file: self.clone(), at: start, bytes: Bytes::new().reader(), is_checked: !has_pages })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.bytes_at(start, length)
    }
}

/// The file's bytes from some offset on.
pub(super) struct Stretch {
    file: ParquetFile,
    at: u64,
    bytes: buf::Reader<Bytes>,
    /// What is read is no page header, or one that a task takes. A stretch that is not read, as the crate opens some, is none.
    is_checked: bool,
}

impl Stretch {
    /// How much can be read at `at` without leaving what is read ahead.
    fn next_bytes(&self) -> usize {
        let left = usize::try_from(self.file.bytes.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let inner = self.file.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let column = inner.ahead.iter().find(|ahead| ahead.column.contains(&self.at));
        let column_left = column.map_or(left, |ahead| (ahead.column.end - self.at) as usize);
        left.min(column_left).min(HEADER_BYTES_MAX)
    }
}

impl io::Read for Stretch {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_checked {
            self.file.check_page(self.at).map_err(io::Error::other)?;
            self.is_checked = true;
        }
        if !self.bytes.get_ref().has_remaining() {
            let next = self.next_bytes();
            let bytes = self.file.bytes_at(self.at, next).map_err(io::Error::other)?;
            self.at += bytes.len() as u64;
            self.bytes = bytes.reader();
        }
        self.bytes.read(buffer)
    }
}
