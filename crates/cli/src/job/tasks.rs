//! `tasks`: a job's tasks and their attempts.

use clap::Args;
use gristmill_proto::ids::WorkerId;
use gristmill_proto::job::{AttemptStatus, TaskStatus};
use serde_json::{Value, json};

use super::client::JobsClient;
use super::find::find;
use super::status::bytes_of;
use super::task_name::{attempt_name, plain_number};
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fs::format::duration;

/// Lists the tasks of a job, and the attempts at each
#[derive(Args)]
pub(crate) struct Tasks {
    /// The job
    job: String,
    /// Only this stage, by number
    #[arg(long, value_name = "N")]
    stage: Option<u32>,
    /// Only tasks with failed attempts
    #[arg(long)]
    failed: bool,
}

impl Tasks {
    pub(crate) fn run(self, jobs: &JobsClient, console: &mut Console) -> Result<Exit, Failure> {
        let tasks = jobs.tasks(find(jobs, &self.job)?, self.stage, self.failed)?;
        for task in &tasks {
            if console.json {
                console.object(&object(task))?;
            } else {
                console.lines(lines(task))?;
            }
        }
        if tasks.is_empty() {
            console.hint(match self.failed {
                true => "no task had a failed attempt",
                false => "the master keeps no task of it: the job ended before it had any",
            });
        }
        Ok(Exit::Done)
    }
}

fn lines(task: &TaskStatus) -> Vec<String> {
    let mut lines = vec![format!("{}/{} {}", task.stage, task.task, task.state)];
    lines.extend(task.attempts.iter().map(|attempt| attempt_line(task, attempt)));
    lines
}

fn attempt_line(task: &TaskStatus, attempt: &AttemptStatus) -> String {
    let took = match (attempt.started_ms, attempt.ended_ms) {
        (_, 0) => String::new(),
        (started_ms, ended_ms) => format!(" after {}", duration(ended_ms.saturating_sub(started_ms))),
    };
    let twin = if attempt.twin { " (a twin)" } else { "" };
    let reason = if attempt.reason.is_empty() { String::new() } else { format!(": {}", attempt.reason) };
    format!(
        "  {}{twin} {}{took} on {} ({}), {} records, {}{reason}",
        attempt_name(task.stage, task.task, attempt.number),
        attempt.state,
        WorkerId(attempt.worker),
        attempt.address,
        attempt.records,
        bytes_of(attempt.bytes),
    )
}

fn object(task: &TaskStatus) -> Value {
    let attempt = |attempt: &AttemptStatus| {
        json!({
            "attempt": attempt_name(task.stage, task.task, attempt.number),
            "number": plain_number(attempt.number),
            "state": attempt.state,
            "worker": attempt.worker,
            "address": attempt.address,
            "reason": attempt.reason,
            "started_ms": attempt.started_ms,
            "ended_ms": attempt.ended_ms,
            "records": attempt.records,
            "bytes": attempt.bytes,
            "twin": attempt.twin,
        })
    };
    json!({
        "stage": task.stage,
        "task": task.task,
        "state": task.state,
        "attempts": task.attempts.iter().map(attempt).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_says_where_it_was_and_what_became_of_it() {
        let attempt = AttemptStatus {
            number: 2,
            state: "failed".to_owned(),
            worker: 3,
            address: "10.0.0.3:70".to_owned(),
            reason: "no such file".to_owned(),
            started_ms: 1000,
            ended_ms: 2500,
            records: 7,
            bytes: 2048,
            twin: true,
        };
        let task = TaskStatus { stage: 1, task: 4, state: "waiting".to_owned(), attempts: vec![attempt] };
        assert_eq!(
            lines(&task),
            [
                "1/4 waiting",
                "  s1-t00004-a2 (a twin) failed after 1.5 s on worker-3 (10.0.0.3:70), 7 records, 2.0 KiB: no such file"
            ]
        );
        assert_eq!(object(&task)["attempts"][0]["attempt"], "s1-t00004-a2");
    }
}
