//! The committed state, for readers.

use std::rc::Rc;

use gristmill_proto::ids::{BlockId, ClientId, Generation, InodeId, WorkerId};
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::{Entry, List, Listing, Locate, LocatedBlock, LocatedFile};
use gristmill_proto::record::construction::Phase;
use gristmill_proto::record::{File, Inode};
use redb::{ReadOnlyTable, ReadTransaction};

use super::access::{Actor, EXECUTE, READ};
use super::inode::{decode, entry, file, holder, located, open_extent};
use super::paths::join;
use super::tables::{
    BLOCKS, Child, Counters, ENTRIES, EntryKey, INODES, META, OPEN, ORPHANS, ROOT, SERVICES, unpack_holder,
};
use super::tree::{Children, Node, Tree};
use super::{BlockRecord, CallError, Caller, FsPath, StoreError};

/// Entries of one listing.
pub const LIST_MAX: u32 = 1000;
/// Blocks of one answer to `Locate`, and how many there are if nothing is said.
pub const LOCATE_MAX: u32 = 1000;
const LOCATE_DEFAULT: u32 = 100;

/// All of the namespace as it was after some group. Cheap to make and to share; holding one for long keeps the store
/// from reusing the space of what changes.
pub struct Snapshot {
    entries: ReadOnlyTable<&'static [u8], u64>,
    inodes: ReadOnlyTable<u64, &'static [u8]>,
    blocks: ReadOnlyTable<u64, &'static [u8; 29]>,
    open: ReadOnlyTable<u64, &'static [u8; 16]>,
    pub(super) services: ReadOnlyTable<u64, u8>,
    counters: Counters,
    has_orphans: bool,
    root: Inode,
}

/// How much there is. What is deleted counts until it is reclaimed, but for small files and empty directories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// `/` counts.
    pub directories: u64,
    /// Open ones count.
    pub files: u64,
    /// All blocks.
    pub blocks: u64,
    /// Blocks that nobody writes: those that safe mode waits for.
    pub complete_blocks: u64,
}

/// A file that is not closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderConstruction {
    /// The file.
    pub inode: InodeId,
    /// Its writer. `None`: it is being recovered or cut, and that is to be begun again after a start of the master.
    pub holder: Option<ClientId>,
    /// Of the file.
    pub replication: u32,
    /// Of the file.
    pub block_bytes: u64,
    /// The last block, if it is not complete.
    pub open_block: Option<(BlockId, Generation)>,
    /// Who writes that block, as far as the namespace gave it out.
    pub pipeline: Vec<WorkerId>,
}

impl Snapshot {
    pub(super) fn begin(transaction: &ReadTransaction) -> Result<Snapshot, StoreError> {
        let inodes = transaction.open_table(INODES)?;
        let root = inodes.get(ROOT.0)?.ok_or_else(|| StoreError::damaged("inode", ROOT.0, "is not there"))?;
        let counters = transaction.open_table(META)?.get("counters")?;
        Ok(Snapshot {
            entries: transaction.open_table(ENTRIES)?,
            blocks: transaction.open_table(BLOCKS)?,
            open: transaction.open_table(OPEN)?,
            services: transaction.open_table(SERVICES)?,
            counters: Counters::unpack(counters.as_ref().map_or(&[], |row| row.value()))?,
            has_orphans: {
                use redb::ReadableTableMetadata;
                !transaction.open_table(ORPHANS)?.is_empty()?
            },
            root: decode(ROOT, root.value())?,
            inodes,
        })
    }

