//! Reads that go through whole subtrees, in the order of names.

use gristmill_proto::ids::{BlockId, InodeId};
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{Check, Summary};

use super::access::{Actor, EXECUTE, READ};
use super::inode::{block_record, bytes, file, open_extent};
use super::paths::join;
use super::quota::quota;
use super::refusal::refuse;
use super::snapshot::{Snapshot, at_most};
use super::tables::Child;
use super::tree::{Children, Node, Tree};
use super::{BlockRecord, CallError, Caller, FsPath};

/// Files of one page of a check.
pub const CHECK_FILES_MAX: u32 = 1000;
/// A page of a check ends with the file that reaches this: a page is one answer.
const CHECK_BLOCKS_MAX: u64 = 20_000;
/// A page ends here even without a file: a reader must not be busy for ever in a tree of empty directories.
const CHECK_ENTRIES_MAX: usize = 100_000;

/// Some files in the order of their paths, for whoever knows of replicas to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckPage {
    /// The files.
    pub files: Vec<CheckedFile>,
    /// Where the next page starts; empty: this was the last.
    pub last: String,
    /// Of these files.
    pub blocks: u64,
    /// Of these files.
    pub bytes: u64,
}

/// A file and its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedFile {
    /// Where it is.
    pub path: String,
    /// Its inode.
    pub inode: InodeId,
    /// Somebody writes it, or it is being recovered.
    pub open: bool,
    /// In order.
    pub blocks: Vec<(BlockId, BlockRecord)>,
}

/// A directory that the survey is in.
struct Level<'s> {
    path: String,
    children: Children<'s>,
}

impl Snapshot {
    /// Counts what is at and below `path` (Hadoop: `getContentSummary`).
    pub fn summarize(&self, caller: &Caller, path: &str) -> Result<Summary, CallError> {
        let path = FsPath::parse(path)?;
        let actor = self.actor(caller);
        let place = self.walk(&actor, path)?;
        let node = place.existing()?;
        let quota = quota(&node.inode).unwrap_or_default();
        let (name_quota, space_quota) = (quota.names, quota.space_bytes);
        let mut summary = Summary { name_quota, space_quota, ..Summary::default() };
        self.survey(&actor, node.clone(), path, None, |_, node| {
            match file(&node.inode) {
                None => summary.directories += 1,
                Some(file) => {
                    let bytes = bytes(file);
                    summary.files += 1;
                    summary.bytes += bytes;
                    summary.space_bytes += bytes * u64::from(file.replication);
                }
            }
            true
        })?;
        Ok(summary)
    }

    /// One page of the files at and below a path.
    pub fn check_page(&self, caller: &Caller, request: &Check) -> Result<CheckPage, CallError> {
        let path = FsPath::parse(&request.path)?;
        let actor = self.actor(caller);
        let place = self.walk(&actor, path)?;
        let node = place.existing()?;
        let after = match request.after.as_str() {
            "" => None,
            after => Some(FsPath::parse(after)?),
        };
        if after.is_some_and(|after| after == path || !after.is_at_or_below(path)) {
            return Err(refuse(Kind::InvalidArgument, &request.after, format!("it is not below {path}")));
        }
        let limit = at_most(request.limit, CHECK_FILES_MAX, CHECK_FILES_MAX);
        let (mut page, mut seen, mut last) = (CheckPage::default(), 0, String::new());
        let whole = self.survey(&actor, node.clone(), path, after, |path, node| {
            page.add(path, node);
            seen += 1;
            path.clone_into(&mut last);
            page.files.len() < limit && page.blocks < CHECK_BLOCKS_MAX && seen < CHECK_ENTRIES_MAX
        })?;
        if !whole {
            page.last = last;
        }
        Ok(page)
    }

    /// Visits what comes after `after` at and below `top`, directories before what is in them, until `visit` says
    /// no. Says whether it came to the end. The caller must be allowed to read every directory.
    fn survey(
        &self,
        actor: &Actor,
        top: Node,
        path: FsPath,
        after: Option<FsPath>,
        mut visit: impl FnMut(&str, &Node) -> bool,
    ) -> Result<bool, CallError> {
        let mut levels = match after {
            None => {
                if !visit(path.as_str(), &top) {
                    return Ok(false);
                }
                Vec::from_iter(self.level(actor, &top, path.to_string(), "")?)
            }
            Some(after) => self.levels_after(actor, top, path, after)?,
        };
        while let Some(level) = levels.last_mut() {
            let Some(child) = level.children.next().transpose()? else {
                levels.pop();
                continue;
            };
            let (name, Child { id, .. }) = child;
            let (node, path) = (self.node(id)?, join(&level.path, &name));
            if !visit(&path, &node) {
                return Ok(false);
            }
            levels.extend(self.level(actor, &node, path, "")?);
        }
        Ok(true)
    }

    /// The levels of a survey that has just visited `after`, below `top`, or would have if it were still there.
    fn levels_after(
        &self,
        actor: &Actor,
        top: Node,
        path: FsPath,
        after: FsPath,
    ) -> Result<Vec<Level<'_>>, CallError> {
        let mut levels = Vec::new();
        let (mut node, mut at) = (top, path.to_string());
        for name in after.names().skip(path.names().count()) {
            let Some(level) = self.level(actor, &node, at.clone(), name)? else { return Ok(levels) };
            levels.push(level);
            let Some(child) = self.child(node.id, name)? else { return Ok(levels) };
            (node, at) = (self.node(child.id)?, join(&at, name));
        }
        levels.extend(self.level(actor, &node, at, "")?);
        Ok(levels)
    }

    /// The entries of a directory after a name; `None` for a file.
    fn level(
        &self,
        actor: &Actor,
        node: &Node,
        path: String,
        after: &str,
    ) -> Result<Option<Level<'_>>, CallError> {
        if !node.is_directory() {
            return Ok(None);
        }
        actor.require(&node.inode, READ | EXECUTE, FsPath::of_tree(&path))?;
        Ok(Some(Level { children: self.children(node.id, after)?, path }))
    }
}

impl CheckPage {
    fn add(&mut self, path: &str, node: &Node) {
        let Some(file) = file(&node.inode) else { return };
        let open = open_extent(file).map(|extent| extent.block);
        let blocks = file.blocks.iter().map(|extent| {
            let complete = Some(extent.block) != open;
            (BlockId(extent.block), block_record(node.id, file, extent, complete))
        });
        let blocks: Vec<_> = blocks.collect();
        self.blocks += blocks.len() as u64;
        self.bytes += bytes(file);
        let open = file.construction.is_some();
        self.files.push(CheckedFile { path: path.to_owned(), inode: node.id, open, blocks });
    }
}
