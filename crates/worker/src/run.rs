//! The life of a worker process.

use std::fs;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use gristmill_dataflow::shuffle::OutputStoreError;
use gristmill_dfs::datanode::AttendanceError;
use gristmill_dfs::datanode::block_store::StoreOpenError;
use gristmill_proto::auth::{BindError, Secret, SecretError, check_bind};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::address_file::AddressFile;
use crate::attendant::{Attendant, IdentityFile, TasksError, Who};
use crate::bootstrap::{self, BootstrapError};
use crate::core_role::CoreRole;
use crate::jobs_side::{JobsSide, Shuffle};
use crate::options::{Role, WorkerOptions};
use crate::scratch::ScratchError;

/// Between two tries to reach the master: the first, and the longest.
pub(crate) const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long logs of attempts that wait to be pushed may hold up the end of the process.
const LOGS_GOODBYE: Duration = Duration::from_secs(4);
/// How long what asks a sick disk may hold up the end of the process.
const RUNTIME_GOODBYE: Duration = Duration::from_secs(1);
/// Threads for what waits for disks: asking them for their room, one question at a time.
const BLOCKING_THREADS_MAX: usize = 4;

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
    /// A task worker's data directory cannot be made.
    #[error("{}: cannot make the data directory", directory.display())]
    Home {
        /// The directory.
        directory: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The scratch directories cannot be used.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The map outputs of an earlier life cannot be looked at.
    #[error(transparent)]
    Outputs(#[from] OutputStoreError),
    /// The node does not get ready.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
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
    /// The master does not want this worker's blocks, ever.
    #[error(transparent)]
    Attendance(#[from] AttendanceError),
    /// The master does not want this worker's attempts, ever.
    #[error(transparent)]
    Tasks(#[from] TasksError),
}

/// Runs a worker until SIGTERM or SIGINT, or until its master refuses it for good.
pub fn run(options: WorkerOptions) -> Result<(), WorkerError> {
    // From here on signals end the worker well.
    let signals = || {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
    };
    live(&options, signals)
}

/// Runs a worker until `stop` comes about, or until its master refuses it for good: for a process that hosts one.
/// Blocks the calling thread, which must be none of an asynchronous runtime's.
pub fn run_until(options: WorkerOptions, stop: impl Future<Output = ()>) -> Result<(), WorkerError> {
    live(&options, || Ok(stop))
}

/// `stop` is made in the worker's own runtime.
fn live<F: Future<Output = ()>>(
    options: &WorkerOptions,
    stop: impl FnOnce() -> io::Result<F>,
) -> Result<(), WorkerError> {
    let secret = options.secret_file.as_deref().map(Secret::read).transpose()?;
    check_bind(options.listen, secret.as_ref())?;
    check_bind(options.shuffle_listen(), secret.as_ref())?;
    if let Some(script) = &options.bootstrap {
        bootstrap::run(options, script, secret.as_ref())?;
    }
    let home = options.data_dirs[0].clone();
    let address_file = |source| WorkerError::AddressFile { directory: home.clone(), source };
    let store = match options.role {
        Role::Core => Some(CoreRole::open_store(options)?),
        Role::Task => {
            let mut builder = fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(&home);
            made.map_err(|source| WorkerError::Home { directory: home.clone(), source })?;
            None
        }
    };
    // Locks a task worker's directories, as the store does a core worker's.
    let jobs = JobsSide::start(options, secret.clone())?;
    AddressFile::retract(&home).map_err(address_file)?;
    let core = store.map(|store| CoreRole::start(options, store, secret.clone())).transpose()?;
    let (who, address) = match &core {
        Some(core) => (Who::Core(Box::new(core.who())), core.address()),
        None => (Who::Task(IdentityFile::new(&home)), jobs.address()),
    };
    let (shuffle_address, log_pusher) = (jobs.address(), jobs.log_pusher());
    let (attendant, shuffle) = jobs.attendant(options, secret, who).map_err(WorkerError::Start)?;

    // One thread is enough for the control messages.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.max_blocking_threads(BLOCKING_THREADS_MAX).enable_all().build();
    let runtime = runtime.map_err(WorkerError::Start)?;
    let stop = {
        let _inside = runtime.enter();
        stop().map_err(WorkerError::Start)?
    };
    let announced = AddressFile::write(&home, address).map_err(address_file)?;
    tracing::info!(%address, shuffle = %shuffle_address, slots = options.slots(), "worker is ready");
    let attended = runtime.block_on(attend(core.as_ref(), attendant, stop));
    runtime.shutdown_timeout(RUNTIME_GOODBYE);
    tracing::info!("worker is ending");
    announced.remove().map_err(address_file)?;
    log_pusher.finish(LOGS_GOODBYE);
    end(core, shuffle, Duration::from_millis(options.goodbye_ms))?;
    attended
}

/// Attends at the master in both roles until `stop`, or until one of them is refused for good.
async fn attend(
    core: Option<&CoreRole>,
    attendant: Attendant,
    stop: impl Future<Output = ()>,
) -> Result<(), WorkerError> {
    let (tell, told) = watch::channel(false);
    let blocks = async {
        let ended = match core {
            Some(core) => core.attend(told.clone()).await.map_err(WorkerError::Attendance),
            None => {
                // The sender lives as long as this.
                let mut told = told.clone();
                told.wait_for(|stop| *stop)
                    .await
                    .map(drop)
                    .map_err(|gone| WorkerError::End(io::Error::other(gone)))
            }
        };
        tell.send_replace(true);
        ended
    };
    let attempts = async {
        let ended = attendant.run(told.clone()).await.map_err(WorkerError::Tasks);
        tell.send_replace(true);
        ended
    };
    let stop = async {
        let mut ended = told.clone();
        tokio::select! {
            () = stop => drop(tell.send_replace(true)),
            _ = ended.wait_for(|stop| *stop) => {}
        }
    };
    let (blocks, attempts, ()) = tokio::join!(blocks, attempts, stop);
    blocks.and(attempts)
}

fn end(core: Option<CoreRole>, shuffle: Shuffle, goodbye: Duration) -> Result<(), WorkerError> {
    // Both at once: readers of either wait for nothing.
    let shuffle = std::thread::Builder::new().name("goodbye".to_owned()).spawn(move || shuffle.stop(goodbye));
    let shuffle = shuffle.map_err(WorkerError::End)?;
    let blocks = core.map_or(Ok(()), |core| core.stop(goodbye));
    let shuffle = shuffle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    blocks.and(shuffle)
}

/// A listener, or the reason why there is none.
pub(crate) fn listener(listen: SocketAddr) -> Result<TcpListener, WorkerError> {
    TcpListener::bind(listen).map_err(|source| WorkerError::Listen { listen, source })
}

/// An address as others are told it. Where it is on all addresses, the master sees the one to use.
pub(crate) fn told_address(address: SocketAddr) -> String {
    if address.ip().is_unspecified() { format!(":{}", address.port()) } else { address.to_string() }
}
