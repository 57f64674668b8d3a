//! The life of a master process.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gristmill_dfs::file_system::Access;
use gristmill_dfs::namenode::namespace::StoreError;
use gristmill_dfs::namenode::{Namenode, NamenodeOptions, NamenodeStartError};
use gristmill_proto::auth::{BindError, Secret, SecretError, check_bind};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tonic::transport::Server;

use crate::core::CoreOptions;
use crate::data_dir::{DataDir, DataDirError};
use crate::gateway::Gateway;
use crate::jobs::{Jobs, JobsOptions, JobsStartError, ProgramLimits, TaskTokens};
use crate::listener::{self, Incoming};
use crate::options::{HttpListen, MasterOptions};
use crate::steps::{Ending, Steps, StepsOptions, StepsStartError};

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
    /// The namespace does not say who owns it.
    #[error("cannot start the master: {0}")]
    Superuser(#[source] StoreError),
    /// The jobs cannot be taken up.
    #[error(transparent)]
    Jobs(#[from] JobsStartError),
    /// The steps cannot be taken up.
    #[error(transparent)]
    Steps(#[from] StepsStartError),
    /// The cluster has come to its end, and that is no good one.
    #[error("{0}")]
    EndedWithErrors(String),
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
    /// The store of the namespace or of the jobs failed while the master ran.
    #[error("the master ended because its store failed: {0}")]
    Store(String),
}

/// Runs a master until SIGTERM or SIGINT, until its cluster has ended, or until a store fails.
pub fn run(options: MasterOptions) -> Result<(), MasterError> {
    let secret = options.secret_file.as_deref().map(Secret::read).transpose()?;
    check_bind(options.listen, secret.as_ref())?;
    if let HttpListen::At(listen) = options.http {
        check_bind(listen, secret.as_ref())?;
    }
    let data_dir = DataDir::lock(&options.data_dir)?;
    data_dir.retract()?;
    data_dir.keep_http_token(secret.as_ref())?;
    let (namespace, open_key) = (data_dir.namespace(), data_dir.open_key()?);
    let namenode = Namenode::start(&namespace, namenode_options(&options), secret.clone(), open_key)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(NETWORK_THREADS)
        .max_blocking_threads(READ_THREADS_MAX)
        .thread_name("network")
        .enable_all()
        .build()
        .map_err(MasterError::Start)?;
    let served = runtime.block_on(start(&options, &data_dir, &namenode, secret));
    if let Ok((running, _)) = &served {
        running.steps.stop();
    }
    runtime.shutdown_timeout(GOODBYE);
    let served = served.and_then(|(running, served)| {
        running.jobs.stop();
        served
    });
    namenode.stop();
    data_dir.retract()?;
    match served? {
        Some(ending) if !ending.well => Err(MasterError::EndedWithErrors(ending.sentence)),
        _ => Ok(()),
    }
}

/// What serves, and is stopped once nobody can call it any more.
struct Running {
    jobs: Jobs,
    steps: Steps,
}

/// None: the master was told to end, and the cluster may go on with another.
type Served = Result<Option<Ending>, MasterError>;

/// Binds the listeners, takes up the jobs, which need to know where, and serves. The jobs are stopped by the caller, once
/// nobody can call them any more.
async fn start(
    options: &MasterOptions,
    data_dir: &DataDir,
    namenode: &Namenode,
    secret: Option<Secret>,
) -> Result<(Running, Served), MasterError> {
    let bind =
        async |listen| listener::bind(listen).await.map_err(|source| MasterError::Listen { listen, source });
    let (listener, address) = bind(options.listen).await?;
    let pages = match options.http {
        HttpListen::Off => None,
        HttpListen::At(listen) => Some(bind(listen).await?),
    };
    let gateway = Arc::new(Gateway::new(namenode.whereabouts(), secret.clone()));
    let jobs_options = jobs_options(options, data_dir, namenode, secret.clone(), address, gateway.clone())?;
    let jobs = Jobs::start(&data_dir.jobs(), jobs_options)?;
    let steps = Steps::start(steps_options(options, data_dir, namenode, secret, address)?, jobs.view())?;
    let running = Running { jobs, steps };
    if let Some((listener, address)) = pages {
        running.jobs.serve_http(listener);
        if let Err(error) = data_dir.announce_http(address) {
            return Ok((running, Err(error.into())));
        }
        tracing::info!(%address, "pages are served");
    }
    let incoming = listener::accept(listener, gateway);
    let served = serve(data_dir, namenode, &running, incoming, address).await;
    Ok((running, served))
}

fn steps_options(
    options: &MasterOptions,
    data_dir: &DataDir,
    namenode: &Namenode,
    secret: Option<Secret>,
    address: SocketAddr,
) -> Result<StepsOptions, MasterError> {
    Ok(StepsOptions {
        store: data_dir.steps(),
        directory: data_dir.step_directories()?,
        cluster_file: options.cluster_file.clone(),
        cluster: namenode.cluster(),
        own_address: own_address(address).to_string(),
        secret,
        secret_file: options.secret_file.clone(),
        superuser: namenode.superuser().map_err(MasterError::Superuser)?,
    })
}

fn jobs_options(
    options: &MasterOptions,
    data_dir: &DataDir,
    namenode: &Namenode,
    secret: Option<Secret>,
    address: SocketAddr,
    gateway: Arc<Gateway>,
) -> Result<JobsOptions, MasterError> {
    let cluster = namenode.cluster();
    let tokens = match &secret {
        Some(secret) => TaskTokens::of_secret(secret, cluster),
        None => {
            let (key, bytes) = data_dir.open_task_key()?;
            TaskTokens::open(key, bytes)
        }
    };
    Ok(JobsOptions {
        core: CoreOptions {
            heartbeat_interval_ms: options.heartbeat_interval_ms,
            suspect_ms: options.worker_lost_ms * 5 / 12,
            lost_ms: options.worker_lost_ms,
            straggler_behind_ms: options.straggler_behind_ms,
            ..CoreOptions::default()
        },
        heartbeat_interval_ms: options.heartbeat_interval_ms,
        lost_ms: options.worker_lost_ms,
        cluster,
        epoch: namenode.epoch(),
        secret,
        tokens,
        superuser: namenode.superuser().map_err(MasterError::Superuser)?,
        programs: ProgramLimits {
            keep: Duration::from_secs(options.program_keep_minutes * 60),
            count_max: options.programs_max,
            bytes_max: options.programs_mib_max << 20,
        },
        own_address: own_address(address),
        gateway,
    })
}

/// Where this process reaches a listener of its own: one on all addresses is on loopback too.
fn own_address(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listening.port())
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
        inside_address: options.advertise.clone().unwrap_or_default(),
    }
}

