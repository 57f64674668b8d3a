//! One try at a task: where it stands, what it has counted and written, and why it failed.

use crate::care::Care;
use crate::commit::Outputs;
use crate::hold::{self, Moment};
use crate::idle::IdleBuffers;
use crate::map_output::{MapOutput, MapOutputError, ShuffleRule};
use crate::memory::TaskMemory;
use crate::merge::MergeError;
use crate::part::{FinishedPart, PartError, PartFile, PartFiles};
pub use crate::position::Position;
use crate::read::ReadError;
use crate::run::{ReadRunError, Run};
use crate::scratch::{Scratch, ScratchError};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Cancellation is looked for, and progress shown, once in this many records.
const RECORDS_PER_TICK: u64 = 1024;
/// Below an output, where records that were skipped because they end attempts are kept. Readers pass over it.
const ASIDE_DIRECTORY: &str = "_skipped";

/// Why an attempt failed.
#[derive(Debug, Error)]
pub enum TaskError {
    /// Its input cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The input of a reduce cannot be merged.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The input of a reduce cannot be read.
    #[error(transparent)]
    ReadRun(#[from] ReadRunError),
    /// Its scratch space cannot be used.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// Its map output cannot be made.
    #[error("{source} (at {at})")]
    MapOutput {
        /// Where the attempt stood.
        at: Position,
        /// Why.
        #[source]
        source: MapOutputError,
    },
    /// A part of the job's output cannot be written.
    #[error(transparent)]
    Part(#[from] PartError),
    /// A record does not decode as the type that the job expects.
    #[error("cannot decode the record at {at}: {source}")]
    Decode {
        /// Which record.
        at: Position,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The author's function returned an error.
    #[error("{source} (at {at})")]
    Author {
        /// Which record.
        at: Position,
        /// What the function said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// More bad records than the job allows.
    #[error("more than {limit} bad records; the last one: {source} (at {at})")]
    TooManyBad {
        /// What `skip_bad` allows.
        limit: u64,
        /// Which record.
        at: Position,
        /// What the function said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The author's function panicked.
    #[error("panic: {message} (at {at})")]
    Panic {
        /// The panic's text and place in the source.
        message: String,
        /// Which record.
        at: Position,
    },
    /// The job ends; the attempt is not needed any more.
    #[error("cancelled")]
    Cancelled,
}

impl TaskError {
    /// A record whose bytes are not what the job's types say.
    pub fn undecodable(at: &Position, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Decode { at: at.clone(), source: Box::new(source) }
    }
}

/// What all attempts of a stage add to while they run: for progress displays only.
#[derive(Debug, Default)]
pub struct Progress {
    /// Records read.
    pub records: AtomicU64,
    /// Bytes of input read.
    pub bytes: AtomicU64,
    /// Someone wants to know now: a record may take longer than a thousand should. Set by whoever looks, cleared by
    /// the attempt that answers.
    pub asked: AtomicBool,
    /// Values of groups handed out: a group may take longer than any other thing.
    pub values: AtomicU64,
}

impl Progress {
    /// Records and bytes.
    pub fn seen(&self) -> (u64, u64) {
        let records = self.records.load(Ordering::Relaxed).max(self.values.load(Ordering::Relaxed));
        (records, self.bytes.load(Ordering::Relaxed))
    }
}

/// What an attempt needs of its surroundings.
#[derive(Clone)]
pub struct AttemptContext {
    /// Names the attempt in paths and logs: `map-00003-0`.
    pub id: String,
    /// Output files of this attempt.
    pub parts: PartNames,
    /// Its share of memory.
    pub memory: TaskMemory,
    /// Where runs go.
    pub scratch: Scratch,
    /// Buffers of attempts before this one.
    pub idle: IdleBuffers,
    /// The job's outputs.
    pub outputs: Arc<Outputs>,
    /// Set when the job ends early.
    pub cancel: Arc<AtomicBool>,
    /// Shared by the stage's attempts.
    pub progress: Arc<Progress>,
    /// Number of counters in the plan.
    pub counters: usize,
    /// Of an attempt that is careful.
    pub care: Option<Arc<Care>>,
}

/// How a task's output files are named: `part-m-00003` of a map stage, `part-r-00003` of a reduce stage
/// (Hadoop: `FileOutputFormat.getUniqueFile`).
#[derive(Clone, Debug)]
pub struct PartNames {
    /// `m` or `r`.
    pub kind: char,
    /// Number of the task in its stage.
    pub task: u32,
    /// By output: how many tasks of other stages come before this stage's.
    pub bases: Arc<Vec<u32>>,
    /// The job's id, where files appear among those of other jobs: `part-r-00003-<job>`.
    pub job: Option<String>,
}

impl PartNames {
    fn name(&self, output: usize) -> String {
        let number = self.bases[output] + self.task;
        match &self.job {
            None => format!("part-{}-{number:05}", self.kind),
            Some(job) => format!("part-{}-{number:05}-{job}", self.kind),
        }
    }
}

/// An open file of an extra output, or several.
pub trait ExtraPart: Any {
    /// Closes them.
    fn finish(self: Box<Self>) -> Result<Vec<FinishedPart>, PartError>;
    /// For whoever opened it and knows its type.
    fn as_any(&mut self) -> &mut dyn Any;
}

/// What an attempt did.
#[derive(Debug, Default)]
pub struct AttemptReport {
    /// Counters by number.
    pub counters: Vec<u64>,
    /// Records read, or values of groups.
    pub records_in: u64,
    /// Bytes of input, as stored.
    pub bytes_in: u64,
    /// Groups of a reduce.
    pub groups: u64,
    /// Values of the largest group.
    pub largest_group: u64,
    /// Records into the shuffle, before combining.
    pub records_collected: u64,
    /// Records in the shuffle, after combining.
    pub records_shuffled: u64,
    /// Bytes in the shuffle, as stored.
    pub bytes_shuffled: u64,
    /// Records written to outputs.
    pub records_out: u64,
    /// Bytes written to outputs.
    pub bytes_out: u64,
    /// Records that `skip_bad` skipped, by the number of the rule that let it; rules that let none are left out at the end.
    pub bad_records: Vec<u64>,
    /// The map output.
    pub run: Option<Run>,
    /// Output files, each with the number of its output.
    pub parts: Vec<(usize, FinishedPart)>,
    /// How long it ran.
    pub elapsed: Duration,
}

impl AttemptReport {
    /// Counts a bad record that the rule of this number lets pass.
    pub fn skip_bad_record(&mut self, rule: usize) {
        if self.bad_records.len() <= rule {
            self.bad_records.resize(rule + 1, 0);
        }
        self.bad_records[rule] += 1;
    }

    /// Bad records that any rule let pass.
    pub fn bad_records_total(&self) -> u64 {
        self.bad_records.iter().sum()
    }
}

/// A running attempt.
pub struct Attempt {
    context: AttemptContext,
    started: Instant,
    /// Where it stands.
    pub position: Position,
    /// What it did so far.
    pub report: AttemptReport,
    failure: Option<TaskError>,
    map_output: Option<MapOutput>,
    extras: Vec<Option<Box<dyn ExtraPart>>>,
    /// Records that were skipped because they end attempts.
    aside: Option<PartFile>,
    shown: (u64, u64),
    shares_memory: bool,
}

impl Attempt {
    /// An attempt that has not begun.
    pub fn new(context: AttemptContext) -> Self {
        let report = AttemptReport { counters: vec![0; context.counters], ..AttemptReport::default() };
        let extras = (0..context.outputs.len()).map(|_| None).collect();
        Self {
            context,
            started: Instant::now(),
            position: Position::Start,
            report,
            failure: None,
            map_output: None,
            extras,
            aside: None,
            shown: (0, 0),
            shares_memory: false,
        }
    }

    /// Its surroundings.
    pub fn context(&self) -> &AttemptContext {
        &self.context
    }

    /// Memory of its input side: half, if its output side collects at the same time as its input side merges.
    pub fn memory(&self) -> TaskMemory {
        if self.shares_memory { self.context.memory.halved() } else { self.context.memory }
    }

    /// Says that the attempt merges its input, so that a map output gets half of its memory.
    pub fn share_memory(&mut self) {
        self.shares_memory = true;
    }

    /// Begins a map output.
    pub fn begin_map_output(&mut self, rule: ShuffleRule) {
        let memory = self.memory();
        self.map_output =
            Some(MapOutput::new(rule, memory, self.context.scratch.clone(), self.context.idle.clone()));
    }

    /// Takes a record for the shuffle.
    #[inline]
    pub fn collect(&mut self, key: &[u8], value: &[u8]) {
        if let Some(output) = &mut self.map_output
            && let Err(source) = output.collect(key, value)
        {
            self.fail(TaskError::MapOutput { at: self.position.clone(), source });
        }
    }

    /// Remembers why the attempt failed; the first reason counts. The source stops at the next record.
    #[cold]
    pub fn fail(&mut self, error: TaskError) {
        self.failure.get_or_insert(error);
    }

    /// Called by sources once a record, after the author's function: counts it, and says why to stop, if so.
    #[inline]
    pub fn record_done(&mut self) -> Result<(), TaskError> {
        self.report.records_in += 1;
        if self.failure.is_some() || self.context.care.is_some() {
            self.check()?;
            self.note_record(self.report.records_in + 1)?;
        }
        if self.report.records_in.is_multiple_of(RECORDS_PER_TICK) || self.is_asked() {
            return self.tick();
        }
        Ok(())
    }

    /// Called once a group, after the author's function.
    #[inline]
    pub fn group_done(&mut self, records: u64) -> Result<(), TaskError> {
        self.report.groups += 1;
        self.report.records_in = records;
        if self.failure.is_some() {
            return self.check();
        }
        if self.report.groups.is_multiple_of(RECORDS_PER_TICK) || self.is_asked() {
            return self.tick();
        }
        Ok(())
    }

    #[cold]
    fn note_record(&self, record: u64) -> Result<(), TaskError> {
        Ok(self.context.care.as_ref().map_or(Ok(()), |care| care.note(record))?)
    }

    /// Whether the record that the source hands out has ended attempts before.
    #[inline]
    pub fn is_at_deadly(&self) -> bool {
        self.context.care.as_ref().is_some_and(|care| care.is_deadly(self.report.records_in + 1))
    }

    /// Keeps a record that is skipped, in a file beside the job's first output: a line with its place and its bytes.
    pub fn set_aside(&mut self, record: &[u8]) {
        if self.context.outputs.is_empty() {
            return;
        }
        let line = format!("{}\t{}\n", self.position, record.escape_ascii());
        if let Err(error) = self.write_aside(line.as_bytes()) {
            self.fail(error.into());
        }
    }

    fn write_aside(&mut self, line: &[u8]) -> Result<(), PartError> {
        if self.aside.is_none() {
            // No two tasks have the same name, whatever their stage.
            let name = match &self.context.parts.job {
                None => self.context.id.clone(),
                Some(job) => format!("{}-{job}", self.context.id),
            };
            let files = PartFiles { name, ..self.part_files(0) };
            self.aside = Some(files.create(ASIDE_DIRECTORY, "", None)?);
        }
        let aside = self.aside.as_mut().expect("it was made just now");
        aside.append(|buffer| buffer.extend_from_slice(line))
    }

    #[inline]
    fn is_asked(&self) -> bool {
        self.context.progress.asked.load(Ordering::Relaxed)
    }

    /// Stands at `offset` of the file that it stands in already.
    #[inline]
    pub fn at_offset(&mut self, now: u64) {
        if let Position::Offset { offset, .. } | Position::Decompressed { offset, .. } = &mut self.position {
            *offset = now;
        }
    }

    /// Stands at the group of `key`.
    #[inline]
    pub fn at_key(&mut self, now: &[u8]) {
        match &mut self.position {
            Position::Key(key) => {
                key.clear();
                key.extend_from_slice(now);
            }
            other => *other = Position::Key(now.to_vec()),
        }
    }

    /// Reports the failure, if there is one.
    pub fn check(&mut self) -> Result<(), TaskError> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Shows progress and looks whether the job still wants this attempt.
    #[cold]
    pub fn tick(&mut self) -> Result<(), TaskError> {
        let (records, bytes) = (self.report.records_in, self.report.bytes_in);
        self.context.progress.asked.store(false, Ordering::Relaxed);
        self.context.progress.records.fetch_add(records - self.shown.0, Ordering::Relaxed);
        self.context.progress.bytes.fetch_add(bytes - self.shown.1, Ordering::Relaxed);
        self.shown = (records, bytes);
        hold::reach(if self.context.parts.kind == 'm' { Moment::Map } else { Moment::Reduce });
        if self.context.cancel.load(Ordering::Relaxed) { Err(TaskError::Cancelled) } else { Ok(()) }
    }

    /// Makes files of output `output`, named after the task.
    pub fn part_files(&self, output: usize) -> PartFiles {
        PartFiles {
            outputs: self.context.outputs.clone(),
            output,
            attempt: self.context.id.clone(),
            name: self.context.parts.name(output),
            memory: self.context.memory,
        }
    }

    /// Adds a finished file to what the attempt offers for commit.
    pub fn offer(&mut self, output: usize, part: FinishedPart) {
        self.report.bytes_out += part.file.bytes;
        self.report.parts.push((output, part));
    }

    /// The open file of an extra output, if one was put there; it is finished with the attempt.
    pub fn extra(&mut self, output: usize) -> &mut Option<Box<dyn ExtraPart>> {
        &mut self.extras[output]
    }

    /// Ends the attempt: closes the map output and hands over what it did.
    pub fn finish(mut self) -> Result<AttemptReport, TaskError> {
        self.check()?;
        self.note_record(0)?;
        self.tick()?;
        if let Some(output) = self.map_output.take() {
            self.report.records_collected = output.records();
            let at = self.position.clone();
            self.report.run = Some(output.finish().map_err(|source| TaskError::MapOutput { at, source })?);
        }
        if let Some(aside) = self.aside.take() {
            let part = aside.finish()?;
            self.offer(0, part);
        }
        for output in 0..self.extras.len() {
            if let Some(extra) = self.extras[output].take() {
                for file in extra.finish()? {
                    self.offer(output, file);
                }
            }
        }
        self.report.elapsed = self.started.elapsed();
        Ok(self.report)
    }
}
