//! One block being written: its packets stay here until all workers have them, so that workers may fail.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use gristmill_proto::ids::BlockId;
use gristmill_proto::messages::write_block::Stage;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{AbandonBlock, AddBlock, BlockEnd, LocatedBlock, RebuildBlock};

use super::DfsClient;
use super::calls::outcome;
use super::connection::block_on;
use super::errors::{DfsError, ReplicaFailure, TransferError};
use super::packing::{Buffers, Packet};
use super::pipeline::{Opening, Pipeline};

/// Bytes sent and not acknowledged: enough to keep disks and wires busy, little enough to send again.
const WINDOW_BYTES: u64 = 16 << 20;
/// The same in packets: workers hold acknowledgements for no more.
const WINDOW_PACKETS: usize = 64;
/// Pipelines of one block that may break. A block that breaks more has a trouble that new pipelines do not mend.
const RECOVERIES_MAX: u32 = 5;
/// Before another pipeline after the second failure; doubled for each more. Workers may be restarting.
const BACK_OFF: Duration = Duration::from_millis(200);
/// Between attempts to find workers for a block.
const NO_WORKERS_BACK_OFF: Duration = Duration::from_millis(250);

/// What a block writer knows of its file.
pub(crate) struct OpenInode {
    pub(crate) client: DfsClient,
    pub(crate) path: String,
    pub(crate) inode: u64,
    /// The most that one of its blocks has.
    pub(crate) block_bytes: u64,
    /// Workers that failed this file's pipelines: new blocks go elsewhere while there is an elsewhere.
    pub(crate) exclude: Vec<u64>,
    /// A worker was left out for the way from here to it. Where the next one's is as slow, that is not the worker's.
    pub(crate) is_way_in_slow: bool,
}

/// One block being written.
pub(crate) struct BlockWriter {
    located: LocatedBlock,
    /// How the next pipeline is opened.
    stage: Stage,
    /// The generation that every replica had at last.
    generation_before: u64,
    /// The end of the block before it, for asking for another block in place of this one.
    previous: Option<BlockEnd>,
    pipeline: Option<Pipeline>,
    unacked: VecDeque<Unacked>,
    unacked_bytes: u64,
    /// Of the first of `unacked`, or of the next packet.
    first_sequence: u64,
    /// Bytes of the block that all workers have.
    acked_bytes: u64,
    ended: bool,
    causes: Vec<ReplicaFailure>,
}

struct Unacked {
    packet: Packet,
    sent_at: Instant,
}

impl BlockWriter {
    /// Asks for a new block after `previous`.
    pub(crate) fn add(file: &mut OpenInode, previous: Option<BlockEnd>) -> Result<BlockWriter, DfsError> {
        let located = add_block(file, previous)?;
        Ok(BlockWriter::new(located, Stage::Create, 0, 0, previous))
    }

    /// Goes on in the last block of a file: `located` has its new generation and its length.
    pub(crate) fn append(located: LocatedBlock, generation_before: u64) -> BlockWriter {
        let bytes = located.bytes;
        BlockWriter::new(located, Stage::Append, generation_before, bytes, None)
    }

    fn new(
        located: LocatedBlock,
        stage: Stage,
        generation_before: u64,
        acked_bytes: u64,
        previous: Option<BlockEnd>,
    ) -> BlockWriter {
        BlockWriter {
            located,
            stage,
            generation_before,
            previous,
            pipeline: None,
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            first_sequence: 0,
            acked_bytes,
            ended: false,
            causes: Vec::new(),
        }
    }

    /// Whether its last packet was pushed.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// What the master is to know of the block: all of it that is acknowledged.
    pub(crate) fn end(&self) -> BlockEnd {
        BlockEnd { block: self.located.block, generation: self.located.generation, bytes: self.acked_bytes }
    }

    /// Sends a packet, after waiting for room in the window.
    pub(crate) fn push(
        &mut self,
        file: &mut OpenInode,
        packet: Packet,
        buffers: &mut Buffers,
    ) -> Result<(), DfsError> {
        self.reap(file, buffers)?;
        self.ended = packet.last;
        self.unacked_bytes += packet.data.len() as u64;
        self.unacked.push_back(Unacked { packet, sent_at: Instant::now() });
        let sequence = self.first_sequence + self.unacked.len() as u64 - 1;
        let sent = match (&mut self.pipeline, self.unacked.back()) {
            (Some(pipeline), Some(unacked)) => pipeline.send(sequence, &unacked.packet),
            _ => self.open(file),
        };
        if let Err(failure) = sent {
            self.recover(file, failure)?;
        }
        while self.unacked_bytes > WINDOW_BYTES || self.unacked.len() > WINDOW_PACKETS {
            self.wait(file, buffers)?;
        }
        Ok(())
    }

