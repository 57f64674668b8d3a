//! The task itself: what it reads, and what it leaves.

use super::channel::{Beginning, Channel};
use super::failure::Failure;
use super::job::Job;
use super::listener::Listener;
use crate::pipe::TaskInput;
use crate::plan::{Origin, StageSpec, Target};
use crate::task::{TaskWork, part_names};
use gristmill_dataflow::attempt::{AttemptContext, AttemptReport, Progress};
use gristmill_dataflow::block::Codec;
use gristmill_dataflow::care::Care;
use gristmill_dataflow::commit::Outputs;
use gristmill_dataflow::hold::{self, Moment};
use gristmill_dataflow::idle::IdleBuffers;
use gristmill_dataflow::map_output::ShuffleRule;
use gristmill_dataflow::memory::{MemoryPlan, ResidentPool, TaskMemory};
use gristmill_dataflow::scratch::Scratch;
use gristmill_dataflow::shuffle::{self, FetchOptions};
use gristmill_dataflow::split::{FileRange, Split};
use gristmill_dfs::{Existing, SharedOutputs, Stamp, Uri};
use gristmill_proto::attempt::{Progress as ProgressMessage, from_attempt};
use gristmill_proto::consumed::Consumed;
use gristmill_proto::ids::WorkerId;
use gristmill_proto::job::{StageInputs, TaskInput as WireInput};
use gristmill_proto::task::attempt_failure::Kind;
use gristmill_proto::task::launch;
use gristmill_proto::task::{AttemptResult, MapOutput, Part};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often the worker is told how far the task is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// An attempt about to run.
struct Work<'w> {
    beginning: &'w Beginning,
    channel: &'w Arc<Channel>,
    listener: &'w Listener,
    job: &'w Job,
    memory: TaskMemory,
    scratch: Scratch,
    progress: Arc<Progress>,
}

/// Runs the attempt; on the way the worker hears of its progress.
pub(super) fn run(
    beginning: &Beginning,
    channel: &Arc<Channel>,
    listener: &Listener,
    job: &Job,
) -> Result<AttemptResult, Failure> {
    let begin = &beginning.begin;
    let started = Instant::now();
    let plan = MemoryPlan::new(usize::try_from(begin.memory_bytes).unwrap_or(usize::MAX), 1);
    let resident = ResidentPool::new(plan.resident_bytes);
    let scratch = Scratch::private(Path::new(&begin.scratch), resident, Codec::Lz4)
        .map_err(|error| Failure::new(Kind::Scratch, error.to_string()))?;
    let (memory, progress) = (plan.task(), Arc::new(Progress::default()));
    let work = Work { beginning, channel, listener, job, memory, scratch, progress: progress.clone() };
    let stage = job.plan.stages.get(beginning.attempt.task.stage as usize);
    let fetches = stage.is_some_and(|stage| matches!(stage.origin, Origin::Shuffle(_)));
    let pool_bytes = plan.resident_bytes;
    let advance = Advance { progress: &progress, scratch: &work.scratch, pool_bytes, fetches };
    let ended = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        let teller = scope.spawn(|| advance.tell(channel, &ended));
        // A panic must not leave the teller running: the scope would wait for it.
        let result = crate::panics::catch(|| match begin.kind() {
            launch::Kind::Task => work.task(),
            launch::Kind::Cut => work.cut(),
        });
        ended.store(true, Ordering::Relaxed);
        teller.thread().unpark();
        result.unwrap_or_else(|message| Err(Failure::new(Kind::Panic, format!("panic: {message}"))))
    });
    match (result, listener.reason()) {
        (Ok(result), _) => Ok(AttemptResult { elapsed_ms: started.elapsed().as_millis() as u64, ..result }),
        // What a cancelled task says is not why it ended.
        (Err(_), Some(reason)) => Err(Failure::new(Kind::Killed, reason)),
        (Err(failure), None) => Err(failure),
    }
}

