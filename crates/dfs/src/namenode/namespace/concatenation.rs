//! Files that become one.

use std::collections::HashSet;

use gristmill_proto::ids::{BlockId, InodeId};
use gristmill_proto::namespace::Concat;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::failure::Kind;

use super::access::{READ, WRITE};
use super::change::{Call, Change};
use super::draft::Draft;
use super::inode::{file, space};
use super::quota::Usage;
use super::refusal::{is_a_directory, refuse};
use super::tree::{Place, Tree};
use super::writing::FILE_BLOCKS_MAX;
use super::{CallError, Effect, FsPath};

impl Change<'_> {
    /// The blocks of `from` join `to`. Blocks carry their own lengths, so they need not be full, nor the files be
    /// neighbours; both are asked for by Hadoop.
    pub(super) fn concat(&mut self, call: &Call, request: &Concat) -> Result<Outcome, CallError> {
        let path = FsPath::parse(&request.to)?;
        let place = self.walk(&call.actor, path)?;
        let node = closed(&place)?;
        call.actor.require(&node.inode, WRITE, path)?;
        let mut draft = Draft::of(node).ok_or_else(|| is_a_directory(path))?;
        if request.from.is_empty() {
            return Err(refuse(Kind::InvalidArgument, path, "there is nothing to add"));
        }
        let mut seen = HashSet::from([node.id]);
        for from in &request.from {
            self.absorb(call, &mut draft, FsPath::parse(from)?, &mut seen)?;
        }
        if draft.file.blocks.len() > FILE_BLOCKS_MAX {
            return Err(refuse(Kind::Limit, path, format!("a file has at most {FILE_BLOCKS_MAX} blocks")));
        }
        draft.file.version += 1;
        draft.inode.modified_ms = call.now_ms;
        let entry = draft.entry(path);
        self.write_back(draft, &place.above, path)?;
        Ok(Outcome::Entry(entry))
    }

    /// Moves the blocks of the file at `path` to the draft, and forgets the file.
    fn absorb(
        &mut self,
        call: &Call,
        draft: &mut Draft,
        path: FsPath,
        seen: &mut HashSet<InodeId>,
    ) -> Result<(), CallError> {
        let place = self.walk(&call.actor, path)?;
        let node = closed(&place)?;
        call.actor.require(&node.inode, READ, path)?;
        self.check_removal(call, &place)?;
        if !seen.insert(node.id) {
            return Err(refuse(Kind::InvalidArgument, path, "it would be joined with itself"));
        }
        let Some(source) = file(&node.inode) else { return Err(is_a_directory(path)) };
        let usage = Usage { names: 1, ..Usage::space(0, space(source)) };
        self.charge(&place.above, usage.freed(), path)?;
        self.unlink(place.parent()?, path.name(), call.now_ms)?;
        self.counters.files -= 1;
        self.set_inode(node.id, Some(node.inode.clone()), None);
        for extent in &source.blocks {
            self.set_extent(draft, extent, true)?;
        }
        if source.replication != draft.file.replication && !source.blocks.is_empty() {
            let blocks = source.blocks.iter().map(|extent| BlockId(extent.block)).collect();
            self.effects.push(Effect::ReplicationChanged { blocks, replication: draft.file.replication });
        }
        draft.file.blocks.extend_from_slice(&source.blocks);
        Ok(())
    }
}

/// The file there, which nobody may be writing.
fn closed<'a>(place: &'a Place) -> Result<&'a super::tree::Node, CallError> {
    let node = place.existing()?;
    if node.file(place.path)?.construction.is_some() {
        return Err(refuse(Kind::UnderConstruction, place.path, "the file is still being written"));
    }
    Ok(node)
}
