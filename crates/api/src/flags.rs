//! The options that every job program has beside its own.

use crate::driver::DriverOptions;
use crate::local::LocalOptions;
use crate::size::ByteSize;
use crate::time_limit::TimeLimit;
use clap::Args;
use gristmill_dataflow::memory::MEMORY_BYTES_MIN;
use gristmill_dfs::file_system::Access;
use gristmill_dfs::{Existing, MASTER_VARIABLE, is_host_and_port};
use gristmill_proto::auth::{Secret, SecretError};
use gristmill_proto::ids::JobId;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Set for what a master runs as a step.
const STEP_VARIABLE: &str = "GRISTMILL_STEP";
/// The job's id of a step that is a job program.
const STEP_JOB_VARIABLE: &str = "GRISTMILL_STEP_JOB";

// No doc comment: clap would show it as the description of the program.
#[derive(Args, Debug)]
#[command(next_help_heading = "Run options")]
pub(crate) struct RunFlags {
    /// Run in this process, on so many threads [default: one a core]; the default, unless GRISTMILL_MASTER is set
    #[arg(long, value_name = "THREADS", num_args = 0..=1, require_equals = true, value_parser = clap::value_parser!(u16).range(1..))]
    local: Option<Option<u16>>,
    /// Run on the cluster of this master [env: GRISTMILL_MASTER, unless --local is given]
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "local", value_parser = master_address)]
    master: Option<String>,
    /// Number of reduce tasks, where the job itself does not say [default: one a thread, at least 2; on a cluster by
    /// the size of the input, at most one a slot]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    reducers: Option<u32>,
    /// Largest piece of input files that one map task reads, e.g. 16MiB [default: 64MiB, or what memory allows]
    #[arg(long, value_name = "BYTES")]
    split_size: Option<ByteSize>,
    /// Memory for the whole process, e.g. 512MiB [default: half of the machine's or container's]; on a cluster for each
    /// attempt [default: its slot's share]
    #[arg(long, value_name = "BYTES", value_parser = memory_size)]
    memory: Option<ByteSize>,
    /// Where spills go when memory is full [default: the temporary directory]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Replace outputs that exist, at the moment the job commits
    #[arg(long, conflicts_with = "append")]
    overwrite: bool,
    /// Add to outputs that exist, at the moment the job commits: new files have the job's id in their names
    #[arg(long)]
    append: bool,
    /// Name of the job in reports [default: the program's]
    #[arg(long, value_name = "S")]
    name: Option<String>,
    /// Print the job's report as JSON on standard output, and no progress
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the plan and do not run it
    #[arg(long)]
    pub(crate) explain: bool,
    /// On a cluster: submit the job, print its id and do not wait for it
    #[arg(long)]
    pub(crate) detach: bool,
    /// On a cluster: the job's id, a UUID; a job that was submitted with it already is waited for, and not run again
    #[arg(long, value_name = "ID", value_parser = job_id)]
    job_id: Option<JobId>,
    /// On a cluster: kill the job when this program ends before it
    #[arg(long, conflicts_with = "detach")]
    kill_on_exit: bool,
    /// On a cluster: the queue whose share the job gets [default: default]
    #[arg(long, value_name = "Q")]
    queue: Option<String>,
    /// On a cluster: jobs of a higher priority go first within their queue [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// On a cluster: so many failed attempts fail a task, and with it the job [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    max_attempts: Option<u32>,
    /// On a cluster: who keeps the map outputs of task workers [default: core]
    #[arg(long, value_enum, value_name = "WHERE")]
    shuffle: Option<ShufflePlace>,
    /// On a cluster: how long the job waits while no worker is there, as 90s or 1h, before it fails [default: 10m]
    #[arg(long, value_name = "TIME")]
    no_worker_timeout: Option<TimeLimit>,
    /// On a cluster: an attempt that reads and writes nothing for so long, as 90s or 1h, has failed [default: 10m]
    #[arg(long, value_name = "TIME")]
    no_progress_timeout: Option<TimeLimit>,
    /// On a cluster: whether an attempt that is much slower than others gets a twin on another worker; whoever is done
    /// first counts [default: on]
    #[arg(long, value_name = "on|off")]
    speculation: Option<Speculation>,
}

