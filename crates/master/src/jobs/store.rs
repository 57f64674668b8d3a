//! jobs.redb: the records of jobs by key, and the order in which they were made.
//!
//! ```text
//!   records   sequence u64                                      -> CRC-32C u32 (little endian), job_record::Record
//!   keys      job 16 bytes, kind u8, stage u32, task u32        -> sequence u64 of the key's only record
//!   meta      "format"                                          -> u64
//! ```
//!
//! A later record of a key replaces the earlier one and comes last. So what is restored is in an order in which it could
//! have happened, whatever was replaced, and the store grows with jobs and tasks, not with time. docs/formats.md has the
//! format byte by byte.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use gristmill_dfs::guarded::guarded;
use gristmill_dfs::namenode::namespace::Untouched;
use gristmill_proto::ids::CUT_BIT;
use gristmill_proto::job_record::Record;
use gristmill_proto::job_record::record::Record as Kind;
use prost::Message;
use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, WriteTransaction,
};

/// What the tables are. A store of another format is refused.
const FORMAT: u64 = 1;
/// Memory for pages: the store is read once, at the start, and written at its end.
const CACHE_BYTES: usize = 8 << 20;
const KEY_BYTES: usize = 25;
const JOB_BYTES: usize = 16;
const SUM_BYTES: usize = 4;
const SUBMITTED: u8 = 1;
/// The kind of a job's history. What else is known of the job but its submission goes with it.
const ENDED: u8 = 6;
/// The kind of the record that says that all others of its job are to go; it is not kept itself.
const FORGOTTEN: u8 = 8;

type Key = [u8; KEY_BYTES];

