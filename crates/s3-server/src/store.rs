//! Objects on disk: an index of keys in redb, and data files beside it.
//!
//! ```text
//!   put:    files.create -> write ... -> finish (data on disk)
//!             -> committer.change: check the condition, name the file in the index (durable) -> answer
//!                  -> remove the files of what was there before
//!   get:    files.pin(look the key up) -> DataReader
//! ```
//!
//! A file counts when the index names it, and the index names it in one transaction: a crash leaves an object or none,
//! and files that the next start sweeps.

mod buckets;
mod committer;
mod failure;
mod files;
mod latest;
mod listing;
mod objects;
mod reader;
mod records;
mod tables;
mod uploads;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::Database;

use committer::Committer;
pub(crate) use failure::{Failure, Refusal, StoreError};
use files::Files;
pub(crate) use files::NewFile;
use latest::Latest;
pub(crate) use listing::{Entry, Page, Query};
pub(crate) use objects::{PutCondition, Removal};
pub(crate) use reader::DataReader;
pub(crate) use records::{Checksums, Headers, ObjectRecord, ObjectSummary, PartRecord, UploadRecord};
use tables::{FORMAT, Snapshot, decode};
pub(crate) use uploads::{Assembly, NamedPart, PART_NUMBER_MAX, UploadQuery};

const INDEX: &str = "index.redb";
/// Pages of the index in memory.
const INDEX_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Why a directory cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be made.
    #[error("cannot make the directory {}: {source}", path.display())]
    Make {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another server has it.
    #[error("cannot serve {}: another server is running on it", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The index was made by another version.
    #[error("cannot serve {}: its index has format {format}, and this program knows {FORMAT}", path.display())]
    Format {
        /// The directory.
        path: PathBuf,
        /// What it has.
        format: u64,
    },
    /// The index or the data files cannot be read.
    #[error("cannot serve {}: {reason}", path.display())]
    Broken {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// All buckets of a directory.
pub(crate) struct Store {
    // First, so that the last changes are made before the rest is dropped.
    committer: Committer,
    latest: Arc<Latest>,
    files: Arc<Files>,
}

impl Store {
    /// Opens the store in a directory, and sweeps what a crash has left. No other process can open it as long.
    pub(crate) fn open(directory: &Path) -> Result<Store, OpenError> {
        let path = || directory.to_owned();
        fs::create_dir_all(directory).map_err(|source| OpenError::Make { path: path(), source })?;
        let index = Database::builder().set_cache_size(INDEX_CACHE_BYTES).create(directory.join(INDEX));
        let database = match index {
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(OpenError::InUse { path: path() }),
            index => index.map_err(|error| OpenError::Broken { path: path(), reason: error.to_string() })?,
        };
        let broken = |error: StoreError| OpenError::Broken { path: path(), reason: error.to_string() };
        let format = found(&database).map_err(broken)?;
        if format != FORMAT {
            return Err(OpenError::Format { path: path(), format });
        }
        let latest = Arc::new(Latest::open(&database).map_err(broken)?);
        let named = named_files(&latest.get()).map_err(broken)?;
        let files = Arc::new(Files::open(directory, &named).map_err(broken)?);
        let committer = Committer::start(database, Arc::clone(&latest), Arc::clone(&files))
            .map_err(|error| OpenError::Broken { path: path(), reason: error.to_string() })?;
        Ok(Store { committer, latest, files })
    }

    /// Waits until a change could not be written; says why.
    pub(crate) async fn failed(&self) -> String {
        self.committer.failed().await
    }

    /// A new data file, which no change has named yet. Blocks.
    pub(crate) fn create_file(&self) -> Result<NewFile, StoreError> {
        self.files.create()
    }

    /// Looks at the store as it is now, on a thread that may wait for the disk.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Snapshot) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let latest = self.latest.get();
        on_disk(move || look(&latest)).await
    }
}

/// Runs something that waits for the disk beside the network's threads.
pub(crate) async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn found(database: &Database) -> Result<u64, StoreError> {
    let transaction = database.begin_write()?;
    let format = tables::found(&transaction)?;
    transaction.commit()?;
    Ok(format)
}

/// The numbers of all data files that the index names, sorted.
fn named_files(snapshot: &Snapshot) -> Result<Vec<u64>, StoreError> {
    use redb::ReadableTable;
    let mut named = Vec::new();
    for object in snapshot.objects.iter()? {
        let (key, bytes) = object?;
        let record: ObjectRecord = decode(|| format!("{:?}", key.value()), bytes.value())?;
        named.extend(record.data.iter().map(|file| file.number));
    }
    for part in snapshot.parts.iter()? {
        let (key, bytes) = part?;
        let record: PartRecord = decode(|| format!("{:?}", key.value()), bytes.value())?;
        named.push(record.data.number);
    }
    named.sort_unstable();
    Ok(named)
}
