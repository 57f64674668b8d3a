//! What the commit needs of a bucket.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use reqwest::Method;
use serde::Deserialize;

use super::client::S3Client;
use super::failure::S3Error;

/// Uploads in an answer of a listing: what S3 gives at most.
const UPLOADS_A_PAGE: &str = "1000";
/// Pages of one listing of uploads: ten million uploads are no accident that a sweep mends.
const PAGES_MAX: usize = 10_000;

/// Whether a conditional put found its place free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Created {
    New,
    /// Something is there, or somebody puts something there at the same time: whoever asks has to look.
    Exists,
}

/// Whether there was an upload to complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completed {
    Done,
    /// It was completed before, or aborted.
    Gone,
}

/// An object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) key: String,
    pub(super) bytes: u64,
    pub(super) tag: Option<String>,
    pub(super) modified_ms: i64,
}

/// An upload that is neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Open {
    pub(super) key: String,
    #[serde(rename = "UploadId")]
    pub(super) id: String,
    /// As S3 writes it: 2026-11-21T00:00:00.000Z.
    #[serde(default)]
    pub(super) initiated: String,
}

/// A bucket with conditional puts and uploads in parts.
#[async_trait]
pub(super) trait Objects: Send + Sync {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, S3Error>;
    async fn create(&self, key: &str, body: Bytes) -> Result<Created, S3Error>;
    async fn put(&self, key: &str, body: Bytes) -> Result<(), S3Error>;
    async fn look(&self, key: &str) -> Result<Option<Found>, S3Error>;
    /// All objects below a name, without the one that has it.
    async fn list(&self, below: &str) -> Result<Vec<Found>, S3Error>;
    /// That one is gone already is fine.
    async fn delete(&self, keys: Vec<String>) -> Result<(), S3Error>;
    async fn begin_upload(&self, key: &str) -> Result<String, S3Error>;
    async fn complete(&self, key: &str, id: &str, tags: &[String]) -> Result<Completed, S3Error>;
    /// That it is gone already is fine.
    async fn abort_upload(&self, key: &str, id: &str) -> Result<(), S3Error>;
    /// Those whose names start with `prefix`.
    async fn open_uploads(&self, prefix: &str) -> Result<Vec<Open>, S3Error>;
}

fn path(key: &str) -> Result<Path, Error> {
    Ok(Path::parse(key)?)
}

/// What is absent is nothing.
fn present<T>(found: Result<T, Error>) -> Result<Option<T>, S3Error> {
    match found {
        Err(Error::NotFound { .. }) => Ok(None),
        found => Ok(Some(found?)),
    }
}

#[async_trait]
impl Objects for S3Client {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, S3Error> {
        match present(self.s3.get(&path(key)?).await)? {
            Some(found) => Ok(Some(found.bytes().await?)),
            None => Ok(None),
        }
    }

    async fn create(&self, key: &str, body: Bytes) -> Result<Created, S3Error> {
        match self.s3.put_opts(&path(key)?, PutPayload::from(body), PutMode::Create.into()).await {
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Created::Exists),
            put => put.map(|_| Created::New).map_err(S3Error::from),
        }
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<(), S3Error> {
        Ok(self.s3.put(&path(key)?, PutPayload::from(body)).await.map(drop)?)
    }

    async fn look(&self, key: &str) -> Result<Option<Found>, S3Error> {
        Ok(present(self.s3.head(&path(key)?).await)?.map(found))
    }

    async fn list(&self, below: &str) -> Result<Vec<Found>, S3Error> {
        let all: Vec<_> = self.s3.list(Some(&path(below)?)).try_collect().await?;
        Ok(all.into_iter().map(found).filter(|found| found.key != below).collect())
    }

    async fn delete(&self, keys: Vec<String>) -> Result<(), S3Error> {
        let paths: Vec<Path> = keys.iter().map(|key| path(key)).collect::<Result<_, _>>()?;
        let mut deleted = self.s3.delete_stream(stream::iter(paths).map(Ok).boxed());
        while let Some(deleted) = deleted.next().await {
            present(deleted)?;
        }
        Ok(())
    }

    async fn begin_upload(&self, key: &str) -> Result<String, S3Error> {
        Ok(self.s3.create_multipart(&path(key)?).await?)
    }

    async fn complete(&self, key: &str, id: &str, tags: &[String]) -> Result<Completed, S3Error> {
        let parts = tags.iter().map(|tag| PartId { content_id: tag.clone() }).collect();
        let completed = self.s3.complete_multipart(&path(key)?, &id.to_owned(), parts).await;
        Ok(present(completed)?.map_or(Completed::Gone, |_| Completed::Done))
    }

    async fn abort_upload(&self, key: &str, id: &str) -> Result<(), S3Error> {
        present(self.s3.abort_multipart(&path(key)?, &id.to_owned()).await).map(drop)
    }

    async fn open_uploads(&self, prefix: &str) -> Result<Vec<Open>, S3Error> {
        let mut all = Vec::new();
        let mut after = (String::new(), String::new());
        for _ in 0..PAGES_MAX {
            let mut query = vec![("uploads", ""), ("max-uploads", UPLOADS_A_PAGE), ("prefix", prefix)];
            if !after.0.is_empty() {
                query.extend([("key-marker", after.0.as_str()), ("upload-id-marker", after.1.as_str())]);
            }
            let text = self.ask(Method::GET, &query, String::new()).await?;
            let page: Page = quick_xml::de::from_str(&text)
                .map_err(|error| Error::Generic { store: "S3", source: Box::new(error) })?;
            all.extend(page.upload);
            if !page.is_truncated {
                return Ok(all);
            }
            after = (page.next_key_marker, page.next_upload_id_marker);
        }
        let source = format!("more than {PAGES_MAX} pages of open uploads").into();
        Err(Error::Generic { store: "S3", source }.into())
    }
}

/// An answer to ListMultipartUploads.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Page {
    upload: Vec<Open>,
    is_truncated: bool,
    next_key_marker: String,
    next_upload_id_marker: String,
}

fn found(meta: object_store::ObjectMeta) -> Found {
    Found {
        key: meta.location.to_string(),
        bytes: meta.size,
        tag: meta.e_tag,
        modified_ms: meta.last_modified.timestamp_millis(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_uploads_is_read_as_s3_writes_it() {
        let text = "<?xml version=\"1.0\"?><ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                    <Bucket>b</Bucket><KeyMarker></KeyMarker><IsTruncated>true</IsTruncated><NextKeyMarker>k\
                    </NextKeyMarker><NextUploadIdMarker>i</NextUploadIdMarker><Upload><Key>out/a &amp; b</Key>\
                    <UploadId>1</UploadId><Initiated>2026-11-21T00:00:00.000Z</Initiated></Upload><Upload><Key>c</Key>\
                    <UploadId>2</UploadId></Upload></ListMultipartUploadsResult>";
        let page: Page = quick_xml::de::from_str(text).expect("a page");
        assert!(page.is_truncated && page.next_key_marker == "k" && page.next_upload_id_marker == "i");
        let named: Vec<_> = page.upload.iter().map(|open| (open.key.as_str(), open.id.as_str())).collect();
        assert_eq!(named, [("out/a & b", "1"), ("c", "2")]);
    }
}
