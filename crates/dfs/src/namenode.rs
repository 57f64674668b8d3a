//! The namenode: which files there are, which blocks they have, and which workers hold them.
//!
//! ```text
//!   clients ──> calls ──> committer ──> namespace (durable, redb)
//!                 │           │ effects          ^
//!                 └ reads ┐   v                  │ decisions
//!                         └> blocks (pure, soft state) ──> orders ──┐
//!   workers ──> attendance ───^   ^── ticker                        │
//!      ^────────────────────────────────────────────────────────────┘
//! ```
//!
//! Modules, in reading order: `namespace` (files, directories, leases; every acknowledged change is durable), `blocks`
//! (replicas and workers; decides, does nothing itself), `effects` and `facts` (what the two say to each other), `leases`
//! (silence of clients), then the shell around them: `state` (what is shared), `committer` (groups of changes), `calls` and `reads` (clients), `attendance`
//! (workers), `ticker` (time), with `callers`, `located`, `reserve` and `clock` beside them.

mod attendance;
pub mod blocks;
mod callers;
mod calls;
mod clock;
mod committer;
pub mod effects;
pub mod facts;
pub mod leases;
mod located;
pub mod namespace;
mod reads;
mod reserve;
mod state;
mod ticker;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use gristmill_proto::attendance::attendance_server::AttendanceServer;
use gristmill_proto::auth::{BlockKey, Secret};
use gristmill_proto::ids::{ClusterId, Epoch, WorkerId};
use gristmill_proto::namespace::namespace_server::NamespaceServer;

pub use attendance::AttendanceService;
use blocks::{Blocks, BlocksOptions};
pub use calls::CallService;
use clock::Clock;
use committer::CommitQueue;
use namespace::{Namespace, NamespaceOpenError, NamespaceOptions, StoreError};
use reserve::Reserve;
use state::State;

/// How a namenode is to be.
#[derive(Clone, Debug)]
pub struct NamenodeOptions {
    /// The owner of `/` in a new namespace, who may do everything.
    pub superuser: String,
    /// Copies of a block where a file does not say; `None`: by the number of live workers.
    pub replication: Option<u32>,
    /// Size of a block where a file does not say.
    pub block_bytes: u64,
    /// Memory for pages of the namespace.
    pub cache_bytes: u64,
    /// A worker silent for this long is lost. It is suspected after five twelfths of that.
    pub worker_lost_ms: u64,
    /// How often workers send heartbeats.
    pub heartbeat_interval_ms: u64,
    /// A writer silent for this long loses its file to another that asks for it.
    pub lease_soft_limit_ms: u64,
    /// The file of a writer silent for this long is closed.
    pub lease_hard_limit_ms: u64,
    /// The safe mode after a start lasts for this long after all blocks are reported.
    pub safe_mode_grace_ms: u64,
    /// What is deleted can be taken back from the trash for this long; 0: there is no trash.
    pub trash_age_ms: u64,
    /// With less free on its disk the namespace takes nothing new.
    pub reserve_bytes: u64,
    /// HOST:PORT by which clients in the workers' network call the master; empty: all clients are in it.
    pub inside_address: String,
}

