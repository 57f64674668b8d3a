//! Every call as a method. A master that asks for patience gets it, up to [`ClientOptions::retry_timeout`].

use std::time::{Duration, Instant};

use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::rename::Mode;
use gristmill_proto::namespace::set_worker_state::State;
use gristmill_proto::namespace::*;

use super::DfsClient;
use super::connection::block_on;
use super::errors::DfsError;
use super::listing::{Checks, Entries};

/// Durable replicas are reported within milliseconds.
const NOT_YET_BACK_OFF: Duration = Duration::from_millis(2);
/// Safe mode and overload take longer to end.
const BUSY_BACK_OFF: Duration = Duration::from_millis(50);
/// No call waits for longer before it asks again.
const BACK_OFF_MAX: Duration = Duration::from_millis(250);

/// How to rename, when something is at the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Nothing may be there.
    Refuse,
    /// A file, or an empty directory, is replaced.
    Overwrite,
    /// Exactly this file must be there, and is replaced.
    IfSame {
        /// Its [`Entry::inode`].
        inode: u64,
        /// Its [`Entry::version`].
        version: u64,
    },
    /// As `mv`: a directory takes it in under its own name.
    Into,
}

macro_rules! outcome {
    ($variant:ident) => {
        |outcome| match outcome {
            gristmill_proto::namespace::answer::Outcome::$variant(it) => Some(it),
            _ => None,
        }
    };
}

pub(crate) use outcome;

/// A change that answers with the entry, or with nothing.
fn done(outcome: Outcome) -> Option<()> {
    matches!(outcome, Outcome::Done(_) | Outcome::Entry(_)).then_some(())
}

/// Calls. All paths are absolute. Every method waits for the answer; errors are [`DfsError::Refused`] with the
/// namenode's reason, [`DfsError::Unreachable`], and for changes [`DfsError::OutcomeUnknown`].
impl DfsClient {
    /// Sends one call as it is, and waits for the answer. Hadoop: `ClientProtocol`.
    pub fn call(&self, request: Request) -> Result<Outcome, DfsError> {
        block_on(self.call_async(request))
    }

    /// Sends one call as it is. The future may be polled by any executor; dropped early, the call still goes on.
    pub fn call_async(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Outcome, DfsError>> + Send + 'static {
        let client = self.clone();
        // The client is held until the answer: its threads make the progress.
        async move { client.inner.connection.clone().call(request).await }
    }

    /// What is at `path`.
    pub fn stat(&self, path: &str) -> Result<Entry, DfsError> {
        block_on(self.stat_async(path))
    }

    pub(crate) async fn stat_async(&self, path: &str) -> Result<Entry, DfsError> {
        self.ask(Request::Stat(Stat { path: path.to_owned() }), outcome!(Entry)).await
    }

    /// What is in a directory, sorted by the bytes of the names, page by page as it is read. A file lists itself.
    pub fn list(&self, path: &str) -> Result<Entries, DfsError> {
        Entries::first_page(self.clone(), path)
    }

    pub(crate) async fn list_page(&self, path: &str, after: &str, limit: u32) -> Result<Listing, DfsError> {
        let list = List { path: path.to_owned(), after: after.to_owned(), limit };
        self.ask(Request::List(list), outcome!(Listing)).await
    }

    /// How much is below `path`. Hadoop: `getContentSummary`.
    pub fn summarize(&self, path: &str) -> Result<Summary, DfsError> {
        block_on(self.ask(Request::Summarize(Summarize { path: path.to_owned() }), outcome!(Summary)))
    }

    /// The first `limit` (0: 100) blocks that overlap `bytes` bytes from `offset` on, and where their replicas are.
    pub fn locate(&self, path: &str, offset: u64, bytes: u64, limit: u32) -> Result<LocatedFile, DfsError> {
        let locate = Locate { path: path.to_owned(), offset, bytes, limit };
        block_on(self.ask(Request::Locate(locate), outcome!(Located)))
    }

    /// Space of the cluster.
    pub fn space(&self) -> Result<SpaceUse, DfsError> {
        block_on(self.ask(Request::Space(Space {}), outcome!(Space)))
    }

    /// The state of the cluster and each worker.
    pub fn report(&self) -> Result<ClusterReport, DfsError> {
        block_on(self.ask(Request::Report(Report {}), outcome!(Report)))
    }

