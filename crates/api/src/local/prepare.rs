//! From a plan to stages with tasks: inputs are listed and cut, outputs staged, names given.

use super::LocalOptions;
use crate::error::JobError;
use crate::pipe::{Program, TaskInput};
use crate::plan::{Origin, PlanState, Target};
use crate::source::Input;
use gristmill_dataflow::block::Codec;
use gristmill_dataflow::commit::{Outputs, refuse_input_in_output};
use gristmill_dataflow::idle::IdleBuffers;
use gristmill_dataflow::map_output::ShuffleRule;
use gristmill_dataflow::memory::{MemoryPlan, ResidentPool};
use gristmill_dataflow::scratch::Scratch;
use gristmill_dataflow::split::{SPLITS_MAX, SplitRule, plan_splits};
use gristmill_dfs::{Existing, FileInfo, Uri, UriError};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// One DFS block.
const SPLIT_BYTES: u64 = 64 << 20;
/// Locally a job has at least so many map and reduce tasks, so that what fails on a cluster fails on a laptop.
const TASKS_MIN: u64 = 2;
/// Directories are listed by so many threads for each core: listing waits more than it computes.
const LISTERS_PER_THREAD: usize = 4;
/// Generated rows of one task, unless there are too many rows; a row is expected to become about 100 bytes.
const ROWS_PER_TASK: u64 = 640 << 10;

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
}

/// A stage of a job that can run.
pub(crate) struct PreparedStage {
    pub(crate) number: usize,
    pub(crate) program: Program,
    pub(crate) target: Target,
    /// `map 1`, `reduce 2`.
    pub(crate) name: String,
    /// The shuffle that it reads, if it does.
    pub(crate) shuffle: Option<usize>,
    /// Number of tasks.
    pub(crate) tasks: u64,
    /// Bytes of input, if known before.
    pub(crate) bytes: u64,
    /// Files of input.
    pub(crate) files: u64,
    /// By output: number of the stage's first part file.
    pub(crate) part_bases: Arc<Vec<u32>>,
    inputs: Vec<TaskInput>,
}

impl PreparedStage {
    pub(crate) fn take_inputs(&mut self) -> Vec<TaskInput> {
        std::mem::take(&mut self.inputs)
    }

    pub(crate) fn task_name(&self, task: usize) -> String {
        format!("{} task {}", self.name, task + 1)
    }
}

impl PreparedJob {
    pub(crate) fn new(state: &PlanState, options: &LocalOptions) -> Result<Self, JobError> {
        let memory = options.memory();
        let output_uris = output_uris(state)?;
        let stages = prepare_stages(state, options, memory)?;
        let outputs = Arc::new(Outputs::stage(&output_uris, &job_id(), options.existing)?);
        let resident = ResidentPool::new(memory.resident_bytes);
        let scratch = Scratch::create(&options.scratch, resident, Codec::Lz4)?;
        let rules = rules(state, options);
        let (idle, counters) = (IdleBuffers::default(), state.counters.len());
        Ok(Self { stages, rules, memory, scratch, idle, outputs, output_uris, counters })
    }
}

fn output_uris(state: &PlanState) -> Result<Vec<Uri>, UriError> {
    state.outputs.iter().map(|output| Uri::parse(&output.uri)).collect()
}

pub(crate) fn rules(state: &PlanState, options: &LocalOptions) -> Vec<ShuffleRule> {
    let reducers = options.reducers.unwrap_or((options.threads as u32).max(TASKS_MIN as u32));
    let rule = |spec: &crate::plan::ShuffleSpec| ShuffleRule {
        partitioner: spec.partitioner.clone(),
        partitions: spec.reducers.unwrap_or(reducers),
        fold: spec.fold.clone(),
    };
    state.shuffles.iter().map(rule).collect()
}

/// Lists and cuts all inputs, without touching any output.
pub(crate) fn prepare_stages(
    state: &PlanState,
    options: &LocalOptions,
    memory: MemoryPlan,
) -> Result<Vec<PreparedStage>, JobError> {
    check(state)?;
    let rules = rules(state, options);
    let outputs = output_uris(state)?;
    let mut stages: Vec<PreparedStage> = Vec::new();
    let (mut maps, mut reduces) = (Parts::new(state), Parts::new(state));
    for (number, spec) in state.stages.iter().enumerate() {
        let combines =
            matches!(spec.target, Target::Shuffle(shuffle) if state.shuffles[shuffle].fold.is_some());
        let (kind, parts) = match spec.origin {
            Origin::Input(_) => ("map", &mut maps),
            Origin::Shuffle(_) => ("reduce", &mut reduces),
        };
        let mut stage = PreparedStage {
            number,
            program: spec.program.clone(),
            target: spec.target,
            name: format!("{kind} {}", parts.next_stage()),
            shuffle: None,
            tasks: 0,
            bytes: 0,
            files: 0,
            part_bases: Arc::default(),
            inputs: Vec::new(),
        };
        match &spec.origin {
            Origin::Input(input) => stage.read(input, options, memory, combines, &outputs)?,
            Origin::Shuffle(shuffle) => {
                (stage.shuffle, stage.tasks) = (Some(*shuffle), rules[*shuffle].partitions.into());
            }
        }
        stage.part_bases = parts.take(state, spec.target, stage.tasks);
        stages.push(stage);
    }
    Ok(stages)
}

