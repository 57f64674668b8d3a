//! Parquet, as rows and as batches.

use super::parquet_scan::{Batches, Bounds, Scan, damaged};
use super::{Cut, Input, Sealed, Source, Uris, for_each_piece};
use crate::columns::{Rows, field_names};
use crate::dataset::BadRecords;
use crate::pipe::{Consumer, TaskInput};
use crate::row::Row;
use arrow::record_batch::RecordBatch;
use gristmill_dataflow::attempt::{Attempt, TaskError};
use gristmill_dataflow::memory::TaskMemory;
use gristmill_dataflow::split::FileRange;
use gristmill_dfs::ReadAt;
use std::marker::PhantomData;
use std::sync::Arc;

/// Rows of Parquet files as values of a struct. Its fields are the columns, by name, and no other column is read. Options are columns
/// that may be null; dates, times and timestamps go into integers, as they are stored; decimals into text or `f64`; lists into
/// `Vec`s, groups into structs, text into unit variants. A row that does not become a `T` fails the job, naming the file, unless
/// [`skip_bad`](Parquet::skip_bad) allows it.
///
/// A split reads the row groups that begin in it.
#[derive(Clone, Debug)]
pub struct Parquet<T> {
    uris: Vec<String>,
    bounds: Vec<Bounds>,
    bad: Arc<BadRecords>,
    record: PhantomData<fn() -> T>,
}

/// A value that statistics of row groups are compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// Of integers, dates and timestamps, as they are stored.
    Integer(i64),
    /// Of floating-point numbers.
    Float(f64),
    /// Of text.
    Text(String),
}

impl From<i64> for Bound {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<f64> for Bound {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Bound {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl<T: Row> Parquet<T> {
    /// The rows of these files, directories and globs.
    pub fn at(uris: impl Uris) -> Self {
        Self { uris: uris.into_uris(), bounds: Vec::new(), bad: BadRecords::none(), record: PhantomData }
    }

    /// Does not read row groups whose statistics say that `column` has no value from `least` to `most`. Those that may have
    /// one are read whole: filter their rows.
    pub fn skip_groups_outside(
        mut self,
        column: impl Into<String>,
        least: impl Into<Bound>,
        most: impl Into<Bound>,
    ) -> Self {
        self.bounds.push(Bounds { column: column.into(), least: least.into(), most: most.into() });
        self
    }

    /// Skips up to `limit` rows, over all tasks, that do not become a `T`, and rests of damaged files, each counted as one
    /// record; the job's report counts them.
    pub fn skip_bad(self, limit: u64) -> Self {
        self.bad.allow(limit);
        self
    }
}

impl<T: Row> Sealed for Parquet<T> {}

impl<T: Row> Source for Parquet<T> {
    type Item = T;

    fn input(&self) -> Input {
        input(&self.uris)
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
        let names = field_names::<T>();
        let columns: Option<Vec<String>> =
            names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let scan = Scan { columns: columns.as_deref(), strict: false, bounds: &self.bounds };
        for_each_piece(input, attempt, Some(&self.bad), |range, file, attempt| {
            for_each_batch(&scan, range, file, attempt, |batch, attempt| {
                let rows = Rows::new(&batch, names).map_err(|error| damaged(range, error.into()))?;
                for row in 0..rows.count() {
                    match rows.row(row) {
                        Ok(record) => consumer.take(record, attempt),
                        Err(error) => self.bad.undecodable(error, attempt),
                    }
                    attempt.record_done()?;
                }
                Ok(())
            })
        })
    }
}

/// Parquet files as Arrow's record batches, of at most 1,024 rows each.
#[derive(Clone, Debug)]
pub struct ParquetBatches {
    uris: Vec<String>,
    columns: Option<Vec<String>>,
    bounds: Vec<Bounds>,
}

impl ParquetBatches {
    /// The rows of these files, directories and globs.
    pub fn at(uris: impl Uris) -> Self {
        Self { uris: uris.into_uris(), columns: None, bounds: Vec::new() }
    }

    /// Reads these columns only; a file that lacks one fails the job. Batches have them in the order of the file.
    pub fn columns(mut self, names: impl IntoIterator<Item: Into<String>>) -> Self {
        self.columns = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// See [`Parquet::skip_groups_outside`].
    pub fn skip_groups_outside(
        mut self,
        column: impl Into<String>,
        least: impl Into<Bound>,
        most: impl Into<Bound>,
    ) -> Self {
        self.bounds.push(Bounds { column: column.into(), least: least.into(), most: most.into() });
        self
    }
}

impl Sealed for ParquetBatches {}

impl Source for ParquetBatches {
    type Item = crate::Batch;

    fn input(&self) -> Input {
        input(&self.uris)
    }

    fn read(
        &self,
        input: &TaskInput,
        attempt: &mut Attempt,
        consumer: &mut Consumer<'_, crate::Batch>,
    ) -> Result<(), TaskError> {
        let scan = Scan { columns: self.columns.as_deref(), strict: true, bounds: &self.bounds };
        for_each_piece(input, attempt, None, |range, file, attempt| {
            for_each_batch(&scan, range, file, attempt, |batch, attempt| {
                consumer.take(crate::Batch(batch), attempt);
                attempt.record_done()
            })
        })
    }
}

fn input(uris: &[String]) -> Input {
    Input::Files { format: "Parquet", uris: uris.to_vec(), cut: Cut::Blocks, align_bytes: 1, headed: true }
}

/// Batches between two looks at the attempt's clock.
const BATCHES_PER_TICK: u32 = 16;

fn for_each_batch(
    scan: &Scan<'_>,
    range: &FileRange,
    file: Box<dyn ReadAt>,
    attempt: &mut Attempt,
    mut take: impl FnMut(RecordBatch, &mut Attempt) -> Result<(), TaskError>,
) -> Result<(), TaskError> {
    let mut batches = Batches::open(scan, file, range, attempt.memory())?;
    let (before, mut counted) = (attempt.report.bytes_in, 0);
    while let Some(batch) = batches.next_batch()? {
        take(batch, attempt)?;
        attempt.report.bytes_in = before + batches.read_bytes();
        counted += 1;
        if u32::is_multiple_of(counted, BATCHES_PER_TICK) {
            attempt.tick()?;
        }
    }
    Ok(())
}

/// Up to `rows_max` rows of a piece of a file as JSON, or what its reader says of them; for the fuzz target.
#[doc(hidden)]
pub fn parquet_rows(
    file: Box<dyn ReadAt>,
    range: &FileRange,
    memory: TaskMemory,
    rows_max: usize,
) -> Result<Vec<String>, TaskError> {
    let scan = Scan { columns: None, strict: false, bounds: &[] };
    let mut batches = Batches::open(&scan, file, range, memory)?;
    let mut found = Vec::new();
    while let Some(batch) = batches.next_batch()? {
        let rows = Rows::new(&batch, None).map_err(|error| damaged(range, error.into()))?;
        for row in 0..rows.count() {
            if found.len() == rows_max {
                return Ok(found);
            }
            let row = rows.row::<serde_json::Value>(row);
            found.push(row.map_or_else(|error| error.to_string(), |row| row.to_string()));
        }
    }
    Ok(found)
}
