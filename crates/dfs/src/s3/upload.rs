//! An upload in parts: some parts are on their way while the next is filled.

use std::sync::Arc;

use bytes::Bytes;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Error, PutPayload};
use tokio::task::JoinSet;

use super::client::{S3Client, runtime, wait};
use super::failure::S3Error;

/// Of the first parts; S3 takes no part below 5 MiB but the last.
const PART_BYTES: usize = 8 << 20;
/// Parts grow to this: memory for five of them is all that an upload takes.
const PART_BYTES_MAX: usize = 64 << 20;
/// Parts of one size: then the next are twice as long, so that 10,000, which S3 takes, are half a tebibyte.
const PARTS_OF_A_SIZE: usize = 1000;
/// What S3 takes.
const PARTS_MAX: usize = 10_000;
/// Parts on their way: at 50 ms for each, 8 MiB parts make 640 MB/s.
const PARTS_AT_ONCE: usize = 4;

/// An upload that has begun. Dropped unfinished, it stays open: whoever knows its id may abort it.
pub(super) struct PartUpload {
    client: Arc<S3Client>,
    path: Path,
    id: String,
    tags: Vec<Option<String>>,
    on_the_way: JoinSet<(usize, Result<PartId, Error>)>,
}

/// How long the part of a number is; from 0.
pub(super) fn part_bytes(number: usize) -> usize {
    PART_BYTES
        .checked_shl((number / PARTS_OF_A_SIZE) as u32)
        .map_or(PART_BYTES_MAX, |bytes| bytes.min(PART_BYTES_MAX))
}

impl PartUpload {
    /// Goes on with an upload that has no parts.
    pub(super) fn new(client: &Arc<S3Client>, path: Path, id: String) -> PartUpload {
        PartUpload { client: client.clone(), path, id, tags: Vec::new(), on_the_way: JoinSet::new() }
    }

    pub(super) fn begin(client: &Arc<S3Client>, path: Path) -> Result<PartUpload, S3Error> {
        let id = wait(client.s3.create_multipart(&path))?;
        Ok(PartUpload::new(client, path, id))
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// How long the next part is to be.
    pub(super) fn next_part_bytes(&self) -> usize {
        part_bytes(self.tags.len())
    }

    /// Sends the next part; waits while as many as may be are on their way.
    pub(super) fn push(&mut self, bytes: Bytes) -> Result<(), S3Error> {
        let number = self.tags.len();
        if number >= PARTS_MAX {
            let source = format!("an upload has at most {PARTS_MAX} parts: write smaller files").into();
            return Err(Error::Generic { store: "S3", source }.into());
        }
        while self.on_the_way.len() >= PARTS_AT_ONCE {
            self.arrive()?;
        }
        self.tags.push(None);
        let (s3, path, id) = (self.client.s3.clone(), self.path.clone(), self.id.clone());
        let part = async move { (number, s3.put_part(&path, &id, number, PutPayload::from(bytes)).await) };
        self.on_the_way.spawn_on(part, runtime().handle());
        Ok(())
    }

    fn arrive(&mut self) -> Result<(), S3Error> {
        if let Some(arrived) = wait(self.on_the_way.join_next()) {
            let (number, part) = arrived.map_err(|source| Error::JoinError { source })?;
            self.tags[number] = Some(part?.content_id);
        }
        Ok(())
    }

    /// Waits for all parts; their tags, in order.
    pub(super) fn finish_parts(&mut self) -> Result<Vec<String>, S3Error> {
        while !self.on_the_way.is_empty() {
            self.arrive()?;
        }
        Ok(self.tags.iter().flatten().cloned().collect())
    }

    /// Lets the object appear.
    pub(super) fn complete(mut self) -> Result<(), S3Error> {
        let parts = self.finish_parts()?.into_iter().map(|content_id| PartId { content_id }).collect();
        wait(self.client.s3.complete_multipart(&self.path, &self.id, parts))?;
        Ok(())
    }

    /// Gives it up.
    pub(super) fn abort(mut self) -> Result<(), S3Error> {
        wait(self.on_the_way.shutdown());
        match wait(self.client.s3.abort_multipart(&self.path, &self.id)) {
            Err(error) if !matches!(error, Error::NotFound { .. }) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_can_be_half_a_tebibyte() {
        let all: usize = (0..PARTS_MAX).map(part_bytes).sum();
        assert!(all > 450 << 30, "{all}");
        assert_eq!((part_bytes(0), part_bytes(999), part_bytes(1000)), (8 << 20, 8 << 20, 16 << 20));
        assert_eq!(part_bytes(PARTS_MAX - 1), PART_BYTES_MAX);
    }
}
