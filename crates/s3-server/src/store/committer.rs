//! One thread makes all changes, one group of them after the other.
//!
//! A change looks at the tables and decides: this is where a race between conditional puts has its winner. A group is one
//! durable transaction, and nobody in it is answered before that is on disk.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use redb::Database;
use tokio::sync::{mpsc, oneshot, watch};

use super::failure::{Failure, StoreError};
use super::files::{Files, NewFile};
use super::latest::Latest;
use super::records::DataFile;
use super::tables::Tables;

/// Changes of one transaction: as many as connections can wait for at a time, about.
const GROUP_CHANGES_MAX: usize = 128;
/// Changes that wait for the thread; more wait before they get in.
const QUEUE_CHANGES_MAX: usize = 256;

/// What the index names no longer: objects and parts, each with its files.
pub(crate) type Freed = Vec<Vec<DataFile>>;

type Decide = Box<dyn FnOnce(&mut Tables<'_>) -> Result<Settle, StoreError> + Send>;
/// Answers after the group is on disk (true), or has failed.
type Settle = Box<dyn FnOnce(bool) + Send>;

/// Changes the index.
pub(crate) struct Committer {
    sender: Option<mpsc::Sender<Decide>>,
    thread: Option<JoinHandle<()>>,
    failed: watch::Receiver<Option<String>>,
    files: Arc<Files>,
}

impl Committer {
    pub(crate) fn start(database: Database, latest: Arc<Latest>, files: Arc<Files>) -> io::Result<Committer> {
        let (sender, receiver) = mpsc::channel(QUEUE_CHANGES_MAX);
        let (fail, failed) = watch::channel(None);
        let thread = Builder::new().name("committer".to_owned()).spawn(move || {
            if let Err(error) = commit_groups(&database, &latest, receiver) {
                tracing::error!(error = &error as &dyn std::error::Error, "the index failed");
                fail.send_replace(Some(error.to_string()));
            }
        })?;
        Ok(Committer { sender: Some(sender), thread: Some(thread), failed, files })
    }

    /// Makes one change. `decide` must not write before it refuses: it shares its transaction.
    ///
    /// `new` are the files that the change brings into the index. They stay if it does so; `decide` says which files it
    /// takes out of the index.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        new: Vec<NewFile>,
        decide: impl FnOnce(&mut Tables<'_>, &mut Freed) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        let files = Arc::clone(&self.files);
        let work: Decide = Box::new(move |tables| {
            let mut freed = Freed::new();
            let outcome = match decide(tables, &mut freed) {
                Err(Failure::Store(error)) => return Err(error),
                outcome => outcome,
            };
            Ok(Box::new(move |durable| {
                if outcome.is_ok() || !durable {
                    new.into_iter().for_each(NewFile::keep);
                }
                if outcome.is_ok() && durable {
                    freed.into_iter().for_each(|data| files.remove(data));
                }
                let outcome = if durable { outcome } else { Err(StoreError::Ended.into()) };
                if answer.send(outcome).is_err() {
                    tracing::debug!("a client left before its answer");
                }
            }))
        });
        let sender = self.sender.as_ref().ok_or(StoreError::Ended)?;
        sender.send(work).await.map_err(|_| StoreError::Ended)?;
        answered.await.map_err(|_| StoreError::Ended)?
    }

    /// Waits until a change could not be written; says why.
    pub(crate) async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The thread has ended well, because the store is closed.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the committer panicked");
        }
    }
}

/// Groups changes until nobody can send any more, or one cannot be written.
fn commit_groups(
    database: &Database,
    latest: &Latest,
    mut queue: mpsc::Receiver<Decide>,
) -> Result<(), StoreError> {
    while let Some(first) = queue.blocking_recv() {
        let mut settles = Vec::new();
        let committed = commit_group(database, first, &mut queue, &mut settles);
        let committed = committed.and_then(|()| latest.renew(database));
        let durable = committed.is_ok();
        settles.into_iter().for_each(|settle| settle(durable));
        committed?;
    }
    Ok(())
}

fn commit_group(
    database: &Database,
    first: Decide,
    queue: &mut mpsc::Receiver<Decide>,
    settles: &mut Vec<Settle>,
) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::open(&transaction)?;
        settles.push(first(&mut tables)?);
        while settles.len() < GROUP_CHANGES_MAX
            && let Ok(next) = queue.try_recv()
        {
            settles.push(next(&mut tables)?);
        }
    }
    Ok(transaction.commit()?)
}
