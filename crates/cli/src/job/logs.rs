//! `logs`: what attempts wrote to stdout and stderr.

use clap::Args;
use gristmill_proto::ids::JobId;
use gristmill_proto::job::{AttemptStatus, ReadLogRequest, TaskStatus};
use serde_json::json;

use super::client::{JobsClient, wire};
use super::find::find;
use super::task_name::{TaskName, attempt_name, plain_number};
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use gristmill_process::sentence;

/// Prints what attempts wrote: of the failed ones, unless a task is named
#[derive(Args)]
pub(crate) struct Logs {
    /// The job
    job: String,
    /// The attempts at this task; the last one, unless a number is given
    #[arg(long, value_name = "STAGE/TASK")]
    task: Option<TaskName>,
    /// The attempt with this number
    #[arg(long, value_name = "N", requires = "task")]
    attempt: Option<u32>,
    /// What they wrote to stdout
    #[arg(long)]
    stdout: bool,
    /// What they wrote to stderr; this is the default
    #[arg(long)]
    stderr: bool,
}

/// One log to be read.
struct Log {
    stage: u32,
    task: u32,
    attempt: AttemptStatus,
    stderr: bool,
}

impl Logs {
    pub(crate) fn run(self, jobs: &JobsClient, console: &mut Console) -> Result<Exit, Failure> {
        let job = find(jobs, &self.job)?;
        let stage = self.task.map(|task| task.stage);
        let logs = self.chosen(&jobs.tasks(job, stage, self.task.is_none())?)?;
        if logs.is_empty() {
            console.hint("no attempt has failed; --task STAGE/TASK prints what the attempts at a task wrote");
        }
        let mut exit = Exit::Done;
        // A heading says what follows, unless it is clear.
        let headed = logs.len() > 1 || self.task.is_none();
        for log in &logs {
            match print(jobs, job, log, headed, console) {
                Ok(()) => {}
                Err(failure @ Failure::Output(_)) => return Err(failure),
                // A worker is gone, and its logs with it: the others may be there.
                Err(failure) => {
                    exit = Exit::Failed;
                    console.say(&format!("{}: {}", log.name(), sentence(&failure)));
                }
            }
        }
        Ok(exit)
    }

    /// Which logs are meant.
    fn chosen(&self, tasks: &[TaskStatus]) -> Result<Vec<Log>, Failure> {
        let attempts: Vec<(&TaskStatus, &AttemptStatus)> = match self.task {
            None => {
                let failed = |attempt: &&AttemptStatus| attempt.state == "failed";
                let of = |task| attempts(task).filter(move |(_, attempt)| failed(attempt));
                tasks.iter().flat_map(of).collect()
            }
            Some(name) => {
                let task = tasks.iter().find(|task| task.stage == name.stage && task.task == name.task);
                let task = task.ok_or_else(|| {
                    Failure::Refused(format!(
                        "the master knows no task {}/{} of the job",
                        name.stage, name.task
                    ))
                })?;
                let wanted = |attempt: &AttemptStatus| {
                    self.attempt.is_none_or(|number| plain_number(attempt.number) == number)
                };
                let last = attempts(task).filter(|(_, attempt)| wanted(attempt)).last();
                vec![last.ok_or_else(|| {
                    let which = self.attempt.map_or(String::new(), |number| format!(" {number}"));
                    Failure::Refused(format!("task {}/{} has no attempt{which}", name.stage, name.task))
                })?]
            }
        };
        let streams = [(self.stdout, false), (self.stderr || !self.stdout, true)];
        let log = |(task, attempt): (&TaskStatus, &AttemptStatus), stderr| Log {
            stage: task.stage,
            task: task.task,
            attempt: attempt.clone(),
            stderr,
        };
        let of = |found| streams.iter().filter(|(on, _)| *on).map(move |&(_, stderr)| log(found, stderr));
        Ok(attempts_in_order(attempts).into_iter().flat_map(of).collect())
    }
}

fn attempts(task: &TaskStatus) -> impl Iterator<Item = (&TaskStatus, &AttemptStatus)> {
    task.attempts.iter().map(move |attempt| (task, attempt))
}

/// As they began: the first failure is the one to look at.
fn attempts_in_order<'t>(
    mut attempts: Vec<(&'t TaskStatus, &'t AttemptStatus)>,
) -> Vec<(&'t TaskStatus, &'t AttemptStatus)> {
    attempts.sort_by_key(|(_, attempt)| attempt.started_ms);
    attempts
}

impl Log {
    fn name(&self) -> String {
        attempt_name(self.stage, self.task, self.attempt.number)
    }

    fn stream(&self) -> &'static str {
        if self.stderr { "stderr" } else { "stdout" }
    }

    fn heading(&self) -> String {
        let attempt = &self.attempt;
        let reason = if attempt.reason.is_empty() { String::new() } else { format!(": {}", attempt.reason) };
        format!("==> {} of {}, {}{reason} <==", self.stream(), self.name(), attempt.state)
    }
}

fn print(
    jobs: &JobsClient,
    job: JobId,
    log: &Log,
    headed: bool,
    console: &mut Console,
) -> Result<(), Failure> {
    let request = ReadLogRequest {
        job: wire(job),
        stage: log.stage,
        task: log.task,
        number: log.attempt.number,
        stderr: log.stderr,
        offset: 0,
    };
    if headed && !console.json {
        console.line(log.heading())?;
    }
    jobs.read_log(request, |chunk| {
        if console.json {
            let text = String::from_utf8_lossy(&chunk.bytes);
            return console.object(&json!({
                "attempt": log.name(),
                "stream": log.stream(),
                "dropped_bytes": chunk.dropped_bytes,
                "text": text,
            }));
        }
        if chunk.dropped_bytes > 0 {
            console.bytes(format!("\n... {} bytes are not kept ...\n", chunk.dropped_bytes).as_bytes())?;
        }
        console.bytes(&chunk.bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_task() -> TaskStatus {
        let attempt = |number, state: &str, started_ms| AttemptStatus {
            number,
            state: state.to_owned(),
            started_ms,
            ..AttemptStatus::default()
        };
        let attempts = vec![attempt(0, "failed", 5), attempt(1, "lost", 6), attempt(2, "done", 7)];
        TaskStatus { stage: 1, task: 3, state: "done".to_owned(), attempts }
    }

    fn chosen(task: Option<TaskName>, attempt: Option<u32>, stdout: bool, stderr: bool) -> Vec<String> {
        let logs = Logs { job: String::new(), task, attempt, stdout, stderr };
        match logs.chosen(&[a_task()]) {
            Ok(logs) => logs.iter().map(|log| format!("{} {}", log.name(), log.stream())).collect(),
            Err(failure) => vec![failure.to_string()],
        }
    }

    #[test]
    fn failed_attempts_are_what_people_look_for() {
        let name = Some(TaskName { stage: 1, task: 3 });
        assert_eq!(chosen(None, None, false, false), ["s1-t00003-a0 stderr"]);
        assert_eq!(chosen(name, None, false, false), ["s1-t00003-a2 stderr"]);
        assert_eq!(chosen(name, Some(1), true, false), ["s1-t00003-a1 stdout"]);
        assert_eq!(chosen(name, Some(1), true, true), ["s1-t00003-a1 stdout", "s1-t00003-a1 stderr"]);
        assert_eq!(chosen(name, Some(9), false, false), ["task 1/3 has no attempt 9"]);
        let other = Some(TaskName { stage: 0, task: 3 });
        assert_eq!(chosen(other, None, false, false), ["the master knows no task 0/3 of the job"]);
    }
}
