//! What the rest of the master sees of jobs: how many there are, and who may ask; and it can end one.

use std::sync::Arc;

use gristmill_proto::auth::{Role, Secret};
use gristmill_proto::ids::JobId;
use gristmill_proto::job_history::JobHistory;
use tokio::sync::mpsc::WeakSender;
use tokio::sync::oneshot;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::callers;
use super::shared::Facts;
use super::turns::Turn;
use crate::core::{Core, Event};

/// The service for which tokens are made: a client of jobs is one of steps, too.
const CLIENT_AUDIENCE: &str = "jobs";
const WORKER_AUDIENCE: &str = "tasks";
/// As many as the record of an ended job has.
const HISTORY_TASKS_MAX: usize = 1000;

/// A view that does not keep the thread of turns alive.
#[derive(Clone)]
pub(crate) struct JobsView {
    secret: Option<Secret>,
    turns: WeakSender<Turn>,
    facts: Arc<Facts>,
}

impl JobsView {
    pub(super) fn new(secret: Option<Secret>, turns: WeakSender<Turn>, facts: Arc<Facts>) -> JobsView {
        JobsView { secret, turns, facts }
    }

    /// How many workers with slots are live, and how many jobs are not over; none once the jobs are gone.
    pub(crate) async fn attendance(&self) -> Option<(u32, u32)> {
        self.look(|core, now_ms| {
            let status = core.cluster(now_ms);
            let live =
                status.workers.iter().filter(|worker| worker.state == "live" && worker.slots > 0).count();
            (live as u32, status.jobs_running + status.jobs_waiting)
        })
        .await
    }

    /// The jobs that have ended and are remembered; none once the jobs are gone.
    pub(crate) async fn ended(&self) -> Option<Vec<JobId>> {
        self.look(|core, _| core.ended_jobs()).await
    }

    /// What became of a job that is remembered.
    pub(crate) async fn history(&self, job: JobId) -> Option<JobHistory> {
        let look = move |core: &Core, _| {
            let tasks = core.tasks(job, None, 0, HISTORY_TASKS_MAX);
            core.status(job).map(|status| JobHistory::new(&status, &tasks))
        };
        self.look(look).await.flatten()
    }

    /// Workers that register from now on push the logs of their attempts there. It never changes.
    pub(crate) fn set_log_place(&self, place: String) {
        if self.facts.log_place.set(place).is_err() {
            tracing::warn!("the place of logs is known already");
        }
    }

    /// Looks at the core between two turns; none once the jobs are gone.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core, u64) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let look = move |core: &Core, now_ms: u64| {
            if answer.send(look(core, now_ms)).is_err() {
                tracing::debug!("who looks at jobs is gone before the answer");
            }
        };
        let turns = self.turns.upgrade()?;
        turns.send(Turn::Read(Box::new(look))).await.ok()?;
        drop(turns);
        answered.await.ok()
    }

    /// Ends a job, if there is such a one and it is not over. Blocks while the queue is full.
    pub(crate) fn kill(&self, job: JobId, reason: String) {
        let Some(turns) = self.turns.upgrade() else { return };
        if turns.blocking_send(Turn::Event(Event::KillJob { job, reason })).is_err() {
            tracing::debug!(%job, "the jobs are gone before one was killed");
        }
    }

    /// Checks the token of a user.
    pub(crate) fn check_client(&self, metadata: &MetadataMap) -> Result<(), Status> {
        callers::check(self.secret.as_ref(), metadata, Role::Client, CLIENT_AUDIENCE)
    }

    /// Checks the token of a worker.
    pub(crate) fn check_worker(&self, metadata: &MetadataMap) -> Result<(), Status> {
        callers::check(self.secret.as_ref(), metadata, Role::Worker, WORKER_AUDIENCE)
    }
}
