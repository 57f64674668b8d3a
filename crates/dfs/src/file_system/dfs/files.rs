//! Open files of a cluster.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::failures;
use crate::client;
use crate::file_system::{FileWriter, FsError};
use crate::stamp::Stamp;
use crate::store::ReadAt;
use crate::uri::Uri;
use gristmill_proto::namespace::Entry;

/// Of a file that is being written every word is another content, and what could be read stays.
pub(super) fn stamp(entry: &Entry) -> Stamp {
    if entry.under_construction { Stamp::UNKNOWN } else { Stamp::of_numbers([entry.inode, entry.version]) }
}

/// A file that is read here and there, or, once somebody goes on where they stopped, ahead of them.
pub(super) struct DfsReader {
    bytes: u64,
    stamp: Stamp,
    reader: RefCell<client::FileReader>,
    /// Where the last read ended.
    end: Cell<u64>,
}

impl DfsReader {
    pub(super) fn new(reader: client::FileReader) -> DfsReader {
        let (bytes, stamp) = (reader.file_bytes(), stamp(reader.entry()));
        DfsReader { bytes, stamp, reader: RefCell::new(reader), end: Cell::new(0) }
    }
}

impl ReadAt for DfsReader {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn stamp(&self) -> Stamp {
        self.stamp
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut reader = self.reader.borrow_mut();
        // The first read of all may be the only one: a footer, a small file.
        let goes_on = offset == self.end.get() && offset > 0;
        let count =
            if goes_on { read_on(&mut reader, buffer, offset)? } else { reader.read_at(buffer, offset)? };
        self.end.set(offset + count as u64);
        Ok(count)
    }
}

/// Fills the buffer, while the rest of the block is on its way already.
fn read_on(reader: &mut client::FileReader, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    reader.seek(SeekFrom::Start(offset))?;
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// A file being written.
pub(super) struct DfsWriter {
    file: Uri,
    writer: client::FileWriter,
}

impl DfsWriter {
    pub(super) fn new(file: &Uri, writer: client::FileWriter) -> DfsWriter {
        DfsWriter { file: file.clone(), writer }
    }
}

impl Write for DfsWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.writer.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl FileWriter for DfsWriter {
    fn finish(self: Box<Self>) -> Result<(), FsError> {
        let DfsWriter { file, writer } = *self;
        writer.finish().map(drop).map_err(|error| failures::failed("write", &file, error))
    }
}
