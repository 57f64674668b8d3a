use gristmill_dfs::namenode::blocks::BlocksOptions;
use gristmill_proto::ids::BlockId;
use gristmill_proto::namespace::problem::Kind;

use crate::cluster::{Cluster, GIB, volume};

const FULL: u64 = 64 << 20;

/// A block of full length.
fn write_full(cluster: &mut Cluster, block: u64, replication: u32, workers: &[usize]) {
    cluster.opened(block, 1, replication, workers);
    for &worker in workers {
        cluster.finished(worker, block, 1, FULL);
    }
    cluster.complete(block, 1, FULL, replication);
}

#[test]
fn a_lost_workers_replicas_are_made_again_elsewhere() {
    let mut cluster = Cluster::new(&["/a"; 5]);
    for block in 1..=50 {
        cluster.write(block, 2, &[0, 1 + (block % 2) as usize]);
    }
    cluster.members[0].is_silent = true;
    cluster.pass(11_000);
    assert_eq!(cluster.copies(), [], "it may come back");
    let made = cluster.obey(6_000);
    assert_eq!(made.len(), 50);
    for block in 1..=50 {
        assert!(!cluster.holders(block).contains(&0));
        assert_eq!(cluster.holders(block).len(), 2);
    }
    // It comes back with all it had: too much now.
    let again = cluster.members[0].register.clone();
    cluster.try_join(again).unwrap();
    let all: Vec<(u64, u64, u64)> = (1..=50).map(|block| (block, 1, 100)).collect();
    cluster.report(0, &all);
    cluster.obey(3_000);
    for block in 1..=50 {
        assert_eq!(cluster.holders(block).len(), 2, "block {block}");
    }
    assert_eq!(cluster.blocks.totals().space.under_replicated, 0);
}

#[test]
fn the_fewest_copies_come_first() {
    let mut cluster = Cluster::new(&["/a"; 8]);
    cluster.blocks.set_safe_mode(true);
    write_full(&mut cluster, 1, 3, &[0, 1]); // one is missing
    write_full(&mut cluster, 2, 7, &[0, 2]); // far too few
    write_full(&mut cluster, 3, 2, &[0]); // one left
    cluster.blocks.set_safe_mode(false);
    cluster.tick();
    let order: Vec<u64> = cluster.copies().into_iter().map(|(block, ..)| block).collect();
    assert_eq!(order[..2], [3, 2], "{order:?}");
}

#[test]
fn a_worker_sends_two_full_blocks_at_a_time_or_more_small_ones() {
    let mut cluster = Cluster::new(&["/a"; 6]);
    cluster.blocks.set_safe_mode(true);
    for block in 1..=20 {
        write_full(&mut cluster, block, 2, &[0]);
    }
    cluster.blocks.set_safe_mode(false);
    cluster.pass(2_000);
    let copies = cluster.copies();
    assert_eq!(copies.len(), 2, "{copies:?}");
    let (block, _, to) = copies[0];
    cluster.finished(to, block, 1, FULL);
    cluster.tick();
    assert_eq!(cluster.copies().len(), 1);

    let mut cluster = Cluster::new(&["/a"; 6]);
    cluster.blocks.set_safe_mode(true);
    for block in 1..=100 {
        cluster.write(block, 2, &[0]);
    }
    cluster.blocks.set_safe_mode(false);
    cluster.pass(1_000);
    assert_eq!(cluster.copies().len(), 32);
}

#[test]
fn nobody_receives_more_than_its_budget() {
    let mut cluster = Cluster::new(&["/a"; 4]);
    cluster.blocks.set_safe_mode(true);
    for block in 1..=30 {
        write_full(&mut cluster, block, 4, &[0, 1, 2]);
    }
    cluster.blocks.set_safe_mode(false);
    cluster.pass(2_000);
    let copies = cluster.copies();
    assert_eq!(copies.len(), 2, "{copies:?}");
    assert!(copies.iter().all(|&(.., to)| to == 3));
}

