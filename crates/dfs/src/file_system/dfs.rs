//! The file system of a cluster.

mod connections;
mod failures;
mod files;

use std::sync::Arc;

use gristmill_proto::namespace::{
    CheckReport, ClusterReport, Entry, LocatedFile, SpaceUse, Summary, publish, set_worker_state::State,
};

use super::locality::Page;
use super::{
    Cause, Cluster, CreateOptions, DeleteOptions, FileSystem, FileWriter, FsError, Kind, Listing, Publish,
    Status, WorkerState,
};
use crate::client::{self, DfsClient, DfsError, RenameMode};
use crate::store::ReadAt;
use crate::uri::{Place, Uri};
use files::{DfsReader, DfsWriter};

pub(super) use connections::Caller;
pub(super) use failures::chain;

/// Modes of what is made here, as the usual umask of 022 leaves them.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// The files of a cluster, through its master. It connects when it is first asked for something; one process has one
/// connection for each master and user.
#[derive(Clone, Debug)]
pub(crate) struct DfsFileSystem {
    /// As the user names it: what is listed is named alike.
    place: Place,
    /// HOST:PORT.
    master: Arc<str>,
    caller: Caller,
}

impl DfsFileSystem {
    pub(super) fn new(place: &Place, master: &str, caller: Caller) -> DfsFileSystem {
        DfsFileSystem { place: place.clone(), master: Arc::from(master), caller }
    }

    /// Does one thing with the cluster.
    fn with<T>(
        &self,
        operation: &'static str,
        uri: &Uri,
        act: impl FnOnce(&DfsClient, &str) -> Result<T, DfsError>,
    ) -> Result<T, FsError> {
        let client = self.connect(operation, uri)?;
        let path = text(operation, uri)?;
        act(&client, path).map_err(|error| failures::failed(operation, uri, error))
    }

    fn connect(&self, operation: &'static str, uri: &Uri) -> Result<DfsClient, FsError> {
        self.caller.client(&self.master).map_err(|cause| FsError::new(operation, uri, cause))
    }

    /// The client that all of this process use who ask alike.
    pub(super) fn client(&self, uri: &Uri) -> Result<DfsClient, FsError> {
        self.connect("connect for", uri)
    }

    /// The first blocks of a file that overlap `bytes` bytes from `offset` on, and whether there are more.
    pub(super) fn blocks(&self, file: &Uri, offset: u64, bytes: u64, limit: u32) -> Result<Page, FsError> {
        let located = self.with("locate", file, |client, path| client.locate(path, offset, bytes, limit))?;
        Ok((located.blocks, located.more))
    }

    fn root(&self) -> Uri {
        Uri::of(self.place.clone(), "/")
    }
}

impl FileSystem for DfsFileSystem {
    fn stat(&self, uri: &Uri) -> Result<Status, FsError> {
        let entry = self.with("look at", uri, |client, path| client.stat(path))?;
        Ok(status(uri.clone(), &entry))
    }

    fn list(&self, uri: &Uri) -> Result<Listing, FsError> {
        let entries = self.with("list", uri, |client, path| client.list(path))?;
        let directory = uri.clone();
        Ok(Box::new(entries.map(move |entry| match entry {
            Ok(entry) => Ok(status(Uri::of(directory.place().clone(), &entry.path), &entry)),
            Err(error) => Err(failures::failed("list", &directory, error)),
        })))
    }

    fn open(&self, file: &Uri) -> Result<Box<dyn ReadAt>, FsError> {
        let reader = self.with("read", file, |client, path| client.open(path))?;
        if reader.entry().is_directory {
            return Err(FsError::new("read", file, Cause::IsADirectory));
        }
        Ok(Box::new(DfsReader::new(reader)))
    }

    fn create(&self, file: &Uri, options: &CreateOptions) -> Result<Box<dyn FileWriter>, FsError> {
        let CreateOptions { overwrite, parent_exists, replication, block_bytes } = *options;
        let parents = !parent_exists;
        let options = client::CreateOptions { overwrite, parents, replication, block_bytes, mode: FILE_MODE };
        let writer = self.with("create", file, |client, path| client.create(path, options))?;
        Ok(Box::new(DfsWriter::new(file, writer)))
    }

    fn append(&self, file: &Uri) -> Result<Box<dyn FileWriter>, FsError> {
        let writer = self.with("append to", file, |client, path| client.append(path))?;
        Ok(Box::new(DfsWriter::new(file, writer)))
    }

    fn make_directory(&self, uri: &Uri, parents: bool) -> Result<(), FsError> {
        let made = |client: &DfsClient, path: &str| client.make_directory(path, parents, DIRECTORY_MODE);
        self.with("make the directory", uri, made).map(drop)
    }

    fn rename(&self, from: &Uri, to: &Uri, replace: bool) -> Result<(), FsError> {
        let mode = if replace { RenameMode::Overwrite } else { RenameMode::Refuse };
        let to = text("move to", to)?;
        self.with("move", from, |client, path| client.rename(path, to, mode)).map(drop)
    }

    fn delete(&self, uri: &Uri, options: DeleteOptions) -> Result<Option<Uri>, FsError> {
        let DeleteOptions { recursive, skip_trash } = options;
        let deleted = self.with("delete", uri, |client, path| client.delete(path, recursive, skip_trash))?;
        match deleted.trash_path.as_str() {
            _ if !deleted.found => Err(FsError::new("delete", uri, Cause::NotFound)),
            "" => Ok(None),
            path => Ok(Some(Uri::of(self.place.clone(), path))),
        }
    }

    fn truncate(&self, file: &Uri, bytes: u64) -> Result<bool, FsError> {
        self.with("truncate", file, |client, path| client.truncate(path, bytes))
    }

