//! `gristmill master`: a master, and with it a core worker if the cluster has no other.
//!
//! ```text
//!   gristmill_master::run ── address ──> hosting ── any workers? ── no ──> gristmill_worker::run, on threads
//! ```
//!
//! So one process is a whole cluster. The two crates know nothing of each other: they meet over loopback, as if they were
//! two processes, and both end by the process's signals.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, Parser, ValueEnum};
use gristmill_dfs::file_system::Access;
use gristmill_master::{CheckError, MasterError, MasterOptions};
use gristmill_proto::auth::{Secret, SecretError};
use gristmill_worker::{BootstrapError, WorkerError, WorkerOptions, conduct_bootstrap};
use rustix::process::{Signal, getpid, kill_process};

use crate::daemon::DaemonError;
use crate::exit::Exit;
use crate::job::client::{CallError, JobsClient, Master};

/// How long workers have to come before the master helps itself.
const WORKERS_COME_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks.
const POLL: Duration = Duration::from_millis(20);
/// For the worker to end after the master: longer than it gives its blocks.
const GOODBYE: Duration = Duration::from_secs(10);

/// Options of `gristmill master`.
#[derive(Args)]
pub(crate) struct HostOptions {
    #[command(flatten)]
    master: MasterOptions,
    /// A script of /bin/sh that runs before all else, each time the master starts; where it fails, the master ends
    #[arg(long, value_name = "FILE")]
    bootstrap: Option<PathBuf>,
    /// Whether the master's process is a core worker, too: its data is in the directory `worker` of --data-dir
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    worker: Hosting,
}

/// When a master's process is a core worker, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Hosting {
    /// If it was one before, or no worker comes within 2 seconds
    Auto,
    /// Never
    Never,
    /// From the start
    Always,
}

