//! Records of delimited text (CSV, TSV): lines, but a quoted field may hold line ends.

use super::ReadError;
use super::window::Window;
use crate::memory::TaskMemory;
use crate::split::FileRange;
use gristmill_dfs::{ReadAt, Uri};
use memchr::{memchr, memchr2};

/// What encloses fields (RFC 4180); within such a field two of them stand for one.
const QUOTE: u8 = b'"';

/// Reads the records of a whole file: where a quoted field is open depends on all that comes before, so it is not cut.
pub struct DelimitedReader {
    window: Window,
    delimiter: u8,
}

/// Whether a quoted field of `line` has no end there.
pub fn is_quote_open(line: &[u8], delimiter: u8) -> bool {
    let mut scan = Scan { at: 0, state: State::FieldStart };
    scan.find_end(line, delimiter);
    matches!(scan.state, State::Quoted)
}

enum State {
    FieldStart,
    Plain,
    Quoted,
    /// Behind a quote within a quoted field: the field's end, or the first half of a quote.
    AfterQuote,
}

/// How far a record was looked through.
struct Scan {
    at: usize,
    state: State,
}

impl Scan {
    /// The length of the record with its end, if that is at hand.
    fn find_end(&mut self, bytes: &[u8], delimiter: u8) -> Option<usize> {
        loop {
            let rest = bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
            let (found, next) = match self.state {
                State::FieldStart if rest[0] == QUOTE => (Some(0), State::Quoted),
                State::AfterQuote if rest[0] == QUOTE => (Some(0), State::Quoted),
                State::FieldStart | State::AfterQuote => {
                    self.state = State::Plain;
                    continue;
                }
                State::Plain => (memchr2(delimiter, b'\n', rest), State::FieldStart),
                State::Quoted => (memchr(QUOTE, rest), State::AfterQuote),
            };
            let Some(found) = found else {
                self.at = bytes.len();
                return None;
            };
            let ends = matches!(self.state, State::Plain) && rest[found] == b'\n';
            (self.at, self.state) = (self.at + found + 1, next);
            if ends {
                return Some(self.at);
            }
        }
    }
}

impl DelimitedReader {
    /// Stands before the first record of the file, all of which `range` must be.
    pub fn open(range: &FileRange, delimiter: u8, memory: TaskMemory) -> Result<Self, ReadError> {
        Self::over(range.uri.store()?.open(&range.uri)?, range, delimiter, memory)
    }

    /// The same over a file that is open already.
    pub fn over(
        file: Box<dyn ReadAt>,
        range: &FileRange,
        delimiter: u8,
        memory: TaskMemory,
    ) -> Result<Self, ReadError> {
        Ok(Self { window: Window::over(file, range, 0, memory)?, delimiter })
    }

    /// The next record's offset, and the record without its end (LF or CRLF, or the file's); `None` after the last.
    pub fn next_record(&mut self) -> Result<Option<(u64, &[u8])>, ReadError> {
        let offset = self.window.offset();
        let mut scan = Scan { at: 0, state: State::FieldStart };
        loop {
            if let Some(with_end) = scan.find_end(self.window.bytes(), self.delimiter) {
                let record = self.window.consume(with_end, with_end - 1);
                return Ok(Some((offset, record.strip_suffix(b"\r").unwrap_or(record))));
            }
            if !self.window.extend()? {
                break;
            }
        }
        let rest = self.window.bytes().len();
        if matches!(scan.state, State::Quoted) {
            return Err(ReadError::OpenQuote { uri: self.window.uri().clone(), offset });
        }
        Ok((rest > 0).then(|| (offset, self.window.consume(rest, rest))))
    }

    /// If the file is compressed: where in it decompression began. Offsets of records count from there.
    pub fn decompressed_from(&self) -> Option<u64> {
        self.window.decompressed_from()
    }

    /// Stored bytes that were read, about.
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

    fn records(text: &str, task_bytes: usize) -> Result<Vec<(u64, String)>, ReadError> {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("table");
        std::fs::write(&path, text).expect("write");
        let uri = Uri::parse(path.to_str().expect("utf-8")).expect("a path");
        let file_bytes = text.len() as u64;
        let range = FileRange { uri, start: 0, end: file_bytes, file_bytes, stamp: Stamp::UNKNOWN };
        let mut reader = DelimitedReader::open(&range, b',', TaskMemory { bytes: task_bytes })?;
        let mut found = Vec::new();
        while let Some((offset, record)) = reader.next_record()? {
            found.push((offset, String::from_utf8(record.to_vec()).expect("text")));
        }
        Ok(found)
    }

    #[test]
    fn line_ends_within_quotes_are_data_and_quotes_within_plain_fields_too() {
        let found = records("a,\"b\nc\"\r\n\"d \"\"\n\",e\nf\"g,h\nlast", 1 << 20).expect("well formed");
        let expected = [(0, "a,\"b\nc\""), (9, "\"d \"\"\n\",e"), (19, "f\"g,h"), (25, "last")]
            .map(|(at, text)| (at, text.into()));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_quote_that_is_never_closed_is_an_error_that_names_its_record() {
        let error = records("a,b\nc,\"d\ne,f\n", 1 << 20).expect_err("cut within a field").to_string();
        assert!(error.contains("offset 4 of"), "{error}");
    }

    #[test]
    fn a_quote_that_is_never_closed_does_not_take_all_memory() {
        let text = format!("a,\"{}", "b\n".repeat(500_000));
        let error = records(&text, 1 << 20).expect_err("a record of a megabyte");
        assert!(matches!(error, ReadError::RecordTooLarge { offset: 0, .. }), "{error}");
    }

    #[test]
    fn records_longer_than_the_read_buffer_are_whole() {
        let long = format!("\"{}\"", "x\n\"\"".repeat(60_000));
        let found = records(&format!("{long}\nshort\n"), 1 << 20).expect("well formed");
        assert_eq!(found, [(0, long.clone()), (long.len() as u64 + 1, "short".into())]);
    }
}
