//! Workers die, stop, lose and damage what they hold, at every stage: what was acknowledged reads back byte for byte.

use std::fs;
use std::io::{Read, Write};

use gristmill_dfs::client::{ClientOptions, CreateOptions, DfsClient, FileWriter};
use gristmill_proto::namespace::problem::Kind as Problem;
use gristmill_tests::{Cluster, ClusterOptions, block_files, flip_bit, noise, patiently, sums_of};

const MIB: usize = 1 << 20;

fn three_copies() -> CreateOptions {
    CreateOptions { replication: 3, ..CreateOptions::default() }
}

fn put(client: &DfsClient, path: &str, bytes: &[u8], replication: u32) {
    let mut writer =
        client.create(path, CreateOptions { replication, ..CreateOptions::default() }).expect("a file");
    writer.write_all(bytes).expect("the bytes are taken");
    writer.finish().expect("the file is whole");
}

fn get(client: &DfsClient, path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.open(path).expect("the file").read_to_end(&mut bytes).expect("its bytes");
    bytes
}

/// A client that never reads a worker's files: all bytes come over the network.
fn far_client(cluster: &Cluster) -> DfsClient {
    let options = cluster.client_options();
    DfsClient::connect(ClientOptions { short_circuit: false, ..options }).expect("a client")
}

#[test]
fn a_file_reads_back_from_every_replica_near_and_far() {
    let cluster = Cluster::start(3);
    let client = cluster.client();
    // Three whole blocks of 1 MiB and a bit, so that the last chunk and the last block are short.
    let bytes = noise(3 * MIB + 12_345, 1);
    put(&client, "/file", &bytes, 3);
    // A worker that was too slow for the pipeline is given its copies afterwards.
    cluster.wait_until_healed();

    assert!(get(&client, "/file") == bytes, "short circuit");
    assert!(get(&far_client(&cluster), "/file") == bytes, "over the network");
    for worker in 0..3 {
        assert_eq!(block_files(&cluster.worker_dir(worker)).len(), 4, "worker {worker} has all four blocks");
    }
    let reader = client.open("/file").expect("the file");
    for (offset, length) in [(0, 1), (MIB - 1, 2), (3 * MIB, 12_345), (16_383, 16_386), (3 * MIB + 12_344, 9)]
    {
        let mut part = vec![0; length];
        let read = reader.read_at(&mut part, offset as u64).expect("a range");
        assert!(
            part[..read] == bytes[offset..(offset + length).min(bytes.len())],
            "{length} bytes at {offset}"
        );
    }
}

/// Writes `bytes` and does `fault` once `after` of them are acknowledged.
fn write_with_a_fault(
    writer: FileWriter,
    bytes: &[u8],
    after: usize,
    fault: impl FnOnce(),
) -> Result<(), gristmill_dfs::client::DfsError> {
    let mut writer = writer;
    writer.write_whole(&bytes[..after])?;
    writer.flush_visible()?;
    fault();
    writer.write_whole(&bytes[after..])?;
    writer.finish().map(drop)
}

#[test]
fn a_worker_killed_at_any_stage_of_a_write_changes_nothing_of_the_file() {
    // Before the first byte, in the first block, at a block's border, in the last chunk of all.
    for after in [0, 300_000, MIB, 2 * MIB + 99_999] {
        let mut cluster = Cluster::start(3);
        let client = cluster.client();
        let bytes = noise(2 * MIB + 100_000, after as u64);
        let writer = client.create("/file", three_copies()).expect("a file");
        write_with_a_fault(writer, &bytes, after, || cluster.kill_worker(1)).expect("two workers are enough");

        // The fault fired: the third worker is gone.
        cluster.wait_for_workers(2);
        assert!(get(&client, "/file") == bytes, "killed after {after} bytes");
        assert!(get(&far_client(&cluster), "/file") == bytes, "killed after {after} bytes, over the network");
        cluster.start_worker(1);
        cluster.wait_for_workers(3);
        cluster.wait_until_healed();
        for worker in 0..3 {
            assert_eq!(
                block_files(&cluster.worker_dir(worker)).len(),
                3,
                "worker {worker}, killed after {after}"
            );
        }
    }
}

