//! How many task workers a cluster should have: a pure rule.
//!
//! ```text
//!   tasks wait and no slot is free, for UP_AFTER      as many more as the tasks need, at most twice as many as there are
//!   workers run nothing, for the idle time            so many fewer as were idle all that time
//!   always                                            between the least and the most
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Tasks that wait for less are about to begin.
const UP_AFTER: Duration = Duration::from_secs(2);

/// Between how many task workers a cluster moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRange {
    /// The least,
    pub min: u32,
    /// and the most.
    pub max: u32,
    /// How long a worker runs nothing before it goes.
    pub idle_ms: u64,
}

/// What there is to do, and who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Task workers of the cluster.
    pub workers: u32,
    /// Those of them that run nothing.
    pub idle_workers: u32,
    /// Slots of each.
    pub slots_per_worker: u32,
    /// Slots of all workers that run nothing.
    pub free_slots: u32,
    /// Tasks that have no slot.
    pub tasks_waiting: u64,
}

/// See the top of the file.
#[derive(Debug)]
pub struct Elastic {
    range: TaskRange,
    /// Since when tasks wait.
    waiting_since_ms: Option<u64>,
    /// Since when some workers are idle, and the fewest that were at a time.
    idle: Option<(u64, u32)>,
}

impl Elastic {
    /// For a cluster that has just been made.
    pub fn new(range: TaskRange) -> Elastic {
        Elastic { range, waiting_since_ms: None, idle: None }
    }

    /// How many task workers there should be.
    pub fn wanted(&mut self, now_ms: u64, load: Load) -> u32 {
        let TaskRange { min, max, .. } = self.range;
        let change = self.grown(now_ms, load).or_else(|| self.shrunk(now_ms, load));
        change.unwrap_or(load.workers).clamp(min, max)
    }

    fn grown(&mut self, now_ms: u64, load: Load) -> Option<u32> {
        if load.tasks_waiting == 0 || load.free_slots > 0 {
            self.waiting_since_ms = None;
            return None;
        }
        let since_ms = *self.waiting_since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since_ms) < UP_AFTER.as_millis() as u64 {
            return None;
        }
        // What comes now is looked at anew.
        self.waiting_since_ms = None;
        let needed = load.tasks_waiting.div_ceil(u64::from(load.slots_per_worker.max(1)));
        let more = u32::try_from(needed).unwrap_or(u32::MAX).min(load.workers.max(1));
        Some(load.workers.saturating_add(more))
    }

    fn shrunk(&mut self, now_ms: u64, load: Load) -> Option<u32> {
        if load.idle_workers == 0 || load.tasks_waiting > 0 {
            self.idle = None;
            return None;
        }
        let (since_ms, fewest) = *self.idle.get_or_insert((now_ms, load.idle_workers));
        let fewest = fewest.min(load.idle_workers);
        self.idle = Some((since_ms, fewest));
        if now_ms.saturating_sub(since_ms) < self.range.idle_ms {
            return None;
        }
        self.idle = None;
        Some(load.workers.saturating_sub(fewest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: TaskRange = TaskRange { min: 1, max: 10, idle_ms: 60_000 };

    fn busy(workers: u32, tasks_waiting: u64) -> Load {
        Load { workers, idle_workers: 0, slots_per_worker: 2, free_slots: 0, tasks_waiting }
    }

    fn idle(workers: u32, idle_workers: u32) -> Load {
        let free_slots = idle_workers * 2;
        Load { workers, idle_workers, slots_per_worker: 2, free_slots, tasks_waiting: 0 }
    }

    #[test]
    fn tasks_that_wait_bring_workers_twice_as_many_at_a_time() {
        let mut rule = Elastic::new(RANGE);
        let mut workers = 1;
        let mut grown = Vec::new();
        for now_ms in (0..20_000).step_by(500) {
            let wanted = rule.wanted(now_ms, busy(workers, 1000));
            if wanted != workers {
                grown.push((now_ms, wanted));
                workers = wanted;
            }
        }
        assert_eq!(grown, [(2000, 2), (4500, 4), (7000, 8), (9500, 10)], "and never more than the most");
    }

    #[test]
    fn no_more_come_than_the_tasks_need_or_for_a_moment() {
        let mut rule = Elastic::new(RANGE);
        assert_eq!(rule.wanted(0, busy(4, 3)), 4);
        assert_eq!(rule.wanted(2000, busy(4, 3)), 6, "three tasks, two slots each");
        assert_eq!(rule.wanted(2500, busy(4, 3)), 4);
        assert_eq!(rule.wanted(3000, Load { free_slots: 1, ..busy(4, 3) }), 4);
        assert_eq!(rule.wanted(4600, busy(4, 3)), 4, "they had a slot meanwhile");
    }

    #[test]
    fn who_was_idle_all_the_time_goes_down_to_the_least() {
        let mut rule = Elastic::new(RANGE);
        assert_eq!(rule.wanted(0, idle(6, 5)), 6);
        assert_eq!(rule.wanted(30_000, idle(6, 2)), 6);
        assert_eq!(rule.wanted(60_000, idle(6, 6)), 4, "two were idle all the time");
        assert_eq!(rule.wanted(60_500, idle(4, 4)), 4);
        assert_eq!(rule.wanted(120_500, idle(4, 4)), 1, "one stays");
        assert_eq!(rule.wanted(200_000, idle(1, 1)), 1);
    }

    #[test]
    fn work_forgets_idleness() {
        let mut rule = Elastic::new(RANGE);
        assert_eq!(rule.wanted(0, idle(3, 3)), 3);
        assert_eq!(rule.wanted(59_000, busy(3, 0)), 3);
        assert_eq!(rule.wanted(61_000, idle(3, 3)), 3);
        assert_eq!(rule.wanted(121_000, idle(3, 3)), 1);
    }

    #[test]
    fn a_cluster_below_its_least_gets_workers() {
        assert_eq!(Elastic::new(RANGE).wanted(0, idle(0, 0)), 1);
    }
}
