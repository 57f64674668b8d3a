//! A failed transfer, as it is told to the other side: what it is, and whose.

use std::error::Error;
use std::fmt;

use gristmill_process::sentence::{cut, sentence};
use gristmill_proto::ids::WorkerId;
use gristmill_proto::messages::BulkFailure;
use gristmill_proto::messages::bulk_failure::Kind;

use super::block_store::ReplicaError;

/// Most bytes of a detail: it is for people, and must fit into a header many times.
const DETAIL_BYTES_MAX: usize = 1 << 10;

/// What failed, and on which worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TransferFailure {
    kind: Kind,
    /// 0: this one.
    worker: WorkerId,
    detail: String,
    /// Whether another worker has said so itself.
    said: bool,
}

impl TransferFailure {
    /// A failure of this worker.
    pub(crate) fn here(kind: Kind, error: &dyn Error) -> TransferFailure {
        TransferFailure::of(kind, WorkerId(0), error)
    }

    /// A failure of `worker`, as seen from here.
    pub(crate) fn of(kind: Kind, worker: WorkerId, error: &dyn Error) -> TransferFailure {
        TransferFailure { kind, worker, detail: cut(sentence(error), DETAIL_BYTES_MAX), said: false }
    }

    /// A failure of this worker's replica.
    pub(crate) fn of_replica(error: &ReplicaError) -> TransferFailure {
        TransferFailure::here(error.kind(), error)
    }

    /// What `teller`, the next worker, says of itself (0) or of one after it. The kind stays: it is the culprit's own.
    pub(crate) fn from_wire(failure: BulkFailure, worker: u64, teller: WorkerId) -> TransferFailure {
        let kind = Kind::try_from(failure.kind).unwrap_or(Kind::Unspecified);
        let worker = if worker == 0 { teller } else { WorkerId(worker) };
        TransferFailure { kind, worker, detail: cut(failure.detail, DETAIL_BYTES_MAX), said: true }
    }

    /// For the message; the worker goes beside it.
    pub(crate) fn into_wire(self) -> BulkFailure {
        BulkFailure { kind: self.kind as i32, detail: self.detail }
    }

    pub(crate) fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Whose failure it is; `this` stands for this worker.
    pub(crate) fn worker_or(&self, this: WorkerId) -> WorkerId {
        if self.worker.0 == 0 { this } else { self.worker }
    }

    pub(crate) fn is_said(&self) -> bool {
        self.said
    }
}

impl fmt::Display for TransferFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.detail)
    }
}

impl Error for TransferFailure {}
