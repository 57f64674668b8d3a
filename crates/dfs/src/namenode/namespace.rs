//! The durable tree of names: directories, files as lists of blocks, who writes what, quotas, trash, and the answers
//! that were given. All of it is in one embedded transactional store (redb), nothing in the heap.
//!
//! ```text
//!   commands ──> group ──> change ── tables of one transaction ──> commit ──> answers, effects
//!                  │
//!                  └─ sessions: a call that comes again gets its first answer
//!
//!   reads ──> snapshot (the last commit)
//! ```
//!
//! Where replicas are is not known here, and time comes in with commands: what is stored is a pure function of what
//! was asked.
//!
//! Modules, in reading order: `command` (what is asked and answered), `refusal` (how it fails), `paths`, `pages`
//! and `tables` (the format), `inode`, `access`, `tree` (what readers and changes share), `change` and `draft` (how the tables
//! change), `group` and `sessions`; then the calls: `creation`, `writing`, `reopening`, `leases`, `renaming`,
//! `deletion`, `trash`, `concatenation`, `attributes`, `quota`, `services`; and the reads: `snapshot`, `survey`; and
//! `integrity` (is all of it whole?), which writes to nothing but memory (`untouched`).

mod access;
mod attributes;
mod change;
mod command;
mod concatenation;
mod creation;
mod deletion;
mod draft;
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod inode;
mod integrity;
mod leases;
mod pages;
mod paths;
mod quota;
mod refusal;
mod renaming;
mod reopening;
mod services;
mod sessions;
mod snapshot;
mod survey;
mod tables;
mod trash;
mod tree;
mod untouched;
mod writing;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gristmill_proto::ids::{ClusterId, Epoch};
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageBackend, WriteTransaction};

pub use attributes::OWNER_BYTES_MAX;
pub use change::DIRECTORY_ENTRIES_MAX;
pub use command::{
    Action, Applied, BlockRecord, Caller, Command, Effect, Facts, LeaseClock, RequestId,
    TRASH_BUCKETS_PER_ACTION,
};
pub use creation::{BLOCK_BYTES_MAX, REPLICATION_MAX};
pub use integrity::{Integrity, PROBLEMS_TOLD_MAX};
pub use pages::CheckedPages;
pub use paths::{FsPath, NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};
pub use refusal::{CallError, StoreError};
pub use renaming::PUBLICATION_NAMES_MAX;
pub use sessions::ANSWERS_PER_CLIENT_MAX;
pub use snapshot::{LIST_MAX, LOCATE_MAX, Snapshot, Totals, UnderConstruction};
pub use survey::{CHECK_FILES_MAX, CheckPage, CheckedFile};
pub use trash::TRASH;
pub use untouched::Untouched;
pub use writing::FILE_BLOCKS_MAX;

use crate::guarded::guarded;

/// What can be chosen of a namespace.
#[derive(Clone, Debug)]
pub struct NamespaceOptions {
    /// Owner of `/` in a new namespace; whoever owns `/` may do everything.
    pub superuser: String,
    /// Group of `/` in a new namespace.
    pub supergroup: String,
    /// Replicas of a block of a file that asks for none in particular.
    pub replication: u32,
    /// Bytes of a block of a file that asks for none in particular.
    pub block_bytes: u64,
    /// The smallest blocks a file may ask for (Hadoop: `dfs.namenode.fs-limits.min-block-size`).
    pub block_bytes_min: u64,
    /// A writer that is silent for longer may be fenced by another who wants to write its file.
    pub lease_soft_limit_ms: u64,
    /// Whether what is deleted goes to the trash first.
    pub trash: bool,
    /// Memory for pages of the store.
    pub cache_bytes: usize,
}

impl Default for NamespaceOptions {
    fn default() -> NamespaceOptions {
        NamespaceOptions {
            superuser: "root".to_owned(),
            supergroup: "supergroup".to_owned(),
            replication: 1,
            block_bytes: 64 << 20,
            block_bytes_min: 1 << 20,
            lease_soft_limit_ms: 60_000,
            trash: true,
            cache_bytes: 256 << 20,
        }
    }
}