#[test]
fn a_copy_that_does_not_arrive_is_tried_elsewhere_and_cleared_away() {
    let mut cluster = Cluster::new(&["/a"; 4]);
    cluster.write(1, 2, &[0, 1]);
    cluster.bad(0, 1, 1, 100);
    cluster.tick();
    let first = cluster.copies();
    assert_eq!(first.len(), 1);
    cluster.pass(59_000);
    assert_eq!(cluster.copies(), []);
    cluster.pass(2_000);
    let second = cluster.copies();
    assert_eq!(second.len(), 1);
    assert_ne!(first[0].2, second[0].2);
    assert_eq!(cluster.deletes(), [(1, 1, first[0].2)], "what is left of the first");
    // The second may take longer. The first arrives after all: it is on the list to be deleted.
    cluster.pass(70_000);
    assert_eq!(cluster.copies(), []);
    cluster.finished(first[0].2, 1, 1, 100);
    assert_eq!(cluster.holders(1), [1]);
    cluster.finished(second[0].2, 1, 1, 100);
    cluster.tick();
    assert_eq!(cluster.holders(1).len(), 2);
}

#[test]
fn a_lost_target_is_replaced_at_once() {
    let mut cluster = Cluster::new(&["/a"; 4]);
    cluster.write(1, 2, &[0, 1]);
    cluster.bad(0, 1, 1, 100);
    cluster.tick();
    let (.., to) = cluster.copies()[0];
    cluster.members[to].is_silent = true;
    cluster.pass(13_000);
    let copies = cluster.copies();
    assert_eq!(copies.len(), 1);
    assert_ne!(copies[0].2, to);
}

#[test]
fn one_too_many_goes_from_the_crowded_rack_and_the_fullest_worker() {
    let mut cluster = Cluster::new(&["/a", "/a", "/b", "/b"]);
    cluster.members[2].register.volumes = vec![volume(1000 * GIB, 900 * GIB)];
    cluster.members[1].register.volumes = vec![volume(1000 * GIB, 500 * GIB)];
    cluster.beat();
    cluster.write(1, 3, &[0, 1, 2]);
    cluster.change(1, 2);
    cluster.tick();
    assert_eq!(cluster.deletes(), [(1, 1, 1)], "the only one of a rack stays, however full");
    cluster.change(1, 1);
    cluster.tick();
    assert_eq!(cluster.deletes(), [(1, 1, 2)]);
    assert_eq!(cluster.holders(1), [0]);
}

#[test]
fn nothing_is_trimmed_because_of_a_worker_that_has_not_reported() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.write(1, 2, &[0, 1]);
    cluster.restart(0, 50);
    cluster.finished(2, 1, 1, 100);
    cluster.pass(3_000);
    assert_eq!(cluster.deletes(), []);
    // It has lost its disks.
    cluster.report(0, &[]);
    cluster.pass(3_000);
    assert_eq!(cluster.deletes(), []);
    assert_eq!(cluster.holders(1), [1, 2]);
}

#[test]
fn a_delete_that_was_not_sent_is_taken_back_when_others_are_lost() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.write(1, 3, &[0, 1, 2]);
    cluster.change(1, 2);
    assert_eq!(cluster.holders(1).len(), 2, "counted as gone from now on");
    for worker in cluster.holders(1) {
        cluster.bad(worker, 1, 1, 100);
    }
    cluster.tick();
    assert_eq!(cluster.deletes(), []);
    assert_eq!(cluster.holders(1).len(), 1);
}

#[test]
fn a_replica_that_is_to_be_deleted_counts_as_gone_until_a_later_report_lists_it() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.write(1, 3, &[0, 1, 2]);
    cluster.change(1, 2);
    cluster.tick();
    let (_, _, worker) = cluster.deletes()[0];
    // It says again that it has it: that is older than the order.
    cluster.finished(worker, 1, 1, 100);
    assert!(!cluster.holders(1).contains(&worker));
    // Nothing is heard of it; so it is asked, and told again.
    cluster.pass(61_000);
    assert_eq!(cluster.deletes(), []);
    cluster.report(worker, &[(1, 1, 100)]);
    assert!(!cluster.holders(1).contains(&worker));
    cluster.pass(1_000);
    assert_eq!(cluster.deletes(), [(1, 1, worker)]);
    assert_eq!(cluster.copies(), []);
}

