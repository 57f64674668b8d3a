//! Closed files that are opened again: to be longer, or to be cut.

use bytes::Bytes;
use gristmill_proto::ids::{BlockId, Generation};
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{Append, OpenFile, Truncate, Truncated};
use gristmill_proto::record::Construction;
use gristmill_proto::record::construction::Phase;

use super::access::WRITE;
use super::change::{Call, Change};
use super::draft::Draft;
use super::inode::{block_ids, bytes, located};
use super::leases::Lease;
use super::refusal::{failure, is_a_directory, refuse};
use super::tree::{Place, Tree};
use super::{CallError, Effect, FsPath, StoreError};

impl Change<'_> {
    pub(super) fn append(&mut self, call: &Call, request: &Append) -> Result<Outcome, CallError> {
        let path = FsPath::parse(&request.path)?;
        let place = self.walk(&call.actor, path)?;
        let mut draft = match self.reopen(call, &place)? {
            Ok(draft) => draft,
            Err(held) => return Ok(held),
        };
        let client = call.actor.caller.client;
        draft.file.construction =
            Some(Construction { client_id: Bytes::copy_from_slice(&client.0), ..Construction::default() });
        self.set_open(draft.id, Some(client))?;
        let (mut last, mut last_generation_before) = (None, 0);
        if draft.file.blocks.last().is_some_and(|extent| extent.bytes < draft.file.block_bytes) {
            let offset = bytes(&draft.file);
            let generation = self.reopen_last(&mut draft, Phase::Writing)?;
            let construction = draft.file.construction.get_or_insert_default();
            construction.pipeline = call.facts.targets.iter().map(|worker| worker.0).collect();
            last = draft
                .file
                .blocks
                .last()
                .map(|extent| located(extent, offset - extent.bytes, &construction.pipeline));
            last_generation_before = generation.0;
        }
        let entry = Some(draft.entry(path));
        self.write_back(draft, &place.above, path)?;
        Ok(Outcome::OpenFile(OpenFile { entry, last, last_generation_before }))
    }

    pub(super) fn truncate(&mut self, call: &Call, request: &Truncate) -> Result<Outcome, CallError> {
        let path = FsPath::parse(&request.path)?;
        let place = self.walk(&call.actor, path)?;
        let mut draft = match self.reopen(call, &place)? {
            Ok(draft) => draft,
            Err(held) => return Ok(held),
        };
        let length = bytes(&draft.file);
        if request.bytes > length {
            let detail = format!("it has {length} bytes and cannot be cut to {}", request.bytes);
            return Err(refuse(Kind::InvalidArgument, path, detail));
        }
        if request.bytes == length {
            return Ok(Outcome::Truncated(Truncated { done: true }));
        }
        let mut end = 0;
        let kept = draft.file.blocks.iter().take_while(|extent| {
            end += extent.bytes;
            end <= request.bytes
        });
        let whole = kept.count();
        let before: u64 = draft.file.blocks[..whole].iter().map(|extent| extent.bytes).sum();
        let target_bytes = request.bytes - before;
        let dropped = draft.file.blocks.split_off(whole + usize::from(target_bytes > 0));
        if !dropped.is_empty() {
            for extent in &dropped {
                self.set_block(BlockId(extent.block), None)?;
            }
            self.effects.push(Effect::Forgotten(block_ids(&dropped)));
        }
        draft.file.version += 1;
        draft.inode.modified_ms = call.now_ms;
        if target_bytes > 0 {
            self.cut_last(&mut draft, target_bytes)?;
        }
        self.write_back(draft, &place.above, path)?;
        Ok(Outcome::Truncated(Truncated { done: target_bytes == 0 }))
    }

    /// A closed file that the caller may write, or the answer that somebody else writes it.
    fn reopen(&mut self, call: &Call, place: &Place) -> Result<Result<Draft, Outcome>, CallError> {
        let path = place.path;
        let node = place.existing()?;
        node.file(path)?;
        call.actor.require(&node.inode, WRITE, path)?;
        let held = match self.take_lease(call, place, node)? {
            Lease::Free => None,
            Lease::Own => Some(failure(Kind::LeaseHeld, path, "this very client writes it")),
            Lease::Held(failure) => Some(failure),
        };
        if let Some(failure) = held {
            return Ok(Err(Outcome::Failure(failure)));
        }
        // Taking the lease may have closed it just now.
        let node = self.node(node.id)?;
        Draft::of(&node).map(Ok).ok_or_else(|| is_a_directory(path))
    }

    /// Opens the complete last block under a new generation, and says which it had.
    fn reopen_last(&mut self, draft: &mut Draft, phase: Phase) -> Result<Generation, StoreError> {
        let generation = self.new_generation();
        let Some(last) = draft.file.blocks.last_mut() else {
            return Err(StoreError::damaged("inode", draft.id.0, "has no last block"));
        };
        let generation_before = Generation(last.generation);
        last.generation = generation.0;
        let last = *last;
        let construction = draft.file.construction.get_or_insert_default();
        construction.set_phase(phase);
        (construction.synced_bytes, construction.synced_generation) = (last.bytes, generation_before.0);
        self.set_extent(draft, &last, false)?;
        self.effects.push(Effect::BlockReopened {
            block: BlockId(last.block),
            generation_before,
            generation,
        });
        Ok(generation_before)
    }

    /// Has the last block cut in the background. Readers see no more than `target_bytes` from now on.
    fn cut_last(&mut self, draft: &mut Draft, target_bytes: u64) -> Result<(), StoreError> {
        if let Some(last) = draft.file.blocks.last_mut() {
            last.bytes = target_bytes;
        }
        self.reopen_last(draft, Phase::Truncating)?;
        draft.file.construction.get_or_insert_default().target_bytes = target_bytes;
        self.stop_writers(draft)
    }
}
