//! A failure as it is told to the other side.

use super::output_store::OutputStoreError;
use crate::run_file::RunError;
use gristmill_process::sentence::{cut, sentence};
use gristmill_proto::messages::BulkFailure;
use gristmill_proto::messages::bulk_failure::Kind;
use std::error::Error;

/// Most bytes of a detail: it is for people.
const DETAIL_BYTES_MAX: usize = 1 << 10;

/// The failure for a frame.
pub(super) fn failure(kind: Kind, error: &dyn Error) -> BulkFailure {
    BulkFailure { kind: kind as i32, detail: detail(error) }
}

/// What a failure of the store is to whoever asked.
pub(super) fn of_store(error: &OutputStoreError) -> BulkFailure {
    let kind = match error {
        OutputStoreError::Missing { .. } | OutputStoreError::Ended { .. } => Kind::NotFound,
        OutputStoreError::NoDisk { .. } | OutputStoreError::Disk(_) => Kind::Disk,
        OutputStoreError::Run { source: RunError::Io { .. }, .. } => Kind::Disk,
        OutputStoreError::Run { .. } => Kind::Corrupt,
    };
    failure(kind, error)
}

/// An error and its causes, as they are told.
pub(super) fn detail(error: &dyn Error) -> String {
    cut(sentence(error), DETAIL_BYTES_MAX)
}
