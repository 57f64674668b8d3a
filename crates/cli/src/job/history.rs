//! `history`: the jobs that have ended; or what happened to one job, and when.

use clap::Args;
use gristmill_proto::ids::WorkerId;
use gristmill_proto::job::{AttemptStatus, JobStatus, StageStatus, TaskStatus};
use serde_json::json;

use super::client::{JobsClient, is_ended};
use super::find::find;
use super::list::show;
use super::status::{bytes_of, id, state};
use super::task_name::attempt_name;
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fs::format::{counted, duration, time};

/// Lists the jobs that have ended, the latest first; or, of one job, what happened and when
#[derive(Args)]
pub(crate) struct History {
    /// The job
    pub(super) job: Option<String>,
    /// Of a cluster that has ended: LOG_URI/<cluster id>, as `gristmill cluster describe` calls its records
    #[arg(long, value_name = "URI")]
    pub(super) from: Option<String>,
}

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Moment {
    /// Since 1970.
    at_ms: u64,
    what: String,
}

impl History {
    pub(crate) fn run(self, jobs: &JobsClient, console: &mut Console) -> Result<Exit, Failure> {
        match &self.job {
            Some(job) => {
                let job = find(jobs, job)?;
                let (status, tasks) = (jobs.status(job)?, jobs.tasks(job, None, false)?);
                tell_of(&status, &tasks, console)?;
            }
            None => {
                let mut ended = jobs.list(true)?;
                ended.retain(is_ended);
                show(&ended, console)?;
                if ended.is_empty() {
                    console.hint("no job has ended; `gristmill job list` shows those that are under way");
                }
            }
        }
        Ok(Exit::Done)
    }
}

/// What happened to one job.
pub(super) fn tell_of(
    status: &JobStatus,
    tasks: &[TaskStatus],
    console: &mut Console,
) -> Result<(), Failure> {
    tell(status, &timeline(status, tasks), console)
}

fn tell(status: &JobStatus, moments: &[Moment], console: &mut Console) -> Result<(), Failure> {
    if console.json {
        return moments.iter().try_for_each(|Moment { at_ms, what }| {
            console.object(&json!({ "job": id(status), "at_ms": at_ms, "what": what }))
        });
    }
    console.line(format!("Job       {} ({})", id(status), status.name))?;
    console.line(format!("Submitted {} (UTC)", time(status.submitted_ms, true)))?;
    moments.iter().try_for_each(|Moment { at_ms, what }| {
        let after = duration(at_ms.saturating_sub(status.submitted_ms));
        console.line(format!("{after:>12}  {}", what.replace('\n', " ")))
    })
}

/// All that is known to have happened, in order.
fn timeline(status: &JobStatus, tasks: &[TaskStatus]) -> Vec<Moment> {
    let mut moments =
        vec![Moment { at_ms: status.submitted_ms, what: format!("submitted by {}", status.user) }];
    let mut happened = |at_ms: u64, what: String| {
        // What has not happened, or is not known, has no time.
        if at_ms > 0 {
            moments.push(Moment { at_ms, what });
        }
    };
    for stage in &status.stages {
        happened(stage.started_ms, format!("{} begins: {}", stage.name, counted(stage.tasks.into(), "task")));
        happened(stage.ended_ms, done(stage));
    }
    for task in tasks {
        for attempt in task.attempts.iter().filter(|attempt| is_news(attempt)) {
            happened(attempt.ended_ms, gone(task, attempt));
        }
    }
    happened(status.committing_ms, "committing: the output is published".to_owned());
    let reason = if status.reason.is_empty() { String::new() } else { format!(": {}", status.reason) };
    happened(status.ended_ms, format!("{}{reason}", state(status)));
    // Moments of one millisecond stay in the order in which they follow from each other.
    moments.sort_by_key(|moment| moment.at_ms);
    moments
}

/// Whether it is worth a line: an attempt that is done is one of many.
fn is_news(attempt: &AttemptStatus) -> bool {
    matches!(attempt.state.as_str(), "failed" | "lost" | "killed")
}

fn done(stage: &StageStatus) -> String {
    let mut troubles = String::new();
    for (count, what) in [(stage.failed_attempts, "failed"), (stage.lost_attempts, "lost")] {
        if count > 0 {
            troubles.push_str(&format!(", {} {what}", counted(count.into(), "attempt")));
        }
    }
    let records = counted(stage.records, "record");
    format!("{} is done: {records}, {}{troubles}", stage.name, bytes_of(stage.bytes))
}

fn gone(task: &TaskStatus, attempt: &AttemptStatus) -> String {
    let name = attempt_name(task.stage, task.task, attempt.number);
    let reason = if attempt.reason.is_empty() { String::new() } else { format!(": {}", attempt.reason) };
    format!("{name} {} on {}{reason}", attempt.state, WorkerId(attempt.worker))
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::a_job;
    use super::*;
    use gristmill_proto::job::job_status::State;

    #[test]
    fn a_timeline_tells_what_happened_in_order() {
        let mut status =
            JobStatus { submitted_ms: 1000, ended_ms: 9000, committing_ms: 8000, ..a_job(State::Done) };
        status.reason = String::new();
        (status.stages[0].started_ms, status.stages[0].ended_ms) = (1100, 5000);
        (status.stages[1].started_ms, status.stages[1].ended_ms) = (4000, 8000);
        let failed = AttemptStatus {
            number: 0,
            state: "failed".to_owned(),
            worker: 3,
            reason: "no such file".to_owned(),
            ended_ms: 3000,
            ..AttemptStatus::default()
        };
        let good = AttemptStatus { number: 1, state: "done".to_owned(), ended_ms: 3500, ..failed.clone() };
        let task = TaskStatus { stage: 0, task: 4, state: "done".to_owned(), attempts: vec![failed, good] };
        let moments = timeline(&status, &[task]);
        let told: Vec<(u64, &str)> = moments.iter().map(|each| (each.at_ms, each.what.as_str())).collect();
        assert_eq!(
            told,
            [
                (1000, "submitted by ann"),
                (1100, "map 1 begins: 20 tasks"),
                (3000, "s0-t00004-a0 failed on worker-3: no such file"),
                (4000, "reduce 1 begins: 4 tasks"),
                (5000, "map 1 is done: 3000 records, 3.0 MiB, 1 attempt failed, 3 attempts lost"),
                (8000, "reduce 1 is done: 0 records, 0 B"),
                (8000, "committing: the output is published"),
                (9000, "DONE"),
            ]
        );
    }

    #[test]
    fn what_has_not_happened_is_not_told() {
        let status = JobStatus { ended_ms: 0, ..a_job(State::Running) };
        assert_eq!(timeline(&status, &[]).len(), 1, "nothing but its submission has a time");
    }
}
