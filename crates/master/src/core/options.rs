//! The numbers of the core.

/// Tasks of a job, and of all live jobs together four times as many: each costs the master some hundred bytes.
pub const TASKS_MAX: usize = 1_000_000;
/// Partitions of a shuffle: an index of each map output has one entry for each.
pub const PARTITIONS_MAX: u32 = 65_536;
/// Stages, shuffles and outputs of a job, each.
pub const STAGES_MAX: usize = 1_000;
/// Counters of a job.
pub const COUNTERS_MAX: usize = 10_000;
/// Bytes of a name: of a job, a queue, a user, a counter.
pub const NAME_BYTES_MAX: usize = 256;
/// Entries in one `Outputs`, hints in one part of a submission, outputs in one `Held`.
pub const PAGE_ENTRIES_MAX: usize = 1_000;
/// Pages of `Outputs` that one turn gives to one stream for a shuffle: more wait for the next tick.
pub const PAGES_A_TURN: usize = 16;
/// Parts of outputs of one attempt.
pub const PARTS_MAX: usize = 10_000;
/// Slots of a worker.
pub const SLOTS_MAX: u32 = 1_024;
/// Bytes of a sentence that a worker or a program wrote, in a status or a record.
pub const SENTENCE_BYTES_MAX: usize = 4 * 1024;

/// Times that a task which had too little memory is tried again, each with twice as much: one that takes all it gets would
/// only get others into trouble.
pub(super) const MEMORY_RETRIES_MAX: u8 = 1;

/// The numbers of [`Core`](super::Core). The defaults are right for a cluster; tests turn them down.
#[derive(Clone, Debug)]
pub struct CoreOptions {
    /// How often workers say that they live.
    pub heartbeat_interval_ms: u64,
    /// A worker silent for so long gets nothing new.
    pub suspect_ms: u64,
    /// A worker silent for so long is lost, with its attempts and map outputs. Hadoop: 630 s.
    pub lost_ms: u64,
    /// How long a free slot waits for a task whose input is on its worker: about what reading a block from another costs.
    pub delay_node_ms: u64,
    /// How long it then waits for one whose input is in its rack.
    pub delay_rack_ms: u64,
    /// Live jobs.
    pub jobs_max: usize,
    /// Jobs that have ended and are remembered.
    pub ended_jobs_kept: usize,
    /// Failed attempts that fail a task, where a job does not say.
    pub attempts_max: u32,
    /// Attempts or map outputs of a task that were lost, not failed: so many fail the job, so that it ends.
    pub losses_max: u32,
    /// Failures of a job's attempts on a worker after which the job avoids it.
    pub avoid_failures: u32,
    /// Slow attempts of a job on a worker after which the job avoids it: one may be bad luck.
    pub avoid_slow: u32,
    /// For so long a failed task is not tried again on the worker where it failed, if there is another.
    pub retry_elsewhere_ms: u64,
    /// An attempt that takes so many hundredths of the median gets a twin,
    pub straggler_percent: u64,
    /// if it is so far behind: a twin has to begin from the beginning.
    pub straggler_behind_ms: u64,
    /// One that has taken so many hundredths speaks against its worker: far more than data explains, and so slow that the
    /// job does better without it.
    pub sluggish_percent: u64,
    /// One that was overtaken when it had taken so many hundredths, and was twice as far behind as a straggler is, is
    /// enough for the job to avoid its worker.
    pub hopeless_percent: u64,
    /// So many thousandths of a stage must be done before others are compared with them. Hadoop: 50.
    pub twins_permille: u32,
    /// Twins at once, of a stage with few tasks. Hadoop: 10.
    pub twins_min: u32,
    /// Progress must come within so long, where a job does not say.
    pub no_progress_ms: u64,
    /// How long a job waits with no worker at all, where it does not say.
    pub no_worker_ms: u64,
    /// How long a job with `kill_on_exit` outlives its driver's watch.
    pub unwatched_ms: u64,
    /// So many thousandths of the maps must be done before a reduce starts to fetch.
    pub early_permille: u32,
    /// A killed attempt that a worker no longer lists for so long is gone though nobody said so.
    pub unlisted_ms: u64,
    /// A lost worker is forgotten after so long.
    pub forget_worker_ms: u64,
}

impl Default for CoreOptions {
    fn default() -> CoreOptions {
        CoreOptions {
            heartbeat_interval_ms: 1_000,
            suspect_ms: 5_000,
            lost_ms: 12_000,
            delay_node_ms: 500,
            delay_rack_ms: 500,
            jobs_max: 10_000,
            ended_jobs_kept: 1_000,
            attempts_max: 4,
            losses_max: 100,
            avoid_failures: 3,
            avoid_slow: 2,
            retry_elsewhere_ms: 5_000,
            straggler_percent: 150,
            straggler_behind_ms: 5_000,
            sluggish_percent: 300,
            hopeless_percent: 400,
            twins_permille: 50,
            twins_min: 10,
            no_progress_ms: 600_000,
            no_worker_ms: 600_000,
            unwatched_ms: 10_000,
            early_permille: 50,
            unlisted_ms: 10_000,
            forget_worker_ms: 3_600_000,
        }
    }
}
