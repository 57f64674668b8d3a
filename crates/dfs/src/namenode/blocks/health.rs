//! What a complete block has, and what it wants.

use std::collections::BTreeSet;
use std::ops::Bound;

use gristmill_proto::ids::{BlockId, WorkerId};
use gristmill_proto::namespace::problem::Kind;
use gristmill_proto::namespace::{SpaceUse, WorkerReport};

use super::block_map::{Entry, NO_QUEUE};
use super::judgement::Flaw;
use super::placement::mix;
use super::roster::{Slot, Standing};
use super::{Blocks, Decision, KnownBlock, Outbox};

/// Queues of blocks that want a copy, most urgent first, as HDFS's `LowRedundancyBlocks`.
const URGENT: u8 = 0; // one replica that counts, or only replicas on leaving workers
const FAR_UNDER: u8 = 1; // less than a third
const UNDER: u8 = 2;
const MISPLACED: u8 = 3; // enough, all on one rack, though there are more racks
/// No replica that could be copied.
const MISSING: u8 = 4;
pub(super) const COPIED_QUEUES: u8 = 4;
/// Blocks told to have lost their last replica in a tick. The others follow.
const BEREFT_A_TICK_MAX: usize = 1000;

/// Blocks that want something, by urgency.
#[derive(Debug, Default)]
pub(super) struct Wanting {
    queues: [BTreeSet<u64>; 5],
    /// Where each queue is gone on with, so that blocks for which nothing can be done do not hide those behind them.
    bookmarks: [u64; 5],
}

impl Wanting {
    fn move_to(&mut self, block: u64, from: u8, to: u8) {
        self.take_out(block, from);
        if let Some(queue) = self.queues.get_mut(usize::from(to)) {
            queue.insert(block);
        }
    }

    pub(super) fn take_out(&mut self, block: u64, from: u8) {
        if let Some(queue) = self.queues.get_mut(usize::from(from)) {
            queue.remove(&block);
        }
    }

    pub(super) fn len(&self, queue: u8) -> usize {
        self.queues[usize::from(queue)].len()
    }

    /// The next blocks of a queue, from its start again after its end.
    pub(super) fn next(&mut self, queue: u8, limit: usize) -> Vec<u64> {
        let (blocks, bookmark) = (&self.queues[usize::from(queue)], &mut self.bookmarks[usize::from(queue)]);
        let ahead = blocks.range(*bookmark..);
        let behind = blocks.range((Bound::Unbounded, Bound::Excluded(*bookmark)));
        let next: Vec<u64> = ahead.chain(behind).take(limit).copied().collect();
        *bookmark = next.last().map_or(0, |last| last.saturating_add(1));
        next
    }
}

/// Replicas of a block by what they are worth.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Good, and not about to leave.
    pub(super) effective: u32,
    /// Of them those because of which others may be deleted.
    pub(super) sure: u32,
    pub(super) draining: u32,
}

/// What a check finds of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockHealth {
    /// What is wrong. Empty: nothing.
    pub problems: Vec<Kind>,
    /// Good replicas on workers that are heard of.
    pub replicas: u32,
    /// How many there should be.
    pub target: u32,
    /// Who holds a replica, good ones first.
    pub workers: Vec<WorkerId>,
}

/// Sums over the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Capacity and use of all workers that are heard of, and blocks in trouble.
    pub space: SpaceUse,
    /// Complete blocks that are known here.
    pub blocks: u64,
    /// Copies under way.
    pub pending_replication: u64,
    /// Replicas to be deleted.
    pub pending_deletion: u64,
    /// Blocks with enough replicas, all on one rack.
    pub misplaced: u64,
    /// Every block was looked at since the last event that concerns many: `missing` and `under_replicated` are exact.
    pub settled: bool,
}

