use gristmill_dfs::namenode::blocks::{BlocksOptions, Decision, Outbox, RecoveryWanted};
use gristmill_proto::attendance::Stopped;
use gristmill_proto::attendance::order::Order;
use gristmill_proto::ids::{BlockId, Generation, InodeId};

use crate::cluster::Cluster;

const INODE: InodeId = InodeId(9);
const BLOCK: BlockId = BlockId(1);

impl Cluster {
    fn recover(&mut self, generation: u64, synced_bytes: u64, workers: &[usize]) {
        self.begin(generation, synced_bytes, None, workers);
    }

    fn begin(&mut self, generation: u64, synced_bytes: u64, cut_to_bytes: Option<u64>, workers: &[usize]) {
        let mut out = Outbox::default();
        let wanted = RecoveryWanted {
            inode: INODE,
            block: BLOCK,
            generation: Generation(generation),
            synced_bytes,
            cut_to_bytes,
            replication: 3,
            workers: workers.iter().map(|&worker| self.id(worker)).collect(),
        };
        self.blocks.begin_recovery(wanted, self.now_ms, &mut out);
        self.take(out);
    }

    /// What the worker answers: (generation before, bytes), or that it has none.
    fn stopped(&mut self, worker: usize, generation: u64, before: Option<(u64, u64)>) {
        let (generation_before, bytes) = before.unwrap_or_default();
        let found = before.is_some();
        let stopped = Stopped { epoch: 3, block: BLOCK.0, generation, generation_before, bytes, found };
        let mut out = Outbox::default();
        self.blocks.stopped(self.members[worker].attendant, &stopped, self.now_ms, &mut out).unwrap();
        self.take(out);
    }

    /// Orders of the recovery since the last look: who is to stop, and who is to settle at what length.
    fn asked(&mut self) -> (Vec<usize>, Vec<(usize, u64)>) {
        let (mut stop, mut settle) = (Vec::new(), Vec::new());
        for (worker, order) in self.orders.drain(..) {
            match order {
                Order::StopWriter(_) => stop.push(worker),
                Order::Settle(order) => settle.push((worker, order.bytes)),
                _ => {}
            }
        }
        (stop, settle)
    }
}

fn recovered(generation: u64, bytes: u64) -> Decision {
    Decision::Recovered { inode: INODE, block: BLOCK, generation: Generation(generation), bytes }
}

/// A cluster with a block that three workers were writing under generation 5.
fn abandoned() -> Cluster {
    let mut cluster = Cluster::new(&["/a"; 4]);
    cluster.opened(1, 5, 3, &[0, 1, 2]);
    cluster.orders.clear();
    cluster
}

#[test]
fn unfinished_replicas_agree_on_the_shortest() {
    let mut cluster = abandoned();
    cluster.recover(6, 0, &[0, 1, 2]);
    assert_eq!(cluster.asked(), (vec![0, 1, 2], vec![]));
    cluster.stopped(0, 6, Some((5, 300)));
    cluster.stopped(1, 6, Some((5, 200)));
    assert_eq!(cluster.asked(), (vec![], vec![]), "the third is still there");
    cluster.stopped(2, 6, Some((5, 250)));
    assert_eq!(cluster.asked().1, [(0, 200), (1, 200), (2, 200)]);
    cluster.finished(2, 1, 6, 200);
    assert_eq!(cluster.decisions, [], "one is not durable enough");
    cluster.finished(0, 1, 6, 200);
    assert_eq!(cluster.decisions, [recovered(6, 200)]);
    cluster.complete(1, 6, 200, 3);
    assert_eq!(cluster.holders(1), [0, 2]);
    cluster.pass(1_000);
    assert_eq!(cluster.copies(), [], "the third is settling");
    cluster.finished(1, 1, 6, 200);
    assert_eq!(cluster.holders(1), [0, 1, 2]);
    assert_eq!(cluster.decisions.len(), 1);
}

#[test]
fn a_finished_replica_knows_the_length_and_shorter_ones_are_left_out() {
    let mut cluster = abandoned();
    cluster.finished(1, 1, 5, 400);
    cluster.recover(6, 0, &[0, 1, 2]);
    cluster.stopped(0, 6, Some((5, 400)));
    cluster.stopped(1, 6, Some((5, 400)));
    cluster.stopped(2, 6, Some((5, 100)));
    assert_eq!(cluster.asked().1, [(0, 400), (1, 400)]);
    cluster.finished(0, 1, 6, 400);
    cluster.finished(1, 1, 6, 400);
    assert_eq!(cluster.decisions, [recovered(6, 400)]);
    cluster.complete(1, 6, 400, 2);
    cluster.pass(1_000);
    assert_eq!(cluster.deletes(), [(1, 5, 2)], "the short one is stale");
}