    /// Whether all that was pushed is acknowledged. Does not wait, unless for a new pipeline.
    pub(crate) fn is_acked(&mut self, file: &mut OpenInode, buffers: &mut Buffers) -> Result<bool, DfsError> {
        self.reap(file, buffers)?;
        Ok(self.unacked.is_empty())
    }

    /// Waits until all that was pushed is acknowledged.
    pub(crate) fn wait_all(&mut self, file: &mut OpenInode, buffers: &mut Buffers) -> Result<(), DfsError> {
        while !self.unacked.is_empty() {
            self.wait(file, buffers)?;
        }
        Ok(())
    }

    /// Waits for the oldest packet, or for a new pipeline that has it again.
    fn wait(&mut self, file: &mut OpenInode, buffers: &mut Buffers) -> Result<(), DfsError> {
        let (Some(pipeline), Some(oldest)) = (&self.pipeline, self.unacked.front()) else { return Ok(()) };
        let waited = pipeline.wait_for(self.first_sequence, oldest.sent_at);
        if let Err(failure) = waited {
            self.recover(file, failure)?;
        }
        self.reap(file, buffers)
    }

    /// Lets go of what is acknowledged, and mends a pipeline that broke.
    fn reap(&mut self, file: &mut OpenInode, buffers: &mut Buffers) -> Result<(), DfsError> {
        self.settle(buffers);
        match self.pipeline.as_ref().and_then(Pipeline::failure) {
            // A pipeline whose block is done may end as it likes. Who held it up has its replica: the next go elsewhere.
            Some(failure) if self.ended && self.unacked.is_empty() => {
                if matches!(failure.cause, TransferError::Slow { .. }) {
                    exclude(file, &failure);
                }
                Ok(())
            }
            Some(failure) => self.recover(file, failure),
            None => Ok(()),
        }
    }

    fn settle(&mut self, buffers: &mut Buffers) {
        let Some(pipeline) = &self.pipeline else { return };
        let next = pipeline.acked();
        while self.first_sequence < next
            && let Some(Unacked { packet, .. }) = self.unacked.pop_front()
        {
            self.first_sequence += 1;
            self.acked_bytes = self.acked_bytes.max(packet.end());
            self.unacked_bytes -= packet.data.len() as u64;
            buffers.give_back(packet.data);
        }
    }

    /// Opens a pipeline, and sends it all that is not acknowledged.
    fn open(&mut self, file: &OpenInode) -> Result<(), ReplicaFailure> {
        let opening = Opening {
            located: &self.located,
            stage: self.stage,
            generation_before: self.generation_before,
            offset: self.acked_bytes,
            block_bytes: file.block_bytes,
            timeout: file.client.inner.options.pipeline_timeout,
            route: file.client.inner.route(),
            is_way_in_slow: file.is_way_in_slow,
        };
        let mut pipeline = Pipeline::open(&opening, self.first_sequence)?;
        self.generation_before = self.located.generation;
        self.stage = Stage::Rebuild;
        for (sequence, unacked) in (self.first_sequence..).zip(&mut self.unacked) {
            unacked.sent_at = Instant::now();
            pipeline.send(sequence, &unacked.packet)?;
        }
        self.pipeline = Some(pipeline);
        Ok(())
    }

    /// Goes on without the worker that failed: in another block if no byte of this one is acknowledged, and with those
    /// that live, under a new generation, if some are.
    fn recover(&mut self, file: &mut OpenInode, failure: ReplicaFailure) -> Result<(), DfsError> {
        let mut failure = failure;
        loop {
            tracing::warn!(path = %file.path, block = self.located.block, %failure, "a pipeline broke");
            // What was acknowledged before it broke counts. The buffers are of no use any more: this is rare.
            self.settle(&mut Buffers::default());
            self.pipeline = None;
            let culprit = failure.worker.0;
            let transient = failure.cause.is_transient();
            exclude(file, &failure);
            self.causes.push(failure);
            if self.causes.len() as u32 > RECOVERIES_MAX {
                return Err(self.lost(file));
            }
            if let Some(doublings) = self.causes.len().checked_sub(2) {
                std::thread::sleep(BACK_OFF * (1 << doublings));
            }
            let nothing_acked = self.acked_bytes == 0 && !matches!(self.stage, Stage::Append);
            if nothing_acked && self.first_sequence == 0 {
                self.replace(file)?;
            } else {
                self.rebuild(file, culprit, transient)?;
            }
            match self.open(file) {
                Ok(()) => return Ok(()),
                Err(another) => failure = another,
            }
        }
    }

