//! Buckets.

use redb::{ReadableTable, ReadableTableMetadata};

use super::failure::{Failure, Refusal};
use super::{Store, listing};

/// Buckets of a store: as many as an account of S3 had for long.
const BUCKETS_MAX: u64 = 1000;

impl Store {
    pub(crate) async fn create_bucket(&self, bucket: String, created_s: u64) -> Result<(), Failure> {
        let decide = move |tables: &mut super::tables::Tables<'_>, _: &mut _| {
            if tables.buckets.get(bucket.as_str())?.is_some() {
                return Err(Refusal::BucketExists.into());
            }
            if tables.buckets.len()? >= BUCKETS_MAX {
                return Err(Refusal::TooManyBuckets { max: BUCKETS_MAX }.into());
            }
            tables.buckets.insert(bucket.as_str(), created_s)?;
            Ok(())
        };
        self.committer.change(Vec::new(), decide).await
    }

    /// Removes a bucket in which there is nothing.
    pub(crate) async fn delete_bucket(&self, bucket: String) -> Result<(), Failure> {
        let decide = move |tables: &mut super::tables::Tables<'_>, _: &mut _| {
            let bucket = bucket.as_str();
            tables.check_bucket(bucket)?;
            let object = tables.objects.range((bucket, "")..)?.next().transpose()?;
            let upload = tables.uploads.range((bucket, "", "")..)?.next().transpose()?;
            let has_object = object.is_some_and(|(key, _)| key.value().0 == bucket);
            let has_upload = upload.is_some_and(|(key, _)| key.value().0 == bucket);
            if has_object || has_upload {
                return Err(Refusal::BucketNotEmpty.into());
            }
            tables.buckets.remove(bucket)?;
            Ok(())
        };
        self.committer.change(Vec::new(), decide).await
    }

    /// Fails if the bucket is not there. The few names of buckets are in memory: no other thread is asked.
    pub(crate) fn check_bucket(&self, bucket: &str) -> Result<(), Failure> {
        self.latest.get().check_bucket(bucket)
    }

    /// The names of buckets, and when each was created.
    pub(crate) async fn list_buckets(&self, query: listing::Query) -> Result<listing::Page<u64>, Failure> {
        self.look(move |snapshot| {
            listing::page(&query, |from| {
                let range =
                    snapshot.buckets.range::<&str>((listing::borrowed(&from), std::ops::Bound::Unbounded))?;
                Ok(range.map(|bucket| {
                    let (name, created) = bucket?;
                    Ok((name.value().to_owned(), created.value()))
                }))
            })
        })
        .await
    }
}
