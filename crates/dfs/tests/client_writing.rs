//! Files are written through pipelines of workers that fail, and nothing that was acknowledged is lost.

mod fakes;

use std::io::Write;
use std::time::Duration;

use fakes::master::Verdict;
use fakes::namespace::Node;
use fakes::worker::Fault;
use fakes::{BLOCK_BYTES, FakeCluster, content, eventually};
use gristmill_dfs::client::{CreateOptions, DfsClient, DfsError, FileWriter};
use gristmill_proto::messages::bulk_failure;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;

/// Packets of the first MiB of a block: of 64, 64, 128, 256 and 512 KiB. Each further one has a MiB.
const FIRST_PACKETS: u64 = 5;

/// The bytes that every worker of every block has, which must be the same ones.
fn stored(cluster: &FakeCluster, path: &str) -> Vec<u8> {
    let node: Node = cluster.master.seen().namespace.node(path).expect("the file").clone();
    let mut bytes = Vec::new();
    for block in &node.blocks {
        let replicas: Vec<_> =
            block.workers.iter().map(|worker| cluster.worker(*worker).replicas().get(block.id)).collect();
        for replica in &replicas {
            let replica = replica.as_ref().expect("a replica");
            assert!(replica.finished, "{path}: {replica:?}");
            assert_eq!(replica.generation, block.generation);
            assert_eq!(replica.data, replicas[0].as_ref().expect("one").data);
        }
        let data = &replicas[0].as_ref().expect("one").data;
        assert_eq!(data.len() as u64, block.bytes);
        bytes.extend_from_slice(data);
    }
    assert_eq!(node.entry.bytes, bytes.len() as u64);
    bytes
}

fn write(writer: &mut FileWriter, bytes: &[u8], piece: usize) {
    for piece in bytes.chunks(piece) {
        writer.write_all(piece).expect("written");
    }
}

fn create(client: &DfsClient, path: &str) -> FileWriter {
    client.create(path, CreateOptions::default()).expect("created")
}

fn count(cluster: &FakeCluster, wanted: fn(&Request) -> bool) -> usize {
    cluster.master.count(wanted)
}

fn is_add(request: &Request) -> bool {
    matches!(request, Request::AddBlock(_))
}

fn is_rebuild(request: &Request) -> bool {
    matches!(request, Request::RebuildBlock(_))
}

fn is_abandon(request: &Request) -> bool {
    matches!(request, Request::AbandonBlock(_))
}

#[test]
fn a_file_of_some_blocks_is_on_all_workers() {
    let cluster = FakeCluster::start(3);
    let client = cluster.client();
    let bytes = content(2 * BLOCK_BYTES as usize + 1_234_567);
    for piece in [1000, 65_536, 3 << 20, bytes.len()] {
        let path = format!("/{piece}");
        let mut writer = create(&client, &path);
        write(&mut writer, &bytes, piece);
        assert_eq!(writer.file_bytes(), bytes.len() as u64);
        let entry = writer.finish().expect("finished");
        assert_eq!((entry.bytes, entry.under_construction), (bytes.len() as u64, false));
        assert!(stored(&cluster, &path) == bytes, "in pieces of {piece}");
    }
    assert_eq!(count(&cluster, is_add), 4 * 3, "no block was asked for before the one before was durable");
}

#[test]
fn files_of_all_lengths_around_a_border_are_whole() {
    let cluster = FakeCluster::start(1);
    let client = cluster.client();
    let all = content(2 * BLOCK_BYTES as usize + 1);
    let borders = [0, 1, 16 << 10, 1 << 20, BLOCK_BYTES as usize, 2 * BLOCK_BYTES as usize];
    for length in borders.into_iter().flat_map(|border| [border.saturating_sub(1), border, border + 1]) {
        let path = format!("/{length}");
        let mut writer = client
            .create(&path, CreateOptions { overwrite: true, ..CreateOptions::default() })
            .expect("created");
        write(&mut writer, &all[..length], 1 << 20);
        writer.finish().expect("finished");
        assert!(stored(&cluster, &path) == all[..length], "{length} bytes");
    }
}

