//! Blocks and their replicas: who has which, and what is to be copied, deleted and recovered.
//!
//! ```text
//!   workers ── register, heartbeat, finished, deleted, bad, report_slice, stopped ──┐
//!   namespace ── expect, block_opened, block_complete, replication_changed, forget ─┤
//!                                                                                   v
//!   time ── tick ──────────────────────────────────────────────────────────────> Blocks
//!                                                                                   │ Outbox
//!   workers <── orders: Replicate, Delete, StopWriter, Settle, SendReport ──────────┤
//!   namespace <── decisions: Recovered, ... ────────────────────────────────────────┘
//! ```
//!
//! [`Blocks`] is a pure state machine: no clock (times are milliseconds of the monotonic clock, handed in), no
//! randomness but a seed, no I/O. The same calls give the same orders.
//!
//! **What it may be told.** Messages of a worker come in the order it sent them, or not at all; a message twice, late or
//! of a stream that was replaced changes nothing that matters. A worker carries out deletes in the order of its orders: when
//! it reads its first slice of a report, those before `SendReport` are done or have failed; when it registers, those of
//! earlier streams are done or dropped. It answers each replica of a `Delete` with `Changes.deleted`, there or not.
//! What a commit of the namespace changed (`block_opened`, `block_complete`, ...) is handed in before its client is answered.
//! Look-ups in the namespace ([`KnownBlock`]) may be up to [`LOOKUP_AGE_MAX_MS`] old: what was said about the block since
//! (`block_opened`, `block_complete`, `forget`) is taken to be newer.
//!
//! **Where things are**, in reading order: `block_map` (complete blocks and their good replicas, 24 bytes a block),
//! `open_block` (blocks being written), `roster` (workers), `attendance` (who comes and goes), `judgement` (what a replica
//! is worth), `report` (full reports), `health` (what a block wants), `copies` (re-replication), `deletion`, `placement`,
//! `recovery`, `safe_mode`, `sweep` (passes over all blocks: lost and leaving workers), `balance`.

mod attendance;
mod balance;
mod block_map;
mod copies;
mod deletion;
mod health;
mod judgement;
mod open_block;
mod placement;
mod recovery;
mod report;
mod roster;
mod safe_mode;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};

use gristmill_proto::attendance::order::Order;
use gristmill_proto::ids::{BlockId, ClusterId, Epoch, Generation, Incarnation, InodeId, WorkerId};
use gristmill_proto::namespace::{self, set_worker_state};

pub use health::{BlockHealth, Totals};
pub use placement::PipelineWanted;
pub use recovery::RecoveryWanted;
pub use report::{ReportError, Slice, SliceAnswer, replicas_of};

use balance::Balance;
use block_map::BlockMap;
use copies::Copies;
use health::Wanting;
use judgement::{BadReplica, Recent};
use open_block::OpenBlock;
use placement::Dice;
use recovery::Recovery;
use report::Reports;
use roster::Roster;
use safe_mode::Safety;
use sweep::Sweep;

/// How old a look-up in the namespace may be when it is handed in, in milliseconds: so long forgotten blocks are
/// remembered.
pub const LOOKUP_AGE_MAX_MS: u64 = 10_000;

/// The numbers of [`Blocks`]. The defaults are right for a cluster; tests turn them down.
#[derive(Clone, Debug)]
pub struct BlocksOptions {
    /// A worker silent for so long gets nothing new.
    pub suspect_after_ms: u64,
    /// A worker silent for so long is lost: its replicas are made again elsewhere, and it must register again.
    /// HDFS: 630 s.
    pub lost_after_ms: u64,
    /// Bytes of copies under way from, and to, one worker. Two full blocks, as `dfs.namenode.replication.max-streams`;
    /// more of small ones.
    pub copy_budget_bytes: u64,
    /// A copy that took longer is given up and tried elsewhere; each time it may take twice as long.
    pub copy_timeout_ms: u64,
    /// Safe mode ends when so many thousandths of the complete blocks have a replica ...
    pub safe_mode_permille: u64,
    /// ... for so long. HDFS: 30 s.
    pub safe_mode_grace_ms: u64,
    /// For so long the replicas of a worker in maintenance count though it may be away.
    pub maintenance_limit_ms: u64,
    /// Each worker's full report is ordered again after so long. HDFS: 6 h.
    pub report_interval_ms: u64,
    /// A report of which no slice came for so long is ordered again.
    pub report_timeout_ms: u64,
    /// A recovery waits so long for answers before it decides with those it has; then twice as long each time.
    pub recovery_timeout_ms: u64,
    /// A delete that is not confirmed for so long makes the master ask for a full report.
    pub deletion_timeout_ms: u64,
    /// Workers fuller or emptier than the mean by so many thousandths of their capacity are balanced.
    /// HDFS: 10 %, by a tool.
    pub balance_threshold_permille: u64,
    /// Copies for balance at once, in the whole cluster. 0: never balance.
    pub balance_copies: usize,
}

