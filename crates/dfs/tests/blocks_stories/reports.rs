use gristmill_dfs::namenode::blocks::{BlocksOptions, Decision, KnownBlock, ReportError, replicas_of};
use gristmill_proto::attendance::BlockReport;
use gristmill_proto::attendance::order::Order;
use gristmill_proto::ids::{BlockId, Generation};
use gristmill_proto::namespace::problem::Kind;

use crate::cluster::Cluster;

const WHOLE: KnownBlock =
    KnownBlock { generation: Generation(1), bytes: 100, replication: 1, complete: true };

fn starting(blocks: u64) -> Cluster {
    let mut cluster = Cluster::starting(blocks, BlocksOptions::default());
    cluster.known = (1..=blocks).map(|block| (block, WHOLE)).collect();
    cluster
}

#[test]
fn what_a_report_does_not_list_is_there_no_more() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.write(1, 2, &[0, 1]);
    cluster.write(2, 2, &[0, 1]);
    cluster.restart(0, 50);
    assert_eq!(cluster.holders(1), [0, 1], "until it has reported");
    let answer = cluster.report(0, &[(2, 1, 100), (7, 1, 5)]);
    assert_eq!((answer.unknown, answer.complete), (1, true));
    assert_eq!((cluster.holders(1), cluster.holders(2)), (vec![1], vec![0, 1]));
    cluster.tick();
    assert_eq!(cluster.deletes(), [(7, 1, 0)]);
    assert!(matches!(cluster.copies()[..], [(1, 1, 0 | 2)]));
}

#[test]
fn a_replica_that_finished_after_the_slice_was_read_is_not_dropped() {
    let mut cluster = Cluster::new(&["/a"; 2]);
    cluster.write(1, 1, &[0]);
    cluster.restart(0, 50);
    // The worker reads its disk; then a block is written; then the slice arrives.
    cluster.opened(2, 1, 1, &[0]);
    cluster.finished(0, 2, 1, 100);
    cluster.complete(2, 1, 100, 1);
    cluster.report(0, &[(1, 1, 100)]);
    assert_eq!((cluster.holders(1), cluster.holders(2)), (vec![0], vec![0]));
}

#[test]
fn a_replica_that_was_deleted_after_the_slice_was_read_does_not_come_back() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.write(1, 2, &[0, 1]);
    cluster.write(2, 2, &[0, 1]);
    cluster.restart(0, 50);
    cluster.deleted(0, 1, 1);
    cluster.bad(0, 2, 1, 100);
    cluster.report(0, &[(1, 1, 100), (2, 1, 100)]);
    assert_eq!((cluster.holders(1), cluster.holders(2)), (vec![1], vec![1]));
}

#[test]
fn slices_twice_are_harmless_gaps_and_strangers_are_not_taken() {
    let mut cluster = Cluster::new(&["/a"; 2]);
    for block in 1..=20 {
        cluster.write(block, 1, &[0]);
    }
    cluster.restart(0, 50);
    let first: Vec<(u64, u64, u64)> = (1..=9).map(|block| (block, 1, 100)).collect();
    assert!(!cluster.slice(0, 0, 9, &first).unwrap().complete);
    assert!(!cluster.slice(0, 0, 9, &first).unwrap().complete);
    let gap = cluster.slice(0, 15, u64::MAX, &[]).unwrap_err();
    assert!(matches!(gap, ReportError::Gap { first: BlockId(15), expected: BlockId(10), .. }), "{gap}");
    // Another one is ordered; the old id is of no use.
    let before = cluster.members[0].report_id;
    cluster.tick();
    assert_ne!(cluster.members[0].report_id, before);
    cluster.members[0].report_id = before;
    assert!(matches!(cluster.slice(0, 0, 9, &first), Err(ReportError::NotExpected { .. })));
    assert_eq!(cluster.holders(20), [0]);
}

