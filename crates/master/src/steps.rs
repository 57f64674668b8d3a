//! Steps, and the life of the cluster: what EMR's users expect of a cluster that is made for some work.
//!
//! ```text
//!   users, nodes ──> service ──┐                    ┌──> store (steps.redb)
//!   time, attendance ──────────┼──> shell [ core ] ─┼──> runners: a thread and a process group for each try
//!   runners: how tries ended ──┘                    └──> the end: the master's own
//! ```
//!
//! A step is a program that runs beside the master: the driver of a job, or a script that starts some. What a master's
//! death leaves of a try is killed by the next master, which begins the try again under the same job id: a job that was
//! submitted is found and waited for, so no work is done twice.
//!
//! Modules, in reading order: `core` (what is decided; pure), `store`, `cluster_file` (how a cluster is to live),
//! `shell` (decisions become durable, then are done), `runner` (one try), `program` (where it comes from), `leftovers`
//! (processes of tries), `archive` and `histories` (what outlives the cluster), `service` (gRPC Clusters).

mod archive;
mod cluster_file;
mod core;
mod histories;
mod leftovers;
mod program;
mod runner;
mod service;
mod shell;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gristmill_proto::auth::Secret;
use gristmill_proto::cluster::clusters_server::ClustersServer;
use gristmill_proto::ids::ClusterId;

use crate::jobs::JobsView;
pub use cluster_file::ClusterFileError;
pub use leftovers::LeftoverError;
pub(crate) use service::ClustersService;
use shell::Shell;
pub use store::StepStoreError;

/// Time passes for steps this often: what ends is followed up on at once.
const TICK_INTERVAL: Duration = Duration::from_millis(100);

/// What the shell is given.
pub(crate) struct StepsOptions {
    /// Where steps.redb is.
    pub(crate) store: PathBuf,
    /// Where steps work: one directory each.
    pub(crate) directory: PathBuf,
    /// How the cluster is to live, at its first start.
    pub(crate) cluster_file: Option<PathBuf>,
    pub(crate) cluster: ClusterId,
    /// HOST:PORT at which this process reaches its own services.
    pub(crate) own_address: String,
    pub(crate) secret: Option<Secret>,
    pub(crate) secret_file: Option<PathBuf>,
    /// The owner of `/`.
    pub(crate) superuser: String,
}

/// Why the steps cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum StepsStartError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StepStoreError),
    /// The cluster file cannot be used.
    #[error(transparent)]
    File(#[from] ClusterFileError),
    /// Its first steps make no sense.
    #[error("cannot take the steps of the cluster file: {0}")]
    Steps(String),
    /// Processes of a former master's steps cannot be ended.
    #[error(transparent)]
    Leftover(#[from] LeftoverError),
}

/// How a cluster that has come to its end ended.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// It is TERMINATED, not TERMINATED_WITH_ERRORS.
    pub(crate) well: bool,
    /// Why, for people.
    pub(crate) sentence: String,
    /// The cluster's own record, as JSON.
    pub(crate) record: String,
}

/// The running shell.
#[derive(Clone)]
pub(crate) struct Steps {
    shell: Arc<Shell>,
}

impl Steps {
    /// Opens or makes the store, and goes on from there. What a former master's steps have left running is killed.
    pub(crate) fn start(options: StepsOptions, jobs: JobsView) -> Result<Steps, StepsStartError> {
        Ok(Steps { shell: Shell::start(options, jobs)? })
    }

    /// What users and nodes call.
    pub(crate) fn service(&self) -> ClustersServer<ClustersService> {
        service::service(self.shell.clone())
    }

    /// Lets time pass. Ends with the runtime.
    pub(crate) fn tick(&self) {
        tokio::spawn(tick(self.shell.clone()));
        tokio::spawn(histories::keep_pushing(self.shell.clone()));
    }

    /// Waits for the cluster's end.
    pub(crate) async fn ended(&self) -> Ending {
        self.shell.ended().await
    }

    /// Waits until the store has failed, and says how. The process should end then.
    pub(crate) async fn failed(&self) -> String {
        self.shell.failed().await
    }

    /// Kills what runs: the next master begins it again. Blocks until it has ended.
    pub(crate) fn stop(&self) {
        self.shell.stop();
    }
}

async fn tick(shell: Arc<Shell>) {
    let mut ticks = tokio::time::interval(TICK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // The jobs are gone when the master ends.
        let Some((workers, jobs_live)) = shell.jobs().attendance().await else { return };
        let shell = shell.clone();
        let passed = tokio::task::spawn_blocking(move || shell.tick(workers, jobs_live)).await;
        passed.expect("the tick of steps does not panic");
    }
}
