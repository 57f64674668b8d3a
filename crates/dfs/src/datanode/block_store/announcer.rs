//! Tells the rest of the worker what changed on its disks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use gristmill_proto::attendance::ReplicaInfo;

/// Something that the namenode should know. It is durable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// A replica is finished.
    Finished(ReplicaInfo),
    /// There is no replica of this generation or an older one any more. `bytes` is 0 if none was there.
    Deleted(ReplicaInfo),
    /// A replica is damaged, or gone with its volume.
    Bad(ReplicaInfo),
}

/// What is called with each change.
pub type Listener = Box<dyn Fn(Change) + Send + Sync>;

/// Changes on their way to the listener, in the order in which they became durable. Each operation delivers what it
/// noted, so few wait here: one for each operation under way, or for each replica of a volume that just failed. Without
/// a listener nothing is noted.
#[derive(Default)]
pub(super) struct Announcer {
    heard: AtomicBool,
    waiting: Mutex<VecDeque<Change>>,
    listener: Mutex<Option<Listener>>,
}

impl Announcer {
    /// Notes a change. Called at the gate of its block, so that changes of one block stay in order.
    pub(super) fn note(&self, change: Change) {
        if self.heard.load(Ordering::Acquire) {
            lock(&self.waiting).push_back(change);
        }
    }

    /// Tells the listener what was noted. Called without any lock or gate.
    pub(super) fn deliver(&self) {
        let listener = lock(&self.listener);
        let Some(listener) = listener.as_ref() else { return };
        loop {
            let next = lock(&self.waiting).pop_front();
            let Some(change) = next else { return };
            listener(change);
        }
    }

    /// From now on changes are noted. They are delivered as soon as there is a listener.
    pub(super) fn expect_listener(&self) {
        self.heard.store(true, Ordering::Release);
    }

    pub(super) fn set_listener(&self, listener: Listener) {
        *lock(&self.listener) = Some(listener);
        self.deliver();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A queue and a function are whole after any panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