#[test]
fn synced_bytes_are_on_disk_and_in_the_namespace() {
    let cluster = FakeCluster::start(2);
    let client = cluster.client();
    let bytes = content(3_000_000);
    let mut writer = create(&client, "/log");
    let mut written = 0;
    for piece in [10, 20_000, 16_384, 5, 1_000_000, 0, 16_379, 300_000] {
        write(&mut writer, &bytes[written..written + piece], 1 << 20);
        written += piece;
        writer.sync().expect("synced");
        let node = cluster.master.seen().namespace.node("/log").expect("there").clone();
        assert_eq!(node.entry.bytes, written as u64);
        for worker in 1..=2 {
            let replica = cluster.worker(worker).replicas().get(node.blocks[0].id).expect("a replica");
            assert_eq!(replica.synced_bytes, written as u64);
            assert!(replica.data == bytes[..written]);
        }
    }
    writer.write_all(&bytes[written..written + 7]).expect("written");
    writer.flush_visible().expect("flushed");
    written += 7;
    let block = cluster.master.seen().namespace.node("/log").expect("there").blocks[0].id;
    let replica = cluster.worker(2).replicas().get(block).expect("a replica");
    assert_eq!((replica.data.len(), replica.synced_bytes), (written, written as u64 - 7));
    writer.finish().expect("finished");
    assert!(stored(&cluster, "/log") == bytes[..written]);
}

#[test]
fn appended_bytes_follow_those_that_were_there() {
    let cluster = FakeCluster::start(2);
    let client = cluster.client();
    let bytes = content(2 * BLOCK_BYTES as usize + 500_000);
    create(&client, "/log").finish().expect("finished");
    let mut written = 0;
    let block = BLOCK_BYTES as usize;
    for piece in [5, 0, 16_379, 16_384, 100_000, block - 132_768, block, 1, 70_000] {
        let mut writer = client.append("/log").expect("opened");
        write(&mut writer, &bytes[written..written + piece], 1 << 20);
        written += piece;
        writer.finish().expect("finished");
        assert!(stored(&cluster, "/log") == bytes[..written], "after {piece} more, {written} bytes");
    }
    // A sync with nothing new is nothing for the master, whatever it has.
    let mut writer = client.append("/log").expect("opened");
    let syncs = count(&cluster, |request| matches!(request, Request::Sync(_)));
    writer.sync().expect("synced");
    writer.sync().expect("synced");
    assert!(count(&cluster, |request| matches!(request, Request::Sync(_))) <= syncs + 1);
    writer.finish().expect("finished");
    assert!(stored(&cluster, "/log") == bytes[..written]);
    let refused = client.append("/missing").err().expect("nothing to append to");
    assert!(refused.is_not_found());
}

#[test]
fn a_pipeline_that_cannot_start_is_replaced_elsewhere() {
    let cluster = FakeCluster::start(3);
    let client = cluster.client();
    let bytes = content(BLOCK_BYTES as usize + 10);
    for (worker, fault) in [
        (1, Fault::Down),
        (2, Fault::Down),
        (1, Fault::Refuse(bulk_failure::Kind::Disk)),
        (3, Fault::Refuse(bulk_failure::Kind::Busy)),
        (2, Fault::FailAtPacket(0, bulk_failure::Kind::Disk)),
        (1, Fault::CloseAtPacket(0)),
    ] {
        let fired = cluster.worker(worker).fired();
        let abandoned = count(&cluster, is_abandon);
        cluster.worker(worker).break_with(fault);
        let path = format!("/{worker}-{fired}-{abandoned}");
        let mut writer = create(&client, &path);
        write(&mut writer, &bytes, 1 << 20);
        writer.finish().unwrap_or_else(|error| panic!("{fault:?} on {worker}: {error}"));
        assert!(cluster.worker(worker).fired() > fired, "{fault:?} on {worker} never happened");
        assert!(count(&cluster, is_abandon) > abandoned);
        let node = cluster.master.seen().namespace.node(&path).expect("there").clone();
        assert!(node.blocks.iter().all(|block| !block.workers.contains(&worker)), "{fault:?} on {worker}");
        assert!(stored(&cluster, &path) == bytes);
        cluster.worker(worker).mend();
    }
    assert_eq!(count(&cluster, is_rebuild), 0);
}

