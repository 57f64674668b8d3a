//! Recovery of a block whose writer is gone, and truncation: the replicas agree on one length under a new generation.
//!
//! ```text
//!   begin ──> Asking: StopWriter to all who may have it ── enough Stopped ──> Settling: Settle to the chosen
//!                 ^                                                              │        │
//!                 └────────────── nobody settled in time ────────────────────────┘        └── enough finished ──> Done
//! ```
//!
//! Once a length went out in a `Settle` it is never changed under that generation: some replica may have taken it.

use std::collections::BTreeMap;

use gristmill_proto::attendance::order::Order;
use gristmill_proto::attendance::{Refused, Settle, StopWriter, Stopped};
use gristmill_proto::ids::{BlockId, Generation, InodeId, WorkerId};

use super::open_block::{Finished, durable_of};
use super::roster::{Presence, Slot};
use super::{Attendant, Blocks, Decision, KnownBlock, Outbox};

/// The time for answers is doubled at most so often.
const DOUBLINGS_MAX: u32 = 4;

/// A block whose replicas are to agree.
#[derive(Clone, Debug)]
pub struct RecoveryWanted {
    /// The file.
    pub inode: InodeId,
    /// Its last block.
    pub block: BlockId,
    /// The new generation: fences all writers before it.
    pub generation: Generation,
    /// So many bytes were promised to be durable.
    pub synced_bytes: u64,
    /// For a truncation: the length to take.
    pub cut_to_bytes: Option<u64>,
    /// Of the file.
    pub replication: u32,
    /// Who may have a replica, as the namespace knows: the last pipeline. Those known here are added.
    pub workers: Vec<WorkerId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    found: bool,
    generation_before: u64,
    bytes: u64,
    /// Its worker had finished it.
    finished: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Asking,
    Settling(Vec<WorkerId>),
    Done,
}

/// The length that went out, and the generation of the replicas it was chosen from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decided {
    bytes: u64,
    generation_before: u64,
}

#[derive(Debug)]
pub(super) struct Recovery {
    wanted: RecoveryWanted,
    asked: BTreeMap<WorkerId, Option<Answer>>,
    decided: Option<Decided>,
    phase: Phase,
    since_ms: u64,
    attempts: u32,
}

/// What follows from the answers so far.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Settle {
        workers: Vec<WorkerId>,
        decided: Decided,
    },
    /// There is nothing, and nothing was promised.
    Drop,
    /// Who has what was promised has not answered.
    Wait,
    /// The length that went out cannot be had any more.
    Fail,
}

impl Recovery {
    pub(super) fn generation(&self) -> u64 {
        self.wanted.generation.0
    }

    /// Whoever may have a replica.
    pub(super) fn asked(&self) -> impl Iterator<Item = WorkerId> {
        self.asked.keys().copied()
    }

    fn is_overdue(&self, now_ms: u64, timeout_ms: u64) -> bool {
        now_ms >= self.since_ms + (timeout_ms << self.attempts.min(DOUBLINGS_MAX))
    }

    fn stop_writer(&self) -> Order {
        Order::StopWriter(StopWriter { block: self.wanted.block.0, generation: self.wanted.generation.0 })
    }

    fn settle(&self, decided: Decided) -> Order {
        let (block, generation) = (self.wanted.block.0, self.wanted.generation.0);
        Order::Settle(Settle { block, generation, bytes: decided.bytes })
    }

    fn choose(&self) -> Choice {
        let all_answered = self.asked.values().all(Option::is_some);
        let found = || {
            let answers = self.asked.iter().filter_map(|(&worker, answer)| Some((worker, (*answer)?)));
            answers.filter(|(_, answer)| answer.found)
        };
        if let Some(decided) = self.decided {
            let own = self.wanted.generation.0;
            let fits = |answer: &Answer| {
                (answer.generation_before == own && answer.bytes == decided.bytes)
                    || (answer.generation_before == decided.generation_before
                        && answer.bytes >= decided.bytes)
            };
            let workers: Vec<WorkerId> =
                found().filter(|(_, answer)| fits(answer)).map(|(worker, _)| worker).collect();
            return match (workers.is_empty(), all_answered) {
                (false, _) => Choice::Settle { workers, decided },
                (true, true) => Choice::Fail,
                (true, false) => Choice::Wait,
            };
        }
        let floor = self.wanted.cut_to_bytes.unwrap_or(0).max(self.wanted.synced_bytes);
        let has_all = |answer: &Answer| answer.bytes >= floor && answer.bytes > 0;
        let newest = found().filter(|(_, answer)| has_all(answer)).map(|(_, a)| a.generation_before).max();
        let Some(generation_before) = newest else {
            return if all_answered { self.choose_remains(floor) } else { Choice::Wait };
        };
        let candidates: Vec<(WorkerId, Answer)> = found()
            .filter(|(_, answer)| answer.generation_before == generation_before && has_all(answer))
            .collect();
        let shortest = candidates.iter().map(|(_, answer)| answer.bytes).min();
        let agreed = most_common(candidates.iter().map(|(_, a)| a).filter(|a| a.finished).map(|a| a.bytes));
        let Some(bytes) = self.wanted.cut_to_bytes.or(agreed).or(shortest) else { return Choice::Wait };
        let long_enough = candidates.iter().filter(|(_, answer)| answer.bytes >= bytes);
        let workers = long_enough.map(|(worker, _)| *worker).collect();
        Choice::Settle { workers, decided: Decided { bytes, generation_before } }
    }

