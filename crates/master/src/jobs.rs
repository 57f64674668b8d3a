//! The shell around the job core: what it decides is made durable, then done.
//!
//! ```text
//!   drivers, users ──> service ──┐                       ┌──> store (redb): all records of a turn, one transaction
//!            ^── watch <─────────┤   queue     turns     │
//!   workers ──> attend ──────────┼──────────> [ Core ] ──┼──> sessions ──> orders to workers
//!            ^── sessions <──────┤                       ├──> publisher ──> outputs in stores, as the job's user
//!   operators ──> http (pages) ──┘                       └──> watchers, answers, log lines
//! ```
//!
//! One thread owns the core and the store ([`turns`]). Whatever happens comes to it through one bounded queue; it takes
//! many at a time, so that one sync serves them all, and nothing it does waits for anybody.
//!
//! Modules, in reading order: `turns` (the thread), `store` (jobs.redb), `sessions` (orders that wait for workers),
//! `watchers` (who looks at a job), `logs` (pages of logs on their way), `journal` (what people read), `publisher`
//! (outputs; `hold` stops it for tests), `directories` (`/.gristmill`) and `programs` (which of them go); then the edges:
//! `shared` (what they share), `callers` (who may), `tokens`, `submission` (limits of a job), `view` (jobs, as steps see
//! them), `service` (gRPC Jobs), `watch`, `attend` and `notices` (gRPC Tasks), `http`, `pages`
//! and `metrics`.

mod attend;
mod callers;
mod directories;
mod hold;
mod http;
mod journal;
mod logs;
mod metrics;
mod notices;
mod pages;
mod programs;
mod publisher;
mod service;
mod sessions;
mod shared;
mod store;
mod submission;
mod tokens;
mod turns;
mod view;
mod watch;
mod watchers;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use gristmill_proto::auth::Secret;
use gristmill_proto::ids::{ClusterId, Epoch};
use gristmill_proto::job::jobs_server::JobsServer;
use gristmill_proto::task::tasks_server::TasksServer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub(crate) use attend::TasksService;
use directories::Directories;
pub(crate) use programs::ProgramLimits;
use publisher::Publisher;
pub(crate) use service::JobsService;
use shared::Shared;
use store::Store;
pub use store::StoreOpenError;
pub(crate) use tokens::TaskTokens;
use turns::{QUEUE_MAX, Turn, TurnSender, Turns};
pub(crate) use view::JobsView;

use crate::core::{Core, CoreOptions};
use crate::gateway::Gateway;

/// Time passes for the core this often; it asks for at least ten times a second.
const TICK_INTERVAL: Duration = Duration::from_millis(50);

/// What the shell is given.
pub(crate) struct JobsOptions {
    pub(crate) core: CoreOptions,
    pub(crate) heartbeat_interval_ms: u64,
    pub(crate) lost_ms: u64,
    pub(crate) cluster: ClusterId,
    pub(crate) epoch: Epoch,
    pub(crate) secret: Option<Secret>,
    pub(crate) tokens: TaskTokens,
    /// The owner of `/`, who may end every job.
    pub(crate) superuser: String,
    /// What is kept of programs that no job uses.
    pub(crate) programs: ProgramLimits,
    /// HOST:PORT at which this process reaches its own services.
    pub(crate) own_address: SocketAddr,
    /// Whose numbers are on the page of metrics.
    pub(crate) gateway: Arc<Gateway>,
}

/// Why the jobs cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum JobsStartError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreOpenError),
    /// The system gives no threads.
    #[error("cannot start the threads for jobs: {0}")]
    Threads(#[source] io::Error),
}

/// The running shell: its threads, and the services to be added to a gRPC server.
pub(crate) struct Jobs {
    shared: Arc<Shared>,
    queue: TurnSender,
    turning: JoinHandle<()>,
    publisher: Arc<Publisher>,
    directories: Directories,
}

impl Jobs {
    /// Whether the store at `path`, which no master has open, is whole; how many records it has.
    pub(crate) fn check(path: &Path) -> Result<u64, StoreOpenError> {
        Store::check(path)
    }

    /// Opens or makes the store at `path`, gives the core what it holds, and goes on from there.
    pub(crate) fn start(path: &Path, options: JobsOptions) -> Result<Jobs, JobsStartError> {
        let store = Store::open(path)?;
        let mut core = Core::new(options.core.clone(), options.epoch);
        let records = store.restore(|record| core.restore(record))?;
        tracing::info!(epoch = %options.epoch, records, jobs = core.jobs().len(), "jobs are restored");
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        let directories = Directories::start(&options, queue.downgrade()).map_err(JobsStartError::Threads)?;
        let publisher = Publisher::start(&options, queue.downgrade()).map_err(JobsStartError::Threads)?;
        let shared = Arc::new(Shared::new(options, directories.ready(), queue.clone()));
        let turns = Turns::new(core, store, shared.facts(), publisher.clone());
        let turning = turns.start(receiver).map_err(JobsStartError::Threads)?;
        Ok(Jobs { shared, queue, turning, publisher, directories })
    }

    /// What drivers and users call.
    pub(crate) fn jobs_service(&self) -> JobsServer<JobsService> {
        service::service(self.shared.clone())
    }

    /// What workers attend.
    pub(crate) fn tasks_service(&self) -> TasksServer<TasksService> {
        attend::service(self.shared.clone())
    }

    /// Lets time pass. Ends with the runtime.
    pub(crate) fn tick(&self) {
        tokio::spawn(turns::tick(self.queue.clone(), TICK_INTERVAL));
    }

    /// What steps see of jobs.
    pub(crate) fn view(&self) -> JobsView {
        JobsView::new(self.shared.secret.clone(), self.queue.downgrade(), self.shared.facts())
    }

    /// Tells all workers that the cluster has ended: they end, too.
    pub(crate) async fn dismiss(&self) {
        if self.queue.send(Turn::Dismiss).await.is_err() {
            tracing::warn!("the workers cannot be told that the cluster has ended");
        }
    }

    /// Serves pages to operators. Ends with the runtime.
    pub(crate) fn serve_http(&self, listener: TcpListener) {
        tokio::spawn(http::serve(listener, self.shared.clone()));
    }

    /// Waits until the store has failed, and says how. The process should end then.
    pub(crate) async fn failed(&self) -> String {
        self.shared.failed().await
    }

    /// Lets the outputs that are being published appear, for at most `patience`; nothing new is begun. Whatever is not
    /// done then is done by the next master. Called while the services still run: the publisher needs them.
    pub(crate) async fn settle(&self, patience: Duration) {
        let publisher = self.publisher.clone();
        let settled = tokio::task::spawn_blocking(move || publisher.settle(patience)).await;
        settled.expect("waiting for outputs does not panic");
    }

    /// Ends the threads, once all services are gone.
    pub(crate) fn stop(self) {
        self.directories.stop();
        drop(self.shared);
        drop(self.queue);
        self.turning.join().expect("the thread of turns does not panic");
    }
}