impl Blocks {
    /// Workers with a replica that can be read, nearest to the reader first: its host, its rack, the others; suspects
    /// last. Of a block being written, its pipeline.
    pub fn locations(&self, block: BlockId, reader_host: &str) -> Vec<WorkerId> {
        let mut slots: Vec<Slot> = match self.open.get(&block.0) {
            Some(open) => open.pipeline.iter().filter_map(|&worker| self.roster.slot(worker)).collect(),
            None => self.map.holders(block.0).to_vec(),
        };
        if let Some(open) = self.open.get(&block.0) {
            for finished in &open.finished {
                if !slots.contains(&finished.slot) {
                    slots.push(finished.slot);
                }
            }
        }
        slots.retain(|&slot| self.roster[slot].is_readable());
        let host = self.roster.known_number(reader_host).filter(|_| !reader_host.is_empty());
        let on_host = |slot: Slot| Some(self.roster[slot].host) == host;
        let reader_racks: Vec<u32> = match host {
            Some(_) => self.roster.slots().filter(|&s| on_host(s)).map(|s| self.roster[s].rack).collect(),
            None => Vec::new(),
        };
        let spread = block.0 ^ u64::from(host.unwrap_or(u32::MAX)) << 32;
        slots.sort_by_cached_key(|&slot| {
            let worker = &self.roster[slot];
            let distance = match on_host(slot) {
                true => 0,
                false if reader_racks.contains(&worker.rack) => 1,
                false => 2,
            };
            // Readers of other hosts begin with other workers.
            (!worker.is_up(), distance, mix(spread ^ u64::from(slot).rotate_left(48)))
        });
        slots.into_iter().map(|slot| self.roster[slot].id).collect()
    }

    /// Looks at one block of the namespace. In safe mode nothing is called missing.
    pub fn problems(&self, block: BlockId, known: &KnownBlock) -> BlockHealth {
        let Some(known) = self.current(block.0, Some(*known)) else { return BlockHealth::default() };
        let target = known.replication;
        if !known.complete {
            let workers = self.locations(block, "");
            let replicas = workers.len() as u32;
            return BlockHealth { problems: vec![Kind::Open], replicas, target, workers };
        }
        let known_here = self.map.get(block.0).filter(|entry| entry.generation() == known.generation.0);
        let holders = known_here.map_or(&[][..], |entry| self.map.holders_of(block.0, entry));
        let readable: Vec<Slot> =
            holders.iter().copied().filter(|&slot| self.roster[slot].is_readable()).collect();
        let bad = self.bad.get(&block.0).map_or(&[][..], Vec::as_slice);
        let flawed = bad.iter().filter(|bad| matches!(bad.flaw, Flaw::Wrong | Flaw::Rotten)).count();
        let counts = self.counts(holders);
        let mut problems = Vec::new();
        match (readable.len(), bad.len()) {
            (0, _) if self.safety.is_on() => {}
            (0, 0) => problems.push(Kind::Missing),
            (0, _) => problems.push(Kind::Corrupt),
            _ if counts.effective < target => problems.push(Kind::UnderReplicated),
            _ if counts.effective > target => problems.push(Kind::OverReplicated),
            _ => {}
        }
        if !readable.is_empty() && flawed > 0 {
            problems.push(Kind::CorruptReplica);
        }
        if counts.effective >= 2 && self.is_on_one_rack(holders) {
            problems.push(Kind::Misplaced);
        }
        let replicas = readable.len() as u32;
        let workers =
            readable.iter().copied().chain(bad.iter().map(|bad| bad.slot)).map(|slot| self.roster[slot].id);
        BlockHealth { problems, replicas, target, workers: workers.collect() }
    }

