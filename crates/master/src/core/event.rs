//! What happens.

use gristmill_proto::ids::{AttemptId, Incarnation, JobId, WorkerId};
use gristmill_proto::job::{JobSpec, TaskHints};
use gristmill_proto::task::register::Role;
use gristmill_proto::task::{AttemptFailure, AttemptProgress, AttemptResult, FetchFailed, HeldOutput};

/// One open stream of a worker, numbered by the shell, never the same again within an epoch. Commands name it, so that
/// an answer never reaches a later life of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskReport {
    /// Well.
    Done(Box<AttemptResult>),
    /// Not.
    Failed(AttemptFailure),
}

/// What the core is told. Times are milliseconds of the monotonic clock, given beside the event; `wall_ms`, where an
/// event has one, is for people only.
#[derive(Clone, Debug)]
pub enum Event {
    /// A driver submits a job. Answered by `Command::Admit` or `Command::Refuse`, also if the job is known already.
    Submit {
        /// Checked for shape by the core: limits, indices, ids.
        spec: Box<JobSpec>,
        /// By INPUT stage and task, in order.
        hints: Vec<TaskHints>,
        /// Wall time.
        wall_ms: u64,
    },
    /// The outputs of a job are staged, or cannot be (an output exists, ...: the sentence fails the job).
    Staged {
        /// Which.
        job: JobId,
        /// The sentence.
        result: Result<(), String>,
    },
    /// `Command::Publish` is carried out, or cannot be: the job is FAILED with this sentence.
    Published {
        /// Which.
        job: JobId,
        /// The sentence.
        result: Result<(), String>,
    },
    /// A user ends a job, a task or an attempt.
    KillJob {
        /// Which.
        job: JobId,
        /// Why, for people.
        reason: String,
    },
    /// Its running attempts end and count as failures.
    KillTask {
        /// Which.
        job: JobId,
        /// Which.
        stage: u32,
        /// Which.
        task: u32,
    },
    /// It counts as lost, not as failed.
    KillAttempt {
        /// Which.
        attempt: AttemptId,
    },
    /// A worker has opened a stream. Of an earlier session of the same worker nothing more comes. Answered by
    /// `Command::Welcome` or `Command::RefuseWorker`.
    Registered {
        /// 0: a task worker that has no id yet.
        worker: WorkerId,
        /// What it says of itself.
        joining: Joining,
    },
    /// Map outputs that the worker holds.
    Held {
        /// The stream.
        session: SessionId,
        /// Whose.
        job: JobId,
        /// At most 1000.
        outputs: Vec<HeldOutput>,
    },
    /// The stream has ended. The worker may come back within the lost time and nothing is lost.
    Disconnected {
        /// The stream.
        session: SessionId,
    },
    /// A worker lives.
    Heartbeat {
        /// The stream.
        session: SessionId,
        /// Its attempts.
        running: Vec<(AttemptId, AttemptProgress)>,
    },
    /// An attempt is over. Answered by `Command::Accept`, always, also if it is told again.
    Ended {
        /// The stream.
        session: SessionId,
        /// Which.
        attempt: AttemptId,
        /// How.
        report: TaskReport,
        /// Wall time.
        wall_ms: u64,
    },
    /// A reduce attempt could not fetch a map output.
    FetchFailed {
        /// The stream.
        session: SessionId,
        /// Who.
        reader: AttemptId,
        /// Which.
        output: AttemptId,
        /// What else is known of it.
        report: FetchFailed,
    },
    /// A worker is to get no more attempts (or some again).
    Drain {
        /// Which.
        worker: WorkerId,
        /// Take it back.
        undo: bool,
    },
    /// A worker was told that it will vanish: this life of it gets no more attempts.
    Leaving {
        /// The stream.
        session: SessionId,
    },
    /// A draining worker has nothing left.
    Drained {
        /// The stream.
        session: SessionId,
    },
    /// The driver of a job with `kill_on_exit` watches it, or has gone.
    DriverWatches {
        /// Which.
        job: JobId,
        /// Whether.
        watching: bool,
    },
    /// Time passes: at least every 100 ms.
    Tick {
        /// Wall time.
        wall_ms: u64,
    },
}

/// What a worker says of itself when it registers.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The stream.
    pub session: SessionId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Core or task.
    pub role: Role,
    /// Attempts at once.
    pub slots: u32,
    /// For attempts, all slots together.
    pub memory_bytes: u64,
    /// Machine.
    pub host: String,
    /// Rack.
    pub rack: String,
    /// HOST:PORT of its shuffle listener.
    pub address: String,
    /// Process, for people.
    pub pid: u32,
    /// Attempts that it runs.
    pub running: Vec<AttemptId>,
    /// So many `Held` events follow; no map output of the worker is taken for lost before.
    pub held_pages: u32,
}
