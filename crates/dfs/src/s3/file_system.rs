//! What people do with the objects of a bucket.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use gristmill_proto::namespace::{SpaceUse, Summary};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};

use super::client::{S3Client, key_of, wait};
use super::failure::S3Error;
use super::reader::{S3Reader, tag_stamp};
use super::signing::signatures;
use super::writer::S3Writer;
use crate::file_system::{
    Cause, CreateOptions, DeleteOptions, FileSystem, FileWriter, FsError, Kind, Listing, Status,
};
use crate::store::ReadAt;
use crate::uri::{Uri, UriError};

/// Entries of one directory: they are sorted in memory, some 200 bytes each.
const ENTRIES_MAX: usize = 1_000_000;
/// Objects that are copied at a time: the server does the work.
const COPIES_AT_ONCE: usize = 32;
/// Rights are the bucket's policy, which a mode cannot say.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// A bucket as a tree of files.
#[derive(Clone)]
pub struct S3FileSystem {
    client: Arc<S3Client>,
}

/// What is right below a directory: directories, and objects.
type Entries = (Vec<Path>, Vec<ObjectMeta>);

impl S3FileSystem {
    pub(crate) fn of(bucket: &Arc<str>) -> Result<S3FileSystem, UriError> {
        Ok(S3FileSystem { client: S3Client::of(bucket)? })
    }

    pub(super) fn client(&self) -> &Arc<S3Client> {
        &self.client
    }

    fn status(&self, key: &str, meta: Option<&ObjectMeta>) -> Status {
        let (kind, mode) = meta.map_or((Kind::Directory, DIRECTORY_MODE), |_| (Kind::File, FILE_MODE));
        let modified = meta.map_or(0, |meta| meta.last_modified.timestamp_millis());
        Status {
            uri: self.client.uri(key),
            kind,
            is_link: false,
            bytes: meta.map_or(0, |meta| meta.size),
            replication: u32::from(meta.is_some()),
            block_bytes: 0,
            owner: String::new(),
            group: String::new(),
            mode,
            stamp: tag_stamp(meta.and_then(|meta| meta.e_tag.as_deref())),
            // Before 1970 there was no S3.
            modified_ms: modified.max(0) as u64,
            accessed_ms: 0,
            under_construction: false,
            name_quota: 0,
            space_quota: 0,
        }
    }

    fn head(&self, path: &Path) -> Result<Option<ObjectMeta>, S3Error> {
        if path.is_root() {
            return Ok(None);
        }
        match wait(self.client.s3.head(path)) {
            Err(Error::NotFound { .. }) => Ok(None),
            found => Ok(Some(found?)),
        }
    }

    /// Whether an object is below the name.
    fn is_directory(&self, path: &Path) -> Result<bool, S3Error> {
        let options = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
        let prefix = format!("{path}/");
        let page = wait(self.client.s3.list_paginated(Some(&prefix), options))?;
        Ok(!page.result.objects.is_empty())
    }

    /// What is right below a directory.
    fn entries(&self, path: &Path) -> Result<Entries, S3Error> {
        let listed = wait(self.client.s3.list_with_delimiter(Some(path)))?;
        let below = |object: &ObjectMeta| is_below(path, &object.location);
        let objects: Vec<ObjectMeta> = listed.objects.into_iter().filter(below).collect();
        if objects.len() + listed.common_prefixes.len() > ENTRIES_MAX {
            let source = format!("a directory of more than {ENTRIES_MAX} entries: name fewer by a glob");
            return Err(Error::Generic { store: "S3", source: source.into() }.into());
        }
        Ok((listed.common_prefixes, objects))
    }

    /// All objects below a directory.
    fn tree(&self, path: &Path) -> Result<Vec<ObjectMeta>, S3Error> {
        let prefix = Some(path).filter(|path| !path.is_root());
        let all: Vec<ObjectMeta> = wait(self.client.s3.list(prefix).try_collect())?;
        Ok(all.into_iter().filter(|object| is_below(path, &object.location)).collect())
    }

    fn delete_all(&self, paths: Vec<Path>) -> Result<(), S3Error> {
        let deleted = self.client.s3.delete_stream(stream::iter(paths).map(Ok).boxed());
        // Somebody else was faster.
        let deleted = deleted.filter(|deleted| {
            let gone = matches!(deleted, Err(Error::NotFound { .. }));
            async move { !gone }
        });
        Ok(wait(deleted.try_for_each(|_| async { Ok(()) }))?)
    }

