//! A worker of the simulated world: its disk, its process, and how it obeys.

use std::collections::BTreeMap;

use gristmill_proto::attendance::{ReplicaInfo, Stopped, Volume};

/// What the worker's disks hold.
pub(crate) const CAPACITY_BYTES: u64 = 100_000;

/// One replica on a disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replica {
    pub(crate) generation: u64,
    pub(crate) bytes: u64,
    pub(crate) finished: bool,
    /// Writers below this generation are fenced.
    pub(crate) fence: u64,
    /// Its bytes are damaged; whether the worker has noticed.
    pub(crate) rotten: bool,
    pub(crate) noticed: bool,
}

impl Replica {
    pub(crate) fn info(&self, block: u64) -> ReplicaInfo {
        ReplicaInfo { block, generation: self.generation, bytes: self.bytes }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) replicas: BTreeMap<u64, Replica>,
}

impl Disk {
    pub(crate) fn volumes(&self) -> Vec<Volume> {
        let used_bytes = self.replicas.values().map(|replica| replica.bytes).sum();
        let remaining_bytes = CAPACITY_BYTES - used_bytes;
        vec![Volume {
            id: "v".to_owned(),
            capacity_bytes: CAPACITY_BYTES,
            used_bytes,
            remaining_bytes,
            failed: false,
        }]
    }

    /// A writer or a copy begins: nothing newer may be there.
    pub(crate) fn write(&mut self, block: u64, generation: u64, bytes: u64) -> bool {
        let fence = self.replicas.get(&block).map_or(0, |there| there.fence.max(there.generation));
        if fence > generation {
            return false;
        }
        let replica = Replica { generation, bytes, finished: false, fence: 0, rotten: false, noticed: false };
        self.replicas.insert(block, replica);
        true
    }

    /// The writer is done: all its bytes are durable.
    pub(crate) fn finish(&mut self, block: u64, generation: u64, bytes: u64) -> Option<ReplicaInfo> {
        let replica = self.replicas.get_mut(&block)?;
        if replica.generation != generation
            || replica.fence > generation
            || replica.finished
            || replica.noticed
        {
            return None;
        }
        (replica.bytes, replica.finished) = (bytes, true);
        Some(replica.info(block))
    }

    pub(crate) fn stop_writer(&mut self, block: u64, generation: u64) -> Stopped {
        let mut stopped =
            Stopped { epoch: 0, block, generation, generation_before: 0, bytes: 0, found: false };
        if let Some(replica) = self.replicas.get_mut(&block)
            && !replica.rotten
        {
            replica.fence = replica.fence.max(generation);
            stopped.found = true;
            (stopped.generation_before, stopped.bytes) = (replica.generation, replica.bytes);
        }
        stopped
    }

    pub(crate) fn settle(&mut self, block: u64, generation: u64, bytes: u64) -> Option<ReplicaInfo> {
        let replica = self.replicas.get_mut(&block)?;
        let is_newer = replica.fence > generation || replica.generation > generation;
        if replica.bytes < bytes || is_newer || replica.noticed {
            return None;
        }
        (replica.generation, replica.bytes, replica.finished) = (generation, bytes, true);
        Some(replica.info(block))
    }

    /// What a full report lists.
    pub(crate) fn listed(&self, first: u64, last: u64) -> Vec<ReplicaInfo> {
        let replicas = self.replicas.range(first..=last);
        let listed = replicas.filter(|(_, replica)| replica.finished && !replica.noticed);
        listed.map(|(&block, replica)| replica.info(block)).collect()
    }

    pub(crate) fn noticed(&self) -> Vec<ReplicaInfo> {
        let bad = self.replicas.iter().filter(|(_, replica)| replica.noticed);
        bad.map(|(&block, replica)| replica.info(block)).collect()
    }
}
