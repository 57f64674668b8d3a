//! `s3://bucket/path`: objects of S3, and of what speaks as S3 does, as files.
//!
//! ```text
//!   settings ──> client ──┬──> reader, writer       bytes of one object
//!   (environment, profile)├──> file_system          what people do with files
//!                         └──> group, publication   output that appears exactly once (docs/commit.md)
//! ```
//!
//! The names of a bucket's objects are one flat list. Here `/` parts them into directories: a directory is there while
//! an object is below it, and there may be an object `x` beside a directory `x`, which is the object where only one
//! can be meant. Objects whose names a path cannot have (`a//b`, `../a`, an `a/` of other tools) are not to be reached.
//!
//! Requests are asynchronous inside and plain calls outside: one runtime of the process serves them all.

mod bucket;
mod carried;
mod client;
mod failure;
mod file_system;
mod group;
mod layout;
mod objects;
mod opening;
mod owner;
mod permission;
mod profile;
mod publication;
mod reader;
mod records;
mod settings;
mod shared;
mod signing;
mod staging;
mod sweep;
#[cfg(test)]
mod trouble;
mod upload;
mod writer;

use std::sync::Arc;

use crate::file_system::FileSystem;
use crate::store::{
    Existing, FileInfo, ListError, OpenError, Opening, ReadAt, ResolveError, StageError, Staging, Store,
};
use crate::tree_store::listing;
use crate::uri::{Uri, UriError};

pub use carried::{Carried, CarryError};
pub use failure::S3Error;
pub use file_system::S3FileSystem;
pub use permission::Permission;
pub(crate) use shared::SharedS3;
pub use signing::{SignError, Signatures, UnsignedRequest, use_signatures};
pub use sweep::{Leftover, LeftoverKind, leftovers};

/// A bucket, as a job uses it.
pub(crate) struct S3Store {
    fs: S3FileSystem,
}

impl S3Store {
    pub(crate) fn of(bucket: &Arc<str>) -> Result<S3Store, UriError> {
        Ok(S3Store { fs: S3FileSystem::of(bucket)? })
    }
}

impl Store for S3Store {
    fn list(&self, pattern: &Uri, threads: usize) -> Result<Vec<FileInfo>, ListError> {
        listing::list(&self.fs, pattern, threads)
    }

    fn open(&self, file: &Uri) -> Result<Box<dyn ReadAt>, OpenError> {
        self.fs.open(file).map_err(|error| OpenError::Open { uri: file.clone(), source: error.into() })
    }

    fn begin_open(&self, file: &Uri) -> Option<Box<dyn Opening>> {
        // What is wrong with a name is said by `open`.
        let path = client::key_of("read", file).ok().filter(|path| !path.is_root())?;
        Some(Box::new(opening::S3Opening::begin(self.fs.client(), path)))
    }

    fn resolve(&self, uri: &Uri) -> Result<Uri, ResolveError> {
        Ok(uri.clone())
    }

    fn stage(&self, output: &Uri, job_id: &str, existing: Existing) -> Result<Box<dyn Staging>, StageError> {
        Ok(Box::new(staging::OwnStaging::begin(self.fs.client(), output, job_id, existing)?))
    }
}
