//! What a replica is worth: good, or why not. A worker's word changes only what it holds itself.

use std::collections::BTreeMap;

use gristmill_proto::attendance::{Refused, ReplicaInfo};
use gristmill_proto::ids::Generation;

use super::block_map::Record;
use super::deletion::Why;
use super::open_block::{Finished, OpenBlock};
use super::roster::Slot;
use super::{Attendant, Blocks, KnownBlock, LOOKUP_AGE_MAX_MS, Outbox};

/// Bad replicas that are remembered, in the whole cluster: about 100 MB. Those beyond count as not there at all: not good,
/// not deleted, and found again by a later report.
const BAD_REPLICAS_MAX: usize = 1_000_000;

/// Why a replica of a complete block is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Of an older generation.
    Stale,
    /// Of a length or a generation that the block never had.
    Wrong,
    /// Its worker, or a reader, found it damaged or gone. Only a new replica there mends this.
    Rotten,
    /// Damaged too but of another generation, or never finished. If its worker lists a good one, that counts.
    Hidden,
}

impl Flaw {
    /// Whether it may be there though its worker does not list it.
    pub(super) fn may_be_unlisted(self) -> bool {
        matches!(self, Flaw::Rotten | Flaw::Hidden)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadReplica {
    pub(super) slot: Slot,
    pub(super) generation: u64,
    pub(super) bytes: u64,
    pub(super) flaw: Flaw,
    pub(super) since_ms: u64,
}

/// What was said of blocks of late, so that an older look-up does not undo it.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The replication it was given, or None: it was forgotten.
    now: BTreeMap<u64, Option<u8>>,
    before: BTreeMap<u64, Option<u8>>,
    turned_ms: u64,
}

impl Recent {
    pub(super) fn is_forgotten(&self, block: u64) -> bool {
        self.get(block) == Some(None)
    }

    fn replication(&self, block: u64) -> Option<u8> {
        self.get(block).flatten()
    }

    fn get(&self, block: u64) -> Option<Option<u8>> {
        self.now.get(&block).or_else(|| self.before.get(&block)).copied()
    }

    pub(super) fn forget(&mut self, block: u64) {
        self.now.insert(block, None);
    }

    pub(super) fn set_replication(&mut self, block: u64, replication: u8) {
        self.now.insert(block, Some(replication));
    }

    /// What is said stays for at least `LOOKUP_AGE_MAX_MS`, and at most about twice that.
    pub(super) fn age(&mut self, now_ms: u64) {
        if now_ms >= self.turned_ms + LOOKUP_AGE_MAX_MS {
            self.before = std::mem::take(&mut self.now);
            self.turned_ms = now_ms;
        }
    }
}

/// How a worker spoke of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// `Changes.finished`: it has just been written.
    Announced,
    /// A slice of a full report.
    Listed,
}

impl Blocks {
    /// Replicas that became durable on this worker, each with what the namespace says of its block now.
    pub fn finished(
        &mut self,
        from: Attendant,
        replicas: &[(ReplicaInfo, Option<KnownBlock>)],
        now_ms: u64,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        let slot = self.attend(from, now_ms)?;
        for (replica, known) in replicas {
            self.note_change(slot, replica.block);
            self.judge(slot, *replica, *known, Word::Announced, out);
        }
        Ok(())
    }

    /// Replicas that this worker has no more.
    pub fn deleted(&mut self, from: Attendant, replicas: &[ReplicaInfo], now_ms: u64) -> Result<(), Refused> {
        let slot = self.attend(from, now_ms)?;
        for &ReplicaInfo { block, generation, .. } in replicas {
            self.note_change(slot, block);
            self.confirm_deletion(slot, block, generation);
            if let Some(open) = self.open.get_mut(&block) {
                open.finished.retain(|finished| finished.slot != slot || finished.generation > generation);
            }
            self.drop_bad(block, |bad| bad.slot == slot && bad.generation <= generation);
            // A late word of an older replica says nothing of the good one.
            if self.map.get(block).is_some_and(|entry| entry.generation() <= generation) {
                self.release(slot, block);
                self.review(block);
            }
        }
        Ok(())
    }

    /// Replicas that this worker found to be damaged, or gone.
    pub fn bad(
        &mut self,
        from: Attendant,
        replicas: &[(ReplicaInfo, Option<KnownBlock>)],
        now_ms: u64,
    ) -> Result<(), Refused> {
        let slot = self.attend(from, now_ms)?;
        for &(replica, looked_up) in replicas {
            let block = replica.block;
            self.note_change(slot, block);
            let Some(known) = self.current(block, looked_up) else {
                self.disown(slot, replica);
                continue;
            };
            self.learn(block, known);
            if let Some(open) = self.open.get_mut(&block) {
                open.drop_slot(slot);
                // It is to be deleted in the end.
                open.former.retain(|(former, _)| *former != from.worker);
                open.former.push((from.worker, replica.generation));
                continue;
            }
            if self.is_doomed_bad(slot, replica) {
                continue;
            }
            let is_late = replica.generation < known.generation.0;
            if is_late && self.map.holders(block).contains(&slot) {
                continue;
            }
            // Only of the good one we believe that it must not be taken for good again.
            let is_current = replica.generation == known.generation.0;
            self.set_bad(slot, replica, if is_current { Flaw::Rotten } else { Flaw::Hidden });
            self.review(block);
        }
        Ok(())
    }