/// Whether slow attempts get twins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Speculation {
    On,
    Off,
}

/// Where map outputs of task workers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ShufflePlace {
    /// On core workers: a task worker that vanishes takes along only what it was running
    Core,
    /// Where they were made: fewer bytes are sent, and what a task worker has done is done again if it vanishes
    Local,
}

fn master_address(text: &str) -> Result<String, String> {
    if is_host_and_port(text) { Ok(text.to_owned()) } else { Err("a master is HOST:PORT".to_owned()) }
}

fn job_id(text: &str) -> Result<JobId, String> {
    let sentence = "a job's id is a UUID in small letters, as 0f8fad5b-d9cb-469f-a165-70867728950e";
    JobId::from_text(text).ok_or_else(|| sentence.to_owned())
}

/// The job's id, where this program is a step of a cluster: a master that takes the step up again finds the job that an
/// earlier process of it has submitted. What a step starts itself, as a script does, are other jobs: the step is who
/// leads its process group.
pub fn job_of_step() -> Option<JobId> {
    let leads = rustix::process::getpgrp() == rustix::process::getpid();
    let job = std::env::var(STEP_JOB_VARIABLE).ok().filter(|_| leads)?;
    JobId::from_text(&job)
}

fn memory_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error: crate::size::SizeError| error.to_string())?;
    let least = ByteSize(MEMORY_BYTES_MIN as u64);
    if size < least { Err(format!("a job needs at least {least}")) } else { Ok(size) }
}

impl RunFlags {
    /// HOST:PORT of the master whose cluster runs the job; none: this process does. The error is a sentence.
    pub(crate) fn cluster(&self) -> Result<Option<String>, String> {
        // What is no text is no address either, and is said to be none.
        let named = std::env::var_os(MASTER_VARIABLE).filter(|master| !master.is_empty());
        let named = named.map(|master| master.to_string_lossy().into_owned());
        self.cluster_of(named)
    }

    fn cluster_of(&self, named: Option<String>) -> Result<Option<String>, String> {
        let master = match (&self.master, &self.local, named) {
            (Some(master), ..) => Some(master.clone()),
            (None, Some(_), _) | (None, None, None) => None,
            (None, None, Some(named)) if is_host_and_port(&named) => Some(named),
            (None, None, Some(named)) => {
                return Err(format!(
                    "{MASTER_VARIABLE} is {named:?}, not HOST:PORT: mend it, or give --local"
                ));
            }
        };
        match (&master, self.of_clusters(), &self.scratch) {
            (None, Some(flag), _) => {
                Err(format!("{flag} is for jobs on a cluster: name its master with --master HOST:PORT"))
            }
            (Some(_), _, Some(_)) => {
                Err("--scratch is for jobs in this process: workers have their own scratch space".to_owned())
            }
            _ => Ok(master),
        }
    }