/// Why a namespace could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceOpenError {
    /// A process has it open.
    #[error("cannot open the namespace: another master uses {}", .path.display())]
    InUse {
        /// The store.
        path: PathBuf,
    },
    /// It was written by another version.
    #[error("cannot open the namespace {}: it has format {found}, and this build knows format {known}", .path.display())]
    OtherFormat {
        /// The store.
        path: PathBuf,
        /// What it has.
        found: u64,
        /// What it should have.
        known: u64,
    },
    /// It is no store, or a damaged one, or cannot be read.
    #[error("cannot open the namespace {}: {source}", .path.display())]
    Open {
        /// The store.
        path: PathBuf,
        /// The store's reason.
        #[source]
        source: DatabaseError,
    },
    /// Its pages are not those of a store.
    #[error("cannot open the namespace {}: its pages make no sense; restore a copy", .path.display())]
    NoSense {
        /// The store.
        path: PathBuf,
    },
    /// It opens, and cannot be used.
    #[error("cannot start on the namespace {}: {source}", .path.display())]
    Start {
        /// The store.
        path: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A new one cannot be put in its place.
    #[error("cannot make the namespace {}: {source}", .path.display())]
    Make {
        /// The store.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// The namespace of one cluster. One process has it open; all its threads may use it. Groups are applied one after
/// the other, and readers never wait for them.
pub struct Namespace {
    database: Database,
    options: NamespaceOptions,
    cluster: ClusterId,
    epoch: Epoch,
    /// Of the last commit, if somebody has read since.
    latest: Mutex<Option<Arc<Snapshot>>>,
}

impl Namespace {
    /// Opens the store at `path`, a file, or makes it with a new cluster id. Its epoch is durably higher than ever
    /// before.
    pub fn create_or_open(path: &Path, options: NamespaceOptions) -> Result<Namespace, NamespaceOpenError> {
        let made = |source| NamespaceOpenError::Make { path: path.to_owned(), source };
        if fs::exists(path).map_err(made)? {
            // The embedded store panics on some files that were cut short: they are damaged, and no bug.
            let opened = guarded(|| {
                let database = open(path, &options)?;
                Namespace::start(database, path, options, ClusterId::random())
            });
            let namespace =
                opened.unwrap_or_else(|_| Err(NamespaceOpenError::NoSense { path: path.to_owned() }))?;
            sweep(path);
            return Ok(namespace);
        }
        // Made aside, so that a half-made one is never taken for a damaged one.
        let cluster = ClusterId::random();
        let aside = path.with_added_extension(format!("{cluster}.new"));
        let database = open(&aside, &options)?;
        let namespace = Namespace::start(database, path, options, cluster)?;
        match put_in_place(&aside, path) {
            Ok(()) => {
                sweep(path);
                Ok(namespace)
            }
            Err(source) => {
                fs::remove_file(&aside).map_err(made)?;
                match source.kind() {
                    io::ErrorKind::AlreadyExists => Err(NamespaceOpenError::InUse { path: path.to_owned() }),
                    _ => Err(made(source)),
                }
            }
        }
    }

    /// The same on any storage.
    pub fn with_backend(
        backend: impl StorageBackend,
        options: NamespaceOptions,
    ) -> Result<Namespace, NamespaceOpenError> {
        let path = Path::new("(a backend)");
        let database = builder(&options).create_with_backend(CheckedPages::new(backend));
        let database = database.map_err(|problem| open_error(path, problem))?;
        Namespace::start(database, path, options, ClusterId::random())
    }

    fn start(
        database: Database,
        path: &Path,
        options: NamespaceOptions,
        cluster: ClusterId,
    ) -> Result<Namespace, NamespaceOpenError> {
        let failed = |source| NamespaceOpenError::Start { path: path.to_owned(), source };
        match raise_epoch(&database, &options, cluster).map_err(failed)? {
            Ok((cluster, epoch)) => {
                Ok(Namespace { database, options, cluster, epoch, latest: Mutex::new(None) })
            }
            Err(found) => {
                let (path, known) = (path.to_owned(), tables::FORMAT);
                Err(NamespaceOpenError::OtherFormat { path, found, known })
            }
        }
    }

    /// Whose namespace it is.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The term of whoever has it open now.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// As given when it was opened.
    pub fn options(&self) -> &NamespaceOptions {
        &self.options
    }

    /// Applies commands in order, in one durable transaction. An error is of the store: then none of them happened
    /// as far as anybody was told, and the process must not go on with this namespace.
    pub fn apply_group(
        &self,
        commands: &[Command],
        leases: &dyn LeaseClock,
    ) -> Result<Vec<Applied>, StoreError> {
        let transaction = begin(&self.database)?;
        let applied = group::apply(&transaction, commands, &self.options, leases)?;
        transaction.commit()?;
        // Not before: a reader could put the state before this group back in.
        *self.latest() = None;
        Ok(applied)
    }

    /// The state after the last group that was applied.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        let mut latest = self.latest();
        if let Some(snapshot) = &*latest {
            return Ok(Arc::clone(snapshot));
        }
        let snapshot = Arc::new(Snapshot::begin(&self.database.begin_read()?)?);
        *latest = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    fn latest(&self) -> MutexGuard<'_, Option<Arc<Snapshot>>> {
        // Whoever panicked left a whole snapshot or none.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the file, or makes it.
fn open(path: &Path, options: &NamespaceOptions) -> Result<Database, NamespaceOpenError> {
    let backend = backend(path, true)?;
    let opened = builder(options).create_with_backend(CheckedPages::new(backend));
    opened.map_err(|problem| open_error(path, problem))
}

/// The file as a storage: to be written, and made if it is not there, or only to be read.
fn backend(path: &Path, writes: bool) -> Result<FileBackend, NamespaceOpenError> {
    let failed = |problem: DatabaseError| open_error(path, problem);
    let mut how = OpenOptions::new();
    how.read(true).write(writes).create(writes).truncate(false);
    let opened = how.open(path);
    let mut file = opened.map_err(|source| NamespaceOpenError::Make { path: path.to_owned(), source })?;
    let mut start = Vec::new();
    let begun = file.by_ref().take(tables::REDB_MAGIC.len() as u64).read_to_end(&mut start);
    begun.map_err(|source| failed(DatabaseError::Storage(source.into())))?;
    if start == tables::REDB_MAGIC {
        let (path, found, known) = (path.to_owned(), tables::FORMAT_WITHOUT_SUMS, tables::FORMAT);
        return Err(NamespaceOpenError::OtherFormat { path, found, known });
    }
    FileBackend::new(file).map_err(failed)
}

fn builder(options: &NamespaceOptions) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes);
    builder
}

/// Every commit says what space is free: after a kill a store of any size is open at once, not after a walk through
/// all of it.
fn begin(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// A number of the table of facts. One that is damaged is not taken for none: the store would be made anew.
fn number(
    meta: &redb::Table<'_, &'static str, &'static [u8]>,
    name: &'static str,
) -> Result<Option<u64>, StoreError> {
    let Some(row) = redb::ReadableTable::get(meta, name)? else { return Ok(None) };
    let bytes = <[u8; 8]>::try_from(row.value());
    let damaged = |_| StoreError::damaged(name, tables::FORMAT, format!("has {} bytes", row.value().len()));
    Ok(Some(u64::from_le_bytes(bytes.map_err(damaged)?)))
}

/// Makes the tables if there are none, and raises the epoch. The format of a store that has another one is `Err`.
fn raise_epoch(
    database: &Database,
    options: &NamespaceOptions,
    cluster: ClusterId,
) -> Result<Result<(ClusterId, Epoch), u64>, StoreError> {
    let transaction = begin(database)?;
    let found = {
        let mut meta = transaction.open_table(tables::META)?;
        let format = number(&meta, "format")?;
        if let Some(found) = format.filter(|&found| found != tables::FORMAT) {
            return Ok(Err(found));
        }
        if format.is_none() {
            meta.insert("format", tables::FORMAT.to_le_bytes().as_slice())?;
            meta.insert("cluster", cluster.0.as_slice())?;
        }
        let epoch = Epoch(number(&meta, "epoch")?.unwrap_or(0) + 1);
        meta.insert("epoch", epoch.0.to_le_bytes().as_slice())?;
        let row = redb::ReadableTable::get(&meta, "cluster")?;
        let cluster = row.and_then(|row| ClusterId::from_wire(row.value()));
        let missing = || StoreError::damaged("the cluster id of format", tables::FORMAT, "is no id");
        let cluster = cluster.ok_or_else(missing)?;
        drop(meta);
        // A store of before has none.
        transaction.open_table(tables::SERVICES)?;
        if format.is_none() {
            change::plant(&transaction, options)?;
            sessions::plant(&transaction)?;
        }
        (cluster, epoch)
    };
    transaction.commit()?;
    Ok(Ok(found))
}

/// Gives a new store its name, if nothing has it, and makes that durable.
fn put_in_place(aside: &Path, path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, aside, CWD, path, RenameFlags::NOREPLACE) {
        // A file system that cannot: a link is as atomic, and refuses as well.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(aside, path)?;
            fs::remove_file(aside)?;
        }
        renamed => renamed?,
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Removes stores that dead masters were making. What cannot be removed is said; nobody reads it.
fn sweep(path: &Path) {
    for aside in leftovers(path).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "cannot look for half-made namespaces");
        Vec::new()
    }) {
        // Whoever is making one has it locked.
        let removed = File::open(&aside).and_then(|file| match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(()),
            locked => locked.map_err(io::Error::from).and_then(|()| fs::remove_file(&aside)),
        });
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %aside.display(), %error, "cannot remove a half-made namespace");
            }
            _ => {}
        }
    }
}

/// What is beside the store under the names of half-made ones.
fn leftovers(path: &Path) -> io::Result<Vec<PathBuf>> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir(directory.unwrap_or(Path::new(".")))? {
        let entry = entry?.path();
        let other = entry.file_name().unwrap_or_default().to_string_lossy();
        let id = other.strip_prefix(&name).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".new"));
        if id.is_some_and(|id| ClusterId::from_text(id).is_some()) {
            found.push(entry);
        }
    }
    Ok(found)
}

fn open_error(path: &Path, problem: DatabaseError) -> NamespaceOpenError {
    let path = path.to_owned();
    match problem {
        DatabaseError::DatabaseAlreadyOpen => NamespaceOpenError::InUse { path },
        source => NamespaceOpenError::Open { path, source },
    }
}