    fn concat(&self, to: &Uri, from: &[Uri]) -> Result<(), FsError> {
        let from = from.iter().map(|uri| text("concatenate", uri).map(str::to_owned));
        let from = from.collect::<Result<Vec<String>, FsError>>()?;
        self.with("concatenate to", to, |client, path| client.concat(path, from)).map(drop)
    }

    fn set_replication(&self, file: &Uri, replication: u32) -> Result<(), FsError> {
        let set = |client: &DfsClient, path: &str| client.set_replication(path, replication);
        self.with("set the replication of", file, set).map(drop)
    }

    fn set_mode(&self, uri: &Uri, mode: u32) -> Result<(), FsError> {
        self.with("set the mode of", uri, |client, path| client.set_mode(path, mode)).map(drop)
    }

    fn set_owner(&self, uri: &Uri, owner: Option<&str>, group: Option<&str>) -> Result<(), FsError> {
        let (owner, group) = (owner.unwrap_or_default(), group.unwrap_or_default());
        self.with("set the owner of", uri, |client, path| client.set_owner(path, owner, group)).map(drop)
    }

    fn set_times(
        &self,
        uri: &Uri,
        modified_ms: Option<u64>,
        accessed_ms: Option<u64>,
    ) -> Result<(), FsError> {
        // On the wire 0 is a time that stays; the first millisecond of 1970 is not missed.
        let [modified_ms, accessed_ms] =
            [modified_ms, accessed_ms].map(|time| time.map_or(0, |time| time.max(1)));
        let set = |client: &DfsClient, path: &str| client.set_times(path, modified_ms, accessed_ms);
        self.with("set the times of", uri, set).map(drop)
    }

    fn summarize(&self, uri: &Uri) -> Result<Summary, FsError> {
        self.with("summarize", uri, |client, path| client.summarize(path))
    }

    fn space(&self, uri: &Uri) -> Result<SpaceUse, FsError> {
        self.with("find out the space at", uri, |client, _| client.space())
    }

    fn home(&self) -> Uri {
        self.root().join("user").join(self.caller.user())
    }

    fn cluster(&self) -> Option<&dyn Cluster> {
        Some(self)
    }
}

impl Publish for DfsFileSystem {
    fn publish(&self, moves: &[(Uri, Uri)]) -> Result<(), FsError> {
        let step = |(from, to): &(Uri, Uri)| {
            let (from, to) = (text("publish", from)?.to_owned(), text("publish", to)?.to_owned());
            Ok(publish::Move { from, to })
        };
        let steps = moves.iter().map(step).collect::<Result<Vec<_>, FsError>>()?;
        let first = moves.first().map_or_else(|| self.root(), |(from, _)| from.clone());
        self.with("publish", &first, |client, _| client.publish(Vec::new(), steps))
    }

    fn resolve(&self, uri: &Uri) -> Uri {
        Uri::dfs(&self.master, uri.path())
    }
}

impl Cluster for DfsFileSystem {
    fn report(&self) -> Result<ClusterReport, FsError> {
        self.with("report on", &self.root(), |client, _| client.report())
    }

    fn check(&self, uri: &Uri, after: &str) -> Result<CheckReport, FsError> {
        self.with("check", uri, |client, path| client.check_page(path, after))
    }

    fn repair(&self, uri: &Uri) -> Result<(), FsError> {
        self.with("repair", uri, |client, path| client.repair(path))
    }

    fn locate(&self, file: &Uri, offset: u64) -> Result<LocatedFile, FsError> {
        self.with("locate", file, |client, path| client.locate(path, offset, u64::MAX - offset, 0))
    }

    fn set_safe_mode(&self, on: bool) -> Result<(), FsError> {
        self.with("set the safe mode of", &self.root(), |client, _| client.set_safe_mode(on))
    }

    fn set_worker_state(&self, worker: u64, state: WorkerState) -> Result<(), FsError> {
        let state = match state {
            WorkerState::InService => State::InService,
            WorkerState::Decommission => State::Decommission,
            WorkerState::Maintenance => State::Maintenance,
        };
        self.with("tell a worker of", &self.root(), |client, _| client.set_worker_state(worker, state))
    }

    fn expunge_trash(&self, everyones: bool) -> Result<(), FsError> {
        self.with("empty the trash of", &self.root(), |client, _| client.expunge_trash(everyones))
    }

    fn set_quota(&self, uri: &Uri, names: Option<u64>, space_bytes: Option<u64>) -> Result<(), FsError> {
        let set = |client: &DfsClient, path: &str| client.set_quota(path, names, space_bytes);
        self.with("set the quota of", uri, set).map(drop)
    }

    fn recover_lease(&self, file: &Uri) -> Result<bool, FsError> {
        self.with("recover the lease of", file, |client, path| client.recover_lease(path))
    }
}

/// The path as the master takes it: text.
fn text<'u>(operation: &'static str, uri: &'u Uri) -> Result<&'u str, FsError> {
    let not_text = || FsError::new(operation, uri, Cause::InvalidName("it is not UTF-8".to_owned()));
    uri.path().to_str().ok_or_else(not_text)
}

fn status(uri: Uri, entry: &Entry) -> Status {
    Status {
        uri,
        kind: if entry.is_directory { Kind::Directory } else { Kind::File },
        is_link: false,
        bytes: entry.bytes,
        replication: entry.replication,
        block_bytes: entry.block_bytes,
        owner: entry.owner.clone(),
        group: entry.group.clone(),
        mode: entry.mode,
        stamp: files::stamp(entry),
        modified_ms: entry.modified_ms,
        accessed_ms: entry.accessed_ms,
        under_construction: entry.under_construction,
        name_quota: entry.name_quota,
        space_quota: entry.space_quota,
    }
}