    /// A flag that was given and means nothing in this process.
    fn of_clusters(&self) -> Option<&'static str> {
        let given = [
            (self.detach, "--detach"),
            (self.job_id.is_some(), "--job-id"),
            (self.kill_on_exit, "--kill-on-exit"),
            (self.queue.is_some(), "--queue"),
            (self.priority.is_some(), "--priority"),
            (self.max_attempts.is_some(), "--max-attempts"),
            (self.shuffle.is_some(), "--shuffle"),
            (self.no_worker_timeout.is_some(), "--no-worker-timeout"),
            (self.no_progress_timeout.is_some(), "--no-progress-timeout"),
            (self.speculation.is_some(), "--speculation"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, flag)| flag)
    }

    /// The options of the driver, as whom the environment says.
    pub(crate) fn driver_options(
        &self,
        program: &str,
        arguments: Vec<OsString>,
        master: String,
        interrupted: Arc<AtomicBool>,
    ) -> Result<DriverOptions, SecretError> {
        let access = Access::from_environment();
        Ok(DriverOptions {
            master,
            secret: access.secret_file.as_deref().map(Secret::read).transpose()?,
            groups: access.groups(),
            user: access.user,
            name: self.name.clone().unwrap_or_else(|| program.to_owned()),
            program: program.to_owned(),
            arguments,
            job: self.job_id.or_else(job_of_step),
            queue: self.queue.clone().unwrap_or_default(),
            priority: self.priority.unwrap_or(0),
            attempts_max: self.max_attempts.unwrap_or(0),
            no_worker_ms: self.no_worker_timeout.map_or(0, TimeLimit::as_ms),
            no_progress_ms: self.no_progress_timeout.map_or(0, TimeLimit::as_ms),
            shuffle_local: self.shuffle == Some(ShufflePlace::Local),
            no_twins: self.speculation == Some(Speculation::Off),
            memory_bytes: self.memory.map_or(0, |size| size.0),
            reducers: self.reducers,
            split_bytes: self.split_size.map(|size| size.0),
            existing: self.existing(),
            kill_on_exit: self.kill_on_exit,
            kill_when_interrupted: self.kill_on_exit || std::env::var_os(STEP_VARIABLE).is_some(),
            interrupted,
        })
    }

    fn existing(&self) -> Existing {
        Existing::of(self.overwrite, self.append)
    }

    /// The options of the local runner.
    pub(crate) fn local_options(&self, program: &str, interrupted: Arc<AtomicBool>) -> LocalOptions {
        let standard = LocalOptions::default();
        LocalOptions {
            job: self.name.clone().unwrap_or_else(|| program.to_owned()),
            threads: self.local.flatten().map_or(standard.threads, usize::from),
            memory_bytes: self.memory.map_or(standard.memory_bytes, |size| size.0),
            reducers: self.reducers,
            split_bytes: self.split_size.map(|size| size.0),
            existing: self.existing(),
            scratch: self.scratch.clone().unwrap_or(standard.scratch),
            interrupted,
            ..LocalOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        run: RunFlags,
    }

    fn flags(line: &str) -> Result<RunFlags, String> {
        let line = Line::try_parse_from(std::iter::once("job").chain(line.split_whitespace()));
        line.map(|line| line.run).map_err(|error| error.to_string())
    }

    /// Where a job runs.
    fn place(line: &str, named: &str) -> Result<Option<String>, String> {
        flags(line)?.cluster_of(Some(named.to_owned()).filter(|named| !named.is_empty()))
    }

    #[test]
    fn a_job_runs_here_unless_a_master_is_named() {
        assert_eq!(place("", ""), Ok(None));
        assert_eq!(place("--master h:1", ""), Ok(Some("h:1".to_owned())));
        assert_eq!(place("", "env:2"), Ok(Some("env:2".to_owned())));
        assert_eq!(place("--master h:1", "env:2"), Ok(Some("h:1".to_owned())), "who is asked says it last");
        assert_eq!(place("--local", "env:2"), Ok(None));
        assert_eq!(place("--local=3", "nonsense"), Ok(None));
        assert!(place("--local --master h:1", "").unwrap_err().contains("cannot be used with"));
        assert!(place("--master h", "").unwrap_err().contains("HOST:PORT"));
        assert!(place("", "nonsense").unwrap_err().contains("GRISTMILL_MASTER"));
    }

    #[test]
    fn a_flag_that_would_do_nothing_is_refused() {
        let times = ["--no-worker-timeout 90s", "--no-progress-timeout 10m", "--speculation off"];
        let others = ["--detach", "--kill-on-exit", "--queue q", "--priority -3", "--max-attempts 2"];
        for flag in others.into_iter().chain(times) {
            assert!(place(flag, "").unwrap_err().contains("is for jobs on a cluster"), "{flag}");
            assert_eq!(place(flag, "h:1"), Ok(Some("h:1".to_owned())));
        }
        assert!(place("--scratch /tmp", "h:1").unwrap_err().contains("--scratch"));
        assert!(flags("--detach --kill-on-exit").is_err());
        assert!(flags("--job-id 7").unwrap_err().contains("UUID"));
    }
}
