//! Re-replication: which worker copies which replica to which other.

use std::collections::BTreeMap;

use gristmill_proto::attendance::order::Order;
use gristmill_proto::attendance::{ReplicaInfo, Replicate, Target};

use super::deletion::Why;
use super::health::COPIED_QUEUES;
use super::placement::{Wish, choose};
use super::roster::{Slot, Standing};
use super::{Blocks, Outbox};

/// Blocks looked at in a tick: some milliseconds, even if there are a thousand workers and nothing can be done.
const EXAMINED_A_TICK_MAX: usize = 2_000;
/// A copy costs at least so much of a worker's budget, however short the block is.
const COPY_COST_MIN_BYTES: u64 = 4 << 20;
/// The time a copy may take is doubled at most so often.
const DOUBLINGS_MAX: u32 = 4;
/// Workers that failed a block's copies are avoided, the latest so many.
const AVOIDED_MAX: usize = 4;
/// Workers picked in vain for one copy because they still have a deletion of the block before them.
const PICKS_MAX: usize = 8;

/// A replica that is on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copy {
    /// None: a writer's pipeline, which is about to finish.
    source: Option<Slot>,
    target: Slot,
    cost: u64,
    due_ms: u64,
    for_balance: bool,
}

/// Copies of a block that did not arrive.
#[derive(Clone, Debug, Default)]
struct Setback {
    attempts: u32,
    sources: Vec<Slot>,
    targets: Vec<Slot>,
}

#[derive(Debug, Default)]
pub(super) struct Copies {
    by_block: BTreeMap<u64, Vec<Copy>>,
    setbacks: BTreeMap<u64, Setback>,
    count: usize,
    /// Nothing is wanted that could be done: there is time for balance.
    pub(super) is_idle: bool,
}

impl Copies {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn for_balance(&self) -> usize {
        self.by_block.values().flatten().filter(|copy| copy.for_balance).count()
    }

    pub(super) fn of(&self, block: u64) -> &[Copy] {
        self.by_block.get(&block).map_or(&[], Vec::as_slice)
    }

    pub(super) fn forget_setbacks(&mut self, block: u64) {
        self.setbacks.remove(&block);
    }
}

/// What came of looking at one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// Copies were ordered, or are under way, or the workers are busy.
    UnderWay,
    /// There is no worker to copy from or to.
    Stuck,
}

impl Blocks {
    /// Orders copies of the blocks that want them, most urgent first, as far as the workers' budgets go.
    pub(super) fn schedule_copies(&mut self, out: &mut Outbox) {
        let mut left = EXAMINED_A_TICK_MAX;
        let mut is_idle = true;
        for queue in 0..COPIED_QUEUES {
            // The less urgent are not starved by urgent ones for which nothing can be done.
            let allowed = left.div_ceil(2);
            is_idle &= self.wanting.len(queue) <= allowed;
            let blocks = self.wanting.next(queue, allowed);
            left -= blocks.len();
            for block in blocks {
                is_idle &= self.copy_block(block, out) == Attempt::Stuck;
            }
        }
        self.copies.is_idle = is_idle;
    }

    /// Gives up copies that take too long. What is left of them at their targets is deleted: it would be in the way of
    /// another copy, and one that arrives after all would be too many. Not at one that has not reported in full since it
    /// registered: it may have had a good replica all the time, which its report will tell.
    pub(super) fn expire_copies(&mut self) {
        let now_ms = self.now_ms;
        let expired = self.take_copies(|_, copy| copy.due_ms <= now_ms);
        for (block, copy) in expired {
            let Some(entry) = self.map.get(block) else { continue };
            let replica = ReplicaInfo { block, generation: entry.generation(), bytes: entry.bytes() };
            let is_short = (entry.count() as u32) < entry.replication();
            if self.roster[copy.target].fresh && !self.map.holders(block).contains(&copy.target) {
                self.delete(copy.target, replica, Why::Unwanted);
            }
            if is_short {
                let setback = self.copies.setbacks.entry(block).or_default();
                setback.attempts += 1;
                avoid(&mut setback.targets, copy.target);
                if let Some(source) = copy.source {
                    avoid(&mut setback.sources, source);
                }
            }
        }
    }

    /// A good replica is on this worker now.
    pub(super) fn copy_arrived(&mut self, block: u64, slot: Slot) {
        if self.copies.by_block.contains_key(&block) {
            self.take_copies_of(block, |copy| copy.target == slot);
        }
    }

