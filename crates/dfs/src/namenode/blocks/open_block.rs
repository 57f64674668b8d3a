//! Blocks being written.

use gristmill_proto::attendance::ReplicaInfo;
use gristmill_proto::ids::{BlockId, Generation, WorkerId};

use super::block_map::Record;
use super::deletion::Why;
use super::judgement::{Flaw, pack_replication};
use super::placement::may_come_to;
use super::roster::Slot;
use super::{Blocks, KnownBlock, Outbox};

/// How many replicas make a block durable, of so many that it can have. One where it can have none: it waits for one.
pub(super) fn durable_of(possible: u32) -> u32 {
    possible.clamp(1, 2)
}

/// A replica that its worker finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) slot: Slot,
    pub(super) generation: u64,
    pub(super) bytes: u64,
}

/// A block whose length is not yet agreed. There are as many as files being written.
#[derive(Debug, Default)]
pub(super) struct OpenBlock {
    /// Of its writer now.
    pub(super) generation: u64,
    pub(super) replication: u8,
    /// Who writes it now.
    pub(super) pipeline: Vec<WorkerId>,
    /// Who wrote it under older generations, and may have something left.
    pub(super) former: Vec<(WorkerId, u64)>,
    /// The newest that each worker finished, under whatever generation.
    pub(super) finished: Vec<Finished>,
}

impl OpenBlock {
    /// What this worker has now. Whether that is news.
    pub(super) fn note(&mut self, noted: Finished) -> bool {
        // Nobody was ever told to write that.
        if noted.generation > self.generation {
            return false;
        }
        match self.finished.iter_mut().find(|finished| finished.slot == noted.slot) {
            // Messages of a worker come in order, so a lower generation is a late duplicate.
            Some(before) if noted.generation < before.generation || *before == noted => false,
            Some(before) => {
                *before = noted;
                true
            }
            None => {
                self.finished.push(noted);
                true
            }
        }
    }

    pub(super) fn drop_slot(&mut self, slot: Slot) {
        self.finished.retain(|finished| finished.slot != slot);
    }

    /// A new pipeline under a newer generation.
    pub(super) fn rebuild(&mut self, generation: u64, workers: &[WorkerId]) {
        let before = std::mem::take(&mut self.pipeline);
        for worker in before {
            self.former.retain(|(former, _)| *former != worker);
            self.former.push((worker, self.generation));
        }
        self.former.retain(|(former, _)| !workers.contains(former));
        self.pipeline.extend_from_slice(workers);
        self.generation = generation;
    }
}

impl Blocks {
    /// A block is being written from now on, under this generation and by these workers: it was added, its pipeline was
    /// rebuilt, or a complete one was opened again to append. An older generation than is known changes nothing.
    pub fn block_opened(
        &mut self,
        block: BlockId,
        generation: Generation,
        replication: u32,
        workers: &[WorkerId],
    ) {
        let before = self.current(block.0, None);
        let is_newer = |known: KnownBlock| {
            known.generation > generation || (known.complete && known.generation == generation)
        };
        if self.recent.is_forgotten(block.0) || before.is_some_and(is_newer) {
            return;
        }
        self.learn(block.0, KnownBlock { generation, bytes: 0, replication, complete: false });
        if let Some(open) = self.open.get_mut(&block.0) {
            open.rebuild(generation.0, workers);
            open.replication = pack_replication(replication);
        }
    }

    /// The namespace agreed on the block's length: replicas with exactly this generation and length are good.
    pub fn block_complete(&mut self, block: BlockId, generation: Generation, bytes: u64, replication: u32) {
        let looked_up = KnownBlock { generation, bytes, replication, complete: true };
        if let Some(known) = self.current(block.0, Some(looked_up)) {
            self.learn(block.0, known);
            self.review(block.0);
        }
    }

    /// The file's replication changed.
    pub fn replication_changed(&mut self, block: BlockId, replication: u32) {
        let replication = pack_replication(replication);
        if let Some(open) = self.open.get_mut(&block.0) {
            open.replication = replication;
        }
        if self.recent.is_forgotten(block.0) {
            return;
        }
        self.recent.set_replication(block.0, replication);
        if let Some(entry) = self.map.get(block.0) {
            self.map.set_record(block.0, Record { replication, ..entry.record() });
            self.review(block.0);
        }
    }

    /// Blocks that the namespace has no more: their replicas are deleted.
    pub fn forget(&mut self, blocks: &[BlockId]) {
        for &BlockId(block) in blocks {
            if let Some(mut open) = self.open.remove(&block) {
                if let Some(recovery) = self.recoveries.remove(&block) {
                    open.generation = open.generation.max(recovery.generation());
                    open.pipeline.extend(recovery.asked());
                }
                self.delete_open(block, &open);
            }
            if let Some((entry, holders)) = self.map.remove(block) {
                self.safety.subtract();
                self.wanting.take_out(block, entry.queue());
                for slot in holders {
                    self.roster[slot].listed -= 1;
                    let replica = ReplicaInfo { block, generation: entry.generation(), bytes: entry.bytes() };
                    self.delete(slot, replica, Why::Unwanted);
                }
            }
            for bad in self.bad.remove(&block).unwrap_or_default() {
                self.bad_count -= 1;
                let replica = ReplicaInfo { block, generation: bad.generation, bytes: bad.bytes };
                self.delete(bad.slot, replica, Why::Unwanted);
            }
            self.cancel_copies_for(block);
            self.recent.forget(block);
        }
    }

