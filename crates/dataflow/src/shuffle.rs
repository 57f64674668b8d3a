//! What one reduce task reads: its part of every map output, merged and grouped. Here map outputs are runs of
//! this process; on a cluster they come from other workers, and all that follows is the same.

use crate::group::Groups;
use crate::map_output::ShuffleRule;
use crate::memory::TaskMemory;
use crate::merge::{Merge, MergeError, merge_until_few};
use crate::partition::Partitioner;
use crate::range::RangeCuts;
use crate::run::{Run, RunPart};
use crate::scratch::Scratch;
use std::sync::Arc;

/// All map outputs of one shuffle, complete.
pub struct Shuffle {
    runs: Vec<Arc<Run>>,
    cuts: Option<RangeCuts>,
}

impl Shuffle {
    /// The outputs of all map tasks.
    pub fn new(runs: Vec<Arc<Run>>, rule: &ShuffleRule) -> Self {
        let range = matches!(rule.partitioner, Partitioner::Range);
        let cuts = range.then(|| RangeCuts::choose(&runs, rule.partitions));
        Self { runs, cuts }
    }

    /// What partition `partition` reads.
    pub fn parts(&self, partition: u32) -> Vec<RunPart> {
        match &self.cuts {
            Some(cuts) => self.runs.iter().map(|run| cuts.part(run, partition)).collect(),
            None => self.runs.iter().filter_map(|run| RunPart::partition(run, partition)).collect(),
        }
    }
}

/// Merges `parts` within `memory` and groups them.
pub fn group_parts(parts: Vec<RunPart>, memory: TaskMemory, scratch: &Scratch) -> Result<Groups, MergeError> {
    Ok(Groups::new(Merge::open(merge_until_few(parts, memory, scratch)?)?))
}
