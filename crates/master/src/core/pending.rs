//! The tasks of a stage that wait for a slot, found by where their input is.
//!
//! Lists by worker hold numbers of tasks that may have been launched since: those are dropped when they come up. So each
//! task is put into and taken out of at most three lists for each time it waits.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_proto::ids::WorkerId;
use gristmill_proto::job::TaskHints;

/// Core workers named by a hint.
const HINT_WORKERS_MAX: usize = 3;
/// Failed tasks that are looked at for one slot.
const RETRIES_LOOKED_AT: usize = 64;
const NOBODY: u32 = u32::MAX;

/// Where the input of a task is, as seen from a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nearness {
    Node,
    Rack,
    Far,
    /// Nothing is known of the input.
    Unknown,
}

/// A free slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub(super) worker: WorkerId,
    pub(super) rack: u32,
    pub(super) now_ms: u64,
    /// Since when the slot waits for a task near it.
    pub(super) waits_since_ms: u64,
    pub(super) delay_node_ms: u64,
    pub(super) delay_rack_ms: u64,
    /// There is no other worker: whoever failed here may try here again.
    pub(super) is_alone: bool,
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: BTreeSet<u32>,
    /// Tasks that failed, the worker where they did, and until when they are kept from it.
    retries: BTreeMap<u32, (WorkerId, u64)>,
    hinted: Vec<WorkerId>,
    numbers: BTreeMap<WorkerId, u32>,
    /// By task: numbers of its hinted workers. Empty: no task has a hint.
    hints: Vec<[u32; HINT_WORKERS_MAX]>,
    by_worker: Vec<Vec<u32>>,
    /// Numbers of hinted workers.
    by_rack: BTreeMap<u32, Vec<u32>>,
    rack_of: Vec<Option<u32>>,
    /// Tasks without a hint, or whose workers are all gone.
    free: Vec<u32>,
}

impl Pending {
    /// All tasks wait.
    pub(super) fn all(tasks: u32) -> Pending {
        Pending { waiting: (0..tasks).collect(), ..Pending::default() }
    }

    pub(super) fn hint(&mut self, tasks: u32, hints: &TaskHints) {
        if self.hints.is_empty() {
            self.hints = vec![[NOBODY; HINT_WORKERS_MAX]; tasks as usize];
        }
        for (task, hint) in (hints.first_task as usize..).zip(&hints.hints) {
            for (at, worker) in hint.workers.iter().take(HINT_WORKERS_MAX).enumerate() {
                self.hints[task][at] = self.number(WorkerId(*worker));
            }
        }
    }

    fn number(&mut self, worker: WorkerId) -> u32 {
        *self.numbers.entry(worker).or_insert_with(|| {
            self.hinted.push(worker);
            self.by_worker.push(Vec::new());
            self.rack_of.push(None);
            self.hinted.len() as u32 - 1
        })
    }

