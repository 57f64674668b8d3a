//! A disk fails with EIO under a running worker, in the middle of a write and of a read: nobody who writes or reads is the
//! worse for it, and the volume is reported.
//!
//! What breaks it is GRISTMILL_TEST_DISK_FAULTS of the workers (docs/operating.md): while `fail-writes` or `fail-reads` is in
//! a volume, its replicas give EIO.

use std::fs;
use std::io::{Read, Write};

use gristmill_dfs::client::{CreateOptions, DfsClient};
use gristmill_tests::{Cluster, ClusterOptions, noise, patiently};

const MIB: usize = 1 << 20;

/// Three workers of other machines than the client's, so that all bytes go through them; blocks of 8 MiB.
fn cluster() -> Cluster {
    let env = vec![("GRISTMILL_TEST_DISK_FAULTS", "1".to_owned())];
    let (master_args, worker_args) = (vec!["--block-mib=8"], vec!["--host=elsewhere"]);
    Cluster::with(ClusterOptions { workers: 3, env, master_args, worker_args, ..Default::default() })
}

fn options() -> CreateOptions {
    CreateOptions { replication: 3, ..CreateOptions::default() }
}

fn get(client: &DfsClient, path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.open(path).expect("the file").read_to_end(&mut bytes).expect("its bytes");
    bytes
}

/// Waits until the report says so of exactly one worker.
fn wait_for_a_failed_volume(cluster: &Cluster) {
    patiently("the failed volume to be reported", || {
        let listed = cluster.fs().args(["report", "--json"]).run().succeeded().stdout;
        let report: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        let workers = report["workers"].as_array().expect("a list");
        workers.iter().filter(|worker| worker["failed_volumes"] == 1).count() == 1
    });
}

#[test]
fn a_disk_that_fails_in_the_middle_of_a_block_is_left_out_and_the_writer_finishes() {
    let cluster = cluster();
    let (client, bytes) = (cluster.client(), noise(20 * MIB, 1));
    let mut writer = client.create("/file", options()).expect("a file");
    // Into the second block, and durable: all three disks have taken some of it.
    writer.write_all(&bytes[..10 * MIB]).expect("three disks are well");
    writer.sync().expect("it is durable");
    let broken = cluster.worker_dir(1);
    fs::write(broken.join("fail-writes"), "").expect("the fault");
    writer.write_all(&bytes[10 * MIB..]).expect("two disks are well");
    writer.finish().expect("the file is whole");
    assert!(get(&client, "/file") == bytes);
    // The fault fired: that it did is what the master hears of it.
    wait_for_a_failed_volume(&cluster);
    // What comes next goes to the others at once.
    let mut writer = client.create("/next", CreateOptions { replication: 2, ..options() }).expect("a file");
    writer.write_all(&bytes).expect("two disks are well");
    writer.finish().expect("the file is whole");
    assert!(get(&client, "/next") == bytes);
}

#[test]
fn a_disk_that_fails_in_the_middle_of_a_read_is_read_around() {
    let cluster = cluster();
    let (client, bytes) = (cluster.client(), noise(16 * MIB, 2));
    let mut writer = client.create("/file", options()).expect("a file");
    writer.write_all(&bytes).expect("three disks are well");
    writer.finish().expect("the file is whole");
    // Whichever replica is read: two of three disks fail under it.
    let mut read = vec![0; MIB];
    let mut reader = client.open("/file").expect("the file");
    reader.read_exact(&mut read).expect("the first bytes");
    for worker in [0, 1] {
        fs::write(cluster.worker_dir(worker).join("fail-reads"), "").expect("the fault");
    }
    reader.read_to_end(&mut read).expect("the others are there");
    assert!(read == bytes, "what was read is what was written");
    // A reader that begins now meets the fault at once, twice at most, and gets all of it too.
    for _ in 0..5 {
        assert!(get(&client, "/file") == bytes);
    }
    for worker in [0, 1] {
        fs::remove_file(cluster.worker_dir(worker).join("fail-reads")).expect("our own file");
    }
}
