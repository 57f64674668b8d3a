//! Peers that send nonsense, send nothing, send too slowly, or are too many. The worker serves others all the time.

use std::io::Read;
use std::time::{Duration, Instant};

use gristmill_dfs::datanode::{BulkOptions, Standing};
use gristmill_proto::bulk::{self, FrameKind};
use gristmill_proto::ids::{Epoch, WorkerId};
use gristmill_proto::messages::bulk_failure::Kind;
use gristmill_proto::messages::request::Operation;
use gristmill_proto::messages::{Packet, ReadBlock, Reply, Request};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::client::{BlockWriter, Client, write_block, write_whole};
use super::cluster::{Cluster, Worker, content, eventually, quick};

fn still_serves(cluster: &Cluster, worker: &Worker) {
    let mut client = Client::connect(&worker.address());
    let read = ReadBlock { block: 1, generation: 1, offset: 0, bytes: 100 };
    assert_eq!(client.read(cluster.read_token(1), read), Ok(b"well".to_vec()));
}

fn well(options: BulkOptions) -> (Cluster, Worker) {
    let cluster = Cluster::new();
    let worker = cluster.worker_with(1, options);
    write_whole(&cluster, 1, 1, &[&worker], b"well");
    eventually("the writer is gone", || worker.server.transfers() == 0);
    (cluster, worker)
}

/// Everything that comes until the connection ends.
fn rest(client: &mut Client) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    client.stream.read_to_end(&mut bytes).map_or_else(|_| Vec::new(), |_| bytes)
}

#[test]
fn nonsense_ends_a_connection_and_nothing_else() {
    let (cluster, worker) = well(quick());
    let mut good = Vec::new();
    let read = Operation::ReadBlock(ReadBlock { block: 1, generation: 1, offset: 0, bytes: 9 });
    let request = Request { token: cluster.read_token(1), operation: Some(read) };
    bulk::write_frame(&mut good, FrameKind::Request, 1, &request, &[]).unwrap();
    let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    let damage = (0..good.len(), 1..=255u8, any::<bool>(), prop::collection::vec(any::<u8>(), 0..200));
    runner
        .run(&damage, |(at, bits, cut, garbage)| {
            let mut bytes = good.clone();
            bytes[at] ^= bits;
            if cut {
                bytes.truncate(at);
                bytes.extend(garbage);
            }
            let mut client = Client::connect(&worker.address());
            // It may end before all is sent.
            let sent = client.raw(&bytes).and_then(|()| client.stream.shutdown(std::net::Shutdown::Write));
            let answer = rest(&mut client);
            let mut scratch = Vec::new();
            if sent.is_ok() && !answer.is_empty() {
                let head = bulk::read_frame_head(&mut &answer[..], &mut scratch).unwrap().unwrap();
                prop_assert!(head.header::<Reply>().unwrap().failure.is_some());
            }
            Ok(())
        })
        .unwrap();
    still_serves(&cluster, &worker);
}

#[test]
fn lengths_beyond_all_limits_are_refused_before_anything_is_made_for_them() {
    let (cluster, worker) = well(quick());
    for (at, length) in [(8, u32::MAX), (8, 65_537), (12, u32::MAX), (12, 1)] {
        let mut frame = Vec::new();
        bulk::write_frame(&mut frame, FrameKind::Request, 1, &Request::default(), &[]).unwrap();
        frame[at..at + 4].copy_from_slice(&length.to_le_bytes());
        let mut client = Client::connect(&worker.address());
        client.raw(&frame).expect("it is sent");
        let reply = client.reply().expect("an answer");
        assert_eq!(reply.failure.map(|failure| failure.kind()), Some(Kind::Protocol));
        assert!(client.reply().is_none(), "the connection is over");
    }
    // A frame that is well, but no request.
    for kind in [FrameKind::Reply, FrameKind::Ack, FrameKind::Broken, FrameKind::Packet] {
        let mut client = Client::connect(&worker.address());
        bulk::write_frame(&mut client.stream, kind, 1, &Packet::default(), &[]).expect("it is sent");
        let reply = client.reply().expect("an answer");
        assert_eq!(reply.failure.map(|failure| failure.kind()), Some(Kind::Protocol), "{kind:?}");
    }
    still_serves(&cluster, &worker);
}

