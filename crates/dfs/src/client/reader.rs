//! A file being read.

use std::io::{self, SeekFrom};
use std::sync::Arc;

use gristmill_proto::namespace::{Entry, LocatedBlock};

use super::DfsClient;
use super::connection::block_on;
use super::errors::DfsError;
use super::locations::Locations;
use super::range::{Range, Source};

/// A file open for reading, as long as it was when it was opened. Hadoop: `DFSInputStream`.
///
/// Every byte is verified against the checksums that its writer made. A replica that fails, or is damaged, is left for
/// another one, in the middle of a block if need be; damaged ones are reported. Replicas on this machine are read from
/// their files.
///
/// [`io::Read`] reads ahead: it asks for the rest of a block at once. [`FileReader::read_at`] asks for exactly what it
/// is to give, and may be called by many threads.
pub struct FileReader {
    source: Source,
    position: u64,
    /// Reading in order ends here.
    end: u64,
    /// The rest of the block that is being read in order.
    ahead: Option<Range>,
}

impl DfsClient {
    /// Opens a file for reading.
    pub fn open(&self, path: &str) -> Result<FileReader, DfsError> {
        block_on(self.open_async(path))
    }

    pub(crate) async fn open_async(&self, path: &str) -> Result<FileReader, DfsError> {
        let locations = Locations::open(self.clone(), path).await?;
        let end = locations.entry.bytes;
        Ok(FileReader { source: Source::new(locations), position: 0, end, ahead: None })
    }
}

impl FileReader {
    /// The file as it was opened.
    pub fn entry(&self) -> &Entry {
        &self.source.locations.entry
    }

    /// How long it was when it was opened. A file that is being written is as long as its last sync.
    pub fn file_bytes(&self) -> u64 {
        self.entry().bytes
    }

    /// Fills `buffer` with the bytes from `offset` on, or as much of it as the file has; says how much that was.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DfsError> {
        let end = self.file_bytes().min(offset.saturating_add(buffer.len() as u64));
        let mut filled = 0;
        let mut position = offset;
        while position < end {
            let mut range = Range::new(&self.source, position, end)?;
            loop {
                let got = range.read(&self.source, &mut buffer[filled..])?;
                if got == 0 {
                    break;
                }
                filled += got;
            }
            position = range.position();
        }
        Ok(filled)
    }

    /// From now on [`io::Read`] gives only these bytes of the file, and reads no further ahead.
    pub(crate) fn confine(&mut self, range: std::ops::Range<u64>) {
        self.position = range.start;
        self.end = range.end.min(self.file_bytes());
        self.ahead = None;
    }

    /// Fills `piece` with the next bytes, of which there must be as many.
    pub(crate) fn read_piece(&mut self, piece: &mut [u8]) -> Result<(), DfsError> {
        let mut filled = 0;
        while filled < piece.len() {
            let got = self.read_on(&mut piece[filled..])?;
            if got == 0 {
                return Err(DfsError::FileChanged { path: self.source.locations.path.clone() });
            }
            filled += got;
        }
        Ok(())
    }

    /// The block that holds the last byte, if there is one.
    pub(crate) fn last_block(&self) -> Result<Option<Arc<LocatedBlock>>, DfsError> {
        self.file_bytes().checked_sub(1).map(|last| self.source.locations.block_at(last)).transpose()
    }

    fn read_on(&mut self, buffer: &mut [u8]) -> Result<usize, DfsError> {
        while self.position < self.end && !buffer.is_empty() {
            let range = match self.ahead.take().filter(|range| range.position() == self.position) {
                Some(range) => range,
                None => Range::new(&self.source, self.position, self.end)?,
            };
            let range = self.ahead.insert(range);
            let got = range.read(&self.source, buffer)?;
            if got > 0 {
                self.position += got as u64;
                return Ok(got);
            }
            // The block is over.
            self.ahead = None;
        }
        Ok(0)
    }
}

impl io::Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.read_on(buffer)?)
    }
}

impl io::Seek for FileReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
            SeekFrom::End(distance) => self.file_bytes().checked_add_signed(distance),
        };
        self.position = position.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a seek to before the start of the file")
        })?;
        Ok(self.position)
    }
}
