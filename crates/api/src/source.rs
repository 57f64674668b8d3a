//! Where records come from.

mod csv;
mod json_lines;
mod lines;
mod parquet;
mod parquet_file;
mod parquet_footer;
mod parquet_page;
mod parquet_pages;
mod parquet_scan;
mod parquet_thrift;
mod records;
mod rows;
mod sequence;
mod tsv;

pub use csv::Csv;
pub use json_lines::JsonLines;
pub use lines::{Lines, Text};
pub use parquet::{Bound, Parquet, ParquetBatches, parquet_rows};
pub use records::Records;
pub use rows::Rows;
pub use sequence::Sequence;
pub use tsv::Tsv;

use crate::dataset::BadRecords;
use crate::datum::Datum;
use crate::pipe::{Consumer, TaskInput};
use gristmill_dataflow::attempt::{Attempt, Position, TaskError};
use gristmill_dataflow::read::FilesAhead;
use gristmill_dataflow::split::FileRange;
use gristmill_dfs::ReadAt;
use std::sync::Arc;

/// A kind of input. The ones of this crate are [`Text`], [`Lines`], [`Csv`], [`JsonLines`], [`Parquet`],
/// [`ParquetBatches`], [`Records`], [`Tsv`], [`Sequence`] and [`Rows`].
pub trait Source: sealed::Sealed + Send + Sync + 'static {
    /// What one record is.
    type Item: Datum;

    #[doc(hidden)]
    fn input(&self) -> Input;

    /// What counts bad records, if the source allows some.
    #[doc(hidden)]
    fn bad_records(&self) -> Option<Arc<BadRecords>> {
        None
    }

    #[doc(hidden)]
    fn read(
        &self,
        input: &TaskInput,
        attempt: &mut Attempt,
        consumer: &mut Consumer<'_, Self::Item>,
    ) -> Result<(), TaskError>;
}

mod sealed {
    /// Sources are part of this crate: they speak to the data path directly.
    pub trait Sealed {}
}
pub(crate) use sealed::Sealed;

/// What a stage reads.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub enum Input {
    /// Files.
    Files {
        /// How a record is found, in words.
        format: &'static str,
        /// Files, directories and globs.
        uris: Vec<String>,
        /// Where they may be cut.
        cut: Cut,
        /// Length of a record, 1 if it varies.
        align_bytes: u64,
        /// Whether every file has a header, so that an empty one is damaged.
        headed: bool,
    },
    /// Generated records.
    Rows {
        /// How many.
        count: u64,
    },
}

/// Where the files of a source may be cut.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Anywhere, and compressed ones where their format allows it.
    Lines,
    /// Between records of one length; compressed ones nowhere.
    Records,
    /// Anywhere; their names say nothing about compression.
    Blocks,
    /// Nowhere, for this reason.
    Whole(&'static str),
}

impl Input {
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Files { format, uris, .. } => format!("{format} from {}", uris.join(", ")),
            Self::Rows { count } => format!("{count} rows"),
        }
    }
}

/// One or several URIs: `&str`, `String`, or anything that lists them.
pub trait Uris {
    /// As they were written.
    fn into_uris(self) -> Vec<String>;
}

impl Uris for &str {
    fn into_uris(self) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl Uris for &String {
    fn into_uris(self) -> Vec<String> {
        vec![self.clone()]
    }
}

impl Uris for String {
    fn into_uris(self) -> Vec<String> {
        vec![self]
    }
}

impl Uris for &Vec<String> {
    fn into_uris(self) -> Vec<String> {
        self.clone()
    }
}

impl Uris for Vec<String> {
    fn into_uris(self) -> Vec<String> {
        self
    }
}

impl Uris for &[String] {
    fn into_uris(self) -> Vec<String> {
        self.to_vec()
    }
}

/// Calls `read` for each piece of a file that the task has, and counts their bytes.
fn for_each_range(
    input: &TaskInput,
    attempt: &mut Attempt,
    bad: Option<&BadRecords>,
    mut read: impl FnMut(&FileRange, Box<dyn ReadAt>, &mut Attempt) -> Result<(), TaskError>,
) -> Result<(), TaskError> {
    let mut before = 0;
    for_each_piece(input, attempt, bad, |range, file, attempt| {
        let result = read(range, file, attempt);
        before += range.end - range.start;
        attempt.report.bytes_in = before;
        result
    })
}

/// Calls `read` for each piece of a file that the task has. Where `bad` allows it, what is wrong with a file costs the rest of
/// its piece.
fn for_each_piece(
    input: &TaskInput,
    attempt: &mut Attempt,
    bad: Option<&BadRecords>,
    mut read: impl FnMut(&FileRange, Box<dyn ReadAt>, &mut Attempt) -> Result<(), TaskError>,
) -> Result<(), TaskError> {
    let TaskInput::Split(split) = input else { unreachable!("a source of files reads a split") };
    for (range, opened) in FilesAhead::new(&split.ranges, attempt.memory()) {
        begin_range(attempt, range, None);
        match (read(range, opened?, attempt), bad) {
            (Err(TaskError::Read(error)), Some(bad)) if error.is_of_the_file() => {
                bad.unreadable(TaskError::Read(error), attempt);
                attempt.check()?;
            }
            (result, _) => result?,
        }
        attempt.tick()?;
    }
    Ok(())
}

/// Stands at the start of a piece; of a compressed file, whose decompression began at `decompressed_from`, offsets are those
/// of what was decompressed.
fn begin_range(attempt: &mut Attempt, range: &FileRange, decompressed_from: Option<u64>) {
    let uri = range.uri.clone();
    attempt.position = match decompressed_from {
        None => Position::Offset { uri, offset: range.start },
        Some(from) => Position::Decompressed { uri, from, offset: 0 },
    };
}
