//! The `gristmill` program: daemons and tools in one binary.
//!
//! ```text
//! gristmill master                 decides, and holds the namespace
//! gristmill worker                 holds blocks
//! gristmill fs ls|put|get|...      files of any file system
//! ```
//!
//! docs/operating.md explains them to users.
#![forbid(unsafe_code)]

mod daemon;
mod exit;
mod fs;

use std::ffi::OsString;
use std::io::{Read, Write};

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
    /// Runs a master: it holds the namespace of dfs:// and knows where the blocks are.
    Master(gristmill_master::MasterOptions),
    /// Runs a worker: it keeps blocks of dfs://, and serves them.
    Worker(gristmill_worker::WorkerOptions),
    /// Works with files of dfs://, file:// and memory://.
    Fs(fs::Fs),
}

/// Runs the program with `args`, the first of which is its own name.
pub fn run(args: impl IntoIterator<Item = OsString>, streams: &mut Streams<'_>) -> Exit {
    let args = fs::as_we_spell(args.into_iter().collect());
    match Program::try_parse_from(args) {
        Ok(Program { command: Command::Fs(fs) }) => fs.run(streams),
        Ok(Program { command: Command::Master(options) }) => {
            daemon::run(gristmill_master::run, options, streams)
        }
        Ok(Program { command: Command::Worker(options) }) => {
            daemon::run(gristmill_worker::run, options, streams)
        }
        Err(error) => exit::explain(&error, streams),
    }
}
