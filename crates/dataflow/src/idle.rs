//! Collecting memory between tasks: memory that a process has touched once is much cheaper than new memory, so a
//! task hands its buffers, empty, to the next one.

use crate::combine::TableMemory;
use crate::sort::SortMemory;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Buffers that no task uses at the moment: at most one of a kind for each task that ran at once. Cheap to clone;
/// all clones hold the same buffers.
#[derive(Clone, Debug, Default)]
pub struct IdleBuffers {
    sorts: Arc<Mutex<Vec<SortMemory>>>,
    tables: Arc<Mutex<Vec<TableMemory>>>,
}

impl IdleBuffers {
    /// Gives everything back to the system: what comes next needs the memory for something else.
    pub fn free(&self) {
        lock(&self.sorts).clear();
        lock(&self.tables).clear();
    }

    pub(crate) fn take_sort(&self) -> SortMemory {
        lock(&self.sorts).pop().unwrap_or_default()
    }

    pub(crate) fn give_sort(&self, memory: SortMemory) {
        lock(&self.sorts).push(memory);
    }

    pub(crate) fn take_table(&self) -> TableMemory {
        lock(&self.tables).pop().unwrap_or_default()
    }

    pub(crate) fn give_table(&self, memory: TableMemory) {
        lock(&self.tables).push(memory);
    }
}

/// Buffers without contents cannot be left in a bad state by a panic.
fn lock<T>(buffers: &Mutex<T>) -> MutexGuard<'_, T> {
    buffers.lock().unwrap_or_else(PoisonError::into_inner)
}
