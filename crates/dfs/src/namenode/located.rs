//! Completes the blocks of an answer with what only the master's soft state knows: where the replicas are, which is
//! nearest, and a token to reach them.

use gristmill_proto::ids::{BlockId, WorkerId};
use gristmill_proto::namespace::LocatedBlock;
use gristmill_proto::namespace::answer::Outcome;

use super::state::{READ, State, WRITE};

/// Completes every block of `outcome`, the answer to a call of `user` on `host`.
pub(crate) fn complete(state: &State, outcome: &mut Outcome, user: &str, host: &str) {
    match outcome {
        Outcome::Located(file) => {
            for block in &mut file.blocks {
                find_replicas(state, block, host);
                block.token = state.token(block.block, block.generation, READ, user).into();
            }
        }
        Outcome::Block(block) => fill_pipeline(state, block, user),
        Outcome::OpenFile(open) => open.last.iter_mut().for_each(|block| fill_pipeline(state, block, user)),
        _ => {}
    }
}

/// For reading: whatever good replicas are known now, nearest first. While a block is written its pipeline stands in the
/// namespace, and serves what it has.
fn find_replicas(state: &State, block: &mut LocatedBlock, host: &str) {
    let blocks = state.blocks();
    let mut found = blocks.locations(BlockId(block.block), host);
    for replica in &block.replicas {
        let worker = WorkerId(replica.worker);
        if !found.contains(&worker) {
            found.push(worker);
        }
    }
    block.replicas = found.into_iter().filter_map(|worker| blocks.replica(worker)).collect();
}

/// For writing: the pipeline in its order, as it was chosen.
fn fill_pipeline(state: &State, block: &mut LocatedBlock, user: &str) {
    let blocks = state.blocks();
    let pipeline = block.replicas.iter().filter_map(|replica| blocks.replica(WorkerId(replica.worker)));
    block.replicas = pipeline.collect();
    drop(blocks);
    block.token = state.token(block.block, block.generation, READ | WRITE, user).into();
}