    /// The answer to a call that only reads the namespace (`Stat`, `List`, `Summarize`, `Locate`), refusals too;
    /// `None` for all other calls.
    pub fn answer(&self, caller: &Caller, request: &Request) -> Result<Option<Outcome>, StoreError> {
        let answer = match request {
            Request::Stat(request) => self.stat(caller, &request.path).map(Outcome::Entry),
            Request::List(request) => self.list(caller, request).map(Outcome::Listing),
            Request::Summarize(request) => self.summarize(caller, &request.path).map(Outcome::Summary),
            Request::Locate(request) => self.locate(caller, request).map(Outcome::Located),
            _ => return Ok(None),
        };
        match answer {
            Ok(outcome) => Ok(Some(outcome)),
            Err(CallError::Refused(failure)) => Ok(Some(Outcome::Failure(failure))),
            Err(CallError::Store(problem)) => Err(problem),
        }
    }

    /// What is at `path` (Hadoop: `getFileStatus`).
    pub fn stat(&self, caller: &Caller, path: &str) -> Result<Entry, CallError> {
        let path = FsPath::parse(path)?;
        let place = self.walk(&self.actor(caller), path)?;
        let node = place.existing()?;
        Ok(entry(path.to_string(), node.id, &node.inode))
    }

    /// A page of a directory, or the file itself.
    pub fn list(&self, caller: &Caller, request: &List) -> Result<Listing, CallError> {
        let path = FsPath::parse(&request.path)?;
        let actor = self.actor(caller);
        let place = self.walk(&actor, path)?;
        let node = place.existing()?;
        if !node.is_directory() {
            let entries = vec![entry(path.to_string(), node.id, &node.inode)];
            return Ok(Listing { entries, more: false });
        }
        actor.require(&node.inode, READ | EXECUTE, path)?;
        let limit = at_most(request.limit, LIST_MAX, LIST_MAX);
        let mut entries = Vec::with_capacity(limit.min(node.entries() as usize));
        // A name that is too long comes after no name that is there, or after all it begins like.
        let after = &request.after[..request.after.floor_char_boundary(super::NAME_BYTES_MAX)];
        for child in self.children(node.id, after)? {
            let (name, Child { id, .. }) = child?;
            if entries.len() == limit {
                return Ok(Listing { entries, more: true });
            }
            entries.push(entry(join(path.as_str(), &name), id, &*self.expect(id)?));
        }
        Ok(Listing { entries, more: false })
    }

    /// The blocks that overlap a range of a file. Workers are given for the block that is being written only, of which
    /// the synced part is shown, under a generation that all who have it have.
    pub fn locate(&self, caller: &Caller, request: &Locate) -> Result<LocatedFile, CallError> {
        let path = FsPath::parse(&request.path)?;
        let actor = self.actor(caller);
        let place = self.walk(&actor, path)?;
        let node = place.existing()?;
        let file = node.file(path)?;
        actor.require(&node.inode, READ, path)?;
        let end = request.offset.saturating_add(request.bytes);
        let limit = at_most(request.limit, LOCATE_DEFAULT, LOCATE_MAX);
        let mut answer = LocatedFile { entry: None, blocks: Vec::new(), more: false };
        let mut offset = 0;
        for extent in &file.blocks {
            let (first, after) = (offset, offset + extent.bytes);
            offset = after;
            if after <= request.offset || extent.bytes == 0 {
                continue;
            }
            if first >= end {
                break;
            }
            if answer.blocks.len() == limit {
                answer.more = true;
                break;
            }
            answer.blocks.push(located(extent, first, &[]));
        }
        if let Some(last) = answer.blocks.last_mut() {
            show_synced(file, last);
        }
        answer.entry = Some(entry(path.to_string(), node.id, &node.inode));
        Ok(answer)
    }

    /// What is known of a block. `None`: it is in no file.
    pub fn block(&self, block: BlockId) -> Result<Option<BlockRecord>, StoreError> {
        Ok(self.blocks.get(block.0)?.map(|packed| BlockRecord::unpack(packed.value())))
    }

    /// The blocks after one, ascending: block 0 is before all.
    pub fn blocks_after(
        &self,
        after: BlockId,
        limit: usize,
    ) -> Result<Vec<(BlockId, BlockRecord)>, StoreError> {
        let range = self.blocks.range(after.0.saturating_add(1)..)?.take(limit);
        range
            .map(|pair| pair.map(|(id, row)| (BlockId(id.value()), BlockRecord::unpack(row.value()))))
            .collect::<Result<_, _>>()
            .map_err(StoreError::from)
    }

