//! A job program's `main`.

use crate::attempt;
use crate::driver::{Display, Driver, DriverOptions, Submitted};
use crate::explain::explain_local;
use crate::flags::RunFlags;
use crate::local::{LocalOptions, Observer, Unobserved, run_plan};
use crate::plan::{Afterwards, Plan, PlanState};
use crate::progress::{ClusterBars, ProgressBars, Warnings};
use crate::summary::summary;
use clap::{Args, CommandFactory, FromArgMatches, Parser};
use gristmill_dfs::assume;
use gristmill_proto::report::Report;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The job or command failed.
const EXIT_FAILED: u8 = 1;
/// Interrupted for the second time: as a shell says of a program that SIGINT has ended.
const EXIT_INTERRUPTED: i32 = 130;
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
/// build the plan, and runs it: in this process, or on the cluster whose master `--master` or GRISTMILL_MASTER names.
/// A worker of a cluster starts the same program again for each attempt at a task.
///
/// `job` must describe the same plan whenever it is called with the same arguments. If it returns an error, the
/// arguments are at fault: the sentence is printed and the program ends with status 2. Otherwise the status is 0
/// when the job has committed and 1 when it has failed.
pub fn main<A, R>(job: fn(&A, &mut Plan) -> R) -> ExitCode
where
    A: Args,
    R: JobResult,
{
    if let Some(ended) = run_attempt(job) {
        return ended;
    }
    let program = program_name();
    let matches = command::<A>(&program).get_matches();
    let line = CommandLine::<A>::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let arguments = std::env::args_os().skip(1).collect();
    let (sentence, status) = match start(&program, arguments, &line, job) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Ended::Usage(sentence)) => (sentence, EXIT_USAGE),
        Err(Ended::Failed(error)) => (error.to_string(), EXIT_FAILED),
    };
    eprintln!("{program}: {sentence}");
    ExitCode::from(status)
}

/// In a program that is more than a job: if a worker has started this process for an attempt, runs it. Such a program calls
/// this first, and [`run`] when it is asked for the job.
pub fn run_attempt<A, R>(job: fn(&A, &mut Plan) -> R) -> Option<ExitCode>
where
    A: Args,
    R: JobResult,
{
    let build = |arguments, broadcasts| build_again(job, arguments, broadcasts);
    attempt::is_one().then(|| attempt::main(&build))
}

/// Runs a job within a program that is more than that, as [`main`] would if `arguments` were the command line. Attempts of the
/// job come to [`run_attempt`].
pub fn run<A, R>(program: &str, arguments: Vec<OsString>, job: fn(&A, &mut Plan) -> R) -> Result<(), Ended>
where
    A: Args,
    R: JobResult,
{
    let words = std::iter::once(OsString::from(program)).chain(arguments.iter().cloned());
    let matches = command::<A>(program).try_get_matches_from(words);
    let line = matches.and_then(|matches| CommandLine::<A>::from_arg_matches(&matches));
    let line = line.map_err(|error| Ended::Usage(error.to_string()))?;
    start(program, arguments, &line, job)
}

/// How a program ends that did not do what it should.
pub enum Ended {
    /// The command line makes no sense.
    Usage(String),
    /// The job failed.
    Failed(Box<dyn Error>),
}

impl<E: Into<Box<dyn Error>>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn command<A: Args>(program: &str) -> clap::Command {
    CommandLine::<A>::command().name(program.to_owned()).bin_name(program.to_owned())
}

/// In an attempt: the plan once more, from the driver's arguments and broadcasts.
fn build_again<A: Args, R: JobResult>(
    job: fn(&A, &mut Plan) -> R,
    arguments: Vec<OsString>,
    broadcasts: Vec<Vec<u8>>,
) -> Result<PlanState, String> {
    let program = program_name();
    let line = std::iter::once(OsString::from(&program)).chain(arguments);
    let matches = command::<A>(&program).try_get_matches_from(line);
    let line = matches.and_then(|matches| CommandLine::<A>::from_arg_matches(&matches));
    let line = line.map_err(|error| error.to_string())?;
    let mut plan = Plan::with_broadcasts(broadcasts);
    job(&line.job, &mut plan).into_result().map_err(|error| error.to_string())?;
    Ok(plan.into_state())
}

fn start<A: Args, R: JobResult>(
    program: &str,
    arguments: Vec<OsString>,
    line: &CommandLine<A>,
    job: fn(&A, &mut Plan) -> R,
) -> Result<(), Ended> {
    let cluster = line.run.cluster().map_err(Ended::Usage)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let cluster = match cluster {
        None => None,
        Some(master) => {
            let options = line.run.driver_options(program, arguments, master, interrupted.clone())?;
            // Before the program's own function: what it broadcasts may come from dfs://.
            assume(options.identity());
            Some(options)
        }
    };
    let mut plan = Plan::new();
    job(&line.job, &mut plan).into_result().map_err(|error| Ended::Usage(error.to_string()))?;
    for signal in [SIGINT, SIGTERM] {
        // The first one asks; whoever sends another means now. In this order, or the first would be taken for the second.
        flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED, interrupted.clone())?;
        flag::register(signal, interrupted.clone())?;
    }
    let mut state = plan.into_state();
    let afterwards = std::mem::take(&mut state.afterwards);
    let report = match cluster {
        None => here(&line.run, &line.run.local_options(program, interrupted), &state)?,
        Some(options) => there(&line.run, &options, &state)?,
    };
    match report {
        Some(report) => tell(&line.run, &report, afterwards).map_err(Ended::Failed),
        None => Ok(()),
    }
}

/// Runs the job in this process. None: there is nothing more to tell.
fn here(
    flags: &RunFlags,
    options: &LocalOptions,
    state: &PlanState,
) -> Result<Option<Report>, Box<dyn Error>> {
    if flags.explain {
        print(&explain_local(state, options)?)?;
        return Ok(None);
    }
    let mut observer: Box<dyn Observer> =
        if shows_progress(flags) { Box::new(ProgressBars::new()) } else { Box::new(Unobserved) };
    Ok(Some(run_plan(state, options, &mut *observer)?))
}

/// Has a cluster run the job. None: there is nothing more to tell.
fn there(
    flags: &RunFlags,
    options: &DriverOptions,
    state: &PlanState,
) -> Result<Option<Report>, Box<dyn Error>> {
    let driver = Driver::new(options)?;
    if flags.explain {
        print(&driver.explain(state)?)?;
        return Ok(None);
    }
    let Submitted { job, notes } = driver.submit(state)?;
    if flags.detach {
        print(&format!("{job}\n"))?;
        return Ok(None);
    }
    let mut display: Box<dyn Display> = if shows_progress(flags) {
        eprintln!("job {job} on {}", options.master);
        Box::new(ClusterBars::new())
    } else {
        Box::new(Warnings)
    };
    let report = driver.wait(job, &mut *display)?;
    Ok(Some(Report { notes, ..report }))
}

fn shows_progress(flags: &RunFlags) -> bool {
    io::stderr().is_terminal() && !flags.json
}

/// Tells what the job did.
fn tell(flags: &RunFlags, report: &Report, afterwards: Vec<Afterwards>) -> Result<(), Box<dyn Error>> {
    if flags.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(report)?));
    }
    for tell in afterwards {
        print(&format!("{}\n", tell(report)))?;
    }
    show_summary(report)
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
