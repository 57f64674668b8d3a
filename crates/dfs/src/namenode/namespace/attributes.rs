//! What is known of files and directories besides their names and bytes.

use gristmill_proto::ids::BlockId;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{SetMode, SetOwner, SetQuota, SetReplication, SetTimes};
use gristmill_proto::record::{Inode, Quota};

use super::access::WRITE;
use super::change::{Call, Change};
use super::creation::{checked_mode, checked_replication};
use super::draft::Draft;
use super::inode::{directory_mut, entry, open_extent};
use super::quota::quota;
use super::refusal::{is_a_directory, not_a_directory, refuse};
use super::tree::{Node, Place, Tree};
use super::{CallError, Effect, FsPath};

/// Bytes of the name of an owner or a group.
pub const OWNER_BYTES_MAX: usize = 255;

impl Change<'_> {
    pub(super) fn set_replication(
        &mut self,
        call: &Call,
        request: &SetReplication,
    ) -> Result<Outcome, CallError> {
        let path = FsPath::parse(&request.path)?;
        let replication = checked_replication(request.replication, path)?;
        let place = self.walk(&call.actor, path)?;
        let node = place.existing()?;
        let mut draft = Draft::of(node).ok_or_else(|| is_a_directory(path))?;
        call.actor.require(&node.inode, WRITE, path)?;
        if draft.file.replication == replication {
            return Ok(Outcome::Entry(entry(path.to_string(), node.id, &node.inode)));
        }
        draft.file.replication = replication;
        let open = open_extent(&draft.file).map(|extent| extent.block);
        let mut blocks = Vec::with_capacity(draft.file.blocks.len());
        for extent in &draft.file.blocks {
            let complete = Some(extent.block) != open;
            self.set_extent(&draft, extent, complete)?;
            if complete {
                blocks.push(BlockId(extent.block));
            }
        }
        if !blocks.is_empty() {
            self.effects.push(Effect::ReplicationChanged { blocks, replication });
        }
        let entry = draft.entry(path);
        self.write_back(draft, &place.above, path)?;
        Ok(Outcome::Entry(entry))
    }

    pub(super) fn set_mode(&mut self, call: &Call, request: &SetMode) -> Result<Outcome, CallError> {
        let path = FsPath::parse(&request.path)?;
        let mode = checked_mode(request.mode, path)?;
        let place = self.walk(&call.actor, path)?;
        let node = place.existing()?;
        call.actor.require_owner(&node.inode, path)?;
        // On a file the sticky bit says nothing.
        let mode = if node.is_directory() { mode } else { mode & 0o777 };
        self.edited(&place, node, |inode| inode.mode = mode)
    }

    pub(super) fn set_owner(&mut self, call: &Call, request: &SetOwner) -> Result<Outcome, CallError> {
        let path = FsPath::parse(&request.path)?;
        for name in [&request.owner, &request.group] {
            if name.len() > OWNER_BYTES_MAX || name.chars().any(char::is_control) {
                let detail = format!("{:?} is no name of a user or group", name);
                return Err(refuse(Kind::InvalidArgument, path, detail));
            }
        }
        let place = self.walk(&call.actor, path)?;
        let node = place.existing()?;
        let (owner, group) = (request.owner.as_str(), request.group.as_str());
        if !owner.is_empty() && owner != node.inode.owner {
            call.actor.require_superuser(path)?;
        }
        call.actor.require_owner(&node.inode, path)?;
        let member = call.actor.superuser || call.actor.caller.groups.iter().any(|own| own == group);
        if !group.is_empty() && group != node.inode.group && !member {
            let detail = format!("{} is not in group {group}", call.actor.caller.user);
            return Err(refuse(Kind::PermissionDenied, path, detail));
        }
        self.edited(&place, node, |inode| {
            for (new, current) in [(owner, &mut inode.owner), (group, &mut inode.group)] {
                if !new.is_empty() {
                    new.clone_into(current);
                }
            }
        })
    }

    pub(super) fn set_times(&mut self, call: &Call, request: &SetTimes) -> Result<Outcome, CallError> {
        let path = FsPath::parse(&request.path)?;
        let place = self.walk(&call.actor, path)?;
        let node = place.existing()?;
        if call.actor.require_owner(&node.inode, path).is_err() {
            call.actor.require(&node.inode, WRITE, path)?;
        }
        self.edited(&place, node, |inode| {
            for (new, current) in
                [(request.modified_ms, &mut inode.modified_ms), (request.accessed_ms, &mut inode.accessed_ms)]
            {
                if new != 0 {
                    *current = new;
                }
            }
        })
    }

    /// A quota may be less than what is used: then nothing can be added. The first one of a directory counts what
    /// is below it.
    pub(super) fn set_quota(&mut self, call: &Call, request: &SetQuota) -> Result<Outcome, CallError> {
        let path = FsPath::parse(&request.path)?;
        let place = self.walk(&call.actor, path)?;
        let node = place.existing()?;
        call.actor.require_superuser(path)?;
        if !node.is_directory() {
            return Err(not_a_directory(path));
        }
        let before = quota(&node.inode);
        let limits = before.unwrap_or_default();
        let names = request.names.unwrap_or(limits.names);
        let space_bytes = request.space_bytes.unwrap_or(limits.space_bytes);
        let wanted = names > 0 || space_bytes > 0;
        let after = match before {
            _ if !wanted => None,
            Some(quota) => Some(Quota { names, space_bytes, ..quota }),
            None => {
                let usage = self.usage(node)?;
                let (names_used, space_bytes_used) =
                    (usage.names.unsigned_abs(), usage.space_bytes.unsigned_abs());
                Some(Quota { names, space_bytes, names_used, space_bytes_used })
            }
        };
        self.counters.quotas =
            self.counters.quotas + u64::from(after.is_some()) - u64::from(before.is_some());
        self.edited(&place, node, |inode| {
            if let Some(directory) = directory_mut(inode) {
                directory.quota = after;
            }
        })
    }

    fn edited(
        &mut self,
        place: &Place,
        node: &Node,
        change: impl FnOnce(&mut Inode),
    ) -> Result<Outcome, CallError> {
        self.edit(node.id, change)?;
        Ok(Outcome::Entry(entry(place.path.to_string(), node.id, &*self.expect(node.id)?)))
    }
}