    /// Makes the lists; `rack` of a worker that is here.
    pub(super) fn start(&mut self, rack: impl Fn(WorkerId) -> Option<u32>) {
        if self.hints.is_empty() {
            return;
        }
        // The last comes up first.
        for task in self.waiting.iter().rev() {
            let mut is_near = false;
            for &number in self.hints[*task as usize].iter().filter(|number| **number != NOBODY) {
                self.by_worker[number as usize].push(*task);
                is_near |= rack(self.hinted[number as usize]).is_some();
            }
            if !is_near {
                self.free.push(*task);
            }
        }
        for worker in self.hinted.clone() {
            if let Some(rack) = rack(worker) {
                self.come(worker, rack);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.retries.len()
    }

    pub(super) fn contains(&self, task: u32) -> bool {
        self.waiting.contains(&task) || self.retries.contains_key(&task)
    }

    /// The task waits again.
    pub(super) fn insert(&mut self, task: u32) {
        self.waiting.insert(task);
        let Some(numbers) = self.hints.get(task as usize).copied() else { return };
        let mut is_near = false;
        for number in numbers.into_iter().filter(|number| *number != NOBODY) {
            self.by_worker[number as usize].push(task);
            if let Some(rack) = self.rack_of[number as usize] {
                is_near = true;
                let list = self.by_rack.entry(rack).or_default();
                if list.last() != Some(&number) {
                    list.push(number);
                }
            }
        }
        if !is_near {
            self.free.push(task);
        }
    }

    /// The task failed on `worker`, and waits again.
    pub(super) fn insert_retry(&mut self, task: u32, worker: WorkerId, until_ms: u64) {
        self.waiting.remove(&task);
        self.retries.insert(task, (worker, until_ms));
    }

    /// Somebody runs it, or it is done.
    pub(super) fn remove(&mut self, task: u32) {
        self.waiting.remove(&task);
        self.retries.remove(&task);
    }

    /// A worker has come.
    pub(super) fn come(&mut self, worker: WorkerId, rack: u32) {
        let Some(&number) = self.numbers.get(&worker) else { return };
        if self.rack_of[number as usize].replace(rack) != Some(rack) {
            self.by_rack.entry(rack).or_default().push(number);
        }
    }

    /// A worker has gone, or gets nothing new: nobody waits for it.
    pub(super) fn go(&mut self, worker: WorkerId) {
        let Some(&number) = self.numbers.get(&worker) else { return };
        self.rack_of[number as usize] = None;
        for &task in &self.by_worker[number as usize] {
            let is_here = |number: &u32| *number != NOBODY && self.rack_of[*number as usize].is_some();
            if self.waiting.contains(&task) && !self.hints[task as usize].iter().any(is_here) {
                self.free.push(task);
            }
        }
    }

    /// The best task for the slot, and how near its input is; none if the slot should wait for a nearer one.
    pub(super) fn take(&mut self, offer: &Offer, runnable_ms: u64) -> Option<(u32, Nearness)> {
        if let Some(task) = self.take_retry(offer) {
            return Some((task, self.nearness(task, offer)));
        }
        if self.hints.is_empty() {
            return self.waiting.pop_first().map(|task| (task, Nearness::Unknown));
        }
        if let Some(task) = self.numbers.get(&offer.worker).copied().and_then(|number| self.take_of(number)) {
            return Some((task, Nearness::Node));
        }
        while let Some(task) = self.free.pop() {
            if self.waiting.remove(&task) {
                return Some((task, self.nearness(task, offer)));
            }
        }
        let waited_ms = offer.now_ms.saturating_sub(runnable_ms.max(offer.waits_since_ms));
        if waited_ms < offer.delay_node_ms {
            return None;
        }
        if let Some(task) = self.take_in_rack(offer.rack) {
            return Some((task, Nearness::Rack));
        }
        if waited_ms < offer.delay_node_ms + offer.delay_rack_ms {
            return None;
        }
        self.waiting.pop_first().map(|task| (task, Nearness::Far))
    }

    fn take_retry(&mut self, offer: &Offer) -> Option<u32> {
        let fits = |shunned: &(WorkerId, u64)| {
            offer.is_alone || shunned.0 != offer.worker || shunned.1 <= offer.now_ms
        };
        let looked_at = self.retries.iter().take(RETRIES_LOOKED_AT);
        let (&task, _) = looked_at.into_iter().find(|(_, shunned)| fits(shunned))?;
        self.retries.remove(&task);
        Some(task)
    }

    fn take_of(&mut self, number: u32) -> Option<u32> {
        while let Some(task) = self.by_worker[number as usize].pop() {
            if self.waiting.remove(&task) {
                return Some(task);
            }
        }
        None
    }

    fn take_in_rack(&mut self, rack: u32) -> Option<u32> {
        loop {
            let number = *self.by_rack.get(&rack)?.last()?;
            if self.rack_of[number as usize] == Some(rack)
                && let Some(task) = self.take_of(number)
            {
                return Some(task);
            }
            self.by_rack.get_mut(&rack)?.pop();
        }
    }

    pub(super) fn nearness(&self, task: u32, offer: &Offer) -> Nearness {
        let Some(numbers) = self.hints.get(task as usize) else { return Nearness::Unknown };
        let named: Vec<u32> = numbers.iter().copied().filter(|number| *number != NOBODY).collect();
        if named.is_empty() {
            Nearness::Unknown
        } else if named.iter().any(|number| self.hinted[*number as usize] == offer.worker) {
            Nearness::Node
        } else if named.iter().any(|number| self.rack_of[*number as usize] == Some(offer.rack)) {
            Nearness::Rack
        } else {
            Nearness::Far
        }
    }
}

#[cfg(test)]
mod tests {
    use gristmill_proto::job::TaskHint;

    use super::*;

    fn offer(worker: u64, rack: u32, now_ms: u64) -> Offer {
        Offer {
            worker: WorkerId(worker),
            rack,
            now_ms,
            waits_since_ms: 0,
            delay_node_ms: 100,
            delay_rack_ms: 100,
            is_alone: false,
        }
    }

    fn hinted(workers: &[&[u64]]) -> Pending {
        let hints = workers.iter().map(|workers| TaskHint { bytes: 1, workers: workers.to_vec() });
        let mut pending = Pending::all(workers.len() as u32);
        let hints = TaskHints { stage: 0, first_task: 0, hints: hints.collect() };
        pending.hint(workers.len() as u32, &hints);
        pending
    }

    #[test]
    fn a_slot_waits_for_a_near_task_and_then_takes_any() {
        let mut pending = hinted(&[&[1], &[2], &[3], &[1]]);
        // Workers 1 and 4 share a rack, 2 has another; 3 is not there.
        let racks = BTreeMap::from([(1, 0), (2, 1), (4, 0)]);
        pending.start(|worker| racks.get(&worker.0).copied());
        assert_eq!(pending.take(&offer(1, 0, 0), 0), Some((0, Nearness::Node)));
        assert_eq!(pending.take(&offer(4, 0, 0), 0), Some((2, Nearness::Far)), "nobody waits for worker 3");
        assert_eq!(pending.take(&offer(4, 0, 50), 0), None);
        assert_eq!(pending.take(&offer(4, 0, 100), 0), Some((3, Nearness::Rack)));
        assert_eq!(pending.take(&offer(4, 0, 150), 0), None);
        assert_eq!(pending.take(&offer(4, 0, 200), 0), Some((1, Nearness::Far)));
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn a_task_comes_back_to_its_worker_until_that_goes() {
        let mut pending = hinted(&[&[1]]);
        pending.start(|worker| Some(worker.0 as u32));
        assert_eq!(pending.take(&offer(1, 1, 0), 0), Some((0, Nearness::Node)));
        pending.insert(0);
        assert_eq!(pending.take(&offer(2, 2, 0), 0), None);
        pending.go(WorkerId(1));
        assert_eq!(pending.take(&offer(2, 2, 0), 0), Some((0, Nearness::Far)));
    }

    #[test]
    fn a_failed_task_shuns_its_worker_for_a_while() {
        let mut pending = Pending::all(1);
        pending.insert_retry(0, WorkerId(1), 50);
        assert_eq!(pending.take(&offer(1, 0, 49), 0), None);
        assert_eq!(pending.take(&offer(1, 0, 50), 0), Some((0, Nearness::Unknown)));
        pending.insert_retry(0, WorkerId(1), 50);
        assert_eq!(
            pending.take(&Offer { is_alone: true, ..offer(1, 0, 0) }, 0),
            Some((0, Nearness::Unknown))
        );
        pending.insert_retry(0, WorkerId(1), 50);
        assert_eq!(pending.take(&offer(2, 0, 0), 0), Some((0, Nearness::Unknown)));
    }
}
