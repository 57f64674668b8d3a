//! A job program's `main`.

use crate::explain::explain;
use crate::flags::RunFlags;
use crate::local::{Observer, Unobserved, run_plan};
use crate::plan::Plan;
use crate::progress::ProgressBars;
use crate::report::Report;
use crate::summary::summary;
use clap::{Args, CommandFactory, FromArgMatches, Parser};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The job or command failed.
const EXIT_FAILED: u8 = 1;
/// The command line makes no sense.
const EXIT_USAGE: u8 = 2;

/// What a program's `job` function may return.
pub trait JobResult {
    /// The error, if there is one, as a sentence.
    fn into_result(self) -> Result<(), Box<dyn Error>>;
}

impl JobResult for () {
    fn into_result(self) -> Result<(), Box<dyn Error>> {
        Ok(())
    }
}

impl<E: Into<Box<dyn Error>>> JobResult for Result<(), E> {
    fn into_result(self) -> Result<(), Box<dyn Error>> {
        self.map_err(Into::into)
    }
}

#[derive(Parser)]
struct CommandLine<A: Args> {
    #[command(flatten)]
    job: A,
    #[command(flatten)]
    run: RunFlags,
}

/// Runs a job program: parses the command line (the program's own arguments and the common ones), lets `job`
/// build the plan, and runs it.
///
/// `job` must describe the same plan whenever it is called with the same arguments. If it returns an error, the
/// arguments are at fault: the sentence is printed and the program ends with status 2. Otherwise the status is 0
/// when the job has committed and 1 when it has failed.
pub fn main<A, R>(job: fn(&A, &mut Plan) -> R) -> ExitCode
where
    A: Args,
    R: JobResult,
{
    let program = program_name();
    let matches = CommandLine::<A>::command().name(program.clone()).bin_name(program.clone()).get_matches();
    let line = CommandLine::<A>::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut plan = Plan::new();
    if let Err(error) = job(&line.job, &mut plan).into_result() {
        eprintln!("{program}: {error}");
        return ExitCode::from(EXIT_USAGE);
    }
    match execute(&program, &line.run, plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn execute(program: &str, flags: &RunFlags, plan: Plan) -> Result<(), Box<dyn Error>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, interrupted.clone())?;
    }
    let options = flags.local_options(program, interrupted);
    let mut state = plan.into_state();
    if flags.explain {
        return print(&explain(&state, &options)?);
    }
    let afterwards = std::mem::take(&mut state.afterwards);
    let mut observer: Box<dyn Observer> = if io::stderr().is_terminal() && !flags.json {
        Box::new(ProgressBars::new())
    } else {
        Box::new(Unobserved)
    };
    let report = run_plan(&state, &options, &mut *observer)?;
    drop(observer);
    if flags.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&report)?));
    }
    for tell in afterwards {
        print(&format!("{}\n", tell(&report)))?;
    }
    show_summary(&report)
}

fn show_summary(report: &Report) -> Result<(), Box<dyn Error>> {
    io::stderr().write_all(summary(report).as_bytes())?;
    Ok(())
}

/// Prints to standard output; a reader that has gone away (`| head`) is no error.
fn print(text: &str) -> Result<(), Box<dyn Error>> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn program_name() -> String {
    let path = std::env::args_os().next().map(std::path::PathBuf::from);
    let name = path.as_ref().and_then(|path| path.file_name());
    name.map_or_else(|| "job".to_owned(), |name| name.to_string_lossy().into_owned())
}
