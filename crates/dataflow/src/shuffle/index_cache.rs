//! Indexes of map outputs that were read lately: each of a thousand reduce tasks asks for a part of the same ones.

use crate::run_file::RunIndex;
use gristmill_proto::ids::AttemptId;
use std::collections::HashMap;
use std::sync::Arc;

/// The index of a split of 64 MiB takes about 60 KiB. A larger one than all this is read anew each time.
const BYTES_MAX: usize = 8 << 20;
/// Small ones: who makes room looks at all of them.
const ENTRIES_MAX: usize = 1024;

/// The least recently used one goes first.
#[derive(Debug, Default)]
pub(super) struct IndexCache {
    entries: HashMap<AttemptId, Cached>,
    bytes: usize,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Cached {
    index: Arc<RunIndex>,
    bytes: usize,
    used: u64,
}

impl IndexCache {
    pub(super) fn get(&mut self, attempt: AttemptId) -> Option<Arc<RunIndex>> {
        self.clock += 1;
        let cached = self.entries.get_mut(&attempt)?;
        cached.used = self.clock;
        Some(cached.index.clone())
    }

    pub(super) fn put(&mut self, attempt: AttemptId, index: Arc<RunIndex>) {
        self.forget(attempt);
        let bytes = index.memory_bytes();
        if bytes > BYTES_MAX {
            return;
        }
        while self.bytes + bytes > BYTES_MAX || self.entries.len() >= ENTRIES_MAX {
            let oldest =
                self.entries.iter().min_by_key(|(_, cached)| cached.used).map(|(attempt, _)| *attempt);
            let Some(oldest) = oldest else { break };
            self.forget(oldest);
        }
        self.clock += 1;
        self.bytes += bytes;
        self.entries.insert(attempt, Cached { index, bytes, used: self.clock });
    }

    pub(super) fn forget(&mut self, attempt: AttemptId) {
        if let Some(cached) = self.entries.remove(&attempt) {
            self.bytes -= cached.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proto::ids::{JobId, TaskId};

    #[test]
    fn it_keeps_what_was_used_last_and_no_more_than_its_limit() {
        let attempt = |task| TaskId { job: JobId([1; 16]), stage: 0, task }.attempt(0);
        let mut cache = IndexCache::default();
        for task in 0..2 * ENTRIES_MAX as u32 {
            cache.put(attempt(task), Arc::default());
            assert!(cache.get(attempt(0)).is_some(), "the first is used again and again");
        }
        assert_eq!(cache.entries.len(), ENTRIES_MAX);
        assert!(cache.get(attempt(1)).is_none() && cache.get(attempt(2000)).is_some());
        cache.forget(attempt(0));
        assert!(cache.get(attempt(0)).is_none());
    }
}