#[test]
fn a_worker_that_stops_in_a_write_is_left_behind_and_its_ghost_is_refused() {
    // Who waits for it gives it up sooner than usual, and the client later than the workers, who know whom to blame.
    let worker_args = vec!["--ack-timeout-ms=3000"];
    let cluster = Cluster::with(ClusterOptions { workers: 3, worker_args, ..ClusterOptions::default() });
    let options = cluster.client_options();
    let patience = std::time::Duration::from_secs(8);
    let client =
        DfsClient::connect(ClientOptions { pipeline_timeout: patience, ..options }).expect("a client");
    let bytes = noise(2 * MIB + 100_000, 5);
    let writer = client.create("/file", three_copies()).expect("a file");
    write_with_a_fault(writer, &bytes, 400_000, || cluster.pause_worker(2)).expect("two workers are enough");
    assert!(get(&client, "/file") == bytes);

    // It wakes up with a block of an old generation in its hands, and is brought back to what is true.
    cluster.resume_worker(2);
    cluster.wait_for_workers(3);
    cluster.wait_until_healed();
    assert!(get(&client, "/file") == bytes);
    assert_eq!(block_files(&cluster.worker_dir(2)).len(), 3, "it has good copies again");
}

#[test]
fn a_lost_workers_blocks_are_copied_and_what_is_left_over_is_trimmed() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client();
    let bytes = noise(4 * MIB, 7);
    put(&client, "/file", &bytes, 2);
    cluster.wait_until_healed();
    let held = |cluster: &Cluster, worker| block_files(&cluster.worker_dir(worker)).len();
    let lost = (0..3).max_by_key(|&worker| held(&cluster, worker)).expect("three workers");
    let copies = held(&cluster, lost);
    assert!(copies > 0, "the fault takes copies away");

    cluster.kill_worker(lost);
    let others: Vec<usize> = (0..3).filter(|&worker| worker != lost).collect();
    patiently("all blocks to have two copies again", || {
        others.iter().map(|&worker| held(&cluster, worker)).sum::<usize>() == 8
    });
    assert!(get(&client, "/file") == bytes);

    cluster.start_worker(lost);
    cluster.wait_for_workers(3);
    patiently("the copies that are left over to go", || {
        (0..3).map(|worker| held(&cluster, worker)).sum::<usize>() == 8
    });
    assert!(get(&client, "/file") == bytes);
}

/// One way to spoil the files of a block.
type Damage = fn(&Cluster, usize);

