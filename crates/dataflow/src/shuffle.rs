//! What one reduce task reads: its part of every map output, merged and grouped. In the local runner map outputs are
//! runs of the process; on a cluster they come from other workers, and all that follows is the same.
//!
//! ```text
//!  worker that ran the map                              attempt that reduces
//!  Run::detach -> OutputStore -> ShuffleServer ──bulk──> fetch -> RunPart ... -> merge, group
//!                  ^     └── keep ──bulk──> another's                ^
//!          a file a map output, served as it is          own worker's: read in place
//! ```
//! The daemon's side: [`output_store`](OutputStore) with `index_cache`; [`serve`](ShuffleServer), `connection` and
//! `serve_keep`, under [`keys`](ShuffleKeys); [`keep()`]. The attempt's: [`sources`](Sources) (where map outputs are),
//! [`fetch()`] and [`cut()`] over `fetcher`, which asks as `work` decides, through `holder`s, what an `errand` wants;
//! `intake` takes blocks; a `fault` says why not. Both: `run_bytes`, `failure`.

mod connection;
mod cut;
mod errand;
mod failure;
mod fault;
mod fetch;
mod fetcher;
mod holder;
mod index_cache;
mod intake;
mod keep;
mod keys;
mod output_store;
mod run_bytes;
mod serve;
mod serve_keep;
mod sources;
mod work;

pub use cut::cut;
pub use fetch::{FetchError, FetchOptions, Fetched, fetch};
pub use keep::{KeepError, keep};
pub use keys::ShuffleKeys;
pub use output_store::{OutputStore, OutputStoreError};
pub use serve::{ServeOptions, ShuffleServer};
pub use sources::Sources;

use crate::group::Groups;
use crate::hold::{self, Moment};
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
    let merge = Merge::open(merge_until_few(parts, memory, scratch)?)?;
    hold::reach(Moment::ReduceMerge);
    Ok(Groups::new(merge))
}
