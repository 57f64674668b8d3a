//! An attempt: this program, started by a worker to run one task of a job that another process of it, the driver, has
//! submitted.
//!
//! ```text
//!   worker ── Begin ──> plan again (the driver's arguments, its broadcasts) ── another one? ──> Failed, with a diff
//!     │                          │ the same
//!     ├─ Outputs ──> sources ──> input (a split; or fetched) ──> task ──> map output moved, or parts staged ──> Done
//!     └─ Stop, or the end of the socket ──> cancel, and soon the end of the process
//! ```
//! Modules in reading order: `socket` and `channel` (to the worker), `signatures` (for
//! `s3://`), `listener`, `job` (the plan, compared), `diff`,
//! `work`, `failure`.

mod channel;
mod diff;
mod failure;
mod job;
mod listener;
mod signatures;
mod socket;
mod work;

use crate::panics;
use crate::plan::PlanState;
use channel::Channel;
use failure::Failure;
use gristmill_proto::attempt::from_attempt::Message;
use gristmill_proto::task::AttemptResult;
use gristmill_proto::task::attempt_failure::Kind;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

/// The environment variable that says so. The worker's socket is the standard input then.
const ATTEMPT_VARIABLE: &str = "GRISTMILL_ATTEMPT";
/// The attempt failed, and the worker knows why.
const EXIT_FAILED: u8 = 1;
/// There is no worker that could be told.
const EXIT_USAGE: u8 = 2;

/// Lets the program's `job` function build the plan from the driver's arguments and broadcasts; the error is a sentence.
pub(crate) type BuildPlan<'b> = &'b dyn Fn(Vec<OsString>, Vec<Vec<u8>>) -> Result<PlanState, String>;

/// Whether this process is an attempt.
pub(crate) fn is_one() -> bool {
    std::env::var_os(ATTEMPT_VARIABLE).is_some()
}

/// Runs the attempt that the worker says.
pub(crate) fn main(build: BuildPlan<'_>) -> ExitCode {
    let channel = match socket::take().and_then(Channel::new) {
        Ok(channel) => Arc::new(channel),
        Err(error) => {
            eprintln!("{ATTEMPT_VARIABLE} is for workers, who start programs with it: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let ran = panics::catch(|| run(&channel, build));
    let result = ran.unwrap_or_else(|message| Err(Failure::new(Kind::Panic, format!("panic: {message}"))));
    let (message, code) = match result {
        Ok(result) => (Message::Done(result), ExitCode::SUCCESS),
        Err(failure) => {
            let failure = failure.into_message();
            // Whoever looks at the attempt's log looks for this.
            match writeln!(io::stderr(), "{}", failure.message) {
                Ok(()) => {}
                // The program has closed it: the worker hears the message all the same, below.
                Err(_closed) => {}
            }
            (Message::Failed(failure), ExitCode::from(EXIT_FAILED))
        }
    };
    match channel.say_last(message) {
        Ok(()) => code,
        Err(error) => {
            eprintln!("the worker cannot be told how the attempt ended: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn run(channel: &Arc<Channel>, build: BuildPlan<'_>) -> Result<AttemptResult, Failure> {
    let begin = channel.begin()?;
    let listener = listener::start(channel, begin.job())?;
    let job = job::open(&begin, channel, build)?;
    work::run(&begin, channel, &listener, &job)
}