#[test]
fn who_says_nothing_or_says_it_slowly_is_let_go() {
    let short = Duration::from_millis(300);
    let options =
        BulkOptions { first_frame_timeout: short, idle_timeout: short, frame_timeout: short, ..quick() };
    let (cluster, worker) = well(options);
    let started = Instant::now();
    let mut silent = Client::connect(&worker.address());
    assert!(silent.reply().is_none());
    assert!(started.elapsed() >= short, "{:?}", started.elapsed());

    // A byte now and then does not help.
    let mut slow = Client::connect(&worker.address());
    let mut frame = Vec::new();
    let request = Request { token: cluster.read_token(1), operation: None };
    bulk::write_frame(&mut frame, FrameKind::Request, 1, &request, &[]).unwrap();
    let mut sent = 0;
    for byte in frame.iter().cycle() {
        if slow.raw(&[*byte]).is_err() {
            break;
        }
        sent += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(sent > 1 && sent < frame.len(), "{sent} bytes of {} were taken", frame.len());

    // Nor does one good request, if no other follows.
    let mut idle = Client::connect(&worker.address());
    let read = ReadBlock { block: 1, generation: 1, offset: 0, bytes: 100 };
    assert!(idle.read(cluster.read_token(1), read).is_ok());
    assert!(idle.reply().is_none());

    // A packet must come whole in time as well; a pause between packets is fine.
    let mut writer = BlockWriter::open(&cluster, &worker, write_block(2, 1, &[])).expect("a pipeline");
    std::thread::sleep(2 * short);
    assert_eq!(writer.write(0, &content(100), 100, false), (100, None));
    let mut half = Vec::new();
    let packet = Packet { sequence: 1, offset: 0, bytes: 16 << 10, last: false, sync: false };
    bulk::write_frame_head(&mut half, FrameKind::Packet, 7, &packet, (16 << 10) + 4).unwrap();
    writer.client.raw(&half).expect("it is sent");
    assert!(writer.client.ack().is_none());
    eventually("the block is let go", || worker.server.transfers() == 0);
    still_serves(&cluster, &worker);
}

#[test]
fn too_many_connections_are_told_so() {
    let (cluster, worker) = well(BulkOptions { connections_max: 8, peer_connections_max: 5, ..quick() });
    let mut seated = Vec::new();
    let mut turned_away = 0;
    for _ in 0..20 {
        let mut client = Client::connect(&worker.address());
        let read = ReadBlock { block: 1, generation: 1, offset: 0, bytes: 100 };
        client.send(cluster.read_token(1), Operation::ReadBlock(read));
        let reply = client.reply().expect("an answer");
        match reply.failure {
            Some(failure) => {
                assert_eq!(failure.kind(), Kind::Busy);
                turned_away += 1;
            }
            None => {
                assert_eq!(client.packets(&reply), Ok(b"well".to_vec()));
                seated.push(client);
            }
        }
    }
    // All come from one address, which may not have all seats.
    assert_eq!((seated.len(), turned_away), (5, 15));
    seated.clear();
    eventually("there is room again", || {
        let mut client = Client::connect(&worker.address());
        let read = ReadBlock { block: 1, generation: 1, offset: 0, bytes: 100 };
        client.read(cluster.read_token(1), read).is_ok()
    });
}

#[test]
fn too_many_transfers_are_told_so() {
    let (cluster, worker) = well(BulkOptions { transfers_max: 2, ..quick() });
    let writers: Vec<BlockWriter> = (2..4)
        .map(|block| BlockWriter::open(&cluster, &worker, write_block(block, 1, &[])).expect("a pipeline"))
        .collect();
    let mut client = Client::connect(&worker.address());
    let read = ReadBlock { block: 1, generation: 1, offset: 0, bytes: 100 };
    assert_eq!(client.read(cluster.read_token(1), read), Err((Kind::Busy, 0)));
    drop(writers);
    // The same connection is still good.
    eventually("there is room again", || client.read(cluster.read_token(1), read).is_ok());
}

#[test]
fn a_worker_without_its_master_takes_no_writes_but_serves_reads() {
    let (cluster, worker) = well(quick());
    let alone = Standing::new(Duration::ZERO);
    alone.join(cluster.id, WorkerId(2), cluster.key.clone());
    assert!(alone.hear(Epoch(1)));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = gristmill_dfs::datanode::BulkServer::start(
        listener,
        worker.store.clone(),
        std::sync::Arc::new(alone),
        quick(),
    );
    let address = server.expect("a server").address().to_string();
    let mut client = Client::connect(&address);
    eventually("the lease is over", || {
        let write = Operation::WriteBlock(write_block(7, 1, &[]));
        let answer = client.ask(cluster.write_token(7, 1), write);
        if answer.is_ok() {
            client = Client::connect(&address);
        }
        answer.err() == Some((Kind::Busy, 0))
    });
    let read = ReadBlock { block: 1, generation: 1, offset: 0, bytes: 100 };
    assert_eq!(client.read(cluster.read_token(1), read), Ok(b"well".to_vec()));
}
