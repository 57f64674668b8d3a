//! The life of the process.

use std::env::{self, VarError};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::credentials::{
    ACCESS_KEY_VARIABLE, CREDENTIALS_FILE, CredentialError, Credentials, SECRET_KEY_VARIABLE,
};
use crate::options::S3ServerOptions;
use crate::server::{S3Server, ServeError, bind};
use crate::store::OpenError;

/// Threads for the network.
const NETWORK_THREADS: usize = 2;
/// Threads that may wait for the disk: requests that need one more wait for it.
const DISK_THREADS_MAX: usize = 64;
/// How long what still runs may keep the process after its server has ended.
const GOODBYE: Duration = Duration::from_secs(2);
/// The file that says where the server listens: scripts that let the system choose a port read it.
const ADDRESS_FILE: &str = "address";

/// Why a server cannot start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A variable of the environment is no text.
    #[error("the variable {name} is not UTF-8")]
    Variable {
        /// Its name.
        name: &'static str,
    },
    /// There is no key pair.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// Strangers could come by, and the key pair is none that somebody chose.
    #[error(
        "cannot listen on {listen}: without {ACCESS_KEY_VARIABLE} and {SECRET_KEY_VARIABLE} the server takes \
         loopback addresses only"
    )]
    Strangers {
        /// The address.
        listen: SocketAddr,
    },
    /// The directory cannot be served.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The file `address` cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Address {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Threads, signals.
    #[error("cannot start the server: {0}")]
    Start(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Runs a server until SIGTERM or SIGINT, or until its store fails.
pub fn run(options: S3ServerOptions) -> Result<(), RunError> {
    let chosen = chosen_credentials()?;
    let S3ServerOptions { dir, listen } = options;
    if chosen.is_none() && !listen.ip().is_loopback() {
        return Err(RunError::Strangers { listen });
    }
    fs::create_dir_all(&dir).map_err(|source| OpenError::Make { path: dir.clone(), source })?;
    let is_made = chosen.is_none();
    let credentials = match chosen {
        Some(credentials) => credentials,
        None => Credentials::of_directory(&dir)?,
    };
    let server = S3Server::open(&dir, credentials)?;
    retract(&dir)?;
    let listener = bind(listen).map_err(|source| RunError::Listen { listen, source })?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(NETWORK_THREADS)
        .max_blocking_threads(DISK_THREADS_MAX)
        .thread_name("network")
        .enable_all()
        .build()
        .map_err(RunError::Start)?;
    if is_made {
        tracing::info!(file = %dir.join(CREDENTIALS_FILE).display(), "the key pair is in this file");
    }
    let served = runtime.block_on(serve(&server, listener, &dir));
    runtime.shutdown_timeout(GOODBYE);
    retract(&dir)?;
    served
}

fn chosen_credentials() -> Result<Option<Credentials>, RunError> {
    let variable = |name: &'static str| match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(RunError::Variable { name }),
    };
    let (access_key, secret_key) = (variable(ACCESS_KEY_VARIABLE)?, variable(SECRET_KEY_VARIABLE)?);
    Ok(Credentials::from_variables(access_key.as_deref(), secret_key.as_deref())?)
}

async fn serve(server: &S3Server, listener: std::net::TcpListener, dir: &Path) -> Result<(), RunError> {
    let listener = TcpListener::from_std(listener).map_err(RunError::Start)?;
    let address = listener.local_addr().map_err(RunError::Start)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Start)?;
    announce(dir, address)?;
    tracing::info!(%address, "S3 server is ready; it is for laptops and tests");
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("told to end by SIGTERM"),
            _ = interrupt.recv() => tracing::info!("told to end by SIGINT"),
        }
    };
    Ok(server.serve(listener, stop).await?)
}

/// Says where the server listens. The file appears whole, and only once calls are taken.
fn announce(dir: &Path, address: SocketAddr) -> Result<(), RunError> {
    let path = dir.join(ADDRESS_FILE);
    let draft = dir.join("address.draft");
    let written = fs::write(&draft, format!("{address}\n")).and_then(|()| fs::rename(&draft, &path));
    written.map_err(|source| RunError::Address { path, source })
}

/// Removes the address of a former life, which nobody should find.
fn retract(dir: &Path) -> Result<(), RunError> {
    let path = dir.join(ADDRESS_FILE);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(RunError::Address { path, source }),
        _ => Ok(()),
    }
}
