//! A file's record while a call works on it.

use std::rc::Rc;

use bytes::Bytes;
use gristmill_proto::ids::{BlockId, Generation, InodeId, WorkerId};
use gristmill_proto::namespace::Entry;
use gristmill_proto::record::construction::Phase;
use gristmill_proto::record::{Extent, File, Inode, inode::Kind};

use super::change::Change;
use super::inode::{block_record, entry, space};
use super::quota::Usage;
use super::tree::Node;
use super::{CallError, Effect, FsPath, StoreError};

/// A copy to work on. Nothing is changed before [`Change::write_back`], but for rows of blocks.
pub(super) struct Draft {
    pub(super) id: InodeId,
    /// All but what is in `file`.
    pub(super) inode: Inode,
    pub(super) file: File,
    before: Rc<Inode>,
    space_before: u64,
}

impl Draft {
    /// `None` if it is a directory.
    pub(super) fn of(node: &Node) -> Option<Draft> {
        let mut inode = (*node.inode).clone();
        match inode.kind.take() {
            Some(Kind::File(file)) => {
                let (before, space_before) = (Rc::clone(&node.inode), space(&file));
                Some(Draft { id: node.id, inode, file, before, space_before })
            }
            _ => None,
        }
    }

    /// The record as it is now.
    pub(super) fn entry(&self, path: FsPath) -> Entry {
        let inode = Inode { kind: Some(Kind::File(self.file.clone())), ..self.inode.clone() };
        entry(path.to_string(), self.id, &inode)
    }
}

impl Change<'_> {
    /// Makes the draft the record, and charges the quotas of `above` for the difference.
    pub(super) fn write_back(
        &mut self,
        draft: Draft,
        above: &[InodeId],
        path: FsPath,
    ) -> Result<(), CallError> {
        let Draft { id, mut inode, file, before, space_before } = draft;
        let usage = Usage::space(space_before, space(&file));
        inode.kind = Some(Kind::File(file));
        self.set_inode(id, Some(before), Some(inode));
        Ok(self.charge(above, usage, path)?)
    }

    /// Enters a block of the file in the table of blocks.
    pub(super) fn set_extent(
        &mut self,
        draft: &Draft,
        extent: &Extent,
        complete: bool,
    ) -> Result<(), StoreError> {
        self.set_block(BlockId(extent.block), Some(block_record(draft.id, &draft.file, extent, complete)))
    }

    /// Gives the open last block a generation that only its recovery has.
    pub(super) fn stop_writers(&mut self, draft: &mut Draft) -> Result<(), StoreError> {
        let generation = self.new_generation();
        let file = &mut draft.file;
        let (Some(construction), Some(extent)) = (&mut file.construction, file.blocks.last_mut()) else {
            return Err(StoreError::damaged("inode", draft.id.0, "has no open block"));
        };
        extent.generation = generation.0;
        construction.client_id = Bytes::new();
        let is_cut = construction.phase() == Phase::Truncating;
        if !is_cut {
            construction.set_phase(Phase::Recovering);
        }
        self.effects.push(Effect::StopWriters {
            inode: draft.id,
            block: BlockId(extent.block),
            generation,
            synced_bytes: construction.synced_bytes,
            synced_generation: Generation(construction.synced_generation),
            target_bytes: is_cut.then_some(construction.target_bytes),
            workers: construction.pipeline.iter().map(|&worker| WorkerId(worker)).collect(),
        });
        let extent = *extent;
        self.set_extent(draft, &extent, false)?;
        self.set_open(draft.id, None)
    }

    /// Ends the open last block at `bytes`. One that never had a byte is dropped.
    pub(super) fn settle_last(&mut self, draft: &mut Draft, bytes: u64) -> Result<(), StoreError> {
        let file = &mut draft.file;
        let (Some(construction), Some(extent)) = (&mut file.construction, file.blocks.last_mut()) else {
            return Err(StoreError::damaged("inode", draft.id.0, "has no open block"));
        };
        let was_seen = construction.synced_bytes > 0;
        (construction.synced_bytes, construction.synced_generation) = (0, 0);
        construction.pipeline.clear();
        extent.bytes = bytes;
        let (extent, replication) = (*extent, file.replication);
        let (block, generation) = (BlockId(extent.block), Generation(extent.generation));
        if bytes == 0 && !was_seen {
            file.blocks.pop();
            self.effects.push(Effect::Forgotten(vec![block]));
            return self.set_block(block, None);
        }
        self.effects.push(Effect::BlockComplete { block, generation, bytes, replication });
        self.set_extent(draft, &extent, true)
    }

    /// Nobody writes the file any more, all blocks of which are complete.
    pub(super) fn close(&mut self, draft: &mut Draft, now_ms: u64) -> Result<(), StoreError> {
        draft.inode.modified_ms = now_ms;
        draft.file.construction = None;
        draft.file.version += 1;
        self.unset_open(draft.id)
    }
}
