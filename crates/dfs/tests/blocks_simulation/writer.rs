//! Clients that write, append, truncate and delete; and the namespace's part in it.

use gristmill_dfs::namenode::blocks::{Decision, PipelineWanted, RecoveryWanted};
use gristmill_proto::ids::{BlockId, Generation, InodeId, WorkerId};

use crate::network::{Event, Notice};
use crate::world::{Block, World};

/// Longest block, in bytes.
const BLOCK_BYTES: u64 = 1_000;

/// Who writes a block.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    workers: Vec<usize>,
    /// Bytes it will have written at the end.
    bytes: u64,
    /// It has sent all, and asks whether it may go on.
    asks: u32,
}

impl World {
    pub(crate) fn start_write(&mut self) {
        let replication = 1 + self.below(3) as u32;
        let host = format!("host{}", self.below(10));
        let wanted = PipelineWanted {
            writer_host: &host,
            replication,
            block_bytes: BLOCK_BYTES,
            exclude: &[],
            keep: &[],
        };
        let pipeline = self.master.choose_pipeline(&wanted);
        if pipeline.is_empty() || self.master.safe_mode().on {
            return;
        }
        self.count("block written");
        self.blocks += 1;
        let (block, generation) = (self.blocks, self.new_generation());
        let workers: Vec<usize> = pipeline.iter().filter_map(|&id| self.node_of(id)).collect();
        let bytes = 1 + self.below(BLOCK_BYTES);
        let writer = Writer { workers: workers.clone(), bytes, asks: 0 };
        let record = Block {
            generation,
            bytes: 0,
            replication,
            complete: false,
            synced_bytes: 0,
            cut_to_bytes: None,
            pipeline: pipeline.clone(),
            writer: Some(writer),
            destroyed_ms: 0,
            excused: false,
        };
        self.namespace.insert(block, record);
        self.master.block_opened(BlockId(block), Generation(generation), replication, &pipeline);
        for worker in workers {
            if self.reaches(worker) {
                let part = self.below(bytes + 1);
                self.nodes[worker].disk.write(block, generation, part);
            }
        }
        self.go_on_later(block);
    }

    pub(crate) fn go_on_later(&mut self, block: u64) {
        let delay_ms = 50 + self.below(1_500);
        self.events.at(self.now_ms + delay_ms, Event::Writer { block });
    }

    /// The writer of a block does its next step.
    pub(crate) fn write_on(&mut self, block: u64) {
        let Some(record) = self.namespace.get(&block) else { return };
        let Some(writer) = record.writer.clone() else { return };
        if self.chance(60) {
            self.count("writer died");
            return self.recover(block);
        }
        match writer.asks {
            0 => self.stream(block, &writer),
            1..20 => self.ask(block, &writer),
            _ => self.recover(block),
        }
    }

    /// Bytes go through the pipeline; a broken one is rebuilt; at the end all replicas are finished.
    fn stream(&mut self, block: u64, writer: &Writer) {
        let generation = self.namespace[&block].generation;
        let writes = |worker: usize, world: &World| {
            let replica = world.nodes[worker].disk.replicas.get(&block);
            world.reaches(worker)
                && replica.is_some_and(|r| r.generation == generation && r.fence <= generation && !r.finished)
        };
        let alive: Vec<usize> = writer.workers.iter().copied().filter(|&w| writes(w, self)).collect();
        if alive.is_empty() {
            return self.recover(block);
        }
        if alive.len() < writer.workers.len() {
            return self.rebuild(block, writer, alive);
        }
        if self.chance(300) {
            // Synced: durable on all of them.
            let synced = writer.bytes / 2;
            for &worker in &alive {
                let replica = self.nodes[worker].disk.replicas.get_mut(&block).expect("it writes");
                replica.bytes = replica.bytes.max(synced);
            }
            let record = self.namespace.get_mut(&block).expect("it is written");
            record.synced_bytes = record.synced_bytes.max(synced);
            return self.go_on_later(block);
        }
        for worker in alive {
            if self.chance(950)
                && let Some(info) = self.nodes[worker].disk.finish(block, generation, writer.bytes)
            {
                self.tell(worker, Notice::Finished(vec![info]));
            }
        }
        self.writer(block, |writer| writer.asks = 1);
        self.go_on_later(block);
    }

    fn rebuild(&mut self, block: u64, writer: &Writer, alive: Vec<usize>) {
        self.count("pipeline rebuilt");
        let generation = self.new_generation();
        let acked = {
            let record = &self.namespace[&block];
            let bytes = alive.iter().map(|&w| self.nodes[w].disk.replicas[&block].bytes);
            bytes.min().unwrap_or(0).max(record.synced_bytes)
        };
        for &worker in &alive {
            let replica = self.nodes[worker].disk.replicas.get_mut(&block).expect("it writes");
            (replica.generation, replica.bytes) = (generation, acked);
        }
        let pipeline: Vec<WorkerId> = alive.iter().map(|&w| WorkerId(self.nodes[w].id)).collect();
        let replication = self.namespace[&block].replication;
        self.master.block_opened(BlockId(block), Generation(generation), replication, &pipeline);
        let record = self.namespace.get_mut(&block).expect("it is written");
        (record.generation, record.pipeline) = (generation, pipeline);
        record.writer = Some(Writer { workers: alive, bytes: writer.bytes.max(acked), asks: 0 });
        self.go_on_later(block);
    }