    /// What is true of a block, of a look-up and of what was said since. None: there is no such block.
    pub(super) fn current(&self, block: u64, looked_up: Option<KnownBlock>) -> Option<KnownBlock> {
        if self.recent.is_forgotten(block) {
            return None;
        }
        if let Some(open) = self.open.get(&block) {
            let completed = looked_up.filter(|known| known.complete && known.generation.0 >= open.generation);
            return completed.or(Some(KnownBlock {
                generation: Generation(open.generation.max(looked_up.map_or(0, |known| known.generation.0))),
                bytes: 0,
                replication: u32::from(open.replication),
                complete: false,
            }));
        }
        let Some(entry) = self.map.get(block) else { return looked_up };
        let newer = looked_up.filter(|known| known.generation.0 > entry.generation());
        newer.or(Some(KnownBlock {
            generation: Generation(entry.generation()),
            bytes: entry.bytes(),
            replication: entry.replication(),
            complete: true,
        }))
    }

    /// Makes what we hold of the block agree with what is true of it.
    pub(super) fn learn(&mut self, block: u64, known: KnownBlock) {
        let record = Record {
            generation: known.generation.0,
            bytes: known.bytes,
            replication: self.recent.replication(block).unwrap_or(pack_replication(known.replication)),
        };
        match (known.complete, self.map.get(block).map(|entry| entry.generation())) {
            (true, Some(generation)) if generation >= record.generation => {}
            (true, Some(_)) => {
                self.reopen(block);
                self.close(block, record);
            }
            (true, None) if self.open.contains_key(&block) => {
                self.close(block, record);
                self.safety.add();
            }
            (true, None) => self.map.insert(block, record),
            (false, before) => {
                if before.is_some() {
                    self.reopen(block);
                    self.safety.subtract();
                }
                let open = self.open.entry(block).or_insert_with(|| OpenBlock {
                    generation: record.generation,
                    replication: record.replication,
                    ..OpenBlock::default()
                });
                if open.generation < record.generation {
                    open.rebuild(record.generation, &[]);
                }
            }
        }
    }

    /// Decides on one replica. False: its block is unknown.
    pub(super) fn judge(
        &mut self,
        slot: Slot,
        replica: ReplicaInfo,
        looked_up: Option<KnownBlock>,
        word: Word,
        out: &mut Outbox,
    ) -> bool {
        let ReplicaInfo { block, generation, bytes } = replica;
        let Some(known) = self.current(block, looked_up) else {
            self.disown(slot, replica);
            return false;
        };
        self.learn(block, known);
        if !known.complete {
            self.note_finished(block, Finished { slot, generation, bytes }, out);
            return true;
        }
        let good = generation == known.generation.0 && bytes == known.bytes;
        if good && word == Word::Listed && self.map.holders(block).contains(&slot) {
            return true;
        }
        // It is counted as gone already.
        if self.roster[slot].deletions.get(&block).is_some_and(|deletion| generation <= deletion.generation) {
            return true;
        }
        let rotten = word == Word::Listed && self.is_rotten(slot, block, generation);
        match good {
            true if rotten => {}
            true => self.hold(slot, block),
            false if generation < known.generation.0 => self.set_bad(slot, replica, Flaw::Stale),
            false => self.set_bad(slot, replica, Flaw::Wrong),
        }
        self.review(block);
        true
    }

    /// Counts a good replica.
    pub(super) fn hold(&mut self, slot: Slot, block: u64) {
        self.drop_bad(block, |bad| bad.slot == slot);
        if self.map.add_holder(block, slot) {
            self.roster[slot].listed += 1;
        }
        self.copy_arrived(block, slot);
    }

    /// Counts a good replica no more.
    pub(super) fn release(&mut self, slot: Slot, block: u64) {
        if self.map.remove_holder(block, slot) {
            self.roster[slot].listed -= 1;
        }
    }

    /// Keeps a replica aside.
    pub(super) fn set_bad(&mut self, slot: Slot, replica: ReplicaInfo, flaw: Flaw) {
        let ReplicaInfo { block, generation, bytes } = replica;
        self.release(slot, block);
        self.drop_bad(block, |bad| bad.slot == slot);
        if self.bad_count < BAD_REPLICAS_MAX {
            let since_ms = self.now_ms;
            self.bad.entry(block).or_default().push(BadReplica { slot, generation, bytes, flaw, since_ms });
            self.bad_count += 1;
        }
    }

    /// Forgets the bad replicas of the block for which `which` holds.
    pub(super) fn drop_bad(&mut self, block: u64, mut which: impl FnMut(&BadReplica) -> bool) {
        let Some(bad) = self.bad.get_mut(&block) else { return };
        let before = bad.len();
        bad.retain(|replica| !which(replica));
        self.bad_count -= before - bad.len();
        if bad.is_empty() {
            self.bad.remove(&block);
        }
    }

    fn is_rotten(&self, slot: Slot, block: u64, generation: u64) -> bool {
        let rotten =
            |bad: &BadReplica| bad.slot == slot && bad.flaw == Flaw::Rotten && bad.generation >= generation;
        self.bad.get(&block).is_some_and(|bad| bad.iter().any(rotten))
    }

    /// The replica is of no block of ours.
    fn disown(&mut self, slot: Slot, replica: ReplicaInfo) {
        self.delete(slot, replica, Why::Unwanted);
    }
}

pub(super) fn pack_replication(replication: u32) -> u8 {
    replication.clamp(1, u32::from(u8::MAX)) as u8
}