/// What only the whole plan shows.
fn check(state: &PlanState) -> Result<(), JobError> {
    if state.stages.is_empty() {
        return Err(JobError::Plan("the plan does nothing: end it with write or discard".to_owned()));
    }
    for (number, _) in state.shuffles.iter().enumerate() {
        let read = |stage: &crate::plan::StageSpec| matches!(stage.origin, Origin::Shuffle(n) if n == number);
        if !state.stages.iter().any(read) {
            let sentence = "the result of a reduce or join is not used: end it with write or discard";
            return Err(JobError::Plan(sentence.to_owned()));
        }
    }
    Ok(())
}

impl PreparedStage {
    fn read(
        &mut self,
        input: &Input,
        options: &LocalOptions,
        memory: MemoryPlan,
        combines: bool,
        outputs: &[Uri],
    ) -> Result<(), JobError> {
        match input {
            Input::Rows { count } => {
                self.inputs = rows(*count).collect();
            }
            Input::Files { uris, splittable, align_bytes, headed, .. } => {
                let files = list(uris, options.threads * LISTERS_PER_THREAD)?;
                let splits_min = TASKS_MIN.max(options.threads as u64);
                let split_bytes =
                    options.split_bytes.unwrap_or_else(|| default_split_bytes(memory, combines));
                let rule = SplitRule {
                    split_bytes: split_bytes.max(1),
                    splits_min,
                    splittable: *splittable,
                    align_bytes: *align_bytes,
                    headed: *headed,
                };
                if options.existing == Existing::Overwrite {
                    refuse_input_in_output(&files, outputs)?;
                }
                self.files = files.len() as u64;
                self.bytes = files.iter().map(|file| file.bytes).sum();
                self.inputs = plan_splits(&files, rule).into_iter().map(TaskInput::Split).collect();
            }
        }
        self.tasks = self.inputs.len() as u64;
        Ok(())
    }
}

/// One block; or less, if its records and their index would not fit in the sort buffer: one sort is better than
/// several and a merge. A combine table does not grow with the split as records do.
fn default_split_bytes(memory: MemoryPlan, combines: bool) -> u64 {
    let collect_bytes = memory.task().collect_bytes() as u64;
    if combines { SPLIT_BYTES } else { SPLIT_BYTES.min(collect_bytes * 2 / 3) }
}

fn rows(count: u64) -> impl Iterator<Item = TaskInput> {
    let tasks = count.div_ceil(ROWS_PER_TASK).clamp(TASKS_MIN.min(count), SPLITS_MAX);
    let bound = move |task: u64| (u128::from(count) * u128::from(task) / u128::from(tasks.max(1))) as u64;
    (0..tasks).map(move |task| TaskInput::Rows(bound(task)..bound(task + 1)))
}

fn list(uris: &[String], threads: usize) -> Result<Vec<FileInfo>, JobError> {
    let mut files = Vec::new();
    for uri in uris {
        let uri = Uri::parse(uri)?;
        files.extend(uri.store()?.list(&uri, threads)?);
    }
    Ok(files)
}

/// Numbers part files: of several stages that write to the same output, each goes on where the last one ended.
struct Parts {
    stages: u32,
    next: Vec<u32>,
}

impl Parts {
    fn new(state: &PlanState) -> Self {
        Self { stages: 0, next: vec![0; state.outputs.len()] }
    }

    fn next_stage(&mut self) -> u32 {
        self.stages += 1;
        self.stages
    }

    fn take(&mut self, state: &PlanState, target: Target, tasks: u64) -> Arc<Vec<u32>> {
        let bases = Arc::new(self.next.clone());
        for (output, next) in self.next.iter_mut().enumerate() {
            // Any stage may write to an extra output.
            if target == Target::Output(output) || state.outputs[output].extra {
                *next += tasks as u32;
            }
        }
        bases
    }
}

/// Names the job's directories: unique on this machine.
fn job_id() -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("{:x}-{nanos:x}", std::process::id())
}
