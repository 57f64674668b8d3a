use gristmill_dfs::namenode::blocks::{BlocksOptions, Decision, KnownBlock};
use gristmill_proto::ids::{BlockId, Generation};
use gristmill_proto::namespace::problem::Kind;

use crate::cluster::{Cluster, GIB, volume};

const BLOCK_BYTES: u64 = 64 << 20;

fn good(cluster: &Cluster, block: u64, generation: u64, bytes: u64) -> u32 {
    cluster.blocks.good_replicas(BlockId(block), Generation(generation), bytes)
}

fn problems(cluster: &Cluster, block: u64) -> Vec<Kind> {
    cluster.blocks.problems(BlockId(block), &cluster.known[&block]).problems
}

fn wanted(cluster: &Cluster, block: u64, replication: u32) -> u32 {
    cluster.blocks.durable_wanted(BlockId(block), BLOCK_BYTES, replication)
}

#[test]
fn a_writer_may_go_on_when_replicas_of_just_its_length_are_durable() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.opened(1, 5, 3, &[0, 1, 2]);
    cluster.finished(0, 1, 5, 100);
    cluster.finished(0, 1, 5, 100);
    cluster.finished(1, 1, 5, 99);
    cluster.finished(2, 1, 4, 100);
    assert_eq!((good(&cluster, 1, 5, 100), good(&cluster, 1, 5, 99), good(&cluster, 1, 4, 100)), (1, 1, 1));
    assert_eq!(wanted(&cluster, 1, 3), 2);
    cluster.finished(2, 1, 5, 100);
    assert_eq!(good(&cluster, 1, 5, 100), 2);
    cluster.complete(1, 5, 100, 3);
    assert_eq!(good(&cluster, 1, 5, 100), 2);
    assert_eq!(cluster.holders(1), [0, 2]);
}

#[test]
fn so_many_are_wanted_as_there_can_be() {
    let mut cluster = Cluster::new(&["/a"]);
    assert_eq!((wanted(&cluster, 1, 3), wanted(&cluster, 1, 1)), (1, 1));
    cluster.join("/a");
    assert_eq!((wanted(&cluster, 1, 3), wanted(&cluster, 1, 1)), (2, 1));
    assert_eq!(wanted(&Cluster::starting(0, BlocksOptions::default()), 1, 3), 1);
}

#[test]
fn nobody_waits_for_a_replica_on_a_worker_that_placement_passes_over() {
    let mut cluster = Cluster::new(&["/a"; 2]);
    cluster.opened(1, 1, 2, &[0]);
    assert_eq!(wanted(&cluster, 1, 2), 2);

    // Room for one block and a half: none is given to it any more.
    cluster.members[1].register.volumes = vec![volume(1000 * GIB, 1000 * GIB - BLOCK_BYTES * 3 / 2)];
    cluster.beat();
    assert_eq!(wanted(&cluster, 1, 2), 1);

    // Whoever writes it is counted, and whoever has finished it, though that has filled the disk.
    cluster.opened(2, 1, 2, &[0, 1]);
    assert_eq!(wanted(&cluster, 2, 2), 2);
    cluster.opened(3, 1, 2, &[0]);
    cluster.finished(1, 3, 1, 100);
    assert_eq!(wanted(&cluster, 3, 2), 2);
}

#[test]
fn a_replica_that_finishes_after_the_block_is_complete_counts_and_is_not_copied_meanwhile() {
    let mut cluster = Cluster::new(&["/a"; 4]);
    cluster.opened(1, 1, 3, &[0, 1, 2]);
    cluster.finished(0, 1, 1, 100);
    cluster.finished(1, 1, 1, 100);
    cluster.complete(1, 1, 100, 3);
    cluster.pass(5_000);
    assert_eq!(cluster.copies(), []);
    cluster.finished(2, 1, 1, 100);
    cluster.pass(1_000);
    assert_eq!(cluster.holders(1), [0, 1, 2]);
    assert_eq!((cluster.copies(), cluster.deletes()), (vec![], vec![]));
}

