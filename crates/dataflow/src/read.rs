//! Splits to records. Each reader yields the records whose first byte lies in its range, whatever the range:
//! any cutting of a file gives the same records.

mod ahead;
mod delimited;
mod fixed;
mod lines;
mod sequence;
mod window;

pub use ahead::{BeginOpen, FILES_AHEAD_MAX, FilesAhead};
pub use delimited::{DelimitedReader, is_quote_open};
pub use fixed::FixedReader;
pub use lines::LineReader;
pub use sequence::{SequenceReader, SequenceRecord};

use crate::compression::Compression;
use crate::run_file::RunError;
use crate::split::FileRange;
use gristmill_dfs::{OpenError, ReadAt, Uri, UriError};
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
    /// The file has the length of the one that was listed, and is another.
    #[error("{uri} changed while the job ran: it was written anew")]
    Rewritten {
        /// The file.
        uri: Uri,
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
    /// A compressed file ends in the middle of its data.
    #[error(
        "{uri} is truncated: its {compression} data does not end where the file does, at offset {offset}, {decompressed} bytes after what was decompressed from offset {from}"
    )]
    Truncated {
        /// The file.
        uri: Uri,
        /// How it is compressed.
        compression: Compression,
        /// Compressed bytes that were read.
        offset: u64,
        /// Where decompression began.
        from: u64,
        /// Bytes that were decompressed since.
        decompressed: u64,
    },
    /// A compressed file is damaged, or is not what its name says.
    #[error(
        "{uri} is damaged or is not {compression}: {source} (before offset {offset}, {decompressed} bytes after what was decompressed from offset {from})"
    )]
    Corrupt {
        /// The file.
        uri: Uri,
        /// What it should be.
        compression: Compression,
        /// Compressed bytes that were read.
        offset: u64,
        /// Where decompression began.
        from: u64,
        /// Bytes that were decompressed since.
        decompressed: u64,
        /// What its decoder says.
        #[source]
        source: io::Error,
    },
    /// A compressed file decompresses to more than anybody would have compressed.
    #[error(
        "{uri} is a decompression bomb: {offset} bytes of {compression} gave {decompressed}, more than {ratio_max} times as much"
    )]
    Bomb {
        /// The file.
        uri: Uri,
        /// How it is compressed.
        compression: Compression,
        /// Compressed bytes that were read.
        offset: u64,
        /// Bytes that were decompressed.
        decompressed: u64,
        /// [`RATIO_MAX`](crate::compression::RATIO_MAX).
        ratio_max: u64,
    },
    /// A quoted field goes on to the end of the file.
    #[error("a quoted field of the record at offset {offset} of {uri} has no end")]
    OpenQuote {
        /// The file.
        uri: Uri,
        /// Where the record starts.
        offset: u64,
    },
    /// A file of another format is damaged.
    #[error("cannot read {uri} as {format}: {source} (at offset {offset})")]
    Format {
        /// The file.
        uri: Uri,
        /// What it should be.
        format: &'static str,
        /// Where in it, about.
        offset: u64,
        /// What its reader says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A sequence file is damaged.
    #[error(transparent)]
    Sequence(#[from] RunError),
}

impl ReadError {
    /// Whether the file's content is what is wrong: reading it again would not help, and leaving out the rest might.
    pub fn is_of_the_file(&self) -> bool {
        match self {
            Self::Uri(_)
            | Self::Open(_)
            | Self::Io { .. }
            | Self::Changed { .. }
            | Self::Rewritten { .. } => false,
            Self::RecordTooLarge { .. }
            | Self::ShortRecord { .. }
            | Self::Truncated { .. }
            | Self::Corrupt { .. }
            | Self::Bomb { .. }
            | Self::OpenQuote { .. }
            | Self::Format { .. }
            | Self::Sequence(_) => true,
        }
    }
}

/// That a file is still the one that was listed.
pub fn check_unchanged(range: &FileRange, file: &dyn ReadAt) -> Result<(), ReadError> {
    let (uri, listed_bytes, found_bytes) = (range.uri.clone(), range.file_bytes, file.bytes());
    if listed_bytes != found_bytes {
        return Err(ReadError::Changed { uri, listed_bytes, found_bytes });
    }
    if range.stamp.may_be(file.stamp()) { Ok(()) } else { Err(ReadError::Rewritten { uri }) }
}
