//! steps.redb: the cluster's life and its steps.
//!
//! ```text
//!   cluster   "cluster"    -> CRC-32C u32 (little endian), cluster::Cluster
//!   steps     number u64   -> CRC-32C u32 (little endian), cluster::Step
//!   meta      "format"     -> u64
//! ```
//!
//! Each change is one transaction; docs/formats.md has the format.

use std::panic;
use std::path::{Path, PathBuf};

use gristmill_proto::cluster::{Cluster, Step};
use prost::Message;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use super::core::Changes;

/// What the tables are. A store of another format is refused.
const FORMAT: u64 = 1;
/// Memory for pages: steps are few.
const CACHE_BYTES: usize = 1 << 20;
const SUM_BYTES: usize = 4;

const CLUSTER: TableDefinition<&str, &[u8]> = TableDefinition::new("cluster");
const STEPS: TableDefinition<u64, &[u8]> = TableDefinition::new("steps");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// Why the steps cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum StepStoreError {
    /// It is no store, or a damaged one, or cannot be read.
    #[error("cannot open the steps {}", .path.display())]
    Open {
        /// The store.
        path: PathBuf,
        /// The store's reason.
        #[source]
        source: DatabaseError,
    },
    /// It opens, and cannot be read or written.
    #[error("cannot use the steps {}", .path.display())]
    Use {
        /// The store.
        path: PathBuf,
        /// The store's reason.
        #[source]
        source: Box<redb::Error>,
    },
    /// It was written by another version.
    #[error("cannot open the steps {}: the store has format {found}, and this build knows format {FORMAT}", .path.display())]
    OtherFormat {
        /// The store.
        path: PathBuf,
        /// What it has.
        found: u64,
    },
    /// A record is not what was written.
    #[error("cannot use the steps {}: {what} is damaged; move the file away to begin without the steps", .path.display())]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What of it.
        what: String,
    },
}

/// The durable records.
pub(super) struct Store {
    database: Database,
    path: PathBuf,
}

impl Store {
    /// Opens the store, or makes it. The caller holds the directory's lock.
    pub(super) fn open(path: &Path) -> Result<Store, StepStoreError> {
        // The embedded store panics on some files that were cut short: to whoever starts a master, a damaged file.
        let created = panic::catch_unwind(|| {
            let mut builder = Builder::new();
            builder.set_cache_size(CACHE_BYTES);
            builder.create(path)
        });
        let path = path.to_owned();
        let created = created
            .map_err(|_| StepStoreError::Damaged { path: path.clone(), what: "the file".to_owned() })?;
        let database = created.map_err(|source| StepStoreError::Open { path: path.clone(), source })?;
        let store = Store { database, path };
        match store.plant().map_err(|source| store.failed(source))? {
            FORMAT => Ok(store),
            found => Err(StepStoreError::OtherFormat { path: store.path, found }),
        }
    }

    /// The tables, and the format.
    fn plant(&self) -> Result<u64, redb::Error> {
        let transaction = self.begin()?;
        let format = {
            let mut meta = transaction.open_table(META)?;
            let found = meta.get("format")?.map(|format| format.value());
            if found.is_none() {
                meta.insert("format", FORMAT)?;
            }
            transaction.open_table(CLUSTER)?;
            transaction.open_table(STEPS)?;
            found.unwrap_or(FORMAT)
        };
        transaction.commit()?;
        Ok(format)
    }

    /// What it holds: the cluster, unless this is its beginning, and the steps in order.
    pub(super) fn restore(&self) -> Result<(Option<Cluster>, Vec<Step>), StepStoreError> {
        let (cluster, rows) = self.rows().map_err(|source| self.failed(source))?;
        let cluster = cluster.map(|value| self.unpack("the cluster", &value)).transpose()?;
        let steps = rows.iter().map(|(number, value)| self.unpack::<Step>(&format!("step {number}"), value));
        Ok((cluster, steps.collect::<Result<Vec<Step>, _>>()?))
    }