    /// A writer's pipeline is about to finish a replica there: it is waited for as for a copy.
    pub(super) fn await_arrival(&mut self, block: u64, target: Slot) {
        let due_ms = self.now_ms + self.options.copy_timeout_ms;
        self.add_copy(block, Copy { source: None, target, cost: 0, due_ms, for_balance: false });
    }

    pub(super) fn cancel_copies_for(&mut self, block: u64) {
        self.take_copies_of(block, |_| true);
        self.copies.forget_setbacks(block);
    }

    /// The worker is lost, or it has forgotten what it was doing.
    pub(super) fn cancel_copies_of(&mut self, slot: Slot) {
        self.take_copies(|_, copy| copy.source == Some(slot) || copy.target == slot);
    }

    /// Orders one copy. The target has no replica of the block.
    pub(super) fn order_copy(
        &mut self,
        block: u64,
        source: Slot,
        target: Slot,
        for_balance: bool,
        out: &mut Outbox,
    ) {
        let Some(entry) = self.map.get(block) else { return };
        let record = entry.record();
        let doublings = self.copies.setbacks.get(&block).map_or(0, |setback| setback.attempts);
        let due_ms = self.now_ms + (self.options.copy_timeout_ms << doublings.min(DOUBLINGS_MAX));
        let cost = cost_of(record.bytes);
        self.add_copy(block, Copy { source: Some(source), target, cost, due_ms, for_balance });
        let to = &self.roster[target];
        let order = Replicate {
            block,
            generation: record.generation,
            bytes: record.bytes,
            targets: vec![Target { worker: to.id.0, address: to.replica.address.clone() }],
            token: Default::default(),
        };
        out.orders.push((self.roster[source].id, Order::Replicate(order)));
    }

    /// Whether the worker may send one more copy of this length.
    pub(super) fn may_send(&self, slot: Slot, bytes: u64) -> bool {
        let worker = &self.roster[slot];
        let budget = self.options.copy_budget_bytes;
        worker.outgoing_bytes == 0 || worker.outgoing_bytes.saturating_add(cost_of(bytes)) <= budget
    }

    fn copy_block(&mut self, block: u64, out: &mut Outbox) -> Attempt {
        let Some(entry) = self.map.get(block) else { return Attempt::Stuck };
        let (bytes, replication) = (entry.bytes(), entry.replication());
        let holders = self.map.holders_of(block, entry).to_vec();
        let counts = self.counts(&holders);
        // Enough, but on one rack: one more.
        let wanted = replication.saturating_sub(counts.effective).max(1) as usize;
        let under_way = self.copies.of(block).len();
        if under_way >= wanted {
            return Attempt::UnderWay;
        }
        let mut attempt = Attempt::Stuck;
        for _ in under_way..wanted {
            let Some(source) = self.choose_source(block, &holders, bytes) else { break };
            if !self.may_send(source, bytes) {
                return Attempt::UnderWay;
            }
            let misplaced = counts.effective >= replication;
            let Some(target) = self.choose_target(block, &holders, bytes, misplaced) else {
                attempt = self.make_room(block, attempt);
                break;
            };
            self.order_copy(block, source, target, false, out);
            attempt = Attempt::UnderWay;
        }
        attempt
    }

    /// The least busy of the good holders; leaving ones first, as they do nothing else; those that failed last.
    fn choose_source(&self, block: u64, holders: &[Slot], bytes: u64) -> Option<Slot> {
        let failed = self.copies.setbacks.get(&block).map_or(&[][..], |setback| &setback.sources);
        let sources = holders.iter().copied().filter(|&slot| self.roster[slot].is_up());
        sources.min_by_key(|slot| {
            let worker = &self.roster[*slot];
            let stays = worker.standing() != Standing::Draining;
            (failed.contains(slot), !self.may_send(*slot, bytes), stays, worker.outgoing_bytes, *slot)
        })
    }

