//! The driver: what an author's program does to have its job run by a cluster.
//!
//! ```text
//!  plan -> stages (list inputs, cut splits) -> program and job file into dfs:// -> Submit -> Watch ... -> the report
//!                          \-> hints: who holds what ------------------------------^
//! ```
//! Modules in reading order: `jobs` (calls to the master), `program_file` and `job_file` (what attempts need, in
//! dfs://), `hints`, `spec` (what the master needs), `watch`.

mod hints;
mod job_file;
mod jobs;
mod program_file;
mod spec;
mod watch;

use crate::error::JobError;
use crate::explain::explain;
use crate::plan::PlanState;
use crate::size::ByteSize;
use crate::stages::{Cutting, PreparedStage, SPLIT_BYTES, Stages};
use gristmill_dataflow::commit::{CommitError, refuse_overlap};
use gristmill_dataflow::memory::MemoryPlan;
use gristmill_dataflow::partition::PARTITIONS_MAX;
use gristmill_dfs::file_system::FsError;
use gristmill_dfs::{AccessError, Credential, DfsIdentity, Existing, Place, Uri, UriError};
use gristmill_proto::auth::Secret;
use gristmill_proto::ids::JobId;
use gristmill_proto::job::{ClusterStatus, JobStatus};
use gristmill_proto::report::Report;
use jobs::Jobs;
use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thiserror::Error;

/// Directories listed at a time: each waits for the master more than it computes.
const LISTERS: usize = 8;
/// Nothing is cut into smaller splits only so that every slot has one: starting an attempt costs as much as reading it.
const SPLIT_BYTES_MIN: u64 = 1 << 20;
/// Input of one reduce task, where nobody says how many there shall be and there are slots for more.
const REDUCER_INPUT_BYTES: u64 = 16 << 20;
/// Assumed of a cluster without a worker: they may yet come.
const SLOT_MEMORY_BYTES: u64 = 512 << 20;

/// As what, and where, a job is to run.
#[derive(Clone, Debug)]
pub(crate) struct DriverOptions {
    /// HOST:PORT of the master.
    pub(crate) master: String,
    /// The cluster's secret, if it has one.
    pub(crate) secret: Option<Secret>,
    /// Whose job it is.
    pub(crate) user: String,
    /// The groups of the user.
    pub(crate) groups: Vec<String>,
    /// The job's name.
    pub(crate) name: String,
    /// The program's name.
    pub(crate) program: String,
    /// Of the program, without its own name.
    pub(crate) arguments: Vec<OsString>,
    /// The id under which the job was perhaps submitted before.
    pub(crate) job: Option<JobId>,
    /// Empty: the cluster's default.
    pub(crate) queue: String,
    /// Higher first, within a queue.
    pub(crate) priority: i32,
    /// Failed attempts that fail a task; 0: as the cluster has it.
    pub(crate) attempts_max: u32,
    /// How long the job waits with no worker at all; 0: as the cluster has it.
    pub(crate) no_worker_ms: u64,
    /// How long an attempt may read and write nothing; 0: as the cluster has it.
    pub(crate) no_progress_ms: u64,
    /// Task workers keep their map outputs.
    pub(crate) shuffle_local: bool,
    /// Slow attempts get no twin.
    pub(crate) no_twins: bool,
    /// Memory of one attempt; 0: the slot's share.
    pub(crate) memory_bytes: u64,
    /// Reduce tasks of shuffles for which the plan does not say.
    pub(crate) reducers: Option<u32>,
    /// Largest split.
    pub(crate) split_bytes: Option<u64>,
    /// What to do if an output is there already.
    pub(crate) existing: Existing,
    /// The job ends with this program.
    pub(crate) kill_on_exit: bool,
    /// Whoever asks this program to stop asks the job, too.
    pub(crate) kill_when_interrupted: bool,
    /// Set from outside to end this program.
    pub(crate) interrupted: Arc<AtomicBool>,
}

impl DriverOptions {
    /// As whom this process reaches `dfs://`; `dfs:///path` is on the cluster that runs the job.
    pub(crate) fn identity(&self) -> DfsIdentity {
        DfsIdentity {
            user: self.user.clone(),
            groups: self.groups.clone(),
            credential: self.secret.clone().map_or(Credential::None, Credential::Secret),
            aliases: vec![(self.master.clone(), self.master.clone())],
            host: None,
            inside: false,
        }
    }
}

