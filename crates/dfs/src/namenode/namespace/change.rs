//! A change in the midst of its group: the tables of one transaction, what was read of them, and how to take back
//! what the command at hand has done so far.
//!
//! Commands see what the commands before them did. A refused command takes its own steps back, one by one, so that
//! nobody has to foresee every refusal before the first step.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use gristmill_proto::ids::{BlockId, ClientId, Generation, InodeId};
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::record::Inode;
use prost::Message;
use redb::{ReadableTable, Table, WriteTransaction};

use super::access::Actor;
use super::inode::{decode, directory_mut};
use super::quota::Charged;
use super::refusal::refuse;
use super::tables::{
    BLOCKS, Child, Counters, ENTRIES, EntryKey, INODES, META, OPEN, ORPHANS, ROOT, SERVICES, pack_holder,
};
use super::tree::{Children, Tree};
use super::{BlockRecord, CallError, Effect, Facts, FsPath, LeaseClock, NamespaceOptions, StoreError};

/// Entries of one directory (Hadoop: `dfs.namenode.fs-limits.max-directory-items`).
pub const DIRECTORY_ENTRIES_MAX: u32 = 1_048_576;
/// Inodes that are kept for the next command of a group besides those it changed: a group touches few directories,
/// but a walk through a large tree must not fill the memory.
const CACHED_INODES_MAX: usize = 16_384;

/// What a command is told besides its request.
pub(super) struct Call<'c> {
    pub(super) actor: Actor<'c>,
    pub(super) now_ms: u64,
    pub(super) facts: &'c Facts,
}

/// The namespace while a group of commands changes it.
pub(super) struct Change<'t> {
    pub(super) options: &'t NamespaceOptions,
    pub(super) leases: &'t dyn LeaseClock,
    pub(super) counters: Counters,
    /// Of the command at hand.
    pub(super) effects: Vec<Effect>,
    /// By the command at hand.
    pub(super) charged: Vec<Charged>,
    entries: Table<'t, &'static [u8], u64>,
    inodes: Table<'t, u64, &'static [u8]>,
    blocks: Table<'t, u64, &'static [u8; 29]>,
    pub(super) open: Table<'t, u64, &'static [u8; 16]>,
    pub(super) orphans: Table<'t, u64, ()>,
    pub(super) services: Table<'t, u64, u8>,
    cache: RefCell<HashMap<InodeId, Slot>>,
    stored: Counters,
    before: Counters,
    undo: Vec<Undo>,
}

/// An inode as the command at hand sees it.
#[derive(Clone)]
struct Slot {
    inode: Option<Rc<Inode>>,
    changed: bool,
}

/// What was there before a step of the command at hand.
enum Undo {
    Entry(InodeId, String, Option<Child>),
    Inode(InodeId, Option<Rc<Inode>>),
    Block(BlockId, Option<BlockRecord>),
    Open(InodeId, Option<[u8; 16]>),
    Orphan(InodeId, bool),
}