    /// All have answered, and none has as much as was promised: the longest of the newest is all there is.
    fn choose_remains(&self, floor: u64) -> Choice {
        let answers = || self.asked.iter().filter_map(|(&worker, answer)| Some((worker, (*answer)?)));
        let rest = || answers().filter(|(_, answer)| answer.found && answer.bytes > 0);
        let Some(best) = rest().map(|(_, answer)| (answer.generation_before, answer.bytes)).max() else {
            // A promise is not broken because nobody is left who could keep it: he may come back.
            return if floor == 0 { Choice::Drop } else { Choice::Wait };
        };
        let (generation_before, bytes) = best;
        let same = |answer: &Answer| (answer.generation_before, answer.bytes) == best;
        let workers = rest().filter(|(_, answer)| same(answer)).map(|(worker, _)| worker).collect();
        Choice::Settle { workers, decided: Decided { bytes, generation_before } }
    }
}

impl Blocks {
    /// Begins to recover, or truncate, a block. It ends with a [`Decision`]. A newer generation replaces a recovery of the
    /// same block; the same or an older one changes nothing.
    pub fn begin_recovery(&mut self, wanted: RecoveryWanted, now_ms: u64, out: &mut Outbox) {
        self.observe(now_ms);
        let (block, generation) = (wanted.block.0, wanted.generation);
        let is_old = self.recoveries.get(&block).is_some_and(|before| before.wanted.generation >= generation);
        let is_newer = |known: KnownBlock| {
            known.generation > generation || (known.complete && known.generation == generation)
        };
        if is_old || self.recent.is_forgotten(block) || self.current(block, None).is_some_and(is_newer) {
            return;
        }
        let replication = wanted.replication;
        self.learn(block, KnownBlock { generation, bytes: 0, replication, complete: false });
        let mut asked: BTreeMap<WorkerId, Option<Answer>> =
            wanted.workers.iter().map(|&worker| (worker, None)).collect();
        if let Some(open) = self.open.get(&block) {
            let former = open.former.iter().map(|(worker, _)| *worker);
            let finished = open.finished.iter().map(|finished| self.roster[finished.slot].id);
            asked.extend(open.pipeline.iter().copied().chain(former).chain(finished).map(|id| (id, None)));
        }
        let since_ms = self.now_ms;
        let recovery = Recovery { wanted, asked, decided: None, phase: Phase::Asking, since_ms, attempts: 0 };
        out.orders.extend(recovery.asked.keys().map(|&worker| (worker, recovery.stop_writer())));
        self.recoveries.insert(block, recovery);
    }

    /// A worker's writer is fenced.
    pub fn stopped(
        &mut self,
        from: Attendant,
        stopped: &Stopped,
        now_ms: u64,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        let slot = self.attend(from, now_ms)?;
        let Stopped { block, generation, generation_before, bytes, found, .. } = *stopped;
        let said = Finished { slot, generation: generation_before, bytes };
        let finished = self.open.get(&block).is_some_and(|open| open.finished.contains(&said));
        let Some(recovery) = self.recoveries.get_mut(&block) else { return Ok(()) };
        // Answers to an older question are late.
        if recovery.wanted.generation.0 == generation && recovery.phase == Phase::Asking {
            recovery.asked.insert(from.worker, Some(Answer { found, generation_before, bytes, finished }));
            self.advance_recovery(block, out);
        }
        Ok(())
    }

    /// Recoveries that wait for time.
    pub(super) fn advance_recoveries(&mut self, out: &mut Outbox) {
        let blocks: Vec<u64> = self.recoveries.keys().copied().collect();
        for block in blocks {
            self.advance_recovery(block, out);
        }
    }

    /// A worker came back: it may not have heard, or have lost what was not synced.
    pub(super) fn ask_again(&mut self, worker: WorkerId, out: &mut Outbox) {
        for recovery in self.recoveries.values_mut() {
            match (&recovery.phase, recovery.decided) {
                (Phase::Asking, _) if recovery.asked.contains_key(&worker) => {
                    recovery.asked.insert(worker, None);
                    out.orders.push((worker, recovery.stop_writer()));
                }
                (Phase::Settling(chosen), Some(decided)) if chosen.contains(&worker) => {
                    out.orders.push((worker, recovery.settle(decided)));
                }
                _ => {}
            }
        }
    }

    /// A finished replica of a block in recovery: another holder, or one that settled.
    pub(super) fn recovery_learns(&mut self, block: u64, slot: Slot, out: &mut Outbox) {
        let id = self.roster[slot].id;
        let Some(recovery) = self.recoveries.get_mut(&block) else { return };
        if recovery.phase == Phase::Asking && !recovery.asked.contains_key(&id) {
            recovery.asked.insert(id, None);
            out.orders.push((id, recovery.stop_writer()));
        }
        self.advance_recovery(block, out);
    }

