//! A file that is nowhere but in memory.

use gristmill_dataflow::split::FileRange;
use gristmill_dfs::{ReadAt, Stamp, Uri};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// What errors call the file.
const NAME: &str = "/held/file";

/// Some bytes as a file; its reads are as short as the target likes.
#[derive(Clone)]
pub(crate) struct HeldFile {
    bytes: Arc<[u8]>,
    read_bytes_max: usize,
}

impl HeldFile {
    pub(crate) fn new(bytes: &[u8], read_bytes_max: usize) -> Self {
        Self { bytes: bytes.into(), read_bytes_max: read_bytes_max.max(1) }
    }

    /// As a reader opens it.
    pub(crate) fn open(&self) -> Box<dyn ReadAt> {
        Box::new(self.clone())
    }

    /// A piece of it.
    pub(crate) fn range(&self, range: Range<u64>) -> FileRange {
        self.range_of(NAME, range)
    }

    /// A piece of it, whose name ends in a suffix.
    pub(crate) fn range_named(&self, suffix: &str, range: Range<u64>) -> FileRange {
        self.range_of(&format!("{NAME}.{suffix}"), range)
    }

    fn range_of(&self, name: &str, range: Range<u64>) -> FileRange {
        let uri = Uri::parse(name).expect("a path");
        FileRange { uri, start: range.start, end: range.end, file_bytes: self.bytes(), stamp: Stamp::UNKNOWN }
    }
}

impl ReadAt for HeldFile {
    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.bytes.get(offset as usize..).unwrap_or(&[]);
        let bytes = rest.len().min(buffer.len()).min(self.read_bytes_max);
        buffer[..bytes].copy_from_slice(&rest[..bytes]);
        Ok(bytes)
    }
}

/// An error of a reader names the file, and where in it.
#[track_caller]
pub(crate) fn assert_names_the_place(error: &dyn std::error::Error) {
    let said = error.to_string();
    assert!(said.contains(NAME) && said.contains("offset"), "it names no place: {said}");
}