#[test]
fn what_was_synced_is_kept() {
    let mut cluster = abandoned();
    cluster.recover(6, 250, &[0, 1, 2]);
    cluster.stopped(0, 6, Some((5, 300)));
    cluster.stopped(1, 6, Some((5, 200)));
    cluster.stopped(2, 6, Some((5, 260)));
    assert_eq!(cluster.asked().1, [(0, 260), (2, 260)]);
}

#[test]
fn replicas_of_an_older_generation_have_no_say() {
    let mut cluster = abandoned();
    cluster.recover(7, 0, &[0, 1, 2]);
    cluster.stopped(0, 7, Some((6, 300)));
    cluster.stopped(1, 7, Some((5, 100)));
    cluster.stopped(2, 7, Some((6, 0)));
    assert_eq!(cluster.asked().1, [(0, 300)], "nor has one that got nothing");
    cluster.finished(0, 1, 7, 300);
    assert_eq!(cluster.decisions, [recovered(7, 300)]);
}

#[test]
fn who_does_not_answer_is_not_waited_for_for_ever() {
    let mut cluster = abandoned();
    cluster.recover(6, 100, &[0, 1, 2]);
    cluster.stopped(0, 6, Some((5, 300)));
    cluster.pass(4_000);
    assert_eq!(cluster.asked().1, []);
    cluster.pass(2_000);
    assert_eq!(cluster.asked().1, [(0, 300)]);
    cluster.finished(0, 1, 6, 300);
    assert_eq!(cluster.decisions, [recovered(6, 300)]);
}

#[test]
fn a_promise_waits_for_the_one_who_can_keep_it() {
    let mut cluster = abandoned();
    cluster.recover(6, 250, &[0, 1]);
    cluster.stopped(0, 6, Some((5, 200)));
    cluster.members[1].is_silent = true;
    cluster.pass(60_000);
    assert_eq!(cluster.asked().1, []);
    let waits = |decision: &Decision| matches!(decision, Decision::RecoveryWaits { .. });
    let count = cluster.decisions.len();
    assert!((3..10).contains(&count) && cluster.decisions.iter().all(waits), "{:?}", cluster.decisions);
    // It comes back.
    cluster.decisions.clear();
    let again = cluster.members[1].register.clone();
    cluster.try_join(again).unwrap();
    cluster.members[1].is_silent = false;
    assert!(cluster.asked().0.contains(&1));
    cluster.stopped(1, 6, Some((5, 280)));
    cluster.stopped(0, 6, Some((5, 200)));
    cluster.stopped(2, 6, None);
    assert_eq!(cluster.asked().1, [(1, 280)]);
    cluster.finished(1, 1, 6, 280);
    assert_eq!(cluster.decisions, [recovered(6, 280)]);
}

#[test]
fn nobody_answers_and_nothing_is_invented() {
    let mut cluster = abandoned();
    cluster.recover(6, 0, &[0, 1, 2]);
    cluster.pass(300_000);
    assert!(cluster.decisions.iter().all(|d| matches!(d, Decision::RecoveryWaits { .. })));
    assert!(cluster.decisions.len() >= 4);
    assert_eq!(cluster.asked().1, []);
}

#[test]
fn a_block_of_which_nothing_was_written_is_dropped() {
    let mut cluster = abandoned();
    cluster.recover(6, 0, &[0, 1, 2]);
    cluster.stopped(0, 6, None);
    cluster.stopped(1, 6, Some((5, 0)));
    assert_eq!(cluster.decisions, []);
    cluster.stopped(2, 6, None);
    assert_eq!(cluster.decisions, [recovered(6, 0)]);
    cluster.blocks.forget(&[BLOCK]);
    cluster.tick();
    assert_eq!(cluster.deletes(), [(1, 6, 0), (1, 6, 1), (1, 6, 2)]);
}

#[test]
fn all_have_less_than_was_promised_so_the_rest_is_kept() {
    let mut cluster = abandoned();
    cluster.recover(6, 250, &[0, 1, 2]);
    cluster.stopped(0, 6, Some((5, 200)));
    cluster.stopped(1, 6, None);
    cluster.stopped(2, 6, Some((5, 100)));
    assert_eq!(cluster.asked().1, [(0, 200)]);
}

