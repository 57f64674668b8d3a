//! What one reduce task reads, brought here. (Hadoop: Fetcher, MergeManager)

use super::errand::PartErrand;
use super::fetcher::{CHECK, Fetcher};
use super::intake::Bounds;
use super::sources::{News, Sources};
use crate::map_output::ShuffleRule;
use crate::memory::TaskMemory;
use crate::partition::Partitioner;
use crate::range::{RangeCuts, RangeCutsError};
use crate::run::RunPart;
use crate::scratch::{Scratch, ScratchError};
use gristmill_proto::consumed::Consumed;
use gristmill_proto::ids::{AttemptId, JobId, WorkerId};
use gristmill_proto::task::FetchFailed;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thiserror::Error;

/// Who fetches, and with what.
#[derive(Clone)]
pub struct FetchOptions {
    /// Whose map outputs.
    pub job: JobId,
    /// Of which of its shuffles.
    pub shuffle: u32,
    /// Allows it.
    pub token: Vec<u8>,
    /// Where this attempt runs.
    pub worker: WorkerId,
    /// Map outputs of this worker are in one of these directories.
    pub own_dirs: Vec<PathBuf>,
    /// What the task may use: for buffers; what is fetched is in the scratch's resident pool.
    pub memory: TaskMemory,
    /// Where blocks go, into memory or into files.
    pub scratch: Scratch,
    /// Set from outside to end it.
    pub cancel: Arc<AtomicBool>,
    /// This attempt.
    pub reader: AttemptId,
    /// Is told what could not be fetched; the epoch in it is for others to fill in.
    pub report: Arc<dyn Fn(FetchFailed) + Send + Sync>,
}

/// Why not everything could be fetched. What a holder does is none of these: it is reported and waited for.
#[derive(Debug, Error)]
pub enum FetchError {
    /// From outside.
    #[error("the fetch of map outputs was cancelled")]
    Cancelled,
    /// The worker says no more about where map outputs are.
    #[error("the worker has left this attempt after {done} of {} map outputs were fetched", Shown(.expected))]
    Closed {
        /// Those that are here.
        done: usize,
        /// Those there are, if that was said.
        expected: Option<u32>,
    },
    /// The master has named more map tasks than it has said there are.
    #[error("{named} map outputs were named where there are {expected} map tasks")]
    TooMany {
        /// As said.
        expected: u32,
        /// As named.
        named: usize,
    },
    /// Fetched blocks cannot be written here.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// This process can open nothing more.
    #[error(
        "this attempt has as many files and connections open as the system lets it, and cannot fetch map outputs"
    )]
    Descriptors(#[source] io::Error),
    /// The cuts of a range shuffle are none.
    #[error(transparent)]
    Cuts(#[from] RangeCutsError),
    /// The system has no more threads.
    #[error("cannot start a thread to fetch map outputs")]
    Thread(#[source] io::Error),
}

struct Shown<'a>(&'a Option<u32>);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(expected) => expected.fmt(f),
            None => f.write_str("an unknown number of"),
        }
    }
}

/// What a task reads.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Sorted parts of runs, here.
    pub parts: Vec<RunPart>,
    /// Which map outputs they are of. None: the partition is none of those that the shuffle has, and reads nothing.
    pub consumed: Option<Consumed>,
}

/// Everything that `partition` reads, verified; blocks until the outputs of all map tasks are there. Those of this
/// worker are read in place.
///
/// A fetch that failed twice is reported, and then waits until `sources` name the map output again; what cannot be
/// reached is also tried, and reported, again from time to time.
pub fn fetch(
    options: &FetchOptions,
    sources: &Sources,
    rule: &ShuffleRule,
    partition: u32,
) -> Result<Fetched, FetchError> {
    let keys = match &rule.partitioner {
        Partitioner::Hash | Partitioner::Custom(_) => None,
        Partitioner::Range => {
            let news = wait_for(options, sources, |news| !news.cuts.is_empty())?;
            match RangeCuts::decode(&news.cuts)?.bounds(partition) {
                Some((from, until)) => Some(Bounds { from, until }),
                // There are fewer ranges than partitions.
                None => return Ok(Fetched::default()),
            }
        }
    };
    let errand = PartErrand::new(partition, keys);
    let (parts, consumed) = Fetcher::new(options, sources, &errand).run()?;
    Ok(Fetched { parts: parts.into_iter().flatten().collect(), consumed: Some(consumed) })
}

/// Waits until something is known of the shuffle.
pub(super) fn wait_for(
    options: &FetchOptions,
    sources: &Sources,
    known: impl Fn(&News) -> bool,
) -> Result<News, FetchError> {
    let mut last = News::none();
    loop {
        let news = sources.news(options.shuffle, &last, CHECK);
        if options.cancel.load(Ordering::Relaxed) {
            return Err(FetchError::Cancelled);
        }
        if known(&news) {
            return Ok(news);
        }
        if news.closed {
            return Err(FetchError::Closed { done: 0, expected: news.expected });
        }
        last = News { entries: Vec::new(), ..news };
    }
}
