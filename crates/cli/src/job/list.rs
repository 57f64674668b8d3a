//! `list`: one line a job.

use clap::Args;
use gristmill_proto::job::JobStatus;
use gristmill_proto::wall_clock;

use super::client::JobsClient;
use super::status::{elapsed_ms, id, object, state};
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fs::format::{duration, time};

/// Lists the jobs that have not ended, the latest first
#[derive(Args)]
pub(crate) struct List {
    /// Ended ones too
    #[arg(long, short)]
    all: bool,
}

impl List {
    pub(crate) fn run(self, jobs: &JobsClient, console: &mut Console) -> Result<Exit, Failure> {
        let listed = jobs.list(self.all)?;
        show(&listed, console)?;
        if listed.is_empty() {
            console.hint(match self.all {
                true => "the master knows no job",
                false => "no job is under way; `gristmill job list --all` shows those that have ended too",
            });
        }
        Ok(Exit::Done)
    }
}

/// A line for each job.
pub(super) fn show(jobs: &[JobStatus], console: &mut Console) -> Result<(), Failure> {
    if console.json {
        return jobs.iter().try_for_each(|status| console.object(&object(status)));
    }
    let now_ms = wall_clock::now_ms();
    console.line(line("JOB", "STATE", "SUBMITTED (UTC)", "TIME", "TASKS", "OWNER", "NAME"))?;
    for status in jobs {
        let (done, tasks) = progress(status);
        let elapsed = duration(elapsed_ms(status, now_ms));
        console.line(line(
            &id(status),
            state(status),
            &time(status.submitted_ms, true),
            &elapsed,
            &format!("{done}/{tasks}"),
            &status.user,
            &status.name,
        ))?;
    }
    Ok(())
}

/// Finished tasks, and all, over the stages.
pub(crate) fn progress(status: &JobStatus) -> (u64, u64) {
    let sum = |of: fn(&gristmill_proto::job::StageStatus) -> u32| {
        status.stages.iter().map(|stage| u64::from(of(stage))).sum()
    };
    (sum(|stage| stage.done), sum(|stage| stage.tasks))
}

fn line(job: &str, state: &str, submitted: &str, time: &str, tasks: &str, owner: &str, name: &str) -> String {
    format!("{job:<36}  {state:<10}  {submitted:<19}  {time:>12}  {tasks:>11}  {owner:<10}  {name}")
}
