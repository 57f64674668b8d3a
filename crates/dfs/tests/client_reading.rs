//! Files are read from replicas that fail or lie, and no wrong byte is ever given.

mod fakes;

use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::atomic::Ordering;

use fakes::worker::Fault;
use fakes::{BLOCK_BYTES, FakeCluster, content, eventually};
use gristmill_dfs::client::{ConnectError, CreateOptions, DfsClient, DfsError, TransferError};
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::namespace::call::Request;

fn put(client: &DfsClient, path: &str, bytes: &[u8]) {
    let options = CreateOptions { overwrite: true, ..CreateOptions::default() };
    let mut writer = client.create(path, options).expect("created");
    writer.write_all(bytes).expect("written");
    writer.finish().expect("finished");
}

fn read(client: &DfsClient, path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.open(path).expect("opened").read_to_end(&mut bytes).expect("read");
    bytes
}

#[test]
fn what_was_written_is_read_in_any_pieces() {
    let cluster = FakeCluster::start(2);
    let client = cluster.client();
    let bytes = content(2 * BLOCK_BYTES as usize + 777_777);
    put(&client, "/file", &bytes);
    for piece in [999, 16_384, 100_000, 5 << 20] {
        let mut reader = client.open("/file").expect("opened");
        let mut read = Vec::new();
        let mut buffer = vec![0; piece];
        loop {
            let got = reader.read(&mut buffer).expect("read");
            if got == 0 {
                break;
            }
            read.extend_from_slice(&buffer[..got]);
        }
        assert!(read == bytes, "in pieces of {piece}");
    }
    put(&client, "/empty", b"");
    assert_eq!(read(&client, "/empty"), b"");
    assert!(client.open("/missing").err().expect("nothing there").is_not_found());
}

#[test]
fn any_range_can_be_read_and_connections_are_kept() {
    let cluster = FakeCluster::start(1);
    let client = cluster.client();
    let bytes = content(2 * BLOCK_BYTES as usize + 777_777);
    put(&client, "/file", &bytes);
    let before = cluster.worker(1).shared.connections.load(Ordering::Relaxed);
    let reader = client.open("/file").expect("opened");
    let mut at = 0;
    for step in 0..200 {
        at = (at * 7 + 104_729 * step) % bytes.len();
        let wanted = 1 + (step * 9_973) % 300_000;
        let mut buffer = vec![0; wanted];
        let got = reader.read_at(&mut buffer, at as u64).expect("read");
        let end = bytes.len().min(at + wanted);
        assert!(buffer[..got] == bytes[at..end], "{wanted} bytes at {at}");
    }
    assert_eq!(reader.read_at(&mut [0; 10], bytes.len() as u64).expect("behind the end"), 0);
    let connections = cluster.worker(1).shared.connections.load(Ordering::Relaxed) - before;
    assert_eq!(connections, 1);
}

#[test]
fn a_reader_goes_on_where_it_is_told() {
    let cluster = FakeCluster::start(1);
    let client = cluster.client();
    let bytes = content(BLOCK_BYTES as usize + 100_000);
    put(&client, "/file", &bytes);
    let mut reader = client.open("/file").expect("opened");
    let mut buffer = [0; 1000];
    for (to, at) in [
        (SeekFrom::Start(BLOCK_BYTES - 10), BLOCK_BYTES as usize - 10),
        (SeekFrom::Current(500), BLOCK_BYTES as usize + 1490),
        (SeekFrom::End(-1000), bytes.len() - 1000),
        (SeekFrom::Start(3), 3),
    ] {
        assert_eq!(reader.seek(to).expect("in the file"), at as u64);
        reader.read_exact(&mut buffer).expect("read");
        assert!(buffer == bytes[at..at + 1000], "{to:?}");
    }
    assert!(reader.seek(SeekFrom::Current(-10_000_000)).is_err());
}