    fn advance_recovery(&mut self, block: u64, out: &mut Outbox) {
        let Some(recovery) = self.recoveries.get(&block) else { return };
        let is_overdue = recovery.is_overdue(self.now_ms, self.options.recovery_timeout_ms);
        match &recovery.phase {
            // After a start those who may have it are still coming.
            Phase::Asking if self.safety.is_on() => {}
            Phase::Asking => {
                let is_coming = |worker: &WorkerId| {
                    self.roster.slot(*worker).is_none_or(|slot| self.roster[slot].presence != Presence::Lost)
                };
                let is_awaited = recovery.asked.iter().any(|(id, answer)| answer.is_none() && is_coming(id));
                if !is_awaited || is_overdue {
                    self.choose_length(block, is_overdue, out);
                }
            }
            Phase::Settling(chosen) => {
                let settled = self.settled(block, recovery);
                let could = chosen.len().min(self.live_workers()) as u32;
                let enough = durable_of(recovery.wanted.replication.min(could));
                if settled >= enough || (is_overdue && settled > 0) {
                    self.recovered(block, out);
                } else if is_overdue {
                    self.ask_all_again(block, out);
                }
            }
            Phase::Done => {}
        }
    }

    fn choose_length(&mut self, block: u64, is_overdue: bool, out: &mut Outbox) {
        let now_ms = self.now_ms;
        let Some(recovery) = self.recoveries.get_mut(&block) else { return };
        let RecoveryWanted { inode, block: id, generation, .. } = recovery.wanted;
        match recovery.choose() {
            Choice::Settle { workers, decided } => {
                recovery.decided = Some(decided);
                recovery.since_ms = now_ms;
                out.orders.extend(workers.iter().map(|&worker| (worker, recovery.settle(decided))));
                recovery.phase = Phase::Settling(workers);
            }
            Choice::Drop => {
                recovery.phase = Phase::Done;
                out.decisions.push(Decision::Recovered { inode, block: id, generation, bytes: 0 });
            }
            Choice::Fail => self.fail_recovery(block, out),
            // Whoever settled does not answer; a newer generation makes what it has stale.
            Choice::Wait if is_overdue && recovery.decided.is_some() => self.fail_recovery(block, out),
            Choice::Wait if is_overdue => {
                let attempts = recovery.attempts + 1;
                self.ask_all_again(block, out);
                out.decisions.push(Decision::RecoveryWaits { inode, block: id, attempts });
            }
            Choice::Wait => {}
        }
    }

    fn fail_recovery(&mut self, block: u64, out: &mut Outbox) {
        if let Some(recovery) = self.recoveries.remove(&block) {
            let RecoveryWanted { inode, block, generation, .. } = recovery.wanted;
            out.decisions.push(Decision::RecoveryFailed { inode, block, generation });
        }
    }

    /// Answers of fenced writers hold, but nobody knows whether one that was to settle did.
    fn ask_all_again(&mut self, block: u64, out: &mut Outbox) {
        let now_ms = self.now_ms;
        let Some(recovery) = self.recoveries.get_mut(&block) else { return };
        recovery.attempts += 1;
        recovery.since_ms = now_ms;
        recovery.phase = Phase::Asking;
        recovery.asked.values_mut().for_each(|answer| *answer = None);
        out.orders.extend(recovery.asked.keys().map(|&worker| (worker, recovery.stop_writer())));
    }

    fn recovered(&mut self, block: u64, out: &mut Outbox) {
        let Some(recovery) = self.recoveries.get_mut(&block) else { return };
        let (Phase::Settling(chosen), Some(decided)) =
            (std::mem::replace(&mut recovery.phase, Phase::Done), recovery.decided)
        else {
            return;
        };
        let RecoveryWanted { inode, block: id, generation, .. } = recovery.wanted;
        out.decisions.push(Decision::Recovered { inode, block: id, generation, bytes: decided.bytes });
        // Those that were left out are stale; those that are settling are waited for.
        if let Some(open) = self.open.get_mut(&block) {
            let answers = recovery.asked.iter().filter_map(|(&worker, answer)| Some((worker, (*answer)?)));
            for (worker, answer) in answers.filter(|(_, answer)| answer.found) {
                open.former.retain(|(former, _)| *former != worker);
                open.former.push((worker, answer.generation_before));
            }
            open.former.retain(|(former, _)| !chosen.contains(former));
            open.pipeline = chosen;
        }
    }

    /// Replicas with the decided length under the new generation.
    fn settled(&self, block: u64, recovery: &Recovery) -> u32 {
        recovery.decided.map_or(0, |decided| {
            self.good_replicas(BlockId(block), recovery.wanted.generation, decided.bytes)
        })
    }
}

/// The value that comes most often, of several the greatest.
fn most_common(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts.into_iter().max_by_key(|&(value, count)| (count, value)).map(|(value, _)| value)
}