#[test]
fn deletes_go_out_a_thousand_at_a_time() {
    let mut cluster = Cluster::new(&["/a"; 2]);
    for block in 1..=2_500 {
        cluster.write(block, 1, &[0]);
    }
    let all: Vec<BlockId> = (1..=2_500).map(BlockId).collect();
    cluster.blocks.forget(&all);
    let mut counts = Vec::new();
    for _ in 0..4 {
        cluster.tick();
        counts.push(cluster.deletes().len());
    }
    assert_eq!(counts, [1_000, 1_000, 500, 0]);
}

#[test]
fn replicas_on_one_rack_are_spread() {
    let mut cluster = Cluster::new(&["/a", "/a", "/b"]);
    cluster.write(1, 2, &[0, 1]);
    assert_eq!(cluster.problems(1), [Kind::Misplaced]);
    let made = cluster.obey(2_000);
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].2, 2);
    assert_eq!(cluster.holders(1).len(), 2);
    assert!(cluster.holders(1).contains(&2));
    assert_eq!(cluster.problems(1), []);
}

#[test]
fn with_too_few_workers_a_block_waits_for_more() {
    let mut cluster = Cluster::new(&["/a"; 2]);
    cluster.write(1, 3, &[0, 1]);
    cluster.pass(5_000);
    assert_eq!(cluster.copies(), []);
    assert_eq!(cluster.blocks.totals().space.under_replicated, 1);
    cluster.join("/a");
    cluster.tick();
    assert_eq!(cluster.copies(), [(1, 0, 2)]);
}

#[test]
fn full_workers_give_to_empty_ones_when_nothing_else_is_to_do() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.members[0].register.volumes = vec![volume(1000 * GIB, 900 * GIB)];
    cluster.members[1].register.volumes = vec![volume(1000 * GIB, 500 * GIB)];
    cluster.members[2].register.volumes = vec![volume(1000 * GIB, 100 * GIB)];
    for block in 1..=5 {
        cluster.write(block, 2, &[0, 1]);
    }
    cluster.beat();
    cluster.tick();
    cluster.tick();
    let copies = cluster.copies();
    assert!(copies.len() <= 2 && !copies.is_empty(), "{copies:?}");
    assert!(copies.iter().all(|&(_, from, to)| (from, to) == (0, 2)));
    for (block, _, to) in copies {
        cluster.finished(to, block, 1, 100);
    }
    cluster.tick();
    let deletes = cluster.deletes();
    assert!(!deletes.is_empty() && deletes.iter().all(|&(.., worker)| worker == 0), "{deletes:?}");
}

#[test]
fn balance_waits_and_never_makes_anything_worse() {
    let unbalanced = |cluster: &mut Cluster| {
        cluster.members[0].register.volumes = vec![volume(1000 * GIB, 900 * GIB)];
        cluster.beat();
    };
    // Something is under-replicated and could be mended.
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.write(1, 2, &[0, 1]);
    cluster.write(2, 2, &[0, 1]);
    cluster.bad(1, 2, 1, 100);
    unbalanced(&mut cluster);
    cluster.pass(3_000);
    assert_eq!(cluster.copies(), [(2, 0, 2)]);
    // The only replica of a rack does not leave it.
    let mut cluster = Cluster::new(&["/a", "/b", "/b"]);
    cluster.write(1, 2, &[0, 1]);
    unbalanced(&mut cluster);
    cluster.pass(3_000);
    assert_eq!(cluster.copies(), []);
    // A small difference is none.
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.write(1, 2, &[0, 1]);
    cluster.members[0].register.volumes = vec![volume(1000 * GIB, 100 * GIB)];
    cluster.pass(3_000);
    assert_eq!(cluster.copies(), []);
    // And it can be switched off.
    let mut cluster = Cluster::starting(0, BlocksOptions { balance_copies: 0, ..BlocksOptions::default() });
    for worker in 0..3 {
        cluster.join("/a");
        cluster.report(worker, &[]);
    }
    cluster.write(1, 2, &[0, 1]);
    unbalanced(&mut cluster);
    cluster.pass(3_000);
    assert_eq!(cluster.copies(), []);
}
