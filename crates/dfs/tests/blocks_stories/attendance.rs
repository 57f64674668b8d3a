use gristmill_dfs::namenode::blocks::{BlocksOptions, Outbox};
use gristmill_proto::PROTOCOL_VERSION;
use gristmill_proto::attendance::order::Order;
use gristmill_proto::attendance::refused::Reason;
use gristmill_proto::attendance::{Heartbeat, Refused, Register};

use crate::cluster::{CLUSTER, Cluster, register};

fn reason(refused: Result<usize, Refused>) -> Reason {
    refused.expect_err("it is refused").reason()
}

#[test]
fn a_new_worker_gets_an_id_and_is_asked_for_a_report() {
    let mut cluster = Cluster::starting(0, BlocksOptions::default());
    let (first, second) = (cluster.join("/r1"), cluster.join("/r1"));
    assert_ne!(cluster.id(first), cluster.id(second));
    let asked = cluster.orders.iter().filter(|(_, order)| matches!(order, Order::SendReport(_))).count();
    assert_eq!(asked, 2);
    let replica = cluster.blocks.replica(cluster.id(first)).unwrap();
    assert_eq!((replica.address.as_str(), replica.host.as_str()), ("h0:7071", "h0"));
}

#[test]
fn a_process_that_did_not_hear_its_id_gets_the_same_again() {
    let mut cluster = Cluster::starting(0, BlocksOptions::default());
    let worker = cluster.join("/r1");
    let id = cluster.id(worker);
    assert_eq!(cluster.try_join(register(1, "h0", "/r1")).unwrap(), worker);
    assert_eq!(cluster.id(worker), id);
}

#[test]
fn a_worker_of_an_earlier_master_keeps_its_id_and_may_move() {
    let mut cluster = Cluster::starting(0, BlocksOptions::default());
    let own = Register { worker: 777, cluster_id: CLUSTER.0.to_vec().into(), ..register(1, "h0", "/r1") };
    let worker = cluster.try_join(own).unwrap();
    assert_eq!(cluster.id(worker).0, 777);
    let moved = Register { worker: 777, cluster_id: CLUSTER.0.to_vec().into(), ..register(2, "h9", "/r2") };
    assert_eq!(cluster.try_join(moved).unwrap(), worker);
    assert_eq!(cluster.blocks.replica(cluster.id(worker)).unwrap().host, "h9");
    assert_eq!(cluster.blocks.live_workers(), 1);
}

#[test]
fn strangers_are_refused_with_the_reason() {
    let mut cluster = Cluster::starting(0, BlocksOptions::default());
    let other = Register { worker: 5, cluster_id: vec![9; 16].into(), ..register(1, "h", "/r") };
    assert_eq!(reason(cluster.try_join(other)), Reason::WrongCluster);
    let nameless = Register { worker: 5, ..register(1, "h", "/r") };
    assert_eq!(reason(cluster.try_join(nameless)), Reason::WrongCluster);
    let newer = Register { version: PROTOCOL_VERSION + 1, ..register(1, "h", "/r") };
    assert_eq!(reason(cluster.try_join(newer)), Reason::WrongVersion);
    let lifeless = Register { incarnation: vec![1; 3].into(), ..register(1, "h", "/r") };
    assert_eq!(reason(cluster.try_join(lifeless)), Reason::Unspecified);
    assert_eq!(reason(cluster.try_join(register(1, &"h".repeat(1000), "/r"))), Reason::Unspecified);
    assert_eq!(cluster.blocks.live_workers(), 0);
}

#[test]
fn of_two_processes_with_one_id_the_later_stays() {
    let mut cluster = Cluster::new(&["/r1"]);
    let before = cluster.members[0].clone();
    cluster.restart(0, 77);
    let late = cluster.blocks.heartbeat(before.attendant, &Heartbeat::default(), cluster.now_ms);
    assert_eq!(late.unwrap_err().reason(), Reason::Replaced);
    assert_eq!(reason(cluster.try_join(before.register)), Reason::Replaced, "it does not come back");
    // The end of its stream is not the end of the later one.
    cluster.beat();
    cluster.blocks.disconnected(before.attendant, cluster.now_ms);
    assert_eq!(cluster.state(0), "live");
}

#[test]
fn a_silent_worker_is_suspect_then_lost_then_must_register() {
    let mut cluster = Cluster::new(&["/r1", "/r1"]);
    cluster.beat();
    cluster.members[0].is_silent = true;
    cluster.pass(4_000);
    assert_eq!((cluster.state(0).as_str(), cluster.state(1).as_str()), ("live", "live"));
    cluster.pass(2_000);
    assert_eq!(cluster.state(0), "suspect");
    cluster.pass(7_000);
    assert_eq!(cluster.state(0), "lost");
    let from = cluster.members[0].attendant;
    let fenced = cluster.blocks.heartbeat(from, &Heartbeat::default(), cluster.now_ms).unwrap_err();
    assert_eq!(fenced.reason(), Reason::Fenced);
    let finished = cluster.blocks.finished(from, &[], cluster.now_ms, &mut Outbox::default());
    assert_eq!(finished.unwrap_err().reason(), Reason::Fenced);
    // It comes back as it was, and is asked for all it has.
    cluster.orders.clear();
    let again = cluster.members[0].register.clone();
    cluster.try_join(again).unwrap();
    assert_eq!(cluster.state(0), "joining");
    assert!(matches!(cluster.orders[..], [(0, Order::SendReport(_))]));
    cluster.beat();
    assert_eq!(cluster.state(0), "live");
}

#[test]
fn a_suspect_that_is_heard_of_again_was_only_slow() {
    let mut cluster = Cluster::new(&["/r1"]);
    cluster.members[0].is_silent = true;
    cluster.pass(6_000);
    assert_eq!(cluster.state(0), "suspect");
    cluster.members[0].is_silent = false;
    cluster.beat();
    assert_eq!(cluster.state(0), "live");
}

#[test]
fn a_clock_that_jumps_back_loses_nobody() {
    let mut cluster = Cluster::new(&["/r1"]);
    cluster.beat();
    cluster.blocks.tick(0, &mut Outbox::default());
    cluster.blocks.tick(cluster.now_ms, &mut Outbox::default());
    assert_eq!(cluster.state(0), "live");
}

#[test]
fn a_storm_of_new_workers_is_asked_for_reports_a_few_at_a_time() {
    let mut cluster = Cluster::starting(0, BlocksOptions::default());
    for _ in 0..20 {
        cluster.join("/r1");
    }
    let asked = |cluster: &Cluster| {
        let asked = cluster.orders.iter().filter(|(_, order)| matches!(order, Order::SendReport(_)));
        asked.map(|(worker, _)| *worker).collect::<Vec<_>>()
    };
    assert_eq!(asked(&cluster), [0, 1, 2, 3, 4, 5]);
    cluster.report(2, &[]);
    cluster.tick();
    assert_eq!(asked(&cluster), [0, 1, 2, 3, 4, 5, 6]);
    // One that never answers does not hold its place for ever: all the others get their turn.
    for _ in 0..400 {
        cluster.pass(1_000);
        for worker in asked(&cluster) {
            if worker != 0 && cluster.slice(worker, 0, u64::MAX, &[]).is_ok() {
                cluster.tick();
            }
        }
    }
    assert!((1..20).all(|worker| asked(&cluster).contains(&worker)), "{:?}", asked(&cluster));
}