#[test]
fn a_worker_that_fails_in_the_middle_is_left_behind() {
    use bulk_failure::Kind::{Corrupt, Disk};
    let cluster = FakeCluster::start(3);
    let client = cluster.client();
    let bytes = content(BLOCK_BYTES as usize + 3_333_333);
    let faults = [
        Fault::CloseAtPacket(FIRST_PACKETS + 1),
        Fault::CloseAfterPacket(FIRST_PACKETS + 1),
        Fault::SilentAtPacket(FIRST_PACKETS + 1),
        Fault::FailAtPacket(FIRST_PACKETS + 1, Disk),
        Fault::FailAtPacket(FIRST_PACKETS + 2, Corrupt),
        Fault::CloseAfterLast,
    ];
    for (case, fault) in faults.into_iter().enumerate() {
        for worker in 1..=3 {
            // The fake's next worker is silent too while one is: with whom it starts is whom the client blames.
            let fired = cluster.worker(worker).fired();
            let rebuilt = count(&cluster, is_rebuild);
            let path = format!("/{case}-{worker}");
            let mut writer = create(&client, &path);
            // With two MiB acknowledged there is something to lose.
            writer.write_all(&bytes[..2 << 20]).expect("written");
            writer.flush_visible().expect("flushed");
            cluster.worker(worker).break_with(fault);
            write(&mut writer, &bytes[2 << 20..], 1 << 20);
            writer.finish().unwrap_or_else(|error| panic!("{fault:?} on {worker}: {error}"));
            assert_eq!(cluster.worker(worker).fired(), fired + 1, "{fault:?} on {worker}");
            assert!(count(&cluster, is_rebuild) > rebuilt, "{fault:?} on {worker}");
            assert!(stored(&cluster, &path) == bytes, "{fault:?} on {worker}");
        }
    }
    assert_eq!(count(&cluster, is_abandon), 0, "what was acknowledged is never given up");
}

#[test]
fn acknowledged_bytes_in_the_middle_of_a_chunk_survive_a_rebuild() {
    let cluster = FakeCluster::start(2);
    let client = cluster.client();
    let bytes = content(200_000);
    let mut writer = create(&client, "/log");
    writer.write_all(&bytes[..100_001]).expect("written");
    writer.sync().expect("synced");
    // The pipeline breaks while it is idle; only the next bytes, the third packet, show it.
    cluster.worker(1).break_with(Fault::CloseAtPacket(2));
    writer.write_all(&bytes[100_001..]).expect("written");
    writer.sync().expect("synced");
    writer.finish().expect("finished");
    assert_eq!(cluster.worker(1).fired(), 1);
    assert!(stored(&cluster, "/log") == bytes);
}

#[test]
fn one_worker_after_the_other_may_fail_in_one_block() {
    let cluster = FakeCluster::start(3);
    let client = cluster.client();
    let bytes = content(BLOCK_BYTES as usize);
    let mut writer = create(&client, "/file");
    writer.write_all(&bytes[..1 << 20]).expect("written");
    writer.flush_visible().expect("flushed");
    cluster.worker(1).break_with(Fault::FailAtPacket(FIRST_PACKETS, bulk_failure::Kind::Disk));
    // The third of the next pipeline, which begins to count again.
    cluster.worker(3).break_with(Fault::FailAtPacket(2, bulk_failure::Kind::Disk));
    write(&mut writer, &bytes[1 << 20..], 1 << 20);
    writer.finish().expect("finished");
    assert_eq!((cluster.worker(1).fired(), cluster.worker(3).fired()), (1, 1));
    assert!(stored(&cluster, "/file") == bytes);
    let node = cluster.master.seen().namespace.node("/file").expect("there").clone();
    assert_eq!(node.blocks[0].workers, [2]);
}

#[test]
fn the_only_worker_gets_another_chance_when_a_connection_breaks() {
    let cluster = FakeCluster::start(1);
    let client = cluster.client();
    let bytes = content(BLOCK_BYTES as usize);
    let mut writer = create(&client, "/file");
    writer.write_all(&bytes[..1 << 20]).expect("written");
    writer.flush_visible().expect("flushed");
    cluster.worker(1).break_with(Fault::CloseAfterPacket(FIRST_PACKETS));
    write(&mut writer, &bytes[1 << 20..], 1 << 20);
    writer.finish().expect("finished");
    assert_eq!(cluster.worker(1).fired(), 1);
    assert!(stored(&cluster, "/file") == bytes);
}

