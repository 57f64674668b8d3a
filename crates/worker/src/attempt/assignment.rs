//! What an attempt is given, and what becomes of it.

use std::sync::Arc;

use bytes::Bytes;
use gristmill_process::sentence::cut;
use gristmill_proto::ids::{AttemptId, WorkerId};
use gristmill_proto::job::JobSpec;
use gristmill_proto::task::attempt_failure::Kind;
use gristmill_proto::task::launch;
use gristmill_proto::task::{AttemptFailure, AttemptResult, Holder, Outputs};

/// Of a sentence for people, and of the tail of stderr.
pub(crate) const TEXT_BYTES_MAX: usize = 4 << 10;

/// Everything that an attempt needs to run.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) attempt: AttemptId,
    pub(crate) kind: launch::Kind,
    /// For its whole process; 0: the slot's share.
    pub(crate) memory_bytes: u64,
    /// Who may take its map output.
    pub(crate) keep: Vec<Holder>,
    /// CUT: which.
    pub(crate) shuffle: u32,
    /// Others at its task have ended without a word.
    pub(crate) careful: bool,
    /// Records that have ended others.
    pub(crate) deadly: Vec<u64>,
    pub(crate) spec: Arc<JobSpec>,
    pub(crate) caller_token: String,
    pub(crate) shuffle_token: Bytes,
    /// Where the map outputs are that it reads, as far as known now.
    pub(crate) outputs: Vec<Outputs>,
    /// This worker.
    pub(crate) worker: WorkerId,
}

impl Assignment {
    /// Whether it leaves a map output.
    pub(crate) fn feeds_shuffle(&self) -> bool {
        let stage = self.spec.stages.get(self.attempt.task.stage as usize);
        let feeds = stage.is_some_and(|s| s.target() == gristmill_proto::job::stage::Target::ToShuffle);
        feeds && self.kind == launch::Kind::Task
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Well.
    Done(Box<AttemptResult>),
    /// Not.
    Failed(AttemptFailure),
}

/// A failure, in one sentence.
pub(crate) fn failure(kind: Kind, message: impl Into<String>) -> AttemptFailure {
    let message = short(message.into());
    AttemptFailure { kind: kind as i32, message, ..AttemptFailure::default() }
}

/// The beginning of a text, up to [`TEXT_BYTES_MAX`].
pub(crate) fn short(text: String) -> String {
    cut(text, TEXT_BYTES_MAX)
}