async fn serve(
    data_dir: &DataDir,
    namenode: &Namenode,
    Running { jobs, steps }: &Running,
    incoming: Incoming,
    address: SocketAddr,
) -> Served {
    let mut terminate = signal(SignalKind::terminate()).map_err(MasterError::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(MasterError::Start)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(namenode.namespace_service())
        .add_service(namenode.attendance_service())
        .add_service(jobs.jobs_service())
        .add_service(jobs.tasks_service())
        .add_service(steps.service())
        .serve_with_incoming_shutdown(incoming, async move {
            // Told to stop, or `serve` is over: either ends the server.
            stopped.await.unwrap_or_default();
        });
    jobs.tick();
    steps.tick();
    data_dir.announce(address)?;
    tracing::info!(%address, cluster = %namenode.cluster(), epoch = %namenode.epoch(), "master is ready");
    tokio::pin!(server);
    let mut ending = None;
    tokio::select! {
        ended = &mut server => return ended.map(|()| None).map_err(MasterError::Serve),
        _ = terminate.recv() => tracing::info!("told to end by SIGTERM"),
        _ = interrupt.recv() => tracing::info!("told to end by SIGINT"),
        ended = steps.ended() => ending = Some(ended),
        failure = steps.failed() => return Err(MasterError::Store(failure)),
        failure = namenode.failed() => return Err(MasterError::Store(failure)),
        failure = jobs.failed() => return Err(MasterError::Store(failure)),
    }
    // Outputs under way may appear: they need the server, which goes on meanwhile.
    let settled = jobs.settle(GOODBYE);
    tokio::select! {
        ended = &mut server => return ended.map(|()| None).map_err(MasterError::Serve),
        () = settled => {}
    }
    if let Some(ending) = &ending {
        tracing::info!(sentence = ending.sentence, "the cluster has ended");
        data_dir.say_end(&ending.record)?;
        jobs.dismiss().await;
    }
    // Streams of workers never end by themselves: they get a moment, not a veto.
    drop(stop);
    match tokio::time::timeout(GOODBYE, server).await {
        Ok(ended) => ended.map(|()| ending).map_err(MasterError::Serve),
        Err(_) => Ok(ending),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_reached_on_loopback() {
        for (listening, own) in [
            ("0.0.0.0:7070", "127.0.0.1:7070"),
            ("[::]:7070", "[::1]:7070"),
            ("10.0.0.1:7070", "10.0.0.1:7070"),
            ("127.0.0.1:7070", "127.0.0.1:7070"),
        ] {
            assert_eq!(own_address(listening.parse().unwrap()), own.parse().unwrap());
        }
    }
}
