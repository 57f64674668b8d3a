use gristmill_dfs::namenode::blocks::PipelineWanted;
use gristmill_proto::ids::{BlockId, WorkerId};
use gristmill_proto::namespace::set_worker_state::State;

use crate::cluster::{Cluster, GIB, register, volume};

const BLOCK: u64 = 64 << 20;

fn choose(cluster: &mut Cluster, host: &str, replication: u32, exclude: &[usize]) -> Vec<usize> {
    let exclude: Vec<WorkerId> = exclude.iter().map(|&worker| cluster.id(worker)).collect();
    let wanted =
        PipelineWanted { writer_host: host, replication, block_bytes: BLOCK, exclude: &exclude, keep: &[] };
    let chosen = cluster.blocks.choose_pipeline(&wanted);
    let place = |id| cluster.members.iter().position(|member| member.attendant.worker == id).unwrap();
    chosen.into_iter().map(place).collect()
}

const RACKS: [&str; 6] = ["/a", "/a", "/a", "/b", "/b", "/b"];

#[test]
fn the_first_is_local_the_second_on_another_rack_the_third_on_that_rack() {
    let mut cluster = Cluster::new(&RACKS);
    for _ in 0..50 {
        let chosen = choose(&mut cluster, "h1", 3, &[]);
        cluster.beat();
        assert_eq!(chosen[0], 1);
        assert!(chosen[1] >= 3 && chosen[2] >= 3, "{chosen:?}");
        assert_ne!(chosen[1], chosen[2]);
    }
}

#[test]
fn the_rest_is_spread_with_a_cap_for_each_rack() {
    let mut cluster = Cluster::new(&RACKS);
    for _ in 0..50 {
        // (5 - 1) / 2 + 2 = 4 at most on a rack.
        let mut chosen = choose(&mut cluster, "", 5, &[]);
        cluster.beat();
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), 5);
    }
    let all = choose(&mut cluster, "", 9, &[]);
    assert_eq!(all.len(), 6, "there are no more");
}

#[test]
fn a_seed_gives_the_same_choice_and_another_host_is_used_if_there_is_one() {
    let (mut one, mut two) = (Cluster::new(&RACKS), Cluster::new(&RACKS));
    for _ in 0..20 {
        assert_eq!(choose(&mut one, "elsewhere", 3, &[]), choose(&mut two, "elsewhere", 3, &[]));
    }
    // Two workers on a machine do not count as two places.
    let mut cluster = Cluster::new(&["/a", "/a"]);
    let mut twin = cluster.members[0].register.clone();
    (twin.worker, twin.cluster_id, twin.incarnation) = (0, Vec::new().into(), vec![9; 16].into());
    cluster.try_join(twin).unwrap();
    cluster.beat();
    for _ in 0..20 {
        let chosen = choose(&mut cluster, "h0", 2, &[]);
        cluster.beat();
        assert!(chosen.contains(&1), "{chosen:?}");
    }
}

#[test]
fn who_is_full_suspect_leaving_excluded_or_lost_gets_nothing() {
    let mut cluster = Cluster::new(&["/a"; 6]);
    cluster.members[0].register.volumes = vec![volume(1000 * GIB, 1000 * GIB - BLOCK)];
    cluster.members[1].is_silent = true;
    cluster.pass(6_000);
    cluster.blocks.set_worker_state(cluster.id(2), State::Decommission, cluster.now_ms);
    cluster.blocks.set_worker_state(cluster.id(3), State::Maintenance, cluster.now_ms);
    for host in ["h0", "h1", "h2", "h3", "h4"] {
        assert_eq!(choose(&mut cluster, host, 3, &[4]), [5]);
        cluster.beat();
    }
    assert!(choose(&mut cluster, "h0", 3, &[4, 5]).is_empty());
}

#[test]
fn a_busy_worker_is_passed_by_if_there_is_another() {
    let mut cluster = Cluster::new(&["/a"; 4]);
    cluster.members[0].writers = 40;
    cluster.beat();
    for _ in 0..10 {
        let chosen = choose(&mut cluster, "h0", 1, &[]);
        assert_ne!(chosen, [0]);
        cluster.beat();
    }
    assert_eq!(choose(&mut cluster, "h0", 1, &[1, 2, 3]), [0], "there is no other");
}

#[test]
fn between_two_heartbeats_nobody_is_overrun() {
    let mut cluster = Cluster::new(&["/a"; 5]);
    let mut given = [0; 5];
    for _ in 0..200 {
        for worker in choose(&mut cluster, "", 1, &[]) {
            given[worker] += 1;
        }
    }
    assert!(given.iter().all(|&count| (20..=80).contains(&count)), "{given:?}");
}

#[test]
fn an_emptier_worker_gets_more_but_not_all() {
    let mut cluster = Cluster::new(&["/a"; 4]);
    for worker in 0..3 {
        cluster.members[worker].register.volumes = vec![volume(1000 * GIB, 800 * GIB)];
    }
    let mut given = [0; 4];
    for _ in 0..400 {
        cluster.beat();
        given[choose(&mut cluster, "", 1, &[])[0]] += 1;
    }
    assert!(given[3] > 120 && given[3] < 280, "{given:?}");
    assert!(given[..3].iter().all(|&count| count > 30), "{given:?}");
}

#[test]
fn readers_are_sent_to_the_nearest_first() {
    let mut cluster = Cluster::new(&RACKS);
    cluster.write(1, 3, &[0, 3, 4]);
    let order = |cluster: &Cluster, host: &str| {
        let ids = cluster.blocks.locations(BlockId(1), host);
        let place = |id| cluster.members.iter().position(|member| member.attendant.worker == id).unwrap();
        ids.into_iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(order(&cluster, "h4")[..2], [4, 3]);
    assert_eq!(order(&cluster, "h1")[0], 0, "its rack");
    assert_eq!(order(&cluster, "h5")[2], 0, "another rack is last");
    // A suspect is last, and a lost one is not there.
    cluster.members[4].is_silent = true;
    cluster.pass(6_000);
    assert_eq!(order(&cluster, "h4")[2], 4);
    cluster.pass(7_000);
    assert!(!order(&cluster, "h4").contains(&4));
}

#[test]
fn a_pipeline_is_filled_up_beside_those_that_stay() {
    let mut cluster = Cluster::new(&RACKS);
    let keep = [cluster.id(0), cluster.id(3)];
    let wanted =
        PipelineWanted { writer_host: "h0", replication: 3, block_bytes: BLOCK, exclude: &[], keep: &keep };
    let chosen = cluster.blocks.choose_pipeline(&wanted);
    assert_eq!(chosen.len(), 1);
    assert!(!keep.contains(&chosen[0]));
}

#[test]
fn a_worker_gets_no_block_before_it_has_said_that_it_is_welcome() {
    let mut cluster = Cluster::new(&["/a"]);
    let late = cluster.try_join(register(9, "h9", "/a")).expect("it is welcome");
    assert_eq!(choose(&mut cluster, "", 2, &[]), [0]);
    cluster.beat();
    let mut both = choose(&mut cluster, "", 2, &[]);
    both.sort_unstable();
    assert_eq!(both, [0, late]);
}
