//! What workers are to delete, and the rule that no block loses its last good replica by our orders (I10).
//!
//! A replica that is to be deleted counts as gone from the moment of the decision: it leaves the block map, or the bad
//! replicas, for its worker's deletions, and is counted nowhere until the worker said that it is gone, or registered
//! again, or listed it in a later report. Just before an order is sent it is looked at once more, and taken back if the
//! block has lost other replicas since.

use gristmill_proto::attendance::order::Order;
use gristmill_proto::attendance::{Delete, ReplicaInfo};

use super::judgement::Flaw;
use super::open_block::Finished;
use super::roster::{Presence, Slot, Standing};
use super::{Blocks, Outbox};

/// Replicas in one order: a message of about 30 KB.
const DELETIONS_A_TICK_MAX: usize = 1000;
/// Orders of one deletion of which nothing is heard. After so many there is nothing to delete.
const SENDS_MAX: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Its block is no more, or never was; or it is what may be left of a copy that was given up.
    Unwanted,
    /// The block has enough good ones.
    Excess,
    /// It is bad, and there are enough good ones.
    Bad,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Deletion {
    /// This and older ones go.
    pub(super) generation: u64,
    bytes: u64,
    why: Why,
    /// When it was ordered. None: it is in the worker's `unsent`.
    sent_ms: Option<u64>,
    /// Orders sent so far.
    sends: u8,
}

impl Deletion {
    pub(super) fn was_sent_before(&self, time_ms: u64) -> bool {
        self.sent_ms.is_some_and(|sent_ms| sent_ms < time_ms)
    }
}

impl Blocks {
    /// Has a worker delete a replica, which is to be counted nowhere from now on.
    pub(super) fn delete(&mut self, slot: Slot, replica: ReplicaInfo, why: Why) {
        let ReplicaInfo { block, generation, bytes } = replica;
        let worker = &mut self.roster[slot];
        // When it comes back it reports what it has.
        if worker.presence == Presence::Lost {
            return;
        }
        let mut deletion = Deletion { generation, bytes, why, sent_ms: None, sends: 0 };
        if let Some(before) = worker.deletions.get_mut(&block) {
            deletion.generation = generation.max(before.generation);
            let is_news = deletion.generation > before.generation;
            if before.sent_ms.is_some() && is_news {
                worker.unsent.push_back(block);
            } else {
                deletion.sent_ms = before.sent_ms;
            }
            *before = deletion;
        } else {
            worker.deletions.insert(block, deletion);
            worker.unsent.push_back(block);
        }
    }

    /// Whether this replica, which turned out to be bad, is to be deleted anyway.
    pub(super) fn is_doomed_bad(&mut self, slot: Slot, replica: ReplicaInfo) -> bool {
        match self.roster[slot].deletions.get_mut(&replica.block) {
            Some(deletion) if replica.generation <= deletion.generation => {
                // It was good, and must not be taken back as such.
                if deletion.why == Why::Excess {
                    deletion.why = Why::Bad;
                }
                true
            }
            _ => false,
        }
    }

    /// The worker says that it has no replica of this generation, or an older one.
    pub(super) fn confirm_deletion(&mut self, slot: Slot, block: u64, generation: u64) {
        let worker = &mut self.roster[slot];
        let Some(deletion) = worker.deletions.get(&block) else { return };
        if deletion.sent_ms.is_some() || generation >= deletion.generation {
            worker.deletions.remove(&block);
        }
    }

    /// A report lists the replica. If the order was sent before the report was asked for, it could not be carried out.
    pub(super) fn redo_deletion(&mut self, slot: Slot, block: u64, ordered_ms: u64) {
        let worker = &mut self.roster[slot];
        if let Some(deletion) = worker.deletions.get_mut(&block)
            && deletion.was_sent_before(ordered_ms)
        {
            deletion.sent_ms = None;
            worker.unsent.push_back(block);
        }
    }

    /// A report does not list the replica, and nothing was heard of the order. If it was good, it is gone. One that is
    /// bad or unfinished may be there and not be listed: the order is sent again.
    pub(super) fn settle_unlisted_deletion(&mut self, slot: Slot, block: u64) {
        let worker = &mut self.roster[slot];
        let Some(deletion) = worker.deletions.get_mut(&block) else { return };
        if deletion.why == Why::Excess || deletion.sends >= SENDS_MAX {
            worker.deletions.remove(&block);
        } else {
            deletion.sent_ms = None;
            worker.unsent.push_back(block);
        }
    }

    pub(super) fn deletion_is_overdue(&mut self, slot: Slot) -> bool {
        let worker = &mut self.roster[slot];
        while let Some(&(sent_ms, block)) = worker.sent.front() {
            let is_pending = |deletion: &Deletion| deletion.sent_ms == Some(sent_ms);
            if worker.deletions.get(&block).is_some_and(is_pending) {
                return self.now_ms >= sent_ms + self.options.deletion_timeout_ms;
            }
            worker.sent.pop_front();
        }
        false
    }

    /// Deletes what a block has too much of, and its bad replicas if it has enough good ones.
    pub(super) fn trim(&mut self, block: u64) {
        let Some(entry) = self.map.get(block) else { return };
        let record = entry.record();
        let wanted = entry.replication();
        if entry.count() as u32 > wanted {
            let mut sure = self.sure_holders(block);
            while sure.len() as u32 > wanted {
                let victim = sure.swap_remove(self.most_dispensable(&sure));
                self.release(victim, block);
                let replica = ReplicaInfo { block, generation: record.generation, bytes: record.bytes };
                self.delete(victim, replica, Why::Excess);
            }
        }
        if !self.bad.is_empty() && self.bad.contains_key(&block) {
            let sure = self.sure_holders(block).len() as u32;
            if sure >= wanted.max(1) {
                self.delete_bad(block, usize::MAX);
            }
        }
    }

