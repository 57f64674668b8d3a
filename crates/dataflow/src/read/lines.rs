//! Lines that end with LF or CRLF, or with the file.

use super::ReadError;
use super::window::Window;
use crate::memory::TaskMemory;
use crate::split::FileRange;
use gristmill_dfs::{ReadAt, Uri};
use memchr::memchr;

/// Reads the lines that start within a range. A lone CR is part of its line.
///
/// Of a compressed file, it reads the lines that follow a line end which lies in what was compressed within the range, and the
/// file's first one. So any cuts give the same lines here too.
pub struct LineReader {
    window: Window,
    /// No line begins in the range.
    is_empty: bool,
}

impl LineReader {
    /// Stands before the first line that starts at or after `range.start`.
    pub fn open(range: &FileRange, memory: TaskMemory) -> Result<Self, ReadError> {
        Self::over(range.uri.store()?.open(&range.uri)?, range, memory)
    }

    /// The same over a file that is open already.
    pub fn over(file: Box<dyn ReadAt>, range: &FileRange, memory: TaskMemory) -> Result<Self, ReadError> {
        // A line starts where the byte before is an LF, so one byte before the range is looked at as well.
        let window = Window::over(file, range, range.start.saturating_sub(1), memory)?;
        let mut reader = Self { window, is_empty: false };
        if range.start > 0 {
            reader.is_empty = !reader.skip_line()?;
        }
        Ok(reader)
    }

    /// Skips through the next LF without keeping what it skips: the line may be larger than memory. False if the range has
    /// none.
    fn skip_line(&mut self) -> Result<bool, ReadError> {
        loop {
            while self.window.bytes().is_empty() {
                if !self.window.extend()? {
                    return Ok(false);
                }
            }
            if !self.window.is_byte_within() {
                return Ok(false);
            }
            let found = memchr(b'\n', self.window.bytes());
            let skipped = found.map_or(self.window.bytes().len(), |at| at + 1);
            self.window.consume(skipped, 0);
            if found.is_some() {
                return Ok(true);
            }
        }
    }

    /// The next line's file offset, and the line without its end; `None` after the last.
    #[inline]
    pub fn next_line(&mut self) -> Result<Option<(u64, &[u8])>, ReadError> {
        let offset = self.window.offset();
        if self.is_empty || !self.window.is_within() {
            return Ok(None);
        }
        let line = match memchr(b'\n', self.window.bytes()) {
            Some(at) => Some(self.take(at, at + 1)),
            None => self.next_line_slowly()?,
        };
        Ok(line.map(|line| (offset, line)))
    }

    #[cold]
    fn next_line_slowly(&mut self) -> Result<Option<&[u8]>, ReadError> {
        let mut searched = self.window.bytes().len();
        while self.window.extend()? {
            if let Some(at) = memchr(b'\n', &self.window.bytes()[searched..]) {
                return Ok(Some(self.take(searched + at, searched + at + 1)));
            }
            searched = self.window.bytes().len();
        }
        if searched == 0 {
            return Ok(None);
        }
        Ok(Some(self.take(searched, searched)))
    }

    #[inline]
    fn take(&mut self, line_bytes: usize, with_end: usize) -> &[u8] {
        let has_lf = with_end > line_bytes;
        let line = self.window.consume(with_end, line_bytes);
        match line.split_last() {
            Some((b'\r', rest)) if has_lf => rest,
            _ => line,
        }
    }

    /// File offset up to which lines were returned.
    pub fn offset(&self) -> u64 {
        self.window.offset()
    }

    /// If the file is compressed: where in it decompression began. Offsets of lines count from there.
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

    fn lines(path: &std::path::Path, cuts: &[u64], task_bytes: usize) -> Vec<(u64, Vec<u8>)> {
        let uri = Uri::parse(path.to_str().expect("utf-8")).expect("a path");
        let file_bytes = path.metadata().expect("metadata").len();
        let mut bounds: Vec<u64> = cuts.iter().map(|cut| cut % (file_bytes + 1)).collect();
        bounds.extend([0, file_bytes]);
        bounds.sort_unstable();
        let mut found = Vec::new();
        for pair in bounds.windows(2).filter(|pair| pair[0] < pair[1]) {
            let range = FileRange {
                uri: uri.clone(),
                start: pair[0],
                end: pair[1],
                file_bytes,
                stamp: Stamp::UNKNOWN,
            };
            let mut reader = LineReader::open(&range, TaskMemory { bytes: task_bytes }).expect("open");
            while let Some((offset, line)) = reader.next_line().expect("read") {
                found.push((offset, line.to_vec()));
            }
        }
        found
    }

