//! Things that go: at once from their directory, and piece by piece from the tables.

use gristmill_proto::ids::{BlockId, InodeId};
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{Delete, Deleted};
use gristmill_proto::record::{Inode, inode::Kind as InodeKind};

use super::access::{Actor, EXECUTE, READ, WRITE, is_sticky};
use super::change::{Call, Change};
use super::inode::{block_ids, file, file_mut};
use super::paths::join;
use super::quota::quota;
use super::refusal::refuse;
use super::tables::Child;
use super::trash;
use super::tree::{Node, Place, Tree};
use super::{CallError, Effect, FsPath, StoreError};

/// A file with more blocks than this is forgotten piece by piece, as a directory is: a group stays short.
const BLOCKS_AT_ONCE: usize = 256;

impl Change<'_> {
    pub(super) fn delete(&mut self, call: &Call, request: &Delete) -> Result<Outcome, CallError> {
        let path = FsPath::parse(&request.path)?;
        let place = self.walk(&call.actor, path)?;
        let mut deleted = Deleted { found: place.node.is_some(), trash_path: String::new() };
        let Some(node) = &place.node else { return Ok(Outcome::Deleted(deleted)) };
        if node.entries() > 0 && !request.recursive && !path.is_root() {
            let detail = format!("it has {} entries, and the deletion is not recursive", node.entries());
            return Err(refuse(Kind::NotEmpty, path, detail));
        }
        if self.options.trash && !request.skip_trash && !trash::is_trash(path) {
            deleted.trash_path = self.move_to_trash(call, &place)?;
        } else {
            self.remove(call, &place)?;
        }
        Ok(Outcome::Deleted(deleted))
    }

    /// Deletes what is at `place` for good, with all below it, if the caller may.
    pub(super) fn remove(&mut self, call: &Call, place: &Place) -> Result<(), CallError> {
        let node = self.check_removal(call, place)?;
        if !call.actor.superuser {
            self.check_removal_below(&call.actor, node, place.path)?;
        }
        self.detach(call, place)
    }

    /// What is at `place`, if the caller may take it out of its directory. `/` is in none.
    pub(super) fn check_removal<'a>(&self, call: &Call, place: &'a Place) -> Result<&'a Node, CallError> {
        let node = place.existing()?;
        if place.path.is_root() {
            return Err(refuse(Kind::InvalidArgument, place.path, "it can be neither deleted nor moved"));
        }
        call.actor.require_removal(&*self.expect(place.parent()?)?, &node.inode, place.path)?;
        Ok(node)
    }

    /// Takes what is at `place` out of the tree. Whoever calls has checked that it may.
    pub(super) fn detach(&mut self, call: &Call, place: &Place) -> Result<(), CallError> {
        let (node, parent) = (place.existing()?, place.parent()?);
        let usage =
            if self.has_quota(&place.above)? { self.usage(node)?.freed() } else { Default::default() };
        self.unlink(parent, place.path.name(), call.now_ms)?;
        self.charge(&place.above, usage, place.path)?;
        let few = file(&node.inode).map_or(node.entries() == 0, |file| file.blocks.len() <= BLOCKS_AT_ONCE);
        if few {
            let mut forgotten = Vec::new();
            self.forget(node, &mut forgotten)?;
            self.announce(forgotten);
            return Ok(());
        }
        self.orphan(node.id)?;
        Ok(())
    }

    /// [`super::Action::Reclaim`].
    pub(super) fn reclaim(&mut self, records_max: u32) -> Result<(), StoreError> {
        let mut left = records_max.max(1) as usize;
        let mut forgotten = Vec::new();
        while left > 0 {
            let Some(id) = self.first_orphan()? else { break };
            self.reclaim_one(id, &mut left, &mut forgotten)?;
        }
        self.announce(forgotten);
        if self.first_orphan()?.is_some() {
            self.effects.push(Effect::Unfinished);
        }
        Ok(())
    }

    /// Forgets one orphan, or what there is time for; `left` counts down with each record.
    fn reclaim_one(
        &mut self,
        id: InodeId,
        left: &mut usize,
        forgotten: &mut Vec<BlockId>,
    ) -> Result<(), StoreError> {
        let node = self.node(id)?;
        if let Some(file) = file(&node.inode)
            && file.blocks.len() > *left
        {
            return self.shorten(&node, std::mem::take(left), forgotten);
        }
        let mut children = Vec::new();
        for child in self.children(id, "")?.take(*left) {
            children.push(child?);
        }
        for (name, Child { id: child, is_directory }) in &children {
            self.remove_entry(id, name)?;
            let node = self.node(*child)?;
            let blocks = file(&node.inode).map_or(0, |file| file.blocks.len());
            if *is_directory || blocks > *left {
                self.orphan(*child)?;
            } else {
                *left = left.saturating_sub(blocks);
                self.forget(&node, forgotten)?;
            }
            *left = left.saturating_sub(1);
        }
        if *left > 0 {
            *left = left.saturating_sub(1 + file(&node.inode).map_or(0, |file| file.blocks.len()));
            self.forget(&node, forgotten)?;
            self.unset_orphan(id)?;
        }
        Ok(())
    }

    /// Forgets the last `count` blocks of an orphan file.
    fn shorten(&mut self, node: &Node, count: usize, forgotten: &mut Vec<BlockId>) -> Result<(), StoreError> {
        let mut inode = (*node.inode).clone();
        let mut dropped = Vec::new();
        if let Some(file) = file_mut(&mut inode) {
            dropped = block_ids(&file.blocks.split_off(file.blocks.len() - count));
        }
        for &block in &dropped {
            self.set_block(block, None)?;
        }
        forgotten.append(&mut dropped);
        self.set_inode(node.id, Some(node.inode.clone()), Some(inode));
        Ok(())
    }

    /// It is in no directory any more, and will be reclaimed.
    fn orphan(&mut self, id: InodeId) -> Result<(), StoreError> {
        let mut is_open = false;
        self.edit(id, |inode| {
            inode.parent = 0;
            is_open = file_mut(inode).is_some_and(|file| file.construction.take().is_some());
        })?;
        if is_open {
            self.unset_open(id)?;
        }
        self.set_orphan(id)
    }

    /// Forgets a file, or a directory without entries.
    pub(super) fn forget(&mut self, node: &Node, forgotten: &mut Vec<BlockId>) -> Result<(), StoreError> {
        match &node.inode.kind {
            Some(InodeKind::File(file)) => {
                for extent in &file.blocks {
                    self.set_block(BlockId(extent.block), None)?;
                    forgotten.push(BlockId(extent.block));
                }
                if file.construction.is_some() {
                    self.unset_open(node.id)?;
                }
                self.counters.files -= 1;
            }
            _ => {
                self.counters.directories -= 1;
                self.counters.quotas -= u64::from(quota(&node.inode).is_some());
            }
        }
        self.set_inode(node.id, Some(node.inode.clone()), None);
        Ok(())
    }

    fn announce(&mut self, forgotten: Vec<BlockId>) {
        if !forgotten.is_empty() {
            self.effects.push(Effect::Forgotten(forgotten));
        }
    }

    /// Whether the caller may empty all directories at and below `node`, as Hadoop's check with `FsAction.ALL`.
    fn check_removal_below(&self, actor: &Actor, node: &Node, path: FsPath) -> Result<(), CallError> {
        let mut directories = vec![(node.clone(), path.to_string())];
        while let Some((node, path)) = directories.pop() {
            if node.entries() == 0 {
                continue;
            }
            actor.require(&node.inode, READ | WRITE | EXECUTE, FsPath::of_tree(&path))?;
            for child in self.children(node.id, "")? {
                let (name, Child { id, is_directory }) = child?;
                if !is_directory && !is_sticky(&node.inode) {
                    continue;
                }
                let (child, path) = (self.node(id)?, join(&path, &name));
                check_stuck(actor, &node.inode, &child.inode, &path)?;
                if is_directory {
                    directories.push((child, path));
                }
            }
        }
        Ok(())
    }
}

fn check_stuck(actor: &Actor, parent: &Inode, inode: &Inode, path: &str) -> Result<(), CallError> {
    if actor.may_remove_stuck(parent, inode) {
        return Ok(());
    }
    let detail = format!("{} owns neither it nor the sticky directory it is in", actor.caller.user);
    Err(refuse(Kind::PermissionDenied, path, detail))
}