impl<'t> Change<'t> {
    pub(super) fn begin(
        transaction: &'t WriteTransaction,
        options: &'t NamespaceOptions,
        leases: &'t dyn LeaseClock,
    ) -> Result<Change<'t>, StoreError> {
        let meta = transaction.open_table(META)?;
        let counters = meta.get("counters")?;
        let counters = Counters::unpack(counters.as_ref().map_or(&[], |row| row.value()))?;
        Ok(Change {
            options,
            leases,
            counters,
            effects: Vec::new(),
            charged: Vec::new(),
            entries: transaction.open_table(ENTRIES)?,
            inodes: transaction.open_table(INODES)?,
            blocks: transaction.open_table(BLOCKS)?,
            open: transaction.open_table(OPEN)?,
            orphans: transaction.open_table(ORPHANS)?,
            services: transaction.open_table(SERVICES)?,
            cache: RefCell::default(),
            stored: counters,
            before: counters,
            undo: Vec::new(),
        })
    }

    /// The commands until now stay; the next one begins.
    pub(super) fn keep(&mut self) -> Vec<Effect> {
        self.undo.clear();
        self.charged.clear();
        self.before = self.counters;
        std::mem::take(&mut self.effects)
    }

    /// Takes back what the command at hand did.
    pub(super) fn roll_back(&mut self) -> Result<(), StoreError> {
        while let Some(step) = self.undo.pop() {
            match step {
                Undo::Entry(parent, name, None) => drop(self.entries.remove(&*EntryKey::new(parent, &name))?),
                Undo::Entry(parent, name, Some(child)) => {
                    self.entries.insert(&*EntryKey::new(parent, &name), child.pack())?;
                }
                Undo::Inode(id, inode) => {
                    self.cache.borrow_mut().insert(id, Slot { inode, changed: true });
                }
                Undo::Block(id, None) => drop(self.blocks.remove(id.0)?),
                Undo::Block(id, Some(block)) => drop(self.blocks.insert(id.0, &block.pack())?),
                Undo::Open(id, None) => drop(self.open.remove(id.0)?),
                Undo::Open(id, Some(holder)) => drop(self.open.insert(id.0, &holder)?),
                Undo::Orphan(id, false) => drop(self.orphans.remove(id.0)?),
                Undo::Orphan(id, true) => drop(self.orphans.insert(id.0, ())?),
            }
        }
        self.counters = self.before;
        self.charged.clear();
        self.effects.clear();
        Ok(())
    }

    /// Writes what was only cached. The group is over.
    pub(super) fn finish(mut self, transaction: &WriteTransaction) -> Result<(), StoreError> {
        let cache = self.cache.into_inner();
        let mut changed: Vec<_> = cache.into_iter().filter(|(_, slot)| slot.changed).collect();
        changed.sort_unstable_by_key(|&(id, _)| id);
        let mut record = Vec::new();
        for (id, slot) in changed {
            match slot.inode {
                None => drop(self.inodes.remove(id.0)?),
                Some(inode) => {
                    record.clear();
                    inode.encode_raw(&mut record);
                    self.inodes.insert(id.0, record.as_slice())?;
                }
            }
        }
        if self.counters != self.stored {
            transaction.open_table(META)?.insert("counters", self.counters.pack().as_slice())?;
        }
        Ok(())
    }

    pub(super) fn new_generation(&mut self) -> Generation {
        self.counters.next_generation += 1;
        Generation(self.counters.next_generation - 1)
    }

    pub(super) fn new_block(&mut self) -> BlockId {
        self.counters.next_block += 1;
        BlockId(self.counters.next_block - 1)
    }

    /// Makes `inode` under `name` in `parent`, whose path is `above`.
    pub(super) fn add(
        &mut self,
        parent: InodeId,
        name: &str,
        mut inode: Inode,
        now_ms: u64,
        above: FsPath,
    ) -> Result<InodeId, CallError> {
        let id = InodeId(self.counters.next_inode);
        self.counters.next_inode += 1;
        let is_directory = directory_mut(&mut inode).is_some();
        *(if is_directory { &mut self.counters.directories } else { &mut self.counters.files }) += 1;
        inode.parent = parent.0;
        name.clone_into(&mut inode.name);
        self.link(parent, name, Child { id, is_directory }, now_ms, above)?;
        self.set_inode(id, None, Some(inode));
        Ok(id)
    }

    /// Enters `child` into a directory, whose path is `above`.
    pub(super) fn link(
        &mut self,
        parent: InodeId,
        name: &str,
        child: Child,
        now_ms: u64,
        above: FsPath,
    ) -> Result<(), CallError> {
        let before = self.entries.insert(&*EntryKey::new(parent, name), child.pack())?;
        let before = before.map(|packed| Child::unpack(packed.value()));
        let is_new = before.is_none();
        self.undo.push(Undo::Entry(parent, name.to_owned(), before));
        let mut is_full = false;
        self.edit(parent, |inode| {
            inode.modified_ms = now_ms;
            if let Some(directory) = directory_mut(inode) {
                is_full = is_new && directory.entries >= DIRECTORY_ENTRIES_MAX;
                directory.entries += u32::from(is_new);
            }
        })?;
        if is_full {
            let detail = format!("a directory has at most {DIRECTORY_ENTRIES_MAX} entries");
            return Err(refuse(Kind::Limit, above, detail));
        }
        Ok(())
    }

    /// Takes an entry out of a directory.
    pub(super) fn unlink(&mut self, parent: InodeId, name: &str, now_ms: u64) -> Result<(), StoreError> {
        self.remove_entry(parent, name)?;
        self.edit(parent, |inode| {
            inode.modified_ms = now_ms;
            if let Some(directory) = directory_mut(inode) {
                directory.entries -= 1;
            }
        })
    }

    /// Forgets a name that is there, and leaves the directory as it is.
    pub(super) fn remove_entry(&mut self, parent: InodeId, name: &str) -> Result<(), StoreError> {
        let before = self.entries.remove(&*EntryKey::new(parent, name))?;
        let before = before.map(|packed| Child::unpack(packed.value()));
        let missing = || StoreError::damaged("an entry of inode", parent.0, "is not there any more");
        self.undo.push(Undo::Entry(parent, name.to_owned(), Some(before.ok_or_else(missing)?)));
        Ok(())
    }

    /// Changes an inode that is there.
    pub(super) fn edit(&mut self, id: InodeId, change: impl FnOnce(&mut Inode)) -> Result<(), StoreError> {
        let before = self.expect(id)?;
        let mut inode = (*before).clone();
        change(&mut inode);
        self.set_inode(id, Some(before), Some(inode));
        Ok(())
    }

    /// Replaces an inode; `before` is what [`Tree::inode`] gave of it.
    pub(super) fn set_inode(&mut self, id: InodeId, before: Option<Rc<Inode>>, inode: Option<Inode>) {
        self.undo.push(Undo::Inode(id, before));
        let slot = Slot { inode: inode.map(Rc::new), changed: true };
        self.cache.borrow_mut().insert(id, slot);
    }

    /// Makes, replaces or (with `None`) forgets the row of a block.
    pub(super) fn set_block(&mut self, id: BlockId, row: Option<BlockRecord>) -> Result<(), StoreError> {
        let before = match row {
            Some(row) => self.blocks.insert(id.0, &row.pack())?,
            None => self.blocks.remove(id.0)?,
        };
        let before = before.map(|packed| BlockRecord::unpack(packed.value()));
        let count = |row: Option<BlockRecord>| {
            (u64::from(row.is_some()), u64::from(row.is_some_and(|row| row.complete)))
        };
        let ((blocks, complete), (blocks_before, complete_before)) = (count(row), count(before));
        self.counters.blocks = self.counters.blocks + blocks - blocks_before;
        self.counters.complete_blocks = self.counters.complete_blocks + complete - complete_before;
        self.undo.push(Undo::Block(id, before));
        Ok(())
    }

    /// The file is open: written by `holder`, or being recovered.
    pub(super) fn set_open(&mut self, id: InodeId, holder: Option<ClientId>) -> Result<(), StoreError> {
        let before = self.open.insert(id.0, &pack_holder(holder))?.map(|packed| *packed.value());
        self.undo.push(Undo::Open(id, before));
        Ok(())
    }

    /// The file is closed, or gone.
    pub(super) fn unset_open(&mut self, id: InodeId) -> Result<(), StoreError> {
        let before = self.open.remove(id.0)?.map(|packed| *packed.value());
        self.undo.push(Undo::Open(id, before));
        Ok(())
    }

    /// The inode is in no directory, and is forgotten later with all below it.
    pub(super) fn set_orphan(&mut self, id: InodeId) -> Result<(), StoreError> {
        let before = self.orphans.insert(id.0, ())?.is_some();
        self.undo.push(Undo::Orphan(id, before));
        Ok(())
    }

    /// The inode is forgotten.
    pub(super) fn unset_orphan(&mut self, id: InodeId) -> Result<(), StoreError> {
        let before = self.orphans.remove(id.0)?.is_some();
        self.undo.push(Undo::Orphan(id, before));
        Ok(())
    }

    /// Some orphan, if there is one.
    pub(super) fn first_orphan(&self) -> Result<Option<InodeId>, StoreError> {
        Ok(self.orphans.first()?.map(|(id, _)| InodeId(id.value())))
    }
}

