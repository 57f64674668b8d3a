//! The life of a master process.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use gristmill_dfs::file_system::Access;
use gristmill_dfs::namenode::{Namenode, NamenodeOptions, NamenodeStartError};
use gristmill_proto::auth::{BindError, Secret, SecretError, check_bind};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tonic::transport::Server;

use crate::data_dir::{DataDir, DataDirError};
use crate::listener;
use crate::options::MasterOptions;

/// Threads for the network: control messages are small.
const NETWORK_THREADS: usize = 2;
/// Threads for reads of the namespace, which may wait for the disk.
const READ_THREADS_MAX: usize = 16;
/// A connection on which nothing is heard for this long is asked whether it lives,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// and closed when it does not answer for this long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long open streams may keep a master that was told to end.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why a master cannot start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// The secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The address would be open to strangers.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The namenode does not start.
    #[error(transparent)]
    Namenode(#[from] NamenodeStartError),
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// Threads, signals.
    #[error("cannot start the master: {0}")]
    Start(#[source] io::Error),
    /// The server broke.
    #[error("cannot go on serving: {0}")]
    Serve(#[source] tonic::transport::Error),
    /// The namespace's store failed while the master ran.
    #[error("the master ended because its store failed: {0}")]
    Store(String),
}

/// Runs a master until SIGTERM or SIGINT, or until its store fails.
pub fn run(options: MasterOptions) -> Result<(), MasterError> {
    let secret = options.secret_file.as_deref().map(Secret::read).transpose()?;
    check_bind(options.listen, secret.as_ref())?;
    let data_dir = DataDir::lock(&options.data_dir)?;
    data_dir.retract()?;
    let namenode =
        Namenode::start(&data_dir.namespace(), namenode_options(&options), secret, data_dir.open_key()?)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(NETWORK_THREADS)
        .max_blocking_threads(READ_THREADS_MAX)
        .thread_name("network")
        .enable_all()
        .build()
        .map_err(MasterError::Start)?;
    let served = runtime.block_on(serve(&options, &data_dir, &namenode));
    runtime.shutdown_timeout(GOODBYE);
    namenode.stop();
    data_dir.retract()?;
    served
}

fn namenode_options(options: &MasterOptions) -> NamenodeOptions {
    NamenodeOptions {
        // Who starts the first master owns the file system.
        superuser: Access::from_environment().user,
        replication: options.replication,
        block_bytes: options.block_mib * 1024 * 1024,
        cache_bytes: options.cache_mib * 1024 * 1024,
        worker_lost_ms: options.worker_lost_ms,
        heartbeat_interval_ms: options.heartbeat_interval_ms,
        lease_soft_limit_ms: options.lease_soft_limit_ms,
        lease_hard_limit_ms: options.lease_hard_limit_ms,
        safe_mode_grace_ms: options.safe_mode_grace_ms,
        trash_age_ms: options.trash_minutes * 60 * 1000,
        reserve_bytes: options.reserve_mib * 1024 * 1024,
    }
}

async fn serve(options: &MasterOptions, data_dir: &DataDir, namenode: &Namenode) -> Result<(), MasterError> {
    let listen = options.listen;
    let (listener, address) =
        listener::bind(listen).await.map_err(|source| MasterError::Listen { listen, source })?;
    let mut terminate = signal(SignalKind::terminate()).map_err(MasterError::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(MasterError::Start)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(namenode.namespace_service())
        .add_service(namenode.attendance_service())
        .serve_with_incoming_shutdown(listener::accept(listener), async move {
            // Told to stop, or `serve` is over: either ends the server.
            stopped.await.unwrap_or_default();
        });
    data_dir.announce(address)?;
    tracing::info!(%address, cluster = %namenode.cluster(), epoch = %namenode.epoch(), "master is ready");
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => return ended.map_err(MasterError::Serve),
        _ = terminate.recv() => tracing::info!("told to end by SIGTERM"),
        _ = interrupt.recv() => tracing::info!("told to end by SIGINT"),
        failure = namenode.failed() => return Err(MasterError::Store(failure)),
    }
    // Streams of workers never end by themselves: they get a moment, not a veto.
    drop(stop);
    match tokio::time::timeout(GOODBYE, server).await {
        Ok(ended) => ended.map_err(MasterError::Serve),
        Err(_) => Ok(()),
    }
}