    /// Sums over the cluster.
    pub fn totals(&self) -> Totals {
        let mut space = SpaceUse::default();
        for (_, worker) in self.roster.iter().filter(|(_, worker)| worker.is_readable()) {
            space.capacity_bytes = space.capacity_bytes.saturating_add(worker.capacity_bytes);
            space.used_bytes = space.used_bytes.saturating_add(worker.used_bytes);
            space.remaining_bytes = space.remaining_bytes.saturating_add(worker.remaining_bytes);
        }
        space.under_replicated = (URGENT..=UNDER).map(|queue| self.wanting.len(queue) as u64).sum();
        let bereft = &self.wanting.queues[usize::from(MISSING)];
        // Few blocks have a bad replica and none a good one: the shorter list is gone through.
        space.corrupt = match bereft.len() < self.bad.len() {
            true => bereft.iter().filter(|block| self.bad.contains_key(block)).count() as u64,
            false => self.bad.keys().filter(|block| bereft.contains(block)).count() as u64,
        };
        space.missing = bereft.len() as u64 - space.corrupt;
        Totals {
            space,
            blocks: self.map.len(),
            pending_replication: self.copies.len() as u64,
            pending_deletion: self.pending_deletions(),
            misplaced: self.wanting.len(MISPLACED) as u64,
            settled: self.sweep.is_done() && !self.safety.is_on(),
        }
    }

    /// All workers this master has heard of.
    pub fn worker_reports(&self) -> Vec<WorkerReport> {
        self.roster.iter().map(|(_, worker)| worker.report(self.now_ms)).collect()
    }

    /// Looks at a block after something about it changed: queues it for what it wants, deletes what it does not.
    pub(super) fn review(&mut self, block: u64) {
        let Some(entry) = self.map.get(block) else { return };
        // When safe mode ends all blocks are looked at.
        if self.safety.is_on() {
            return;
        }
        let holders = self.map.holders_of(block, entry);
        let queue = self.queue_for(entry, holders, self.counts(holders));
        let before = entry.queue();
        if queue != before {
            self.wanting.move_to(block, before, queue);
            self.map.set_queue(block, queue);
            if queue == MISSING {
                self.bereft.insert(block);
            } else if queue == NO_QUEUE {
                self.copies.forget_setbacks(block);
            }
        }
        self.trim(block);
    }

    pub(super) fn counts(&self, holders: &[Slot]) -> Counts {
        let mut counts = Counts::default();
        for &holder in holders {
            match self.roster[holder].standing() {
                Standing::Sure => (counts.effective, counts.sure) = (counts.effective + 1, counts.sure + 1),
                Standing::Counted => counts.effective += 1,
                Standing::Draining => counts.draining += 1,
                Standing::Gone => {}
            }
        }
        counts
    }

    /// The queue a block belongs in.
    pub(super) fn queue_for(&self, entry: &Entry, holders: &[Slot], counts: Counts) -> u8 {
        let wanted = entry.replication();
        match counts.effective {
            0 if counts.draining == 0 => MISSING,
            have if have >= wanted && wanted >= 2 && self.is_on_one_rack(holders) => MISPLACED,
            have if have >= wanted => NO_QUEUE,
            0 | 1 => URGENT,
            have if have * 3 < wanted => FAR_UNDER,
            _ => UNDER,
        }
    }

    /// Whether the replicas that count are on one rack, though there are more racks.
    fn is_on_one_rack(&self, holders: &[Slot]) -> bool {
        let counts = |slot: Slot| matches!(self.roster[slot].standing(), Standing::Sure | Standing::Counted);
        let mut racks = holders.iter().filter(|&&slot| counts(slot)).map(|&slot| self.roster[slot].rack);
        let first = racks.next();
        self.roster.racks >= 2 && racks.all(|rack| Some(rack) == first)
    }

    /// Tells of blocks that lost their last good replica, if they still have none.
    pub(super) fn announce_bereft(&mut self, out: &mut Outbox) {
        for _ in 0..BEREFT_A_TICK_MAX {
            let Some(block) = self.bereft.pop_first() else { return };
            if self.map.get(block).is_some_and(|entry| entry.queue() == MISSING) {
                let has_bad = self.bad.contains_key(&block);
                let block = BlockId(block);
                out.decisions.push(if has_bad {
                    Decision::Corrupt { block }
                } else {
                    Decision::Missing { block }
                });
            }
        }
    }
}