    /// Files that are open, by inode after one, and who writes them; `None` if that is being recovered.
    pub fn open_files(
        &self,
        after: InodeId,
        limit: usize,
    ) -> Result<Vec<(InodeId, Option<ClientId>)>, StoreError> {
        let range = self.open.range(after.0.saturating_add(1)..)?.take(limit);
        range
            .map(|pair| pair.map(|(id, holder)| (InodeId(id.value()), unpack_holder(holder.value()))))
            .collect::<Result<_, _>>()
            .map_err(StoreError::from)
    }

    /// What a placement must know of a file that is open; `None` if it is closed or gone.
    pub fn under_construction(&self, inode: InodeId) -> Result<Option<UnderConstruction>, StoreError> {
        let Some(record) = self.inode(inode)? else { return Ok(None) };
        let Some(file) = file(&record) else { return Ok(None) };
        let Some(construction) = &file.construction else { return Ok(None) };
        let holder = if construction.phase() == Phase::Writing { holder(file) } else { None };
        let (replication, block_bytes) = (file.replication, file.block_bytes);
        let open_block =
            open_extent(file).map(|extent| (BlockId(extent.block), Generation(extent.generation)));
        let pipeline = construction.pipeline.iter().map(|&worker| WorkerId(worker)).collect();
        Ok(Some(UnderConstruction { inode, holder, replication, block_bytes, open_block, pipeline }))
    }

    /// The path of an inode; `None` if it is gone.
    pub fn path_of(&self, inode: InodeId) -> Result<Option<String>, StoreError> {
        let Some(record) = self.inode(inode)? else { return Ok(None) };
        Ok(self.climb(&Node { id: inode, inode: record })?.map(|(_, path)| path))
    }

    /// How much there is.
    pub fn totals(&self) -> Totals {
        let Counters { directories, files, blocks, complete_blocks, .. } = self.counters;
        Totals { directories, files, blocks, complete_blocks }
    }

    /// Whether [`super::Action::Reclaim`] has something to do.
    pub fn has_orphans(&self) -> bool {
        self.has_orphans
    }

    /// The owner of `/`.
    pub fn superuser(&self) -> &str {
        &self.root.owner
    }

    pub(super) fn actor<'c>(&self, caller: &'c Caller) -> Actor<'c> {
        Actor::new(caller, &self.root)
    }
}

impl Tree for Snapshot {
    fn child(&self, parent: InodeId, name: &str) -> Result<Option<Child>, StoreError> {
        let child = self.entries.get(&*EntryKey::new(parent, name))?;
        Ok(child.map(|packed| Child::unpack(packed.value())))
    }

    fn inode(&self, id: InodeId) -> Result<Option<Rc<Inode>>, StoreError> {
        let Some(record) = self.inodes.get(id.0)? else { return Ok(None) };
        Ok(Some(Rc::new(decode(id, record.value())?)))
    }

    fn children(&self, parent: InodeId, after: &str) -> Result<Children<'_>, StoreError> {
        Children::of(&self.entries, parent, after)
    }

    fn directories(&self) -> u64 {
        self.counters.directories
    }
}

/// If it is the open block of the file: under a generation whose replicas all have what is visible.
fn show_synced(file: &File, block: &mut LocatedBlock) {
    let (Some(open), Some(construction)) = (open_extent(file), &file.construction) else { return };
    if open.block == block.block {
        let offset = block.offset;
        *block = located(open, offset, &construction.pipeline);
        block.generation = construction.synced_generation;
    }
}

pub(super) fn at_most(asked: u32, default: u32, most: u32) -> usize {
    (if asked == 0 { default } else { asked.min(most) }) as usize
}
