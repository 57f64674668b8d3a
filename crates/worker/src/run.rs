//! The life of a worker process.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use gristmill_dfs::datanode::block_store::{BlockStore, StoreOpenError, StoreOptions};
use gristmill_dfs::datanode::scrub::Scrubber;
use gristmill_dfs::datanode::{
    Attendance, AttendanceError, AttendanceOptions, BulkOptions, BulkServer, LocalSocket, Standing,
};
use gristmill_proto::auth::{BindError, Secret, SecretError, check_bind};
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::address_file::AddressFile;
use crate::options::WorkerOptions;

const MIB: u64 = 1 << 20;
/// Between two tries to reach the master: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long what asks a sick disk may hold up the end of the process.
const RUNTIME_GOODBYE: Duration = Duration::from_secs(1);

/// Why a worker cannot start, or ends.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// The secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The address would be open to strangers.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The data directories cannot be used.
    #[error(transparent)]
    Store(#[from] StoreOpenError),
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The address file cannot be written or removed.
    #[error("{}: cannot keep the address file", directory.display())]
    AddressFile {
        /// The first data directory.
        directory: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Threads, signals.
    #[error("cannot start the worker")]
    Start(#[source] io::Error),
    /// Listeners that do not end.
    #[error("cannot end the worker well")]
    End(#[source] io::Error),
    /// The master does not want this worker, ever.
    #[error(transparent)]
    Attendance(#[from] AttendanceError),
}

/// Runs a core worker until SIGTERM or SIGINT, or until its master refuses it for good.
pub fn run(options: WorkerOptions) -> Result<(), WorkerError> {
    let secret = options.secret_file.as_deref().map(Secret::read).transpose()?;
    check_bind(options.listen, secret.as_ref())?;
    let reserve_bytes = options.reserve_mib.saturating_mul(MIB);
    let store =
        BlockStore::open(&options.data_dirs, StoreOptions { reserve_bytes, ..StoreOptions::default() })?;
    let home = options.data_dirs[0].clone();
    let address_file = |source| WorkerError::AddressFile { directory: home.clone(), source };
    AddressFile::retract(&home).map_err(address_file)?;

    let listen = options.listen;
    let listener = TcpListener::bind(listen).map_err(|source| WorkerError::Listen { listen, source })?;
    let standing = Arc::new(Standing::new(Duration::from_millis(options.lease_ms)));
    let server = BulkServer::start(listener, store.clone(), Arc::clone(&standing), bulk_options(&options));
    let server = Arc::new(server.map_err(WorkerError::Start)?);
    let socket = short_circuit(&home, &server);
    let attendance_options = attendance_options(&options, secret, server.address(), socket.as_ref());
    let attendance = Attendance::new(attendance_options, store.clone(), standing, Arc::clone(&server))?;
    let scrubbing = Scrubbing::start(options.scrub_mib_per_s, store).map_err(WorkerError::Start)?;
    // One thread is enough for the control messages. From here on signals end the worker well.
    let runtime = Runtime::new().map_err(WorkerError::Start)?;
    let announced = AddressFile::write(&home, server.address()).map_err(address_file)?;
    tracing::info!(address = %server.address(), "worker is ready");

    let attended = runtime.attend(&attendance);
    tracing::info!("worker is ending");
    announced.remove().map_err(address_file)?;
    let left = server.stop(Duration::from_millis(options.goodbye_ms)).map_err(WorkerError::End)?;
    if left > 0 {
        tracing::warn!(connections = left, "ends in the middle of their blocks");
    }
    socket.map_or(Ok(()), LocalSocket::stop).map_err(WorkerError::End)?;
    scrubbing.stop();
    attended
}

fn bulk_options(options: &WorkerOptions) -> BulkOptions {
    BulkOptions {
        transfers_max: options.transfers,
        // As many again may be idle.
        connections_max: options.transfers * 2,
        peer_connections_max: options.transfers * 3 / 2,
        ack_timeout: Duration::from_millis(options.ack_timeout_ms),
        copy_bytes_per_s: options.copy_mib_per_s.saturating_mul(MIB),
        ..BulkOptions::default()
    }
}

/// The short circuit, unless there can be none: everything is served over TCP as well.
fn short_circuit(home: &Path, server: &BulkServer) -> Option<LocalSocket> {
    let started = std::path::absolute(home).map(|home| LocalSocket::start(&home, server));
    match started {
        Ok(Ok(socket)) => Some(socket),
        Ok(Err(error)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "local readers have no short circuit");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "local readers have no short circuit");
            None
        }
    }
}

fn attendance_options(
    options: &WorkerOptions,
    secret: Option<Secret>,
    address: SocketAddr,
    socket: Option<&LocalSocket>,
) -> AttendanceOptions {
    // Where it listens on all addresses, the master sees the one to use.
    let address =
        if address.ip().is_unspecified() { format!(":{}", address.port()) } else { address.to_string() };
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    AttendanceOptions {
        master: options.master.clone(),
        secret,
        address,
        host: options.host.clone().unwrap_or_else(host),
        rack: options.rack.clone(),
        socket: socket.map_or_else(String::new, |socket| socket.path().display().to_string()),
        retry: RETRY,
    }
}

/// What runs the attendance, and listens to signals.
struct Runtime {
    runtime: tokio::runtime::Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Runtime {
    fn new() -> io::Result<Runtime> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (terminate, interrupt) = {
            let _inside = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        Ok(Runtime { runtime, terminate, interrupt })
    }

    /// Attends at the master until a signal comes.
    fn attend(mut self, attendance: &Attendance) -> Result<(), WorkerError> {
        let ended = self.runtime.block_on(async {
            let (_stop, stopped) = watch::channel(false);
            tokio::select! {
                ended = attendance.run(stopped) => ended.map_err(WorkerError::Attendance),
                _ = self.terminate.recv() => Ok(()),
                _ = self.interrupt.recv() => Ok(()),
            }
        });
        self.runtime.shutdown_timeout(RUNTIME_GOODBYE);
        ended
    }
}

/// The scrubber's thread.
struct Scrubbing {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scrubbing {
    /// Scrubs `store`, or not at all at a rate of 0.
    fn start(mib_per_s: u64, store: BlockStore) -> io::Result<Scrubbing> {
        let stop = Arc::new(AtomicBool::new(false));
        if mib_per_s == 0 {
            return Ok(Scrubbing { stop, thread: None });
        }
        let scrubber = Scrubber { bytes_per_s: mib_per_s.saturating_mul(MIB), ..Scrubber::default() };
        let stopped = Arc::clone(&stop);
        let thread =
            Builder::new().name("scrubber".to_owned()).spawn(move || scrubber.run(&store, &stopped))?;
        Ok(Scrubbing { stop, thread: Some(thread) })
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}
