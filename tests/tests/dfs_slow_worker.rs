//! A worker whose disk is many times slower than the others' holds nobody up for long: writers go on without it, readers
//! go on with another replica, and what is read is what was written.
//!
//! What slows it down is GRISTMILL_TEST_DISK_FAULTS of the workers (docs/operating.md): each access to a replica takes so
//! many milliseconds longer as `slow-writes` or `slow-reads` says. The warnings of `gristmill fs` tell what it noticed.

use std::fs;

use gristmill_tests::{Cluster, ClusterOptions, block_files, noise};

const MIB: usize = 1 << 20;

/// Three workers of other machines than the client's, so that all bytes go through them; blocks of 8 MiB, on all three.
fn cluster() -> Cluster {
    let env = vec![("GRISTMILL_TEST_DISK_FAULTS", "1".to_owned())];
    let (master_args, worker_args) = (vec!["--block-mib=8", "--replication=3"], vec!["--host=elsewhere"]);
    Cluster::with(ClusterOptions { workers: 3, env, master_args, worker_args, ..Default::default() })
}

/// Makes the accesses of a worker so slow, until the file is removed.
fn slow_down(cluster: &Cluster, worker: usize, what: &str, by_ms: u32) -> std::path::PathBuf {
    let (file, next) = (cluster.worker_dir(worker).join(what), cluster.path("next"));
    fs::write(&next, by_ms.to_string()).and_then(|()| fs::rename(&next, &file)).expect("our own files");
    file
}

/// Runs `fs COMMAND FROM TO` and returns what it warns of.
fn warnings(cluster: &Cluster, command: &str, from: &str, to: &str) -> String {
    cluster.fs().args([command, from, to]).run().succeeded().stderr
}

#[test]
fn a_writer_leaves_a_slow_disk_out_and_its_copies_are_made_later() {
    let cluster = cluster();
    let (file, bytes) = (cluster.path("file"), noise(20 * MIB, 1));
    fs::write(&file, &bytes).expect("a file");
    // 3.2 s for 1 MiB, of which a worker writes 64 KiB at a time: the others are quicker by more than five times unless
    // their disks give less than 2 MiB/s.
    let slow = slow_down(&cluster, 1, "slow-writes", 200);
    let said = warnings(&cluster, "-put", file.to_str().expect("plain"), "/file");
    let culprit = format!("worker-{} at ", cluster.worker_number(1));
    let told: Vec<&str> = said.lines().filter(|line| line.contains("holds up the others")).collect();
    assert!(
        told.len() == 1 && told[0].contains(&culprit),
        "it is left out once, for all three blocks: {said}"
    );

    fs::remove_file(slow).expect("our own file");
    cluster.wait_until_healed();
    for worker in 0..3 {
        assert_eq!(block_files(&cluster.worker_dir(worker)).len(), 3, "worker {worker} has all three blocks");
    }
    assert!(cluster.get("/file") == bytes);
}

#[test]
fn a_reader_leaves_slow_disks_for_a_better_one() {
    let cluster = cluster();
    let bytes = noise(16 * MIB, 2);
    cluster.put("/file", &bytes);
    cluster.wait_until_healed();
    let mut left = 0;
    // Whichever replica a block is read from first, it is a slow one in two of the three turns.
    for pair in [[0, 1], [1, 2], [2, 0]] {
        let slow = pair.map(|worker| slow_down(&cluster, worker, "slow-reads", 600));
        let back = cluster.path("back");
        let said = warnings(&cluster, "-get", "/file", back.to_str().expect("plain"));
        let told =
            said.lines().filter(|line| line.contains("a replica is slow: another one is read")).count();
        // 1 MiB in 0.6 s is too little. Nobody goes back to where it was slow.
        assert!(told <= 2, "{said}");
        left += told;
        assert!(fs::read(&back).expect("it was got") == bytes);
        fs::remove_file(&back).expect("our own file");
        slow.iter().for_each(|file| fs::remove_file(file).expect("our own file"));
    }
    assert!(left >= 2, "slow replicas were left {left} times");
}
