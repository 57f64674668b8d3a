//! The tree as both sides see it: readers in a snapshot, and a change in the midst of its group.

use std::rc::Rc;

use gristmill_proto::ids::InodeId;
use gristmill_proto::record::{File, Inode};
use redb::ReadableTable;

use super::access::{Actor, EXECUTE};
use super::inode;
use super::paths::join;
use super::refusal::{is_a_directory, not_a_directory, not_found};
use super::tables::{Child, EntryKey, ROOT, entry_name};
use super::{CallError, FsPath, StoreError};

/// Something that holds entries and inodes.
pub(super) trait Tree {
    /// What `name` stands for in a directory.
    fn child(&self, parent: InodeId, name: &str) -> Result<Option<Child>, StoreError>;

    /// The record of an inode.
    fn inode(&self, id: InodeId) -> Result<Option<Rc<Inode>>, StoreError>;

    /// The entries of a directory whose names come after `after`, in order; all if it is empty.
    fn children(&self, parent: InodeId, after: &str) -> Result<Children<'_>, StoreError>;

    /// How many directories there are, orphans counted.
    fn directories(&self) -> u64;

    /// The record of an inode that something refers to.
    fn expect(&self, id: InodeId) -> Result<Rc<Inode>, StoreError> {
        self.inode(id)?.ok_or_else(|| StoreError::damaged("inode", id.0, "is referred to and not there"))
    }

    /// The same, with its id.
    fn node(&self, id: InodeId) -> Result<Node, StoreError> {
        Ok(Node { id, inode: self.expect(id)? })
    }

    /// Goes down `path` as far as it exists. The caller must be allowed to pass through the directories on the way.
    fn walk<'p>(&self, actor: &Actor, path: FsPath<'p>) -> Result<Place<'p>, CallError> {
        let depth = path.names().count();
        let mut place = Place { path, depth, above: Vec::with_capacity(depth), node: None };
        let mut at = Child { id: ROOT, is_directory: true };
        for (passed, name) in path.names().enumerate() {
            if !at.is_directory {
                return Err(not_a_directory(path.prefix(passed)));
            }
            if !actor.superuser {
                actor.require(&*self.expect(at.id)?, EXECUTE, path.prefix(passed))?;
            }
            place.above.push(at.id);
            match self.child(at.id, name)? {
                Some(child) => at = child,
                None => return Ok(place),
            }
        }
        place.node = Some(self.node(at.id)?);
        Ok(place)
    }

    /// The directories above an inode, from the root, and its path. `None` if it is below an orphan.
    fn climb(&self, node: &Node) -> Result<Option<(Vec<InodeId>, String)>, StoreError> {
        let (mut above, mut names) = (Vec::new(), vec![Rc::clone(&node.inode)]);
        let (mut id, mut parent) = (node.id, node.inode.parent);
        while id != ROOT {
            if parent == 0 {
                return Ok(None);
            }
            if above.len() as u64 > self.directories() {
                return Err(StoreError::damaged("inode", node.id.0, "is below itself"));
            }
            id = InodeId(parent);
            above.push(id);
            let inode = self.expect(id)?;
            parent = inode.parent;
            names.push(inode);
        }
        above.reverse();
        let path = names.iter().rev().skip(1).fold(String::from("/"), |path, inode| join(&path, &inode.name));
        Ok(Some((above, path)))
    }
}

/// An inode and what is known of it at this moment.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: InodeId,
    pub(super) inode: Rc<Inode>,
}

impl Node {
    pub(super) fn file(&self, path: FsPath) -> Result<&File, CallError> {
        inode::file(&self.inode).ok_or_else(|| is_a_directory(path))
    }

    pub(super) fn is_directory(&self) -> bool {
        inode::directory(&self.inode).is_some()
    }

    /// How many entries a directory has; 0 for a file.
    pub(super) fn entries(&self) -> u32 {
        inode::directory(&self.inode).map_or(0, |directory| directory.entries)
    }
}

/// Where a path leads.
#[derive(Clone, Debug)]
pub(super) struct Place<'p> {
    pub(super) path: FsPath<'p>,
    /// How many names the path has.
    pub(super) depth: usize,
    /// The directories above it that exist, from the root. With all of them there, there are `depth`.
    pub(super) above: Vec<InodeId>,
    /// What is there.
    pub(super) node: Option<Node>,
}

impl Place<'_> {
    /// What is there, or `NOT_FOUND`.
    pub(super) fn existing(&self) -> Result<&Node, CallError> {
        self.node.as_ref().ok_or_else(|| not_found(self.path))
    }

    /// The directory it is in, or would be in; `NOT_FOUND` if that is not there. Never asked of `/`.
    pub(super) fn parent(&self) -> Result<InodeId, CallError> {
        match self.above.last() {
            Some(&parent) if self.above.len() == self.depth => Ok(parent),
            _ => Err(not_found(self.path.prefix(self.above.len()))),
        }
    }
}

/// Entries of one directory, in order of their names.
pub(super) struct Children<'t>(redb::Range<'t, &'static [u8], u64>);

impl<'t> Children<'t> {
    pub(super) fn of(
        entries: &'t impl ReadableTable<&'static [u8], u64>,
        parent: InodeId,
        after: &str,
    ) -> Result<Children<'t>, StoreError> {
        use std::ops::Bound::{Excluded, Included};
        let (first, end) = (EntryKey::new(parent, after), EntryKey::new(InodeId(parent.0 + 1), ""));
        // No key ends in an empty name.
        let first = if after.is_empty() { Included(&*first) } else { Excluded(&*first) };
        Ok(Children(entries.range::<&[u8]>((first, Excluded(&*end)))?))
    }
}

impl Iterator for Children<'_> {
    type Item = Result<(String, Child), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let pair = self.0.next()?;
        Some(
            pair.map_err(StoreError::from).and_then(|(key, child)| {
                Ok((entry_name(key.value())?.to_owned(), Child::unpack(child.value())))
            }),
        )
    }
}