impl Work<'_> {
    fn task(&self) -> Result<AttemptResult, Failure> {
        let task = self.beginning.attempt.task;
        let (Some(stage), Some(placed)) =
            (self.job.plan.stages.get(task.stage as usize), self.job.spec.stages.get(task.stage as usize))
        else {
            return Err(Failure::new(Kind::Program, format!("the plan has no stage {}", task.stage)));
        };
        let feeds = match stage.target {
            Target::Shuffle(shuffle) => Some(self.rule(shuffle)?),
            Target::Output(_) | Target::Nothing => None,
        };
        let (input, consumed) = match stage.origin {
            Origin::Input(_) => (self.split()?, None),
            Origin::Shuffle(shuffle) => self.parts(shuffle, task.task)?,
        };
        let merges = matches!(stage.origin, Origin::Shuffle(_));
        let context = AttemptContext {
            id: self.beginning.attempt.name(),
            parts: part_names(merges, task.task, &Arc::new(placed.part_bases.clone()), self.appends()),
            memory: self.memory,
            scratch: self.scratch.clone(),
            idle: IdleBuffers::default(),
            outputs: Arc::new(self.outputs(stage)?),
            cancel: self.listener.cancel.clone(),
            progress: self.progress.clone(),
            counters: self.job.plan.counters.len(),
            care: if merges { None } else { self.care()? },
        };
        let report = TaskWork { program: &stage.program, merges, feeds }.run(&input, context)?;
        let consumed = consumed.map_or_else(Vec::new, |consumed| consumed.to_bytes().to_vec()).into();
        Ok(AttemptResult { consumed, ..self.result(report)? })
    }

    /// Of a task of an input at which others have ended without a word.
    fn care(&self) -> Result<Option<Arc<Care>>, Failure> {
        let begin = &self.beginning.begin;
        if !begin.careful {
            return Ok(None);
        }
        let care = Care::begin(Path::new(&begin.scratch), begin.deadly.clone());
        care.map(|care| Some(Arc::new(care))).map_err(|error| Failure::new(Kind::Scratch, error.to_string()))
    }

    /// The job's id, if it is in the names of its files.
    fn appends(&self) -> Option<String> {
        self.job.spec.append.then(|| self.beginning.job().to_string())
    }

    /// Chooses the ranges of a shuffle.
    fn cut(&self) -> Result<AttemptResult, Failure> {
        let number = self.beginning.begin.shuffle as usize;
        let partitions = self.rule(number)?.partitions;
        let cuts = shuffle::cut(&self.fetching(number), &self.listener.sources, partitions)?;
        let counters = vec![0; self.job.plan.counters.len()];
        Ok(AttemptResult { cuts: cuts.into(), counters, ..AttemptResult::default() })
    }

    fn rule(&self, number: usize) -> Result<ShuffleRule, Failure> {
        let (Some(spec), Some(placed)) =
            (self.job.plan.shuffles.get(number), self.job.spec.shuffles.get(number))
        else {
            return Err(Failure::new(Kind::Program, format!("the plan has no shuffle {number}")));
        };
        let (partitioner, fold) = (spec.partitioner.clone(), spec.fold.clone());
        Ok(ShuffleRule { partitioner, partitions: placed.partitions, fold })
    }

    /// What a task of an input reads.
    fn split(&self) -> Result<TaskInput, Failure> {
        let task = self.beginning.attempt.task;
        let stage = self.job.file.inputs.iter().find(|inputs| inputs.stage == task.stage);
        let found = stage.and_then(|inputs| Some((inputs, inputs.tasks.get(task.task as usize)?)));
        let Some((inputs, input)) = found else {
            let sentence = format!("the job's file has no task {} of stage {}", task.task, task.stage);
            return Err(Failure::new(Kind::Program, sentence));
        };
        task_input(inputs, input)
    }

    /// What a task of a shuffle reads, fetched from wherever map outputs are; and which those were.
    fn parts(&self, shuffle: usize, partition: u32) -> Result<(TaskInput, Option<Consumed>), Failure> {
        let rule = self.rule(shuffle)?;
        let fetched = shuffle::fetch(&self.fetching(shuffle), &self.listener.sources, &rule, partition)?;
        Ok((TaskInput::Parts(fetched.parts), fetched.consumed))
    }

    fn fetching(&self, shuffle: usize) -> FetchOptions {
        let begin = &self.beginning.begin;
        let channel = self.channel.clone();
        let dirs = std::iter::once(&begin.outputs).chain(&begin.outputs_dirs);
        FetchOptions {
            job: self.beginning.job(),
            shuffle: shuffle as u32,
            token: begin.shuffle_token.to_vec(),
            worker: WorkerId(begin.worker),
            own_dirs: dirs.filter(|dir| !dir.is_empty()).map(Into::into).collect(),
            memory: self.memory,
            scratch: self.scratch.clone(),
            cancel: self.listener.cancel.clone(),
            reader: self.beginning.attempt,
            report: Arc::new(move |failed| {
                if let Err(error) = channel.say(from_attempt::Message::FetchFailed(failed)) {
                    // The listener notices too, and ends the attempt.
                    eprintln!("the worker cannot be told of a fetch that failed: {error}");
                }
            }),
        }
    }

    /// The job's outputs, which the master has begun; none for a stage that writes to none.
    fn outputs(&self, stage: &StageSpec) -> Result<Outputs, Failure> {
        let writes = matches!(stage.target, Target::Output(_))
            || !self.beginning.begin.deadly.is_empty()
            || self.job.plan.outputs.iter().any(|output| output.extra);
        if !writes {
            return Ok(Outputs::joined(Vec::new()));
        }
        let spec = &self.job.spec;
        let uris = spec.outputs.iter().map(|output| Uri::parse(&output.uri));
        let uris = uris.collect::<Result<Vec<Uri>, _>>().map_err(output_failure)?;
        let existing = Existing::of(spec.overwrite, spec.append);
        let shared =
            SharedOutputs::new(&uris, self.beginning.job(), existing, None).map_err(output_failure)?;
        Ok(Outputs::joined(shared.join().map_err(output_failure)?))
    }

    /// Moves the map output to where the worker serves it, and sums up.
    fn result(&self, mut report: AttemptReport) -> Result<AttemptResult, Failure> {
        let map_output = report.run.take().map(|run| {
            report.records_shuffled = run.index.records();
            let digest = run.digest().to_vec().into();
            let bytes = run.detach(Path::new(&self.beginning.begin.map_output));
            let bytes = bytes.map_err(|error| Failure::new(Kind::Scratch, error.to_string()))?;
            report.bytes_shuffled = bytes;
            Ok::<_, Failure>(MapOutput { worker: self.beginning.begin.worker, bytes, digest })
        });
        // One for each limit that the master has.
        let bad_records = report.bad_records_total();
        let mut bad_records_by_limit = std::mem::take(&mut report.bad_records);
        bad_records_by_limit.resize(self.job.spec.bad_records_limits.len(), 0);
        hold::reach(Moment::Commit);
        let part = |(output, part): (usize, gristmill_dataflow::part::FinishedPart)| Part {
            output: output as u32,
            name: part.file.name,
            bytes: part.file.bytes,
            crc32c: part.crc32c,
            receipt: part.file.receipt,
        };
        Ok(AttemptResult {
            counters: report.counters,
            records_in: report.records_in,
            bytes_in: report.bytes_in,
            groups: report.groups,
            largest_group: report.largest_group,
            records_collected: report.records_collected,
            records_shuffled: report.records_shuffled,
            bytes_shuffled: report.bytes_shuffled,
            records_out: report.records_out,
            bytes_out: report.bytes_out,
            bad_records,
            bad_records_by_limit,
            spilled_bytes: self.scratch.written_bytes(),
            elapsed_ms: 0,
            map_output: map_output.transpose()?,
            parts: report.parts.into_iter().map(part).collect(),
            ..AttemptResult::default()
        })
    }
}

