//! Parquet files as batches: which row groups and columns of a file are read, by the parquet crate.

use super::parquet::Bound;
use super::parquet_file::{Column, ParquetFile};
use super::parquet_page::PartTooLarge;
use super::parquet_pages::ChosenGroups;
use crate::panics;
use arrow::record_batch::RecordBatch;
use gristmill_dataflow::attempt::TaskError;
use gristmill_dataflow::memory::TaskMemory;
use gristmill_dataflow::read::{ReadError, check_unchanged};
use gristmill_dataflow::split::FileRange;
use gristmill_dfs::ReadAt;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::{LogicalType, SortOrder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, RowGroupMetaData};
use parquet::file::reader::FileReader;
use parquet::file::statistics::Statistics;
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 1024;
/// Columns are read ahead by at least so much, and at most [`AHEAD_BYTES_MAX`]: pages have about a megabyte.
const AHEAD_BYTES_MIN: usize = 64 << 10;
const AHEAD_BYTES_MAX: usize = 2 << 20;
/// A page, and the metadata at the end of a file, may take half of a task's memory as a record may, and always this much.
const PART_BYTES_MIN: usize = 8 << 20;

/// What a column has to hold, for a row group to be read.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) column: String,
    pub(super) least: Bound,
    pub(super) most: Bound,
}

/// What is wrong with a file.
#[derive(Debug, Error)]
pub(super) enum ScanError {
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    #[error(transparent)]
    Column(#[from] crate::columns::UnreadableColumn),
    #[error("a row group begins at offset {offset}, behind the end of the file at {file_bytes}")]
    GroupOutside {
        /// By its metadata.
        offset: u64,
        /// Length of the file.
        file_bytes: u64,
    },
    #[error(transparent)]
    Metadata(#[from] std::io::Error),
    #[error(transparent)]
    TooLarge(#[from] PartTooLarge),
    #[error("its row groups hold {found} rows, and its metadata says {said}")]
    Rows {
        /// As many were read.
        found: i64,
        /// Of the row groups that were read.
        said: i64,
    },
    #[error("it has no column {0}")]
    NoColumn(String),
    #[error("its reader panicked: {0}")]
    Panic(String),
}

pub(super) fn damaged(range: &FileRange, source: ScanError) -> TaskError {
    let (uri, offset) = (range.uri.clone(), range.start);
    TaskError::Read(ReadError::Format { uri, format: "Parquet", offset, source: Box::new(source) })
}

/// What is wanted of a file.
pub(super) struct Scan<'s> {
    pub(super) columns: Option<&'s [String]>,
    /// All of the columns must be there.
    pub(super) strict: bool,
    pub(super) bounds: &'s [Bounds],
}

/// The batches of a piece of a file.
pub(super) struct Batches<'r> {
    file: ParquetFile,
    range: &'r FileRange,
    reader: Option<Reader>,
    rows: i64,
}

/// The crate's reader of some row groups.
struct Reader {
    batches: ParquetRecordBatchReader,
    /// As the metadata says.
    rows: i64,
}

impl<'r> Batches<'r> {
    pub(super) fn open(
        scan: &Scan<'_>,
        file: Box<dyn ReadAt>,
        range: &'r FileRange,
        memory: TaskMemory,
    ) -> Result<Self, TaskError> {
        check_unchanged(range, &*file)?;
        let file = ParquetFile::new(file, (memory.bytes / 2).max(PART_BYTES_MIN));
        // The crate panics on some of the files that nobody writes.
        let opened = panics::catch(|| scan.open(&file, range, memory.bytes / 8));
        let opened = opened.unwrap_or_else(|message| Err(ScanError::Panic(message)));
        let reader = opened.map_err(|error| damaged(range, error))?;
        Ok(Self { file, range, reader, rows: 0 })
    }

    pub(super) fn next_batch(&mut self) -> Result<Option<RecordBatch>, TaskError> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let next = panics::catch(|| reader.batches.next().transpose());
        let next = next.map_err(ScanError::Panic).and_then(|batch| batch.map_err(ScanError::from));
        let batch = next.map_err(|error| damaged(self.range, error))?;
        match &batch {
            Some(batch) => self.rows += batch.num_rows() as i64,
            // Where pages are missing the crate just ends.
            None if self.rows != reader.rows => {
                let (found, said) = (self.rows, reader.rows);
                return Err(damaged(self.range, ScanError::Rows { found, said }));
            }
            None => {}
        }
        Ok(batch)
    }

    /// Bytes that were read of the file so far.
    pub(super) fn read_bytes(&self) -> u64 {
        self.file.read_bytes()
    }
}