/// A job that the cluster has.
pub(crate) struct Submitted {
    pub(crate) job: JobId,
    /// What about its inputs costs time.
    pub(crate) notes: Vec<String>,
}

/// Why a job cannot be submitted, or did not succeed: one sentence.
#[derive(Debug, Error)]
pub(crate) enum DriverError {
    /// It cannot run as it is.
    #[error(transparent)]
    Job(#[from] JobError),
    /// Its files cannot be put into the cluster.
    #[error(transparent)]
    FileSystem(#[from] FsError),
    /// The cluster does not say where its blocks are.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Its files cannot be named.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// A file cannot be written into the cluster.
    #[error("cannot write {uri}: {source}")]
    Write {
        /// The file.
        uri: Uri,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program cannot read itself.
    #[error("cannot read this program's own file, which the cluster needs: {0}")]
    OwnProgram(#[source] io::Error),
    /// An input or output that only this process has.
    #[error("cannot use {uri} on a cluster: memory:// is within one process")]
    WithinProcess {
        /// Which.
        uri: Uri,
    },
    /// What attempts need to know is too much.
    #[error(
        "the job has {bytes} bytes of arguments, broadcasts and input names, of at most {limit_bytes}: broadcast \
         less, or read fewer files"
    )]
    JobFileTooLong {
        /// Of the job file.
        bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// No connection can be made at all.
    #[error("cannot call masters: {0}")]
    Start(#[source] io::Error),
    /// The address makes no sense.
    #[error("cannot call the master at {master}: {source}")]
    Address {
        /// HOST:PORT.
        master: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The master refuses.
    #[error("the master at {master} does not {call}: {detail}")]
    Refused {
        /// HOST:PORT.
        master: String,
        /// What was asked, as a verb.
        call: &'static str,
        /// Its reason.
        detail: String,
    },
    /// The master does not answer.
    #[error("cannot {call}: the master at {master} did not answer within {} s ({detail})", waited.as_secs())]
    Unreachable {
        /// HOST:PORT.
        master: String,
        /// What was asked, as a verb.
        call: &'static str,
        /// How long the driver tried.
        waited: Duration,
        /// What it met at last.
        detail: String,
    },
    /// The id is another job's.
    #[error("job {job} is {name:?} of the program {program:?}, not this one: take another --job-id")]
    AnotherJob {
        /// The id.
        job: JobId,
        /// Name of the job that has it.
        name: String,
        /// Its program.
        program: String,
    },
    /// The job failed.
    #[error("job {job} failed: {reason}")]
    Failed {
        /// Which.
        job: JobId,
        /// The master's sentence.
        reason: String,
    },
    /// Somebody has killed the job.
    #[error("job {job} was killed: {reason}")]
    Killed {
        /// Which.
        job: JobId,
        /// Who or why.
        reason: String,
    },
    /// The master says what no master says.
    #[error("job {job} is done, but the master at {master} sends no report of it: {source}")]
    Report {
        /// Which.
        job: JobId,
        /// HOST:PORT.
        master: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Someone asked this program to stop before it had submitted anything.
    #[error("interrupted: nothing was submitted")]
    Interrupted,
    /// Someone asked this program to stop; the job goes on.
    #[error(
        "interrupted, but job {job} goes on: `gristmill job wait --master {master} {job}` waits for it, \
         `gristmill job kill --master {master} {job}` ends it"
    )]
    LeftRunning {
        /// Which.
        job: JobId,
        /// HOST:PORT.
        master: String,
    },
}

impl From<CommitError> for DriverError {
    fn from(error: CommitError) -> DriverError {
        DriverError::Job(error.into())
    }
}

/// Is told how a job on a cluster goes on.
pub(crate) trait Display {
    /// The job as it is now.
    fn show(&mut self, status: &JobStatus);
    /// Something its user should know, in one sentence.
    fn warn(&mut self, sentence: &str);
}

/// A job program that talks to a cluster.
pub(crate) struct Driver<'d> {
    options: &'d DriverOptions,
    jobs: Jobs,
}

impl<'d> Driver<'d> {
    /// Calls nobody yet.
    pub(crate) fn new(options: &'d DriverOptions) -> Result<Driver<'d>, DriverError> {
        Ok(Driver { options, jobs: Jobs::new(options)? })
    }

    /// What the cluster would do.
    pub(crate) fn explain(&self, state: &PlanState) -> Result<String, DriverError> {
        let cluster = self.jobs.describe()?;
        let stages = self.prepare(state, &cluster)?;
        let (slots, memory) = (cluster.slots, ByteSize(self.memory_bytes(&cluster)));
        let master = &self.options.master;
        Ok(format!(
            "{}cluster: {slots} slots at {master}, {memory} for each attempt\n",
            explain(state, &stages)
        ))
    }

    /// Has the cluster run the job; again under the same id, does nothing.
    pub(crate) fn submit(&self, state: &PlanState) -> Result<Submitted, DriverError> {
        let job = match self.options.job {
            None => JobId::random(),
            Some(job) => match self.jobs.status(job)? {
                None => job,
                Some(known) => {
                    return self.same_job(job, &known).map(|job| Submitted { job, notes: Vec::new() });
                }
            },
        };
        let cluster = self.jobs.describe()?;
        let stages = self.prepare(state, &cluster)?;
        self.heed_interruption()?;
        refuse_overlap(&stages.output_uris)?;
        let program = program_file::put(self.options, job, &cluster)?;
        let job_file = job_file::put(self.options, job, state, &stages)?;
        let hints = hints::of(&stages.stages, &cluster)?;
        self.heed_interruption()?;
        let spec = spec::of(self.options, job, program.clone(), job_file, state, &stages);
        self.jobs.submit(spec, &hints)?;
        program_file::put_again(self.options, job, &program, &cluster)?;
        Ok(Submitted { job, notes: stages.notes() })
    }

    /// Waits for a job's end.
    pub(crate) fn wait(&self, job: JobId, display: &mut dyn Display) -> Result<Report, DriverError> {
        watch::wait(&self.jobs, self.options, job, display)
    }

    fn heed_interruption(&self) -> Result<(), DriverError> {
        if self.options.interrupted.load(Ordering::Relaxed) { Err(DriverError::Interrupted) } else { Ok(()) }
    }

    fn same_job(&self, job: JobId, known: &JobStatus) -> Result<JobId, DriverError> {
        if known.name == self.options.name && known.program == self.options.program {
            return Ok(job);
        }
        let (name, program) = (known.name.clone(), known.program.clone());
        Err(DriverError::AnotherJob { job, name, program })
    }

    fn memory_bytes(&self, cluster: &ClusterStatus) -> u64 {
        let known = [self.options.memory_bytes, cluster.slot_memory_bytes];
        known.into_iter().find(|&bytes| bytes > 0).unwrap_or(SLOT_MEMORY_BYTES)
    }

    fn prepare(&self, state: &PlanState, cluster: &ClusterStatus) -> Result<Stages, DriverError> {
        let slots = cluster.slots.max(1);
        let memory = usize::try_from(self.memory_bytes(cluster)).unwrap_or(usize::MAX);
        let collect_bytes = MemoryPlan::new(memory, 1).task().collect_bytes() as u64;
        // A block that is too large for the sort buffer is cut into equal pieces: none reaches into another block.
        let pieces = SPLIT_BYTES.div_ceil((collect_bytes * 2 / 3).max(1));
        let cutting = Cutting {
            listers: LISTERS,
            splits_wanted: slots.into(),
            rows_wanted: slots.into(),
            split_bytes_min: SPLIT_BYTES_MIN,
            split_bytes: self.options.split_bytes.unwrap_or(SPLIT_BYTES / pieces),
            combined_split_bytes: self.options.split_bytes.unwrap_or(SPLIT_BYTES),
            existing: self.options.existing,
            master: Some(&self.options.master),
        };
        let stages = Stages::prepare(state, &cutting, |input_bytes| self.reducers(slots, input_bytes))?;
        let mut uris = stages.stages.iter().flat_map(PreparedStage::files).chain(&stages.output_uris);
        if let Some(uri) = uris.find(|uri| matches!(uri.place(), Place::Memory { .. })) {
            return Err(DriverError::WithinProcess { uri: uri.clone() });
        }
        drop(uris);
        Ok(stages)
    }

    fn reducers(&self, slots: u32, input_bytes: u64) -> u32 {
        let wanted = u32::try_from(input_bytes / REDUCER_INPUT_BYTES).unwrap_or(PARTITIONS_MAX);
        self.options.reducers.unwrap_or(slots.min(wanted.max(1)).min(PARTITIONS_MAX))
    }
}