const RECORDS: TableDefinition<u64, &[u8]> = TableDefinition::new("records");
const KEYS: TableDefinition<&[u8; KEY_BYTES], u64> = TableDefinition::new("keys");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// Why the store cannot be used at the start.
#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    /// It was written by another version.
    #[error("cannot open the jobs {}: the store has format {found}, and this build knows format {FORMAT}", .path.display())]
    OtherFormat {
        /// The store.
        path: PathBuf,
        /// What it has.
        found: u64,
    },
    /// It is no store, or a damaged one, or cannot be read.
    #[error("cannot open the jobs {}: {source}", .path.display())]
    Open {
        /// The store.
        path: PathBuf,
        /// The store's reason.
        #[source]
        source: DatabaseError,
    },
    /// It opens, and cannot be read.
    #[error("cannot read the jobs {}: {source}", .path.display())]
    Read {
        /// The store.
        path: PathBuf,
        /// The store's reason.
        #[source]
        source: Box<redb::Error>,
    },
    /// A record is not what was written.
    #[error(
        "cannot use the jobs {}: table {table}, key {key}, {how}; restore a copy, or move the file away to \
         begin without the jobs", .path.display()
    )]
    Damaged {
        /// The store.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// The key in it.
        key: String,
        /// What is wrong.
        how: String,
    },
    /// A new one cannot be put in its place.
    #[error("cannot make the jobs {}: {source}", .path.display())]
    Make {
        /// The store.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// The store failed while the master ran. What is on disk is the state after an earlier turn.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The embedded store says so.
    #[error("cannot write the jobs: {0}")]
    Write(#[source] Box<redb::Error>),
    /// A record without a job, which is a bug of whoever made it.
    #[error("cannot keep a record of jobs that has no key: {0}")]
    NoKey(String),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> StoreError {
        StoreError::Write(Box::new(error.into()))
    }
}

/// The durable records. One thread writes them.
pub(crate) struct Store {
    database: Database,
    path: PathBuf,
    next_sequence: u64,
}

impl Store {
    /// Opens the store, or makes it. The caller holds the directory's lock.
    pub(crate) fn open(path: &Path) -> Result<Store, StoreOpenError> {
        let made = |source| StoreOpenError::Make { path: path.to_owned(), source };
        if fs::exists(path).map_err(made)? {
            return Store::open_existing(path);
        }
        // Made aside, so that a half-made one is never taken for a damaged one.
        let aside = path.with_added_extension("new");
        if fs::exists(&aside).map_err(made)? {
            fs::remove_file(&aside).map_err(made)?;
        }
        let store = Store::start(builder().create(&aside), path)?;
        fs::rename(&aside, path).map_err(made)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new("."))).and_then(|file| file.sync_all()).map_err(made)?;
        Ok(store)
    }

    /// The embedded store panics on some files that were cut short: to whoever starts a master that is a damaged file.
    fn open_existing(path: &Path) -> Result<Store, StoreOpenError> {
        guarded(|| Store::start(builder().open(path), path)).unwrap_or_else(|_| Err(no_sense(path)))
    }

    /// Looks at every page and record of the store at `path`, which no master may have open, and says how many records
    /// there are. Changes nothing.
    pub(crate) fn check(path: &Path) -> Result<u64, StoreOpenError> {
        let open = |source: DatabaseError| StoreOpenError::Open { path: path.to_owned(), source };
        let file =
            File::open(path).map_err(|source| StoreOpenError::Make { path: path.to_owned(), source })?;
        let backend = FileBackend::new(file).map_err(open)?;
        let looked = guarded(|| {
            let mut database = builder().create_with_backend(Untouched::new(backend)).map_err(open)?;
            if !database.check_integrity().map_err(open)? {
                return Err(no_sense(path));
            }
            Store::start(Ok(database), path)?.restore(|_| {})
        });
        looked.unwrap_or_else(|_| Err(no_sense(path)))
    }

    /// The same on any storage.
    #[cfg(test)]
    fn with_backend(backend: impl redb::StorageBackend) -> Result<Store, StoreOpenError> {
        Store::start(builder().create_with_backend(backend), Path::new("(a backend)"))
    }

    fn start(opened: Result<Database, DatabaseError>, path: &Path) -> Result<Store, StoreOpenError> {
        let path = path.to_owned();
        let database = opened.map_err(|source| StoreOpenError::Open { path: path.clone(), source })?;
        let found = plant(&database)
            .map_err(|source| StoreOpenError::Read { path: path.clone(), source: Box::new(source) })?;
        match found {
            Ok(next_sequence) => Ok(Store { database, path, next_sequence }),
            Err(found) => Err(StoreOpenError::OtherFormat { path, found }),
        }
    }

    /// Hands out all records in the order in which they were made, and says how many.
    pub(crate) fn restore(&self, take: impl FnMut(Record)) -> Result<u64, StoreOpenError> {
        guarded(|| self.read_all(take)).unwrap_or_else(|_| Err(no_sense(&self.path)))
    }

    fn read_all(&self, mut take: impl FnMut(Record)) -> Result<u64, StoreOpenError> {
        let failed =
            |source: redb::Error| StoreOpenError::Read { path: self.path.clone(), source: Box::new(source) };
        let transaction = self.database.begin_read().map_err(|error| failed(error.into()))?;
        let records = transaction.open_table(RECORDS).map_err(|error| failed(error.into()))?;
        let keys = transaction.open_table(KEYS).map_err(|error| failed(error.into()))?;
        let mut count = 0;
        for row in records.iter().map_err(|error| failed(error.into()))? {
            let (sequence, value) = row.map_err(|error| failed(error.into()))?;
            let sequence = sequence.value();
            let damaged = |how: String| self.damaged("records", sequence.to_string(), how);
            let record = unpack(value.value()).map_err(damaged)?;
            let key = key_of(&record).ok_or_else(|| damaged("it is of no job".to_owned()))?;
            let named = keys.get(&key).map_err(|error| failed(error.into()))?.map(|named| named.value());
            if named != Some(sequence) {
                return Err(self.damaged("keys", hex(&key), format!("it does not name record {sequence}")));
            }
            take(record);
            count += 1;
        }
        let named = keys.len().map_err(|error| failed(error.into()))?;
        if named != count {
            return Err(self.damaged(
                "keys",
                "(all)".to_owned(),
                format!("{named} keys for {count} records"),
            ));
        }
        Ok(count)
    }

    fn damaged(&self, table: &'static str, key: String, how: String) -> StoreOpenError {
        StoreOpenError::Damaged { path: self.path.clone(), table, key, how }
    }

    /// Makes records durable, in one transaction: all of them or none.
    pub(crate) fn persist(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let transaction = begin(&self.database)?;
        for record in records {
            let key = key_of(record).ok_or_else(|| StoreError::NoKey(format!("{record:?}")))?;
            match key[JOB_BYTES] {
                FORGOTTEN => remove(&transaction, &key, 0)?,
                ENDED => {
                    remove(&transaction, &key, SUBMITTED + 1)?;
                    keep(&transaction, &key, self.next_sequence, record)?;
                }
                _ => keep(&transaction, &key, self.next_sequence, record)?,
            }
            self.next_sequence += 1;
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Of a file at which the embedded store panics.
fn no_sense(path: &Path) -> StoreOpenError {
    let (table, key, how) = ("(all)", "(all)".to_owned(), "the file's pages make no sense".to_owned());
    StoreOpenError::Damaged { path: path.to_owned(), table, key, how }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Every commit says what space is free, so that a killed master's store is open at once.
fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Makes the tables if there are none; the next sequence, or the format that is not ours.
fn plant(database: &Database) -> Result<Result<u64, u64>, redb::Error> {
    let transaction = begin(database)?;
    let next_sequence = {
        let mut meta = transaction.open_table(META)?;
        let format = meta.get("format")?.map(|format| format.value());
        match format {
            Some(FORMAT) => {}
            Some(found) => return Ok(Err(found)),
            None => drop(meta.insert("format", FORMAT)?),
        }
        transaction.open_table(KEYS)?;
        let records = transaction.open_table(RECORDS)?;
        records.last()?.map_or(0, |(sequence, _)| sequence.value() + 1)
    };
    transaction.commit()?;
    Ok(Ok(next_sequence))
}

fn keep(
    transaction: &WriteTransaction,
    key: &Key,
    sequence: u64,
    record: &Record,
) -> Result<(), redb::Error> {
    let mut records = transaction.open_table(RECORDS)?;
    let earlier = transaction.open_table(KEYS)?.insert(key, sequence)?.map(|earlier| earlier.value());
    if let Some(earlier) = earlier {
        records.remove(earlier)?;
    }
    records.insert(sequence, pack(record).as_slice())?;
    Ok(())
}

/// Removes the records of a job, from this kind on.
fn remove(transaction: &WriteTransaction, key: &Key, from: u8) -> Result<(), redb::Error> {
    let mut records = transaction.open_table(RECORDS)?;
    let mut keys = transaction.open_table(KEYS)?;
    let (mut first, mut last) = (*key, *key);
    first[JOB_BYTES..].fill(0);
    first[JOB_BYTES] = from;
    last[JOB_BYTES..].fill(0xff);
    for row in keys.extract_from_if::<&Key, _>(&first..=&last, |_, _| true)? {
        records.remove(row?.1.value())?;
    }
    Ok(())
}

fn pack(record: &Record) -> Vec<u8> {
    let mut value = vec![0; SUM_BYTES];
    record.encode(&mut value).expect("a vector grows");
    let sum = crc32c::crc32c(&value[SUM_BYTES..]);
    value[..SUM_BYTES].copy_from_slice(&sum.to_le_bytes());
    value
}

fn unpack(value: &[u8]) -> Result<Record, String> {
    let (sum, encoded) = value.split_first_chunk().ok_or_else(|| format!("has {} bytes", value.len()))?;
    let (said, is) = (u32::from_le_bytes(*sum), crc32c::crc32c(encoded));
    if said != is {
        return Err(format!("has the sum {is:08x} instead of {said:08x}"));
    }
    Record::decode(encoded).map_err(|error| format!("cannot be decoded: {error}"))
}

/// The key of a record; none if it says nothing, or names no job where one belongs.
fn key_of(record: &Record) -> Option<Key> {
    let of = |kind: u8, job: &[u8], stage: u32, task: u32| {
        let mut key = [0; KEY_BYTES];
        key[..JOB_BYTES].copy_from_slice(<&[u8; JOB_BYTES]>::try_from(job).ok()?);
        key[JOB_BYTES] = kind;
        key[17..21].copy_from_slice(&stage.to_be_bytes());
        key[21..].copy_from_slice(&task.to_be_bytes());
        Some(key)
    };
    match record.record.as_ref()? {
        Kind::Submitted(submitted) => of(SUBMITTED, &submitted.spec.as_ref()?.job, 0, 0),
        Kind::Won(won) => won.attempt.as_ref().and_then(|id| of(2, &id.job, id.stage, id.task)),
        Kind::Lost(lost) => lost.attempt.as_ref().and_then(|id| of(3, &id.job, id.stage, id.task)),
        Kind::Cut(cut) => of(4, &cut.job, cut.shuffle, 0),
        Kind::Committing(committing) => of(5, &committing.job, 0, 0),
        Kind::Ended(ended) => of(ENDED, &ended.status.as_ref()?.job, 0, 0),
        Kind::TaskWorkers(_) => of(7, &[0; JOB_BYTES], 0, 0),
        Kind::Forgotten(forgotten) => of(FORGOTTEN, &forgotten.job, 0, 0),
        // Attempts that cut ranges are counted apart from those at the task itself.
        Kind::Failures(failures) if failures.next_number & CUT_BIT != 0 => {
            of(10, &failures.job, failures.stage, failures.task)
        }
        Kind::Failures(failures) => of(9, &failures.job, failures.stage, failures.task),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