impl Tree for Change<'_> {
    fn child(&self, parent: InodeId, name: &str) -> Result<Option<Child>, StoreError> {
        let child = self.entries.get(&*EntryKey::new(parent, name))?;
        Ok(child.map(|packed| Child::unpack(packed.value())))
    }

    fn inode(&self, id: InodeId) -> Result<Option<Rc<Inode>>, StoreError> {
        if let Some(slot) = self.cache.borrow().get(&id) {
            return Ok(slot.inode.clone());
        }
        let Some(record) = self.inodes.get(id.0)? else { return Ok(None) };
        let inode = Rc::new(decode(id, record.value())?);
        let mut cache = self.cache.borrow_mut();
        if cache.len() < CACHED_INODES_MAX {
            cache.insert(id, Slot { inode: Some(Rc::clone(&inode)), changed: false });
        }
        Ok(Some(inode))
    }

    fn children(&self, parent: InodeId, after: &str) -> Result<Children<'_>, StoreError> {
        Children::of(&self.entries, parent, after)
    }

    fn directories(&self) -> u64 {
        self.counters.directories
    }
}

/// The root of a new namespace.
pub(super) fn plant(transaction: &WriteTransaction, options: &NamespaceOptions) -> Result<(), StoreError> {
    let (owner, group) = (options.superuser.clone(), options.supergroup.clone());
    let root = super::inode::new_directory(owner, group, 0o755, 0);
    transaction.open_table(INODES)?.insert(ROOT.0, root.encode_to_vec().as_slice())?;
    transaction.open_table(ENTRIES)?;
    transaction.open_table(BLOCKS)?;
    transaction.open_table(OPEN)?;
    transaction.open_table(ORPHANS)?;
    let counters = Counters {
        next_inode: ROOT.0 + 1,
        next_block: 1,
        next_generation: 1,
        directories: 1,
        ..Counters::default()
    };
    transaction.open_table(META)?.insert("counters", counters.pack().as_slice())?;
    Ok(())
}
