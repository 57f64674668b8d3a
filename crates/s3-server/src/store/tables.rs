//! The tables of the index. Strings sort by their bytes, as S3 sorts keys.
//!
//! ```text
//!   buckets   bucket                   -> created, seconds u64
//!   objects   bucket, key              -> ObjectRecord
//!   uploads   bucket, key, upload id   -> UploadRecord
//!   parts     upload id, part number   -> PartRecord
//!   meta      "format"                 -> u64
//! ```

use prost::Message;
use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::failure::{Failure, Refusal, StoreError};
use super::records::{ObjectRecord, PartRecord, UploadRecord};

/// What these tables are. An index of another format is refused.
pub(crate) const FORMAT: u64 = 1;

pub(crate) type ObjectKey = (&'static str, &'static str);
pub(crate) type UploadKey = (&'static str, &'static str, &'static str);
pub(crate) type PartKey = (&'static str, u32);

const BUCKETS: TableDefinition<&str, u64> = TableDefinition::new("buckets");
const OBJECTS: TableDefinition<ObjectKey, &[u8]> = TableDefinition::new("objects");
const UPLOADS: TableDefinition<UploadKey, &[u8]> = TableDefinition::new("uploads");
const PARTS: TableDefinition<PartKey, &[u8]> = TableDefinition::new("parts");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The tables within a change.
pub(crate) struct Tables<'t> {
    pub(crate) buckets: Table<'t, &'static str, u64>,
    pub(crate) objects: Table<'t, ObjectKey, &'static [u8]>,
    pub(crate) uploads: Table<'t, UploadKey, &'static [u8]>,
    pub(crate) parts: Table<'t, PartKey, &'static [u8]>,
}

impl<'t> Tables<'t> {
    pub(crate) fn open(transaction: &'t WriteTransaction) -> Result<Tables<'t>, StoreError> {
        Ok(Tables {
            buckets: transaction.open_table(BUCKETS)?,
            objects: transaction.open_table(OBJECTS)?,
            uploads: transaction.open_table(UPLOADS)?,
            parts: transaction.open_table(PARTS)?,
        })
    }

    pub(crate) fn check_bucket(&self, bucket: &str) -> Result<(), Failure> {
        check_bucket(&self.buckets, bucket)
    }
}

/// The tables as they were at one moment.
pub(crate) struct Snapshot {
    pub(crate) buckets: redb::ReadOnlyTable<&'static str, u64>,
    pub(crate) objects: redb::ReadOnlyTable<ObjectKey, &'static [u8]>,
    pub(crate) uploads: redb::ReadOnlyTable<UploadKey, &'static [u8]>,
    pub(crate) parts: redb::ReadOnlyTable<PartKey, &'static [u8]>,
}

impl Snapshot {
    pub(crate) fn open(transaction: &ReadTransaction) -> Result<Snapshot, StoreError> {
        Ok(Snapshot {
            buckets: transaction.open_table(BUCKETS)?,
            objects: transaction.open_table(OBJECTS)?,
            uploads: transaction.open_table(UPLOADS)?,
            parts: transaction.open_table(PARTS)?,
        })
    }

    pub(crate) fn check_bucket(&self, bucket: &str) -> Result<(), Failure> {
        check_bucket(&self.buckets, bucket)
    }

    /// An object that must be there.
    pub(crate) fn object(&self, bucket: &str, key: &str) -> Result<ObjectRecord, Failure> {
        self.check_bucket(bucket)?;
        Ok(object(&self.objects, bucket, key)?.ok_or(Refusal::NoSuchKey)?)
    }
}

/// Makes the tables where there are none, and says which format they have.
pub(crate) fn found(transaction: &WriteTransaction) -> Result<u64, StoreError> {
    Tables::open(transaction)?;
    let mut meta = transaction.open_table(META)?;
    let format = meta.get("format")?.map(|format| format.value());
    if format.is_none() {
        meta.insert("format", FORMAT)?;
    }
    Ok(format.unwrap_or(FORMAT))
}

fn check_bucket(buckets: &impl ReadableTable<&'static str, u64>, bucket: &str) -> Result<(), Failure> {
    match buckets.get(bucket)? {
        Some(_) => Ok(()),
        None => Err(Refusal::NoSuchBucket.into()),
    }
}

pub(crate) fn decode<M: Message + Default>(
    what: impl FnOnce() -> String,
    bytes: &[u8],
) -> Result<M, StoreError> {
    M::decode(bytes).map_err(|source| StoreError::Record { what: what(), source })
}

pub(crate) fn object(
    objects: &impl ReadableTable<ObjectKey, &'static [u8]>,
    bucket: &str,
    key: &str,
) -> Result<Option<ObjectRecord>, StoreError> {
    let found = objects.get((bucket, key))?;
    found.map(|bytes| decode(|| format!("{bucket}/{key}"), bytes.value())).transpose()
}

pub(crate) fn upload(
    uploads: &impl ReadableTable<UploadKey, &'static [u8]>,
    bucket: &str,
    key: &str,
    upload: &str,
) -> Result<UploadRecord, Failure> {
    let found = uploads.get((bucket, key, upload))?.ok_or(Refusal::NoSuchUpload)?;
    Ok(decode(|| format!("upload {upload}"), found.value())?)
}

/// The parts of an upload after `after`, in order.
pub(crate) fn parts(
    parts: &impl ReadableTable<PartKey, &'static [u8]>,
    upload: &str,
    after: u32,
    max: usize,
) -> Result<Vec<(u32, PartRecord)>, StoreError> {
    let mut found = Vec::new();
    for part in parts.range((upload, after.saturating_add(1))..=(upload, u32::MAX))?.take(max) {
        let (key, record) = part?;
        let number = key.value().1;
        found.push((number, decode(|| format!("part {number} of upload {upload}"), record.value())?));
    }
    Ok(found)
}
