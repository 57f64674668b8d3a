//! `wait`: until a job has ended.

use std::time::Duration;

use clap::Args;
use gristmill_proto::ids::JobId;
use gristmill_proto::job::{JobStatus, job_status::State};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::client::JobsClient;
use super::find::find;
use super::status::{elapsed_ms, id, object, state};
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fs::escape::escape;
use crate::fs::format::duration;

/// Often enough to look alive, seldom enough to cost nothing.
const DRAWS_PER_SECOND: u8 = 5;

/// Waits for the end of a job, and ends as it did: 0 if it is done, 1 if it failed or was killed
#[derive(Args)]
pub(crate) struct Wait {
    /// The job
    job: String,
}

impl Wait {
    pub(crate) fn run(self, jobs: &JobsClient, console: &mut Console) -> Result<Exit, Failure> {
        wait(jobs, find(jobs, &self.job)?, console)
    }
}

/// Waits, and says how the job ended.
pub(crate) fn wait(jobs: &JobsClient, job: JobId, console: &mut Console) -> Result<Exit, Failure> {
    let bar = bar(console.shows_progress());
    let waited = jobs.wait(job, |status| bar.set_message(message(status)));
    bar.finish_and_clear();
    let status = waited?;
    if console.json {
        console.object(&object(&status))?;
    }
    if status.state() == State::Done {
        if !console.json {
            let took = duration(elapsed_ms(&status, status.ended_ms));
            console.line(format!("{} {} is done after {took}", id(&status), status.name))?;
        }
        return Ok(Exit::Done);
    }
    let reason = if status.reason.is_empty() { "no reason is known" } else { &status.reason };
    let ended = if status.state() == State::Killed { "was killed" } else { "failed" };
    let name = escape(&status.name).into_owned();
    console.say(&format!("job {} ({name}) {ended}: {reason}", id(&status)));
    Ok(Exit::Failed)
}

/// A line on stderr, if somebody watches.
fn bar(is_seen: bool) -> ProgressBar {
    let target = match is_seen {
        true => ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    if is_seen {
        bar.enable_steady_tick(Duration::from_millis(1000 / u64::from(DRAWS_PER_SECOND)));
    }
    bar
}

fn message(status: &JobStatus) -> String {
    let stages = status.stages.iter().map(|stage| {
        let running = if stage.running > 0 { format!("+{}", stage.running) } else { String::new() };
        format!("{} {}{running}/{}", stage.name, stage.done, stage.tasks)
    });
    let stages: Vec<String> = stages.collect();
    let reason = if status.reason.is_empty() { String::new() } else { format!(" ({})", status.reason) };
    let text = format!("{} {}{reason}", state(status), stages.join(", "));
    escape(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::a_job;
    use super::*;

    #[test]
    fn whoever_watches_sees_each_stage() {
        let text = message(&a_job(State::Running));
        assert_eq!(text, "RUNNING map 1 12+2/20, reduce 1 0/4 (it waits for workers)");
    }
}
