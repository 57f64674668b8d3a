//! The life of an attempt, on its own thread.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gristmill_dataflow::care::noted_record;
use gristmill_dataflow::shuffle::{OutputStore, OutputStoreError};
use gristmill_process::sentence;
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attempt::to_attempt::Message;
use gristmill_proto::attempt::{Begin, ToAttempt};
use gristmill_proto::ids::AttemptId;
use gristmill_proto::task::attempt_failure::Kind;
use gristmill_proto::task::{FetchFailed, LogPage};
use prost::Message as _;
use thiserror::Error;

use super::assignment::{Assignment, Outcome, TEXT_BYTES_MAX, failure, short};
use super::bounds::{Bounds, memory_limit_bytes};
use super::census::Census;
use super::conduct::{Company, Conduct, ConductError, Conducted};
use super::dfs_files::DfsFiles;
use super::disk_use::DiskUse;
use super::frames::{FrameError, frame};
use super::launch::{LaunchError, launch, program_name};
use super::log_pusher::LogPusher;
use super::logs::{AttemptLogs, Logs};
use super::mailbox::{Letter, Mailbox};
use super::map_output::{MapOutputError, settle};
use super::progress::ProgressCell;
use super::signing::Signing;
use super::verdict::Verdict;
use super::verified_files::{FetchError, InUse, VerifiedFiles};
use crate::cgroup::{Cgroup, CgroupError, Cgroups};
use crate::reap;
use crate::scratch::{AttemptScratch, ScratchError, ScratchHome};

/// Of what an attempt says when it is done: a master takes messages of 16 MiB, and would be told of a longer one again and
/// again.
const RESULT_BYTES_MAX: usize = 12 << 20;

/// What attempts of this worker share.
pub(crate) struct Workplace {
    pub(crate) scratch: ScratchHome,
    pub(crate) store: OutputStore,
    pub(crate) programs: Arc<VerifiedFiles>,
    pub(crate) job_files: Arc<VerifiedFiles>,
    pub(crate) logs: Logs,
    pub(crate) log_pusher: Arc<LogPusher>,
    pub(crate) dfs: DfsFiles,
    /// Of one slot, where the master does not say.
    pub(crate) slot_memory_bytes: u64,
    pub(crate) census: Census,
    pub(crate) disk_use: DiskUse,
    /// None where the worker may not make any.
    pub(crate) cgroups: Option<Cgroups>,
}

/// What happens here that the master is told of.
#[derive(Debug)]
pub(crate) enum Event {
    /// An attempt cannot fetch a map output.
    FetchFailed { attempt: AttemptId, report: FetchFailed },
    /// An attempt has ended, and nothing of it runs.
    Ended { attempt: AttemptId, outcome: Outcome },
    /// A piece of a log that the master asked for.
    Log(LogPage),
    /// What was to be removed is removed, as far as it could be.
    Tidied,
}

