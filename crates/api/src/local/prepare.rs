//! From a plan to stages that can run here: outputs are staged, scratch space is made.

use super::LocalOptions;
use crate::error::JobError;
use crate::plan::PlanState;
use crate::stages::{Cutting, PreparedStage, SPLIT_BYTES, Stages, TASKS_MIN};
use gristmill_dataflow::block::Codec;
use gristmill_dataflow::commit::Outputs;
use gristmill_dataflow::idle::IdleBuffers;
use gristmill_dataflow::map_output::ShuffleRule;
use gristmill_dataflow::memory::{MemoryPlan, ResidentPool};
use gristmill_dataflow::scratch::Scratch;
use gristmill_dfs::{Existing, Uri};
use gristmill_proto::ids::JobId;
use std::sync::Arc;

/// Directories are listed by so many threads for each core: listing waits more than it computes.
const LISTERS_PER_THREAD: usize = 4;

/// A job that can run.
pub(crate) struct PreparedJob {
    pub(crate) stages: Vec<PreparedStage>,
    pub(crate) rules: Vec<ShuffleRule>,
    pub(crate) memory: MemoryPlan,
    pub(crate) scratch: Scratch,
    pub(crate) idle: IdleBuffers,
    pub(crate) outputs: Arc<Outputs>,
    pub(crate) output_uris: Vec<Uri>,
    /// Number of counters.
    pub(crate) counters: usize,
    /// Its id, if that is in the names of its files.
    pub(crate) appends: Option<String>,
}

impl PreparedJob {
    pub(crate) fn new(state: &PlanState, options: &LocalOptions) -> Result<Self, JobError> {
        let memory = options.memory();
        let Stages { stages, rules, output_uris, .. } = prepare_stages(state, options, memory)?;
        let job_id = job_id();
        let outputs = Arc::new(Outputs::stage(&output_uris, &job_id, options.existing)?);
        let appends = (options.existing == Existing::Append).then_some(job_id);
        let resident = ResidentPool::new(memory.resident_bytes);
        let scratch = Scratch::create(&options.scratch, resident, Codec::Lz4)?;
        let (idle, counters) = (IdleBuffers::default(), state.counters.len());
        Ok(Self { stages, rules, memory, scratch, idle, outputs, output_uris, counters, appends })
    }
}

/// Lists and cuts all inputs, without touching any output.
pub(crate) fn prepare_stages(
    state: &PlanState,
    options: &LocalOptions,
    memory: MemoryPlan,
) -> Result<Stages, JobError> {
    let collect_bytes = memory.task().collect_bytes() as u64;
    let cutting = Cutting {
        listers: options.threads * LISTERS_PER_THREAD,
        splits_wanted: TASKS_MIN.max(options.threads as u64),
        rows_wanted: TASKS_MIN,
        split_bytes_min: 1,
        // One block; or less, if its records and their index would not fit in the sort buffer: one sort is better
        // than several and a merge. A combine table does not grow with the split as records do.
        split_bytes: options.split_bytes.unwrap_or(SPLIT_BYTES.min(collect_bytes * 2 / 3)),
        combined_split_bytes: options.split_bytes.unwrap_or(SPLIT_BYTES),
        existing: options.existing,
        master: None,
    };
    let reducers = options.reducers.unwrap_or((options.threads as u32).max(TASKS_MIN as u32));
    Stages::prepare(state, &cutting, |_| reducers)
}

/// Names the job's directories, and files that it appends: like no other job's.
fn job_id() -> String {
    JobId::random().to_string()
}