#[test]
fn a_replica_of_no_block_is_deleted() {
    let mut cluster = Cluster::new(&["/a"; 2]);
    cluster.finished(0, 99, 7, 10);
    cluster.pass(1_000);
    assert_eq!(cluster.deletes(), [(99, 7, 0)]);
    cluster.deleted(0, 99, 7);
    cluster.pass(70_000);
    assert_eq!(cluster.deletes(), []);
    assert_eq!(cluster.blocks.totals().pending_deletion, 0);
}

#[test]
fn a_forgotten_block_is_deleted_everywhere_and_an_old_look_up_does_not_bring_it_back() {
    let mut cluster = Cluster::new(&["/a"; 4]);
    cluster.write(1, 3, &[0, 1, 2]);
    cluster.blocks.forget(&[BlockId(1)]);
    // The look-up is older than the deletion.
    cluster.finished(3, 1, 1, 100);
    cluster.blocks.expect(&[(BlockId(1), cluster.known[&1])]);
    cluster.pass(1_000);
    assert_eq!(cluster.deletes(), [(1, 1, 0), (1, 1, 1), (1, 1, 2), (1, 1, 3)]);
    assert_eq!(cluster.blocks.totals().blocks, 0);
}

#[test]
fn a_block_that_was_being_written_is_deleted_from_its_writers_past_and_present() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.opened(1, 5, 3, &[0, 1]);
    cluster.opened(1, 6, 3, &[1, 2]);
    cluster.finished(1, 1, 6, 10);
    cluster.blocks.forget(&[BlockId(1)]);
    cluster.pass(1_000);
    assert_eq!(cluster.deletes(), [(1, 6, 0), (1, 6, 1), (1, 6, 2)]);
}

#[test]
fn a_stale_replica_goes_when_there_are_enough_good_ones() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.opened(1, 5, 2, &[0, 1]);
    cluster.finished(0, 1, 5, 40);
    cluster.opened(1, 6, 2, &[1]);
    cluster.finished(1, 1, 6, 100);
    cluster.complete(1, 6, 100, 2);
    cluster.pass(100);
    assert_eq!(cluster.deletes(), [], "one good replica is not enough");
    assert_eq!(cluster.holders(1), [1]);
    let made = cluster.copies();
    assert_eq!(made, [(1, 1, 2)], "not onto the stale one");
    cluster.finished(2, 1, 6, 100);
    cluster.tick();
    assert_eq!(cluster.deletes(), [(1, 5, 0)]);
}

#[test]
fn a_replica_of_wrong_length_or_of_the_future_is_kept_aside_and_replaced() {
    let mut cluster = Cluster::new(&["/a"; 4]);
    cluster.write(1, 2, &[0, 1]);
    cluster.finished(2, 1, 1, 99);
    cluster.finished(3, 1, 8, 100);
    assert_eq!(cluster.holders(1), [0, 1]);
    cluster.tick();
    assert_eq!(cluster.deletes(), [(1, 1, 2), (1, 8, 3)]);
    // A liar harms its own replica only.
    cluster.finished(1, 1, 9, 7);
    assert_eq!(cluster.holders(1), [0]);
    assert_eq!(problems(&cluster, 1), [Kind::UnderReplicated, Kind::CorruptReplica]);
}

#[test]
fn a_bad_replica_is_replaced_from_a_good_one_then_deleted() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.write(1, 2, &[0, 1]);
    cluster.bad(0, 1, 1, 100);
    assert_eq!(cluster.holders(1), [1]);
    cluster.tick();
    assert_eq!((cluster.copies(), cluster.deletes()), (vec![(1, 1, 2)], vec![]));
    cluster.finished(2, 1, 1, 100);
    cluster.tick();
    assert_eq!(cluster.deletes(), [(1, 1, 0)]);
    assert_eq!(problems(&cluster, 1), []);
}

#[test]
fn a_bad_replica_that_is_in_the_way_goes_first() {
    let mut cluster = Cluster::new(&["/a"; 2]);
    cluster.write(1, 2, &[0, 1]);
    cluster.bad(0, 1, 1, 100);
    cluster.pass(1_000);
    assert_eq!((cluster.copies(), cluster.deletes()), (vec![], vec![(1, 1, 0)]));
    cluster.pass(1_000);
    assert_eq!(cluster.copies(), [], "the delete may still be on its way");
    cluster.deleted(0, 1, 1);
    cluster.tick();
    assert_eq!(cluster.copies(), [(1, 1, 0)]);
}

