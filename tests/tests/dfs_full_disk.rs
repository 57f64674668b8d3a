//! Disks fill under the master and under a worker: nothing half-done is acknowledged, and all goes on when there is room.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;

use gristmill_dfs::client::{ClientOptions, CreateOptions, DfsClient};
use gristmill_proto::namespace::WorkerReport;
use gristmill_proto::namespace::failure::Kind;
use gristmill_tests::{Cluster, ClusterOptions, SmallDisk, block_files, noise, patiently};

const MIB: usize = 1 << 20;

/// Whether small disks can be made here. Containers without the right to mount cannot run these stories, and say so.
fn can_mount() -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    match SmallDisk::mount(dir.path()) {
        Ok(_) => true,
        Err(why) => {
            assert!(!rustix::process::geteuid().is_root() || std::env::var_os("CI").is_none(), "{why}");
            eprintln!("LEFT OUT: this process cannot mount a small disk ({why})");
            false
        }
    }
}

fn put(client: &DfsClient, path: &str, bytes: &[u8]) -> std::io::Result<()> {
    put_replicated(client, path, bytes, 1)
}

fn put_replicated(client: &DfsClient, path: &str, bytes: &[u8], replication: u32) -> std::io::Result<()> {
    let options = CreateOptions { replication, ..CreateOptions::default() };
    let mut writer = client.create(path, options)?;
    writer.write_all(bytes)?;
    writer.finish()?;
    Ok(())
}

#[test]
fn a_full_disk_under_the_master_stops_changes_but_not_deletes() {
    if !can_mount() {
        return;
    }
    let small_disks = vec![("master", 24)];
    let master_args = vec!["--reserve-mib=8"];
    let mut cluster = Cluster::with(ClusterOptions { small_disks, master_args, ..ClusterOptions::default() });
    let client = cluster.client();
    client.make_directory("/kept", false, 0o755).expect("there is room");
    client.make_directory("/gone", false, 0o755).expect("there is room");

    // Something else fills the disk.
    let ballast = cluster.path("master/ballast");
    fs::write(&ballast, vec![1; 16 * MIB]).expect("the ballast");
    patiently("the namespace to be read-only", || {
        client.make_directory("/new", true, 0o755).is_err_and(|error| error.kind() == Some(Kind::ReadOnly))
    });
    assert!(client.report().expect("a report").read_only);
    assert!(client.stat("/kept").is_ok(), "reads go on");
    assert!(client.delete("/gone", true, true).expect("deletes go on").found);

    // kill -9 with a full disk: it starts again, knows everything, and is writable once there is room.
    cluster.kill_master();
    cluster.start_master();
    let client = cluster.client();
    assert!(client.stat("/kept").is_ok() && client.stat("/gone").is_err());
    fs::remove_file(&ballast).expect("room again");
    patiently("the namespace to be writable", || client.make_directory("/later", true, 0o755).is_ok());
}

#[test]
fn a_full_disk_under_a_worker_sends_blocks_elsewhere() {
    if !can_mount() {
        return;
    }
    let small_disks = vec![("worker-0", 80)];
    let cluster = Cluster::with(ClusterOptions { workers: 2, small_disks, ..ClusterOptions::default() });
    let client = cluster.client();
    let held = |worker| BTreeSet::from_iter(block_files(&cluster.worker_dir(worker)));
    let first = noise(20 * MIB, 1);
    put(&client, "/first", &first).expect("both disks have room");

    // Something else fills the small disk, whatever becomes free of it. The worker says with its heartbeats what is left, and
    // is given a block of 1 MiB while that is 2 MiB.
    let mut ballast = fs::File::create(cluster.worker_dir(0).join("ballast")).expect("a file");
    let mut fill = || {
        let disk = rustix::fs::fstatvfs(&ballast).expect("a disk");
        let free = usize::try_from(disk.f_bavail * disk.f_frsize).expect("80 MiB at most");
        ballast.write_all(&vec![1; free.saturating_sub(MIB)]).expect("there is room for it");
    };
    let left = || {
        let workers = client.report().expect("a report").workers;
        let is_small = |worker: &&WorkerReport| worker.capacity_bytes <= 80 * MIB as u64;
        workers.iter().find(is_small).expect("one disk is small").remaining_bytes as usize
    };
    patiently("the master to know that the disk is full", || {
        fill();
        left() < 2 * MIB
    });
    // Blocks may be moved away from the full disk meanwhile; none may come.
    let (before, elsewhere) = (held(0), held(1).len());
    let second = noise(40 * MIB, 2);
    put(&client, "/second", &second).expect("the other worker has room");
    let now = held(0);
    assert!(now.is_subset(&before), "on the full disk: {now:?}, before {before:?}");
    assert!(held(1).len() >= elsewhere + 40, "every block went elsewhere");
    // A second replica there is no room for: its writer does not wait for one.
    let third = noise(2 * MIB, 3);
    put_replicated(&client, "/third", &third, 2).expect("one replica is all that there can be");

    for (path, bytes) in [("/first", first), ("/second", second), ("/third", third)] {
        let mut found = Vec::new();
        std::io::Read::read_to_end(&mut client.open(path).expect("the file"), &mut found).expect("its bytes");
        assert!(found == bytes, "{path}");
    }
}

#[test]
fn with_no_room_anywhere_the_writer_is_told_and_what_was_there_stays() {
    if !can_mount() {
        return;
    }
    let small_disks = vec![("worker-0", 80)];
    let cluster = Cluster::with(ClusterOptions { workers: 1, small_disks, ..ClusterOptions::default() });
    let client = cluster.client();
    let small = noise(MIB / 2, 2);
    put(&client, "/small", &small).expect("there is room for this");
    // Room might come: only who is impatient is told soon that there is none.
    let retry_timeout = std::time::Duration::from_secs(3);
    let impatient = ClientOptions { retry_timeout, ..cluster.client_options() };
    let impatient = DfsClient::connect(impatient).expect("a client");
    let error = put(&impatient, "/large", &noise(100 * MIB, 3)).expect_err("there is no room for that");
    assert!(error.to_string().contains("/large"), "{error}");

    let mut found = Vec::new();
    std::io::Read::read_to_end(&mut client.open("/small").expect("the file"), &mut found).expect("its bytes");
    assert!(found == small, "what was acknowledged stays");
}
