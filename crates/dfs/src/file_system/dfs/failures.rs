//! What a cluster refuses or cannot do, as any file system says it.

use std::error::Error;

use gristmill_process::sentence::with_causes;
use gristmill_proto::namespace::failure;

use crate::client::DfsError;
use crate::file_system::{Cause, FsError};
use crate::uri::Uri;

/// An operation on `uri` that failed; if the refusal is about another name, it is that one's.
pub(super) fn failed(operation: &'static str, uri: &Uri, error: DfsError) -> FsError {
    use failure::Kind::{InvalidName, Limit};
    let named = match &error {
        // What is no name is said as it was given.
        DfsError::Refused { kind, path, .. }
            if path.starts_with('/') && !matches!(kind, InvalidName | Limit) =>
        {
            Some(Uri::of(uri.place().clone(), path))
        }
        _ => None,
    };
    FsError { operation, uri: named.unwrap_or_else(|| uri.clone()), cause: cause(error) }
}

pub(super) fn cause(error: DfsError) -> Cause {
    use failure::Kind;
    let DfsError::Refused { kind, path, detail } = error else { return Cause::Dfs(Box::new(error)) };
    match kind {
        Kind::NotFound => Cause::NotFound,
        Kind::AlreadyExists => Cause::AlreadyExists,
        Kind::NotADirectory => Cause::NotADirectory,
        Kind::IsADirectory => Cause::IsADirectory,
        Kind::NotEmpty => Cause::NotEmpty,
        Kind::PermissionDenied => Cause::PermissionDenied(detail),
        Kind::InvalidName => Cause::InvalidName(detail),
        Kind::RenameIntoItself => Cause::IntoItself,
        Kind::LeaseLost => Cause::LeaseLost(detail),
        _ => Cause::Dfs(Box::new(DfsError::Refused { kind, path, detail })),
    }
}

/// An error of a cluster and what led to it, as the end of a sentence that names what was to be done.
pub(in crate::file_system) fn chain(error: &DfsError) -> String {
    let said = match error {
        DfsError::Unreachable { master, waited_ms, .. } => {
            format!("the master at {master} did not answer within {waited_ms} ms")
        }
        // The path is named already.
        DfsError::Refused { path, .. } => {
            let said = error.to_string();
            said.strip_prefix(&format!("{path}: ")).unwrap_or(&said).to_owned()
        }
        other => other.to_string(),
    };
    with_causes(said, error.source())
}