#[test]
fn a_block_without_workers_is_lost_and_says_what_was_acknowledged() {
    let cluster = FakeCluster::start(1);
    let client = cluster.client();
    let mut writer = create(&client, "/file");
    writer.write_all(&content(2 << 20)).expect("written");
    writer.flush_visible().expect("flushed");
    cluster.worker(1).break_with(Fault::FailAtPacket(FIRST_PACKETS + 1, bulk_failure::Kind::Disk));
    writer.write_all(&content(1 << 20)).expect("it leaves");
    let lost = writer.flush_visible().expect_err("the disk is gone");
    let DfsError::PipelineLost { path, acked_bytes, causes, .. } = &lost else { panic!("{lost}") };
    assert_eq!((path.as_str(), *acked_bytes, causes.len()), ("/file", 2 << 20, 1));
    let after = writer.write_all(b"more").expect_err("it has failed");
    assert!(after.to_string().contains("earlier write"), "{after}");
    drop(writer);
    eventually("the master is told", || !cluster.master.seen().namespace.recovered.is_empty());
}

#[test]
fn a_cluster_that_refuses_every_pipeline_is_given_up() {
    let cluster = FakeCluster::start(3);
    let client = cluster.client();
    for worker in &cluster.workers {
        worker.break_with(Fault::Refuse(bulk_failure::Kind::Disk));
    }
    let mut writer = create(&client, "/file");
    let lost = writer.write_all(&content(1 << 20)).expect_err("nobody takes it");
    let text = lost.to_string();
    assert!(text.contains("lost all of its workers after 0 bytes") && text.contains("DISK"), "{text}");
    let abandoned = count(&cluster, is_abandon);
    assert_eq!(abandoned, 5, "as many new blocks as a block may have pipelines");
}

#[test]
fn no_workers_is_an_error_in_time() {
    let cluster = FakeCluster::start(0);
    let mut options = cluster.options();
    options.retry_timeout = Duration::from_millis(300);
    let client = DfsClient::connect(options).expect("connected");
    let mut writer = create(&client, "/file");
    let error = writer.write_all(&content(1 << 20)).expect_err("no workers");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn a_writer_that_lost_its_lease_ends() {
    let cluster = FakeCluster::start(1);
    let client = cluster.client();
    let mut writer = create(&client, "/file");
    cluster.master.judge(|request| match request {
        Request::AddBlock(_) | Request::Complete(_) => Verdict::Refuse(Kind::LeaseLost),
        _ => Verdict::Answer,
    });
    writer.write_all(b"some").expect("kept in memory");
    let error = writer.finish().expect_err("another client writes it now");
    assert_eq!(error.kind(), Some(Kind::LeaseLost));
    eventually("the file is given up", || cluster.master.seen().namespace.recovered == ["/file"]);
}

#[test]
fn completion_waits_for_durable_replicas() {
    let cluster = FakeCluster::start(1);
    let client = cluster.client();
    let mut writer = create(&client, "/file");
    writer.write_all(b"some").expect("written");
    let mut left = 3;
    cluster.master.judge(move |request| match request {
        Request::Complete(_) if left > 0 => {
            left -= 1;
            Verdict::Refuse(Kind::NotYet)
        }
        _ => Verdict::Answer,
    });
    writer.finish().expect("finished at last");
    assert_eq!(count(&cluster, |request| matches!(request, Request::Complete(_))), 4);
    assert_eq!(stored(&cluster, "/file"), b"some");
}

#[test]
fn a_writer_that_is_dropped_gives_the_file_up() {
    let cluster = FakeCluster::start(1);
    let client = cluster.client();
    let mut writer = create(&client, "/file");
    writer.write_all(&content(3 << 20)).expect("written");
    drop(writer);
    // The client itself may go: what it owes is done first.
    drop(client);
    eventually("the master is told", || cluster.master.seen().namespace.recovered == ["/file"]);
    assert_eq!(count(&cluster, |request| matches!(request, Request::Complete(_))), 0);
}

#[test]
fn a_master_that_restarts_does_not_disturb_a_writer() {
    let mut cluster = FakeCluster::start(2);
    let client = cluster.client();
    let bytes = content(3 * BLOCK_BYTES as usize);
    let mut writer = create(&client, "/file");
    writer.write_all(&bytes[..1 << 20]).expect("written");
    cluster.master.down();
    let writing = std::thread::spawn(move || {
        write(&mut writer, &bytes[1 << 20..], 1 << 20);
        writer.finish().expect("finished");
        bytes
    });
    cluster.master.up();
    let bytes = writing.join().expect("no panic");
    assert!(stored(&cluster, "/file") == bytes);
}