#[test]
fn malformed_slices_are_refused_with_the_place() {
    let mut cluster = Cluster::new(&["/a"]);
    cluster.restart(0, 50);
    for (first, last, replicas, wrong) in [
        (5, 9, vec![(5, 1, 1), (5, 1, 1)], 1),
        (5, 9, vec![(6, 1, 1), (10, 1, 1)], 1),
        (5, 9, vec![(4, 1, 1)], 0),
        (9, 5, vec![], 0),
    ] {
        match cluster.slice(0, first, last, &replicas) {
            Err(ReportError::Malformed { index, .. }) => assert_eq!(index, wrong),
            other => panic!("{other:?}"),
        }
    }
    let message = |block_steps: &[u64], generations: &[u64]| BlockReport {
        last: u64::MAX,
        block_steps: block_steps.to_vec(),
        generations: generations.to_vec(),
        bytes: vec![0; block_steps.len()],
        ..BlockReport::default()
    };
    let replicas = replicas_of(&message(&[3, 4], &[1, 1])).unwrap();
    assert_eq!(replicas.iter().map(|replica| replica.block).collect::<Vec<_>>(), [3, 7]);
    assert!(replicas_of(&message(&[3, 0], &[1, 1])).is_err());
    assert!(replicas_of(&message(&[3, u64::MAX], &[1, 1])).is_err());
    assert!(replicas_of(&message(&[3], &[])).is_err());
    assert!(replicas_of(&message(&vec![1; 1_000_000], &vec![1; 1_000_000])).is_err());
}

#[test]
fn reports_are_ordered_again_after_hours() {
    let mut cluster = Cluster::new(&["/a"]);
    cluster.orders.clear();
    cluster.now_ms += 6 * 3_600_000;
    cluster.beat();
    cluster.tick();
    assert!(matches!(cluster.orders[..], [(0, Order::SendReport(_))]));
}

#[test]
fn safe_mode_ends_when_enough_is_reported_for_a_while() {
    let mut cluster = starting(2_000);
    assert!(cluster.blocks.safe_mode().on);
    let (one, two) = (cluster.join("/a"), cluster.join("/a"));
    let half: Vec<(u64, u64, u64)> = (1..=1_000).map(|block| (block, 1, 100)).collect();
    cluster.report(one, &half);
    cluster.pass(10_000);
    // The same blocks on another worker are no news.
    cluster.report(two, &half);
    let said = cluster.blocks.safe_mode();
    assert_eq!((said.on, said.by_hand, said.blocks, said.reported), (true, false, 2_000, 1_000));
    let three = cluster.join("/a");
    let rest: Vec<(u64, u64, u64)> = (1_001..=1_997).map(|block| (block, 1, 100)).collect();
    cluster.report(three, &rest);
    cluster.pass(10_000);
    assert!(cluster.blocks.safe_mode().on, "1997 of 2000 are not 99.9 %");
    cluster.finished(three, 1_998, 1, 100);
    cluster.tick();
    assert!(cluster.blocks.safe_mode().on, "not at once");
    cluster.pass(1_200);
    assert!(!cluster.blocks.safe_mode().on);
}

#[test]
fn in_safe_mode_nothing_is_deleted_copied_or_called_missing() {
    let mut cluster = starting(3);
    for known in cluster.known.values_mut() {
        known.replication = 2;
    }
    let worker = cluster.join("/a");
    cluster.join("/a");
    let all: Vec<(BlockId, KnownBlock)> =
        cluster.known.iter().map(|(&b, &known)| (BlockId(b), known)).collect();
    cluster.blocks.expect(&all);
    cluster.blocks.expect(&all);
    cluster.blocks.expected_all();
    cluster.report(worker, &[(1, 1, 100), (2, 1, 100), (50, 1, 1)]);
    cluster.pass(30_000);
    assert_eq!((cluster.copies(), cluster.deletes(), cluster.decisions.len()), (vec![], vec![], 0));
    assert_eq!(cluster.blocks.problems(BlockId(3), &cluster.known[&3]).problems, []);
    assert_eq!(cluster.blocks.safe_mode().reported, 2);
    // By hand it ends; now the truth comes out.
    cluster.blocks.set_safe_mode(false);
    cluster.pass(1_000);
    assert_eq!(cluster.decisions, [Decision::Missing { block: BlockId(3) }]);
    assert_eq!(cluster.blocks.problems(BlockId(3), &cluster.known[&3]).problems, [Kind::Missing]);
    let totals = cluster.blocks.totals();
    assert_eq!((totals.space.missing, totals.space.under_replicated, totals.settled), (1, 2, true));
    assert_eq!(cluster.deletes(), [(50, 1, worker)]);
    assert_eq!(cluster.copies().len(), 2);
}

