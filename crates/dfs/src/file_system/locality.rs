//! Which workers hold what a job reads.

use gristmill_proto::ids::WorkerId;
use gristmill_proto::namespace::LocatedBlock;

use super::access::{Access, AccessError};
use super::failure::FsError;
use crate::client::DfsClient;
use crate::uri::{Place, Uri};

/// More workers for one range are of no use to whoever schedules.
const WORKERS_MAX: usize = 3;
/// Blocks asked for in one call.
const PAGE_BLOCKS: u32 = 100;

/// The client of this process for the cluster of `uri`, which is of `dfs://`.
pub fn client_of(uri: &Uri) -> Result<DfsClient, AccessError> {
    Access::from_environment().client(uri)
}

/// For each range (from, to) of a file of `dfs://`: the workers that hold most of its bytes, best first, at most 3.
/// Elsewhere, and where nobody holds anything: none.
pub fn locality(uri: &Uri, ranges: &[(u64, u64)]) -> Result<Vec<Vec<WorkerId>>, AccessError> {
    if !matches!(uri.place(), Place::Dfs { .. }) {
        return Ok(vec![Vec::new(); ranges.len()]);
    }
    let access = Access::from_environment();
    let file_system = access.dfs(uri)?;
    let blocks = blocks_of(ranges, |from, bytes| file_system.blocks(uri, from, bytes, PAGE_BLOCKS))?;
    Ok(ranges.iter().map(|range| holders(&blocks, *range)).collect())
}

/// One page of blocks, and whether there are more.
pub(super) type Page = (Vec<LocatedBlock>, bool);

/// All blocks that overlap any of the ranges, in order; `page` gives some from an offset on.
fn blocks_of(
    ranges: &[(u64, u64)],
    mut page: impl FnMut(u64, u64) -> Result<Page, FsError>,
) -> Result<Vec<LocatedBlock>, FsError> {
    let mut wanted: Vec<(u64, u64)> = ranges.iter().copied().filter(|(from, to)| from < to).collect();
    wanted.sort_unstable();
    let end = wanted.iter().map(|(_, to)| *to).max().unwrap_or_default();
    let mut blocks: Vec<LocatedBlock> = Vec::new();
    let mut known = 0;
    for (from, to) in wanted {
        while known.max(from) < to {
            let offset = known.max(from);
            let (found, more) = page(offset, end - offset)?;
            let reached = found.last().map_or(u64::MAX, |last| last.offset + last.bytes);
            // A page that leads nowhere ends the search.
            known = if more && reached > offset { reached } else { u64::MAX };
            blocks.extend(found);
        }
    }
    Ok(blocks)
}

/// Who holds most of a range; of equals, who is named first.
fn holders(blocks: &[LocatedBlock], (from, to): (u64, u64)) -> Vec<WorkerId> {
    if from >= to {
        return Vec::new();
    }
    let first = blocks.partition_point(|block| block.offset + block.bytes <= from);
    let mut held: Vec<(WorkerId, u64)> = Vec::new();
    for block in blocks[first..].iter().take_while(|block| block.offset < to) {
        let bytes = to.min(block.offset + block.bytes) - from.max(block.offset);
        for replica in &block.replicas {
            let worker = WorkerId(replica.worker);
            match held.iter_mut().find(|(holder, _)| *holder == worker) {
                Some((_, sum)) => *sum += bytes,
                None => held.push((worker, bytes)),
            }
        }
    }
    held.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    held.into_iter().take(WORKERS_MAX).map(|(worker, _)| worker).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proto::namespace::Replica;

    /// Blocks of 10 bytes, the one of number n on these workers.
    fn file(replicas: &[&[u64]]) -> Vec<LocatedBlock> {
        let replica = |worker: &u64| Replica { worker: *worker, ..Replica::default() };
        let block = |(number, workers): (usize, &&[u64])| LocatedBlock {
            offset: number as u64 * 10,
            bytes: 10,
            replicas: workers.iter().map(replica).collect(),
            ..LocatedBlock::default()
        };
        replicas.iter().enumerate().map(block).collect()
    }

    /// The blocks of `file` that overlap, `limit` at a time, and how often was asked.
    fn found(file: &[LocatedBlock], ranges: &[(u64, u64)], limit: usize) -> (Vec<u64>, usize) {
        let mut asked = 0;
        let page = |from: u64, bytes: u64| {
            asked += 1;
            let overlaps = |block: &&LocatedBlock| block.offset + 10 > from && block.offset < from + bytes;
            let all: Vec<_> = file.iter().filter(overlaps).cloned().collect();
            Ok((all.iter().take(limit).cloned().collect(), all.len() > limit))
        };
        let blocks = blocks_of(ranges, page).unwrap();
        (blocks.iter().map(|block| block.offset / 10).collect(), asked)
    }

    #[test]
    fn who_holds_most_of_a_range_comes_first() {
        let file = file(&[&[1, 2], &[2, 3], &[4], &[]]);
        let held = |from, to| holders(&file, (from, to)).iter().map(|worker| worker.0).collect::<Vec<_>>();
        assert_eq!(held(0, 10), [1, 2]);
        assert_eq!(held(0, 20), [2, 1, 3]);
        assert_eq!(held(5, 30), [2, 3, 4], "of worker 1 there are 5 bytes only");
        assert_eq!(held(19, 22), [4, 2, 3]);
        assert_eq!(held(30, 40), [0; 0]);
        assert_eq!(held(7, 7), [0; 0]);
        assert_eq!(held(50, 60), [0; 0]);
    }

    #[test]
    fn one_call_answers_for_many_ranges() {
        let file = file(&[&[1_u64] as &[u64]; 50]);
        let ranges: Vec<(u64, u64)> = (0..50).map(|n| (n * 10, n * 10 + 10)).collect();
        assert_eq!(found(&file, &ranges, 100), ((0..50).collect(), 1));
        assert_eq!(found(&file, &ranges, 20), ((0..50).collect(), 3));
        let (mut backwards, apart) = (ranges.clone(), [(405, 406), (11, 35)]);
        backwards.reverse();
        assert_eq!(found(&file, &backwards, 20).0, (0..50).collect::<Vec<_>>());
        assert_eq!(found(&file, &apart, 3), (vec![1, 2, 3, 40], 2));
        assert_eq!(found(&file, &[(600, 700), (3, 3)], 3), (vec![], 1));
    }
}
