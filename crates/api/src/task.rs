//! One task of a stage, from its input to what it leaves behind. A thread of the local runner and an attempt's process
//! on a cluster run it alike.

use crate::panics;
use crate::pipe::{Program, TaskInput};
use gristmill_dataflow::attempt::{Attempt, AttemptContext, AttemptReport, PartNames, TaskError};
use gristmill_dataflow::map_output::ShuffleRule;
use std::sync::Arc;

/// What a task does, whatever it reads.
pub(crate) struct TaskWork<'w> {
    /// The stage's steps.
    pub(crate) program: &'w Program,
    /// The stage reads a shuffle.
    pub(crate) merges: bool,
    /// The shuffle that the stage feeds, if it does.
    pub(crate) feeds: Option<ShuffleRule>,
}

impl TaskWork<'_> {
    /// Runs one attempt. What the author's functions do wrong is an error, not a panic.
    pub(crate) fn run(self, input: &TaskInput, context: AttemptContext) -> Result<AttemptReport, TaskError> {
        let mut attempt = Attempt::new(context);
        if let Some(rule) = self.feeds {
            if self.merges {
                attempt.share_memory();
            }
            attempt.begin_map_output(rule);
        }
        let ran = panics::catch(|| (self.program)(input, &mut attempt));
        let at = attempt.position.clone();
        ran.unwrap_or_else(|message| Err(TaskError::Panic { message, at: at.clone() }))?;
        // The combine function may panic here.
        let finished = panics::catch(|| attempt.finish());
        finished.unwrap_or_else(|message| Err(TaskError::Panic { message, at }))
    }
}

/// How the output files of a task are named.
pub(crate) fn part_names(merges: bool, task: u32, bases: &Arc<Vec<u32>>, job: Option<String>) -> PartNames {
    PartNames { kind: if merges { 'r' } else { 'm' }, task, bases: bases.clone(), job }
}