    fn choose_target(&mut self, block: u64, holders: &[Slot], bytes: u64, misplaced: bool) -> Option<Slot> {
        let counts = |slot: Slot| matches!(self.roster[slot].standing(), Standing::Sure | Standing::Counted);
        let mut others: Vec<Slot> = holders.iter().copied().filter(|&slot| counts(slot)).collect();
        others.extend(self.copies.of(block).iter().map(|copy| copy.target));
        let mut exclude = holders.to_vec();
        exclude.extend(self.bad.get(&block).into_iter().flatten().map(|bad| bad.slot));
        if let Some(setback) = self.copies.setbacks.get(&block) {
            exclude.extend_from_slice(&setback.targets);
        }
        let replication = self.map.get(block)?.replication();
        for _ in 0..PICKS_MAX {
            let wish = Wish {
                others: &others,
                exclude: &exclude,
                host: None,
                replication,
                bytes,
                copy: Some((cost_of(bytes), self.options.copy_budget_bytes)),
            };
            let slot = choose(&self.roster, &mut self.dice, &wish)?;
            let same_rack =
                others.first().is_some_and(|&other| self.roster[other].rack == self.roster[slot].rack);
            if misplaced && same_rack {
                return None;
            }
            // A delete on its way there would take the new replica too.
            if !self.roster[slot].deletions.contains_key(&block) {
                return Some(slot);
            }
            exclude.push(slot);
        }
        None
    }

    /// No worker can take a copy. Those that failed may be tried again. And bad replicas go, for there will not be more good
    /// ones, and perhaps a bad one takes the place of a good one.
    fn make_room(&mut self, block: u64, attempt: Attempt) -> Attempt {
        if let Some(setback) = self.copies.setbacks.get_mut(&block)
            && !(setback.targets.is_empty() && setback.sources.is_empty())
        {
            setback.targets.clear();
            setback.sources.clear();
            return Attempt::UnderWay;
        }
        if self.bad.contains_key(&block) && self.verified(block) > 0 && !self.has_busy_target(block) {
            self.delete_bad(block, 1);
            return Attempt::UnderWay;
        }
        attempt
    }

    /// Whether there is a worker without any replica of the block that could take one later.
    fn has_busy_target(&self, block: u64) -> bool {
        let holders = self.map.holders(block);
        let has_bad = |slot| self.bad.get(&block).is_some_and(|bad| bad.iter().any(|bad| bad.slot == slot));
        let is_target = |slot| self.copies.of(block).iter().any(|copy| copy.target == slot);
        self.roster.iter().any(|(slot, worker)| {
            worker.takes_replicas()
                && worker.incoming_bytes > 0
                && !holders.contains(&slot)
                && !has_bad(slot)
                && !is_target(slot)
        })
    }

    fn add_copy(&mut self, block: u64, copy: Copy) {
        self.roster[copy.target].incoming_bytes += copy.cost;
        if let Some(source) = copy.source {
            self.roster[source].outgoing_bytes += copy.cost;
        }
        self.copies.by_block.entry(block).or_default().push(copy);
        self.copies.count += 1;
    }

    /// Ends the copies for which `which` holds.
    fn take_copies(&mut self, which: impl Fn(u64, &Copy) -> bool) -> Vec<(u64, Copy)> {
        let holds = |(block, copies): (&u64, &Vec<Copy>)| {
            copies.iter().any(|copy| which(*block, copy)).then_some(*block)
        };
        let blocks: Vec<u64> = self.copies.by_block.iter().filter_map(holds).collect();
        let mut taken = Vec::new();
        for block in blocks {
            let copies = self.take_copies_of(block, |copy| which(block, copy));
            taken.extend(copies.into_iter().map(|copy| (block, copy)));
        }
        taken
    }

    fn take_copies_of(&mut self, block: u64, which: impl Fn(&Copy) -> bool) -> Vec<Copy> {
        let Some(copies) = self.copies.by_block.get_mut(&block) else { return Vec::new() };
        let taken: Vec<Copy> = copies.extract_if(.., |copy| which(copy)).collect();
        if copies.is_empty() {
            self.copies.by_block.remove(&block);
        }
        self.copies.count -= taken.len();
        for copy in &taken {
            self.roster[copy.target].incoming_bytes -= copy.cost;
            if let Some(source) = copy.source {
                self.roster[source].outgoing_bytes -= copy.cost;
            }
        }
        taken
    }
}

fn cost_of(bytes: u64) -> u64 {
    bytes.max(COPY_COST_MIN_BYTES)
}

fn avoid(avoided: &mut Vec<Slot>, slot: Slot) {
    if !avoided.contains(&slot) {
        if avoided.len() == AVOIDED_MAX {
            avoided.remove(0);
        }
        avoided.push(slot);
    }
}
