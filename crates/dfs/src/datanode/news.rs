//! What the master has yet to be told: changes of replicas, and answers to orders to stop writers.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use gristmill_proto::attendance::{Changes, Stopped};
use gristmill_proto::ids::Epoch;
use tokio::sync::Notify;

use super::block_store::Change;

/// Changes that wait. More than a worker makes in the time a master needs to start; beyond it a full report is cheaper.
const CHANGES_MAX: usize = 100_000;
/// Answers that wait. The master asks again for one that does not come.
const STOPPED_MAX: usize = 10_000;
/// Changes in one message: far below the limit of gRPC's messages.
const BATCH_MAX: usize = 1_000;

/// A queue from the store's and the orders' threads to the attendance. Never waits.
#[derive(Default)]
pub(crate) struct News {
    queue: Mutex<Queue>,
    arrived: Notify,
}

#[derive(Default)]
struct Queue {
    changes: VecDeque<Change>,
    stopped: VecDeque<Stopped>,
    /// Changes were dropped: only a full report tells the truth now.
    incomplete: bool,
}

impl News {
    /// A replica has changed.
    pub(crate) fn change(&self, change: Change) {
        let mut queue = self.queue();
        if queue.changes.len() < CHANGES_MAX {
            queue.changes.push_back(change);
        } else if !queue.incomplete {
            queue.incomplete = true;
            tracing::warn!("more than {CHANGES_MAX} changes wait for the master: a full report follows");
        }
        drop(queue);
        self.arrived.notify_one();
    }

    /// A writer was stopped, or is not here.
    pub(crate) fn stopped(&self, stopped: Stopped) {
        let mut queue = self.queue();
        if queue.stopped.len() < STOPPED_MAX {
            queue.stopped.push_back(stopped);
        } else {
            tracing::warn!(block = stopped.block, "too many answers wait for the master: one is dropped");
        }
        drop(queue);
        self.arrived.notify_one();
    }

    /// There is more than was taken.
    pub(crate) fn call_again(&self) {
        self.arrived.notify_one();
    }

    /// Waits until there may be news.
    pub(crate) async fn wait(&self) {
        self.arrived.notified().await;
    }

    /// A new registration, to which a full report belongs: it makes up for what was dropped, and for all that waits then.
    pub(crate) fn start_anew(&self) {
        let mut queue = self.queue();
        if queue.incomplete {
            queue.changes.clear();
            queue.incomplete = false;
        }
    }

    /// Whether changes were dropped since [`News::start_anew`].
    pub(crate) fn is_incomplete(&self) -> bool {
        self.queue().incomplete
    }

    /// The next changes in order, no block twice: a message does not say which came first. `None`: there are none.
    pub(crate) fn take_changes(&self, epoch: Epoch) -> Option<Changes> {
        let mut queue = self.queue();
        let mut changes = Changes { epoch: epoch.0, ..Changes::default() };
        let mut seen = HashSet::new();
        while let Some(change) = queue.changes.front() {
            let info = match change {
                Change::Finished(info) | Change::Deleted(info) | Change::Bad(info) => *info,
            };
            if seen.len() == BATCH_MAX || !seen.insert(info.block) {
                break;
            }
            match change {
                Change::Finished(_) => changes.finished.push(info),
                Change::Deleted(_) => changes.deleted.push(info),
                Change::Bad(_) => changes.bad.push(info),
            }
            queue.changes.pop_front();
        }
        (!seen.is_empty()).then_some(changes)
    }

    /// The next answer.
    pub(crate) fn take_stopped(&self) -> Option<Stopped> {
        self.queue().stopped.pop_front()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proto::attendance::ReplicaInfo;

    fn replica(block: u64, generation: u64) -> ReplicaInfo {
        ReplicaInfo { block, generation, bytes: 5 }
    }

    #[test]
    fn a_message_never_says_two_things_of_a_block() {
        let news = News::default();
        news.change(Change::Finished(replica(1, 1)));
        news.change(Change::Deleted(replica(2, 1)));
        news.change(Change::Deleted(replica(1, 1)));
        news.change(Change::Bad(replica(3, 1)));
        let first = news.take_changes(Epoch(4)).expect("changes");
        assert_eq!((first.epoch, first.finished.len(), first.deleted.len(), first.bad.len()), (4, 1, 1, 0));
        let second = news.take_changes(Epoch(4)).expect("changes");
        assert_eq!((second.finished.len(), second.deleted[0].block, second.bad[0].block), (0, 1, 3));
        assert!(news.take_changes(Epoch(4)).is_none());
    }

    #[test]
    fn messages_are_bounded() {
        let news = News::default();
        for block in 0..2 * BATCH_MAX as u64 + 1 {
            news.change(Change::Finished(replica(block, 1)));
        }
        let sizes = [(); 4].map(|()| news.take_changes(Epoch(1)).map_or(0, |changes| changes.finished.len()));
        assert_eq!(sizes, [BATCH_MAX, BATCH_MAX, 1, 0]);
    }

    #[test]
    fn too_many_changes_call_for_a_full_report() {
        let news = News::default();
        for block in 0..CHANGES_MAX as u64 {
            news.change(Change::Finished(replica(block, 1)));
        }
        assert!(!news.is_incomplete());
        news.change(Change::Finished(replica(0, 2)));
        assert!(news.is_incomplete());
        news.start_anew();
        assert!(!news.is_incomplete() && news.take_changes(Epoch(1)).is_none());
        for block in 0..=STOPPED_MAX as u64 {
            news.stopped(Stopped { block, ..Stopped::default() });
        }
        let mut answers = 0;
        while news.take_stopped().is_some() {
            answers += 1;
        }
        assert_eq!(answers, STOPPED_MAX);
    }
}
