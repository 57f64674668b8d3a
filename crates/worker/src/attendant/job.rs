//! What this worker knows of a job: its spec, its tokens, and where its map outputs are.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use gristmill_proto::ids::JobId;
use gristmill_proto::job::JobSpec;
use gristmill_proto::job::stage::Origin;
use gristmill_proto::task::{Holder, OutputEntry, Outputs, StartJob};

/// Map outputs in one message.
const ENTRIES_MAX: usize = 1000;

/// A job of which attempts run here, or have.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) spec: Arc<JobSpec>,
    pub(super) caller_token: String,
    pub(super) shuffle_token: Bytes,
    shuffles: BTreeMap<u32, Shuffle>,
}

/// Where the map outputs of one shuffle are, as the master has told so far.
#[derive(Debug, Default)]
struct Shuffle {
    expected: u32,
    cuts: Bytes,
    entries: BTreeMap<(u32, u32), OutputEntry>,
    holders: BTreeMap<u64, Holder>,
}

impl Job {
    /// None if the message has no job.
    pub(super) fn new(start: StartJob) -> Option<(JobId, Job)> {
        let StartJob { spec, caller_token, shuffle_token } = start;
        let spec = spec?;
        let id = JobId::from_wire(&spec.job)?;
        Some((id, Job { spec: Arc::new(spec), caller_token, shuffle_token, shuffles: BTreeMap::new() }))
    }

    /// The same job, told again: tokens may be new.
    pub(super) fn renew(&mut self, later: Job) {
        (self.caller_token, self.shuffle_token) = (later.caller_token, later.shuffle_token);
    }

    /// Which shuffle a stage reads, if any.
    pub(super) fn read_by(&self, stage: u32) -> Option<u32> {
        let stage = self.spec.stages.get(stage as usize)?;
        (stage.origin() == Origin::Shuffle).then_some(stage.shuffle)
    }

    /// Takes news of a shuffle.
    pub(super) fn learn(&mut self, news: &Outputs) {
        let shuffle = self.shuffles.entry(news.shuffle).or_default();
        shuffle.expected = news.expected;
        if !news.cuts.is_empty() {
            shuffle.cuts = news.cuts.clone();
        }
        for holder in &news.holders {
            shuffle.holders.insert(holder.worker, holder.clone());
        }
        for entry in &news.entries {
            shuffle.entries.insert((entry.stage, entry.task), entry.clone());
        }
    }

    /// All that is known of a shuffle, for an attempt that begins. Nothing if nothing is known.
    pub(super) fn outputs(&self, job: JobId, number: u32) -> Vec<Outputs> {
        let Some(shuffle) = self.shuffles.get(&number) else { return Vec::new() };
        let entries: Vec<&OutputEntry> = shuffle.entries.values().collect();
        // Without entries the number of those to come is still news.
        let pages = entries.len().div_ceil(ENTRIES_MAX).max(1);
        let page = |page: usize| {
            let entries = entries.iter().skip(page * ENTRIES_MAX).take(ENTRIES_MAX);
            let entries: Vec<OutputEntry> = entries.map(|entry| (*entry).clone()).collect();
            let named: std::collections::BTreeSet<u64> = entries.iter().map(|entry| entry.holder).collect();
            let holders = named.iter().filter_map(|worker| shuffle.holders.get(worker)).cloned().collect();
            // The cuts come with the last page: whoever has them has everything.
            let cuts = if page + 1 == pages { shuffle.cuts.clone() } else { Bytes::new() };
            let job = job.0.to_vec().into();
            Outputs { job, shuffle: number, entries, holders, expected: shuffle.expected, cuts }
        };
        (0..pages).map(page).collect()
    }
}