    /// Goes through all files below `path` and names what is wrong, page by page. Hadoop: fsck.
    pub fn check(&self, path: &str) -> Checks {
        Checks::new(self.clone(), path)
    }

    pub(crate) fn check_page(&self, path: &str, after: &str) -> Result<CheckReport, DfsError> {
        let check = Check { path: path.to_owned(), after: after.to_owned(), limit: 0 };
        block_on(self.ask(Request::Check(check), outcome!(Check)))
    }

    /// Makes a directory; with `parents` also those above, and it may exist.
    pub fn make_directory(&self, path: &str, parents: bool, mode: u32) -> Result<Entry, DfsError> {
        block_on(self.make_directory_async(path, parents, mode))
    }

    pub(crate) async fn make_directory_async(
        &self,
        path: &str,
        parents: bool,
        mode: u32,
    ) -> Result<Entry, DfsError> {
        let make = MakeDirectory { path: path.to_owned(), parents, mode };
        self.ask(Request::MakeDirectory(make), outcome!(Entry)).await
    }

    /// Moves a file or directory, atomically; the answer is what is at the new name.
    pub fn rename(&self, from: &str, to: &str, mode: RenameMode) -> Result<Entry, DfsError> {
        block_on(self.rename_async(from, to, mode))
    }

    pub(crate) async fn rename_async(
        &self,
        from: &str,
        to: &str,
        mode: RenameMode,
    ) -> Result<Entry, DfsError> {
        let (mode, inode, version) = match mode {
            RenameMode::Refuse => (Mode::Refuse, 0, 0),
            RenameMode::Overwrite => (Mode::Overwrite, 0, 0),
            RenameMode::IfSame { inode, version } => (Mode::IfSame, inode, version),
            RenameMode::Into => (Mode::Into, 0, 0),
        };
        let rename = Rename { from: from.to_owned(), to: to.to_owned(), mode: mode.into(), inode, version };
        self.ask(Request::Rename(rename), outcome!(Entry)).await
    }

    /// Deletes a file or directory, into the trash unless `skip_trash`. Nothing being there is no error.
    pub fn delete(&self, path: &str, recursive: bool, skip_trash: bool) -> Result<Deleted, DfsError> {
        block_on(self.delete_async(path, recursive, skip_trash))
    }

    pub(crate) async fn delete_async(
        &self,
        path: &str,
        recursive: bool,
        skip_trash: bool,
    ) -> Result<Deleted, DfsError> {
        let delete = Delete { path: path.to_owned(), recursive, skip_trash };
        self.ask(Request::Delete(delete), outcome!(Deleted)).await
    }

    /// All removals and then all moves, in one transaction, or nothing. Parents of the new names are made.
    pub fn publish(&self, remove: Vec<String>, moves: Vec<publish::Move>) -> Result<(), DfsError> {
        block_on(self.ask(Request::Publish(Publish { remove, moves }), done))
    }

    /// The blocks of `from` join `to`, in order; the files `from` are gone.
    pub fn concat(&self, to: &str, from: Vec<String>) -> Result<Entry, DfsError> {
        block_on(self.concat_async(to, from))
    }

    pub(crate) async fn concat_async(&self, to: &str, from: Vec<String>) -> Result<Entry, DfsError> {
        self.ask(Request::Concat(Concat { to: to.to_owned(), from }), outcome!(Entry)).await
    }

    /// Cuts a file. False: replicas of the last block are still being cut, and the file cannot be appended to yet.
    pub fn truncate(&self, path: &str, bytes: u64) -> Result<bool, DfsError> {
        let truncate = Truncate { path: path.to_owned(), bytes };
        block_on(self.ask(Request::Truncate(truncate), outcome!(Truncated))).map(|truncated| truncated.done)
    }

    /// How many replicas each block of a file is to have.
    pub fn set_replication(&self, path: &str, replication: u32) -> Result<Entry, DfsError> {
        let set = SetReplication { path: path.to_owned(), replication };
        block_on(self.ask(Request::SetReplication(set), outcome!(Entry)))
    }

    /// Permissions, as in POSIX.
    pub fn set_mode(&self, path: &str, mode: u32) -> Result<Entry, DfsError> {
        let set = SetMode { path: path.to_owned(), mode };
        block_on(self.ask(Request::SetMode(set), outcome!(Entry)))
    }

