//! Why a job failed.

use gristmill_dataflow::attempt::TaskError;
use gristmill_dataflow::commit::CommitError;
use gristmill_dataflow::read::ReadError;
use gristmill_dataflow::scratch::ScratchError;
use gristmill_dfs::{ListError, UriError};
use thiserror::Error;

/// Why a job failed: one sentence that names the thing and the cause.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JobError {
    /// The plan cannot run as it is.
    #[error("{0}")]
    Plan(String),
    /// An input's or output's URI cannot be used.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// An input cannot be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// An input cannot be looked at, to see where it can be cut.
    #[error(transparent)]
    Look(#[from] ReadError),
    /// An output cannot be begun or committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// There is no scratch space.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// A task failed.
    #[error("{task} failed: {source}")]
    Task {
        /// Which one: `map 1 task 3`.
        task: String,
        /// Why.
        #[source]
        source: Box<TaskError>,
    },
    /// Someone asked the job to stop.
    #[error("interrupted: nothing was written")]
    Interrupted,
}
