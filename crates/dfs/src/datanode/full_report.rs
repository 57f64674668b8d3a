//! A full report: every replica of this worker but copies under way, in slices, on a stream of its own.

use gristmill_proto::attendance::{BlockReport, ReplicaInfo};
use gristmill_proto::ids::{BlockId, Epoch, Incarnation, WorkerId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::block_store::BlockStore;

/// Replicas of one slice: its message stays far below gRPC's limit.
pub(crate) const SLICE_REPLICAS: usize = 10_000;
/// Unfinished replicas of one slice. Those beyond are reported when these are gone.
const SLICE_UNFINISHED: usize = 1_000;
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
        let unfinished = store.unfinished_replicas();
        let mut first = 0_u64;
        loop {
            // Block 0 is none, so that nothing is missed before the first slice.
            let replicas = store.replicas_after(BlockId(first.saturating_sub(1)), SLICE_REPLICAS);
            let full = replicas.len() == SLICE_REPLICAS;
            let last = replicas.last().filter(|_| full).map_or(u64::MAX, |replica| replica.block);
            let mut slice = slice(head, (first, last), &replicas);
            let of_slice = unfinished.iter().filter(|replica| (first..=last).contains(&replica.block));
            slice.unfinished = of_slice.take(SLICE_UNFINISHED).copied().collect();
            // Nobody takes it: the stream has ended.
            if sender.blocking_send(slice).is_err() || last == u64::MAX {
                return;
            }
            first = last + 1;
        }
    });
    ReceiverStream::new(receiver)
}

/// The replicas of all blocks from `first` to `last`, in order.
fn slice(head: ReportHead, (first, last): (u64, u64), replicas: &[ReplicaInfo]) -> BlockReport {
    let mut before = 0;
    let mut block_steps = Vec::with_capacity(replicas.len());
    for replica in replicas {
        block_steps.push(replica.block - before);
        before = replica.block;
    }
    BlockReport {
        report_id: head.report_id,
        epoch: head.epoch.0,
        worker: head.worker.0,
        incarnation: head.incarnation.0.to_vec().into(),
        first,
        last,
        block_steps,
        generations: replicas.iter().map(|replica| replica.generation).collect(),
        bytes: replicas.iter().map(|replica| replica.bytes).collect(),
        unfinished: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_ids_go_as_steps() {
        let (worker, incarnation) = (WorkerId(3), Incarnation([9; 16]));
        let head = ReportHead { report_id: 1, epoch: Epoch(2), worker, incarnation };
        let replicas = [(5, 1), (6, 2), (100, 3), (u64::MAX, 4)].map(|(block, generation)| ReplicaInfo {
            block,
            generation,
            bytes: generation * 10,
        });
        let slice = slice(head, (4, u64::MAX), &replicas);
        assert_eq!((slice.first, slice.last, slice.worker), (4, u64::MAX, 3));
        assert_eq!(slice.block_steps, [5, 1, 94, u64::MAX - 100]);
        assert_eq!((slice.generations, slice.bytes), (vec![1, 2, 3, 4], vec![10, 20, 30, 40]));
    }
}
