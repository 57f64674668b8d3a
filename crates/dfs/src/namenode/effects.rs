//! What the namespace and the block side have to say to each other.

use gristmill_proto::ids::WorkerId;

use super::blocks::{Blocks, Decision, KnownBlock, Outbox, RecoveryWanted};
use super::namespace::{Action, BlockRecord, Effect, Snapshot, StoreError};

impl From<BlockRecord> for KnownBlock {
    fn from(record: BlockRecord) -> KnownBlock {
        let BlockRecord { generation, bytes, replication, complete, .. } = record;
        KnownBlock { generation, bytes, replication, complete }
    }
}

/// Tells the block side what a change of the namespace means to it. `snapshot` holds the change.
pub fn take(
    blocks: &mut Blocks,
    snapshot: &Snapshot,
    effect: Effect,
    now_ms: u64,
    out: &mut Outbox,
) -> Result<(), StoreError> {
    match effect {
        Effect::BlockAdded { block, generation, replication, workers } => {
            blocks.block_opened(block, generation, replication, &workers);
        }
        Effect::BlockRebuilt { block, generation, workers } => {
            if let Some(record) = snapshot.block(block)? {
                blocks.block_opened(block, generation, record.replication, &workers);
            }
        }
        Effect::BlockReopened { block, generation, .. } => {
            if let Some(record) = snapshot.block(block)? {
                let workers: Vec<WorkerId> = blocks.locations(block, "");
                blocks.block_opened(block, generation, record.replication, &workers);
            }
        }
        Effect::BlockComplete { block, generation, bytes, replication } => {
            blocks.block_complete(block, generation, bytes, replication);
        }
        Effect::ReplicationChanged { blocks: changed, replication } => {
            changed.into_iter().for_each(|block| blocks.replication_changed(block, replication));
        }
        Effect::Forgotten(forgotten) => blocks.forget(&forgotten),
        Effect::StopWriters { inode, block, generation, synced_bytes, target_bytes, workers, .. } => {
            let replication = snapshot.block(block)?.map_or(1, |record| record.replication);
            let wanted = RecoveryWanted {
                inode,
                block,
                generation,
                synced_bytes,
                cut_to_bytes: target_bytes,
                replication,
                workers,
            };
            blocks.begin_recovery(wanted, now_ms, out);
        }
        Effect::WorkerStateSet { worker, state } => blocks.set_worker_state(worker, state, now_ms),
        Effect::SafeModeSet(on) => blocks.set_safe_mode(on),
        // Bounded actions come again with the next tick.
        Effect::Unfinished => {}
    }
    Ok(())
}

/// What the namespace has to do because the block side decided something.
pub fn action_of(decision: Decision) -> Option<Action> {
    match decision {
        Decision::Recovered { inode, block, generation, bytes } => {
            tracing::info!(%inode, %block, %generation, bytes, "block recovered");
            Some(Action::FinishRecovery { inode, block, generation, bytes })
        }
        Decision::RecoveryFailed { inode, block, generation } => {
            tracing::warn!(%inode, %block, %generation, "recovery begins again: replicas that may have settled are out of reach");
            Some(Action::BeginRecovery { inode, holder: None })
        }
        Decision::RecoveryWaits { inode, block, attempts } => {
            tracing::warn!(%inode, %block, attempts, "recovery waits for a worker that has what was promised");
            None
        }
        Decision::MaintenanceOver { worker } => {
            tracing::warn!(%worker, "maintenance took too long: it is over, and what the worker has is copied");
            Some(Action::EndMaintenance { worker })
        }
        Decision::Corrupt { block } => {
            tracing::error!(%block, "all replicas are bad: they are kept");
            None
        }
        Decision::Missing { block } => {
            tracing::error!(%block, "no worker has a replica");
            None
        }
    }
}