#[test]
fn a_length_that_went_out_is_not_changed_under_its_generation() {
    let mut cluster = abandoned();
    cluster.recover(6, 0, &[0, 1]);
    cluster.stopped(0, 6, Some((5, 200)));
    cluster.stopped(1, 6, Some((5, 300)));
    cluster.stopped(2, 6, None);
    assert_eq!(cluster.asked().1, [(0, 200), (1, 200)]);
    // Nobody says that it settled. Perhaps 0 did; now only 1 is there, with all it had.
    cluster.members[0].is_silent = true;
    cluster.pass(6_000);
    assert!(cluster.asked().0.contains(&1));
    cluster.stopped(1, 6, Some((5, 300)));
    cluster.stopped(2, 6, None);
    cluster.pass(8_000);
    assert_eq!(cluster.asked().1, [(1, 200)], "now that 0 is lost");
    cluster.finished(1, 1, 6, 200);
    assert_eq!(cluster.decisions, [recovered(6, 200)]);
}

#[test]
fn a_length_that_cannot_be_had_any_more_needs_a_new_generation() {
    let mut cluster = abandoned();
    cluster.recover(6, 0, &[0, 1, 2]);
    for (worker, bytes) in [(0, 200), (1, 200), (2, 200)] {
        cluster.stopped(worker, 6, Some((5, bytes)));
    }
    cluster.pass(6_000);
    cluster.asked();
    for worker in 0..3 {
        cluster.stopped(worker, 6, None);
    }
    let failed = Decision::RecoveryFailed { inode: INODE, block: BLOCK, generation: Generation(6) };
    assert_eq!(cluster.decisions, [failed]);
    cluster.recover(7, 0, &[0, 1, 2]);
    assert_eq!(cluster.asked().0, [0, 1, 2]);
}

#[test]
fn a_newer_generation_replaces_the_recovery_and_late_answers_are_of_no_use() {
    let mut cluster = abandoned();
    cluster.recover(6, 0, &[0, 1, 2]);
    cluster.stopped(0, 6, Some((5, 300)));
    cluster.recover(8, 0, &[0, 1, 2]);
    cluster.recover(7, 0, &[0, 1, 2]);
    assert_eq!(cluster.asked().0, [0, 1, 2, 0, 1, 2]);
    cluster.stopped(1, 6, Some((5, 100)));
    cluster.stopped(2, 6, Some((5, 100)));
    assert_eq!(cluster.asked().1, []);
    for worker in 0..3 {
        cluster.stopped(worker, 8, Some((5, 300)));
    }
    assert_eq!(cluster.asked().1, [(0, 300), (1, 300), (2, 300)]);
    // The writer of before is fenced: what it finishes does not count.
    cluster.finished(0, 1, 5, 310);
    cluster.finished(1, 1, 8, 300);
    cluster.finished(2, 1, 8, 300);
    assert_eq!(cluster.decisions, [recovered(8, 300)]);
}

#[test]
fn one_that_settled_is_enough_after_a_while() {
    let mut cluster = abandoned();
    cluster.recover(6, 0, &[0, 1, 2]);
    for worker in 0..3 {
        cluster.stopped(worker, 6, Some((5, 300)));
    }
    cluster.finished(0, 1, 6, 300);
    cluster.pass(4_000);
    assert_eq!(cluster.decisions, []);
    cluster.pass(2_000);
    assert_eq!(cluster.decisions, [recovered(6, 300)]);
}

#[test]
fn a_truncation_cuts_all_replicas_to_the_length() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.write(1, 3, &[0, 1, 2]);
    cluster.orders.clear();
    cluster.begin(2, 40, Some(40), &[]);
    assert_eq!(cluster.asked().0, [0, 1, 2], "those that are known to have it");
    for worker in 0..3 {
        cluster.stopped(worker, 2, Some((1, 100)));
    }
    assert_eq!(cluster.asked().1, [(0, 40), (1, 40), (2, 40)]);
    for worker in 0..3 {
        cluster.finished(worker, 1, 2, 40);
    }
    assert_eq!(cluster.decisions, [recovered(2, 40)]);
    cluster.complete(1, 2, 40, 3);
    assert_eq!(cluster.holders(1), [0, 1, 2]);
}

#[test]
fn after_a_start_holders_are_asked_as_they_come_and_nothing_is_decided_in_safe_mode() {
    let mut cluster = Cluster::starting(1, BlocksOptions::default());
    let (zero, one) = (cluster.join("/a"), cluster.join("/a"));
    cluster.opened(1, 5, 3, &[]);
    cluster.begin(6, 0, None, &[zero]);
    cluster.report(one, &[(1, 5, 300)]);
    assert_eq!(cluster.asked().0, [zero, one]);
    cluster.stopped(zero, 6, Some((5, 200)));
    cluster.stopped(one, 6, Some((5, 300)));
    cluster.pass(30_000);
    assert_eq!(cluster.asked().1, []);
    cluster.blocks.set_safe_mode(false);
    cluster.tick();
    assert_eq!(cluster.asked().1, [(one, 300)], "the finished one");
}
