//! Whose turn it is: queues share the slots evenly; within a queue priority counts, then who has fewest, then who came
//! first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gristmill_proto::ids::JobId;

/// A job's place among those of its queue.
type Rank = (Reverse<i32>, u32, u64, JobId);

/// What a job told its queue last.
#[derive(Debug)]
pub(super) struct Standing {
    queue: Arc<str>,
    rank: Rank,
    wants: bool,
    wants_early: bool,
}

#[derive(Debug, Default)]
struct Queue {
    running: u32,
    jobs: u32,
    wanting: BTreeSet<Rank>,
    early: BTreeSet<Rank>,
}

#[derive(Debug, Default)]
pub(super) struct Queues {
    queues: BTreeMap<Arc<str>, Queue>,
    /// By running attempts.
    order: BTreeSet<(u32, Arc<str>)>,
    wanting: usize,
    early: usize,
}

impl Queues {
    pub(super) fn join(&mut self, queue: &str, priority: i32, sequence: u64, job: JobId) -> Standing {
        let name = if queue.is_empty() { "default" } else { queue };
        let name = self.queues.get_key_value(name).map_or_else(|| Arc::from(name), |(name, _)| name.clone());
        let queue = self.queues.entry(name.clone()).or_default();
        queue.jobs += 1;
        self.order.insert((queue.running, name.clone()));
        let rank = (Reverse(priority), 0, sequence, job);
        Standing { queue: name, rank, wants: false, wants_early: false }
    }

    /// The job runs so many attempts, and wants more: at once, or when nobody wants at once.
    pub(super) fn update(&mut self, standing: &mut Standing, running: u32, wants: bool, wants_early: bool) {
        if (standing.rank.1, standing.wants, standing.wants_early) == (running, wants, wants_early) {
            return;
        }
        let queue = self.queues.get_mut(&standing.queue).expect("a job's queue stays as long as the job");
        if standing.wants {
            queue.wanting.remove(&standing.rank);
        }
        if standing.wants_early {
            queue.early.remove(&standing.rank);
        }
        let before = queue.running;
        queue.running = before - standing.rank.1 + running;
        standing.rank.1 = running;
        if wants {
            queue.wanting.insert(standing.rank);
        }
        if wants_early {
            queue.early.insert(standing.rank);
        }
        self.wanting = self.wanting + usize::from(wants) - usize::from(standing.wants);
        self.early = self.early + usize::from(wants_early) - usize::from(standing.wants_early);
        (standing.wants, standing.wants_early) = (wants, wants_early);
        let after = queue.running;
        if before != after {
            self.order.remove(&(before, standing.queue.clone()));
            self.order.insert((after, standing.queue.clone()));
        }
    }

    pub(super) fn leave(&mut self, mut standing: Standing) {
        self.update(&mut standing, 0, false, false);
        let queue = self.queues.get_mut(&standing.queue).expect("a job's queue stays as long as the job");
        queue.jobs -= 1;
        if queue.jobs == 0 {
            let running = queue.running;
            self.order.remove(&(running, standing.queue.clone()));
            self.queues.remove(&standing.queue);
        }
    }

    pub(super) fn has_wanting(&self) -> bool {
        self.wanting > 0
    }

    pub(super) fn has_any(&self) -> bool {
        self.wanting + self.early > 0
    }

    /// Jobs that want a slot now, the fairest first.
    pub(super) fn wanting(&self) -> impl Iterator<Item = JobId> {
        let queues = self.order.iter().map(|(_, name)| &self.queues[name]);
        queues.flat_map(|queue| queue.wanting.iter().map(|rank| rank.3))
    }

    /// Jobs whose reduces could begin to fetch.
    pub(super) fn early(&self) -> impl Iterator<Item = JobId> {
        let queues = self.order.iter().map(|(_, name)| &self.queues[name]);
        queues.flat_map(|queue| queue.early.iter().map(|rank| rank.3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_take_turns_and_priority_counts_within_one() {
        let mut queues = Queues::default();
        let mut a = queues.join("", 0, 1, JobId([1; 16]));
        let mut b = queues.join("default", 5, 2, JobId([2; 16]));
        let mut c = queues.join("other", 0, 3, JobId([3; 16]));
        for standing in [&mut a, &mut b, &mut c] {
            queues.update(standing, 0, true, false);
        }
        let order = |queues: &Queues| queues.wanting().map(|job| job.0[0]).collect::<Vec<u8>>();
        assert_eq!(order(&queues), [2, 1, 3]);
        queues.update(&mut b, 1, true, false);
        assert_eq!(order(&queues), [3, 2, 1]);
        queues.update(&mut b, 1, false, true);
        assert_eq!(order(&queues), [3, 1]);
        assert_eq!(queues.early().count(), 1);
        queues.leave(b);
        queues.leave(c);
        assert_eq!(order(&queues), [1]);
        queues.leave(a);
        assert!(!queues.has_any() && queues.order.is_empty() && queues.queues.is_empty());
    }
}
