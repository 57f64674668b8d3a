//! Calls that fail when a test says so, on its own thread.

use std::cell::Cell;
use std::io;

use crate::file_system::{
    CreateOptions, DeleteOptions, FileSystem, FileWriter, FsError, Listing, Publish, Status,
};
use crate::memory::MemoryFileSystem;
use crate::store::ReadAt;
use crate::uri::Uri;

/// How calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// The process dies: this call is not made, nor any after it.
    Death,
    /// This call is not made.
    Failure,
    /// This call is made, and says that it failed.
    LostAnswer,
}

thread_local! {
    static TO_COME: Cell<Option<(u64, Blow)>> = const { Cell::new(None) };
    static STRUCK: Cell<bool> = const { Cell::new(false) };
    static CANNOT_EXCHANGE: Cell<bool> = const { Cell::new(false) };
}

/// What `act` does on this thread when the blow comes after `calls` calls; and whether it came.
pub(crate) fn strike<T>(calls: u64, blow: Blow, act: impl FnOnce() -> T) -> (T, bool) {
    TO_COME.set(Some((calls, blow)));
    STRUCK.set(false);
    let done = act();
    TO_COME.set(None);
    (done, STRUCK.get())
}

/// One call.
pub(crate) fn around<T, E: From<io::Error>>(act: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let Some((calls, blow)) = TO_COME.get() else { return act() };
    if calls > 0 {
        TO_COME.set(Some((calls - 1, blow)));
        return act();
    }
    STRUCK.set(true);
    if blow != Blow::Death {
        TO_COME.set(None);
    }
    if blow == Blow::LostAnswer {
        act()?;
    }
    Err(io::Error::other(format!("{blow:?}")).into())
}

/// Whether this thread's file system cannot exchange two names.
pub(crate) fn set_cannot_exchange(cannot: bool) {
    CANNOT_EXCHANGE.set(cannot);
}

pub(crate) fn cannot_exchange() -> bool {
    CANNOT_EXCHANGE.get()
}

/// A file system in memory whose calls may fail.
#[derive(Clone, Debug)]
pub(crate) struct FailingFileSystem(pub(crate) MemoryFileSystem);

fn call<T>(uri: &Uri, act: impl FnOnce() -> Result<T, FsError>) -> Result<T, FsError> {
    struct Failed(Result<FsError, io::Error>);
    impl From<io::Error> for Failed {
        fn from(error: io::Error) -> Failed {
            Failed(Err(error))
        }
    }
    around(|| act().map_err(|error| Failed(Ok(error))))
        .map_err(|Failed(error)| error.unwrap_or_else(|error| FsError::new("reach", uri, error)))
}

impl FileSystem for FailingFileSystem {
    fn stat(&self, uri: &Uri) -> Result<Status, FsError> {
        call(uri, || self.0.stat(uri))
    }

    fn list(&self, uri: &Uri) -> Result<Listing, FsError> {
        call(uri, || self.0.list(uri))
    }

    fn open(&self, file: &Uri) -> Result<Box<dyn ReadAt>, FsError> {
        call(file, || self.0.open(file))
    }

    fn create(&self, file: &Uri, options: &CreateOptions) -> Result<Box<dyn FileWriter>, FsError> {
        call(file, || self.0.create(file, options))
    }

    fn make_directory(&self, uri: &Uri, parents: bool) -> Result<(), FsError> {
        call(uri, || self.0.make_directory(uri, parents))
    }

    fn delete(&self, uri: &Uri, options: DeleteOptions) -> Result<Option<Uri>, FsError> {
        call(uri, || self.0.delete(uri, options))
    }

    fn append(&self, file: &Uri) -> Result<Box<dyn FileWriter>, FsError> {
        self.0.append(file)
    }

    fn rename(&self, from: &Uri, to: &Uri, replace: bool) -> Result<(), FsError> {
        self.0.rename(from, to, replace)
    }

    fn truncate(&self, file: &Uri, bytes: u64) -> Result<bool, FsError> {
        self.0.truncate(file, bytes)
    }

    fn concat(&self, to: &Uri, from: &[Uri]) -> Result<(), FsError> {
        self.0.concat(to, from)
    }

    fn set_replication(&self, file: &Uri, replication: u32) -> Result<(), FsError> {
        self.0.set_replication(file, replication)
    }

    fn set_mode(&self, uri: &Uri, mode: u32) -> Result<(), FsError> {
        self.0.set_mode(uri, mode)
    }

    fn set_owner(&self, uri: &Uri, owner: Option<&str>, group: Option<&str>) -> Result<(), FsError> {
        self.0.set_owner(uri, owner, group)
    }

    fn set_times(&self, uri: &Uri, modified: Option<u64>, accessed: Option<u64>) -> Result<(), FsError> {
        self.0.set_times(uri, modified, accessed)
    }

    fn summarize(&self, uri: &Uri) -> Result<gristmill_proto::namespace::Summary, FsError> {
        self.0.summarize(uri)
    }

    fn space(&self, uri: &Uri) -> Result<gristmill_proto::namespace::SpaceUse, FsError> {
        self.0.space(uri)
    }

    fn home(&self) -> Uri {
        self.0.home()
    }
}

impl Publish for FailingFileSystem {
    fn publish(&self, moves: &[(Uri, Uri)]) -> Result<(), FsError> {
        call(&moves[0].0, || self.0.publish(moves))
    }

    fn resolve(&self, uri: &Uri) -> Uri {
        self.0.resolve(uri)
    }
}
