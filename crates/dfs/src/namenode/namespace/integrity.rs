//! Whether a namespace that nobody has open is whole: every page and every row, without changing a byte of it.

use std::path::Path;

use gristmill_proto::ids::{BlockId, ClusterId, InodeId};
use gristmill_proto::record::{File, Inode};
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
};

use super::inode::{decode, directory, file};
use super::tables::{
    BLOCKS, Child, Counters, ENTRIES, EntryKey, FORMAT, INODES, META, OPEN, ORPHANS, ROOT, entry_name,
};
use super::tree::Children;
use super::untouched::Untouched;
use super::{BlockRecord, CheckedPages, Namespace, NamespaceOpenError, NamespaceOptions, StoreError};
use crate::guarded::guarded;

/// Problems that are told one by one. A store with more has one cause, and a list of thousands hides it.
pub const PROBLEMS_TOLD_MAX: usize = 100;

/// What was found in a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Integrity {
    /// Files and directories.
    pub inodes: u64,
    /// Names in directories.
    pub names: u64,
    /// Blocks of files.
    pub blocks: u64,
    /// What is wrong, a sentence each: the first [`PROBLEMS_TOLD_MAX`].
    pub problems: Vec<String>,
    /// How much is wrong.
    pub problems_total: u64,
}

impl Namespace {
    /// Looks at every page and every row of the store at `path`, which no master may have open. Changes nothing. An error
    /// is of a store that cannot be opened at all; what is wrong in one that can is in the answer.
    pub fn check(path: &Path, options: &NamespaceOptions) -> Result<Integrity, NamespaceOpenError> {
        let backend = super::backend(path, false)?;
        let looked = guarded(|| {
            let pages = CheckedPages::new(Untouched::new(backend));
            let opened = super::builder(options).create_with_backend(pages);
            let mut database = opened.map_err(|problem| super::open_error(path, problem))?;
            Ok(Integrity::of(&mut database))
        });
        looked.unwrap_or_else(|panicked| {
            let mut integrity = Integrity::default();
            integrity.found(format!("its pages make no sense: {panicked}"));
            Ok(integrity)
        })
    }
}

/// The tables that refer to each other.
struct Tables {
    entries: ReadOnlyTable<&'static [u8], u64>,
    inodes: ReadOnlyTable<u64, &'static [u8]>,
    blocks: ReadOnlyTable<u64, &'static [u8; 29]>,
    open: ReadOnlyTable<u64, &'static [u8; 16]>,
    orphans: ReadOnlyTable<u64, ()>,
}

impl Tables {
    fn open(transaction: &ReadTransaction) -> Result<Tables, StoreError> {
        Ok(Tables {
            entries: transaction.open_table(ENTRIES)?,
            inodes: transaction.open_table(INODES)?,
            blocks: transaction.open_table(BLOCKS)?,
            open: transaction.open_table(OPEN)?,
            orphans: transaction.open_table(ORPHANS)?,
        })
    }

    fn inode(&self, id: InodeId) -> Result<Option<Inode>, StoreError> {
        self.inodes.get(id.0)?.map(|record| decode(id, record.value())).transpose()
    }
}

impl Integrity {
    fn of(database: &mut Database) -> Integrity {
        let mut integrity = Integrity::default();
        match database.check_integrity() {
            Ok(true) => {}
            Ok(false) => integrity.found("its pages are not those that its last commit names".to_owned()),
            Err(error) => {
                // What follows would be found again in every table.
                integrity.found(error.to_string());
                return integrity;
            }
        }
        if let Err(error) = integrity.look(database) {
            integrity.found(error.to_string());
        }
        integrity
    }

    fn found(&mut self, problem: String) {
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_TOLD_MAX {
            self.problems.push(problem);
        }
    }

    /// A row of which something is wrong is a problem; a table that cannot be read is an error.
    fn look(&mut self, database: &Database) -> Result<(), StoreError> {
        let transaction = database.begin_read()?;
        let tables = Tables::open(&transaction)?;
        let mut seen = Counters::default();
        self.look_at_entries(&tables)?;
        self.look_at_inodes(&tables, &mut seen)?;
        self.look_at_blocks(&tables, &mut seen)?;
        self.look_at_meta(&transaction, &seen)
    }

    fn look_at_entries(&mut self, tables: &Tables) -> Result<(), StoreError> {
        for row in tables.entries.iter()? {
            let (key, child) = row?;
            self.names += 1;
            let (name, child) = match entry_name(key.value()) {
                Ok(name) => (name, Child::unpack(child.value())),
                Err(error) => {
                    self.found(error.to_string());
                    continue;
                }
            };
            let parent = key.value().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            let wrong = match tables.inode(child.id) {
                Ok(None) => "is not there",
                Ok(Some(inode)) if inode.parent != parent || inode.name != name => "has another name",
                Ok(Some(inode)) if directory(&inode).is_some() != child.is_directory => "is of another kind",
                Ok(Some(_)) => continue,
                // It is told with the inodes.
                Err(StoreError::Damaged { .. }) => continue,
                Err(error) => return Err(error),
            };
            self.found(format!(
                "the name {name:?} in inode {parent} stands for inode {}, which {wrong}",
                child.id.0
            ));
        }
        Ok(())
    }

