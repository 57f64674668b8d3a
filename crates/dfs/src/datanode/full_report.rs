//! A full report: every finished replica of this worker, in slices, on a stream of its own.

use gristmill_proto::attendance::BlockReport;
use gristmill_proto::ids::{BlockId, Epoch, Incarnation, WorkerId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::block_store::BlockStore;

/// Replicas of one slice: its message stays far below gRPC's limit.
pub(crate) const SLICE_REPLICAS: usize = 10_000;
/// Slices made and not yet sent.
const SLICES_WAITING: usize = 2;

/// Whose report it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReportHead {
    pub(crate) report_id: u64,
    pub(crate) epoch: Epoch,
    pub(crate) worker: WorkerId,
    pub(crate) incarnation: Incarnation,
}

/// The slices of a report, made as they are taken, on a thread that may wait for the store.
pub(crate) fn slices(store: BlockStore, head: ReportHead) -> ReceiverStream<BlockReport> {
    let (sender, receiver) = mpsc::channel(SLICES_WAITING);
    tokio::task::spawn_blocking(move || {
        let mut first = 0;
        loop {
            let slice = slice(&store, head, first);
            let last = slice.last;
            // Nobody takes it: the stream has ended.
            if sender.blocking_send(slice).is_err() || last == u64::MAX {
                return;
            }
            first = last + 1;
        }
    });
    ReceiverStream::new(receiver)
}

/// The slice that starts at `first`.
fn slice(store: &BlockStore, head: ReportHead, first: u64) -> BlockReport {
    // Block 0 is none, so that nothing is missed before the first slice.
    let replicas = store.replicas_after(BlockId(first.saturating_sub(1)), SLICE_REPLICAS);
    let full = replicas.len() == SLICE_REPLICAS;
    let last = replicas.last().filter(|_| full).map_or(u64::MAX, |replica| replica.block);
    let mut before = 0;
    let mut steps = Vec::with_capacity(replicas.len());
    for replica in &replicas {
        steps.push(replica.block - before);
        before = replica.block;
    }
    BlockReport {
        report_id: head.report_id,
        epoch: head.epoch.0,
        worker: head.worker.0,
        incarnation: head.incarnation.0.to_vec().into(),
        first,
        last,
        block_steps: steps,
        generations: replicas.iter().map(|replica| replica.generation).collect(),
        bytes: replicas.iter().map(|replica| replica.bytes).collect(),
    }
}
