//! Writes one object. It appears when it is finished, and not before.

use std::io::{self, Write};
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, PutMode, PutPayload};

use super::client::{S3Client, wait};
use super::failure::S3Error;
use super::upload::{PartUpload, part_bytes};
use crate::file_system::{FileWriter, FsError};
use crate::uri::Uri;

/// Short objects go as they are, long ones in parts.
pub(super) struct S3Writer {
    client: Arc<S3Client>,
    uri: Uri,
    path: Path,
    /// Nothing may have the name. Of a long object that is looked for when it begins and not when it appears: S3 has
    /// that condition for short ones only, as far as its clients know it.
    is_new: bool,
    buffer: Vec<u8>,
    upload: Option<PartUpload>,
}

impl S3Writer {
    pub(super) fn new(client: &Arc<S3Client>, uri: &Uri, path: Path, is_new: bool) -> S3Writer {
        let (client, uri) = (client.clone(), uri.clone());
        S3Writer { client, uri, path, is_new, buffer: Vec::new(), upload: None }
    }

    fn part_bytes(&self) -> usize {
        self.upload.as_ref().map_or(part_bytes(0), PartUpload::next_part_bytes)
    }

    fn push_part(&mut self) -> Result<(), S3Error> {
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => none.insert(PartUpload::begin(&self.client, self.path.clone())?),
        };
        upload.push(Bytes::from(mem::take(&mut self.buffer)))
    }

    fn end(&mut self) -> Result<(), S3Error> {
        if self.upload.is_none() {
            let mode = if self.is_new { PutMode::Create } else { PutMode::Overwrite };
            let payload = PutPayload::from(mem::take(&mut self.buffer));
            wait(self.client.s3.put_opts(&self.path, payload, mode.into()))?;
            return Ok(());
        }
        if !self.buffer.is_empty() {
            self.push_part()?;
        }
        let mut upload = self.upload.take().expect("it has begun");
        let arrived = upload.finish_parts();
        if let Err(error) = arrived {
            self.upload = Some(upload);
            return Err(error);
        }
        upload.complete()
    }
}

impl Write for S3Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.part_bytes() - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() >= self.part_bytes() {
            self.push_part().map_err(io::Error::from)?;
        }
        Ok(count)
    }

    /// Does nothing: an object has no part of its bytes that others may see.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileWriter for S3Writer {
    fn finish(mut self: Box<Self>) -> Result<(), FsError> {
        self.end().map_err(|error| FsError::new("write", &self.uri, error))
    }
}

impl Drop for S3Writer {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take()
            && let Err(error) = upload.abort()
        {
            tracing::warn!(uri = %self.uri, %error, "an upload is left open: `gristmill fs uploads` lists it");
        }
    }
}