#[test]
fn many_threads_read_one_file() {
    let cluster = FakeCluster::start(2);
    let client = cluster.client();
    let bytes = content(BLOCK_BYTES as usize + 100_000);
    put(&client, "/file", &bytes);
    let reader = client.open("/file").expect("opened");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (reader, bytes) = (&reader, &bytes);
            scope.spawn(move || {
                for step in 0..20 {
                    let at = thread * 1_000_000 + step * 10_007;
                    let mut buffer = vec![0; 50_000];
                    let got = reader.read_at(&mut buffer, at as u64).expect("read");
                    assert!(buffer[..got] == bytes[at..bytes.len().min(at + 50_000)]);
                }
            });
        }
    });
}

#[test]
fn a_replica_that_fails_is_left_for_another() {
    let cluster = FakeCluster::start(3);
    let client = cluster.client();
    let bytes = content(BLOCK_BYTES as usize + 3_000_000);
    put(&client, "/file", &bytes);
    let faults = [
        Fault::Down,
        Fault::Refuse(Kind::Busy),
        Fault::Refuse(Kind::NotFound),
        Fault::Refuse(Kind::Corrupt),
        Fault::CutReads(0),
        Fault::CutReads(1_500_000),
        Fault::CutReads(10),
        Fault::SilentReads,
        Fault::CorruptReads,
        Fault::BrokenReads(Kind::Corrupt),
    ];
    for fault in faults {
        let fired = cluster.worker(1).fired();
        cluster.worker(1).break_with(fault);
        cluster.worker(2).break_with(fault);
        // A fresh client: no connection from before.
        let client = cluster.client();
        assert!(read(&client, "/file") == bytes, "{fault:?}");
        assert!(cluster.worker(1).fired() > fired, "{fault:?} never happened");
        let mut buffer = vec![0; 200_000];
        let got = client.open("/file").expect("opened").read_at(&mut buffer, 1_000_000).expect("read");
        assert!(buffer[..got] == bytes[1_000_000..1_200_000], "{fault:?}");
        if fault == Fault::CorruptReads {
            let bad = || cluster.master.seen().namespace.bad.clone();
            eventually("the damaged replicas are reported", || bad().len() >= 4);
            assert!(bad().iter().all(|bad| bad.worker == 1 || bad.worker == 2));
        }
        cluster.worker(1).mend();
        cluster.worker(2).mend();
    }
    let blamed: Vec<u64> = cluster.master.seen().namespace.bad.iter().map(|bad| bad.worker).collect();
    assert!(!blamed.contains(&3));
}

#[test]
fn the_only_replica_is_read_over_as_many_connections_as_it_takes() {
    let cluster = FakeCluster::start(1);
    let client = cluster.client();
    let bytes = content(BLOCK_BYTES as usize);
    put(&client, "/file", &bytes);
    cluster.worker(1).break_with(Fault::CutReads(1_100_000));
    assert!(read(&client, "/file") == bytes);
    assert!(cluster.worker(1).fired() >= 2);
}

