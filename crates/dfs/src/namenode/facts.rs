//! What only the block side knows about a call, and the namespace must know before it takes the call.

use std::ops::DerefMut;

use gristmill_proto::ids::{BlockId, Generation, InodeId, WorkerId};
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::{BlockEnd, Locate};

use super::blocks::{Blocks, PipelineWanted};
use super::namespace::{Caller, Facts, Snapshot, StoreError, UnderConstruction};

/// The facts about a call of `caller` on `host`. `blocks` gives the block side, each time for a moment: no read of the
/// namespace happens meanwhile.
pub fn facts<B: DerefMut<Target = Blocks>>(
    blocks: impl Fn() -> B,
    snapshot: &Snapshot,
    caller: &Caller,
    request: &Request,
    host: &str,
) -> Result<Facts, StoreError> {
    let facts = Facts::default();
    Ok(match request {
        Request::AddBlock(add) => {
            let Some(file) = open_file(snapshot, add.inode)? else { return Ok(facts) };
            let exclude: Vec<WorkerId> = add.exclude.iter().copied().map(WorkerId).collect();
            let mut blocks = blocks();
            let targets = blocks.choose_pipeline(&PipelineWanted {
                writer_host: host,
                replication: file.replication,
                block_bytes: file.block_bytes,
                exclude: &exclude,
                keep: &[],
            });
            Facts { durable: is_durable(&blocks, &file, add.previous.as_ref()), targets, ..facts }
        }
        Request::Complete(complete) => {
            let Some(file) = open_file(snapshot, complete.inode)? else { return Ok(facts) };
            Facts { durable: is_durable(&blocks(), &file, complete.last.as_ref()), ..facts }
        }
        Request::RebuildBlock(rebuild) => {
            Facts { targets: blocks().locations(BlockId(rebuild.block), host), ..facts }
        }
        Request::Append(append) => match last_block(snapshot, caller, &append.path) {
            Some(block) => Facts { targets: blocks().locations(block, host), ..facts },
            None => facts,
        },
        Request::SetWorkerState(set) => {
            Facts { is_known: blocks().replica(WorkerId(set.worker)).is_some(), ..facts }
        }
        _ => facts,
    })
}

/// What is known of a file that is being written; nothing if it is not.
fn open_file(snapshot: &Snapshot, inode: u64) -> Result<Option<UnderConstruction>, StoreError> {
    snapshot.under_construction(InodeId(inode))
}

/// Whether enough copies of a block are known to be on disk, so that its writer may leave it behind.
fn is_durable(blocks: &Blocks, file: &UnderConstruction, end: Option<&BlockEnd>) -> bool {
    end.is_none_or(|end| {
        let good = blocks.good_replicas(BlockId(end.block), Generation(end.generation), end.bytes);
        good >= blocks.durable_wanted(BlockId(end.block), file.block_bytes, file.replication)
    })
}

/// The last block of a file that is to be appended to. What is wrong with the path the namespace says.
fn last_block(snapshot: &Snapshot, caller: &Caller, path: &str) -> Option<BlockId> {
    let bytes = snapshot.stat(caller, path).map_or(0, |entry| entry.bytes);
    let last = Locate { path: path.to_owned(), offset: bytes.saturating_sub(1), bytes: 1, limit: 1 };
    let located = snapshot.locate(caller, &last).ok()?;
    located.blocks.into_iter().next().map(|block| BlockId(block.block))
}
