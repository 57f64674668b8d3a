//! The bootstrap action: a script that every node runs before all else, and what the master hears of a worker's.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use gristmill_proto::auth::{CALLER_TOKEN_METADATA, Role, Secret};
use gristmill_proto::cluster::BootstrapReport;
use gristmill_proto::cluster::bootstrap_report::Phase;
use gristmill_proto::cluster::clusters_client::ClustersClient;
use gristmill_proto::wall_clock;
use thiserror::Error;
use tonic::{Request, Status};

use crate::options::WorkerOptions;

/// The end of the script's output, for people.
const OUTPUT_BYTES_MAX: usize = 4 << 10;
/// How long a master that does not answer is told: it may only just be starting.
const TELL_LIMIT: Duration = Duration::from_secs(60);
/// For one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// For whom tokens of workers are made.
const AUDIENCE: &str = "tasks";

/// Why a node does not join.
#[derive(Debug, Error)]
pub enum BootstrapError {
    /// There is no thread for calls.
    #[error("cannot run the bootstrap action")]
    Runtime(#[source] io::Error),
    /// The script cannot be started.
    #[error("cannot start the bootstrap action {}", script.display())]
    Start {
        /// The script.
        script: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The script says that the node is not ready.
    #[error("the bootstrap action {} ended with {status}: {output}", script.display())]
    Failed {
        /// The script.
        script: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The last of what it wrote.
        output: String,
    },
}

/// Runs the script. Whatever it does, the master hears it; if it fails, the worker does not join.
pub(crate) fn run(
    options: &WorkerOptions,
    script: &Path,
    secret: Option<&Secret>,
) -> Result<(), BootstrapError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(BootstrapError::Runtime)?;
    let tell = |phase: Phase, message: String| {
        let node = format!("{} ({})", options.data_dirs[0].display(), options.host());
        let report = BootstrapReport { node, phase: phase.into(), message };
        runtime.block_on(tell(&options.master, secret, report));
    };
    tell(Phase::Begun, String::new());
    let role = match options.role {
        crate::options::Role::Core => "core",
        crate::options::Role::Task => "task",
    };
    let done = conduct(script, role, Some(&options.master));
    match &done {
        Ok(()) => tell(Phase::Done, String::new()),
        Err(error) => tell(Phase::Broken, gristmill_process::sentence(error)),
    }
    done
}

/// Runs the script of a node with this role, which is told of the master unless it is the master itself.
pub fn conduct(script: &Path, role: &str, master: Option<&str>) -> Result<(), BootstrapError> {
    let failed = |source| BootstrapError::Start { script: script.to_owned(), source };
    // One file for both, as a terminal would show them; a pipe could be held open by what the script leaves running.
    let log = tempfile()?;
    let mut command = Command::new("/bin/sh");
    command.arg(script).env("GRISTMILL_ROLE", role).stdin(Stdio::null());
    if let Some(master) = master {
        command.env("GRISTMILL_MASTER", master);
    }
    command.stdout(log.try_clone().map_err(failed)?).stderr(log.try_clone().map_err(failed)?);
    let status = command.status().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let output = tail(log).map_err(failed)?;
    Err(BootstrapError::Failed { script: script.to_owned(), status, output })
}

/// A file without a name.
fn tempfile() -> Result<std::fs::File, BootstrapError> {
    use rustix::fs::{MemfdFlags, memfd_create};
    let made = memfd_create("bootstrap", MemfdFlags::CLOEXEC);
    made.map(std::fs::File::from).map_err(|error| BootstrapError::Runtime(error.into()))
}

fn tail(log: std::fs::File) -> io::Result<String> {
    use std::os::unix::fs::FileExt;
    let length = log.metadata()?.len();
    let mut bytes = vec![0; OUTPUT_BYTES_MAX.min(usize::try_from(length).unwrap_or(OUTPUT_BYTES_MAX))];
    let offset = length - bytes.len() as u64;
    log.read_exact_at(&mut bytes, offset)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

async fn tell(master: &str, secret: Option<&Secret>, report: BootstrapReport) {
    let started = Instant::now();
    loop {
        let told = tokio::time::timeout(ANSWER_LIMIT, tell_once(master, secret, report.clone())).await;
        let why = match told {
            Ok(Ok(())) => return,
            Ok(Err(status)) => status.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if started.elapsed() > TELL_LIMIT {
            tracing::warn!(master, why, "the master does not hear of the bootstrap action");
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn tell_once(master: &str, secret: Option<&Secret>, report: BootstrapReport) -> Result<(), Status> {
    let unreachable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    let mut client = ClustersClient::connect(format!("http://{master}")).await.map_err(unreachable)?;
    let mut request = Request::new(report);
    if let Some(secret) = secret {
        // A clock before 1970 gives tokens that have expired: the master says so.
        let token = secret.caller_token(Role::Worker, AUDIENCE, wall_clock::now_ms());
        let token = token.parse().map_err(|_| Status::internal("a token is hexadecimal"))?;
        request.metadata_mut().insert(CALLER_TOKEN_METADATA, token);
    }
    client.bootstrap(request).await.map(drop)
}
