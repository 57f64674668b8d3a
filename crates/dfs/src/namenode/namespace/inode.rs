//! What inode records say.

use gristmill_proto::ids::{BlockId, ClientId, Generation, InodeId};
use gristmill_proto::namespace::{Entry, LocatedBlock, Replica};
use gristmill_proto::record::construction::Phase;
use gristmill_proto::record::{Directory, Extent, File, Inode, inode::Kind};
use prost::Message;

use super::{BlockRecord, StoreError};

/// Mode bits that are kept: permissions and the sticky bit. Nothing is ever executed, so there is no set-uid.
pub(super) const MODE_BITS: u32 = 0o1777;

pub(super) fn decode(id: InodeId, record: &[u8]) -> Result<Inode, StoreError> {
    let inode = Inode::decode(record).map_err(|problem| StoreError::damaged("inode", id.0, problem))?;
    match inode.kind {
        Some(_) => Ok(inode),
        None => Err(StoreError::damaged("inode", id.0, "is neither a file nor a directory")),
    }
}

pub(super) fn new_directory(owner: String, group: String, mode: u32, now_ms: u64) -> Inode {
    let kind = Kind::Directory(Directory { quota: None, entries: 0 });
    Inode {
        parent: 0,
        name: String::new(),
        owner,
        group,
        mode: mode & MODE_BITS,
        modified_ms: now_ms,
        accessed_ms: now_ms,
        kind: Some(kind),
    }
}

pub(super) fn directory(inode: &Inode) -> Option<&Directory> {
    match &inode.kind {
        Some(Kind::Directory(directory)) => Some(directory),
        _ => None,
    }
}

pub(super) fn directory_mut(inode: &mut Inode) -> Option<&mut Directory> {
    match &mut inode.kind {
        Some(Kind::Directory(directory)) => Some(directory),
        _ => None,
    }
}

pub(super) fn file(inode: &Inode) -> Option<&File> {
    match &inode.kind {
        Some(Kind::File(file)) => Some(file),
        _ => None,
    }
}

pub(super) fn file_mut(inode: &mut Inode) -> Option<&mut File> {
    match &mut inode.kind {
        Some(Kind::File(file)) => Some(file),
        _ => None,
    }
}

/// Visible bytes.
pub(super) fn bytes(file: &File) -> u64 {
    // Of a damaged record the sum may be anything.
    file.blocks.iter().fold(0, |sum, extent| sum.saturating_add(extent.bytes))
}

/// The last block, if it is being written or recovered. All others are complete.
pub(super) fn open_extent(file: &File) -> Option<&Extent> {
    let construction = file.construction.as_ref()?;
    if construction.synced_generation == 0 { None } else { file.blocks.last() }
}

/// Who writes the file. `None` if nobody does, or if whoever did is being fenced.
pub(super) fn holder(file: &File) -> Option<ClientId> {
    file.construction.as_ref().and_then(|construction| ClientId::from_wire(&construction.client_id))
}

/// Bytes of all replicas, as quotas count them: an open block counts as full, but for one that is being cut.
pub(super) fn space(file: &File) -> u64 {
    let spare = match (open_extent(file), &file.construction) {
        (Some(extent), Some(construction)) if construction.phase() != Phase::Truncating => {
            file.block_bytes.saturating_sub(extent.bytes)
        }
        _ => 0,
    };
    bytes(file).saturating_add(spare).saturating_mul(u64::from(file.replication))
}

pub(super) fn entry(path: String, id: InodeId, inode: &Inode) -> Entry {
    let mut entry = Entry {
        path,
        inode: id.0,
        owner: inode.owner.clone(),
        group: inode.group.clone(),
        mode: inode.mode,
        modified_ms: inode.modified_ms,
        accessed_ms: inode.accessed_ms,
        ..Entry::default()
    };
    match &inode.kind {
        Some(Kind::File(file)) => {
            entry.bytes = bytes(file);
            entry.replication = file.replication;
            entry.block_bytes = file.block_bytes;
            entry.version = file.version;
            entry.under_construction = file.construction.is_some();
            entry.blocks = file.blocks.len() as u32;
        }
        Some(Kind::Directory(directory)) => {
            let quota = directory.quota.unwrap_or_default();
            entry.is_directory = true;
            (entry.name_quota, entry.space_quota) = (quota.names, quota.space_bytes);
        }
        None => {}
    }
    entry
}

/// One block as a reader or a writer sees it; who has it is known elsewhere, but for pipelines.
pub(super) fn located(extent: &Extent, offset: u64, workers: &[u64]) -> LocatedBlock {
    LocatedBlock {
        block: extent.block,
        generation: extent.generation,
        offset,
        bytes: extent.bytes,
        replicas: workers.iter().map(|&worker| Replica { worker, ..Replica::default() }).collect(),
        token: Default::default(),
    }
}

/// The row of a block of `file`.
pub(super) fn block_record(inode: InodeId, file: &File, extent: &Extent, complete: bool) -> BlockRecord {
    let generation = Generation(extent.generation);
    BlockRecord { inode, generation, bytes: extent.bytes, replication: file.replication, complete }
}

pub(super) fn block_ids(extents: &[Extent]) -> Vec<BlockId> {
    extents.iter().map(|extent| BlockId(extent.block)).collect()
}
