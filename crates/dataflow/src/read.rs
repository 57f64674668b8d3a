//! Splits to records. Each reader yields the records whose first byte lies in its range, whatever the range:
//! any cutting of a file gives the same records.

mod fixed;
mod lines;
mod sequence;
mod window;

pub use fixed::FixedReader;
pub use lines::LineReader;
pub use sequence::{SequenceReader, SequenceRecord};

use crate::run_file::RunError;
use gristmill_dfs::{OpenError, Uri, UriError};
use std::io;
use thiserror::Error;

/// Why a record could not be read: always with the file, and the offset where there is one.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file's URI has no store.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The operating system refused.
    #[error("cannot read {uri} at offset {offset}: {source}")]
    Io {
        /// The file.
        uri: Uri,
        /// Where in it.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not the one that was listed when the job began.
    #[error("{uri} changed while the job ran: it had {listed_bytes} bytes and now has {found_bytes}")]
    Changed {
        /// The file.
        uri: Uri,
        /// Length when the job began.
        listed_bytes: u64,
        /// Length now.
        found_bytes: u64,
    },
    /// A record does not fit in memory.
    #[error(
        "the record at offset {offset} of {uri} is larger than the limit of {limit_bytes} bytes (half of a task's memory; raise --memory)"
    )]
    RecordTooLarge {
        /// The file.
        uri: Uri,
        /// Where the record starts.
        offset: u64,
        /// `TaskMemory::record_bytes_max`.
        limit_bytes: usize,
    },
    /// The last record of a file of fixed-length records is short.
    #[error("{uri} ends in the middle of a record: {found_bytes} of {record_bytes} bytes at offset {offset}")]
    ShortRecord {
        /// The file.
        uri: Uri,
        /// Where the record starts.
        offset: u64,
        /// Length of a record.
        record_bytes: usize,
        /// Bytes that are there.
        found_bytes: usize,
    },
    /// A sequence file is damaged.
    #[error(transparent)]
    Sequence(#[from] RunError),
}
