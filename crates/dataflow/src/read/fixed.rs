//! Records of one fixed length.

use super::ReadError;
use super::window::Window;
use crate::memory::TaskMemory;
use crate::split::FileRange;
use gristmill_dfs::{ReadAt, Uri};

/// Reads the records that start within a range; of a compressed file, which is never cut, all of them.
pub struct FixedReader {
    window: Window,
    record_bytes: usize,
}

impl FixedReader {
    /// Stands before the first record that starts at or after `range.start`.
    pub fn open(range: &FileRange, record_bytes: usize, memory: TaskMemory) -> Result<Self, ReadError> {
        Self::over(range.uri.store()?.open(&range.uri)?, range, record_bytes, memory)
    }

    /// The same over a file that is open already.
    pub fn over(
        file: Box<dyn ReadAt>,
        range: &FileRange,
        record_bytes: usize,
        memory: TaskMemory,
    ) -> Result<Self, ReadError> {
        let first = range.start.div_ceil(record_bytes as u64) * record_bytes as u64;
        let window = Window::over(file, range, first.min(range.file_bytes), memory)?;
        Ok(Self { window, record_bytes })
    }

    /// The next record's file offset, and the record; `None` after the last.
    #[inline]
    pub fn next_record(&mut self) -> Result<Option<(u64, &[u8])>, ReadError> {
        let offset = self.window.offset();
        if !self.window.is_within() {
            return Ok(None);
        }
        while self.window.bytes().len() < self.record_bytes {
            if !self.window.extend()? {
                return if self.window.bytes().is_empty() { Ok(None) } else { Err(self.short()) };
            }
        }
        Ok(Some((offset, self.window.consume(self.record_bytes, self.record_bytes))))
    }

    fn short(&self) -> ReadError {
        ReadError::ShortRecord {
            uri: self.window.uri().clone(),
            offset: self.window.offset(),
            record_bytes: self.record_bytes,
            found_bytes: self.window.bytes().len(),
        }
    }

    /// File offset up to which records were returned.
    pub fn offset(&self) -> u64 {
        self.window.offset()
    }

    /// If the file is compressed: where in it decompression began. Offsets of records count from there.
    pub fn decompressed_from(&self) -> Option<u64> {
        self.window.decompressed_from()
    }

    /// Stored bytes of the range that were read, about.
    pub fn taken_bytes(&self) -> u64 {
        self.window.taken_bytes()
    }

    /// The file.
    pub fn uri(&self) -> &Uri {
        self.window.uri()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_dfs::Stamp;
    use proptest::prelude::*;

    fn range(path: &std::path::Path, start: u64, end: u64) -> FileRange {
        let uri = Uri::parse(path.to_str().expect("utf-8")).expect("a path");
        FileRange {
            uri,
            start,
            end,
            file_bytes: path.metadata().expect("metadata").len(),
            stamp: Stamp::UNKNOWN,
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_records(records in 0usize..20, record_bytes in 1usize..9, cut: u64) {
            let dir = tempfile::tempdir().expect("tempdir");
            let path = dir.path().join("records");
            let bytes: Vec<u8> = (0..records * record_bytes).map(|i| i as u8).collect();
            std::fs::write(&path, &bytes).expect("write");
            let (end, mut found) = (bytes.len() as u64, Vec::new());
            let cut = cut % (end + 1);
            for range in [range(&path, 0, cut), range(&path, cut, end)] {
                let mut reader =
                    FixedReader::open(&range, record_bytes, TaskMemory { bytes: 1 << 20 }).expect("open");
                while let Some((_, record)) = reader.next_record().expect("read") {
                    found.extend_from_slice(record);
                }
            }
            prop_assert_eq!(found, bytes);
        }
    }

    #[test]
    fn a_short_last_record_is_an_error_that_names_its_offset() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("records");
        std::fs::write(&path, [0; 25]).expect("write");
        let mut reader =
            FixedReader::open(&range(&path, 0, 25), 10, TaskMemory { bytes: 1 << 20 }).expect("open");
        assert!(reader.next_record().expect("first").is_some());
        assert!(reader.next_record().expect("second").is_some());
        let error = reader.next_record().expect_err("five bytes are no record").to_string();
        assert!(error.contains("5 of 10 bytes at offset 20"), "{error}");
    }
}
