//! Buckets.

use s3s::dto::*;
use s3s::{S3Response, S3Result, s3_error};

use super::conditions::modified;
use super::listings::{page_size, token, untoken};
use super::{Answer, Service, now_s};
use crate::store::{Entry, Query};

impl Service {
    pub(super) async fn buckets(&self, input: ListBucketsInput) -> Answer<ListBucketsOutput> {
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: None,
            after: input.continuation_token.as_deref().map(untoken).transpose()?,
            max: page_size("max-buckets", input.max_buckets)?,
        };
        let page = self.store.list_buckets(query).await?;
        let next = page.entries.last().filter(|_| page.truncated).map(|last| token(last.name()));
        let buckets = page.entries.into_iter().filter_map(|entry| match entry {
            Entry::Key(name, created_s) => Some(Bucket {
                name: Some(name),
                creation_date: Some(modified(created_s)),
                bucket_region: None,
            }),
            Entry::CommonPrefix(_) => None,
        });
        let owner = Owner { id: Some("gristmill".to_owned()), ..Owner::default() };
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            continuation_token: next,
            owner: Some(owner),
            prefix: input.prefix,
        }))
    }

    pub(super) async fn make_bucket(&self, input: CreateBucketInput) -> Answer<CreateBucketOutput> {
        if input.object_lock_enabled_for_bucket == Some(true) {
            return Err(s3_error!(NotImplemented, "buckets have no object lock here"));
        }
        let location = format!("/{}", input.bucket);
        self.store.create_bucket(input.bucket, now_s()).await?;
        Ok(S3Response::new(CreateBucketOutput { location: Some(location) }))
    }

    pub(super) fn bucket_exists(&self, bucket: &str) -> S3Result<()> {
        Ok(self.store.check_bucket(bucket)?)
    }

    pub(super) async fn remove_bucket(&self, bucket: String) -> Answer<DeleteBucketOutput> {
        self.store.delete_bucket(bucket).await?;
        Ok(S3Response::new(DeleteBucketOutput::default()))
    }
}