#[test]
fn the_last_bad_copy_is_kept_and_told_of() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.write(1, 2, &[0, 1]);
    cluster.bad(0, 1, 1, 100);
    cluster.bad(1, 1, 1, 100);
    cluster.pass(30_000);
    assert_eq!((cluster.copies(), cluster.deletes()), (vec![], vec![]));
    assert_eq!(cluster.decisions, [Decision::Corrupt { block: BlockId(1) }]);
    assert_eq!(problems(&cluster, 1), [Kind::Corrupt]);
    let space = cluster.blocks.totals().space;
    assert_eq!((space.corrupt, space.missing), (1, 0));
    // A good one turns up. There is no room for another but where a bad one is.
    cluster.finished(2, 1, 1, 100);
    cluster.pass(5_000);
    assert_eq!(cluster.blocks.totals().space.corrupt, 0);
    assert_eq!(cluster.deletes().len(), 2);
}

#[test]
fn a_copy_is_never_made_from_a_replica_known_to_be_bad() {
    let mut cluster = Cluster::new(&["/a"; 4]);
    cluster.write(1, 3, &[0, 1, 2]);
    cluster.bad(0, 1, 1, 100);
    cluster.bad(1, 1, 1, 100);
    for (_, from, _) in cluster.obey(5_000) {
        assert!(from != 0 && from != 1, "copied from {from}");
    }
    assert_eq!(cluster.holders(1).len(), 3);
}

#[test]
fn what_is_said_late_of_an_older_generation_has_no_effect() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.write(1, 2, &[0, 1]);
    cluster.opened(1, 2, 2, &[0, 1]);
    cluster.finished(0, 1, 2, 150);
    cluster.finished(1, 1, 2, 150);
    cluster.complete(1, 2, 150, 2);
    cluster.deleted(0, 1, 1);
    cluster.bad(0, 1, 1, 100);
    cluster.opened_late(1, 1);
    cluster.blocks.block_complete(BlockId(1), Generation(1), 100, 2);
    assert_eq!(cluster.holders(1), [0, 1]);
    assert_eq!(good(&cluster, 1, 2, 150), 2);
    cluster.pass(5_000);
    assert_eq!((cluster.copies(), cluster.deletes()), (vec![], vec![]));
}

#[test]
fn an_append_makes_the_replicas_left_behind_stale() {
    let mut cluster = Cluster::new(&["/a"; 4]);
    cluster.write(1, 3, &[0, 1, 2]);
    cluster.opened(1, 2, 3, &[0, 1]);
    assert_eq!(good(&cluster, 1, 1, 100), 3);
    cluster.finished(0, 1, 2, 150);
    cluster.finished(1, 1, 2, 150);
    cluster.complete(1, 2, 150, 3);
    assert_eq!(cluster.holders(1), [0, 1]);
    cluster.tick();
    assert_eq!(cluster.copies(), [(1, 0, 3)]);
    cluster.finished(3, 1, 2, 150);
    cluster.tick();
    assert_eq!(cluster.deletes(), [(1, 1, 2)]);
}

#[test]
fn an_older_look_up_does_not_undo_what_was_said_since() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.write(1, 2, &[0, 1]);
    let before = cluster.known[&1];
    cluster.opened(1, 2, 2, &[0, 1]);
    cluster.blocks.expect(&[(BlockId(1), before)]);
    assert_eq!(good(&cluster, 1, 1, 100), 2, "still as finished replicas of an open block");
    cluster.known.insert(1, before);
    cluster.finished(0, 1, 2, 150);
    cluster.finished(1, 1, 2, 150);
    cluster.complete(1, 2, 150, 2);
    let being_written = KnownBlock { complete: false, bytes: 0, ..cluster.known[&1] };
    cluster.blocks.expect(&[(BlockId(1), being_written)]);
    assert_eq!(cluster.holders(1), [0, 1]);
    // Nor does it undo a new replication that was said before the block was heard of.
    let known = KnownBlock { generation: Generation(1), bytes: 10, replication: 1, complete: true };
    cluster.blocks.replication_changed(BlockId(9), 3);
    cluster.blocks.expect(&[(BlockId(9), known)]);
    let health = cluster.blocks.problems(BlockId(9), &known);
    assert_eq!(health.target, 3);
}