#[test]
fn a_copy_that_is_given_up_takes_nothing_from_a_worker_that_has_not_reported() {
    let mut cluster = starting(1);
    cluster.known.values_mut().for_each(|known| known.replication = 2);
    let (one, two) = (cluster.join("/a"), cluster.join("/a"));
    cluster.report(one, &[(1, 1, 100)]);
    cluster.pass(10_000);
    assert_eq!(cluster.copies(), [(1, one, two)], "nobody knows yet that it has one");
    cluster.pass(61_000);
    assert_eq!(cluster.deletes(), []);
    cluster.report(two, &[(1, 1, 100)]);
    cluster.pass(1_000);
    assert_eq!((cluster.holders(1), cluster.deletes()), (vec![one, two], vec![]));
}

#[test]
fn safe_mode_by_hand_stays_until_it_is_ended_by_hand() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.write(1, 2, &[0, 1]);
    cluster.blocks.set_safe_mode(true);
    cluster.bad(0, 1, 1, 100);
    cluster.pass(60_000);
    assert!(cluster.blocks.safe_mode().by_hand);
    assert_eq!(cluster.copies(), []);
    cluster.blocks.set_safe_mode(false);
    cluster.pass(1_000);
    assert_eq!(cluster.copies(), [(1, 1, 2)]);
}

#[test]
fn a_new_namespace_is_not_in_safe_mode() {
    assert!(!Cluster::starting(0, BlocksOptions::default()).blocks.safe_mode().on);
}

#[test]
fn a_worker_lost_in_safe_mode_counts_no_more() {
    let mut cluster = starting(2);
    let (one, two) = (cluster.join("/a"), cluster.join("/a"));
    cluster.report(one, &[(1, 1, 100)]);
    assert_eq!(cluster.blocks.safe_mode().reported, 1);
    cluster.members[one].is_silent = true;
    cluster.pass(15_000);
    assert_eq!(cluster.blocks.safe_mode().reported, 0);
    cluster.report(two, &[(1, 1, 100), (2, 1, 100)]);
    cluster.pass(2_000);
    assert!(!cluster.blocks.safe_mode().on);
}

#[test]
fn what_nobody_finished_of_a_block_that_is_no_more_goes_when_the_safe_mode_is_over() {
    // Block 9 was abandoned while the worker did not hear its master. Block 2 is being written.
    let mut cluster = starting(1);
    let worker = cluster.join("/a");
    let written = KnownBlock { complete: false, bytes: 0, ..WHOLE };
    cluster.known.insert(2, written);
    cluster.blocks.expect(&[(BlockId(1), WHOLE), (BlockId(2), written)]);
    cluster.report_unfinished(worker, &[(2, 1, 50), (9, 4, 70)]);
    cluster.tick();
    assert_eq!(cluster.deletes(), [], "not in safe mode");
    cluster.report(worker, &[(1, 1, 100)]);
    cluster.pass(60_000);
    assert_eq!(cluster.deletes()[..1], [(9, 4, 0)]);
    cluster.deleted(worker, 9, 4);
    cluster.pass(60_000);
    assert!(cluster.deletes().iter().all(|(block, ..)| *block == 9));
    // A block that is forgotten now, whatever an older look-up says.
    cluster.blocks.forget(&[BlockId(2)]);
    cluster.report_unfinished(worker, &[(2, 1, 50)]);
    cluster.pass(1_000);
    assert_eq!(cluster.deletes(), [(2, 1, 0)]);
}

#[test]
fn what_a_pipeline_left_behind_goes_when_there_are_enough_good_ones() {
    // The worker was away while the pipeline of block 1 went on without it, under a later generation.
    let mut cluster = starting(1);
    let (one, two, away) = (cluster.join("/a"), cluster.join("/b"), cluster.join("/a"));
    let whole = KnownBlock { generation: Generation(3), replication: 2, ..WHOLE };
    cluster.known.insert(1, whole);
    cluster.blocks.expect(&[(BlockId(1), whole)]);
    cluster.report(one, &[(1, 3, 100)]);
    cluster.report_unfinished(away, &[(1, 2, 50)]);
    cluster.report(away, &[]);
    cluster.report(two, &[(1, 3, 100)]);
    cluster.pass(60_000);
    let deletes = cluster.deletes();
    assert!(deletes.iter().any(|(block, generation, _)| (*block, *generation) == (1, 2)), "{deletes:?}");
    assert!(deletes.iter().all(|(_, generation, _)| *generation == 2), "{deletes:?}");
}
