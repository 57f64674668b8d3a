//! A job that has ended, for people and programs, and for later: `job.json` (docs/formats.md).

use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::job::job_status::State;
use crate::job::{AttemptStatus, Counter, JobStatus, StageStatus, TaskStatus};

/// Of the history.
pub const JOB_HISTORY_VERSION: u32 = 1;

/// What became of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobHistory {
    /// [`JOB_HISTORY_VERSION`].
    pub version: u32,
    /// Its id.
    pub job: String,
    /// Its name.
    pub name: String,
    /// Whose it was.
    pub user: String,
    /// Where it waited.
    pub queue: String,
    /// As `DONE`.
    pub state: String,
    /// Why it failed or was killed.
    pub reason: String,
    /// As it was submitted.
    pub program: String,
    /// Since 1970.
    pub submitted_ms: u64,
    /// Its first attempt; 0: there was none.
    pub started_ms: u64,
    /// The decision to publish; 0: there was none.
    pub committing_ms: u64,
    /// Since 1970.
    pub ended_ms: u64,
    /// In the order of the plan.
    pub stages: Vec<StageHistory>,
    /// Of finished tasks.
    pub counters: Vec<CounterHistory>,
    /// Each once.
    pub warnings: Vec<String>,
    /// Those with failed or lost attempts, and some others.
    pub tasks: Vec<TaskHistory>,
}

/// A stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StageHistory {
    /// Its name.
    pub name: String,
    /// How many it has.
    pub tasks: u32,
    /// Those that were done.
    pub done: u32,
    /// Of their own fault.
    pub failed_attempts: u32,
    /// With a worker, or taken away.
    pub lost_attempts: u32,
    /// Read.
    pub records: u64,
    /// Read.
    pub bytes: u64,
    /// That its splits have.
    pub input_bytes: u64,
    /// Attempts on a worker that had the input,
    pub local: u32,
    /// and on one in its rack.
    pub rack_local: u32,
    /// Attempts that were launched beside slow ones,
    pub twins: u32,
    /// and those of them that were done first.
    pub twins_won: u32,
    /// Its first attempt; 0: there was none.
    pub started_ms: u64,
    /// Its last task; 0: not all were done.
    pub ended_ms: u64,
}

/// A counter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CounterHistory {
    /// Its name.
    pub name: String,
    /// The sum.
    pub value: u64,
}

/// A task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskHistory {
    /// From 0.
    pub stage: u32,
    /// From 0.
    pub task: u32,
    /// As `done`.
    pub state: String,
    /// The last ten.
    pub attempts: Vec<AttemptHistory>,
}

/// An attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttemptHistory {
    /// From 0; one that cuts ranges has bit 31 set.
    pub number: u32,
    /// As `failed`.
    pub state: String,
    /// Where it ran: a number,
    pub worker: u64,
    /// and an address.
    pub address: String,
    /// Why it was not done.
    pub reason: String,
    /// Since 1970.
    pub started_ms: u64,
    /// Since 1970.
    pub ended_ms: u64,
    /// Read.
    pub records: u64,
    /// Read.
    pub bytes: u64,
    /// Whether it was launched beside a slow one.
    pub twin: bool,
}

impl JobHistory {
    /// Of a job, and of the tasks that are remembered.
    pub fn new(status: &JobStatus, tasks: &[TaskStatus]) -> JobHistory {
        let counter = |counter: &Counter| CounterHistory { name: counter.name.clone(), value: counter.value };
        JobHistory {
            version: JOB_HISTORY_VERSION,
            job: JobId::from_wire(&status.job).map(|job| job.to_string()).unwrap_or_default(),
            name: status.name.clone(),
            user: status.user.clone(),
            queue: status.queue.clone(),
            state: status.state().as_str_name().to_owned(),
            reason: status.reason.clone(),
            program: status.program.clone(),
            submitted_ms: status.submitted_ms,
            started_ms: status.started_ms,
            committing_ms: status.committing_ms,
            ended_ms: status.ended_ms,
            stages: status.stages.iter().map(StageHistory::new).collect(),
            counters: status.counters.iter().map(counter).collect(),
            warnings: status.warnings.clone(),
            tasks: tasks.iter().map(TaskHistory::new).collect(),
        }
    }