/// Why an attempt could not be run.
#[derive(Debug, Error)]
enum LifeError {
    #[error("the file of the job is not to be had")]
    JobFile(#[source] FetchError),
    #[error("the program is not to be had")]
    Program(#[source] FetchError),
    #[error("the worker's scratch directory cannot be used")]
    Scratch(#[source] ScratchError),
    #[error("there is no place for a map output")]
    Place(#[source] OutputStoreError),
    #[error("the worker cannot {action}")]
    System {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Launch(LaunchError),
    #[error("the worker cannot bound an attempt")]
    Group(#[source] CgroupError),
    #[error("the worker cannot watch an attempt")]
    Watch(#[source] ConductError),
    #[error("the job does not fit into a message to its attempts")]
    Frame(#[source] FrameError),
    #[error("the result of the attempt has {bytes} bytes, of at most {RESULT_BYTES_MAX}")]
    Result { bytes: usize },
    #[error(transparent)]
    MapOutput(MapOutputError),
}

impl LifeError {
    fn kind(&self) -> Kind {
        match self {
            LifeError::JobFile(FetchError::Cancelled { .. })
            | LifeError::Program(FetchError::Cancelled { .. }) => Kind::Killed,
            LifeError::JobFile(error) | LifeError::Program(error) => match error {
                FetchError::WrongSum { .. }
                | FetchError::TooLarge { .. }
                | FetchError::NoSum { .. }
                | FetchError::NoProgram => Kind::Program,
                FetchError::Open { source, .. } if source.is_not_found() => Kind::Program,
                FetchError::Disk { .. } => Kind::Scratch,
                _ => Kind::Input,
            },
            LifeError::Launch(LaunchError::NotAProgram { .. })
            | LifeError::Frame(_)
            | LifeError::Result { .. } => Kind::Program,
            LifeError::MapOutput(MapOutputError::None | MapOutputError::Digest { .. }) => Kind::Program,
            LifeError::Scratch(_)
            | LifeError::Place(_)
            | LifeError::System { .. }
            | LifeError::Group(_)
            | LifeError::Watch(_)
            | LifeError::Launch(LaunchError::Start { .. })
            | LifeError::MapOutput(MapOutputError::Store(_)) => Kind::Scratch,
        }
    }
}

/// Runs an attempt to its end. Nothing of it runs any more then, and nothing of it is left but its logs and, if it is
/// done, its map output.
pub(crate) fn live(
    workplace: &Workplace,
    assignment: &Assignment,
    mailbox: &Mailbox,
    progress: &ProgressCell,
    complain: &mut dyn FnMut(FetchFailed),
) -> Outcome {
    let attempt = assignment.attempt;
    let outcome = match workplace.scratch.attempt(attempt) {
        Ok(scratch) => {
            let run = Run { workplace, assignment, mailbox, progress, scratch: &scratch };
            let outcome = run.run(complain).unwrap_or_else(|error| run.explain(&error));
            if matches!(&outcome, Outcome::Failed(failure) if failure.kind() == Kind::Scratch) {
                workplace.scratch.avoid(attempt.task.job, scratch.disk());
            }
            if let Err(error) = scratch.remove() {
                // The end of the job tries again, and so does the next start of the worker.
                tracing::warn!(%attempt, error = &error as &dyn std::error::Error, "scratch is left behind");
            }
            outcome
        }
        Err(error) => {
            let error = LifeError::Scratch(error);
            Outcome::Failed(failure(error.kind(), sentence(&error)))
        }
    };
    match &outcome {
        Outcome::Done(result) => {
            tracing::info!(%attempt, records = result.records_in, bytes = result.bytes_in, "attempt is done");
        }
        Outcome::Failed(failure) => {
            tracing::info!(%attempt, kind = failure.kind().as_str_name(), reason = %failure.message, "attempt failed");
        }
    }
    if let Some(logs) = workplace.logs.find(attempt) {
        workplace.log_pusher.push(attempt, logs);
    }
    outcome
}

struct Run<'a> {
    workplace: &'a Workplace,
    assignment: &'a Assignment,
    mailbox: &'a Mailbox,
    progress: &'a ProgressCell,
    scratch: &'a AttemptScratch,
}

impl Run<'_> {
    fn run(&self, complain: &mut dyn FnMut(FetchFailed)) -> Result<Outcome, LifeError> {
        let attempt = &self.assignment.attempt;
        let system = |action| move |source| LifeError::System { action, source };
        let job_file = self.job_file().map_err(LifeError::JobFile)?;
        let program = self.program().map_err(LifeError::Program)?;
        let output = self.workplace.store.place(self.scratch.disk(), *attempt).map_err(LifeError::Place)?;
        let logs = self.workplace.logs.begin(*attempt).map_err(system("keep logs"))?;
        let frames = self.first_frames(job_file.path(), &output).map_err(LifeError::Frame)?;
        if self.mailbox.is_killed() {
            return self.killed_early();
        }

        let group = self.group();
        let ran = self.conduct(program.path(), frames, &logs, group.as_ref(), complain);
        let stragglers = !matches!(ran, Ok(Conducted { stragglers: false, .. }));
        self.end_processes(group, stragglers)?;
        self.settle(ran?.outcome, &output, &logs)
    }

    /// From the start of its process to its end. An error may leave processes.
    fn conduct(
        &self,
        program: &Path,
        frames: Vec<Bytes>,
        logs: &AttemptLogs,
        group: Option<&Cgroup>,
        complain: &mut dyn FnMut(FetchFailed),
    ) -> Result<Conducted, LifeError> {
        let Assignment { spec, attempt, .. } = self.assignment;
        let Workplace { census, disk_use, store, .. } = self.workplace;
        let submitted = spec.program.as_ref().map_or("", |program| &program.name);
        let (name, now) = (program_name(submitted), Instant::now());
        let process = launch(program, &name, &self.scratch.work()).map_err(LifeError::Launch)?;
        tracing::info!(%attempt, pid = %process.pid, program = %name, "attempt runs");
        // It reads its first frame before the author's code runs: what that takes is counted.
        group.map_or(Ok(()), |group| group.take(process.pid)).map_err(LifeError::Group)?;
        let noted = self.scratch.note_process(process.pid);
        noted.map_err(|source| LifeError::System { action: "note an attempt's process", source })?;
        let verdict = Verdict::new(now, name, spec.fingerprint.clone());
        let footprint = disk_use.follow(store, *attempt, self.scratch.work());
        let bounds = Bounds::new(census, process.pid, self.memory_bytes(), footprint, now).in_group(group);
        let signing = Signing::new(*attempt, spec);
        let (mailbox, progress) = (self.mailbox, self.progress);
        let company = Company { mailbox, progress, logs, complain, signing: &signing };
        Conduct::new(process, verdict, bounds, frames, company).run().map_err(LifeError::Watch)
    }

    /// A control group for it, if this worker makes them.
    fn group(&self) -> Option<Cgroup> {
        let attempt = self.assignment.attempt;
        let name = format!("{}-{}", attempt.task.job, attempt.name());
        let groups = self.workplace.cgroups.as_ref()?;
        match groups.group(&name, memory_limit_bytes(self.memory_bytes())) {
            Ok(group) => Some(group),
            Err(error) => {
                // It is looked at as where there are no groups.
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%attempt, error, "an attempt has no control group");
                None
            }
        }
    }

    /// Its process has ended, or cannot be followed: what is left of it ends too. Those who left its group are looked for where
    /// there may be some.
    fn end_processes(&self, group: Option<Cgroup>, stragglers: bool) -> Result<(), LifeError> {
        let mut killed = group.map_or(Ok(0), Cgroup::end).map_err(LifeError::Group)?;
        if stragglers {
            let end = |source| LifeError::System { action: "end an attempt's processes", source };
            killed += reap::kill_marked(self.scratch.dir()).map_err(end)?;
        }
        if killed > 0 {
            let attempt = self.assignment.attempt;
            tracing::warn!(%attempt, killed, "ended processes that outlived their attempt");
        }
        Ok(())
    }

    /// For its whole process.
    fn memory_bytes(&self) -> u64 {
        match self.assignment.memory_bytes {
            0 => self.workplace.slot_memory_bytes,
            bytes => bytes,
        }
    }

    fn job_file(&self) -> Result<InUse, FetchError> {
        let Workplace { job_files, dfs, .. } = self.workplace;
        let spec = &self.assignment.spec;
        let open = || dfs.open(spec, &spec.job_file);
        job_files.get(&spec.job_file, &spec.job_file_sha256, open, || self.mailbox.is_killed())
    }

    fn program(&self) -> Result<InUse, FetchError> {
        let Workplace { programs, dfs, .. } = self.workplace;
        let spec = &self.assignment.spec;
        let program = spec.program.as_ref().ok_or(FetchError::NoProgram)?;
        let open = || dfs.open(spec, &program.path);
        programs.get(&program.path, &program.sha256, open, || self.mailbox.is_killed())
    }

    fn first_frames(&self, job_file: &Path, output: &Path) -> Result<Vec<Bytes>, FrameError> {
        let Assignment { attempt, kind, spec, shuffle, worker, .. } = self.assignment;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let outputs_dirs: Vec<PathBuf> = self.workplace.store.job_dirs(attempt.task.job);
        let begin = Begin {
            version: PROTOCOL_VERSION,
            attempt: Some(attempt.to_wire()),
            kind: *kind as i32,
            spec: Some((**spec).clone()),
            job_file: text(job_file),
            memory_bytes: self.memory_bytes(),
            scratch: text(&self.scratch.work()),
            map_output: text(output),
            master: self.workplace.dfs.master.clone(),
            caller_token: self.assignment.caller_token.clone(),
            shuffle_token: self.assignment.shuffle_token.clone(),
            worker: worker.0,
            outputs: outputs_dirs.first().map_or_else(String::new, |dir| text(dir)),
            host: self.workplace.dfs.host.clone(),
            user: spec.user.clone(),
            groups: spec.groups.clone(),
            shuffle: *shuffle,
            careful: self.assignment.careful,
            deadly: self.assignment.deadly.clone(),
            outputs_dirs: outputs_dirs.iter().map(|dir| text(dir)).collect(),
        };
        let outputs = self.assignment.outputs.iter().cloned().map(Message::Outputs);
        let messages = std::iter::once(Message::Begin(begin)).chain(outputs);
        messages.map(|message| frame(&ToAttempt { message: Some(message) })).collect()
    }

    /// It never ran.
    fn killed_early(&self) -> Result<Outcome, LifeError> {
        let unread = |source| LifeError::System { action: "read the orders of an attempt", source };
        let (letters, _lost) = self.mailbox.take().map_err(unread)?;
        let kill = letters.into_iter().find_map(|letter| match letter {
            Letter::Kill { kind, reason, .. } => Some(failure(kind, reason)),
            Letter::Outputs(_) => None,
        });
        let kill = kill.unwrap_or_else(|| failure(Kind::Killed, "it was ended before it ran"));
        Ok(Outcome::Failed(kill))
    }

    /// Settles the map output of an attempt that is done; of one that is not, whatever lies there goes.
    fn settle(&self, outcome: Outcome, output: &Path, logs: &AttemptLogs) -> Result<Outcome, LifeError> {
        match outcome {
            Outcome::Done(mut result) => {
                result.note = short(result.note);
                let bytes = result.encoded_len();
                if bytes > RESULT_BYTES_MAX {
                    self.remove_output(output);
                    return Err(LifeError::Result { bytes });
                }
                let (store, disk) = (&self.workplace.store, self.scratch.disk());
                let settled = settle(store, disk, output, self.assignment, &mut result);
                settled.inspect_err(|_| self.remove_output(output)).map_err(LifeError::MapOutput)?;
                Ok(Outcome::Done(result))
            }
            Outcome::Failed(mut failure) => {
                self.remove_output(output);
                failure.record = self.noted_record();
                if failure.record > 0 && failure.kind() == Kind::Exited {
                    let at = format!(" (at record {} of the task's input)", failure.record);
                    failure.message = short(failure.message + &at);
                }
                if failure.stderr_tail.is_empty() {
                    failure.stderr_tail = tail(self.assignment.attempt, logs);
                }
                Ok(Outcome::Failed(failure))
            }
        }
    }

    /// The record on which a careful attempt has ended.
    fn noted_record(&self) -> u64 {
        match noted_record(&self.scratch.work()) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(attempt = %self.assignment.attempt, %error, "an attempt's note cannot be read");
                0
            }
        }
    }

    fn remove_output(&self, output: &Path) {
        if let Err(error) = std::fs::remove_file(output)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(attempt = %self.assignment.attempt, %error, "a map output is left behind");
        }
    }

    fn explain(&self, error: &LifeError) -> Outcome {
        // An order to end it is the reason, whatever that broke.
        let failed = |error: &LifeError| Outcome::Failed(failure(error.kind(), sentence(error)));
        match error.kind() {
            Kind::Killed => self.killed_early().unwrap_or_else(|error| failed(&error)),
            _ => failed(error),
        }
    }
}

/// The last lines of stderr.
fn tail(attempt: AttemptId, logs: &AttemptLogs) -> String {
    match logs.stderr.tail(TEXT_BYTES_MAX as u64) {
        Ok(tail) => short(tail),
        Err(error) => {
            tracing::warn!(%attempt, %error, "stderr cannot be read");
            String::new()
        }
    }
}
