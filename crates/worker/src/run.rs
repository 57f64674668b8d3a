//! The life of a worker process.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gristmill_dfs::datanode::block_store::{BlockStore, StoreOpenError, StoreOptions};
use gristmill_dfs::datanode::scrub::Scrubber;
use gristmill_dfs::datanode::{
    Attendance, AttendanceError, AttendanceOptions, BulkOptions, BulkServer, LocalSocket, LocalSocketError,
    Standing,
};
use gristmill_proto::auth::{BindError, Secret, SecretError, check_bind};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::options::WorkerOptions;

/// How long transfers may go on in a worker that was told to end.
const GOODBYE: Duration = Duration::from_secs(3);
/// Between two tries to reach the master: the first and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Why a worker cannot start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The address would be open to strangers.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The disks cannot be used.
    #[error(transparent)]
    Store(#[from] StoreOpenError),
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The way for readers on this machine cannot be made.
    #[error(transparent)]
    LocalSocket(#[from] LocalSocketError),
    /// Threads, signals.
    #[error("cannot start the worker: {0}")]
    Start(#[source] io::Error),
    /// The master does not take this worker.
    #[error(transparent)]
    Attendance(#[from] AttendanceError),
    /// The worker cannot end in order.
    #[error("cannot end the worker in order: {0}")]
    Stop(#[source] io::Error),
}

/// Runs a worker until SIGTERM or SIGINT, or until the master refuses it for good.
pub fn run(options: WorkerOptions) -> Result<(), WorkerError> {
    let secret = options.secret_file.as_deref().map(Secret::read).transpose()?;
    check_bind(options.listen, secret.as_ref())?;
    let reserve_bytes = options.reserve_mib * 1024 * 1024;
    let store =
        BlockStore::open(&options.data_dirs, StoreOptions { reserve_bytes, ..StoreOptions::default() })?;
    let listen = options.listen;
    let listener = TcpListener::bind(listen).map_err(|source| WorkerError::Listen { listen, source })?;
    let standing = Arc::new(Standing::new(Duration::from_millis(options.lease_ms)));
    let ack_timeout = Duration::from_millis(options.ack_timeout_ms);
    let bulk = BulkOptions { ack_timeout, ..BulkOptions::default() };
    let server =
        BulkServer::start(listener, store.clone(), standing.clone(), bulk).map_err(WorkerError::Start)?;
    let server = Arc::new(server);
    let local = local_socket(&options, &server)?;
    let attending = attendance_options(&options, secret, &server, local.as_ref());
    let attendance = Attendance::new(attending, store.clone(), standing, server.clone())?;
    let stop = Arc::new(AtomicBool::new(false));
    let scrubbing = scrub(&options, store, stop.clone()).map_err(WorkerError::Start)?;

    let attended = attend(&attendance);
    stop.store(true, Ordering::Release);
    let left = server.stop(GOODBYE).map_err(WorkerError::Stop)?;
    if left > 0 {
        tracing::warn!(left, "transfers were cut off");
    }
    local.map(LocalSocket::stop).transpose().map_err(WorkerError::Stop)?;
    scrubbing.join().expect("the scrubber does not panic");
    attended
}

/// Readers on this machine open blocks through a socket in the first directory. A path too long for a socket only costs
/// them the short way.
fn local_socket(options: &WorkerOptions, server: &BulkServer) -> Result<Option<LocalSocket>, WorkerError> {
    match LocalSocket::start(&options.data_dirs[0], server) {
        Ok(socket) => Ok(Some(socket)),
        Err(error @ LocalSocketError::PathTooLong { .. }) => {
            tracing::warn!(%error, "readers on this machine use the network");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn attendance_options(
    options: &WorkerOptions,
    secret: Option<Secret>,
    server: &BulkServer,
    local: Option<&LocalSocket>,
) -> AttendanceOptions {
    let port = server.address().port();
    let address = match (&options.advertise, server.address().ip().is_unspecified()) {
        (Some(host), _) => format!("{host}:{port}"),
        (None, true) => format!(":{port}"),
        (None, false) => server.address().to_string(),
    };
    let named = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    AttendanceOptions {
        master: options.master.clone(),
        secret,
        address,
        host: options.host.clone().unwrap_or_else(named),
        rack: options.rack.clone(),
        socket: local.and_then(|local| local.path().to_str()).unwrap_or_default().to_owned(),
        retry: RETRY,
    }
}

fn scrub(options: &WorkerOptions, store: BlockStore, stop: Arc<AtomicBool>) -> io::Result<JoinHandle<()>> {
    let scrubber = Scrubber { bytes_per_s: options.scrub_mib_per_s * 1024 * 1024, ..Scrubber::default() };
    thread::Builder::new().name("scrubber".to_owned()).spawn(move || scrubber.run(&store, &stop))
}

/// Attends until a signal, or until the master refuses this worker.
fn attend(attendance: &Attendance) -> Result<(), WorkerError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(WorkerError::Start)?;
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(WorkerError::Start)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(WorkerError::Start)?;
        let (stop, stopped) = watch::channel(false);
        let attending = attendance.run(stopped);
        tokio::pin!(attending);
        tokio::select! {
            ended = &mut attending => return ended.map_err(WorkerError::from),
            _ = terminate.recv() => tracing::info!("told to end by SIGTERM"),
            _ = interrupt.recv() => tracing::info!("told to end by SIGINT"),
        }
        stop.send_replace(true);
        attending.await.map_err(WorkerError::from)
    });
    runtime.shutdown_timeout(GOODBYE);
    ended
}
