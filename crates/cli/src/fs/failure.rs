//! Why a command, or a part of it, was not done.

use std::io;

use gristmill_dfs::file_system::{ExpandError, FsError};
use gristmill_dfs::{ResolveError, Uri, UriError};

use crate::exit::Exit;

/// One sentence for stderr.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Uri(#[from] UriError),
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error(transparent)]
    Expand(#[from] ExpandError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// What was asked for makes no sense, whatever is there.
    #[error("{0}")]
    Usage(String),
    /// It makes sense, but not with what is there.
    #[error("cannot {operation} {uri}: {why}")]
    Refused { operation: &'static str, uri: Uri, why: String },
    #[error("cannot read {uri} at offset {offset}: {source}")]
    Read { uri: Uri, offset: u64, source: io::Error },
    #[error("cannot write {uri} at offset {offset}: {source}")]
    Write { uri: Uri, offset: u64, source: io::Error },
    #[error("cannot make a temporary directory: {0}")]
    Scratch(#[source] io::Error),
    /// A job that a command ran: its own sentence.
    #[error("{0}")]
    Job(String),
    #[error("cannot read the standard input: {0}")]
    Input(#[source] io::Error),
    #[error("cannot write the standard output: {0}")]
    Output(#[source] io::Error),
}

impl Failure {
    pub(crate) fn refused(operation: &'static str, uri: &Uri, why: impl Into<String>) -> Failure {
        Failure::Refused { operation, uri: uri.clone(), why: why.into() }
    }

    pub(crate) fn exit(&self) -> Exit {
        if matches!(self, Failure::Usage(_)) { Exit::Usage } else { Exit::Failed }
    }

    /// Whether it is about something that is not there.
    pub(crate) fn is_absence(&self) -> bool {
        match self {
            Failure::Fs(error) | Failure::Expand(ExpandError::Fs(error)) => error.is_absence(),
            Failure::Expand(ExpandError::NoMatch { .. }) => true,
            _ => false,
        }
    }
}