/// Why a master, or the worker in it, ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error(transparent)]
    Master(#[from] MasterError),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error("the worker in the master's process ended")]
    Worker(#[from] WorkerError),
    #[error("the master's process cannot be a worker, too")]
    Call(#[from] CallError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the options of the worker in the master's process make no sense: {0}")]
    Options(String),
    #[error("cannot start the worker in the master's process")]
    Start(#[source] std::io::Error),
}

impl DaemonError for HostError {
    fn exit(&self) -> Exit {
        match self {
            HostError::Master(MasterError::EndedWithErrors(_)) => Exit::EndedWithErrors,
            _ => Exit::Failed,
        }
    }
}

/// Runs a master, and a worker if need be, until SIGTERM or SIGINT.
pub(crate) fn run(options: HostOptions) -> Result<(), HostError> {
    if options.master.check {
        return Ok(gristmill_master::check(&options.master, &mut std::io::stdout().lock())?);
    }
    if let Some(script) = &options.bootstrap {
        conduct_bootstrap(script, "master", None)?;
    }
    if options.worker == Hosting::Never {
        return Ok(gristmill_master::run(options.master)?);
    }
    let host = Host::of(&options);
    let ended = Arc::clone(&host.ended);
    let hosting = Builder::new().name("hosting".to_owned()).spawn(move || host.run());
    let hosting = hosting.map_err(HostError::Start)?;
    let served = gristmill_master::run(options.master);
    ended.store(true, Ordering::Release);
    // If the store has failed, the worker knows nothing of the end: nothing is lost when it ends with the process.
    served?;
    finish(hosting)
}

/// Waits for the worker, which got the same signal as the master.
fn finish(hosting: JoinHandle<Result<(), HostError>>) -> Result<(), HostError> {
    let started = Instant::now();
    while !hosting.is_finished() {
        if started.elapsed() > GOODBYE {
            tracing::warn!("the worker in the master's process does not end: it ends with the process");
            return Ok(());
        }
        thread::sleep(POLL);
    }
    hosting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What the hosting thread needs to know of its master.
struct Host {
    hosting: Hosting,
    data_dir: PathBuf,
    listen: SocketAddr,
    secret_file: Option<PathBuf>,
    started: SystemTime,
    ended: Arc<AtomicBool>,
}

impl Host {
    fn of(options: &HostOptions) -> Host {
        Host {
            hosting: options.worker,
            data_dir: options.master.data_dir.clone(),
            listen: options.master.listen,
            secret_file: options.master.secret_file.clone(),
            started: SystemTime::now(),
            ended: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Runs the worker if there has to be one.
    fn run(self) -> Result<(), HostError> {
        let outcome = self.host();
        if outcome.is_err() && !self.ended.load(Ordering::Acquire) {
            // The master alone would be a cluster that does nothing: it ends in order.
            kill_process(getpid(), Signal::TERM).map_err(|error| HostError::Start(error.into()))?;
        }
        outcome
    }

    fn host(&self) -> Result<(), HostError> {
        let Some(address) = self.address() else { return Ok(()) };
        if !self.is_wanted(address)? {
            return Ok(());
        }
        let options = self.worker_options(address)?;
        tracing::info!(data_dir = %self.data_dir().display(), "the master's process is a core worker, too");
        Ok(gristmill_worker::run(options)?)
    }

    fn data_dir(&self) -> PathBuf {
        self.data_dir.join("worker")
    }

    /// Where this process reaches the master, once that listens; nothing if it ends before.
    fn address(&self) -> Option<SocketAddr> {
        let said = self.data_dir.join("address");
        while !self.ended.load(Ordering::Acquire) {
            if let Some(address) = announced(&said, self.started) {
                return Some(reachable(address));
            }
            thread::sleep(POLL);
        }
        None
    }

    /// Whether the cluster needs this worker.
    fn is_wanted(&self, address: SocketAddr) -> Result<bool, HostError> {
        if self.hosting == Hosting::Always || self.data_dir().is_dir() {
            return Ok(true);
        }
        let secret = self.secret_file.as_deref().map(Secret::read).transpose()?;
        let user = Access::from_environment().user;
        let jobs = JobsClient::of(&Master { address: address.to_string(), secret, user })?;
        let since = Instant::now();
        while since.elapsed() < WORKERS_COME_WITHIN {
            if self.ended.load(Ordering::Acquire) {
                return Ok(false);
            }
            match jobs.describe_within(Duration::ZERO) {
                Ok(status) if status.workers.is_empty() => {}
                Ok(_) => return Ok(false),
                Err(error) => tracing::debug!(%error, "cannot count the workers yet"),
            }
            thread::sleep(POLL);
        }
        Ok(true)
    }

    /// As a user would start a worker beside the master.
    fn worker_options(&self, address: SocketAddr) -> Result<WorkerOptions, HostError> {
        /// The same options as those of `gristmill worker`, with the same defaults.
        #[derive(Parser)]
        struct CommandLine {
            #[command(flatten)]
            options: WorkerOptions,
        }
        let (master, listen) = (address.to_string(), SocketAddr::new(self.listen.ip(), 0).to_string());
        let mut line: Vec<std::ffi::OsString> =
            ["worker", "--role", "core", "--master", &master, "--listen", &listen, "--data-dir"]
                .map(Into::into)
                .to_vec();
        line.push(self.data_dir().into());
        if let Some(secret) = &self.secret_file {
            line.extend(["--secret-file".into(), secret.into()]);
        }
        match CommandLine::try_parse_from(line) {
            Ok(parsed) => Ok(parsed.options),
            Err(error) => Err(HostError::Options(error.to_string())),
        }
    }
}

/// The address in a file that was written since `started`: an older one is of a former life.
fn announced(file: &Path, started: SystemTime) -> Option<SocketAddr> {
    // File systems keep time by a clock that may be a tick behind.
    const TICK: Duration = Duration::from_millis(10);
    let written = fs::metadata(file).and_then(|metadata| metadata.modified()).ok()?;
    if written + TICK < started {
        return None;
    }
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Where a process on the same machine finds what listens there.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_former_life_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("address");
        assert_eq!(announced(&file, SystemTime::UNIX_EPOCH), None);
        fs::write(&file, "0.0.0.0:77\n").unwrap();
        let before = announced(&file, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(reachable(before), "127.0.0.1:77".parse().unwrap());
        assert_eq!(announced(&file, SystemTime::now() + Duration::from_secs(1)), None);
    }

    #[test]
    fn the_worker_has_the_options_that_its_master_implies() {
        let host = Host {
            hosting: Hosting::Always,
            data_dir: "/data".into(),
            listen: "10.0.0.1:7070".parse().unwrap(),
            secret_file: Some("/secret".into()),
            started: SystemTime::now(),
            ended: Arc::default(),
        };
        let options = host.worker_options("10.0.0.1:7070".parse().unwrap()).unwrap();
        assert_eq!(options.master, "10.0.0.1:7070");
        assert_eq!(options.listen, "10.0.0.1:0".parse().unwrap());
        assert_eq!(options.data_dirs, [PathBuf::from("/data/worker")]);
        assert_eq!(options.secret_file, Some("/secret".into()));
    }
}
