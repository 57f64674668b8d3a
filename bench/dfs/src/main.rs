//! Measures the file system against a running cluster, beside what the machine can do without it.
//!
//! Modules: `metadata` (calls a second, in the shape of Hadoop's NNThroughputBenchmark), `transfer` (bytes a second,
//! beside local files and a bare TCP stream), `replicated` (what three copies cost), `populate` (a namespace of millions of files), `report` (a worker with a
//! million blocks, and what others wait for it), `figures` (how rates are printed).
#![forbid(unsafe_code)]

mod figures;
mod metadata;
mod populate;
mod replicated;
mod report;
mod transfer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What goes wrong in a benchmark ends it.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
#[command(name = "dfs-bench", about = "Measures the file system", version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Creates, stats, renames and deletes files, many calls in flight
    Metadata(metadata::MetadataOptions),
    /// Writes and reads one large file, each time beside the same work without the file system
    Transfer(transfer::TransferOptions),
    /// Writes one large file with one copy and with three
    Replicated(replicated::ReplicatedOptions),
    /// Fills a namespace with files of one block, while no master runs on it
    Populate(populate::PopulateOptions),
    /// Reports all blocks of a populated namespace as one worker, and measures what stats wait meanwhile
    Report(report::ReportOptions),
}

fn main() -> ExitCode {
    let done = match Options::parse().command {
        Command::Metadata(options) => metadata::run(&options),
        Command::Transfer(options) => transfer::run(&options),
        Command::Replicated(options) => replicated::run(&options),
        Command::Populate(options) => populate::run(&options),
        Command::Report(options) => report::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dfs-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