    /// Deletes up to `limit` bad replicas of a block, of which there must be a good one.
    pub(super) fn delete_bad(&mut self, block: u64, limit: usize) {
        assert!(self.verified(block) > 0, "block {block} has no good replica");
        let bad: Vec<_> = self.bad.get(&block).map_or(&[][..], Vec::as_slice).to_vec();
        for bad in bad.into_iter().take(limit) {
            self.drop_bad(block, |other| other.slot == bad.slot);
            let replica = ReplicaInfo { block, generation: bad.generation, bytes: bad.bytes };
            self.delete(bad.slot, replica, Why::Bad);
        }
    }

    /// Sends each worker a bounded number of its deletions.
    pub(super) fn send_deletions(&mut self, out: &mut Outbox) {
        for slot in self.roster.slots() {
            if !self.roster[slot].is_up() || self.roster[slot].unsent.is_empty() {
                continue;
            }
            let mut replicas = Vec::new();
            while replicas.len() < DELETIONS_A_TICK_MAX {
                let Some(block) = self.roster[slot].unsent.pop_front() else { break };
                let Some(&deletion) = self.roster[slot].deletions.get(&block) else { continue };
                if deletion.sent_ms.is_none() && self.may_delete(slot, block, deletion) {
                    replicas.push(self.mark_sent(slot, block));
                }
            }
            if !replicas.is_empty() {
                out.orders.push((self.roster[slot].id, Order::Delete(Delete { replicas })));
            }
        }
    }

    pub(super) fn pending_deletions(&self) -> u64 {
        self.roster.iter().map(|(_, worker)| worker.deletions.len() as u64).sum()
    }

    fn mark_sent(&mut self, slot: Slot, block: u64) -> ReplicaInfo {
        let now_ms = self.now_ms;
        let worker = &mut self.roster[slot];
        let deletion = worker.deletions.get_mut(&block).expect("it was there");
        deletion.sent_ms = Some(now_ms);
        deletion.sends = deletion.sends.saturating_add(1);
        worker.sent.push_back((now_ms, block));
        ReplicaInfo { block, generation: deletion.generation, bytes: deletion.bytes }
    }

    /// Whether the order still stands. If not the replica is taken back.
    fn may_delete(&mut self, slot: Slot, block: u64, deletion: Deletion) -> bool {
        let Some(entry) = self.map.get(block) else {
            let is_open = self.open.contains_key(&block);
            if is_open && deletion.why != Why::Unwanted {
                self.take_back(slot, block, deletion);
                return false;
            }
            // Forgotten: nothing of it is needed.
            return true;
        };
        let (wanted, generation) = (entry.replication(), entry.generation());
        let enough = match deletion.why {
            Why::Excess => self.sure_holders(block).len() as u32 >= wanted.max(1),
            Why::Bad | Why::Unwanted => self.verified(block) > 0,
        };
        if !enough {
            self.take_back(slot, block, deletion);
            return false;
        }
        let spares_good = deletion.generation < generation || !self.map.holders(block).contains(&slot);
        assert!(spares_good && self.verified(block) > 0, "the last good replica of block {block} would go");
        true
    }

    /// The replica counts again for what it is. What may be left of a copy is for the worker's next report to tell.
    fn take_back(&mut self, slot: Slot, block: u64, deletion: Deletion) {
        self.roster[slot].deletions.remove(&block);
        // It has a newer one already.
        if self.map.holders(block).contains(&slot) {
            return;
        }
        let Deletion { generation, bytes, why, .. } = deletion;
        if let Some(open) = self.open.get_mut(&block) {
            open.note(Finished { slot, generation, bytes });
            return;
        }
        let Some(entry) = self.map.get(block) else { return };
        if why == Why::Unwanted {
            return;
        }
        let is_same = generation == entry.generation() && bytes == entry.bytes();
        let replica = ReplicaInfo { block, generation, bytes };
        match why {
            Why::Excess if is_same => self.hold(slot, block),
            _ if generation < entry.generation() => self.set_bad(slot, replica, Flaw::Stale),
            _ if is_same => self.set_bad(slot, replica, Flaw::Rotten),
            _ => self.set_bad(slot, replica, Flaw::Wrong),
        }
        self.review(block);
    }

    /// Good replicas on workers that are there and have reported, leaving ones too.
    pub(super) fn verified(&self, block: u64) -> usize {
        let holders = self.map.holders(block).iter();
        holders.filter(|&&slot| self.roster[slot].is_up() && self.roster[slot].fresh).count()
    }

    fn sure_holders(&self, block: u64) -> Vec<Slot> {
        let holders = self.map.holders(block).iter().copied();
        holders.filter(|&slot| self.roster[slot].standing() == Standing::Sure).collect()
    }

    /// Which of these can best be missed: one on a rack that has several, on the fullest worker.
    fn most_dispensable(&self, holders: &[Slot]) -> usize {
        let rack = |slot: Slot| self.roster[slot].rack;
        let host = |slot: Slot| self.roster[slot].host;
        let dispensable = |place: usize| {
            let slot = holders[place];
            let others = || holders.iter().filter(|&&other| other != slot);
            let shares_rack = others().any(|&other| rack(other) == rack(slot));
            let shares_host = others().any(|&other| host(other) == host(slot));
            (shares_rack, shares_host, self.roster[slot].use_permille(), slot)
        };
        (0..holders.len()).max_by_key(|&place| dispensable(place)).expect("there are holders")
    }
}
