//! The `gristmill` program: daemons and tools in one binary.
//!
//! ```text
//! gristmill master                     decides, and holds the namespace
//! gristmill worker                     holds blocks, and runs tasks
//! gristmill fs ls|put|get|distcp|...   files of any file system
//! gristmill job submit|status|...      jobs
//! gristmill cluster create|...         whole clusters
//! gristmill s3-server                  a local S3, for laptops and tests
//! ```
//!
//! docs/operating.md explains them to users.
#![forbid(unsafe_code)]

mod cluster;
mod console;
mod daemon;
mod exit;
mod failure;
mod fs;
mod health;
mod job;
mod master;
mod record_file;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::ExitCode;

use clap::Parser;

pub use daemon::is_daemon;
pub use exit::Exit;

/// What a command reads and writes: of the process, or of a test.
pub struct Streams<'a> {
    /// What `-` reads.
    pub input: Box<dyn Read + 'a>,
    /// Results.
    pub out: Box<dyn Write + 'a>,
    /// Failures, one sentence each, and progress.
    pub err: Box<dyn Write + 'a>,
    /// Whether people look at `out`: names are made harmless then.
    pub out_is_terminal: bool,
    /// Whether people look at `err`: progress is shown then.
    pub err_is_terminal: bool,
}

/// A MapReduce cluster's daemons and tools.
#[derive(Parser)]
#[command(name = "gristmill", version, arg_required_else_help = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Runs a master: it holds the namespace of dfs://, knows where the blocks are, and has jobs run.
    Master(master::HostOptions),
    /// Runs a worker: it keeps blocks of dfs:// and serves them, and runs tasks of jobs.
    Worker(gristmill_worker::WorkerOptions),
    /// Works with files of dfs://, file:// and memory://.
    Fs(fs::Fs),
    /// Submits jobs to a cluster and looks after them.
    Job(job::Job),
    /// Makes clusters, looks at them, ends them.
    Cluster(cluster::Cluster),
    /// Says whether a daemon of this machine takes connections.
    Health(health::Health),
    /// Runs a local S3 server, for laptops and tests.
    #[command(name = "s3-server")]
    S3Server(gristmill_s3_server::S3ServerOptions),
}

/// If a worker has started this process for an attempt at a task, runs that: the program is a job program too, for
/// `fs distcp`.
pub fn run_attempt() -> Option<ExitCode> {
    gristmill::run_attempt(fs::distcp::job::job)
}

/// Runs the program with `args`, the first of which is its own name.
pub fn run(args: impl IntoIterator<Item = OsString>, streams: &mut Streams<'_>) -> Exit {
    let args = fs::as_we_spell(args.into_iter().collect());
    match Program::try_parse_from(args) {
        Ok(Program { command: Command::Fs(fs) }) => fs.run(streams),
        Ok(Program { command: Command::Job(job) }) => job.run(streams),
        Ok(Program { command: Command::Cluster(cluster) }) => cluster.run(streams),
        Ok(Program { command: Command::Health(health) }) => health.run(streams),
        Ok(Program { command: Command::Master(options) }) => daemon::run(master::run, options, streams),
        Ok(Program { command: Command::Worker(options) }) => {
            daemon::run(gristmill_worker::run, options, streams)
        }
        Ok(Program { command: Command::S3Server(options) }) => {
            daemon::run(gristmill_s3_server::run, options, streams)
        }
        Err(error) => exit::explain(&error, streams),
    }
}