impl Scan<'_> {
    /// A reader of the row groups that begin in `range` and may hold what is wanted; none if there are none.
    fn open(
        &self,
        file: &ParquetFile,
        range: &FileRange,
        ahead_bytes: usize,
    ) -> Result<Option<Reader>, ScanError> {
        // Nothing here asks where pages are.
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
        file.check_footer()?;
        let metadata = ArrowReaderMetadata::load(file, options)?;
        let wanted = self.wanted(&metadata)?;
        let groups = metadata.metadata().row_groups();
        // A group that no split holds would be left out.
        if let Some(offset) = groups.iter().map(group_offset).find(|offset| *offset >= range.file_bytes) {
            return Err(ScanError::GroupOutside { offset, file_bytes: range.file_bytes });
        }
        let begins = |group: &RowGroupMetaData| (range.start..range.end).contains(&group_offset(group));
        let chosen = groups.iter().enumerate().filter(|(_, group)| begins(group) && self.may_hold(group));
        let chosen: Vec<usize> = chosen.map(|(number, _)| number).collect();
        if chosen.is_empty() {
            return Ok(None);
        }
        let mask = match &wanted {
            None => ProjectionMask::all(),
            Some(roots) => ProjectionMask::roots(metadata.parquet_schema(), roots.iter().copied()),
        };
        let leaves: Vec<usize> =
            (0..metadata.parquet_schema().num_columns()).filter(|leaf| mask.leaf_included(*leaf)).collect();
        let columns = chosen.iter().flat_map(|&group| {
            let group = &groups[group];
            let columns = leaves.iter().filter_map(|&leaf| group.columns().get(leaf));
            columns
                .map(|column| Column { bytes: column_range(column), compression: column.compression_codec() })
        });
        let ahead_bytes = (ahead_bytes / leaves.len().max(1)).clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX);
        file.read_ahead(columns.collect(), ahead_bytes);
        let fields =
            parquet_to_arrow_field_levels(metadata.parquet_schema(), mask, Some(metadata.schema().fields()))?;
        let rows: i64 = chosen.iter().map(|&group| groups[group].num_rows()).sum();
        let chosen: Arc<dyn FileReader> =
            Arc::new(ChosenGroups::new(file, metadata.metadata(), &chosen, rows));
        let batches = ParquetRecordBatchReader::try_new_with_row_groups(&fields, &chosen, BATCH_ROWS, None)?;
        Ok(Some(Reader { batches, rows }))
    }

    /// The columns that are wanted, by their number in the file; none: all of them.
    fn wanted(&self, metadata: &ArrowReaderMetadata) -> Result<Option<Vec<usize>>, ScanError> {
        let Some(names) = self.columns else { return Ok(None) };
        let mut wanted = Vec::new();
        for name in names {
            match metadata.schema().index_of(name) {
                Ok(column) => wanted.push(column),
                Err(_) if self.strict => return Err(ScanError::NoColumn(name.clone())),
                Err(_) => {}
            }
        }
        Ok(Some(wanted))
    }

    fn may_hold(&self, group: &RowGroupMetaData) -> bool {
        self.bounds.iter().all(|bounds| {
            let mut columns = group.columns().iter();
            columns
                .find(|column| column.column_path().string() == bounds.column)
                .is_none_or(|column| bounds.may_be_in(column))
        })
    }
}

/// Where a row group begins.
fn group_offset(group: &RowGroupMetaData) -> u64 {
    group.columns().iter().map(|column| column_range(column).start).min().unwrap_or(0)
}

/// Where a column of a row group is. A damaged file may say anything; then reading says so.
fn column_range(column: &ColumnChunkMetaData) -> Range<u64> {
    let first = [column.dictionary_page_offset(), Some(column.data_page_offset())];
    let start = first.into_iter().flatten().filter(|offset| *offset > 0).min().unwrap_or(0) as u64;
    start..start.saturating_add(u64::try_from(column.compressed_size()).unwrap_or(0))
}

impl Bounds {
    /// Whether the statistics leave it open that a value from `least` to `most` is in the column.
    fn may_be_in(&self, column: &ColumnChunkMetaData) -> bool {
        let scaled = matches!(column.column_descr().logical_type_ref(), Some(LogicalType::Decimal(_)));
        let Some(statistics) = column.statistics().filter(|_| !scaled) else { return true };
        let signed = column.column_descr().sort_order() == SortOrder::SIGNED;
        let overlaps = match (statistics, &self.least, &self.most) {
            (Statistics::Int32(values), Bound::Integer(least), Bound::Integer(most)) => {
                let wide = |value: &i32| if signed { i128::from(*value) } else { i128::from(*value as u32) };
                values
                    .min_opt()
                    .zip(values.max_opt())
                    .map(|(min, max)| wide(max) >= i128::from(*least) && wide(min) <= i128::from(*most))
            }
            (Statistics::Int64(values), Bound::Integer(least), Bound::Integer(most)) => {
                let wide = |value: &i64| if signed { i128::from(*value) } else { i128::from(*value as u64) };
                values
                    .min_opt()
                    .zip(values.max_opt())
                    .map(|(min, max)| wide(max) >= i128::from(*least) && wide(min) <= i128::from(*most))
            }
            (Statistics::Float(values), Bound::Float(least), Bound::Float(most)) => values
                .min_opt()
                .zip(values.max_opt())
                .map(|(min, max)| !(f64::from(*max) < *least || f64::from(*min) > *most)),
            (Statistics::Double(values), Bound::Float(least), Bound::Float(most)) => {
                values.min_opt().zip(values.max_opt()).map(|(min, max)| !(max < least || min > most))
            }
            // Old files compared text as signed bytes.
            (Statistics::ByteArray(values), Bound::Text(least), Bound::Text(most))
                if !statistics.is_min_max_deprecated() =>
            {
                values
                    .min_opt()
                    .zip(values.max_opt())
                    .map(|(min, max)| max.data() >= least.as_bytes() && min.data() <= most.as_bytes())
            }
            _ => None,
        };
        overlaps.unwrap_or(true)
    }
}