    /// The definition, in the plainest words.
    fn expected(text: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut lines = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let bare = line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
            lines.push((start, bare.to_vec()));
            start += line.len() as u64;
        }
        lines
    }

    proptest! {
        #[test]
        fn any_cuts_give_the_same_lines(text in "([a-c]|\n|\r\n|\r){0,60}", cuts: Vec<u64>) {
            let dir = tempfile::tempdir().expect("tempdir");
            let path = dir.path().join("text");
            std::fs::write(&path, &text).expect("write");
            prop_assert_eq!(lines(&path, &cuts, 1 << 20), expected(text.as_bytes()));
            let every_byte: Vec<u64> = (0..=text.len() as u64).collect();
            prop_assert_eq!(lines(&path, &every_byte, 1 << 20), expected(text.as_bytes()));
        }
    }

    #[test]
    fn lines_longer_than_the_read_buffer_are_whole_wherever_they_are_cut() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("text");
        let text = [&[b'a'; 200_000][..], b"\n", &[b'b'; 70_000], b"\r\nshort\n", &[b'c'; 33_000]].concat();
        std::fs::write(&path, &text).expect("write");
        // A task of 1 MiB reads 64 KiB at a time.
        assert_eq!(lines(&path, &[1, 65_536, 199_999, 200_001, 270_000, 290_000], 1 << 20), expected(&text));
    }

    #[test]
    fn a_line_over_the_limit_is_an_error_that_names_file_offset_and_limit() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("text");
        std::fs::write(&path, [b"ok\n", &[b'x'; 600_000][..]].concat()).expect("write");
        let uri = Uri::parse(path.to_str().expect("utf-8")).expect("a path");
        let range = FileRange { uri, start: 0, end: 600_003, file_bytes: 600_003, stamp: Stamp::UNKNOWN };
        let mut reader = LineReader::open(&range, TaskMemory { bytes: 1 << 20 }).expect("open");
        assert_eq!(reader.next_line().expect("first"), Some((0, &b"ok"[..])));
        let error = reader.next_line().expect_err("600,000 bytes are more than half a MiB").to_string();
        assert!(error.contains("offset 3 of") && error.contains("limit of 524288 bytes"), "{error}");
        assert!(error.contains(path.to_str().expect("utf-8")), "{error}");
    }

    #[test]
    fn a_file_that_shrank_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("text");
        std::fs::write(&path, b"four").expect("write");
        let uri = Uri::parse(path.to_str().expect("utf-8")).expect("a path");
        let range = FileRange { uri, start: 0, end: 5, file_bytes: 5, stamp: Stamp::UNKNOWN };
        let opened = LineReader::open(&range, TaskMemory { bytes: 1 << 20 });
        assert!(matches!(opened.err(), Some(ReadError::Changed { listed_bytes: 5, found_bytes: 4, .. })));
    }

    #[test]
    fn a_file_that_was_written_anew_is_refused_though_it_is_as_long_as_before() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("text");
        std::fs::write(&path, b"four").expect("write");
        let uri = Uri::parse(path.to_str().expect("utf-8")).expect("a path");
        let listed = uri.store().expect("a store").list(&uri, 1).expect("listed").remove(0);
        let range = FileRange { uri, start: 0, end: 4, file_bytes: 4, stamp: listed.stamp };
        assert!(LineReader::open(&range, TaskMemory { bytes: 1 << 20 }).is_ok());
        std::fs::write(&path, b"five").expect("write");
        let later = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        std::fs::File::options().write(true).open(&path).expect("open").set_modified(later).expect("set");
        let opened = LineReader::open(&range, TaskMemory { bytes: 1 << 20 });
        assert!(matches!(opened.err(), Some(ReadError::Rewritten { .. })));
    }
}