/// How far a task is, from its own counts and, before a reduce reads its first group, from what was fetched.
struct Advance<'w> {
    progress: &'w Progress,
    scratch: &'w Scratch,
    /// Of the resident pool.
    pool_bytes: usize,
    fetches: bool,
}

impl Advance<'_> {
    fn now(&self) -> (u64, u64) {
        let (records, bytes) = self.progress.seen();
        if !self.fetches {
            return (records, bytes);
        }
        let resident = self.pool_bytes.saturating_sub(self.scratch.resident().free_bytes()) as u64;
        (records, bytes.max(self.scratch.written_bytes() + resident))
    }

    /// Tells the worker, whenever the task has advanced, until it has ended.
    fn tell(&self, channel: &Channel, ended: &AtomicBool) {
        let mut told = (0, 0);
        while !ended.load(Ordering::Relaxed) {
            self.progress.asked.store(true, Ordering::Relaxed);
            thread::park_timeout(PROGRESS_INTERVAL);
            let (records, bytes) = self.now();
            if records <= told.0 && bytes <= told.1 {
                continue;
            }
            told = (records, bytes);
            let message = from_attempt::Message::Progress(ProgressMessage { records, bytes });
            if let Err(error) = channel.say(message) {
                // The listener notices too, and ends the attempt.
                eprintln!("the worker cannot be told of progress: {error}");
                return;
            }
        }
    }
}

fn output_failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::Output, error.to_string())
}

/// A task's input as the job's file has it.
fn task_input(inputs: &StageInputs, input: &WireInput) -> Result<TaskInput, Failure> {
    if let Some(rows) = &input.rows {
        return Ok(TaskInput::Rows(rows.start..rows.end));
    }
    let ranges = input.ranges.iter().map(|range| {
        let text = inputs.uris.get(range.uri as usize);
        let text = text.ok_or_else(|| format!("the job's file has no input {}", range.uri))?;
        let uri = Uri::parse(text).map_err(|error| error.to_string())?;
        if range.start > range.end {
            return Err(format!("the job's file has a piece of {uri} from {} to {}", range.start, range.end));
        }
        let stamp = Stamp::of_number(range.stamp);
        Ok(FileRange { uri, start: range.start, end: range.end, file_bytes: range.file_bytes, stamp })
    });
    let ranges = ranges.collect::<Result<Vec<FileRange>, String>>();
    Ok(TaskInput::Split(Split { ranges: ranges.map_err(|error| Failure::new(Kind::Program, error))? }))
}
