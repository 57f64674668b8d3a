//! `submit`: runs a job program as the driver, and lets go of the job as soon as the master has it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use gristmill_proto::ids::JobId;
use serde_json::json;

use super::client::{JobsClient, Master};
use super::wait::wait;
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;

/// Submits a job and prints its id
#[derive(Args)]
pub(crate) struct Submit {
    /// Waits for the job's end, and ends as it did
    #[arg(long)]
    wait: bool,
    /// How long the job waits while no worker is there, as 90s or 1h, before it fails [default: 10m]
    #[arg(long, value_name = "TIME")]
    no_worker_timeout: Option<String>,
    /// An attempt that reads and writes nothing for so long, as 90s or 1h, has failed [default: 10m]
    #[arg(long, value_name = "TIME")]
    no_progress_timeout: Option<String>,
    /// A job program
    #[arg(value_name = "PROGRAM")]
    program: PathBuf,
    /// Its arguments, and its run options
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

impl Submit {
    pub(crate) fn run(self, master: &Master, console: &mut Console) -> Result<Exit, Failure> {
        let job = self.submit(&master.address)?;
        if console.json {
            console.object(&json!({ "job": job.to_string() }))?;
        } else {
            console.line(job.to_string())?;
        }
        if !self.wait {
            return Ok(Exit::Done);
        }
        console.flush()?;
        wait(&JobsClient::of(master)?, job, console)
    }

    /// The program says what is wrong itself, on our stderr, and the job's id on its stdout.
    fn submit(&self, master: &str) -> Result<JobId, Failure> {
        let program = as_started(&self.program);
        let mut driver = Command::new(&program);
        driver.args(&self.args).args(["--master", master, "--detach"]);
        let limits = [
            ("--no-worker-timeout", &self.no_worker_timeout),
            ("--no-progress-timeout", &self.no_progress_timeout),
        ];
        for (flag, limit) in limits {
            driver.args(limit.iter().flat_map(|limit| [flag, limit]));
        }
        driver.stdin(Stdio::null()).stderr(Stdio::inherit());
        let ended = driver.output().map_err(|source| Failure::Start { program: program.clone(), source })?;
        if !ended.status.success() {
            return Err(Failure::Submit { program, status: ended.status });
        }
        id(&ended.stdout).ok_or_else(|| {
            let name = program.display();
            Failure::Refused(format!("{name} ended without having named its job: it is not a job program"))
        })
    }
}

/// A file here is meant before a program somewhere in PATH.
fn as_started(program: &Path) -> PathBuf {
    match program.components().count() {
        1 if program.is_file() => Path::new(".").join(program),
        _ => program.to_owned(),
    }
}

/// The id that a driver printed, and nothing else.
fn id(stdout: &[u8]) -> Option<JobId> {
    JobId::from_text(std::str::from_utf8(stdout).ok()?.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_says_an_id_and_nothing_else() {
        let job = JobId([0xab; 16]);
        assert_eq!(id(format!("{job}\n").as_bytes()), Some(job));
        assert_eq!(id(b""), None);
        assert_eq!(id(format!("hello\n{job}\n").as_bytes()), None);
        assert_eq!(id(&[0xff]), None);
    }
}
