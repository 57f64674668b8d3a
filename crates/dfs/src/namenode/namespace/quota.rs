//! Quotas of names and space, as Hadoop counts them: the directory itself is a name, and space is bytes of all
//! replicas. Only directories that have a quota count what is below them.

use gristmill_proto::ids::InodeId;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::record::{Inode, Quota};

use super::change::Change;
use super::inode::{directory, directory_mut, file, space};
use super::refusal::refuse;
use super::tree::{Node, Tree};
use super::{CallError, FsPath, StoreError};

/// What a subtree uses of the quotas above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) names: i64,
    pub(super) space_bytes: i64,
}

impl Usage {
    pub(super) fn names(names: usize) -> Usage {
        Usage { names: signed(names as u64), space_bytes: 0 }
    }

    /// From `before` to `after` bytes of all replicas.
    pub(super) fn space(before: u64, after: u64) -> Usage {
        Usage { names: 0, space_bytes: signed(after).saturating_sub(signed(before)) }
    }

    pub(super) fn freed(self) -> Usage {
        Usage { names: -self.names, space_bytes: -self.space_bytes }
    }

    fn add(&mut self, other: Usage) {
        self.names = self.names.saturating_add(other.names);
        self.space_bytes = self.space_bytes.saturating_add(other.space_bytes);
    }
}

/// A quota that the command at hand counts in.
pub(super) struct Charged {
    id: InodeId,
    before: Quota,
    /// What the command did when it first did.
    path: String,
}

impl Change<'_> {
    /// Whether any of these directories has a quota.
    pub(super) fn has_quota(&self, above: &[InodeId]) -> Result<bool, StoreError> {
        if self.counters.quotas == 0 {
            return Ok(false);
        }
        for &id in above {
            if quota(&*self.expect(id)?).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Counts `usage` in all quotas above, for what is done to `path`. Whether they allow it is seen when the command
    /// is done: it may give back elsewhere what it takes here.
    pub(super) fn charge(&mut self, above: &[InodeId], usage: Usage, path: FsPath) -> Result<(), StoreError> {
        if self.counters.quotas == 0 || usage == Usage::default() {
            return Ok(());
        }
        for &id in above {
            let Some(before) = quota(&*self.expect(id)?) else { continue };
            if !self.charged.iter().any(|charged| charged.id == id) {
                self.charged.push(Charged { id, before, path: path.to_string() });
            }
            self.edit(id, |inode| {
                if let Some(quota) = directory_mut(inode).and_then(|directory| directory.quota.as_mut()) {
                    quota.names_used = quota.names_used.saturating_add_signed(usage.names);
                    quota.space_bytes_used = quota.space_bytes_used.saturating_add_signed(usage.space_bytes);
                }
            })?;
        }
        Ok(())
    }

    /// Refuses a command that has raised the use of a quota above its limit.
    pub(super) fn check_quotas(&self) -> Result<(), CallError> {
        for Charged { id, before, path } in &self.charged {
            let Some(inode) = self.inode(*id)? else { continue };
            let Some(quota) = quota(&inode) else { continue };
            let path = FsPath::of_tree(path);
            check(quota.names, before.names_used, quota.names_used, Kind::QuotaNames, path)?;
            let (used_before, used) = (before.space_bytes_used, quota.space_bytes_used);
            check(quota.space_bytes, used_before, used, Kind::QuotaSpace, path)?;
        }
        Ok(())
    }

    /// What `node` and all below it use. Walks, but not below a directory that counts itself.
    pub(super) fn usage(&self, node: &Node) -> Result<Usage, StoreError> {
        let mut usage = Usage::default();
        let mut directories = Vec::from_iter(self.count(node.id, &node.inode, &mut usage));
        while let Some(directory) = directories.pop() {
            for child in self.children(directory, "")? {
                let (_, child) = child?;
                directories.extend(self.count(child.id, &*self.expect(child.id)?, &mut usage));
            }
        }
        Ok(usage)
    }

    /// Counts one inode, with all below it if that is known; else the answer is the directory to look into.
    fn count(&self, id: InodeId, inode: &Inode, usage: &mut Usage) -> Option<InodeId> {
        if let Some(quota) = quota(inode) {
            usage.add(Usage { names: signed(quota.names_used), space_bytes: signed(quota.space_bytes_used) });
            return None;
        }
        let file = file(inode);
        usage.add(Usage { names: 1, space_bytes: file.map_or(0, |file| signed(space(file))) });
        if file.is_some() { None } else { Some(id) }
    }
}

pub(super) fn quota(inode: &Inode) -> Option<Quota> {
    directory(inode).and_then(|directory| directory.quota)
}

fn check(limit: u64, before: u64, after: u64, kind: Kind, path: FsPath) -> Result<(), CallError> {
    if limit == 0 || after <= limit || after <= before {
        return Ok(());
    }
    let unit = if kind == Kind::QuotaNames { "names" } else { "bytes" };
    let detail = format!("a quota above allows {limit} {unit}; {before} are used, and {after} would be");
    Err(refuse(kind, path, detail))
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
