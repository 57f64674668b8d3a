//! The `gristmill` program.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal};
use std::process::ExitCode;

use gristmill_cli::Streams;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Listings are written in pieces of this size, not line by line.
const OUTPUT_BUFFER_BYTES: usize = 64 * 1024;

/// What of the program's own diary is shown on stderr, as `debug` or `gristmill_dfs=trace`.
const LOG_VARIABLE: &str = "GRISTMILL_LOG";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let level = if gristmill_cli::is_daemon(&args) { LevelFilter::INFO } else { LevelFilter::WARN };
    let filter = EnvFilter::builder().with_default_directive(level.into()).with_env_var(LOG_VARIABLE);
    let mut filter = filter.from_env_lossy();
    if std::env::var_os(LOG_VARIABLE).is_none() {
        // It calls each refusal of a request an error; clients are told, and that is enough.
        filter = filter.add_directive("s3s=off".parse().expect("a directive"));
    }
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    subscriber.with_ansi(io::stderr().is_terminal()).init();
    if let Some(ended) = gristmill_cli::run_attempt() {
        return ended;
    }
    let out = io::stdout();
    let mut streams = Streams {
        input: Box::new(io::stdin()),
        out_is_terminal: out.is_terminal(),
        err_is_terminal: io::stderr().is_terminal(),
        out: Box::new(BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, out)),
        err: Box::new(io::stderr()),
    };
    gristmill_cli::run(args, &mut streams).into()
}
