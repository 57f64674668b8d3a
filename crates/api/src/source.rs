//! Where records come from.

mod lines;
mod records;
mod rows;
mod sequence;
mod tsv;

pub use lines::{Lines, Text};
pub use records::Records;
pub use rows::Rows;
pub use sequence::Sequence;
pub use tsv::Tsv;

use crate::datum::Datum;
use crate::pipe::{Consumer, TaskInput};
use gristmill_dataflow::attempt::{Attempt, Position, TaskError};
use gristmill_dataflow::split::FileRange;

/// A kind of input. The ones of this crate are [`Text`], [`Lines`], [`Records`], [`Tsv`], [`Sequence`] and
/// [`Rows`].
pub trait Source: sealed::Sealed + Send + Sync + 'static {
    /// What one record is.
    type Item: Datum;

    #[doc(hidden)]
    fn input(&self) -> Input;

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
        /// Whether reading can begin in the middle of a file.
        splittable: bool,
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

/// Calls `read` for each piece of a file that the task has, and counts the bytes.
fn for_each_range(
    input: &TaskInput,
    attempt: &mut Attempt,
    mut read: impl FnMut(&FileRange, &mut Attempt) -> Result<(), TaskError>,
) -> Result<(), TaskError> {
    let TaskInput::Split(split) = input else { unreachable!("a source of files reads a split") };
    let mut before = 0;
    for range in &split.ranges {
        attempt.position = Position::Offset { uri: range.uri.clone(), offset: range.start };
        read(range, attempt)?;
        before += range.end - range.start;
        attempt.report.bytes_in = before;
        attempt.tick()?;
    }
    Ok(())
}
