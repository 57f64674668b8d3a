//! What people read: one line for each thing that happened, with the ids of all that had a part in it.
//!
//! The core says nothing by itself; the lines are read off the events that it takes, the records that it keeps, and now
//! and then its lists of workers.

use std::collections::{BTreeSet, HashMap};

use gristmill_proto::ids::{AttemptId, JobId};
use gristmill_proto::job::JobStatus;
use gristmill_proto::job::job_status::State;
use gristmill_proto::job_record::Record;
use gristmill_proto::job_record::record::Record as Kind;

use crate::core::{Command, Core, Event, TaskReport};

/// States of workers are looked at this often: the list is long in a large cluster.
const LOOK_INTERVAL_MS: u64 = 1000;

/// What was said before, so that it is said once.
#[derive(Default)]
pub(super) struct Journal {
    /// Stages that are done, by job.
    done_stages: HashMap<JobId, Vec<bool>>,
    /// Jobs with a task that was done in this turn.
    progressed: BTreeSet<JobId>,
    workers: HashMap<u64, String>,
    looked_ms: u64,
}

impl Journal {
    /// An event, as it comes.
    pub(super) fn event(&self, event: &Event) {
        match event {
            Event::Ended { attempt, report: TaskReport::Failed(failure), session, .. } => {
                tracing::warn!(%attempt, session = session.0, kind = ?failure.kind(), message = %failure.message,
                    "attempt failed");
            }
            Event::FetchFailed { reader, output, report, .. } => {
                tracing::warn!(%reader, %output, holder = report.holder, kind = ?report.kind(), detail = %report.detail,
                    "map output cannot be fetched");
            }
            Event::KillJob { job, reason } => tracing::info!(%job, reason, "job is to be killed"),
            Event::KillTask { job, stage, task } => tracing::info!(%job, stage, task, "task is to be killed"),
            Event::KillAttempt { attempt } => tracing::info!(%attempt, "attempt is to be killed"),
            Event::Drain { worker, undo } => tracing::info!(%worker, undo, "worker is to be drained"),
            Event::Leaving { session } => {
                tracing::info!(session = session.0, "worker was told that it will vanish")
            }
            Event::Drained { session } => tracing::info!(session = session.0, "worker is drained"),
            _ => {}
        }
    }

    /// A record, once it is durable.
    pub(super) fn record(&mut self, record: &Record) {
        match record.record.as_ref() {
            Some(Kind::Submitted(submitted)) => {
                let Some(spec) = &submitted.spec else { return };
                let tasks: u64 = spec.stages.iter().map(|stage| u64::from(stage.tasks)).sum();
                tracing::info!(job = job_text(&spec.job), name = %spec.name, user = %spec.user, queue = %spec.queue,
                    stages = spec.stages.len(), tasks, "job submitted");
            }
            Some(Kind::Won(won)) => {
                tracing::debug!(attempt = id(won.attempt.as_ref()), "task is done");
                if let Some(job) = won.attempt.as_ref().and_then(|attempt| JobId::from_wire(&attempt.job)) {
                    self.progressed.insert(job);
                }
            }
            Some(Kind::Lost(lost)) => {
                tracing::warn!(
                    attempt = id(lost.attempt.as_ref()),
                    "map output is lost: its task runs again"
                );
            }
            Some(Kind::Cut(cut)) => {
                tracing::info!(job = job_text(&cut.job), shuffle = cut.shuffle, "ranges are cut");
            }
            Some(Kind::Committing(committing)) => {
                tracing::info!(job = job_text(&committing.job), "job commits");
            }
            Some(Kind::Ended(ended)) => {
                let Some(status) = &ended.status else { return };
                let (state, reason) = (status.state(), status.reason.as_str());
                tracing::info!(job = job_text(&status.job), ?state, reason, "job ended");
                if let Some(job) = JobId::from_wire(&status.job) {
                    self.done_stages.remove(&job);
                }
            }
            Some(Kind::Forgotten(forgotten)) => {
                tracing::info!(job = job_text(&forgotten.job), "job forgotten")
            }
            Some(Kind::TaskWorkers(_) | Kind::Failures(_)) | None => {}
        }
    }

    /// A command, as it is carried out.
    pub(super) fn command(&self, command: &Command) {
        match command {
            Command::Admit { job, known } => tracing::info!(%job, known, "job admitted"),
            Command::Refuse { job, refusal } => tracing::warn!(%job, ?refusal, "job refused"),
            Command::Launch { session, launch } => {
                tracing::debug!(
                    attempt = id(launch.attempt.as_ref()),
                    session = session.0,
                    "attempt launched"
                );
            }
            Command::Kill { session, attempt, reason } => {
                tracing::info!(%attempt, session = session.0, reason, "attempt is killed");
            }
            _ => {}
        }
    }

    /// The end of a turn: what only the state as a whole shows.
    pub(super) fn turned(&mut self, core: &Core, now_ms: u64) {
        for job in std::mem::take(&mut self.progressed) {
            if let Some(status) = core.status(job) {
                self.stages(job, &status);
            }
        }
        if now_ms >= self.looked_ms + LOOK_INTERVAL_MS {
            self.looked_ms = now_ms;
            self.look_at_workers(core, now_ms);
        }
    }

    fn stages(&mut self, job: JobId, status: &JobStatus) {
        if matches!(status.state(), State::Done | State::Failed | State::Killed) {
            return;
        }
        let done = self.done_stages.entry(job).or_default();
        done.resize(status.stages.len(), false);
        for (number, (stage, said)) in status.stages.iter().zip(done).enumerate() {
            let is = stage.tasks > 0 && stage.done == stage.tasks;
            if is && !*said {
                tracing::info!(%job, stage = number, name = %stage.name, tasks = stage.tasks, "stage done");
            }
            *said = is;
        }
    }

    fn look_at_workers(&mut self, core: &Core, now_ms: u64) {
        let mut seen = HashMap::with_capacity(self.workers.len());
        for worker in core.cluster(now_ms).workers {
            let before = self.workers.get(&worker.worker);
            if before.is_some_and(|before| *before != worker.state) {
                tracing::info!(worker = worker.worker, address = %worker.address, state = %worker.state,
                    last_heartbeat_ms = worker.last_heartbeat_ms, "worker's state changed");
            }
            seen.insert(worker.worker, worker.state);
        }
        self.workers = seen;
    }
}

fn id(id: Option<&gristmill_proto::task::AttemptId>) -> String {
    id.and_then(|id| AttemptId::from_wire(id).ok()).map_or_else(|| "(none)".to_owned(), |id| id.to_string())
}

fn job_text(id: &[u8]) -> String {
    JobId::from_wire(id).map_or_else(|| "(none)".to_owned(), |job| job.to_string())
}
