//! How tasks and attempts are written: `1/3` or `s1-t00003`.

use std::str::FromStr;

use gristmill_proto::ids::{CUT_BIT, JobId, TaskId};

/// A task of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskName {
    pub(crate) stage: u32,
    pub(crate) task: u32,
}

impl FromStr for TaskName {
    type Err = String;

    fn from_str(text: &str) -> Result<TaskName, String> {
        let long = text.strip_prefix('s').and_then(|rest| rest.split_once("-t"));
        let numbers = long.or_else(|| text.split_once('/'));
        let name = numbers.and_then(|(stage, task)| {
            Some(TaskName { stage: stage.parse().ok()?, task: task.parse().ok()? })
        });
        name.ok_or_else(|| "a task is STAGE/TASK, as 1/3 or s1-t00003".to_owned())
    }
}

/// An attempt as messages of the cluster and files of it are named: `s1-t00003-a0`.
pub(crate) fn attempt_name(stage: u32, task: u32, number: u32) -> String {
    TaskId { job: JobId([0; 16]), stage, task }.attempt(number).name()
}

/// The number of an attempt as people count: an attempt that cuts ranges has a mark in it.
pub(crate) fn plain_number(number: u32) -> u32 {
    number & !CUT_BIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_read_as_they_are_shown() {
        assert_eq!("1/3".parse(), Ok(TaskName { stage: 1, task: 3 }));
        assert_eq!("s1-t00003".parse(), Ok(TaskName { stage: 1, task: 3 }));
        assert_eq!(attempt_name(1, 3, 0), "s1-t00003-a0");
        assert_eq!(plain_number(CUT_BIT | 2), 2);
        for wrong in ["", "1", "1/", "/3", "a/b", "s1-3", "s1-t00003-a0", "-1/3"] {
            assert!(wrong.parse::<TaskName>().is_err(), "{wrong}");
        }
    }
}
