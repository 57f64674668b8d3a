//! The client of the distributed file system.
//!
//! ```text
//!   DfsClient ── calls ──> connection ── one stream, many calls in flight ──> master
//!      ├─ create, append ──> FileWriter ── packets ──> worker ──> worker ──> worker
//!      └─ open ──> FileReader <── verified chunks ── nearest replica, or its files on this machine
//! ```
//!
//! From outside the workers' network the same bytes go through the master's port (`route`).
//!
//! The API is for plain threads; calls are asynchronous underneath, on one thread that the client owns. Modules, in
//! reading order: `errors`, `exchange` (the calls in flight, pure), `connection`, `calls`, `leases`; `writer`,
//! `packing` (pure), `block_writer`, `pipeline`, `pace` (pure), `route`; `reader`, `locations`, `range`, `verified`, `remote_replica`,
//! `local_replica`.
#![allow(clippy::result_large_err)] // Errors name everything; they are not on the hot path.

mod address;
mod block_writer;
mod calls;
mod connection;
mod errors;
mod exchange;
mod leases;
mod listing;
mod local_replica;
mod locations;
mod pace;
mod packing;
mod pipeline;
mod range;
mod reader;
mod remote_replica;
mod request;
mod route;
mod verified;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gristmill_proto::auth::Secret;
use gristmill_proto::ids::{ClientId, ClusterId};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::file_system::Access;

pub use calls::RenameMode;
use connection::{Connection, block_on};
pub use errors::{ConnectError, DfsError, ReplicaFailure, TransferError};
use leases::OpenWriters;
pub use listing::{Checks, Entries};
use local_replica::LocalReplicas;
pub use reader::FileReader;
use remote_replica::IdleConnections;
use route::Route;
pub use writer::{CreateOptions, FileWriter};

/// Blocking work of asynchronous callers, as of a store: this many operations at a time.
const BLOCKING_THREADS_MAX: usize = 32;

/// How to connect, and how patient to be.
#[derive(Clone)]
pub struct ClientOptions {
    /// HOST:PORT of the master.
    pub master: String,
    /// The cluster's secret, if it has one.
    pub secret: Option<Secret>,
    /// A token that was made for this client: it is shown instead of one made of the secret.
    pub token: Option<String>,
    /// Who is asking.
    pub user: String,
    /// The groups of the user.
    pub groups: Vec<String>,
    /// This machine's name, as its worker gives it: near replicas are found by it.
    pub host: String,
    /// How long to try for the first greeting of the master.
    pub connect_timeout: Duration,
    /// How long a call may go without an answer, over all reconnections.
    pub call_timeout: Duration,
    /// How long to go on asking while the master says "not yet", "safe mode" or "overloaded".
    pub retry_timeout: Duration,
    /// How long a pipeline of one worker may go without an acknowledgement; a fifth more for each further worker.
    /// Longer than workers give each other, so that they can name the one that failed.
    pub pipeline_timeout: Duration,
    /// How long a replica may take for the next bytes of a read.
    pub read_timeout: Duration,
    /// Whether replicas on this machine are read from their files. They never are from outside the workers' network.
    pub short_circuit: bool,
    /// Whether this client is in the workers' network, whatever it calls the master; if not, the master's greeting
    /// tells. From outside all bytes go through the master's port.
    pub inside: bool,
}

impl ClientOptions {
    /// The defaults, for the user of this process on this machine.
    pub fn new(master: impl Into<String>) -> ClientOptions {
        ClientOptions {
            master: master.into(),
            secret: None,
            token: None,
            user: Access::from_environment().user,
            groups: Vec::new(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            connect_timeout: Duration::from_secs(15),
            call_timeout: Duration::from_secs(60),
            retry_timeout: Duration::from_secs(30),
            pipeline_timeout: Duration::from_secs(15),
            read_timeout: Duration::from_secs(10),
            short_circuit: true,
            inside: false,
        }
    }
}

/// A connection to one cluster's file system. Clones share it. Hadoop: `DFSClient`.
///
/// Its methods block the calling thread, which may be any, also one of an asynchronous runtime.
#[derive(Clone)]
pub struct DfsClient {
    inner: Arc<Inner>,
}

impl fmt::Debug for DfsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DfsClient({} as {})", self.master(), self.inner.options.user)
    }
}

struct Inner {
    options: ClientOptions,
    connection: Arc<Connection>,
    open_writers: OpenWriters,
    /// Connections to workers that wait for another read.
    idle: IdleConnections,
    /// Replicas on this machine that were read lately.
    local: LocalReplicas,
    /// Unique names given out.
    names: AtomicU64,
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Does not wait, so that the last clone may go away on any thread.
            runtime.shutdown_background();
        }
    }
}

impl Inner {
    /// The way to workers, as the master said last.
    pub(crate) fn route(&self) -> Route<'_> {
        Route::of(&self.options, self.connection.welcome().as_deref())
    }
}

impl DfsClient {
    /// Connects, and waits for the master's greeting: [`DfsError::Unreachable`] if it does not come in time, or if the
    /// master refuses this client.
    pub fn connect(options: ClientOptions) -> Result<DfsClient, DfsError> {
        let started = Instant::now();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("dfs-client")
            .enable_all()
            .build()
            .map_err(DfsError::Start)?;
        let handle = runtime.handle().clone();
        let (connection, greeted) = Connection::new(options.clone());
        handle.spawn(connection.clone().run());
        handle.spawn(connection.clone().sweep());
        let inner = Arc::new(Inner {
            options,
            connection,
            open_writers: OpenWriters::default(),
            idle: IdleConnections::default(),
            local: LocalReplicas::default(),
            names: AtomicU64::new(0),
            handle: handle.clone(),
            runtime: Some(runtime),
        });
        handle.spawn(leases::renew(Arc::downgrade(&inner)));

        let limit = inner.options.connect_timeout;
        let waited = handle.spawn(async move { tokio::time::timeout(limit, greeted).await });
        let trouble = match block_on(waited).expect("waiting does not panic") {
            Ok(Ok(Ok(()))) => return Ok(DfsClient { inner }),
            Ok(Ok(Err(refusal))) => refusal,
            Ok(Err(_)) | Err(_) => inner.connection.trouble(),
        };
        Err(DfsError::Unreachable {
            master: inner.options.master.clone(),
            call: "connect to",
            path: "the file system".to_owned(),
            waited_ms: started.elapsed().as_millis() as u64,
            source: trouble,
        })
    }

    /// HOST:PORT of the master, as given.
    pub fn master(&self) -> &str {
        &self.inner.options.master
    }

    /// Threads for asynchronous callers: those of the client, as many for blocking work as it has.
    pub(crate) fn handle(&self) -> &Handle {
        &self.inner.handle
    }

    /// A name that no other call, and no other client, gets.
    pub(crate) fn unique_name(&self) -> String {
        format!("{}-{}", self.id(), self.inner.names.fetch_add(1, Ordering::Relaxed))
    }

    /// The name under which this client holds leases.
    pub fn id(&self) -> ClientId {
        self.inner.connection.client()
    }

    /// The cluster, as the master said at first.
    pub fn cluster(&self) -> Option<ClusterId> {
        let welcome = self.inner.connection.welcome()?;
        ClusterId::from_wire(&welcome.cluster_id)
    }
}
