//! The distributed file system as an [`object_store::ObjectStore`], for whoever reads and writes S3 the same way.
//!
//! An object is a file; its location is the path below the store's root, as it is, without decoding. Directories are
//! made when they are needed and are never seen: an empty one is no prefix. Objects appear and are replaced in one
//! moment, when they are whole: they are written under a hidden name, `.uploads` below the root, and renamed.
//! An ETag is the file's inode and version. Modules, in reading order: `object`, `get`, `put`, `multipart`, `walk`.
#![allow(clippy::result_large_err)] // Errors name everything; they are not on the hot path.

mod get;
mod multipart;
mod object;
mod put;
mod walk;

pub(crate) use object::parse_e_tag;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    RenameTargetMode, Result,
};

use crate::client::{DfsClient, DfsError};
use walk::Walk;

/// Deletions of one stream on their way at a time.
const DELETIONS_MAX: usize = 64;
/// Directories looked into at a time for whether they hold any object.
const PROBES_MAX: usize = 32;
/// Where unfinished objects are, below the root.
const STAGING: &str = ".uploads";
/// Mode of the directory that all users stage in: as `/tmp`.
const STAGING_MODE: u32 = 0o1777;
const DIRECTORY_MODE: u32 = 0o755;

/// A directory of the distributed file system as an object store.
#[derive(Clone)]
pub struct DfsStore {
    client: DfsClient,
    /// Without a slash at its end: empty for the whole file system.
    root: String,
}

impl DfsStore {
    /// The whole file system.
    pub fn new(client: DfsClient) -> DfsStore {
        DfsStore { client, root: String::new() }
    }

    /// What is below `root`, an absolute path. It need not exist.
    pub fn below(client: DfsClient, root: &str) -> DfsStore {
        DfsStore { client, root: root.trim_end_matches('/').to_owned() }
    }

    /// The client that it works with.
    pub fn client(&self) -> &DfsClient {
        &self.client
    }

    /// The path of an object.
    fn path_of(&self, location: &Path) -> String {
        format!("{}/{location}", self.root)
    }

    /// The directory of a prefix.
    fn directory_of(&self, prefix: Option<&Path>) -> String {
        match prefix {
            Some(prefix) if !prefix.as_ref().is_empty() => self.path_of(prefix),
            _ if self.root.is_empty() => "/".to_owned(),
            _ => self.root.clone(),
        }
    }

    fn staging(&self) -> String {
        format!("{}/{STAGING}", self.root)
    }

    /// Runs what blocks on the client's own threads.
    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&DfsStore) -> Result<T, DfsError> + Send + 'static,
    ) -> Result<T, DfsError> {
        let store = self.clone();
        let done = self.client.handle().spawn_blocking(move || act(&store)).await;
        // Nobody cancels it, and its client is held: it can only have panicked.
        done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

impl fmt::Display for DfsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dfs://{}{}", self.client.master(), self.root)
    }
}

impl fmt::Debug for DfsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DfsStore({self})")
    }
}

#[async_trait::async_trait]
impl ObjectStore for DfsStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        object::check_attributes(&options.attributes)?;
        self.put(location, payload, options.mode).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(multipart::Upload::begin(self, location, options).await?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.get(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.get_many(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .map(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    store.delete_one(&location).await?;
                    Ok(location)
                }
            })
            .buffered(DELETIONS_MAX)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        Walk::new(self, &self.directory_of(prefix), None).objects()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        Walk::new(self, &self.directory_of(prefix), Some(self.path_of(offset))).objects()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let directory = self.directory_of(prefix);
        let (directories, objects) = walk::children(self, &directory).await?;
        let probed = futures::stream::iter(directories).map(|path| async move {
            let first = Walk::new(self, &path, None).objects().next().await.transpose()?;
            Ok::<_, Error>(first.map(|_| path))
        });
        let found: Vec<Option<String>> = probed.buffered(PROBES_MAX).try_collect().await?;
        let prefixes = found.into_iter().flatten().map(|path| self.location_of(&path));
        let common_prefixes = prefixes.collect::<Result<Vec<Path>>>()?;
        Ok(ListResult { common_prefixes, objects, extensions: Default::default() })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let mode = match options.mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        self.copy(from, to, mode).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let mode = match options.target_mode {
            RenameTargetMode::Overwrite => PutMode::Overwrite,
            RenameTargetMode::Create => PutMode::Create,
        };
        self.move_object(from, to, mode).await
    }
}
