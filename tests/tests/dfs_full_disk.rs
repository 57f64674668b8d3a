//! Disks fill under the master and under a worker: nothing half-done is acknowledged, and all goes on when there is room.

use std::fs;
use std::io::Write;

use gristmill_dfs::client::{CreateOptions, DfsClient};
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
    let options = CreateOptions { replication: 1, ..CreateOptions::default() };
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
    // The small one has room for a few blocks of 1 MiB; the other for all.
    let small_disks = vec![("worker-0", 6)];
    let cluster = Cluster::with(ClusterOptions { workers: 2, small_disks, ..ClusterOptions::default() });
    let client = cluster.client();
    let bytes = noise(20 * MIB, 1);
    put(&client, "/file", &bytes).expect("the other worker has room");

    let mut found = Vec::new();
    std::io::Read::read_to_end(&mut client.open("/file").expect("the file"), &mut found).expect("its bytes");
    assert!(found == bytes);
    let held = |worker| block_files(&cluster.worker_dir(worker)).len();
    assert!(held(0) < 6 && held(0) + held(1) >= 20, "{} and {} blocks", held(0), held(1));
}

#[test]
fn with_no_room_anywhere_the_writer_is_told_and_what_was_there_stays() {
    if !can_mount() {
        return;
    }
    let small_disks = vec![("worker-0", 6)];
    let cluster = Cluster::with(ClusterOptions { workers: 1, small_disks, ..ClusterOptions::default() });
    let client = {
        let patience = std::time::Duration::from_secs(3);
        let options =
            gristmill_dfs::client::ClientOptions { retry_timeout: patience, ..cluster.client_options() };
        DfsClient::connect(options).expect("a client")
    };
    let small = noise(MIB / 2, 2);
    put(&client, "/small", &small).expect("there is room for this");
    let error = put(&client, "/large", &noise(10 * MIB, 3)).expect_err("there is no room for that");
    assert!(error.to_string().contains("/large"), "{error}");

    let mut found = Vec::new();
    std::io::Read::read_to_end(&mut client.open("/small").expect("the file"), &mut found).expect("its bytes");
    assert!(found == small, "what was acknowledged stays");
}
