//! What all edges of the shell share.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use gristmill_proto::auth::Secret;
use gristmill_proto::ids::{ClusterId, Epoch, JobId};
use gristmill_proto::job::JobStatus;
use tokio::sync::{oneshot, watch};
use tonic::Status;

use super::JobsOptions;
use super::tokens::TaskTokens;
use super::turns::{Turn, TurnSender};
use crate::core::Core;
use crate::gateway::Gateway;

/// Jobs that are looked at between two turns: the workers do not wait for a list.
pub(super) const LOOK_JOBS_MAX: usize = 32;

/// What the thread of turns needs to know of the master.
pub(super) struct Facts {
    pub(super) cluster: ClusterId,
    pub(super) epoch: Epoch,
    pub(super) heartbeat_interval_ms: u64,
    pub(super) lost_ms: u64,
    pub(super) tokens: TaskTokens,
    pub(super) started: Instant,
    /// The URI below which workers push logs of attempts, once it is known that there is one.
    pub(super) log_place: OnceLock<String>,
    failure: watch::Sender<Option<String>>,
}

impl Facts {
    /// Milliseconds of the monotonic clock since the start.
    pub(super) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// The store cannot be trusted any more: the process has to end; what is committed is safe.
    pub(super) fn fail(&self, error: String) {
        tracing::error!(epoch = %self.epoch, %error, "the store of jobs failed: the master ends");
        self.failure.send_replace(Some(error));
    }
}

/// Milliseconds since 1970, for people and for tokens. Before 1970 it stands at 0.
pub(super) fn wall_ms() -> u64 {
    gristmill_proto::wall_clock::now_ms()
}

/// What the services share.
pub(super) struct Shared {
    facts: Arc<Facts>,
    pub(super) secret: Option<Secret>,
    pub(super) superuser: String,
    pub(super) ready: watch::Receiver<bool>,
    pub(super) gateway: Arc<Gateway>,
    queue: TurnSender,
}

impl Shared {
    pub(super) fn new(options: JobsOptions, ready: watch::Receiver<bool>, queue: TurnSender) -> Shared {
        let facts = Arc::new(Facts {
            cluster: options.cluster,
            epoch: options.epoch,
            heartbeat_interval_ms: options.heartbeat_interval_ms,
            lost_ms: options.lost_ms,
            tokens: options.tokens,
            started: Instant::now(),
            log_place: OnceLock::new(),
            failure: watch::Sender::new(None),
        });
        let (secret, superuser, gateway) = (options.secret, options.superuser, options.gateway);
        Shared { facts, secret, superuser, ready, gateway, queue }
    }

    pub(super) fn facts(&self) -> Arc<Facts> {
        self.facts.clone()
    }

    pub(super) fn cluster(&self) -> ClusterId {
        self.facts.cluster
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.facts.epoch
    }

    pub(super) fn uptime_ms(&self) -> u64 {
        self.facts.now_ms()
    }

    /// Puts something before the core, when there is room.
    pub(super) async fn send(&self, turn: Turn) -> Result<(), Status> {
        self.queue.send(turn).await.map_err(|_| ending())
    }

    /// Looks at the core between two turns: what is seen is durable.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core, u64) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let (answer, answered) = oneshot::channel();
        let look = move |core: &Core, now_ms: u64| {
            if answer.send(look(core, now_ms)).is_err() {
                tracing::debug!("a reader is gone before its answer");
            }
        };
        self.send(Turn::Read(Box::new(look))).await?;
        answered.await.map_err(|_| ending())
    }

    /// Looks at some jobs, at most [`LOOK_JOBS_MAX`].
    pub(super) async fn statuses(&self, jobs: Vec<JobId>) -> Result<Vec<JobStatus>, Status> {
        self.read(move |core, _| jobs.iter().filter_map(|&job| core.status(job)).collect()).await
    }

    /// Waits for the store's failure.
    pub(super) async fn failed(&self) -> String {
        let mut failure = self.facts.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await.map(|failure| failure.clone());
        failed.ok().flatten().unwrap_or_else(|| "the shell of jobs is gone".to_owned())
    }
}

/// The answer to whoever asks while the thread of turns is gone.
pub(super) fn ending() -> Status {
    Status::unavailable("the master is ending")
}
