//! How an operation on a file system fails.

use std::error::Error;
use std::io;

use gristmill_proto::auth::SecretError;

use super::dfs::chain;
use crate::client::DfsError;
use crate::s3::S3Error;
use crate::uri::Uri;

/// An operation that failed: what it was, on what, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {uri}: {cause}")]
pub struct FsError {
    /// What was to be done, as a verb.
    pub operation: &'static str,
    /// With what.
    pub uri: Uri,
    /// Why not.
    #[source]
    pub cause: Cause,
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Nothing has that name.
    #[error("no such file or directory")]
    NotFound,
    /// Something has that name.
    #[error("it exists")]
    AlreadyExists,
    /// It, or something above it, is a file.
    #[error("not a directory")]
    NotADirectory,
    /// It is a directory.
    #[error("it is a directory")]
    IsADirectory,
    /// It is neither a file nor a directory.
    #[error("it is neither a file nor a directory")]
    NotAFile,
    /// The directory is not empty.
    #[error("the directory is not empty")]
    NotEmpty,
    /// The caller may not.
    #[error("permission denied{}", detail(.0))]
    PermissionDenied(String),
    /// No file system can hold that name.
    #[error("not a name that the file system can hold{}", detail(.0))]
    InvalidName(String),
    /// A directory cannot move below itself.
    #[error("it cannot be moved into itself")]
    IntoItself,
    /// The file was deleted or taken over while it was written.
    #[error("it is no longer this writer's{}", detail(.0))]
    LeaseLost(String),
    /// This file system cannot do it at all.
    #[error("{0} cannot do that")]
    Unsupported(&'static str),
    /// The operation is not possible as it was asked for.
    #[error("{0}")]
    Refused(String),
    /// The cluster's secret cannot be read.
    #[error("{}{}", .0, because(.0))]
    Secret(#[source] SecretError),
    /// The cluster refuses it for a reason that no other file system has, or cannot be reached.
    #[error("{}", chain(.0))]
    Dfs(#[source] Box<DfsError>),
    /// S3 refuses it for a reason that no other file system has, or cannot be reached.
    #[error("{0}")]
    S3(#[source] Box<S3Error>),
    /// The system's reason.
    #[error("{0}")]
    Io(#[source] io::Error),
}

fn because(error: &SecretError) -> String {
    error.source().map_or_else(String::new, |source| format!(": {source}"))
}

fn detail(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

impl FsError {
    /// An operation on `uri` that failed.
    pub fn new(operation: &'static str, uri: &Uri, cause: impl Into<Cause>) -> FsError {
        FsError { operation, uri: uri.clone(), cause: cause.into() }
    }

    /// Whether it failed because nothing has that name.
    pub fn is_absence(&self) -> bool {
        matches!(self.cause, Cause::NotFound | Cause::NotADirectory)
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Cause {
        match error.kind() {
            io::ErrorKind::NotFound => Cause::NotFound,
            io::ErrorKind::AlreadyExists => Cause::AlreadyExists,
            io::ErrorKind::NotADirectory => Cause::NotADirectory,
            io::ErrorKind::IsADirectory => Cause::IsADirectory,
            io::ErrorKind::DirectoryNotEmpty => Cause::NotEmpty,
            io::ErrorKind::PermissionDenied => Cause::PermissionDenied(String::new()),
            _ => Cause::Io(error),
        }
    }
}

impl Cause {
    fn kind(&self) -> io::ErrorKind {
        match self {
            Cause::NotFound => io::ErrorKind::NotFound,
            Cause::AlreadyExists => io::ErrorKind::AlreadyExists,
            Cause::NotADirectory => io::ErrorKind::NotADirectory,
            Cause::IsADirectory => io::ErrorKind::IsADirectory,
            Cause::NotEmpty => io::ErrorKind::DirectoryNotEmpty,
            Cause::PermissionDenied(_) => io::ErrorKind::PermissionDenied,
            Cause::InvalidName(_) => io::ErrorKind::InvalidFilename,
            Cause::Unsupported(_) => io::ErrorKind::Unsupported,
            _ => io::ErrorKind::Other,
        }
    }
}

impl From<Cause> for io::Error {
    fn from(cause: Cause) -> io::Error {
        match cause {
            Cause::Io(error) => error,
            Cause::Dfs(error) => io::Error::from(*error),
            Cause::S3(error) => io::Error::from(*error),
            cause => io::Error::new(cause.kind(), cause),
        }
    }
}

impl From<FsError> for io::Error {
    fn from(error: FsError) -> io::Error {
        error.cause.into()
    }
}
