//! Balance: replicas move from full workers to empty ones, slowly, when nothing else wants doing. HDFS: a tool apart.
//!
//! A move is a copy to the emptier worker. When it has arrived, the block has one replica too many, and the one on the
//! fullest worker goes, as with any other block.

use super::roster::{Roster, Slot, Standing, permille};
use super::{Blocks, Outbox};

/// Blocks looked at in a tick for one that can move.
const EXAMINED_A_TICK_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Balance {
    /// Where the search for a block goes on.
    next: u64,
}

impl Blocks {
    pub(super) fn balance_workers(&mut self, out: &mut Outbox) {
        let for_balance = self.copies.for_balance();
        let has_time = self.copies.is_idle && self.sweep.is_done() && self.copies.len() == for_balance;
        if !has_time || for_balance >= self.options.balance_copies {
            return;
        }
        let Some((fullest, emptiest)) = extremes(&self.roster, self.options.balance_threshold_permille)
        else {
            return;
        };
        if let Some(block) = self.movable(fullest, emptiest) {
            self.order_copy(block, fullest, emptiest, true, out);
        }
    }

    /// The next block of which a replica can go from one worker to the other, and nothing gets worse.
    fn movable(&mut self, from: Slot, to: Slot) -> Option<u64> {
        let (mut last, mut found) = (None, None);
        for (block, entry) in self.map.range(self.balance.next, u64::MAX).take(EXAMINED_A_TICK_MAX) {
            last = Some(block);
            let holders = self.map.holders_of(block, entry);
            let counts = self.counts(holders);
            let is_whole = counts.sure == entry.replication() && holders.len() as u32 == counts.sure;
            let is_quiet = self.copies.of(block).is_empty() && !self.bad.contains_key(&block);
            if is_whole
                && is_quiet
                && holders.contains(&from)
                && !holders.contains(&to)
                && self.keeps_racks(holders, from, to)
                && !self.roster[to].deletions.contains_key(&block)
                && self.fits_move(entry.bytes(), from, to)
            {
                found = Some(block);
                break;
            }
        }
        self.balance.next = last.and_then(|last| last.checked_add(1)).unwrap_or(0);
        found
    }

    fn keeps_racks(&self, holders: &[Slot], from: Slot, to: Slot) -> bool {
        let racks = |slots: &mut dyn Iterator<Item = Slot>| {
            let mut racks: Vec<u32> = slots.map(|slot| self.roster[slot].rack).collect();
            racks.sort_unstable();
            racks.dedup();
            racks.len()
        };
        let before = racks(&mut holders.iter().copied());
        let others = holders.iter().copied().filter(|&slot| slot != from);
        racks(&mut others.chain([to])) >= before
    }

    /// Whether the move does not itself make the emptier worker the fuller one, and the budgets allow it.
    fn fits_move(&self, bytes: u64, from: Slot, to: Slot) -> bool {
        let (source, target) = (&self.roster[from], &self.roster[to]);
        let after = permille(target.used_bytes.saturating_add(bytes), target.capacity_bytes);
        after < source.use_permille() && target.remaining_bytes > bytes * 2 && self.may_send(from, bytes)
    }
}

/// The fullest and the emptiest worker, if one of them is too far from the mean.
fn extremes(roster: &Roster, threshold_permille: u64) -> Option<(Slot, Slot)> {
    let members: Vec<Slot> =
        roster.slots().filter(|&slot| roster[slot].standing() == Standing::Sure).collect();
    let sum = |of: fn(&super::roster::Worker) -> u64| members.iter().map(|&slot| of(&roster[slot])).sum();
    let mean = permille(sum(|worker| worker.used_bytes), sum(|worker| worker.capacity_bytes));
    let key = |slot: &Slot| (roster[*slot].use_permille(), *slot);
    let fullest = members.iter().copied().max_by_key(key)?;
    let emptiest = members.iter().copied().min_by_key(key)?;
    let too_full = roster[fullest].use_permille() > mean + threshold_permille;
    let too_empty = roster[emptiest].use_permille() + threshold_permille < mean;
    (fullest != emptiest && (too_full || too_empty)).then_some((fullest, emptiest))
}
