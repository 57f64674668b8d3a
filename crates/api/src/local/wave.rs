//! Runs the tasks of some stages on threads; the thread that waits for them shows progress and looks whether the
//! job is to stop.

use super::{LocalOptions, Observer, PreparedJob};
use crate::error::JobError;
use crate::pipe::TaskInput;
use crate::plan::Target;
use crate::task::{TaskWork, part_names};
use gristmill_dataflow::attempt::{AttemptContext, AttemptReport, Progress, TaskError};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How often progress is shown and interruption looked for.
const TICK: Duration = Duration::from_millis(100);
/// After an interruption, tasks have so long to notice it; an author's function may never.
const STOP_GRACE: Duration = Duration::from_secs(3);

struct Task {
    stage: usize,
    number: usize,
    /// Taken by the thread that runs it, so that memory is given back task by task.
    input: Mutex<Option<TaskInput>>,
    progress: Arc<Progress>,
}

type Finished = Vec<(usize, Vec<AttemptReport>)>;

/// Runs all tasks; the reports come by stage, in the order of tasks.
pub(super) fn run(
    options: &LocalOptions,
    job: &PreparedJob,
    inputs: Vec<(usize, Vec<TaskInput>)>,
    observer: &mut dyn Observer,
) -> Result<Finished, JobError> {
    let stages: Vec<(usize, usize)> = inputs.iter().map(|(stage, tasks)| (*stage, tasks.len())).collect();
    let mut tasks = Vec::new();
    for (stage, inputs) in inputs {
        let progress = Arc::new(Progress::default());
        let bytes = inputs.iter().map(input_bytes).sum();
        observer.stage_begins(&job.stages[stage], inputs.len() as u64, bytes, progress.clone());
        for (number, input) in inputs.into_iter().enumerate() {
            tasks.push(Task { stage, number, input: Mutex::new(Some(input)), progress: progress.clone() });
        }
    }
    let wave = Wave { job, tasks: &tasks, next: AtomicUsize::new(0), cancel: Arc::default() };
    let mut reports = wave.run_on_threads(options, observer)?.into_iter();
    let mut finished = Vec::new();
    for (stage, count) in stages {
        finished.push((stage, reports.by_ref().take(count).collect()));
        observer.stage_ends(stage);
    }
    Ok(finished)
}

fn input_bytes(input: &TaskInput) -> u64 {
    match input {
        TaskInput::Split(split) => split.bytes(),
        TaskInput::Rows(_) => 0,
        TaskInput::Parts(parts) => parts.iter().map(|part| part.stored_bytes()).sum(),
    }
}

struct Wave<'w> {
    job: &'w PreparedJob,
    tasks: &'w [Task],
    next: AtomicUsize,
    cancel: Arc<AtomicBool>,
}

/// What a thread tells: which task ended, and how.
type Ended = (usize, Result<AttemptReport, TaskError>);

impl Wave<'_> {
    fn run_on_threads(
        &self,
        options: &LocalOptions,
        observer: &mut dyn Observer,
    ) -> Result<Vec<AttemptReport>, JobError> {
        thread::scope(|scope| {
            let (sender, ended) = mpsc::channel();
            for _ in 0..options.threads.clamp(1, self.tasks.len().max(1)) {
                let sender = sender.clone();
                scope.spawn(move || self.work(&sender));
            }
            drop(sender);
            self.wait(options, &ended, observer)
        })
    }

    /// Takes tasks until there are no more.
    fn work(&self, ended: &mpsc::Sender<Ended>) {
        while !self.cancel.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = self.tasks.get(number) else { return };
            let result = self.attempt(task);
            if ended.send((number, result)).is_err() {
                // Nobody waits any more: the job has failed.
                return;
            }
        }
    }

    fn attempt(&self, task: &Task) -> Result<AttemptReport, TaskError> {
        let stage = &self.job.stages[task.stage];
        let input = task.input.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let input = input.expect("each task is taken once");
        let feeds = match stage.target {
            Target::Shuffle(shuffle) => Some(self.job.rules[shuffle].clone()),
            Target::Output(_) | Target::Nothing => None,
        };
        let work = TaskWork { program: &stage.program, merges: stage.shuffle.is_some(), feeds };
        work.run(&input, self.context(task))
    }

    fn context(&self, task: &Task) -> AttemptContext {
        let stage = &self.job.stages[task.stage];
        AttemptContext {
            id: format!("{}-{:05}-0", stage.name.replace(' ', "-"), task.number),
            parts: part_names(
                stage.shuffle.is_some(),
                task.number as u32,
                &stage.part_bases,
                self.job.appends.clone(),
            ),
            memory: self.job.memory.task(),
            scratch: self.job.scratch.clone(),
            idle: self.job.idle.clone(),
            outputs: self.job.outputs.clone(),
            cancel: self.cancel.clone(),
            progress: task.progress.clone(),
            counters: self.job.counters,
            care: None,
        }
    }

    /// Gathers the reports of all tasks; the first failure stops the others.
    fn wait(
        &self,
        options: &LocalOptions,
        ended: &mpsc::Receiver<Ended>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<AttemptReport>, JobError> {
        let mut reports: Vec<Option<AttemptReport>> = self.tasks.iter().map(|_| None).collect();
        let (mut failure, mut stop_by) = (None, None);
        loop {
            match ended.recv_timeout(TICK) {
                Ok((number, Ok(report))) => {
                    observer.task_ends(self.tasks[number].stage);
                    reports[number] = Some(report);
                }
                Ok((number, Err(error))) => self.task_failed(number, error, &mut failure),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            observer.tick();
            if options.interrupted.load(Ordering::Relaxed) {
                self.cancel.store(true, Ordering::Relaxed);
                failure = Some(JobError::Interrupted);
                self.give_up_after(*stop_by.get_or_insert_with(|| Instant::now() + STOP_GRACE));
            }
        }
        match failure {
            Some(error) => Err(error),
            None => {
                Ok(reports.into_iter().map(|report| report.expect("every task has ended well")).collect())
            }
        }
    }

    fn task_failed(&self, number: usize, error: TaskError, failure: &mut Option<JobError>) {
        self.cancel.store(true, Ordering::Relaxed);
        let task = &self.tasks[number];
        // Tasks that stop because another one failed say nothing new.
        if failure.is_none() && !matches!(error, TaskError::Cancelled) {
            let task = self.job.stages[task.stage].task_name(task.number);
            *failure = Some(JobError::Task { task, source: Box::new(error) });
        }
    }

    /// Some task does not notice that it should stop: removes what the job has made and ends the process.
    fn give_up_after(&self, deadline: Instant) {
        if Instant::now() < deadline {
            return;
        }
        eprintln!("interrupted: nothing was written (a task did not stop within {STOP_GRACE:?})");
        if let Err(error) = self.job.outputs.abort() {
            eprintln!("{error}");
        }
        if let Err(error) = self.job.scratch.abandon() {
            eprintln!("{error}");
        }
        std::process::exit(1);
    }
}
