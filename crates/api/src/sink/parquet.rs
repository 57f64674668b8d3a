//! Parquet files of rows, and of batches.

use super::{Part, Sink};
use crate::batch::Batch;
use crate::columns::{Builder, schema_of};
use crate::row::Row;
use arrow::array::AsArray;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use gristmill_dataflow::part::{FinishedPart, PartError, PartFile, PartFiles};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::error::Error;
use std::sync::Arc;

const FORMAT: &str = "Parquet";
/// Level 1: nearly as fast as LZ4 at half the size.
const ZSTD_LEVEL: i32 = 1;
/// Rows that are gathered before they are encoded, if they are not larger than [`BATCH_BYTES`].
const BATCH_ROWS: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;
/// A row group ends when its columns take so much memory, or a quarter of the task's if that is less.
const GROUP_BYTES_MAX: usize = 128 << 20;
/// A smaller one would be all header.
const GROUP_BYTES_MIN: usize = 1 << 20;

/// Rows as Parquet files with the struct's fields as columns, compressed with zstd: options are columns that may be null, `Vec`s
/// lists, structs groups, variants without fields text. Row groups end when they fill a quarter of the task's memory. Files are
/// named `part-r-00000.parquet`; those without rows have the columns all the same.
#[derive(Clone, Debug)]
pub struct ParquetOutput {
    uri: String,
}

impl ParquetOutput {
    /// Part files in this directory.
    pub fn at(uri: impl Into<String>) -> Self {
        Self { uri: uri.into() }
    }
}

impl<T: Row> Sink<T> for ParquetOutput {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn format(&self) -> &'static str {
        FORMAT
    }

    fn open(&self, files: &PartFiles, directory: &str) -> Result<Box<dyn Part<T>>, PartError> {
        let file = files.create(directory, ".parquet", None)?;
        let name = file.name().to_owned();
        let failed =
            |source: Box<dyn Error + Send + Sync>| PartError::Format { name, format: FORMAT, source };
        let schema = match schema_of::<T>() {
            Ok(schema) => Arc::new(schema),
            Err(error) => return Err(failed(Box::new(error))),
        };
        let rows = Builder::rows(schema.fields()).map_err(|error| failed(Box::new(error)))?;
        Ok(Box::new(RowsPart { writer: Writer::new(file, schema, files)?, rows, count: 0, bytes: 0 }))
    }
}

/// Arrow's record batches as Parquet files with the columns of `schema`, compressed with zstd.
#[derive(Clone, Debug)]
pub struct ParquetBatchOutput {
    uri: String,
    schema: SchemaRef,
}

impl ParquetBatchOutput {
    /// Part files in this directory. Batches that have other columns than `schema` fail the job.
    pub fn at(uri: impl Into<String>, schema: SchemaRef) -> Self {
        Self { uri: uri.into(), schema }
    }
}

impl Sink<Batch> for ParquetBatchOutput {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn format(&self) -> &'static str {
        FORMAT
    }

    fn open(&self, files: &PartFiles, directory: &str) -> Result<Box<dyn Part<Batch>>, PartError> {
        let file = files.create(directory, ".parquet", None)?;
        Ok(Box::new(BatchPart { writer: Writer::new(file, self.schema.clone(), files)? }))
    }
}

/// A file with row groups of a bounded size.
struct Writer {
    name: String,
    writer: ArrowWriter<PartFile>,
    group_bytes_max: usize,
}

impl Writer {
    fn new(file: PartFile, schema: SchemaRef, files: &PartFiles) -> Result<Self, PartError> {
        let name = file.name().to_owned();
        let group_bytes_max = (files.memory().bytes / 4).clamp(GROUP_BYTES_MIN, GROUP_BYTES_MAX);
        let writer = ZstdLevel::try_new(ZSTD_LEVEL).and_then(|level| {
            let properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(level))
                .set_created_by(format!("gristmill {}", env!("CARGO_PKG_VERSION")))
                .build();
            ArrowWriter::try_new(file, schema, Some(properties))
        });
        match writer {
            Ok(writer) => Ok(Self { name, writer, group_bytes_max }),
            Err(error) => Err(failed(&name, error)),
        }
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), PartError> {
        let written = self.writer.write(batch).and_then(|()| {
            if self.writer.memory_size() > self.group_bytes_max { self.writer.flush() } else { Ok(()) }
        });
        written.map_err(|error| failed(&self.name, error))
    }

    fn finish(self) -> Result<Vec<FinishedPart>, PartError> {
        let file = self.writer.into_inner().map_err(|error| failed(&self.name, error))?;
        Ok(vec![file.finish()?])
    }
}

fn failed(name: &str, source: ParquetError) -> PartError {
    PartError::Format { name: name.to_owned(), format: FORMAT, source: Box::new(source) }
}

struct RowsPart {
    writer: Writer,
    rows: Builder,
    count: usize,
    bytes: usize,
}

impl RowsPart {
    fn flush(&mut self) -> Result<(), PartError> {
        if self.count == 0 {
            return Ok(());
        }
        let columns = self.rows.finish().map_err(|error| failed(&self.writer.name, error.into()))?;
        (self.count, self.bytes) = (0, 0);
        self.writer.write(&RecordBatch::from(columns.as_struct()))
    }
}

impl<T: Row> Part<T> for RowsPart {
    fn write(&mut self, record: T) -> Result<(), PartError> {
        self.rows.append(&record, &mut self.bytes).map_err(|source| {
            let name = self.writer.name.clone();
            PartError::Format { name, format: FORMAT, source: Box::new(source) }
        })?;
        self.count += 1;
        if self.count >= BATCH_ROWS || self.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<FinishedPart>, PartError> {
        self.flush()?;
        self.writer.finish()
    }
}

struct BatchPart {
    writer: Writer,
}

impl Part<Batch> for BatchPart {
    fn write(&mut self, record: Batch) -> Result<(), PartError> {
        self.writer.write(&record.0)
    }

    fn finish(self: Box<Self>) -> Result<Vec<FinishedPart>, PartError> {
        self.writer.finish()
    }
}