    fn look_at_inodes(&mut self, tables: &Tables, seen: &mut Counters) -> Result<(), StoreError> {
        for row in tables.inodes.iter()? {
            let (id, record) = row?;
            let id = InodeId(id.value());
            self.inodes += 1;
            let inode = match decode(id, record.value()) {
                Ok(inode) => inode,
                Err(error) => {
                    self.found(error.to_string());
                    continue;
                }
            };
            let is_named = match inode.parent {
                0 => id == ROOT || tables.orphans.get(id.0)?.is_some(),
                parent => {
                    let key = EntryKey::new_checked(InodeId(parent), &inode.name);
                    let named = key.map(|key| tables.entries.get(&*key)).transpose()?.flatten();
                    named.is_some_and(|child| Child::unpack(child.value()).id == id)
                }
            };
            if !is_named {
                self.found(format!("inode {} ({:?}) is in no directory", id.0, inode.name));
            }
            match (file(&inode), directory(&inode)) {
                (Some(file), _) => {
                    seen.files += 1;
                    self.look_at_file(tables, id, file)?;
                }
                (None, Some(directory)) => {
                    seen.directories += 1;
                    let entries = Children::of(&tables.entries, id, "")?.count();
                    if entries != directory.entries as usize {
                        let says = directory.entries;
                        self.found(format!("inode {} has {entries} names, and says {says}", id.0));
                    }
                }
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn look_at_file(&mut self, tables: &Tables, id: InodeId, file: &File) -> Result<(), StoreError> {
        for extent in &file.blocks {
            let row = tables.blocks.get(extent.block)?.map(|row| BlockRecord::unpack(row.value()));
            let is_it = |row: &BlockRecord| {
                (row.inode, row.generation.0, row.bytes) == (id, extent.generation, extent.bytes)
            };
            if !row.as_ref().is_some_and(is_it) {
                let block = BlockId(extent.block);
                self.found(format!(
                    "inode {} has {block}, and the table of blocks does not say so: {row:?}",
                    id.0
                ));
            }
        }
        if file.construction.is_some() != tables.open.get(id.0)?.is_some() {
            self.found(format!("inode {} is open in one table and closed in another", id.0));
        }
        Ok(())
    }

    fn look_at_blocks(&mut self, tables: &Tables, seen: &mut Counters) -> Result<(), StoreError> {
        for row in tables.blocks.iter()? {
            let (block, row) = row?;
            let (block, row) = (BlockId(block.value()), BlockRecord::unpack(row.value()));
            self.blocks += 1;
            seen.blocks += 1;
            seen.complete_blocks += u64::from(row.complete);
            let inode = match tables.inode(row.inode) {
                Err(StoreError::Damaged { .. }) => continue,
                inode => inode?,
            };
            let extents = inode.as_ref().and_then(file).map_or(&[][..], |file| &file.blocks);
            if !extents.iter().any(|extent| extent.block == block.0) {
                self.found(format!("{block} is said to be of inode {}, which does not have it", row.inode.0));
            }
        }
        for row in tables.open.iter()? {
            let (id, _) = row?;
            if tables.inodes.get(id.value())?.is_none() {
                self.found(format!("inode {} is open, and not there", id.value()));
            }
        }
        Ok(())
    }

    fn look_at_meta(&mut self, transaction: &ReadTransaction, seen: &Counters) -> Result<(), StoreError> {
        let meta = transaction.open_table(META)?;
        let row = |name: &str| Ok::<_, StoreError>(meta.get(name)?.map(|row| row.value().to_vec()));
        if row("format")?.as_deref() != Some(&FORMAT.to_le_bytes()) {
            self.found(format!("its format is not {FORMAT}"));
        }
        if row("cluster")?.and_then(|id| ClusterId::from_wire(&id)).is_none() {
            self.found("its cluster has no id".to_owned());
        }
        match row("counters")? {
            Some(said) => self.compare(&Counters::unpack(&said)?, seen),
            None => self.found("it has no row of counters".to_owned()),
        }
        // Nothing refers to these rows; that they can be read is all there is to see.
        for table in transaction.list_tables()? {
            transaction.open_untyped_table(table)?.len()?;
        }
        Ok(())
    }

    fn compare(&mut self, said: &Counters, seen: &Counters) {
        for (what, said, seen) in [
            ("directories", said.directories, seen.directories),
            ("files", said.files, seen.files),
            ("blocks", said.blocks, seen.blocks),
            ("complete blocks", said.complete_blocks, seen.complete_blocks),
        ] {
            if said != seen {
                self.found(format!("it has {seen} {what}, and counts {said}"));
            }
        }
    }
}