    fn ask(&mut self, block: u64, writer: &Writer) {
        let (generation, replication) =
            (self.namespace[&block].generation, self.namespace[&block].replication);
        let have = self.master.good_replicas(BlockId(block), Generation(generation), writer.bytes);
        let wanted = self.master.durable_wanted(BlockId(block), BLOCK_BYTES, replication);
        if have == 0 || have < wanted || self.master.safe_mode().on {
            self.writer(block, |writer| writer.asks += 1);
            return self.go_on_later(block);
        }
        self.complete(block, generation, writer.bytes);
    }

    fn complete(&mut self, block: u64, generation: u64, bytes: u64) {
        let record = self.namespace.get_mut(&block).expect("it is written");
        (record.generation, record.bytes, record.complete) = (generation, bytes, true);
        (record.synced_bytes, record.cut_to_bytes, record.writer) = (bytes, None, None);
        let replication = record.replication;
        self.master.block_complete(BlockId(block), Generation(generation), bytes, replication);
    }

    fn writer(&mut self, block: u64, change: impl FnOnce(&mut Writer)) {
        if let Some(writer) = self.namespace.get_mut(&block).and_then(|record| record.writer.as_mut()) {
            change(writer);
        }
    }

    /// A complete block is written again at its end.
    pub(crate) fn append(&mut self, block: u64) {
        let workers: Vec<usize> = self
            .master
            .locations(BlockId(block), "")
            .into_iter()
            .filter_map(|id| self.node_of(id))
            .filter(|&worker| self.good(block).contains(&worker) && self.reaches(worker))
            .collect();
        if workers.is_empty() || self.master.safe_mode().on {
            return;
        }
        self.count("append");
        let generation = self.new_generation();
        for &worker in &workers {
            let replica = self.nodes[worker].disk.replicas.get_mut(&block).expect("it is good");
            (replica.generation, replica.finished) = (generation, false);
        }
        let pipeline: Vec<WorkerId> = workers.iter().map(|&w| WorkerId(self.nodes[w].id)).collect();
        let more = self.below(50);
        let record = self.namespace.get_mut(&block).expect("it is there");
        (record.generation, record.complete, record.pipeline) = (generation, false, pipeline.clone());
        record.synced_bytes = record.bytes;
        record.writer = Some(Writer { workers, bytes: record.bytes + more, asks: 0 });
        let replication = record.replication;
        self.master.block_opened(BlockId(block), Generation(generation), replication, &pipeline);
        self.go_on_later(block);
    }

    pub(crate) fn truncate(&mut self, block: u64) {
        let bytes = self.namespace[&block].bytes;
        if self.master.safe_mode().on {
            return;
        }
        self.count("truncate");
        let cut = 1 + self.below(bytes);
        let record = self.namespace.get_mut(&block).expect("it is there");
        (record.complete, record.synced_bytes, record.cut_to_bytes) = (false, cut, Some(cut));
        self.recover(block);
    }

    /// The writer is gone: the replicas must agree.
    pub(crate) fn recover(&mut self, block: u64) {
        self.count("recovery");
        let generation = self.new_generation();
        let record = self.namespace.get_mut(&block).expect("it is there");
        (record.writer, record.generation, record.complete) = (None, generation, false);
        let wanted = RecoveryWanted {
            inode: InodeId(block),
            block: BlockId(block),
            generation: Generation(generation),
            synced_bytes: record.synced_bytes,
            cut_to_bytes: record.cut_to_bytes,
            replication: record.replication,
            workers: record.pipeline.clone(),
        };
        self.master.begin_recovery(wanted, self.now_ms, &mut self.out);
    }

    pub(crate) fn forget(&mut self, block: u64) {
        self.count("block forgotten");
        self.namespace.remove(&block);
        self.master.forget(&[BlockId(block)]);
    }

    /// The namespace obeys.
    pub(crate) fn decide(&mut self, decision: Decision) {
        match decision {
            Decision::Recovered { block, generation, bytes, .. } => {
                let Some(record) = self.namespace.get(&block.0) else { return };
                if record.generation != generation.0 || record.complete {
                    return;
                }
                assert!(
                    record.excused || bytes >= record.synced_bytes,
                    "seed {}: {block} lost synced bytes: {bytes} of {}",
                    self.seed,
                    record.synced_bytes
                );
                self.count("recovered");
                match bytes {
                    0 => self.forget(block.0),
                    _ => self.complete(block.0, generation.0, bytes),
                }
            }
            Decision::RecoveryFailed { block, .. } => {
                self.count("recovery failed");
                if self.namespace.get(&block.0).is_some_and(|record| !record.complete) {
                    self.recover(block.0);
                }
            }
            Decision::RecoveryWaits { .. } => self.count("recovery waits"),
            Decision::MaintenanceOver { .. } => self.count("maintenance over"),
            Decision::Corrupt { .. } => self.count("corrupt"),
            Decision::Missing { .. } => self.count("missing"),
        }
    }
}
