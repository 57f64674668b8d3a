//! Delimited text with typed records.

use super::{Part, Sink};
use crate::row::Row;
use csv::{Writer, WriterBuilder};
use gristmill_dataflow::compression::Compression;
use gristmill_dataflow::part::{FinishedPart, PartError, PartFile, PartFiles};
use std::io;

/// Records as CSV or, with [`delimiter`](CsvOutput::delimiter), TSV: a header with the names of the fields, then a line a record,
/// quoted where it has to be. Files are named `part-r-00000.csv`; those without records are empty.
#[derive(Clone, Debug)]
pub struct CsvOutput {
    uri: String,
    delimiter: u8,
    header: bool,
    compression: Option<Compression>,
}

impl CsvOutput {
    /// Part files in this directory.
    pub fn at(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), delimiter: b',', header: true, compression: None }
    }

    /// What separates fields, instead of a comma: `b'\t'` for TSV.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// Leaves the header out.
    pub fn no_header(mut self) -> Self {
        self.header = false;
        self
    }

    /// Compresses the files, whose names get the suffix: [`Compression::Zstd`] or [`Compression::Gzip`].
    pub fn compressed(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }
}

impl<T: Row> Sink<T> for CsvOutput {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn format(&self) -> &'static str {
        "CSV"
    }

    fn open(&self, files: &PartFiles, directory: &str) -> Result<Box<dyn Part<T>>, PartError> {
        let suffix = if self.delimiter == b'\t' { ".tsv" } else { ".csv" };
        let file = files.create(directory, suffix, self.compression)?;
        let name = file.name().to_owned();
        let writer =
            WriterBuilder::new().delimiter(self.delimiter).has_headers(self.header).from_writer(file);
        Ok(Box::new(CsvPart { name, writer }))
    }
}

struct CsvPart {
    name: String,
    writer: Writer<PartFile>,
}

impl CsvPart {
    fn failed(&self, error: csv::Error) -> PartError {
        let name = self.name.clone();
        if error.is_io_error()
            && let csv::ErrorKind::Io(source) = error.into_kind()
        {
            return PartError::Write { name, source };
        }
        PartError::Format { name, format: "CSV", source: Box::new(NotFlat) }
    }
}

/// A record that is no row.
#[derive(Debug, thiserror::Error)]
#[error("its fields must be numbers, text, or options of these, the same number in each record")]
struct NotFlat;

impl<T: Row> Part<T> for CsvPart {
    fn write(&mut self, record: T) -> Result<(), PartError> {
        self.writer.serialize(&record).map_err(|error| self.failed(error))
    }

    fn finish(self: Box<Self>) -> Result<Vec<FinishedPart>, PartError> {
        let Self { name, writer } = *self;
        let file = writer.into_inner().map_err(|error| {
            let source = io::Error::new(error.error().kind(), error.error().to_string());
            PartError::Write { name, source }
        })?;
        Ok(vec![file.finish()?])
    }
}
