use gristmill_dfs::namenode::blocks::{BlocksOptions, Decision};
use gristmill_proto::attendance::Register;
use gristmill_proto::ids::WorkerId;
use gristmill_proto::namespace::set_worker_state::State;

use crate::cluster::{CLUSTER, Cluster, register};

fn set(cluster: &mut Cluster, worker: usize, state: State) {
    cluster.blocks.set_worker_state(cluster.id(worker), state, cluster.now_ms);
}

#[test]
fn a_worker_leaves_when_all_it_has_is_elsewhere() {
    let mut cluster = Cluster::new(&["/a"; 4]);
    for block in 1..=40 {
        cluster.write(block, 2, &[0, 1]);
    }
    cluster.write(0, 1, &[0]);
    set(&mut cluster, 0, State::Decommission);
    cluster.pass(2_000);
    assert_eq!(cluster.state(0), "decommissioning");
    let only = cluster.copies().into_iter().find(|&(block, ..)| block == 0).expect("it is urgent");
    assert_eq!(only.1, 0, "only it has that one");
    cluster.finished(only.2, 0, 1, 100);
    cluster.pass(61_000);
    let made = cluster.obey(70_000);
    assert!(made.len() >= 40 && made.iter().all(|&(.., to)| to != 0));
    assert_eq!(cluster.state(0), "decommissioned");
    for block in 0..=40 {
        let wanted = if block == 0 { 1 } else { 2 };
        let holders = cluster.holders(block);
        assert_eq!(holders.iter().filter(|&&worker| worker != 0).count(), wanted);
        assert!(holders.contains(&0), "it keeps what it has until it is switched off");
    }
    // It changes its mind: now there is one too many.
    set(&mut cluster, 0, State::InService);
    cluster.obey(3_000);
    assert_eq!(cluster.state(0), "live");
    assert!((1..=40).all(|block| cluster.holders(block).len() == 2));
}

#[test]
fn a_worker_that_is_written_to_does_not_leave_yet() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.opened(1, 1, 1, &[0]);
    set(&mut cluster, 0, State::Decommission);
    cluster.obey(3_000);
    assert_eq!(cluster.state(0), "decommissioning");
    cluster.finished(0, 1, 1, 100);
    cluster.complete(1, 1, 100, 1);
    cluster.obey(3_000);
    assert_eq!(cluster.state(0), "decommissioned");
    assert_eq!(cluster.holders(1).len(), 2);
}

#[test]
fn a_worker_leaves_though_there_are_fewer_others_than_replicas() {
    let mut cluster = Cluster::new(&["/a"; 3]);
    cluster.write(1, 3, &[0, 1, 2]);
    set(&mut cluster, 0, State::Decommission);
    cluster.pass(2_000);
    assert_eq!(cluster.state(0), "decommissioned");
    // But never with the last one.
    set(&mut cluster, 1, State::Decommission);
    set(&mut cluster, 2, State::Decommission);
    cluster.pass(2_000);
    assert_eq!(
        (cluster.state(1).as_str(), cluster.state(2).as_str()),
        ("decommissioning", "decommissioning")
    );
}

#[test]
fn a_worker_in_maintenance_may_be_away_for_a_while() {
    let mut cluster = Cluster::new(&["/a"; 4]);
    cluster.write(1, 2, &[0, 1]);
    set(&mut cluster, 0, State::Maintenance);
    cluster.members[0].is_silent = true;
    cluster.pass(60_000);
    assert_eq!(cluster.state(0), "lost");
    assert_eq!(cluster.copies(), []);
    assert_eq!(cluster.holders(1), [1], "nobody is sent there");
    // But not for ever.
    cluster.now_ms += 3_600_000 - 60_000;
    cluster.beat();
    cluster.pass(1_000);
    assert_eq!(cluster.copies().len(), 1);
}

#[test]
fn what_was_wanted_of_a_worker_holds_when_it_registers_with_the_next_master() {
    let mut cluster = Cluster::starting(0, BlocksOptions::default());
    let (leaving, away) = (WorkerId(200_001), WorkerId(200_002));
    for (worker, state) in [(leaving, State::Decommission), (away, State::Maintenance)] {
        cluster.blocks.set_worker_state(worker, state, cluster.now_ms);
    }
    let back = WorkerId(200_003);
    cluster.blocks.set_worker_state(back, State::Decommission, cluster.now_ms);
    cluster.blocks.set_worker_state(back, State::InService, cluster.now_ms);
    for (life, worker) in [(1, leaving), (2, away), (3, back)] {
        let cluster_id = CLUSTER.0.to_vec().into();
        let register = Register { worker: worker.0, cluster_id, ..register(life, &format!("h{life}"), "/a") };
        let member = cluster.try_join(register).expect("it is welcome");
        cluster.report(member, &[]);
    }
    let states = [0, 1, 2].map(|worker| cluster.state(worker));
    assert_eq!(states, ["decommissioning", "maintenance", "joining"]);
    cluster.pass(5_000);
    assert_eq!(cluster.state(0), "decommissioned", "it has nothing");
    cluster.now_ms += 3_600_000;
    cluster.beat();
    cluster.pass(1_000);
    assert!(cluster.decisions.contains(&Decision::MaintenanceOver { worker: away }));
    assert_eq!(cluster.state(1), "live");
}
