//! `kill`: a job, a task of it, or one attempt.

use clap::Args;
use gristmill_proto::job::KillRequest;
use serde_json::json;

use super::client::{JobsClient, wire};
use super::find::find;
use super::task_name::TaskName;
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;

/// Kills a job; or the running attempts of a task, which then counts as failed once; or one attempt, which does not count
#[derive(Args)]
pub(crate) struct Kill {
    /// The job
    job: String,
    /// Only this task
    #[arg(long, value_name = "STAGE/TASK")]
    task: Option<TaskName>,
    /// Only this attempt of the task
    #[arg(long, value_name = "N", requires = "task")]
    attempt: Option<u32>,
    /// Why, for whoever looks at the job
    #[arg(long, value_name = "TEXT", default_value = "killed by hand")]
    reason: String,
}

impl Kill {
    pub(crate) fn run(self, jobs: &JobsClient, console: &mut Console) -> Result<Exit, Failure> {
        let job = find(jobs, &self.job)?;
        let request = KillRequest {
            job: wire(job),
            stage: self.task.map(|task| task.stage),
            task: self.task.map(|task| task.task),
            number: self.attempt,
            reason: self.reason,
            ..KillRequest::default()
        };
        let answer = jobs.kill(request)?;
        if console.json {
            console.object(
                &json!({ "job": job.to_string(), "killed": answer.found, "detail": answer.detail }),
            )?;
        }
        if !answer.found {
            let detail = if answer.detail.is_empty() { "there is no such thing" } else { &answer.detail };
            return Err(Failure::Refused(format!("cannot kill it in the job {job}: {detail}")));
        }
        if !console.json {
            console.line(if answer.detail.is_empty() {
                format!("{job} is killed")
            } else {
                answer.detail
            })?;
        }
        Ok(Exit::Done)
    }
}
