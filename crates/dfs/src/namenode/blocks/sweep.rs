//! Passes over all blocks, a bite a tick: there is no list of the replicas of a worker, so what concerns all of a worker's
//! replicas (it is lost, it leaves, it has reported) is found by going through all blocks.

use super::Blocks;
use super::roster::{Service, Slot, Standing};

/// Blocks looked at in a tick: about two milliseconds.
const BLOCKS_A_TICK_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The pass under way, or the last.
    pass: u64,
    /// Where it goes on. None: no pass is under way.
    next: Option<u64>,
    wanted: bool,
}

impl Sweep {
    /// Asks for a whole pass from now on.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// The first pass that begins after now.
    pub(super) fn next_pass(&self) -> u64 {
        self.pass + 1
    }

    /// Whether all blocks were looked at since the last event that concerns them.
    pub(super) fn is_done(&self) -> bool {
        !self.wanted && self.next.is_none()
    }
}

/// What a bite found.
#[derive(Default)]
struct Found {
    /// Replicas on lost workers.
    gone: Vec<(u64, Slot)>,
    /// Blocks that want something, or nothing any more.
    odd: Vec<u64>,
    /// A leaving worker, once for each of its blocks that is not yet safe elsewhere.
    undrained: Vec<Slot>,
    last: Option<u64>,
    seen: usize,
}

impl Blocks {
    pub(super) fn continue_sweep(&mut self) {
        let Some(next) = self.sweep.next.or_else(|| self.begin_pass()) else { return };
        let found = self.look_at(next);
        for (block, slot) in found.gone {
            self.release(slot, block);
        }
        for block in found.odd {
            self.review(block);
        }
        for slot in found.undrained {
            self.roster[slot].undrained += 1;
        }
        self.sweep.next =
            found.last.filter(|_| found.seen == BLOCKS_A_TICK_MAX).and_then(|last| last.checked_add(1));
        if self.sweep.next.is_none() {
            self.end_pass();
        }
    }

    fn begin_pass(&mut self) -> Option<u64> {
        let leaving = |service| matches!(service, Service::Decommissioning { .. });
        if !self.sweep.wanted && !self.roster.iter().any(|(_, worker)| leaving(worker.service)) {
            return None;
        }
        self.sweep.wanted = false;
        self.sweep.pass += 1;
        for slot in self.roster.slots() {
            self.roster[slot].undrained = 0;
        }
        let gone: Vec<u64> = self
            .bad
            .iter()
            .filter(|(_, bad)| bad.iter().any(|bad| self.roster[bad.slot].standing() == Standing::Gone))
            .map(|(&block, _)| block)
            .collect();
        for block in gone {
            let roster = std::mem::take(&mut self.roster);
            self.drop_bad(block, |bad| roster[bad.slot].standing() == Standing::Gone);
            self.roster = roster;
        }
        Some(0)
    }

    fn look_at(&self, next: u64) -> Found {
        let mut found = Found::default();
        for (block, entry) in self.map.range(next, u64::MAX).take(BLOCKS_A_TICK_MAX) {
            (found.last, found.seen) = (Some(block), found.seen + 1);
            let holders = self.map.holders_of(block, entry);
            let counts = self.counts(holders);
            let enough = entry.replication().min(self.roster.takers as u32).max(1);
            for &holder in holders {
                match self.roster[holder].standing() {
                    Standing::Gone => found.gone.push((block, holder)),
                    Standing::Draining if counts.effective < enough => found.undrained.push(holder),
                    _ => {}
                }
            }
            let is_odd = counts.effective + counts.draining < holders.len() as u32
                || self.queue_for(entry, holders, counts) != entry.queue()
                || counts.sure > entry.replication()
                || (!self.bad.is_empty() && self.bad.contains_key(&block));
            if is_odd {
                found.odd.push(block);
            }
        }
        found
    }

    /// Workers whose blocks were all safe elsewhere in a whole pass may leave.
    fn end_pass(&mut self) {
        for slot in self.roster.slots() {
            let worker = &self.roster[slot];
            let Service::Decommissioning { pass } = worker.service else { continue };
            let id = worker.id;
            let is_written_to = self.open.values().any(|open| {
                open.pipeline.contains(&id) || open.finished.iter().any(|finished| finished.slot == slot)
            });
            let known = worker.is_up() && worker.fresh && worker.undrained == 0;
            if pass <= self.sweep.pass && known && !is_written_to && !self.safety.is_on() {
                self.roster[slot].service = Service::Decommissioned;
            }
        }
    }
}