impl Default for BlocksOptions {
    fn default() -> BlocksOptions {
        BlocksOptions {
            suspect_after_ms: 5_000,
            lost_after_ms: 12_000,
            copy_budget_bytes: 128 << 20,
            copy_timeout_ms: 60_000,
            safe_mode_permille: 999,
            safe_mode_grace_ms: 1_000,
            maintenance_limit_ms: 3_600_000,
            report_interval_ms: 6 * 3_600_000,
            report_timeout_ms: 60_000,
            recovery_timeout_ms: 5_000,
            deletion_timeout_ms: 60_000,
            balance_threshold_permille: 100,
            balance_copies: 2,
        }
    }
}

/// What the namespace says of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownBlock {
    /// The generation a good replica has.
    pub generation: Generation,
    /// The length of a good replica, if `complete`.
    pub bytes: u64,
    /// Replicas wanted. More than 255 are taken as 255.
    pub replication: u32,
    /// False: it is being written.
    pub complete: bool,
}

/// One stream of a worker, as [`register`](Blocks::register) admitted it. Each message that came on the stream is handed in
/// with it; those of a stream that was replaced are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attendant {
    /// The worker's id.
    pub worker: WorkerId,
    /// The life of its process.
    pub incarnation: Incarnation,
    /// Rises with each stream.
    stream: u64,
}

/// What [`Blocks`] wants done. The shell sends it, and empties it.
#[derive(Debug, Default)]
pub struct Outbox {
    /// To the newest stream of each worker, in this order; an order to a worker without a stream is dropped. Addresses
    /// are filled in; epochs and tokens are the shell's.
    pub orders: Vec<(WorkerId, Order)>,
    /// For the namespace.
    pub decisions: Vec<Decision>,
}

/// What the namespace, or the operator, must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The block's replicas agree on `bytes` under `generation`, durably. With 0 bytes there is nothing to keep: the
    /// block can be dropped. Answer with `block_complete`, or `forget`.
    Recovered {
        /// The file.
        inode: InodeId,
        /// Its last block.
        block: BlockId,
        /// The generation of `begin_recovery`.
        generation: Generation,
        /// The length they agree on.
        bytes: u64,
    },
    /// No worker that has what was promised to the writer answers. It is tried again for ever.
    RecoveryWaits {
        /// The file.
        inode: InodeId,
        /// Its last block.
        block: BlockId,
        /// Tries so far.
        attempts: u32,
    },
    /// Replicas may have settled under this generation and are out of reach: begin again with a newer generation.
    RecoveryFailed {
        /// The file.
        inode: InodeId,
        /// Its last block.
        block: BlockId,
        /// The generation that is used up.
        generation: Generation,
    },
    /// All replicas of a complete block are bad. They are kept.
    Corrupt {
        /// The block.
        block: BlockId,
    },
    /// A worker was away for maintenance for as long as that may take: it is to serve again.
    MaintenanceOver {
        /// The worker.
        worker: WorkerId,
    },
    /// No worker has a replica of a complete block, good or bad.
    Missing {
        /// The block.
        block: BlockId,
    },
}

