//! What is to be done.

use gristmill_proto::ids::{AttemptId, JobId, WorkerId};
use gristmill_proto::job_record::Record;
use gristmill_proto::task::{Holder, Launch, OutputEntry, refused};

use super::event::SessionId;

/// Why a job is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The spec makes no sense, or is beyond a limit.
    Bad(String),
    /// Another spec has the same id.
    Conflict(String),
    /// Too many jobs.
    Full(String),
}

/// What the shell carries out. Within a turn (what one call of `handle` gives, or several whose commands the shell
/// puts together) all `Persist` are durable before anything else is done; the rest is done in order.
#[expect(
    clippy::large_enum_variant,
    reason = "a command is moved once, from the turn to whoever carries it out"
)]
#[derive(Clone, Debug)]
pub enum Command {
    /// Keep this.
    Persist(Record),
    /// The job is taken: answer the driver.
    Admit {
        /// Which.
        job: JobId,
        /// It was known before.
        known: bool,
    },
    /// The job is not taken.
    Refuse {
        /// Which.
        job: JobId,
        /// Why.
        refusal: Refusal,
    },
    /// Make the staging of the job's outputs: answered by `Event::Staged`. Idempotent.
    Stage(JobId),
    /// Publish exactly the parts of the winners, with the report of the job's `Committing` record as manifest; answered
    /// by `Event::Published`. Idempotent: after a crash it comes again.
    Publish {
        /// Which.
        job: JobId,
        /// JSON.
        manifest: String,
    },
    /// Remove what is staged. The job is FAILED or KILLED. Best effort, again after a crash.
    Abort(JobId),
    /// The job has ended and nothing runs: its files in dfs:// can go.
    Clean(JobId),
    /// The job's state has changed: whoever watches it looks again.
    Changed(JobId),

    /// The stream's first answer.
    Welcome {
        /// The stream.
        session: SessionId,
        /// Its id.
        worker: WorkerId,
    },
    /// The stream is refused and ends.
    RefuseWorker {
        /// The stream.
        session: SessionId,
        /// Why.
        reason: refused::Reason,
        /// For people.
        detail: String,
    },
    /// Before the first `Launch` of a job on a stream. The shell adds the tokens.
    StartJob {
        /// The stream.
        session: SessionId,
        /// Which.
        job: JobId,
    },
    /// Run an attempt.
    Launch {
        /// The stream.
        session: SessionId,
        /// What.
        launch: Launch,
    },
    /// End an attempt; it is reported `Ended` all the same.
    Kill {
        /// The stream.
        session: SessionId,
        /// Which.
        attempt: AttemptId,
        /// Why.
        reason: String,
    },
    /// Where map outputs are. At most 1000 entries.
    Outputs {
        /// The stream.
        session: SessionId,
        /// Whose.
        job: JobId,
        /// Which.
        shuffle: u32,
        /// News.
        entries: Vec<OutputEntry>,
        /// Addresses of new holders.
        holders: Vec<Holder>,
        /// Number of map tasks that feed the shuffle.
        expected: u32,
        /// RANGE: once known.
        cuts: Vec<u8>,
    },
    /// `Ended` is durable.
    Accept {
        /// The stream.
        session: SessionId,
        /// Which.
        attempt: AttemptId,
        /// Its map output or parts count.
        winner: bool,
    },
    /// The map output is not needed.
    DropOutput {
        /// The stream.
        session: SessionId,
        /// Which.
        attempt: AttemptId,
    },
    /// The job has ended: the worker removes everything of it.
    EndJob {
        /// The stream.
        session: SessionId,
        /// Which.
        job: JobId,
    },
    /// No more attempts come (or do again).
    Drain {
        /// The stream.
        session: SessionId,
        /// Take it back.
        undo: bool,
    },
}