    /// Owner and group; an empty one stays as it is.
    pub fn set_owner(&self, path: &str, owner: &str, group: &str) -> Result<Entry, DfsError> {
        let set = SetOwner { path: path.to_owned(), owner: owner.to_owned(), group: group.to_owned() };
        block_on(self.ask(Request::SetOwner(set), outcome!(Entry)))
    }

    /// Times in milliseconds since 1970; 0 stays as it is.
    pub fn set_times(&self, path: &str, modified_ms: u64, accessed_ms: u64) -> Result<Entry, DfsError> {
        let set = SetTimes { path: path.to_owned(), modified_ms, accessed_ms };
        block_on(self.ask(Request::SetTimes(set), outcome!(Entry)))
    }

    /// Quotas of a directory: 0 is none, `None` stays as it is.
    pub fn set_quota(
        &self,
        path: &str,
        names: Option<u64>,
        space_bytes: Option<u64>,
    ) -> Result<Entry, DfsError> {
        let set = SetQuota { path: path.to_owned(), names, space_bytes };
        block_on(self.ask(Request::SetQuota(set), outcome!(Entry)))
    }

    /// Ends the writing of a file by whoever writes it. False: its last block is still being settled.
    pub fn recover_lease(&self, path: &str) -> Result<bool, DfsError> {
        block_on(self.recover_lease_async(path))
    }

    pub(crate) async fn recover_lease_async(&self, path: &str) -> Result<bool, DfsError> {
        let recover = Request::RecoverLease(RecoverLease { path: path.to_owned() });
        Ok(self.ask(recover, outcome!(Recovering)).await?.closed)
    }

    /// Empties the caller's trash; `all`: everyone's.
    pub fn expunge_trash(&self, all: bool) -> Result<(), DfsError> {
        block_on(self.ask(Request::ExpungeTrash(ExpungeTrash { all }), done))
    }

    /// Takes a worker out of service, or back.
    pub fn set_worker_state(&self, worker: u64, state: State) -> Result<(), DfsError> {
        let set = SetWorkerState { worker, state: state.into() };
        block_on(self.ask(Request::SetWorkerState(set), done))
    }

    /// Enters or leaves safe mode.
    pub fn set_safe_mode(&self, on: bool) -> Result<(), DfsError> {
        block_on(self.ask(Request::SetSafeMode(SetSafeMode { on }), done))
    }

    /// Looks at all blocks below `path` again and queues what can be mended.
    pub fn repair(&self, path: &str) -> Result<(), DfsError> {
        block_on(self.ask(Request::Repair(Repair { path: path.to_owned() }), done))
    }

    /// The user's home directory, as the master says.
    pub fn home(&self) -> String {
        self.inner.connection.welcome().map(|welcome| welcome.user_home.clone()).unwrap_or_default()
    }

    /// Sends a call, again while the master asks for patience, and picks the outcome.
    ///
    /// Each attempt is a call of its own: the same one would get the same answer.
    pub(crate) async fn ask<T>(
        &self,
        request: Request,
        pick: impl Fn(Outcome) -> Option<T>,
    ) -> Result<T, DfsError> {
        let started = Instant::now();
        let mut back_off = None;
        loop {
            let error = match self.inner.connection.clone().call(request.clone()).await {
                Ok(outcome) => {
                    return pick(outcome).ok_or_else(|| self.inner.connection.unexpected(&request));
                }
                Err(error) => error,
            };
            let first = match error.kind() {
                Some(Kind::NotYet) => NOT_YET_BACK_OFF,
                Some(Kind::SafeMode | Kind::Overloaded) => BUSY_BACK_OFF,
                _ => return Err(error),
            };
            if started.elapsed() >= self.inner.options.retry_timeout {
                return Err(error);
            }
            let pause = back_off.unwrap_or(first);
            self.pause(pause).await;
            back_off = Some((pause * 3 / 2).min(BACK_OFF_MAX));
        }
    }

    /// Sleeps, whichever executor polls.
    pub(crate) async fn pause(&self, duration: Duration) {
        let slept = self.inner.handle.spawn(async move { tokio::time::sleep(duration).await }).await;
        slept.expect("a sleep neither panics nor is cancelled while the client lives");
    }
}
