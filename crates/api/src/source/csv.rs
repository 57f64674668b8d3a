//! Delimited text with typed records.

use super::{Cut, Input, Sealed, Source, Uris, for_each_range};
use crate::dataset::BadRecords;
use crate::pipe::{Consumer, TaskInput};
use crate::row::Row;
use csv::ByteRecord;
use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};
use gristmill_dataflow::attempt::{Attempt, TaskError};
use gristmill_dataflow::read::{DelimitedReader, LineReader, ReadError, is_quote_open};
use gristmill_dataflow::split::FileRange;
use gristmill_dfs::ReadAt;
use std::marker::PhantomData;
use std::sync::Arc;
use thiserror::Error;

/// Some editors begin text with this.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// A table has at most so many columns.
const FIELDS_MAX: usize = 64 << 10;

/// Records from CSV (RFC 4180) or, with [`delimiter`](Csv::delimiter), TSV files. Each file begins with a header; fields go by its
/// names into the fields of `T`, and columns that `T` does not have are left out. Blank lines are skipped. A record that
/// has not as many fields as the header, or does not become a `T`, fails the job, naming file and offset, unless
/// [`skip_bad`](Csv::skip_bad) allows it.
///
/// A quoted field may hold line ends, so where a record begins depends on all that comes before: each file is one split.
/// [`split_at_lines`](Csv::split_at_lines) says that no field does.
#[derive(Clone, Debug)]
pub struct Csv<T> {
    uris: Vec<String>,
    form: Form,
    bad: Arc<BadRecords>,
    record: PhantomData<fn() -> T>,
}

#[derive(Clone, Copy, Debug)]
struct Form {
    delimiter: u8,
    header: bool,
    lines: bool,
}

impl<T: Row> Csv<T> {
    /// The records of these files, directories and globs.
    pub fn at(uris: impl Uris) -> Self {
        let form = Form { delimiter: b',', header: true, lines: false };
        Self { uris: uris.into_uris(), form, bad: BadRecords::none(), record: PhantomData }
    }

    /// What separates fields, instead of a comma: `b'\t'` for TSV.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.form.delimiter = delimiter;
        self
    }

    /// The files have no header: fields go into those of `T` in their order.
    pub fn no_header(mut self) -> Self {
        self.form.header = false;
        self
    }

    /// No field holds a line end, so files can be cut into splits. A field that does fails the job.
    pub fn split_at_lines(mut self) -> Self {
        self.form.lines = true;
        self
    }

    /// Skips up to `limit` records, over all tasks, that are not as they should be, and rests of damaged files, each counted
    /// as one record; the job's report counts them.
    pub fn skip_bad(self, limit: u64) -> Self {
        self.bad.allow(limit);
        self
    }
}

/// What is wrong with a record.
#[derive(Debug, Error)]
enum BadRow {
    #[error("the record has {found} fields, and the header {expected}")]
    Fields { found: usize, expected: usize },
    #[error("the record has more than {FIELDS_MAX} fields")]
    TooManyFields,
    #[error("a quoted field goes on in the next line: read the file without split_at_lines")]
    OpenQuote,
    #[error("{0}")]
    Value(#[source] csv::Error),
}

impl<T: Row> Sealed for Csv<T> {}

impl<T: Row> Source for Csv<T> {
    type Item = T;

    fn input(&self) -> Input {
        let cut = if self.form.lines {
            Cut::Lines
        } else {
            Cut::Whole("a quoted field may hold line ends; split_at_lines says that none does")
        };
        let format = if self.form.delimiter == b'\t' { "TSV with columns" } else { "CSV" };
        Input::Files { format, uris: self.uris.clone(), cut, align_bytes: 1, headed: false }
    }

    fn bad_records(&self) -> Option<Arc<BadRecords>> {
        Some(self.bad.clone())
    }