    /// Replicas of exactly this generation and length on workers that are heard of. Whether a writer may go on depends
    /// on it: see [`durable_wanted`](Blocks::durable_wanted).
    pub fn good_replicas(&self, block: BlockId, generation: Generation, bytes: u64) -> u32 {
        let readable = |slot: &&Slot| self.roster[**slot].is_readable();
        let count = match (self.open.get(&block.0), self.map.get(block.0)) {
            (Some(open), _) => {
                let same = |f: &&Finished| f.generation == generation.0 && f.bytes == bytes;
                open.finished.iter().filter(same).map(|finished| &finished.slot).filter(readable).count()
            }
            (None, Some(entry)) if entry.generation() == generation.0 && entry.bytes() == bytes => {
                self.map.holders_of(block.0, entry).iter().filter(readable).count()
            }
            _ => 0,
        };
        count as u32
    }

    /// Durable replicas that a finished block must have before its writer is told so: two, or as many as there can be
    /// on workers that have it, or to which placement may give it. HDFS: `dfs.namenode.replication.min`, 1.
    pub fn durable_wanted(&self, block: BlockId, block_bytes: u64, replication: u32) -> u32 {
        let open = self.open.get(&block.0);
        let has_it = |slot: Slot, id: WorkerId| {
            open.is_some_and(|open| {
                open.pipeline.contains(&id) || open.finished.iter().any(|finished| finished.slot == slot)
            })
        };
        let could = self.roster.iter().filter(|(slot, worker)| {
            worker.is_readable() && (has_it(*slot, worker.id) || may_come_to(worker, block_bytes))
        });
        durable_of(replication.min(could.count() as u32))
    }

    /// A finished replica of a block being written.
    pub(super) fn note_finished(&mut self, block: u64, noted: Finished, out: &mut Outbox) {
        let Some(open) = self.open.get_mut(&block) else { return };
        if open.note(noted) {
            self.recovery_learns(block, noted.slot, out);
        }
    }

    /// A complete block is written again: what was good is what its workers finished before.
    pub(super) fn reopen(&mut self, block: u64) {
        let Some((entry, holders)) = self.map.remove(block) else { return };
        self.wanting.take_out(block, entry.queue());
        self.cancel_copies_for(block);
        let Record { generation, bytes, replication } = entry.record();
        let mut open = OpenBlock { generation, replication, ..OpenBlock::default() };
        for slot in holders {
            self.roster[slot].listed -= 1;
            open.finished.push(Finished { slot, generation, bytes });
        }
        self.open.insert(block, open);
    }

    /// A block being written is complete: each replica of it becomes good or bad, and those under way are waited for.
    pub(super) fn close(&mut self, block: u64, record: Record) {
        let Some(mut open) = self.open.remove(&block) else { return };
        self.recoveries.retain(|&of, recovery| of != block || recovery.generation() > record.generation);
        self.map.insert(block, record);
        if open.generation < record.generation {
            open.rebuild(record.generation, &[]);
        }
        for &Finished { slot, generation, bytes } in &open.finished {
            let replica = ReplicaInfo { block, generation, bytes };
            if generation == record.generation && bytes == record.bytes {
                self.hold(slot, block);
            } else if generation < record.generation {
                self.set_bad(slot, replica, Flaw::Stale);
            } else {
                self.set_bad(slot, replica, Flaw::Wrong);
            }
        }
        let has_finished = |slot: Slot| open.finished.iter().any(|finished| finished.slot == slot);
        for &worker in &open.pipeline {
            let Some(slot) = self.roster.slot(worker) else { continue };
            if !has_finished(slot) && self.roster[slot].is_up() {
                self.await_arrival(block, slot);
            }
        }
        for &(worker, generation) in &open.former {
            let Some(slot) = self.roster.slot(worker).filter(|&slot| !has_finished(slot)) else { continue };
            self.set_bad(slot, ReplicaInfo { block, generation, bytes: 0 }, Flaw::Hidden);
        }
    }

    fn delete_open(&mut self, block: u64, open: &OpenBlock) {
        let former = open.former.iter().map(|(worker, _)| worker);
        let writers: Vec<Slot> =
            open.pipeline.iter().chain(former).filter_map(|&worker| self.roster.slot(worker)).collect();
        let finished = open.finished.iter().map(|finished| (finished.slot, finished.generation));
        for (slot, own) in writers.into_iter().map(|slot| (slot, 0)).chain(finished) {
            let replica = ReplicaInfo { block, generation: open.generation.max(own), bytes: 0 };
            self.delete(slot, replica, Why::Unwanted);
        }
    }
}
