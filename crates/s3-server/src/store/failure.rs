//! Why a request is not done.

use std::io;
use std::path::PathBuf;

/// What a client is told, because the store is not as it thought.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no such bucket")]
    NoSuchBucket,
    #[error("the bucket is there already")]
    BucketExists,
    #[error("the bucket has objects, or uploads that are neither completed nor aborted")]
    BucketNotEmpty,
    #[error("there are {max} buckets already, and no more are kept here")]
    TooManyBuckets { max: u64 },
    #[error("there is no such key")]
    NoSuchKey,
    #[error("there is no such upload: it was completed or aborted, or it never was")]
    NoSuchUpload,
    #[error("the object is not as the condition asks")]
    Precondition,
    #[error("part {number} was not uploaded, or has another ETag or checksum")]
    InvalidPart { number: u32 },
    #[error("part {number} has {bytes} bytes; each but the last must have {min} or more")]
    PartTooSmall { number: u32, bytes: u64, min: u64 },
    #[error("the object would have {bytes} bytes; {max} is the most")]
    TooLarge { bytes: u64, max: u64 },
    #[error("the parts have {bytes} bytes together, not {said}")]
    WrongSize { bytes: u64, said: u64 },
    #[error("the parts together have another CRC-32C")]
    WrongChecksum,
}

/// What ails the store itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the index failed: {0}")]
    Index(#[from] redb::Error),
    #[error("the record of {what} is damaged: {source}")]
    Record { what: String, source: prost::DecodeError },
    #[error("the data file {} failed: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("nothing more is written, because an earlier change failed; restart the server")]
    Ended,
}

/// A refusal, which is the client's affair, or a failure, which is ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All errors of the index are one to us.
macro_rules! index_errors {
    ($($error:ty),*) => {
        $(
            impl From<$error> for StoreError {
                fn from(error: $error) -> StoreError {
                    StoreError::Index(error.into())
                }
            }

            impl From<$error> for Failure {
                fn from(error: $error) -> Failure {
                    Failure::Store(error.into())
                }
            }
        )*
    };
}

index_errors!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError
);
