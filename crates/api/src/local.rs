//! The local runner: a plan's stages on threads of this process. Tasks run the same code as on a cluster; only
//! the shuffle stays within the process.
//!
//! ```text
//!  plan -> prepare (list inputs, cut splits, stage outputs) -> waves of tasks -> publish
//! ```

mod prepare;
mod wave;

use crate::error::JobError;
use crate::plan::{Plan, PlanState, Target};
use crate::stages::PreparedStage;
use gristmill_dataflow::attempt::{AttemptReport, Progress};
use gristmill_dataflow::memory::MemoryPlan;
use gristmill_dataflow::part::FinishedPart;
use gristmill_dataflow::shuffle::Shuffle;
use gristmill_dfs::Existing;
use gristmill_process::machine;
use gristmill_proto::report::{CounterReport, FileReport, OutputReport, Report, StageReport};
pub(crate) use prepare::{PreparedJob, prepare_stages};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// How to run a job in this process.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// Name of the job, for reports.
    pub job: String,
    /// Tasks that run at once.
    pub threads: usize,
    /// Bounds the whole process, bytes.
    pub memory_bytes: u64,
    /// Reduce tasks of shuffles for which the plan does not say.
    pub reducers: Option<u32>,
    /// Largest split, bytes; by default 64 MiB, or less if a split would not fit in a task's memory.
    pub split_bytes: Option<u64>,
    /// What to do if an output is there already.
    pub existing: Existing,
    /// Where a directory for spills is made.
    pub scratch: PathBuf,
    /// Set from outside to stop the job.
    pub interrupted: Arc<AtomicBool>,
    /// Buffers so small that tests spill.
    #[doc(hidden)]
    pub tiny_buffers: bool,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            job: "job".to_owned(),
            threads: machine::cores() as usize,
            memory_bytes: machine::memory_bytes() / 2,
            reducers: None,
            split_bytes: None,
            existing: Existing::Refuse,
            scratch: std::env::temp_dir(),
            interrupted: Arc::default(),
            tiny_buffers: false,
        }
    }
}

/// Buffers of tests: small enough that a test of a thousand records spills and merges.
const TINY_TASK_BYTES: usize = 1 << 20;
const TINY_RESIDENT_BYTES: usize = 256 << 10;

impl LocalOptions {
    pub(crate) fn memory(&self) -> MemoryPlan {
        let plan = MemoryPlan::new(usize::try_from(self.memory_bytes).unwrap_or(usize::MAX), self.threads);
        if self.tiny_buffers {
            return MemoryPlan { task_bytes: TINY_TASK_BYTES, resident_bytes: TINY_RESIDENT_BYTES, ..plan };
        }
        plan
    }
}

/// Is told how a job goes on.
pub(crate) trait Observer {
    /// Tasks of a stage begin.
    fn stage_begins(&mut self, stage: &PreparedStage, tasks: u64, bytes: u64, progress: Arc<Progress>);
    /// One of them is done.
    fn task_ends(&mut self, stage: usize);
    /// All of them are.
    fn stage_ends(&mut self, stage: usize);
    /// Time passes.
    fn tick(&mut self);
}

/// Wants to know nothing.
pub(crate) struct Unobserved;

impl Observer for Unobserved {
    fn stage_begins(&mut self, _: &PreparedStage, _: u64, _: u64, _: Arc<Progress>) {}
    fn task_ends(&mut self, _: usize) {}
    fn stage_ends(&mut self, _: usize) {}
    fn tick(&mut self) {}
}

/// Runs the job that `job` describes in this process, on threads, and returns what it did.
///
/// This is what a job program does; programs that run several jobs call it themselves. What
/// [`Plan::afterwards`] would print is not printed: the report is returned.
pub fn run_local(options: &LocalOptions, job: impl FnOnce(&mut Plan)) -> Result<Report, JobError> {
    let mut plan = Plan::new();
    job(&mut plan);
    run_plan(&plan.into_state(), options, &mut Unobserved)
}

pub(crate) fn run_plan(
    state: &PlanState,
    options: &LocalOptions,
    observer: &mut dyn Observer,
) -> Result<Report, JobError> {
    let started = Instant::now();
    let job = PreparedJob::new(state, options)?;
    let mut run = JobRun::new(state, options, job);
    match run.all_waves(observer).and_then(|()| run.publish(started)) {
        Ok(report) => Ok(report),
        Err(error) => {
            // The job's own failure is what its user must see.
            if let Err(left) = run.job.outputs.abort() {
                eprintln!("warning: {left}");
            }
            Err(error)
        }
    }
}

/// A job on its way.
struct JobRun<'p> {
    state: &'p PlanState,
    options: &'p LocalOptions,
    job: PreparedJob,
    /// By shuffle: its map outputs, while stages still add to them.
    shuffles: Vec<Vec<Arc<gristmill_dataflow::run::Run>>>,
    done: Vec<bool>,
    reports: Vec<Vec<AttemptReport>>,
}

impl<'p> JobRun<'p> {
    fn new(state: &'p PlanState, options: &'p LocalOptions, job: PreparedJob) -> Self {
        let stages = job.stages.len();
        Self {
            state,
            options,
            job,
            shuffles: state.shuffles.iter().map(|_| Vec::new()).collect(),
            done: vec![false; stages],
            reports: (0..stages).map(|_| Vec::new()).collect(),
        }
    }

    /// Runs all stages, those whose input is complete together.
    fn all_waves(&mut self, observer: &mut dyn Observer) -> Result<(), JobError> {
        while let Some(ready) = self.ready_stages() {
            let inputs = self.inputs(&ready);
            let finished = wave::run(self.options, &self.job, inputs, observer)?;
            for (stage, reports) in finished {
                self.end_stage(stage, reports);
            }
            self.job.idle.free();
        }
        Ok(())
    }

