//! Where a new replica goes: Hadoop's default (`BlockPlacementPolicyDefault`). The first on the writer's host, the second on
//! another rack, the third on the rack of the second, the rest anywhere, a rack never too full.

use gristmill_proto::ids::WorkerId;

use super::Blocks;
use super::roster::{Roster, Service, Slot, Worker};

/// A worker must have room for so many more blocks.
const ROOM_BLOCKS: u64 = 2;
/// So few pipelines are never too many for a worker.
const BUSY_WRITERS_MIN: u64 = 4;
/// A worker with so many times the average of pipelines is busy, as `dfs.namenode.redundancy.considerLoad.factor`.
const BUSY_FACTOR: u64 = 2;

/// Reasons against a worker that is possible, the sum of which is to be least. A host is lost more often than a rack, and
/// load passes.
const SAME_HOST: u32 = 8;
const WRONG_RACK: u32 = 4;
const BUSY: u32 = 2;
const NOT_LOCAL: u32 = 1;

/// For whom a pipeline is chosen.
#[derive(Clone, Copy, Debug)]
pub struct PipelineWanted<'a> {
    /// Where the writer runs, as workers name their hosts. May be empty.
    pub writer_host: &'a str,
    /// Workers wanted.
    pub replication: u32,
    /// The longest that the block can become, in bytes.
    pub block_bytes: u64,
    /// Workers that failed this writer.
    pub exclude: &'a [WorkerId],
    /// Workers that stay, when a pipeline is filled up again: they are not in the answer.
    pub keep: &'a [WorkerId],
}

/// What one more replica must fit.
pub(super) struct Wish<'a> {
    /// Where the others are, in order.
    pub(super) others: &'a [Slot],
    pub(super) exclude: &'a [Slot],
    /// The number of the writer's host.
    pub(super) host: Option<u32>,
    /// Replicas there will be in all.
    pub(super) replication: u32,
    pub(super) bytes: u64,
    /// For a copy: its cost, and what may be on its way to a worker.
    pub(super) copy: Option<(u64, u64)>,
}

/// Numbers that look random and follow from a seed (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % end
    }
}

pub(super) fn mix(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Blocks {
    /// The workers for a new block, in the order of the pipeline: as many as wanted, or as there are.
    pub fn choose_pipeline(&mut self, wanted: &PipelineWanted) -> Vec<WorkerId> {
        let slots = |ids: &[WorkerId]| -> Vec<Slot> {
            ids.iter().filter_map(|&worker| self.roster.slot(worker)).collect()
        };
        let (exclude, mut others) = (slots(wanted.exclude), slots(wanted.keep));
        let host = Some(wanted.writer_host).filter(|host| !host.is_empty());
        let host = host.and_then(|host| self.roster.known_number(host));
        let kept = others.len();
        for _ in 0..wanted.replication.saturating_sub(kept as u32) {
            let wish = Wish {
                others: &others,
                exclude: &exclude,
                host,
                replication: wanted.replication,
                bytes: wanted.block_bytes,
                copy: None,
            };
            let Some(slot) = choose(&self.roster, &mut self.dice, &wish) else { break };
            // Until its next heartbeat tells.
            let worker = &mut self.roster[slot];
            worker.writers_given += 1;
            worker.bytes_given = worker.bytes_given.saturating_add(wanted.block_bytes);
            others.push(slot);
        }
        others[kept..].iter().map(|&slot| self.roster[slot].id).collect()
    }
}

/// The best worker: of those with the least against them the emptier of two by chance, so that new workers fill up
/// without being overrun.
pub(super) fn choose(roster: &Roster, dice: &mut Dice, wish: &Wish) -> Option<Slot> {
    let busy_from = busy_from(roster);
    let (mut best, mut count) = (u32::MAX, 0);
    let mut drawn: [Option<Slot>; 2] = [None, None];
    for (slot, worker) in roster.iter() {
        if !fits(worker, slot, wish) {
            continue;
        }
        let against = reasons_against(roster, worker, busy_from, wish);
        if against < best {
            (best, count, drawn) = (against, 1, [Some(slot), Some(slot)]);
        } else if against == best {
            count += 1;
            // Each of `count` equal candidates is drawn with the same chance.
            for drawn in &mut drawn {
                if dice.below(count) == 0 {
                    *drawn = Some(slot);
                }
            }
        }
    }
    let [first, second] = [drawn[0]?, drawn[1]?];
    Some(if roster[first].use_permille() <= roster[second].use_permille() { first } else { second })
}

/// Whether a block of this size may be put on this worker now, or as soon as it is heard again.
pub(super) fn may_come_to(worker: &Worker, block_bytes: u64) -> bool {
    worker.settled
        && worker.service == Service::Serving
        && worker.remaining_bytes >= block_bytes.saturating_mul(ROOM_BLOCKS)
}

fn fits(worker: &Worker, slot: Slot, wish: &Wish) -> bool {
    let promised = worker.bytes_given.saturating_add(worker.incoming_bytes);
    let room = worker.remaining_bytes.saturating_sub(promised);
    let has_budget = wish.copy.is_none_or(|(cost, budget)| {
        worker.incoming_bytes == 0 || worker.incoming_bytes.saturating_add(cost) <= budget
    });
    worker.takes_replicas()
        && has_budget
        && room >= wish.bytes.saturating_mul(ROOM_BLOCKS)
        && !wish.others.contains(&slot)
        && !wish.exclude.contains(&slot)
}

/// From how many pipelines on a worker is busy.
fn busy_from(roster: &Roster) -> u64 {
    let takers = roster.iter().filter(|(_, worker)| worker.takes_replicas());
    let (count, writers) =
        takers.fold((0, 0), |(count, writers), (_, worker)| (count + 1, writers + pipelines(worker)));
    (BUSY_FACTOR * writers / std::cmp::max(count, 1)).max(BUSY_WRITERS_MIN)
}

fn pipelines(worker: &Worker) -> u64 {
    u64::from(worker.writers) + u64::from(worker.writers_given)
}

fn reasons_against(roster: &Roster, worker: &Worker, busy_from: u64, wish: &Wish) -> u32 {
    let rack_of = |slot: Slot| roster[slot].rack;
    let is_right_rack = match *wish.others {
        [] => true,
        [first] => worker.rack != rack_of(first),
        [first, second] if rack_of(first) == rack_of(second) => worker.rack != rack_of(first),
        [_, second] => worker.rack == rack_of(second),
        _ => {
            let on_rack = wish.others.iter().filter(|&&other| rack_of(other) == worker.rack).count();
            let cap = wish.replication.saturating_sub(1) as usize / roster.racks.max(1) + 2;
            on_rack < cap
        }
    };
    let is_local = !wish.others.is_empty() || wish.host.is_none_or(|host| worker.host == host);
    let same_host = wish.others.iter().any(|&other| roster[other].host == worker.host);
    let mut against = 0;
    for (holds, reason) in [
        (same_host, SAME_HOST),
        (!is_right_rack, WRONG_RACK),
        (pipelines(worker) > busy_from, BUSY),
        (!is_local, NOT_LOCAL),
    ] {
        against += if holds { reason } else { 0 };
    }
    against
}