/// Why a namenode cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NamenodeStartError {
    /// The namespace cannot be opened.
    #[error(transparent)]
    Open(#[from] NamespaceOpenError),
    /// It was opened, and cannot be read.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// The system gives no threads.
    #[error("cannot start the namenode's threads: {0}")]
    Threads(#[source] io::Error),
}

/// A running namenode: its threads, and the services to be added to a gRPC server.
pub struct Namenode {
    state: Arc<State>,
    committer: CommitQueue,
    committing: JoinHandle<()>,
    ticker: Sender<()>,
    ticking: JoinHandle<()>,
}

impl Namenode {
    /// Opens or makes the namespace at `path`, a file, and starts. `open_key` signs the tokens of blocks in a cluster
    /// without a secret; it should be the same in each life of the master, as tokens are.
    pub fn start(
        path: &Path,
        options: NamenodeOptions,
        secret: Option<Secret>,
        open_key: BlockKey,
    ) -> Result<Namenode, NamenodeStartError> {
        let namespace = Namespace::create_or_open(path, namespace_options(&options))?;
        let clock = Clock::start();
        let complete = namespace.snapshot()?.totals().complete_blocks;
        let (cluster, epoch) = (namespace.cluster(), namespace.epoch());
        let now_ms = clock.now_ms();
        let mut blocks = Blocks::new(blocks_options(&options), cluster, epoch, seed(), complete, now_ms);
        for (worker, wanted) in namespace.snapshot()?.worker_states()? {
            blocks.set_worker_state(worker, wanted, now_ms);
        }
        if namespace.snapshot()?.is_safe_mode_set()? {
            blocks.set_safe_mode(true);
        }
        let reserve = Reserve::new(path.parent().unwrap_or(Path::new(".")), options.reserve_bytes);
        let state = Arc::new(State::new(options, namespace, blocks, secret, open_key, clock));
        let started = committer::start(state.clone(), reserve);
        let (committer, committing) = started.map_err(NamenodeStartError::Threads)?;
        let started = ticker::start(state.clone(), committer.clone());
        let (ticker, ticking) = started.map_err(NamenodeStartError::Threads)?;
        Ok(Namenode { state, committer, committing, ticker, ticking })
    }

    /// The cluster whose namespace it is.
    pub fn cluster(&self) -> ClusterId {
        self.state.namespace.cluster()
    }

    /// This master's term.
    pub fn epoch(&self) -> Epoch {
        self.state.epoch()
    }

    /// The owner of `/`, who may do everything.
    pub fn superuser(&self) -> Result<String, StoreError> {
        Ok(self.state.namespace.snapshot()?.superuser().to_owned())
    }

    /// What clients call.
    pub fn namespace_service(&self) -> NamespaceServer<CallService> {
        calls::service(self.state.clone(), self.committer.clone())
    }

    /// What core workers attend.
    pub fn attendance_service(&self) -> AttendanceServer<AttendanceService> {
        attendance::service(self.state.clone(), self.committer.clone())
    }

    /// Where the workers are.
    pub fn whereabouts(&self) -> Whereabouts {
        Whereabouts(self.state.clone())
    }

    /// Waits until the namespace's store has failed, and says how. The process should end then.
    pub async fn failed(&self) -> String {
        let mut failure = self.state.failure();
        let failed = failure.wait_for(Option::is_some).await.map(|failure| failure.clone());
        failed.ok().flatten().unwrap_or_else(|| "the namenode is gone".to_owned())
    }

    /// Ends the threads, once all services are gone: what was submitted is still committed.
    pub fn stop(self) {
        drop(self.ticker);
        self.ticking.join().expect("the ticker does not panic");
        drop(self.committer);
        self.committing.join().expect("the committer does not panic");
    }
}

/// Where the workers' bulk listeners are, now.
#[derive(Clone)]
pub struct Whereabouts(Arc<State>);

impl Whereabouts {
    /// HOST:PORT of the bulk listener of a registered worker that is not lost.
    pub fn of(&self, worker: WorkerId) -> Option<String> {
        self.0.blocks().bulk_address(worker)
    }
}

fn namespace_options(options: &NamenodeOptions) -> NamespaceOptions {
    NamespaceOptions {
        superuser: options.superuser.clone(),
        block_bytes: options.block_bytes,
        lease_soft_limit_ms: options.lease_soft_limit_ms,
        trash: options.trash_age_ms > 0,
        cache_bytes: usize::try_from(options.cache_bytes).unwrap_or(usize::MAX),
        ..NamespaceOptions::default()
    }
}

fn blocks_options(options: &NamenodeOptions) -> BlocksOptions {
    BlocksOptions {
        suspect_after_ms: options.worker_lost_ms * 5 / 12,
        lost_after_ms: options.worker_lost_ms,
        safe_mode_grace_ms: options.safe_mode_grace_ms,
        ..BlocksOptions::default()
    }
}

/// Placement should not be the same in each life of a master.
fn seed() -> u64 {
    let random = gristmill_proto::ids::Incarnation::random();
    u64::from_le_bytes(random.0[..8].try_into().expect("8 of 16 bytes"))
}
