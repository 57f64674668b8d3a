//! An object that is being opened while its reader is busy with another.

use std::sync::Arc;

use object_store::Error;
use object_store::path::Path;
use tokio::task::JoinHandle;

use super::client::{S3Client, runtime, wait};
use super::failure::S3Error;
use super::reader::S3Reader;
use crate::file_system::FsError;
use crate::store::{OpenError, Opening, ReadAt};
use crate::uri::Uri;

/// A request for the beginning of an object, on its way.
pub(super) struct S3Opening {
    uri: Uri,
    request: JoinHandle<Result<S3Reader, S3Error>>,
}

impl S3Opening {
    pub(super) fn begin(client: &Arc<S3Client>, path: Path) -> S3Opening {
        let uri = client.uri(path.as_ref());
        S3Opening { uri, request: runtime().spawn(S3Reader::open(client.clone(), path)) }
    }
}

impl Opening for S3Opening {
    fn finish(mut self: Box<Self>) -> Result<Box<dyn ReadAt>, OpenError> {
        let opened = match wait(&mut self.request) {
            Ok(opened) => opened,
            Err(source) => Err(Error::JoinError { source }.into()),
        };
        match opened {
            Ok(reader) => Ok(Box::new(reader)),
            Err(error) => {
                let uri = self.uri.clone();
                let source = FsError::new("read", &uri, error).into();
                Err(OpenError::Open { uri, source })
            }
        }
    }
}

impl Drop for S3Opening {
    fn drop(&mut self) {
        self.request.abort();
    }
}