#[test]
fn every_kind_of_damage_on_one_worker_is_found_served_around_and_mended() {
    let kinds: [(&str, Damage); 5] = [
        ("a bit of the data", |cluster, worker| {
            flip_bit(&block_files(&cluster.worker_dir(worker))[0], 500_000)
        }),
        ("a bit of a sum", |cluster, worker| {
            flip_bit(&sums_of(&block_files(&cluster.worker_dir(worker))[0]), 60)
        }),
        ("a block cut short", |cluster, worker| {
            let file = &block_files(&cluster.worker_dir(worker))[0];
            fs::OpenOptions::new()
                .write(true)
                .open(file)
                .and_then(|file| file.set_len(700_000))
                .expect("it is cut");
        }),
        ("two blocks swapped", |cluster, worker| {
            let files = block_files(&cluster.worker_dir(worker));
            let (first, second) =
                (fs::read(&files[0]).expect("a block"), fs::read(&files[1]).expect("a block"));
            fs::write(&files[0], second).expect("it is ours");
            fs::write(&files[1], first).expect("it is ours");
        }),
        ("a block gone", |cluster, worker| {
            fs::remove_file(&block_files(&cluster.worker_dir(worker))[0]).expect("it was there");
        }),
    ];
    for (kind, damage) in kinds {
        let mut cluster = Cluster::start(2);
        let bytes = noise(2 * MIB, 11);
        put(&cluster.client(), "/file", &bytes, 2);
        cluster.wait_until_healed();
        let before: Vec<Vec<u8>> =
            block_files(&cluster.worker_dir(0)).iter().map(|file| fs::read(file).expect("a block")).collect();
        cluster.kill_worker(0);
        damage(&cluster, 0);
        let spoiled: Vec<Vec<u8>> =
            block_files(&cluster.worker_dir(0)).iter().map(|file| fs::read(file).expect("a block")).collect();
        assert!(spoiled != before || kind == "a bit of a sum", "{kind}: the fault fired");
        cluster.start_worker(0);
        cluster.wait_for_workers(2);

        // Whichever replica is asked first, near or far, only good bytes come.
        let client = cluster.client();
        for _ in 0..4 {
            assert!(get(&client, "/file") == bytes, "{kind}, short circuit");
            assert!(get(&far_client(&cluster), "/file") == bytes, "{kind}, over the network");
        }
        patiently(&format!("{kind} to be mended"), || {
            get(&far_client(&cluster), "/file");
            let files = block_files(&cluster.worker_dir(0));
            files.len() == 2
                && files.iter().zip(&before).all(|(file, good)| fs::read(file).is_ok_and(|now| &now == good))
        });
        cluster.wait_until_healed();
    }
}

#[test]
fn a_last_bad_copy_is_reported_and_kept() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client();
    put(&client, "/file", &noise(MIB / 2, 3), 1);
    cluster.kill_worker(0);
    let file = block_files(&cluster.worker_dir(0)).remove(0);
    flip_bit(&file, 1000);
    cluster.start_worker(0);
    cluster.wait_for_workers(1);

    let error = {
        let mut bytes = Vec::new();
        client
            .open("/file")
            .expect("the name is there")
            .read_to_end(&mut bytes)
            .expect_err("no good copy is left")
    };
    assert!(error.to_string().contains("/file"), "{error}");
    patiently("the check to call it corrupt", || {
        client.check("/").any(|page| {
            page.expect("a page").problems.iter().any(|problem| problem.kind() == Problem::Corrupt)
        })
    });
    assert!(file.exists(), "the last copy is kept, bad as it is");
    let check = cluster.fs().args(["fsck", "/"]).run();
    assert_eq!(check.status.code(), Some(1), "{}", check.stdout);
    assert!(check.stdout.contains("/file"), "{}", check.stdout);
}

#[test]
fn a_writer_that_is_gone_loses_nothing_it_synced() {
    let cluster = Cluster::start(3);
    let bytes = noise(MIB + 300_000, 9);
    {
        let client = cluster.client();
        let mut writer = client.create("/file", three_copies()).expect("a file");
        writer.write_whole(&bytes).expect("bytes");
        writer.sync().expect("on disk");
        writer.write_whole(&[1; 1000]).expect("bytes that nobody promised");
        // As a process that is killed: no word to the master, and never again a sign of life.
        std::mem::forget(writer);
    }
    let heir = cluster.client();
    patiently("the lease to end", || heir.recover_lease("/file").expect("an answer"));
    let found = get(&heir, "/file");
    assert!(found.len() >= bytes.len() && found[..bytes.len()] == bytes, "{} bytes", found.len());
}

#[test]
fn racks_are_spread_over() {
    let racks = vec!["/a", "/a", "/b"];
    let cluster = Cluster::with(ClusterOptions { workers: 3, racks, ..ClusterOptions::default() });
    let client = cluster.client();
    for file in 0..8 {
        put(&client, &format!("/file-{file}"), &noise(1000, file), 2);
    }
    // If it was too slow for a pipeline it is given its copy afterwards: two on one rack are not enough.
    patiently("the only worker of the other rack to have a copy of all", || {
        block_files(&cluster.worker_dir(2)).len() == 8
    });
}