    /// As a master would say it.
    pub fn status(&self) -> JobStatus {
        let counter = |counter: &CounterHistory| Counter { name: counter.name.clone(), value: counter.value };
        JobStatus {
            job: JobId::from_text(&self.job).map(|job| job.0.to_vec()).unwrap_or_default().into(),
            name: self.name.clone(),
            user: self.user.clone(),
            queue: self.queue.clone(),
            state: State::from_str_name(&self.state).unwrap_or_default().into(),
            reason: self.reason.clone(),
            program: self.program.clone(),
            submitted_ms: self.submitted_ms,
            started_ms: self.started_ms,
            committing_ms: self.committing_ms,
            ended_ms: self.ended_ms,
            stages: self.stages.iter().map(StageHistory::status).collect(),
            counters: self.counters.iter().map(counter).collect(),
            warnings: self.warnings.clone(),
            ..JobStatus::default()
        }
    }

    /// The tasks, as a master would say them.
    pub fn tasks(&self) -> Vec<TaskStatus> {
        self.tasks.iter().map(TaskHistory::status).collect()
    }

    /// Its text.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a history has string keys") + "\n"
    }
}

impl StageHistory {
    fn new(stage: &StageStatus) -> StageHistory {
        StageHistory {
            name: stage.name.clone(),
            tasks: stage.tasks,
            done: stage.done,
            failed_attempts: stage.failed_attempts,
            lost_attempts: stage.lost_attempts,
            records: stage.records,
            bytes: stage.bytes,
            input_bytes: stage.input_bytes,
            local: stage.local,
            rack_local: stage.rack_local,
            twins: stage.twins,
            twins_won: stage.twins_won,
            started_ms: stage.started_ms,
            ended_ms: stage.ended_ms,
        }
    }

    fn status(&self) -> StageStatus {
        StageStatus {
            name: self.name.clone(),
            tasks: self.tasks,
            done: self.done,
            failed_attempts: self.failed_attempts,
            lost_attempts: self.lost_attempts,
            records: self.records,
            bytes: self.bytes,
            input_bytes: self.input_bytes,
            local: self.local,
            rack_local: self.rack_local,
            twins: self.twins,
            twins_won: self.twins_won,
            started_ms: self.started_ms,
            ended_ms: self.ended_ms,
            ..StageStatus::default()
        }
    }
}

impl TaskHistory {
    fn new(task: &TaskStatus) -> TaskHistory {
        let attempt = |attempt: &AttemptStatus| AttemptHistory {
            number: attempt.number,
            state: attempt.state.clone(),
            worker: attempt.worker,
            address: attempt.address.clone(),
            reason: attempt.reason.clone(),
            started_ms: attempt.started_ms,
            ended_ms: attempt.ended_ms,
            records: attempt.records,
            bytes: attempt.bytes,
            twin: attempt.twin,
        };
        let attempts = task.attempts.iter().map(attempt).collect();
        TaskHistory { stage: task.stage, task: task.task, state: task.state.clone(), attempts }
    }

    fn status(&self) -> TaskStatus {
        let attempt = |attempt: &AttemptHistory| AttemptStatus {
            number: attempt.number,
            state: attempt.state.clone(),
            worker: attempt.worker,
            address: attempt.address.clone(),
            reason: attempt.reason.clone(),
            started_ms: attempt.started_ms,
            ended_ms: attempt.ended_ms,
            records: attempt.records,
            bytes: attempt.bytes,
            twin: attempt.twin,
        };
        let attempts = self.attempts.iter().map(attempt).collect();
        TaskStatus { stage: self.stage, task: self.task, state: self.state.clone(), attempts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_tells_later_what_the_master_told() {
        let attempt = AttemptStatus {
            number: 1,
            state: "failed".to_owned(),
            worker: 7,
            reason: "no such file".to_owned(),
            ended_ms: 30,
            ..AttemptStatus::default()
        };
        let task = TaskStatus { stage: 0, task: 4, state: "done".to_owned(), attempts: vec![attempt] };
        let status = JobStatus {
            job: vec![9; 16].into(),
            name: "wc".to_owned(),
            state: State::Killed.into(),
            stages: vec![StageStatus { name: "map 1".to_owned(), tasks: 5, done: 4, ..Default::default() }],
            counters: vec![Counter { name: "words".to_owned(), value: 8 }],
            submitted_ms: 10,
            ended_ms: 40,
            ..JobStatus::default()
        };
        let text = JobHistory::new(&status, std::slice::from_ref(&task)).to_json();
        let read: JobHistory = serde_json::from_str(&text).unwrap();
        assert_eq!((read.status(), read.tasks()), (status, vec![task]));
    }
}