    /// Another block in place of this one, of which nobody was promised anything.
    fn replace(&mut self, file: &mut OpenInode) -> Result<(), DfsError> {
        let abandon = AbandonBlock { inode: file.inode, block: self.located.block };
        block_on(file.client.ask(Request::AbandonBlock(abandon), |_| Some(())))?;
        self.located = add_block(file, self.previous)?;
        self.stage = Stage::Create;
        self.generation_before = 0;
        Ok(())
    }

    /// A new generation of this block for the workers that live.
    fn rebuild(&mut self, file: &mut OpenInode, culprit: u64, transient: bool) -> Result<(), DfsError> {
        let others = self.located.replicas.iter().any(|replica| replica.worker != culprit);
        if !others && !transient {
            return Err(self.lost(file));
        }
        // The last one that is left may have been away for a moment only.
        let failed = if others { vec![culprit] } else { Vec::new() };
        // Outside the workers' network the master may be what was away: its workers then register in a moment.
        let is_patient = transient && !file.client.inner.route().is_straight();
        let started = Instant::now();
        loop {
            let request = Request::RebuildBlock(RebuildBlock {
                inode: file.inode,
                block: self.located.block,
                generation: self.located.generation,
                failed: failed.clone(),
                acked_bytes: self.acked_bytes,
            });
            match block_on(file.client.ask(request, outcome!(Block))) {
                Ok(located) if !located.replicas.is_empty() => {
                    self.located = located;
                    return Ok(());
                }
                Ok(located) if is_patient && started.elapsed() < file.client.inner.options.retry_timeout => {
                    self.located = located;
                    std::thread::sleep(NO_WORKERS_BACK_OFF);
                }
                Ok(_) | Err(DfsError::Refused { kind: Kind::NoWorkers, .. }) => return Err(self.lost(file)),
                Err(error) => return Err(error),
            }
        }
    }

    fn lost(&mut self, file: &OpenInode) -> DfsError {
        DfsError::PipelineLost {
            path: file.path.clone(),
            block: BlockId(self.located.block),
            acked_bytes: self.acked_bytes,
            causes: std::mem::take(&mut self.causes),
        }
    }
}

/// Asks for a block, elsewhere than on the workers that failed, and anywhere if there is no elsewhere.
fn add_block(file: &mut OpenInode, previous: Option<BlockEnd>) -> Result<LocatedBlock, DfsError> {
    let started = Instant::now();
    loop {
        let request =
            Request::AddBlock(AddBlock { inode: file.inode, previous, exclude: file.exclude.clone() });
        match block_on(file.client.ask(request, outcome!(Block))) {
            Err(DfsError::Refused { kind: Kind::NoWorkers, .. }) if !file.exclude.is_empty() => {
                file.exclude.clear();
            }
            Err(error @ DfsError::Refused { kind: Kind::NoWorkers, .. }) => {
                if started.elapsed() >= file.client.inner.options.retry_timeout {
                    return Err(error);
                }
                std::thread::sleep(NO_WORKERS_BACK_OFF);
            }
            other => return other,
        }
    }
}

/// New blocks go elsewhere than to a worker that failed, or is too slow.
fn exclude(file: &mut OpenInode, failure: &ReplicaFailure) {
    /// A cluster in which more fail at a time has no use for a list.
    const EXCLUDED_MAX: usize = 16;
    file.is_way_in_slow |= matches!(failure.cause, TransferError::Slow { by_the_way_in: true, .. });
    let worker = failure.worker.0;
    if worker != 0 && !file.exclude.contains(&worker) {
        if file.exclude.len() == EXCLUDED_MAX {
            file.exclude.remove(0);
        }
        file.exclude.push(worker);
    }
}
