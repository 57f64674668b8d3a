//! New directories and new files.

use bytes::Bytes;
use gristmill_proto::ids::InodeId;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::{Create, MakeDirectory, OpenFile};
use gristmill_proto::record;
use gristmill_proto::record::{Construction, Inode};

use super::access::{EXECUTE, WRITE};
use super::change::{Call, Change};
use super::inode::{MODE_BITS, entry, new_directory};
use super::leases::Lease;
use super::quota::Usage;
use super::refusal::{already_exists, refuse};
use super::tree::{Place, Tree};
use super::{CallError, FsPath};

/// Replicas of a block (Hadoop: `dfs.replication.max`).
pub const REPLICATION_MAX: u32 = 512;
/// Bytes of one block: keeps the space of a file of most blocks and most replicas below 2^63.
pub const BLOCK_BYTES_MAX: u64 = 64 << 30;
/// What a mode may say at all.
const MODE_MAX: u32 = 0o7777;
/// Whoever makes directories on the way to something must be able to make the next one in them.
const PASSABLE: u32 = 0o300;

impl Change<'_> {
    pub(super) fn make_directory(
        &mut self,
        call: &Call,
        request: &MakeDirectory,
    ) -> Result<Outcome, CallError> {
        let path = FsPath::parse(&request.path)?;
        let mode = checked_mode(request.mode, path)?;
        let mut place = self.walk(&call.actor, path)?;
        match &place.node {
            Some(node) if node.is_directory() && request.parents => {
                return Ok(Outcome::Entry(entry(path.to_string(), node.id, &node.inode)));
            }
            Some(_) => return Err(already_exists(path)),
            None => {}
        }
        let parent = self.make_parents(call, &mut place, request.parents, mode)?;
        self.charge(&place.above, Usage::names(1), path)?;
        let owner = call.actor.caller.user.clone();
        let inode = new_directory(owner, self.expect(parent)?.group.clone(), mode, call.now_ms);
        let id = self.add(parent, path.name(), inode, call.now_ms, path.parent())?;
        Ok(Outcome::Entry(entry(path.to_string(), id, &*self.expect(id)?)))
    }

    pub(super) fn create(&mut self, call: &Call, request: &Create) -> Result<Outcome, CallError> {
        let path = FsPath::parse(&request.path)?;
        let file = self.new_file(call, request, path)?;
        let mode = checked_mode(request.mode, path)?;
        let mut place = self.walk(&call.actor, path)?;
        if let Some(node) = &place.node {
            node.file(path)?;
            if !request.overwrite {
                return Err(already_exists(path));
            }
            call.actor.require(&node.inode, WRITE, path)?;
            if let Lease::Held(failure) = self.take_lease(call, &place, node)? {
                return Ok(Outcome::Failure(failure));
            }
            call.actor.require_removal(&*self.expect(place.parent()?)?, &node.inode, path)?;
            self.detach(call, &place)?;
            place.node = None;
        }
        let directory_mode = mode & 0o777 | PASSABLE | (mode & 0o444) >> 2;
        let parent = self.make_parents(call, &mut place, request.parents, directory_mode)?;
        self.charge(&place.above, Usage::names(1), path)?;
        let inode = Inode {
            parent: parent.0,
            name: String::new(),
            owner: call.actor.caller.user.clone(),
            group: self.expect(parent)?.group.clone(),
            mode: mode & 0o777,
            modified_ms: call.now_ms,
            accessed_ms: call.now_ms,
            kind: Some(record::inode::Kind::File(file)),
        };
        let id = self.add(parent, path.name(), inode, call.now_ms, path.parent())?;
        self.set_open(id, Some(call.actor.caller.client))?;
        let entry = entry(path.to_string(), id, &*self.expect(id)?);
        Ok(Outcome::OpenFile(OpenFile { entry: Some(entry), last: None, last_generation_before: 0 }))
    }

    /// Makes what is missing above `place`, if it may, and says where `place` will be. The caller must be allowed to
    /// make entries there. New directories take the group of the one they are in, as in BSD.
    pub(super) fn make_parents(
        &mut self,
        call: &Call,
        place: &mut Place,
        parents: bool,
        mode: u32,
    ) -> Result<InodeId, CallError> {
        let Some(&deepest) = place.above.last() else { return Err(already_exists(place.path)) };
        let missing = place.depth - place.above.len();
        if missing > 0 && !parents {
            place.parent()?;
        }
        let inode = self.expect(deepest)?;
        call.actor.require(&inode, WRITE | EXECUTE, place.path.prefix(place.above.len() - 1))?;
        self.charge(&place.above, Usage::names(missing), place.path)?;
        let mut parent = deepest;
        let names = place.path.names().skip(place.above.len() - 1).take(missing);
        for name in names {
            let (owner, group) = (call.actor.caller.user.clone(), inode.group.clone());
            let directory = new_directory(owner, group, mode | PASSABLE, call.now_ms);
            let above = place.path.prefix(place.above.len() - 1);
            parent = self.add(parent, name, directory, call.now_ms, above)?;
            place.above.push(parent);
        }
        Ok(parent)
    }

    fn new_file(&self, call: &Call, request: &Create, path: FsPath) -> Result<record::File, CallError> {
        let or = |given, default| if given == 0 { default } else { given };
        let block_bytes =
            if request.block_bytes == 0 { self.options.block_bytes } else { request.block_bytes };
        let least = self.options.block_bytes_min;
        if !(least..=BLOCK_BYTES_MAX).contains(&block_bytes) {
            let detail = format!("blocks have {least} to {BLOCK_BYTES_MAX} bytes, not {block_bytes}");
            return Err(refuse(Kind::InvalidArgument, path, detail));
        }
        Ok(record::File {
            replication: checked_replication(or(request.replication, self.options.replication), path)?,
            block_bytes,
            version: 1,
            blocks: Vec::new(),
            construction: Some(Construction {
                client_id: Bytes::copy_from_slice(&call.actor.caller.client.0),
                ..Construction::default()
            }),
        })
    }
}

pub(super) fn checked_replication(replication: u32, path: FsPath) -> Result<u32, CallError> {
    if (1..=REPLICATION_MAX).contains(&replication) {
        return Ok(replication);
    }
    let detail = format!("replication is 1 to {REPLICATION_MAX}, not {replication}");
    Err(refuse(Kind::InvalidArgument, path, detail))
}

/// The bits of a mode that are kept.
pub(super) fn checked_mode(mode: u32, path: FsPath) -> Result<u32, CallError> {
    if mode <= MODE_MAX {
        return Ok(mode & MODE_BITS);
    }
    Err(refuse(Kind::InvalidArgument, path, format!("{mode:o} is no mode")))
}
