//! What the writer of a file asks for, block by block.

use gristmill_proto::ids::{BlockId, InodeId, WorkerId};
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{AbandonBlock, AddBlock, BlockEnd, Complete, Done, RebuildBlock, Sync};
use gristmill_proto::record::construction::Phase;
use gristmill_proto::record::{Extent, File};

use super::change::{Call, Change};
use super::draft::Draft;
use super::inode::{bytes, holder, located, open_extent};
use super::leases::lease_lost;
use super::refusal::{refuse, refuse_inode};
use super::tree::{Node, Tree};
use super::{CallError, Effect, FsPath};

/// Blocks of one file (Hadoop: `dfs.namenode.fs-limits.max-blocks-per-file`, 10,000 there): a file is one record.
pub const FILE_BLOCKS_MAX: usize = 100_000;

/// A file that the caller writes.
struct Written {
    draft: Draft,
    above: Vec<InodeId>,
    path: String,
}

impl Change<'_> {
    pub(super) fn add_block(&mut self, call: &Call, request: &AddBlock) -> Result<Outcome, CallError> {
        let Written { mut draft, above, path } = self.written(call, request.inode)?;
        let path = FsPath::of_tree(&path);
        self.end_last(call, &mut draft, request.previous.as_ref(), path)?;
        if draft.file.blocks.len() >= FILE_BLOCKS_MAX {
            return Err(refuse(Kind::Limit, path, format!("a file has at most {FILE_BLOCKS_MAX} blocks")));
        }
        if call.facts.targets.is_empty() {
            return Err(refuse(Kind::NoWorkers, path, "no worker can take a block"));
        }
        let (block, generation) = (self.new_block(), self.new_generation());
        let extent = Extent { block: block.0, generation: generation.0, bytes: 0 };
        let pipeline: Vec<u64> = call.facts.targets.iter().map(|worker| worker.0).collect();
        let answer = located(&extent, bytes(&draft.file), &pipeline);
        draft.file.blocks.push(extent);
        if let Some(construction) = &mut draft.file.construction {
            construction.pipeline = pipeline;
            (construction.synced_bytes, construction.synced_generation) = (0, generation.0);
        }
        self.set_extent(&draft, &extent, false)?;
        let (replication, workers) = (draft.file.replication, call.facts.targets.clone());
        self.effects.push(Effect::BlockAdded { block, generation, replication, workers });
        self.write_back(draft, &above, path)?;
        Ok(Outcome::Block(answer))
    }

    pub(super) fn rebuild_block(
        &mut self,
        call: &Call,
        request: &RebuildBlock,
    ) -> Result<Outcome, CallError> {
        let Written { mut draft, above, path } = self.written(call, request.inode)?;
        let path = FsPath::of_tree(&path);
        let (block, bytes) = (request.block, request.acked_bytes);
        let end = BlockEnd { block, generation: request.generation, bytes };
        let mut extent = check_end(&draft.file, &end, path)?;
        let generation = self.new_generation();
        let offset = super::inode::bytes(&draft.file) - extent.bytes;
        extent.generation = generation.0;
        let (Some(construction), Some(last)) = (&mut draft.file.construction, draft.file.blocks.last_mut())
        else {
            return Err(lease_lost(path));
        };
        *last = extent;
        let pipeline = &mut construction.pipeline;
        if pipeline.is_empty() {
            // After an append only the block side knows who has replicas.
            pipeline.extend(call.facts.targets.iter().map(|worker| worker.0));
        }
        pipeline.retain(|worker| !request.failed.contains(worker));
        if pipeline.is_empty() {
            return Err(refuse(Kind::NoWorkers, path, format!("no replica of {} is left", BlockId(block))));
        }
        let answer = located(&Extent { bytes, ..extent }, offset, pipeline);
        let workers = pipeline.iter().map(|&worker| WorkerId(worker)).collect();
        self.effects.push(Effect::BlockRebuilt { block: BlockId(block), generation, workers });
        self.set_extent(&draft, &extent, false)?;
        self.write_back(draft, &above, path)?;
        Ok(Outcome::Block(answer))
    }

    pub(super) fn abandon_block(
        &mut self,
        call: &Call,
        request: &AbandonBlock,
    ) -> Result<Outcome, CallError> {
        let Written { mut draft, above, path } = self.written(call, request.inode)?;
        let path = FsPath::of_tree(&path);
        let extent = check_open(&draft.file, request.block, path)?;
        if extent.bytes > 0 {
            let detail = format!("{} bytes of {} are visible", extent.bytes, BlockId(extent.block));
            return Err(refuse(Kind::InvalidArgument, path, detail));
        }
        // A block without a byte is dropped.
        self.settle_last(&mut draft, 0)?;
        self.write_back(draft, &above, path)?;
        Ok(Outcome::Done(Done {}))
    }

    pub(super) fn sync(&mut self, call: &Call, request: &Sync) -> Result<Outcome, CallError> {
        let Written { mut draft, above, path } = self.written(call, request.inode)?;
        let path = FsPath::of_tree(&path);
        let end = request.last.as_ref();
        let end = end.ok_or_else(|| refuse(Kind::InvalidArgument, path, "a sync names the last block"))?;
        let mut extent = check_end(&draft.file, end, path)?;
        extent.bytes = end.bytes;
        if let (Some(construction), Some(last)) = (&mut draft.file.construction, draft.file.blocks.last_mut())
        {
            (construction.synced_bytes, construction.synced_generation) = (end.bytes, end.generation);
            *last = extent;
        }
        draft.file.version += 1;
        self.set_extent(&draft, &extent, false)?;
        self.write_back(draft, &above, path)?;
        Ok(Outcome::Done(Done {}))
    }

    pub(super) fn complete(&mut self, call: &Call, request: &Complete) -> Result<Outcome, CallError> {
        let Written { mut draft, above, path } = self.written(call, request.inode)?;
        let path = FsPath::of_tree(&path);
        self.end_last(call, &mut draft, request.last.as_ref(), path)?;
        self.close(&mut draft, call.now_ms)?;
        let entry = draft.entry(path);
        self.write_back(draft, &above, path)?;
        Ok(Outcome::Entry(entry))
    }

    /// The file, if it is still somewhere and the caller's client writes it.
    fn written(&self, call: &Call, id: u64) -> Result<Written, CallError> {
        let gone = || refuse_inode(Kind::NotFound, id, "there is no such file any more");
        let id = InodeId(id);
        let node = Node { id, inode: self.inode(id)?.ok_or_else(gone)? };
        let (above, path) = self.climb(&node)?.ok_or_else(gone)?;
        let file = node.file(FsPath::of_tree(&path))?;
        let writing = file.construction.as_ref().is_some_and(|state| state.phase() == Phase::Writing);
        match Draft::of(&node) {
            Some(draft) if writing && holder(file) == Some(call.actor.caller.client) => {
                Ok(Written { draft, above, path })
            }
            _ => Err(lease_lost(FsPath::of_tree(&path))),
        }
    }

    /// Makes the last block final, as the writer says. Fine if it is so already.
    fn end_last(
        &mut self,
        call: &Call,
        draft: &mut Draft,
        end: Option<&BlockEnd>,
        path: FsPath,
    ) -> Result<(), CallError> {
        match (open_extent(&draft.file), end) {
            (None, None) => Ok(()),
            (None, Some(end)) => {
                let last = draft.file.blocks.last();
                if last.is_some_and(|last| {
                    (last.block, last.generation, last.bytes) == (end.block, end.generation, end.bytes)
                }) {
                    return Ok(());
                }
                let detail = format!("the last block is complete, and it is not {}", BlockId(end.block));
                Err(refuse(Kind::StaleGeneration, path, detail))
            }
            (Some(open), None) => {
                let detail = format!("{} is being written, and its end is not given", BlockId(open.block));
                Err(refuse(Kind::InvalidArgument, path, detail))
            }
            (Some(_), Some(end)) => {
                check_end(&draft.file, end, path)?;
                if !call.facts.durable && end.bytes > 0 {
                    let detail = format!("too few replicas of {} are durable yet", BlockId(end.block));
                    return Err(refuse(Kind::NotYet, path, detail));
                }
                Ok(self.settle_last(draft, end.bytes)?)
            }
        }
    }
}

/// The open last block, which must be `block`.
fn check_open(file: &File, block: u64, path: FsPath) -> Result<Extent, CallError> {
    match open_extent(file) {
        Some(extent) if extent.block == block => Ok(*extent),
        _ => Err(refuse(Kind::MissingBlock, path, format!("{} is not being written", BlockId(block)))),
    }
}

/// The open last block, if what its writer says of it can be.
fn check_end(file: &File, end: &BlockEnd, path: FsPath) -> Result<Extent, CallError> {
    let extent = check_open(file, end.block, path)?;
    let block = BlockId(end.block);
    if end.generation != extent.generation {
        let detail = format!("{block} has generation {}, not {}", extent.generation, end.generation);
        return Err(refuse(Kind::StaleGeneration, path, detail));
    }
    let (least, most) = (extent.bytes, file.block_bytes.max(extent.bytes));
    if !(least..=most).contains(&end.bytes) {
        let detail = format!("{block} has {least} to {most} bytes, not {}", end.bytes);
        return Err(refuse(Kind::InvalidArgument, path, detail));
    }
    Ok(extent)
}