/// All blocks, replicas and workers, as far as the master has been told.
pub struct Blocks {
    options: BlocksOptions,
    cluster: ClusterId,
    epoch: Epoch,
    /// The latest time anybody told.
    now_ms: u64,
    /// Workers that were given an id by this master.
    named: u64,
    /// Streams admitted so far, from a number that no other master's streams have.
    streams: u64,
    dice: Dice,
    /// Complete blocks and their good replicas. A replica is here, in `bad`, or in a worker's `deletions`.
    map: BlockMap,
    /// Replicas of complete blocks that are not good, by block.
    bad: BTreeMap<u64, Vec<BadReplica>>,
    bad_count: usize,
    /// Blocks being written. Never also in `map`.
    open: BTreeMap<u64, OpenBlock>,
    recoveries: BTreeMap<u64, Recovery>,
    recent: Recent,
    roster: Roster,
    /// What an operator wants of workers that have not registered with this master.
    awaited: BTreeMap<WorkerId, set_worker_state::State>,
    reports: Reports,
    wanting: Wanting,
    copies: Copies,
    /// Blocks that lost their last good replica since the last tick.
    bereft: BTreeSet<u64>,
    safety: Safety,
    sweep: Sweep,
    balance: Balance,
}

impl Blocks {
    /// A master that has just started: it knows no worker. It is in safe mode if the namespace has complete blocks.
    ///
    /// The shell then streams all blocks of the namespace once through [`expect`](Blocks::expect), beside its other work.
    pub fn new(
        options: BlocksOptions,
        cluster: ClusterId,
        epoch: Epoch,
        seed: u64,
        total_complete_blocks: u64,
        now_ms: u64,
    ) -> Blocks {
        Blocks {
            cluster,
            epoch,
            now_ms,
            named: 0,
            streams: epoch.0 << 32,
            dice: Dice::new(seed),
            map: BlockMap::default(),
            bad: BTreeMap::new(),
            bad_count: 0,
            open: BTreeMap::new(),
            recoveries: BTreeMap::new(),
            recent: Recent::default(),
            roster: Roster::default(),
            awaited: BTreeMap::new(),
            reports: Reports::new(epoch),
            wanting: Wanting::default(),
            copies: Copies::default(),
            bereft: BTreeSet::new(),
            safety: Safety::new(total_complete_blocks),
            sweep: Sweep::default(),
            balance: Balance::default(),
            options,
        }
    }

    /// Time passes. To be called every 100 to 1000 ms; the work of one call is bounded.
    pub fn tick(&mut self, now_ms: u64, out: &mut Outbox) {
        self.observe(now_ms);
        self.watch_workers(out);
        self.order_reports(out);
        self.watch_safe_mode();
        self.expire_copies();
        self.continue_sweep();
        if !self.safety.is_on() {
            self.announce_bereft(out);
            self.schedule_copies(out);
            self.balance_workers(out);
            self.send_deletions(out);
        }
        self.advance_recoveries(out);
        self.recent.age(self.now_ms);
    }

    /// The namespace's blocks after a start, in any order and any bites; twice is fine. Until a block is expected or
    /// reported nobody misses it.
    pub fn expect(&mut self, blocks: &[(BlockId, KnownBlock)]) {
        for (block, known) in blocks {
            if let Some(known) = self.current(block.0, Some(*known)) {
                self.learn(block.0, known);
                self.review(block.0);
            }
        }
    }

    /// An operator asks that a block be looked at again: workers that failed its copies may be tried at once.
    pub fn repair(&mut self, block: BlockId, known: &KnownBlock) {
        self.copies.forget_setbacks(block.0);
        self.expect(&[(block, *known)]);
    }

    /// All blocks were handed to [`expect`](Blocks::expect): the number of complete blocks is now known exactly.
    pub fn expected_all(&mut self) {
        self.safety.expected_all();
    }

    /// Addresses of a worker, for those that are sent to it.
    pub fn replica(&self, worker: WorkerId) -> Option<namespace::Replica> {
        self.roster.slot(worker).map(|slot| self.roster[slot].replica.clone())
    }

    /// Time never runs backwards here, whatever is handed in.
    fn observe(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }
}

/// The replication of new files by the number of live core workers, as EMR: 1 for 1 to 3, 2 for 4 to 9, 3 from 10 on.
pub fn default_replication(workers: usize) -> u32 {
    match workers {
        0..=3 => 1,
        4..=9 => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replication_follows_the_size_of_the_cluster() {
        let expected = [(0, 1), (1, 1), (3, 1), (4, 2), (9, 2), (10, 3), (1000, 3)];
        assert_eq!(
            expected.map(|(workers, _)| default_replication(workers)),
            expected.map(|(_, wanted)| wanted)
        );
    }
}
