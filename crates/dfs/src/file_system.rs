//! What people do with files of any file system, and how it fails.

mod access;
mod accounts;
mod dfs;
mod expand;
mod failure;
mod identity;
mod local;
mod locality;
mod status;

use std::io;

use gristmill_proto::namespace::{CheckReport, ClusterReport, LocatedFile, SpaceUse, Summary};

use crate::store::ReadAt;
use crate::uri::Uri;

pub use access::{Access, AccessError, SECRET_FILE_VARIABLE, USER_VARIABLE};
pub(crate) use expand::entries;
pub use expand::{ExpandError, expand};
pub use failure::{Cause, FsError};
pub use identity::{Credential, DfsIdentity, assume};
pub use local::LocalFileSystem;
pub use locality::{client_of, locality};
pub use status::{Kind, Status};

/// A tree of directories and files, wherever it is. URIs of another file system are a bug of the caller's.
///
/// All methods take what they name as it is: nothing is a glob here (see [`expand`]).
pub trait FileSystem: Send + Sync {
    /// What is at `uri`; a link is followed as far as it leads somewhere.
    fn stat(&self, uri: &Uri) -> Result<Status, FsError>;

    /// The entries of a directory by the bytes of their names, fetched as the iterator goes; of a file, itself.
    fn list(&self, uri: &Uri) -> Result<Listing, FsError>;

    /// Opens a file for reading.
    fn open(&self, file: &Uri) -> Result<Box<dyn ReadAt>, FsError>;

    /// Begins a file; the directories above it are made if they are missing.
    fn create(&self, file: &Uri, options: &CreateOptions) -> Result<Box<dyn FileWriter>, FsError>;

    /// Goes on with a file that exists.
    fn append(&self, file: &Uri) -> Result<Box<dyn FileWriter>, FsError>;

    /// Makes a directory. With `parents` it makes those above too, and one that is there already is fine.
    fn make_directory(&self, uri: &Uri, parents: bool) -> Result<(), FsError>;

    /// Moves a file or directory to the name `to`. With `replace`, a file or an empty directory there gives way to
    /// one of its kind.
    fn rename(&self, from: &Uri, to: &Uri, replace: bool) -> Result<(), FsError>;

    /// Deletes a file or directory; says where it is now if it went to the trash.
    fn delete(&self, uri: &Uri, options: DeleteOptions) -> Result<Option<Uri>, FsError>;

    /// Cuts a file to its first `bytes`. False: it is being done in the background.
    fn truncate(&self, file: &Uri, bytes: u64) -> Result<bool, FsError>;

    /// Appends the files `from`, in order, to the file `to`; they are gone then.
    fn concat(&self, to: &Uri, from: &[Uri]) -> Result<(), FsError>;

    /// Says how many copies of a file there shall be.
    fn set_replication(&self, file: &Uri, replication: u32) -> Result<(), FsError>;

    /// Sets the 12 bits of the mode.
    fn set_mode(&self, uri: &Uri, mode: u32) -> Result<(), FsError>;

    /// Sets the owner, the group, or both.
    fn set_owner(&self, uri: &Uri, owner: Option<&str>, group: Option<&str>) -> Result<(), FsError>;

    /// Sets the times of modification and access, or one of them, in milliseconds since 1970.
    fn set_times(&self, uri: &Uri, modified_ms: Option<u64>, accessed_ms: Option<u64>)
    -> Result<(), FsError>;

    /// Counts what is at and below `uri`.
    fn summarize(&self, uri: &Uri) -> Result<Summary, FsError>;

    /// How much room there is at `uri`.
    fn space(&self, uri: &Uri) -> Result<SpaceUse, FsError>;

    /// The directory that relative paths are below.
    fn home(&self) -> Uri;

    /// What only a cluster has: blocks, workers, quotas.
    fn cluster(&self) -> Option<&dyn Cluster> {
        None
    }
}

/// A file system that changes many names in one atomic step, and so can publish the output of a job.
pub trait Publish: FileSystem {
    /// Moves each first to its second, all or none, in order; nothing may be at a destination when its turn comes.
    /// The directories above destinations are made.
    fn publish(&self, moves: &[(Uri, Uri)]) -> Result<(), FsError>;

    /// `uri` with the file system's full name in it.
    fn resolve(&self, uri: &Uri) -> Uri;
}

/// What an operator does with a cluster's file system.
pub trait Cluster: Send + Sync {
    /// Workers, capacity, the state of replication.
    fn report(&self) -> Result<ClusterReport, FsError>;

    /// One page of what is wrong with the files below `uri`, from after the file `after` on.
    fn check(&self, uri: &Uri, after: &str) -> Result<CheckReport, FsError>;

    /// Looks at all blocks below `uri` again and queues what can be mended.
    fn repair(&self, uri: &Uri) -> Result<(), FsError>;

    /// Where the blocks of a file are, from `offset` on; `more` if there are more than one answer holds.
    fn locate(&self, file: &Uri, offset: u64) -> Result<LocatedFile, FsError>;

    /// Enters or leaves safe mode by hand.
    fn set_safe_mode(&self, on: bool) -> Result<(), FsError>;

    /// Says what a worker is to do: serve, hand over its blocks, or rest.
    fn set_worker_state(&self, worker: u64, state: WorkerState) -> Result<(), FsError>;

    /// Empties the caller's trash, or everyone's.
    fn expunge_trash(&self, everyones: bool) -> Result<(), FsError>;

    /// Sets the quotas of a directory; 0 is none, `None` leaves it as it is.
    fn set_quota(&self, uri: &Uri, names: Option<u64>, space_bytes: Option<u64>) -> Result<(), FsError>;

    /// Takes a file from a writer that is gone. False: it is being done in the background.
    fn recover_lease(&self, file: &Uri) -> Result<bool, FsError>;
}

/// What a worker is told to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// Takes and serves blocks.
    InService,
    /// Its blocks are copied elsewhere, then it may go for good.
    Decommission,
    /// It may go for a while; its blocks are not copied.
    Maintenance,
}

/// Entries of a directory, one by one.
pub type Listing = Box<dyn Iterator<Item = Result<Status, FsError>> + Send>;

/// A file being written. Dropped unfinished, what was written is not to be relied on.
pub trait FileWriter: io::Write + Send {
    /// Ends the file; it is whole from then on.
    fn finish(self: Box<Self>) -> Result<(), FsError>;
}

/// How a file is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// A file that is there gives way.
    pub overwrite: bool,
    /// The directory above has to be there; else it is made.
    pub parent_exists: bool,
    /// How many copies; 0: the file system's default.
    pub replication: u32,
    /// How long its blocks are; 0: the file system's default.
    pub block_bytes: u64,
}

/// How something is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Directories with all below them too.
    pub recursive: bool,
    /// Gone at once, even if the file system has a trash.
    pub skip_trash: bool,
}
