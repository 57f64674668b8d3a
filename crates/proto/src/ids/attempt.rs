//! Tasks and attempts.

use std::fmt;

use thiserror::Error;

use super::JobId;
use crate::task;

/// Set in the number of an attempt that does not run its task, but cuts the ranges of the shuffle that the task reads.
pub const CUT_BIT: u32 = 1 << 31;

/// One split or one reduce partition of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// Whose.
    pub job: JobId,
    /// Number of the stage in the plan.
    pub stage: u32,
    /// Number of the task in the stage.
    pub task: u32,
}

/// One try at a task. Numbers rise and are never used again, whatever dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// At what.
    pub task: TaskId,
    /// Which try.
    pub number: u32,
}

/// A message names no job, or one whose id has not 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a message names an attempt of no job")]
pub struct BadAttemptId;

impl TaskId {
    /// The try of this number.
    pub fn attempt(self, number: u32) -> AttemptId {
        AttemptId { task: self, number }
    }
}

impl AttemptId {
    /// The id in a message.
    pub fn from_wire(id: &task::AttemptId) -> Result<AttemptId, BadAttemptId> {
        let job = JobId::from_wire(&id.job).ok_or(BadAttemptId)?;
        Ok(TaskId { job, stage: id.stage, task: id.task }.attempt(id.number))
    }

    /// As it stands in messages.
    pub fn to_wire(self) -> task::AttemptId {
        let TaskId { job, stage, task } = self.task;
        task::AttemptId { job: job.0.to_vec().into(), stage, task, number: self.number }
    }

    /// Names its files and directories within its job: `s0-t00003-a1`; `s1-cut-a0` for one that cuts ranges.
    pub fn name(self) -> String {
        let TaskId { stage, task, .. } = self.task;
        match self.number & CUT_BIT {
            0 => format!("s{stage}-t{task:05}-a{}", self.number),
            _ => format!("s{stage}-cut-a{}", self.number & !CUT_BIT),
        }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s{}-t{:05}", self.job, self.stage, self.task)
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.task.job, self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_the_same_after_the_wire() {
        let id = TaskId { job: JobId([7; 16]), stage: 1, task: 3 }.attempt(2);
        assert_eq!(AttemptId::from_wire(&id.to_wire()), Ok(id));
        assert_eq!(id.name(), "s1-t00003-a2");
        assert_eq!(id.task.attempt(CUT_BIT | 1).name(), "s1-cut-a1");
        assert_eq!(AttemptId::from_wire(&task::AttemptId::default()), Err(BadAttemptId));
    }
}
