//! Objects: put, looked up, listed, removed.

use std::ops::{Bound, Range};
use std::sync::Arc;

use prost::Message;

use super::committer::Freed;
use super::failure::{Failure, Refusal};
use super::files::NewFile;
use super::records::{ObjectRecord, ObjectSummary};
use super::tables::{self, Tables, decode};
use super::{DataReader, Page, Query, Store, listing, on_disk};

/// What must be under a key for it to be written or removed. Whoever decides holds the index alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum PutCondition {
    /// Whatever is there.
    #[default]
    None,
    /// Nothing.
    Absent,
    /// Something.
    Present,
    /// An object with this ETag.
    Match(String),
}

impl PutCondition {
    /// Whether it holds for what is there.
    pub(super) fn check(&self, found: Option<&ObjectRecord>) -> Result<(), Refusal> {
        match (self, found) {
            (PutCondition::None, _) | (PutCondition::Absent, None) | (PutCondition::Present, Some(_)) => {
                Ok(())
            }
            (PutCondition::Match(etag), Some(found)) if *etag == found.etag => Ok(()),
            (PutCondition::Match(_) | PutCondition::Present, None) => Err(Refusal::NoSuchKey),
            (PutCondition::Absent | PutCondition::Match(_), Some(_)) => Err(Refusal::Precondition),
        }
    }
}

/// A key to remove.
#[derive(Clone, Debug)]
pub(crate) struct Removal {
    pub(crate) key: String,
    pub(crate) condition: PutCondition,
}

/// Puts `record` under a key; a change does this last, after all its checks.
pub(super) fn put(
    tables: &mut Tables<'_>,
    freed: &mut Freed,
    (bucket, key): (&str, &str),
    record: &ObjectRecord,
    condition: &PutCondition,
) -> Result<(), Failure> {
    let found = tables::object(&tables.objects, bucket, key)?;
    condition.check(found.as_ref())?;
    tables.objects.insert((bucket, key), record.encode_to_vec().as_slice())?;
    freed.extend(found.map(|found| found.data));
    Ok(())
}

impl Store {
    /// Makes an object of a file, if the condition holds.
    pub(crate) async fn put_object(
        &self,
        (bucket, key): (String, String),
        record: ObjectRecord,
        file: NewFile,
        condition: PutCondition,
    ) -> Result<(), Failure> {
        let decide = move |tables: &mut Tables<'_>, freed: &mut Freed| {
            tables.check_bucket(&bucket)?;
            put(tables, freed, (&bucket, &key), &record, &condition)
        };
        self.committer.change(vec![file], decide).await
    }

    pub(crate) async fn object(&self, bucket: String, key: String) -> Result<ObjectRecord, Failure> {
        self.look(move |snapshot| snapshot.object(&bucket, &key)).await
    }

    /// Looks an object up, has `choose` say which of its bytes to read, and opens them. The first of them are read at once: a
    /// small object that memory has is answered without another thread, which would cost more than all the rest.
    ///
    /// The object can be read to its end, whatever happens to its key meanwhile.
    pub(crate) async fn open_object<T: Send, E: From<Failure>>(
        &self,
        bucket: String,
        key: String,
        choose: impl FnOnce(&ObjectRecord) -> Result<(Range<u64>, T), E>,
    ) -> Result<(ObjectRecord, T, DataReader), E> {
        let (record, pin) = self.files.pin(|| {
            let record = self.latest.get().object(&bucket, &key)?;
            let first = record.data.first().map_or(0, |file| file.number);
            Ok::<_, Failure>((record, first))
        })?;
        let (range, chosen) = choose(&record)?;
        let mut reader = DataReader::new(Arc::clone(&self.files), &record.data, &range, pin);
        if reader.make_ready_from_memory().map_err(Failure::from)? {
            return Ok((record, chosen, reader));
        }
        let reader = on_disk(move || reader.make_ready().map(|()| reader)).await.map_err(Failure::from)?;
        Ok((record, chosen, reader))
    }

    /// Removes keys in one change; says of each whether its condition held. One that is not there is removed.
    pub(crate) async fn remove_objects(
        &self,
        bucket: String,
        removals: Vec<Removal>,
    ) -> Result<Vec<(String, Result<(), Refusal>)>, Failure> {
        let decide = move |tables: &mut Tables<'_>, freed: &mut Freed| {
            tables.check_bucket(&bucket)?;
            let mut outcomes = Vec::with_capacity(removals.len());
            for Removal { key, condition } in removals {
                let found = tables::object(&tables.objects, &bucket, &key)?;
                let outcome = condition.check(found.as_ref());
                if let (Ok(()), Some(found)) = (&outcome, found) {
                    tables.objects.remove((bucket.as_str(), key.as_str()))?;
                    freed.push(found.data);
                }
                outcomes.push((key, outcome));
            }
            Ok(outcomes)
        };
        self.committer.change(Vec::new(), decide).await
    }

    pub(crate) async fn list_objects(
        &self,
        bucket: String,
        query: Query,
    ) -> Result<Page<ObjectSummary>, Failure> {
        self.look(move |snapshot| {
            snapshot.check_bucket(&bucket)?;
            listing::page(&query, |from| {
                let from = listing::borrowed(&from).map(|key| (bucket.as_str(), key));
                let range = snapshot.objects.range::<(&str, &str)>((from, Bound::Unbounded))?;
                let objects = range.map(|object| {
                    let (key, bytes) = object?;
                    let (bucket, key) = key.value();
                    let summary: ObjectSummary = decode(|| format!("{bucket}/{key}"), bytes.value())?;
                    Ok(((bucket.to_owned(), key.to_owned()), summary))
                });
                Ok(of_bucket(objects, bucket.clone()))
            })
        })
        .await
    }
}

/// The keys of a bucket, up to the next bucket's.
fn of_bucket<T>(
    objects: impl Iterator<Item = Result<((String, String), T), Failure>>,
    bucket: String,
) -> impl Iterator<Item = Result<(String, T), Failure>> {
    let in_bucket = move |object: &Result<((String, String), T), Failure>| match object {
        Ok(((of, _), _)) => *of == bucket,
        Err(_) => true,
    };
    objects.take_while(in_bucket).map(|object| object.map(|((_, key), value)| (key, value)))
}
