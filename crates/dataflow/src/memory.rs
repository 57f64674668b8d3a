//! How the process's memory is divided: every buffer of the data path has its share here, so that
//! `--memory` bounds the whole process.
//!
//! ```text
//!  --memory = base + resident (finished runs kept in memory) + threads x task
//!  task     = read buffer + files ahead + collect (sort buffer or combine table) + runs being written or merged
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The program itself: code, stacks, allocator slack, plan. Measured at about 10 MiB with two threads.
const BASE_BYTES: usize = 12 << 20;
/// Below this a task could not hold two merge sources beside its write buffer.
pub const MEMORY_BYTES_MIN: usize = 24 << 20;
/// A larger sort buffer saves no merge pass worth having; run offsets within it are 32 bits.
const COLLECT_BYTES_MAX: usize = 1 << 30;
/// Larger reads gain nothing over the kernel's own read-ahead.
const READ_BYTES_MAX: usize = 512 << 10;
/// Ahead of a reader of small files: 32 of 128 KiB, which hide the time of requests to a store in the same region.
const AHEAD_BYTES_MAX: usize = 4 << 20;
/// A smaller read costs more in calls than it saves in memory.
const READ_BYTES_MIN: usize = 32 << 10;
/// No record may be larger, whatever the memory: block lengths are 32 bits.
pub const RECORD_BYTES_MAX: usize = 1 << 30;

/// The memory of one process, divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// What `--memory` said, bytes.
    pub total_bytes: usize,
    /// Finished runs may stay in memory up to this many bytes, over all tasks.
    pub resident_bytes: usize,
    /// What one running task may use, bytes.
    pub task_bytes: usize,
}

impl MemoryPlan {
    /// Divides `total_bytes` among `threads` tasks that run at once.
    pub fn new(total_bytes: usize, threads: usize) -> Self {
        let usable = total_bytes.max(MEMORY_BYTES_MIN) - BASE_BYTES;
        let resident_bytes = usable * 3 / 8;
        let task_bytes = (usable - resident_bytes) / threads.max(1);
        Self { total_bytes, resident_bytes, task_bytes }
    }

    /// The share of one task.
    pub fn task(&self) -> TaskMemory {
        TaskMemory { bytes: self.task_bytes }
    }
}

/// What one running task may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskMemory {
    /// All buffers of the task together, bytes.
    pub bytes: usize,
}

impl TaskMemory {
    /// The buffer between the store and the record reader.
    pub fn read_bytes(self) -> usize {
        (self.bytes / 16).clamp(READ_BYTES_MIN, READ_BYTES_MAX)
    }

    /// The beginnings of the files that are read next.
    pub fn ahead_bytes(self) -> usize {
        (self.bytes / 8).min(AHEAD_BYTES_MAX)
    }

    /// The sort buffer or combine table, index included: what reading and spilling leave.
    pub fn collect_bytes(self) -> usize {
        (self.bytes * 3 / 4).min(COLLECT_BYTES_MAX)
    }

    /// All sources of one merge pass together.
    pub fn merge_bytes(self) -> usize {
        self.bytes * 3 / 4
    }

    /// The largest record (key and value together) that a task accepts.
    pub fn record_bytes_max(self) -> usize {
        (self.bytes / 2).min(RECORD_BYTES_MAX)
    }

    /// The share of a task that merges and collects at the same time (a reduce stage that feeds a shuffle).
    pub fn halved(self) -> Self {
        Self { bytes: self.bytes / 2 }
    }
}

/// Counts what finished runs hold in memory. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct ResidentPool {
    free_bytes: Arc<AtomicUsize>,
}

impl ResidentPool {
    /// A pool of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self { free_bytes: Arc::new(AtomicUsize::new(bytes)) }
    }

    /// An empty reservation, to grow.
    pub fn reserve_none(&self) -> Reservation {
        Reservation { pool: self.clone(), bytes: 0 }
    }

    /// What nobody holds, bytes.
    pub fn free_bytes(&self) -> usize {
        self.free_bytes.load(Ordering::Relaxed)
    }
}

/// Bytes taken from a [`ResidentPool`]; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    pool: ResidentPool,
    bytes: usize,
}

impl Reservation {
    /// Takes `bytes` more, or says that the pool has not got them.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let taken = self
            .pool
            .free_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes))
            .is_ok();
        self.bytes += if taken { bytes } else { 0 };
        taken
    }

    /// Gives everything back.
    pub fn release(&mut self) {
        self.pool.free_bytes.fetch_add(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_no_more_than_the_whole() {
        for total in [MEMORY_BYTES_MIN, 256 << 20, 4 << 30] {
            for threads in [1, 2, 64] {
                let plan = MemoryPlan::new(total, threads);
                assert!(BASE_BYTES + plan.resident_bytes + threads * plan.task_bytes <= total);
            }
        }
    }

    #[test]
    fn a_reservation_takes_only_what_is_free_and_gives_it_back() {
        let pool = ResidentPool::new(100);
        let mut first = pool.reserve_none();
        assert!(first.grow(60));
        assert!(!pool.reserve_none().grow(41), "only 40 are left");
        assert!(first.grow(40));
        assert_eq!(pool.free_bytes(), 0);
        drop(first);
        assert_eq!(pool.free_bytes(), 100);
    }
}
