//! What replicas there are, in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use gristmill_proto::attendance::ReplicaInfo;
use gristmill_proto::ids::{BlockId, Generation};

use super::names::{State, SumName};
use super::unfinished::Unfinished;

/// All replicas of all volumes by block. A million take about 50 MB.
#[derive(Default)]
pub(super) struct Index {
    replicas: BTreeMap<BlockId, Entry>,
}

#[derive(Clone)]
pub(super) enum Entry {
    Finished(Finished),
    Unfinished(Arc<Unfinished>),
}

/// A replica at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) generation: Generation,
    pub(super) bytes: u64,
    /// Index of its volume.
    pub(super) volume: u16,
    /// Found to be damaged: kept, not served.
    pub(super) bad: bool,
}

impl Index {
    pub(super) fn get(&self, block: BlockId) -> Option<Entry> {
        self.replicas.get(&block).cloned()
    }

    pub(super) fn insert(&mut self, block: BlockId, entry: Entry) {
        self.replicas.insert(block, entry);
    }

    pub(super) fn remove(&mut self, block: BlockId) {
        self.replicas.remove(&block);
    }

    /// Marks a finished replica as bad, if it is still this one and was not yet.
    pub(super) fn mark_bad(&mut self, block: BlockId, generation: Generation) -> Option<ReplicaInfo> {
        match self.replicas.get_mut(&block) {
            Some(Entry::Finished(finished)) if finished.generation == generation && !finished.bad => {
                finished.bad = true;
                Some(finished.info(block))
            }
            _ => None,
        }
    }

    /// The first finished replicas after `after` that are bad, or that are not.
    pub(super) fn finished_after(&self, after: BlockId, limit: usize, bad: bool) -> Vec<ReplicaInfo> {
        let later = self.replicas.range((Bound::Excluded(after), Bound::Unbounded));
        let finished = later.filter_map(|(block, entry)| match entry {
            Entry::Finished(finished) if finished.bad == bad => Some(finished.info(*block)),
            _ => None,
        });
        finished.take(limit).collect()
    }

    pub(super) fn unfinished(&self) -> impl Iterator<Item = &Arc<Unfinished>> {
        self.replicas.values().filter_map(|entry| match entry {
            Entry::Unfinished(replica) => Some(replica),
            Entry::Finished(_) => None,
        })
    }

    /// Takes out all replicas of a volume.
    pub(super) fn remove_volume(&mut self, volume: u16) -> Vec<(BlockId, Entry)> {
        self.replicas.extract_if(.., |_, entry| entry.volume() == volume).collect()
    }
}

impl Entry {
    pub(super) fn volume(&self) -> u16 {
        match self {
            Entry::Finished(finished) => finished.volume,
            Entry::Unfinished(replica) => replica.volume.number,
        }
    }

    pub(super) fn name(&self) -> SumName {
        match self {
            Entry::Finished(finished) => finished.name(),
            Entry::Unfinished(replica) => replica.name,
        }
    }

    pub(super) fn generation(&self) -> Generation {
        self.name().generation
    }

    pub(super) fn bytes(&self) -> u64 {
        match self {
            Entry::Finished(finished) => finished.bytes,
            Entry::Unfinished(replica) => replica.visible().bytes,
        }
    }

    pub(super) fn info(&self, block: BlockId) -> ReplicaInfo {
        ReplicaInfo { block: block.0, generation: self.generation().0, bytes: self.bytes() }
    }

    /// Whether nothing has happened to the replica between two looks at it.
    pub(super) fn is_same(&self, other: &Entry) -> bool {
        match (self, other) {
            (Entry::Finished(one), Entry::Finished(other)) => one == other,
            (Entry::Unfinished(one), Entry::Unfinished(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Finished {
    pub(super) fn name(&self) -> SumName {
        SumName { generation: self.generation, state: State::Finished { bytes: self.bytes } }
    }

    pub(super) fn info(&self, block: BlockId) -> ReplicaInfo {
        ReplicaInfo { block: block.0, generation: self.generation.0, bytes: self.bytes }
    }
}
