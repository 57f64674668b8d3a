//! How a call fails: refused with a sentence for the client, or stopped by the store.

use gristmill_proto::namespace::Failure;
use gristmill_proto::namespace::failure::Kind;

use super::FsPath;

/// The store under the namespace failed. After a failed write nothing more can be written until it is opened again:
/// what the system has of the file is unknown.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The embedded store says so.
    #[error("cannot {doing} the namespace: {source}")]
    Store {
        /// What was tried.
        doing: &'static str,
        /// The store's reason.
        #[source]
        source: Box<redb::Error>,
    },
    /// A record is not what the tables say it must be.
    #[error("the namespace is damaged: {what} {id} {how}")]
    Damaged {
        /// The table's noun.
        what: &'static str,
        /// Which.
        id: u64,
        /// What is wrong.
        how: String,
    },
}

impl StoreError {
    pub(super) fn damaged(what: &'static str, id: u64, how: impl ToString) -> StoreError {
        StoreError::Damaged { what, id, how: how.to_string() }
    }
}

macro_rules! from_redb {
    ($($error:ident while $doing:literal),*) => {
        $(impl From<redb::$error> for StoreError {
            fn from(source: redb::$error) -> StoreError {
                StoreError::Store { doing: $doing, source: Box::new(source.into()) }
            }
        })*
    };
}
from_redb!(
    StorageError while "read or write", TableError while "open a table of",
    TransactionError while "begin a transaction of", CommitError while "commit a transaction of"
);

/// Why a call has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It must not be, for the caller to read.
    #[error("{}: {}", .0.path, .0.detail)]
    Refused(Failure),
    /// It could not be found out.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<redb::StorageError> for CallError {
    fn from(source: redb::StorageError) -> CallError {
        CallError::Store(source.into())
    }
}

/// A refusal about `path`.
pub(super) fn refuse(kind: Kind, path: impl ToString, detail: impl Into<String>) -> CallError {
    CallError::Refused(failure(kind, path, detail))
}

/// The message of a refusal about `path`.
pub(super) fn failure(kind: Kind, path: impl ToString, detail: impl Into<String>) -> Failure {
    Failure { kind: kind.into(), path: path.to_string(), detail: detail.into() }
}

pub(super) fn not_found(path: FsPath) -> CallError {
    refuse(Kind::NotFound, path, "no such file or directory")
}

pub(super) fn already_exists(path: FsPath) -> CallError {
    refuse(Kind::AlreadyExists, path, "something has this name already")
}

pub(super) fn not_a_directory(path: FsPath) -> CallError {
    refuse(Kind::NotADirectory, path, "it is a file")
}

pub(super) fn is_a_directory(path: FsPath) -> CallError {
    refuse(Kind::IsADirectory, path, "it is a directory")
}

/// A refusal about a file that is known by its inode only.
pub(super) fn refuse_inode(kind: Kind, inode: u64, detail: impl Into<String>) -> CallError {
    refuse(kind, format_args!("inode-{inode}"), detail)
}

/// Whether the answer of a call with this failure is kept for the case that the call comes again. What depends on
/// the state of the cluster and not of the namespace is not kept: the same call may do better later.
pub(super) fn is_kept(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Internal
            | Kind::NotYet
            | Kind::SafeMode
            | Kind::ReadOnly
            | Kind::ReadOnlyByHand
            | Kind::NoWorkers
            | Kind::Overloaded
    )
}