    #[allow(clippy::type_complexity, reason = "rows as they are, for the one caller above")]
    fn rows(&self) -> Result<(Option<Vec<u8>>, Vec<(u64, Vec<u8>)>), redb::Error> {
        let transaction = self.database.begin_read()?;
        let cluster = transaction.open_table(CLUSTER)?.get("cluster")?.map(|value| value.value().to_vec());
        let mut rows = Vec::new();
        for row in transaction.open_table(STEPS)?.iter()? {
            let (number, value) = row?;
            rows.push((number.value(), value.value().to_vec()));
        }
        Ok((cluster, rows))
    }

    /// Makes changes durable: all of them, or none.
    pub(super) fn persist(&self, changes: &Changes) -> Result<(), StepStoreError> {
        self.write(changes).map_err(|source| self.failed(source))
    }

    fn write(&self, changes: &Changes) -> Result<(), redb::Error> {
        let transaction = self.begin()?;
        {
            let mut steps = transaction.open_table(STEPS)?;
            for step in &changes.steps {
                steps.insert(step.number, pack(step).as_slice())?;
            }
            for number in &changes.forgotten {
                steps.remove(number)?;
            }
            if let Some(cluster) = &changes.cluster {
                transaction.open_table(CLUSTER)?.insert("cluster", pack(cluster).as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Every commit says what space is free, so that a killed master's store is open at once.
    fn begin(&self) -> Result<WriteTransaction, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    fn failed(&self, source: redb::Error) -> StepStoreError {
        StepStoreError::Use { path: self.path.clone(), source: Box::new(source) }
    }

    fn unpack<M: Message + Default>(&self, what: &str, value: &[u8]) -> Result<M, StepStoreError> {
        let damaged = || StepStoreError::Damaged { path: self.path.clone(), what: what.to_owned() };
        let (sum, encoded) = value.split_first_chunk::<SUM_BYTES>().ok_or_else(damaged)?;
        if u32::from_le_bytes(*sum) != crc32c::crc32c(encoded) {
            return Err(damaged());
        }
        M::decode(encoded).map_err(|_| damaged())
    }
}

fn pack(message: &impl Message) -> Vec<u8> {
    let mut value = vec![0; SUM_BYTES];
    message.encode(&mut value).expect("a vector grows");
    let sum = crc32c::crc32c(&value[SUM_BYTES..]);
    value[..SUM_BYTES].copy_from_slice(&sum.to_le_bytes());
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_durable_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("steps.redb");
        let step = |number| Step { number, user: "ann".to_owned(), ..Step::default() };
        let cluster = Cluster { name: "one".to_owned(), ..Cluster::default() };
        {
            let store = Store::open(&path).unwrap();
            assert_eq!(store.restore().unwrap(), (None, Vec::new()));
            let changes =
                Changes { cluster: Some(cluster.clone()), steps: vec![step(2), step(1)], forgotten: vec![] };
            store.persist(&changes).unwrap();
            store.persist(&Changes { forgotten: vec![1], steps: vec![step(3)], cluster: None }).unwrap();
        }
        let store = Store::open(&path).unwrap();
        assert_eq!(store.restore().unwrap(), (Some(cluster), vec![step(2), step(3)]));
    }

    #[test]
    fn what_is_damaged_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("steps.redb");
        let store = Store::open(&path).unwrap();
        let transaction = store.begin().unwrap();
        transaction.open_table(STEPS).unwrap().insert(7, [1, 2, 3, 4, 5].as_slice()).unwrap();
        transaction.commit().unwrap();
        let refused = store.restore().unwrap_err().to_string();
        assert!(refused.contains("step 7 is damaged"), "{refused}");
        drop(store);
        std::fs::write(&path, "this is no store").unwrap();
        assert!(Store::open(&path).is_err());
    }
}