    fn read(
        &self,
        input: &TaskInput,
        attempt: &mut Attempt,
        consumer: &mut Consumer<'_, T>,
    ) -> Result<(), TaskError> {
        for_each_range(input, attempt, Some(&self.bad), |range, file, attempt| {
            let header = if self.form.header { self.form.read_header(range, attempt)? } else { None };
            let mut fields = Fields::new(self.form.delimiter);
            self.form.for_each_record(range, file, attempt, |record, is_open, attempt| {
                let row =
                    if is_open { Err(BadRow::OpenQuote) } else { fields.row::<T>(record, header.as_ref()) };
                match row {
                    Ok(row) => consumer.take(row, attempt),
                    Err(error) => self.bad.undecodable(error, attempt),
                }
            })
        })
    }
}

impl Form {
    /// The names of the columns, from the file's first record.
    fn read_header(self, range: &FileRange, attempt: &Attempt) -> Result<Option<ByteRecord>, TaskError> {
        let whole = FileRange { start: 0, end: range.file_bytes, ..range.clone() };
        let mut reader = DelimitedReader::open(&whole, self.delimiter, attempt.memory())?;
        let Some((offset, record)) = reader.next_record()? else { return Ok(None) };
        let record = record.strip_prefix(BYTE_ORDER_MARK).unwrap_or(record);
        let mut fields = Fields::new(self.delimiter);
        let failed = |source: BadRow| ReadError::Format {
            uri: range.uri.clone(),
            format: "CSV",
            offset,
            source: Box::new(source),
        };
        fields.split(record).map_err(failed)?;
        Ok(Some(fields.record))
    }

    /// Calls `take` with each record that is not blank, and whether a quote of it is open at its end.
    fn for_each_record(
        self,
        range: &FileRange,
        file: Box<dyn ReadAt>,
        attempt: &mut Attempt,
        mut take: impl FnMut(&[u8], bool, &mut Attempt),
    ) -> Result<(), TaskError> {
        let before = attempt.report.bytes_in;
        let mut take = |from: Option<u64>, offset: u64, record: &[u8], is_open, attempt: &mut Attempt| {
            let at_start = offset == 0 && from.unwrap_or(range.start) == 0;
            let plain =
                if at_start { record.strip_prefix(BYTE_ORDER_MARK).unwrap_or(record) } else { record };
            if plain.is_empty() || at_start && self.header {
                return Ok(());
            }
            attempt.at_offset(offset);
            take(plain, is_open, attempt);
            attempt.record_done()
        };
        if self.lines {
            let mut reader = LineReader::over(file, range, attempt.memory())?;
            let from = reader.decompressed_from();
            super::begin_range(attempt, range, from);
            while let Some((offset, line)) = reader.next_line()? {
                take(from, offset, line, is_quote_open(line, self.delimiter), attempt)?;
                attempt.report.bytes_in = before + reader.taken_bytes();
            }
            return Ok(());
        }
        let mut reader = DelimitedReader::over(file, range, self.delimiter, attempt.memory())?;
        let from = reader.decompressed_from();
        super::begin_range(attempt, range, from);
        while let Some((offset, record)) = reader.next_record()? {
            take(from, offset, record, false, attempt)?;
            attempt.report.bytes_in = before + reader.taken_bytes();
        }
        Ok(())
    }
}

/// Splits records into fields.
struct Fields {
    reader: Reader,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    record: ByteRecord,
}

impl Fields {
    fn new(delimiter: u8) -> Self {
        let mut builder = ReaderBuilder::new();
        // Lines are found already: within a record, CR and LF are data.
        let reader = builder.delimiter(delimiter).terminator(Terminator::Any(b'\n')).build();
        Self { reader, bytes: Vec::new(), ends: vec![0; 64], record: ByteRecord::new() }
    }

    fn row<T: Row>(&mut self, record: &[u8], header: Option<&ByteRecord>) -> Result<T, BadRow> {
        self.split(record)?;
        let (found, expected) = (self.record.len(), header.map_or(self.record.len(), ByteRecord::len));
        if found != expected {
            return Err(BadRow::Fields { found, expected });
        }
        self.record.deserialize(header).map_err(BadRow::Value)
    }

    fn split(&mut self, mut record: &[u8]) -> Result<(), BadRow> {
        self.reader.reset();
        // No field becomes longer by being unquoted.
        self.bytes.resize(self.bytes.len().max(record.len()), 0);
        let (mut filled, mut fields) = (0, 0);
        loop {
            let (bytes, ends) = (&mut self.bytes[filled..], &mut self.ends[fields..]);
            let (result, read, written, ended) = self.reader.read_record(record, bytes, ends);
            (record, filled, fields) = (&record[read..], filled + written, fields + ended);
            match result {
                // At the end of the input, the next call says so.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.bytes.resize(2 * self.bytes.len() + 64, 0),
                ReadRecordResult::OutputEndsFull if fields >= FIELDS_MAX => {
                    return Err(BadRow::TooManyFields);
                }
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                ReadRecordResult::Record | ReadRecordResult::End => break,
            }
        }
        self.record.clear();
        let mut start = 0;
        for &end in &self.ends[..fields] {
            self.record.push_field(&self.bytes[start..end]);
            start = end;
        }
        Ok(())
    }
}