    /// Stages that are not done and whose shuffle, if they read one, is complete.
    fn ready_stages(&self) -> Option<Vec<usize>> {
        let complete = |shuffle: usize| {
            let feeds = |stage: &usize| self.state.stages[*stage].target == Target::Shuffle(shuffle);
            (0..self.done.len()).filter(feeds).all(|stage| self.done[stage])
        };
        let ready =
            |stage: &usize| !self.done[*stage] && self.job.stages[*stage].shuffle.is_none_or(complete);
        let ready: Vec<usize> = (0..self.done.len()).filter(ready).collect();
        if ready.is_empty() { None } else { Some(ready) }
    }

    /// What the tasks of `stages` read.
    fn inputs(&mut self, stages: &[usize]) -> Vec<(usize, Vec<crate::pipe::TaskInput>)> {
        let mut inputs = Vec::new();
        for &stage in stages {
            let tasks = match self.job.stages[stage].shuffle {
                None => self.job.stages[stage].take_inputs(),
                Some(shuffle) => {
                    let runs = std::mem::take(&mut self.shuffles[shuffle]);
                    let rule = &self.job.rules[shuffle];
                    let complete = Shuffle::new(runs, rule);
                    (0..rule.partitions)
                        .map(|part| crate::pipe::TaskInput::Parts(complete.parts(part)))
                        .collect()
                }
            };
            inputs.push((stage, tasks));
        }
        inputs
    }

    fn end_stage(&mut self, stage: usize, mut reports: Vec<AttemptReport>) {
        self.done[stage] = true;
        if let Target::Shuffle(shuffle) = self.state.stages[stage].target {
            for report in &mut reports {
                let Some(run) = report.run.take() else { continue };
                report.records_shuffled = run.index.records();
                report.bytes_shuffled = run.stored_bytes();
                self.shuffles[shuffle].push(Arc::new(run));
            }
        }
        self.reports[stage] = reports;
    }

    fn publish(&mut self, started: Instant) -> Result<Report, JobError> {
        let mut report = self.report();
        let mut files = Vec::new();
        for (output, part) in self.reports.iter().flatten().flat_map(|report| &report.parts) {
            let FinishedPart { file, crc32c } = part;
            let (name, bytes, crc32c) = (file.name.clone(), file.bytes, format!("{crc32c:08x}"));
            report.outputs[*output].files.push(FileReport { name, bytes, crc32c });
            report.outputs[*output].bytes += bytes;
            files.push((*output, file.clone()));
        }
        report.elapsed_ms = started.elapsed().as_millis() as u64;
        let manifest = serde_json::to_vec_pretty(&report)
            .map_err(|error| JobError::Plan(format!("cannot write the job's report: {error}")))?;
        self.job.outputs.publish(&files, &manifest)?;
        report.elapsed_ms = started.elapsed().as_millis() as u64;
        Ok(report)
    }

    fn report(&self) -> Report {
        let mut report = Report { job: self.options.job.clone(), ..Report::default() };
        for (number, name) in self.state.counters.iter().enumerate() {
            let values = self.reports.iter().flatten().map(|attempt| attempt.counters[number]);
            let value = values.fold(0, u64::wrapping_add);
            report.counters.push(CounterReport { name: name.clone(), value });
        }
        for (stage, reports) in self.job.stages.iter().zip(&self.reports) {
            report.notes.extend(stage.notes.iter().cloned());
            report.stages.push(stage_report(stage, reports));
            if stage.shuffle.is_none() {
                report.read_bytes += reports.iter().map(|attempt| attempt.bytes_in).sum::<u64>();
            }
            report.bad_records += reports.iter().map(AttemptReport::bad_records_total).sum::<u64>();
        }
        report.shuffled_bytes = report.stages.iter().map(|stage| stage.bytes_shuffled).sum();
        report.written_bytes = report.stages.iter().map(|stage| stage.bytes_out).sum();
        report.spilled_bytes = self.job.scratch.written_bytes();
        let outputs = self.job.output_uris.iter();
        report.outputs =
            outputs.map(|uri| OutputReport { uri: uri.to_string(), bytes: 0, files: Vec::new() }).collect();
        report
    }
}

fn stage_report(stage: &PreparedStage, reports: &[AttemptReport]) -> StageReport {
    let sum = |field: fn(&AttemptReport) -> u64| reports.iter().map(field).sum::<u64>();
    let slowest = reports.iter().enumerate().max_by_key(|(_, report)| report.elapsed);
    let (bytes_in, tasks) = (sum(|report| report.bytes_in), reports.len() as u64);
    let most = reports.iter().map(|report| report.bytes_in).max().unwrap_or(0);
    StageReport {
        name: stage.name.clone(),
        tasks,
        records_in: sum(|report| report.records_in),
        bytes_in,
        groups: sum(|report| report.groups),
        records_collected: sum(|report| report.records_collected),
        records_shuffled: sum(|report| report.records_shuffled),
        bytes_shuffled: sum(|report| report.bytes_shuffled),
        records_out: sum(|report| report.records_out),
        bytes_out: sum(|report| report.bytes_out),
        slowest_task: slowest.map_or(String::new(), |(task, _)| stage.task_name(task)),
        slowest_task_ms: slowest.map_or(0, |(_, report)| report.elapsed.as_millis() as u64),
        skew: if bytes_in == 0 { 1.0 } else { (most * tasks) as f64 / bytes_in as f64 },
        largest_group: reports.iter().map(|report| report.largest_group).max().unwrap_or(0),
    }
}
