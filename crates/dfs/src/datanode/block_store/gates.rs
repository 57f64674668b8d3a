//! One change at a time for each block.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use gristmill_proto::ids::BlockId;

/// The blocks whose replicas are being created, taken over, finished or deleted right now. Writing is no such change.
#[derive(Default)]
pub(super) struct Gates {
    entered: Mutex<HashSet<BlockId>>,
    left: Condvar,
}

impl Gates {
    /// Waits until nobody else changes `block`.
    pub(super) fn enter(&self, block: BlockId) -> Gate<'_> {
        let mut entered = self.lock();
        while !entered.insert(block) {
            entered = self.left.wait(entered).unwrap_or_else(PoisonError::into_inner);
        }
        Gate { gates: self, block }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<BlockId>> {
        // A set of ids is whole after any panic.
        self.entered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to change one block.
pub(super) struct Gate<'g> {
    gates: &'g Gates,
    block: BlockId,
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        self.gates.lock().remove(&self.block);
        self.gates.left.notify_all();
    }
}