    fn copy_all(&self, pairs: Vec<(Path, Path)>) -> Result<(), S3Error> {
        let copies = stream::iter(pairs).map(Ok).try_for_each_concurrent(COPIES_AT_ONCE, |(from, to)| {
            let s3 = &self.client.s3;
            async move { s3.copy(&from, &to).await }
        });
        Ok(wait(copies)?)
    }
}

fn is_below(directory: &Path, path: &Path) -> bool {
    directory.is_root()
        || path.as_ref().strip_prefix(directory.as_ref()).is_some_and(|rest| rest.starts_with('/'))
}

fn cannot<T>(operation: &'static str, uri: &Uri, why: &str) -> Result<T, FsError> {
    Err(FsError::new(operation, uri, Cause::Refused(why.to_owned())))
}

/// An error of a request, as one of an operation.
fn failed(operation: &'static str, uri: &Uri) -> impl Fn(S3Error) -> FsError {
    move |error| FsError::new(operation, uri, error)
}

impl FileSystem for S3FileSystem {
    fn stat(&self, uri: &Uri) -> Result<Status, FsError> {
        let (path, failed) = (key_of("look at", uri)?, failed("look at", uri));
        if let Some(meta) = self.head(&path).map_err(&failed)? {
            return Ok(self.status(path.as_ref(), Some(&meta)));
        }
        if path.is_root() || self.is_directory(&path).map_err(failed)? {
            return Ok(self.status(path.as_ref(), None));
        }
        Err(FsError::new("look at", uri, Cause::NotFound))
    }

    fn list(&self, uri: &Uri) -> Result<Listing, FsError> {
        let (path, failed) = (key_of("list", uri)?, failed("list", uri));
        let (directories, objects) = self.entries(&path).map_err(&failed)?;
        if directories.is_empty() && objects.is_empty() && !path.is_root() {
            return Ok(Box::new(std::iter::once(Ok(self.stat(uri)?))));
        }
        let directories = directories.iter().map(|path| self.status(path.as_ref(), None));
        let objects = objects.iter().map(|object| self.status(object.location.as_ref(), Some(object)));
        let mut entries: Vec<Status> = objects.chain(directories).collect();
        // An object before the directory of its name: the sort is stable.
        entries.sort_by(|one, other| one.uri.cmp(&other.uri));
        Ok(Box::new(entries.into_iter().map(Ok)))
    }

    fn open(&self, file: &Uri) -> Result<Box<dyn ReadAt>, FsError> {
        let path = key_of("read", file)?;
        match wait(S3Reader::open(self.client.clone(), path.clone())) {
            Ok(reader) => Ok(Box::new(reader)),
            // An attempt may not list: then it is absent, as far as can be seen.
            Err(error)
                if error.is_absence()
                    && signatures().is_none()
                    && matches!(self.is_directory(&path), Ok(true)) =>
            {
                Err(FsError::new("read", file, Cause::IsADirectory))
            }
            Err(error) => Err(FsError::new("read", file, error)),
        }
    }

    fn create(&self, file: &Uri, options: &CreateOptions) -> Result<Box<dyn FileWriter>, FsError> {
        let path = key_of("create", file)?;
        if path.is_root() {
            return Err(FsError::new("create", file, Cause::IsADirectory));
        }
        if !options.overwrite && self.head(&path).map_err(failed("create", file))?.is_some() {
            return Err(FsError::new("create", file, Cause::AlreadyExists));
        }
        Ok(Box::new(S3Writer::new(&self.client, file, path, !options.overwrite)))
    }

    fn append(&self, file: &Uri) -> Result<Box<dyn FileWriter>, FsError> {
        cannot("append to", file, "an object of S3 cannot grow; write it anew")
    }

    /// Makes a bucket. Below it there is nothing to make: a directory is there once something is in it.
    fn make_directory(&self, uri: &Uri, parents: bool) -> Result<(), FsError> {
        let (path, failed) = (key_of("make the directory", uri)?, failed("make the directory", uri));
        let exists = || FsError::new("make the directory", uri, Cause::AlreadyExists);
        if path.is_root() {
            return match wait(self.client.make_bucket()) {
                Err(error) if parents && error.is_conflict() => Ok(()),
                made => made.map_err(failed),
            };
        }
        if self.head(&path).map_err(&failed)?.is_some() {
            return Err(exists());
        }
        if !parents && self.is_directory(&path).map_err(&failed)? {
            return Err(exists());
        }
        Ok(())
    }

