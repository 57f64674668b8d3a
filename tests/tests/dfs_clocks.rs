//! Wall clocks jump by hours under a master and its workers, forth and back: nobody is given up early and nobody lives for
//! ever, as all that is decided rests on time that only goes on.
//!
//! What turns a clock is GRISTMILL_TEST_CLOCK of a daemon (docs/operating.md).

use std::io::{Read, Write};

use gristmill_dfs::client::{ClientOptions, CreateOptions, DfsClient};
use gristmill_proto::namespace::failure::Kind;
use gristmill_tests::{Cluster, ClusterOptions, noise, patiently};

const MIB: usize = 1 << 20;
const HOUR_S: i64 = 3600;

fn get(client: &DfsClient, path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.open(path).expect("the file").read_to_end(&mut bytes).expect("its bytes");
    bytes
}

/// What the master's clock shows, as the time of a new directory.
fn shown_ms(client: &DfsClient, path: &str) -> i64 {
    let entry = client.make_directory(path, false, 0o755).expect("a directory");
    i64::try_from(entry.modified_ms).expect("a time")
}

fn lost(client: &DfsClient) -> usize {
    let workers = client.report().expect("a report").workers;
    workers.iter().filter(|worker| worker.state == "lost").count()
}

#[test]
fn clocks_jump_under_a_writer_and_a_reader_and_neither_notices() {
    let cluster = Cluster::with(ClusterOptions { workers: 3, clocks: true, ..ClusterOptions::default() });
    let (client, rival) = (cluster.client(), cluster.client());
    // Bytes come through the workers, who look at the clock for the tokens.
    let far = ClientOptions { short_circuit: false, ..cluster.client_options() };
    let far = DfsClient::connect(far).expect("a client");
    let bytes = noise(10 * MIB, 1);
    let options = CreateOptions { replication: 2, ..CreateOptions::default() };
    let mut writer = client.create("/file", options).expect("a file");
    let before_ms = shown_ms(&client, "/before");

    // Less than the ten hours for which a block's token is good, between any two.
    let jumps = [(3, 0, 0), (-4, 4, -4), (0, -3, 5), (-9, -1, 0), (9, 0, 0)];
    let pieces = bytes.chunks(2 * MIB);
    for (turn, ((master, first, second), piece)) in jumps.into_iter().zip(pieces).enumerate() {
        for (who, hours) in [("master", master), ("worker-0", first), ("worker-1", second)] {
            cluster.set_clock(who, hours * HOUR_S);
        }
        // The clock has jumped, and it is not the story that took so long.
        let since_h = (shown_ms(&client, &format!("/turn-{turn}")) - before_ms) as f64 / 3_600_000.0;
        assert!((since_h - master as f64).abs() < 0.5, "turn {turn}: {since_h} hours");
        writer.write_all(piece).expect("two blocks, with tokens of the new time");
        writer.sync().expect("they are durable");
        assert!(get(&far, "/file") == bytes[..2 * MIB * (turn + 1)], "turn {turn}");
        assert_eq!(lost(&client), 0, "turn {turn}: nobody is given up");
        // The lease holds.
        let refused = rival.append("/file").map(drop).expect_err("it is being written");
        assert_eq!(refused.kind(), Some(Kind::LeaseHeld), "turn {turn}: {refused}");
    }
    writer.finish().expect("its lease was its own all the time");
    assert!(get(&client, "/file") == bytes && get(&far, "/file") == bytes);
    cluster.wait_for_workers(3);
}

#[test]
fn with_clocks_set_back_a_dead_worker_is_lost_all_the_same_and_a_new_master_goes_on() {
    let mut cluster = Cluster::with(ClusterOptions { workers: 3, clocks: true, ..ClusterOptions::default() });
    let client = cluster.client();
    let bytes = noise(4 * MIB, 2);
    let options = CreateOptions { replication: 2, ..CreateOptions::default() };
    let mut writer = client.create("/file", options).expect("a file");
    writer.write_all(&bytes).expect("four blocks");
    writer.finish().expect("the file is whole");
    cluster.wait_until_healed();

    for who in ["master", "worker-0", "worker-1", "worker-2"] {
        cluster.set_clock(who, -5 * HOUR_S);
    }
    cluster.kill_worker(0);
    patiently("the dead worker to be lost", || lost(&client) == 1);
    cluster.wait_until_healed();
    assert!(get(&cluster.client(), "/file") == bytes, "all of it is on two workers again");

    // A master that starts in the past of the one before it: its word counts, as it is the later term.
    let epoch = cluster.client().report().expect("a report").epoch;
    cluster.kill_master();
    cluster.set_clock("master", -9 * HOUR_S);
    cluster.start_master();
    cluster.wait_for_workers(2);
    assert!(cluster.client().report().expect("a report").epoch > epoch);
    assert!(get(&cluster.client(), "/file") == bytes);
    cluster.start_worker(0);
    cluster.wait_for_workers(3);
    cluster.wait_until_healed();
}

#[test]
fn with_a_secret_streams_survive_a_jump_and_who_comes_with_another_time_is_told() {
    let options = ClusterOptions { workers: 1, secret: true, clocks: true, ..ClusterOptions::default() };
    let cluster = Cluster::with(options);
    let client = cluster.client();
    for hours in [2, -2] {
        cluster.set_clock("master", hours * HOUR_S);
        // Whoever is there stays: a token is looked at when a stream is opened.
        let path = format!("/written-{hours}");
        let mut writer = client.create(&path, CreateOptions::default()).expect("a file");
        writer.write_all(&noise(MIB / 2, 3)).expect("its bytes");
        writer.finish().expect("it is whole");
        assert!(get(&client, &path) == noise(MIB / 2, 3));
        // A newcomer whose clock differs is refused, and hears that it is the clock.
        let refused = cluster.fs().args(["-ls", "/"]).run();
        assert_eq!(refused.status.code(), Some(1), "{}", refused.stdout);
        assert!(refused.stderr.contains("by this machine's clock"), "{hours} hours: {}", refused.stderr);
        let alike = cluster.fs().env("GRISTMILL_TEST_CLOCK", cluster.clock_of("master"));
        assert!(alike.args(["-ls", "/"]).run().succeeded().stdout.contains(&path), "{hours} hours");
    }
}
