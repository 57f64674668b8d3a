//! Any file system that publishes atomically, as a [`Store`].

pub(crate) mod listing;
mod shared;
mod staging;

use std::sync::Arc;

use crate::file_system::{FsError, Publish};
use crate::store::{
    Existing, FileInfo, ListError, OpenError, ReadAt, ResolveError, StageError, Staging, Store,
};
use crate::uri::Uri;
pub(crate) use shared::SharedTree;

/// A tree without links in which many names change at once.
///
/// Output is staged in a hidden directory beside where it will be, and appears by one call. A file in it that stays open
/// says that its process lives: when the file system has closed it, the next output beside it removes the directory.
#[derive(Clone, Debug)]
pub(crate) struct TreeStore<F> {
    fs: Arc<F>,
}

impl<F> TreeStore<F> {
    pub(crate) fn new(fs: F) -> TreeStore<F> {
        TreeStore { fs: Arc::new(fs) }
    }
}

impl<F: Publish + 'static> Store for TreeStore<F> {
    fn list(&self, pattern: &Uri, threads: usize) -> Result<Vec<FileInfo>, ListError> {
        listing::list(&*self.fs, pattern, threads)
    }

    fn open(&self, file: &Uri) -> Result<Box<dyn ReadAt>, OpenError> {
        self.fs
            .open(file)
            .map_err(|error: FsError| OpenError::Open { uri: file.clone(), source: error.into() })
    }

    fn resolve(&self, uri: &Uri) -> Result<Uri, ResolveError> {
        Ok(self.fs.resolve(uri))
    }

    fn stage(&self, output: &Uri, job_id: &str, existing: Existing) -> Result<Box<dyn Staging>, StageError> {
        Ok(Box::new(staging::TreeStaging::begin(self.fs.clone(), output, job_id, existing)?))
    }
}