    /// Copies, then deletes: not in one step. What fails on the way leaves all that there was.
    fn rename(&self, from: &Uri, to: &Uri, replace: bool) -> Result<(), FsError> {
        let failed = failed("move", from);
        let (source, target) = (key_of("move", from)?, key_of("move", to)?);
        if source == target {
            return Ok(());
        }
        if is_below(&source, &target) {
            return Err(FsError::new("move", from, Cause::IntoItself));
        }
        let occupied = self.head(&target).map_err(&failed)?;
        if (occupied.is_some() && !replace) || self.is_directory(&target).map_err(&failed)? {
            return Err(FsError::new("move", to, Cause::AlreadyExists));
        }
        let sources = match self.head(&source).map_err(&failed)? {
            Some(object) => vec![object],
            None => self.tree(&source).map_err(&failed)?,
        };
        if sources.is_empty() {
            return Err(FsError::new("move", from, Cause::NotFound));
        }
        let renamed = |object: &ObjectMeta| {
            let below = &object.location.as_ref()[source.as_ref().len()..];
            let path = Path::parse(format!("{target}{below}")).map_err(Error::from)?;
            Ok((object.location.clone(), path))
        };
        let pairs: Vec<(Path, Path)> =
            sources.iter().map(renamed).collect::<Result<_, S3Error>>().map_err(&failed)?;
        self.copy_all(pairs).map_err(&failed)?;
        self.delete_all(sources.into_iter().map(|object| object.location).collect()).map_err(failed)
    }

    fn delete(&self, uri: &Uri, options: DeleteOptions) -> Result<Option<Uri>, FsError> {
        let (path, failed) = (key_of("delete", uri)?, failed("delete", uri));
        if self.head(&path).map_err(&failed)?.is_some() {
            self.delete_all(vec![path]).map_err(failed)?;
            return Ok(None);
        }
        if !options.recursive {
            let is_directory = path.is_root() || self.is_directory(&path).map_err(failed)?;
            let cause = if is_directory { Cause::NotEmpty } else { Cause::NotFound };
            return Err(FsError::new("delete", uri, cause));
        }
        let below = self.tree(&path).map_err(&failed)?;
        if below.is_empty() && !path.is_root() {
            return Err(FsError::new("delete", uri, Cause::NotFound));
        }
        self.delete_all(below.into_iter().map(|object| object.location).collect()).map_err(failed)?;
        Ok(None)
    }

    fn truncate(&self, file: &Uri, _: u64) -> Result<bool, FsError> {
        cannot("truncate", file, "an object of S3 cannot change; write it anew")
    }

    fn concat(&self, to: &Uri, _: &[Uri]) -> Result<(), FsError> {
        cannot("append to", to, "an object of S3 cannot grow; write it anew (fs getmerge, fs put)")
    }

    fn set_replication(&self, file: &Uri, _: u32) -> Result<(), FsError> {
        cannot("set the replication of", file, "S3 keeps its own copies")
    }

    fn set_mode(&self, uri: &Uri, _: u32) -> Result<(), FsError> {
        cannot("set the mode of", uri, "S3 has policies of buckets instead of modes")
    }

    fn set_owner(&self, uri: &Uri, _: Option<&str>, _: Option<&str>) -> Result<(), FsError> {
        cannot("set the owner of", uri, "S3 has policies of buckets instead of owners")
    }

    fn set_times(&self, uri: &Uri, _: Option<u64>, _: Option<u64>) -> Result<(), FsError> {
        cannot("set the times of", uri, "S3 sets the time of an object when it is written")
    }

    fn summarize(&self, uri: &Uri) -> Result<Summary, FsError> {
        let (path, failed) = (key_of("summarize", uri)?, failed("summarize", uri));
        if let Some(object) = self.head(&path).map_err(&failed)? {
            let (bytes, space_bytes) = (object.size, object.size);
            return Ok(Summary { files: 1, bytes, space_bytes, ..Summary::default() });
        }
        let objects = self.tree(&path).map_err(failed)?;
        if objects.is_empty() && !path.is_root() {
            return Err(FsError::new("summarize", uri, Cause::NotFound));
        }
        let mut directories = std::collections::HashSet::new();
        for object in &objects {
            let key = object.location.as_ref();
            directories.extend(key.match_indices('/').map(|(end, _)| &key[..end]));
        }
        let below = directories.iter().filter(|name| name.len() > path.as_ref().len()).count();
        let bytes = objects.iter().map(|object| object.size).sum();
        let (directories, files) = (below as u64 + 1, objects.len() as u64);
        Ok(Summary { directories, files, bytes, space_bytes: bytes, ..Summary::default() })
    }

    fn space(&self, uri: &Uri) -> Result<SpaceUse, FsError> {
        cannot("measure", uri, "S3 has no limit of its own; `fs du` says what is used")
    }

    fn home(&self) -> Uri {
        self.client.uri("/")
    }
}