#[test]
fn no_good_replica_is_an_error_that_names_all() {
    let cluster = FakeCluster::start(2);
    let client = cluster.client();
    let bytes = content(BLOCK_BYTES as usize + 100);
    put(&client, "/file", &bytes);
    cluster.worker(1).break_with(Fault::CorruptReads);
    cluster.worker(2).break_with(Fault::Refuse(Kind::NotFound));
    let reader = client.open("/file").expect("opened");
    let mut buffer = [0; 10];
    let error = reader.read_at(&mut buffer, BLOCK_BYTES + 50).expect_err("nothing good is left");
    let DfsError::ReadFailed { path, offset, causes, .. } = &error else { panic!("{error}") };
    assert_eq!((path.as_str(), *offset), ("/file", BLOCK_BYTES + 50));
    assert_eq!(causes.len(), 8, "both, and three times more after asking the master again");
    assert!(matches!(causes[0].cause, TransferError::Corrupt { offset: 0 }));
    assert!(matches!(causes[1].cause, TransferError::Refused { kind: Kind::NotFound, .. }));
    assert_eq!(buffer, [0; 10], "no wrong byte was given");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn replicas_that_moved_are_found_again() {
    let cluster = FakeCluster::start(2);
    let client = cluster.client();
    let bytes = content(100_000);
    let options = CreateOptions { replication: 1, ..CreateOptions::default() };
    let mut writer = client.create("/file", options).expect("created");
    writer.write_all(&bytes).expect("written");
    writer.finish().expect("finished");
    let mut reader = client.open("/file").expect("opened");
    // Another worker takes over.
    let block = {
        let mut seen = cluster.master.seen();
        let block = &mut seen.namespace.nodes.get_mut("/file").expect("there").blocks[0];
        block.workers = vec![2];
        block.clone()
    };
    let replica = cluster.worker(1).replicas().get(block.id).expect("a replica");
    cluster.worker(1).replicas().forget(block.id);
    cluster.worker(2).replicas().adopt(block.id, replica);
    let mut read = Vec::new();
    reader.read_to_end(&mut read).expect("read");
    assert!(read == bytes);
    assert_eq!(cluster.master.count(|request| matches!(request, Request::Locate(_))), 2);
}

#[test]
fn a_file_that_was_replaced_is_not_mixed() {
    let cluster = FakeCluster::start(1);
    let client = cluster.client();
    put(&client, "/file", &content(100_000));
    let reader = client.open("/file").expect("opened");
    let block = cluster.master.seen().namespace.node("/file").expect("there").blocks[0].id;
    cluster.worker(1).replicas().forget(block);
    put(&client, "/file", &content(200_000));
    let error = reader.read_at(&mut [0; 10], 0).expect_err("another file");
    assert!(matches!(error, DfsError::FileChanged { .. }), "{error}");
}

#[test]
fn replicas_of_this_machine_are_read_from_their_files() {
    let cluster = FakeCluster::start(2);
    cluster.master.seen().namespace.hosts = vec!["here".to_owned(), "elsewhere".to_owned()];
    let client = cluster.client();
    let bytes = content(2 * BLOCK_BYTES as usize + 777_777);
    put(&client, "/file", &bytes);
    assert!(read(&client, "/file") == bytes);
    let shared = &cluster.worker(1).shared;
    assert_eq!(shared.local_opens.load(Ordering::Relaxed), 3, "one for each block");
    let reader = client.open("/file").expect("opened");
    for (at, length) in [(1, 100_000), (BLOCK_BYTES as usize - 5, 10), (bytes.len() - 3, 3)] {
        let mut buffer = vec![0; length];
        assert_eq!(reader.read_at(&mut buffer, at as u64).expect("read"), length);
        assert!(buffer == bytes[at..at + length]);
    }
    assert_eq!(shared.local_opens.load(Ordering::Relaxed), 3, "they stay open");
    assert_eq!(shared.remote_reads.load(Ordering::Relaxed), 0);
}

#[test]
fn local_files_that_cannot_be_used_are_read_over_the_network() {
    let cluster = FakeCluster::start(1);
    cluster.master.seen().namespace.hosts = vec!["here".to_owned()];
    let client = cluster.client();
    let bytes = content(300_000);
    put(&client, "/file", &bytes);
    // Damaged in the file that is handed over, good over the network.
    cluster.worker(1).break_with(Fault::CorruptReads);
    let mut reader = client.open("/file").expect("opened");
    let mut first = [0; 10];
    let failed = reader.read_exact(&mut first);
    assert!(failed.is_err(), "both ways are damaged: {first:?}");
    assert!(cluster.worker(1).shared.local_opens.load(Ordering::Relaxed) > 0);
    cluster.worker(1).mend();
    assert!(read(&client, "/file") == bytes);

    let gone = cluster.client();
    std::fs::remove_file(&cluster.worker(1).socket).expect("the socket");
    let before = cluster.worker(1).shared.remote_reads.load(Ordering::Relaxed);
    assert!(read(&gone, "/file") == bytes);
    assert!(cluster.worker(1).shared.remote_reads.load(Ordering::Relaxed) > before);
}

#[test]
fn errors_keep_their_sources() {
    let mut cluster = FakeCluster::start(0);
    cluster.master.down();
    let mut options = cluster.options();
    options.connect_timeout = std::time::Duration::from_millis(100);
    let error = DfsClient::connect(options).expect_err("nobody there");
    let source = std::error::Error::source(&error).expect("a source");
    let source = source.downcast_ref::<std::sync::Arc<ConnectError>>().map(|source| &**source);
    assert!(matches!(source, Some(ConnectError::Transport(_) | ConnectError::NotYet)), "{error:?}");
}
